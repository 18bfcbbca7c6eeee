"""STIR/SHAKEN on the wire: one gateway signs, another judges, certificates come from an HTTPS server.

SIPp calls with what was forged, stale or borrowed, and hears the code of RFC 8224 6.2.2 that says so.
"""

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio
from aiohttp import web

from tests.interop import certificates
from tests.interop.gateway import Gateway, eventually, gateway
from tests.interop.peers import sipp
from tests.interop.pjsua_peer import phone
from tests.interop.script import Script, sdp
from tests.ports import free_port
from tests.unit.stir.authority import Authority, Holder

pytestmark = pytest.mark.asyncio(loop_scope="session")

CALLER, CALLEE = "74950001122", "74951234567"
"""Of every SIPp that calls (scenarios' From), and whom it calls."""
SIGNER, NOTING, DEMANDING, TRUSTED = "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"
HOST = f"127.{os.getpid() % 200 + 10}.{os.getpid() // 200 % 250}.1"
SILENT = HOST.removesuffix("1") + "2"
"""Addresses of this run's own: certificates are fetched from the ports 443 and 8443 only."""

SIGNING = """
[[trunks]]
name = "judge"
uri = "sip:127.0.0.1:{judge}"
[trunks.stir]
sign = true
attestation = "A"
key_file = "{key}"
certificate_url = "https://{host}:8443/good.pem"
"""
JUDGING = """
[[trunks]]
name = "{name}"
addresses = ["{address}/32"]
trusted = {trusted}
[trunks.stir]
verify = "{verify}"
ca_file = "{authority}"
allow = ["{host}", "{silent}"]
"""
ROUTES = """
[[routes]]
name = "phone"
target = {{ uri = "sip:bob@127.0.0.1:{callee}" }}
"""


@dataclass
class World:
    """Who signs, who judges, and what is served."""

    signer: Gateway
    judge: Gateway
    holders: dict[str, Holder]
    fetched: list[str]

    def identity(self, name: str = "good", **changes: Any) -> str:
        """An Identity header with its PASSporT; `changes` go into its claims, header and parameters."""
        url = changes.pop("x5u", f"https://{HOST}:8443/{name}.pem")
        header = {"ppt": changes.pop("ppt", "shaken"), "typ": "passport", "x5u": url}
        info = changes.pop("info", url)
        claims = {
            "attest": "B",
            "dest": {"tn": [CALLEE]},
            "iat": int(time.time()),
            "orig": {"tn": CALLER},
            "origid": "123e4567-e89b-12d3-a456-426655440000",
        }
        key = self.holders.get(name, self.holders["good"]).key
        token = jwt.encode(claims | changes, key, algorithm="ES256", headers=header)
        return f"Identity: {token};info=<{info}>;alg=ES256;ppt={header['ppt']}\n"

    async def newest(self) -> dict[str, Any]:
        call: dict[str, Any] = (await self.judge.calls())[0]
        return call


def holders(folder: Path) -> dict[str, Holder]:
    """Certificates that will do, and some that will not."""
    authority, stranger = Authority(), Authority("Nobody knows")
    authority.write(folder / "ca.pem")
    return {
        "good": authority.issue(),
        "strange": stranger.issue(),
        "no-numbers": authority.issue(tn_auth_list=False),
        "expired": authority.issue(days=-1),
    }


@contextlib.asynccontextmanager
async def served(folder: Path, pages: dict[str, bytes], fetched: list[str]) -> AsyncIterator[Path]:
    """An HTTPS server on this run's own address, and one that never says a word; the authority's file."""

    async def page(request: web.Request) -> web.Response:
        fetched.append(request.path)
        body = pages.get(request.path)
        return web.Response(body=body) if body is not None else web.Response(status=404)

    authority = certificates.Authority(folder / "https")
    certified = authority.sign(HOST)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certified.certificate, certified.key)
    application = web.Application()
    application.router.add_get("/{name}", page)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, HOST, 8443, ssl_context=context).start()
    silent = await asyncio.start_server(listens, SILENT, 8443)
    try:
        yield authority.file
    finally:
        silent.close()
        await silent.wait_closed()
        await runner.cleanup()


async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says nothing for as long as the client stays."""
    with contextlib.suppress(OSError):
        await reader.read()
    writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder, known = tmp_path_factory.mktemp("stir"), holders(tmp_path_factory.mktemp("ca"))
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    fetched: list[str] = []
    pages = {f"/{name}.pem": holder.pem for name, holder in known.items()}
    pages["/garbage.pem"] = b"no certificate"
    judge, callee = free_port(), free_port()
    key = known["good"].write_key(folder / "key.pem")
    signing, judging = folder / "a" / "gateway.toml", folder / "b" / "gateway.toml"
    signing.write_text(SIGNING.format(judge=judge, key=key, host=HOST))
    judges = [(SIGNER, "annotate"), (NOTING, "annotate"), (DEMANDING, "require"), (TRUSTED, "require")]
    authority = next(tmp_path_factory.getbasetemp().glob("ca*/ca.pem"))
    judging.write_text(
        "".join(
            JUDGING.format(
                name=f"from-{address}", address=address, verify=verify, authority=authority, host=HOST,
                silent=SILENT, trusted=str(address == TRUSTED).lower(),
            )
            for address, verify in judges
        )
        + ROUTES.format(callee=callee)
    )  # fmt: skip
    async with (
        served(folder, pages, fetched) as web_authority,
        phone(folder / "phone", port=callee, auto=200),
        gateway(folder / "a", GATEWAY_CONFIG=str(signing)) as a,
        gateway(
            folder / "b", GATEWAY_CONFIG=str(judging), SIP_PORT=str(judge), SSL_CERT_FILE=str(web_authority)
        ) as b,
    ):
        yield World(a, b, known, fetched)


async def test_what_one_gateway_signs_another_verifies(world: World) -> None:
    new = {"to": "+14045551313", "from": "+12155551212", "trunk": "judge"}
    dialled = await world.signer.post("/api/v1/calls", new, status=201)

    async def verified() -> dict[str, Any] | None:
        calls = await world.judge.calls()
        return calls[0] if calls and calls[0]["verification"] else None

    call = await eventually(verified, "a verdict")
    verdict = call["verification"]
    assert (call["from"], verdict["verstat"], verdict["attestation"]) == (
        "+12155551212",
        "TN-Validation-Passed",
        "A",
    )
    assert len(verdict["origid"]) == 36
    history = (await world.judge.get(f"/api/v1/calls/{call['id']}/events"))["items"]
    (event,) = [event for event in history if event["type"] == "call.verified"]
    assert event["data"]["attestation"] == "A"
    await world.signer.post(f"/api/v1/calls/{dialled['id']}/end", {})
    assert (await world.judge.ended(call["id"]))["status"] == "completed"
    assert world.fetched == ["/good.pem"]


Forge = Callable[[World], str]
FORGED: dict[str, tuple[int, str, Forge]] = {
    "nobody vouches": (428, "has no Identity header", lambda _: ""),
    "another caller": (438, "vouches for another caller", lambda w: w.identity(orig={"tn": "12155551212"})),
    "another callee": (438, "made for another callee", lambda w: w.identity(dest={"tn": ["14045551313"]})),
    "a forged signature": (438, "signature does not hold", lambda w: w.identity("expired", x5u=GOOD)),
    "no PASSporT": (438, "no full-form PASSporT", lambda w: w.identity().replace(".", "!")),
    "an old PASSporT": (403, "stale", lambda w: w.identity(iat=int(time.time()) - 120)),
    "a host that is not allowed": (
        436, "not among the allowed hosts", lambda w: w.identity(x5u="https://127.0.0.1:8443/good.pem"),
    ),
    "no HTTPS": (436, "not offered by HTTPS", lambda w: w.identity(x5u=GOOD.replace("https", "http"))),
    "two addresses": (436, "differ", lambda w: w.identity(info=f"https://{HOST}:8443/other.pem")),
    "no such certificate": (436, "answered 404", lambda w: w.identity("missing")),
    "no certificate at all": (436, "no PEM certificate", lambda w: w.identity("garbage")),
    "an authority nobody knows": (437, "not trusted", lambda w: w.identity("strange")),
    "a certificate that is over": (437, "not trusted", lambda w: w.identity("expired")),
    "a certificate for no number": (437, "may vouch for no number", lambda w: w.identity("no-numbers")),
    "another kind": (437, "of the kind shaken", lambda w: w.identity(ppt="div")),
}  # fmt: skip
GOOD = f"https://{HOST}:8443/good.pem"


@pytest.mark.parametrize("case", FORGED)
async def test_who_is_not_vouched_for_is_refused_and_told_why(
    world: World, tmp_path: Path, case: str
) -> None:
    status, words, forge = FORGED[case]
    caller = Script("caller").ask("INVITE", sdp(6000), headers=forge(world)).told(100, optional=True)
    caller.told(status).ask("ACK")
    async with sipp(caller, tmp_path, remote=world.judge.sip, host=DEMANDING, service=CALLEE) as anna:
        await anna.finished()
    call = await world.newest()
    assert (call["trunk"], call["sip_response_code"]) == (f"from-{DEMANDING}", status)
    verdict = call["verification"]
    assert verdict["verstat"] == ("No-TN-Validation" if status == 428 else "TN-Validation-Failed")
    assert words in verdict["reason"]
    refusal = (await world.judge.get("/api/v1/refusals?rule=identity"))["items"][0]
    assert (refusal["status"], refusal["source"], refusal["reason"]) == (status, DEMANDING, verdict["reason"])


def call_of(identity: str) -> Script:
    """Calls, is answered and hangs up."""
    caller = Script("caller").ask("INVITE", sdp(6000), headers=identity)
    caller.told(100, optional=True).told(180, optional=True).told(183, optional=True).told(200).ask("ACK")
    return caller.pause(200).leaves()


async def test_who_is_vouched_for_gets_through(world: World, tmp_path: Path) -> None:
    script = call_of(world.identity())
    async with sipp(script, tmp_path, remote=world.judge.sip, host=DEMANDING, service=CALLEE) as anna:
        await anna.finished()
    verdict = (await world.newest())["verification"]
    assert (verdict["verstat"], verdict["attestation"]) == ("TN-Validation-Passed", "B")


async def test_where_it_is_only_noted_a_forger_gets_through_with_his_mark(
    world: World, tmp_path: Path
) -> None:
    script = call_of(world.identity(orig={"tn": "12155551212"}))
    async with sipp(script, tmp_path, remote=world.judge.sip, host=NOTING, service=CALLEE) as anna:
        await anna.finished()
    call = await world.judge.ended((await world.newest())["id"])
    verdict = call["verification"]
    assert (call["status"], verdict["verstat"]) == ("completed", "TN-Validation-Failed")
    assert verdict["reason"] == "the PASSporT vouches for another caller"


@pytest.mark.parametrize(("host", "status"), [(DEMANDING, 438), (TRUSTED, 200)])
async def test_an_asserted_identity_counts_where_it_is_believed(
    world: World, tmp_path: Path, host: str, status: int
) -> None:
    """Else a good certificate for one number would adorn calls that show another."""
    asserted = f"P-Asserted-Identity: <sip:12155551212@{host}>\n"
    headers = world.identity(orig={"tn": "12155551212"}) + asserted
    script = call_of(headers)
    if status == 438:
        script = Script("caller").ask("INVITE", sdp(6000), headers=headers).told(100, optional=True)
        script.told(status).ask("ACK")
    async with sipp(script, tmp_path, remote=world.judge.sip, host=host, service=CALLEE) as anna:
        await anna.finished()


async def test_a_silent_certificate_server_holds_nobody_up(world: World, tmp_path: Path) -> None:
    """Who only notes rings at once; who demands refuses after three seconds; others do not wait at all."""
    silent = world.identity(x5u=f"https://{SILENT}:8443/good.pem")
    refused = Script("caller").ask("INVITE", sdp(6000), headers=silent).told(100, optional=True)
    refused.told(436).ask("ACK")
    through = call_of(silent)
    began = time.monotonic()
    async with sipp(refused, tmp_path, remote=world.judge.sip, host=DEMANDING, service=CALLEE) as first:
        for script, host in ((through, NOTING), (call_of(world.identity()), DEMANDING)):
            async with sipp(script, tmp_path, remote=world.judge.sip, host=host, service=CALLEE) as other:
                await other.finished()
        assert time.monotonic() - began < 2.5
        await first.finished()
    assert 2.5 < time.monotonic() - began < 5
