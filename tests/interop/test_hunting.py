"""Hunting on the wire: several trunks and phones, redirects, causes, identity, headers; SIPp on all sides."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio

from tests.interop.dns import silent_port
from tests.interop.gateway import Gateway, eventually, gateway
from tests.interop.peers import Sipp, sipp
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONFIG = """
[[trunks]]
name = "outside"
addresses = ["127.0.0.1"]
headers = ["X-*"]

[[trunks]]
name = "inside"
addresses = ["127.0.0.2"]
trusted = true

[[trunks]]
name = "a"
uri = "sip:127.0.0.1:{a}"
headers = ["X-Camp*", "Diversion"]

[[trunks]]
name = "b"
uri = "sip:127.0.0.1:{b}"

[[trunks]]
name = "dead"
uri = "sip:127.0.0.1:{dead}"

[[trunks]]
name = "silent"
uri = "sip:127.0.0.1:{silent}"
patience = 0.5

[[trunks]]
name = "friend"
uri = "sip:127.0.0.1:{a}"
trusted = true

[[trunks]]
name = "shy"
uri = "sip:127.0.0.1:{a}"
privacy = "id"
caller_id = {{ policy = "replace", number = "100" }}

[[trunks]]
name = "round"
uri = "sip:127.0.0.1:{mirror}"

[[routes]]
name = "round"
match = {{ to = "^9" }}
target = {{ trunk = "round" }}

[[routes]]
name = "serial"
match = {{ to = "^1" }}
target = {{ trunks = [{{ trunk = "a" }}, {{ trunk = "b", priority = 2 }}] }}

[[routes]]
name = "parallel"
match = {{ to = "^2" }}
target = {{ ring = {{ strategy = "parallel", targets = [{{ trunk = "a" }}, {{ trunk = "b" }}] }} }}

[[routes]]
name = "plain"
match = {{ to = "^3" }}
target = {{ trunk = "a" }}

[[routes]]
name = "dead"
match = {{ to = "^4" }}
target = {{ trunks = [{{ trunk = "dead" }}, {{ trunk = "b", priority = 2 }}] }}

[[routes]]
name = "silent"
match = {{ to = "^7" }}
target = {{ trunks = [{{ trunk = "silent" }}, {{ trunk = "b", priority = 2 }}] }}

[[routes]]
name = "friend"
match = {{ to = "^5" }}
target = {{ trunk = "friend" }}

[[routes]]
name = "shy"
match = {{ to = "^6" }}
target = {{ trunk = "shy" }}
"""


@dataclass
class Office:
    """A gateway, and the ports of the two trunks that SIPp plays, and of the one that sends calls back."""

    gateway: Gateway
    a: int
    b: int
    mirror: int

    async def attempts(self) -> list[tuple[str, str, int | None]]:
        """What the latest call tried."""
        call = (await self.gateway.calls())[0]
        await self.gateway.ended(call["id"])
        events = (await self.gateway.get(f"/api/v1/calls/{call['id']}/events"))["items"]
        assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
        lines = [event["data"] for event in events if event["type"] == "call.attempt"]
        return [(line["trunk"], line["outcome"], line["sip_response_code"]) for line in lines]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def office(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Office]:
    """One gateway for all of it."""
    folder = tmp_path_factory.mktemp("office")
    ports = {name: free_port() for name in ("a", "b", "dead", "mirror")}
    config = folder / "gateway.toml"
    with silent_port() as silent:
        config.write_text(CONFIG.format(**ports, silent=silent.getsockname()[1]))
        async with gateway(folder, GATEWAY_CONFIG=str(config)) as running:
            before = await running.use()
            yield Office(running, ports["a"], ports["b"], ports["mirror"])
            await running.settled(before)


def received(peer: Sipp, start: str) -> str:
    """The last message that SIPp got whose first line begins so."""
    log = (peer.folder / "messages.log").read_text(errors="replace").replace("\r\n", "\n")
    parts = [
        part.split("-----------------------------------------------")[0]
        for part in log.split("message received")
    ]
    messages = [part.split("\n\n", 1)[1].lstrip("\n") for part in parts[1:] if "\n\n" in part]
    found = [message for message in messages if message.startswith(start)]
    assert found, f"no {start} in {log[-3000:]}"
    return found[-1]


def header(message: str, name: str) -> str | None:
    """A header's value."""
    lines = (line.partition(":") for line in message.splitlines())
    return next((value.strip() for found, _, value in lines if found.lower() == name.lower()), None)


class Mirror(asyncio.DatagramProtocol):
    """A proxy that sends everything back to where it came from."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.invites = 0
        self.transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        text = data.decode()
        self.invites += text.startswith("INVITE ")
        if text.startswith("SIP/2.0 "):
            back = re.sub(r"^Via: .*\r\n", "", text, count=1, flags=re.MULTILINE)
        else:
            via = f"Via: SIP/2.0/UDP 127.0.0.1:{self.port};branch=z9hG4bKmirror"
            back = re.sub(
                r"^Via: [^\r]*branch=z9hG4bK([^;\r]+)",
                rf"{via}\1\r\n\g<0>",
                text,
                count=1,
                flags=re.MULTILINE,
            )
        self.transport.sendto(back.encode(), address)


async def test_a_call_that_comes_back_ends_with_482(office: Office, tmp_path: Path) -> None:
    """RFC 5393: a loop that no address gives away is found on its second round."""
    before = len(await office.gateway.calls())
    loop = asyncio.get_running_loop()
    at = ("127.0.0.1", office.mirror)
    transport, mirror = await loop.create_datagram_endpoint(lambda: Mirror(office.mirror), local_addr=at)
    try:
        back = sipp("uac_refused", tmp_path, remote=office.gateway.sip, service="900", status=482)
        async with back as caller:
            await caller.finished()
    finally:
        transport.close()
    assert mirror.invites == 1
    calls = (await office.gateway.calls())[: -before or None]
    assert [call["sip_response_code"] for call in calls] == [482, 482]


async def test_the_next_trunk_after_503(office: Office, tmp_path: Path) -> None:
    async with (
        sipp("uas_rejects", tmp_path, port=office.a, status=503) as first,
        sipp("uas_gateway_ends", tmp_path, port=office.b) as second,
        sipp("uac_caller_ends", tmp_path, remote=office.gateway.sip, service="1001", hold=200) as caller,
    ):
        for peer in (first, caller, second):
            await peer.finished()
    assert await office.attempts() == [("a", "failed", 503), ("b", "answered", None)]
    assert (await office.gateway.calls())[0]["status"] == "completed"


async def test_the_next_trunk_after_an_unreachable_one(office: Office, tmp_path: Path) -> None:
    async with (
        sipp("uas_gateway_ends", tmp_path, port=office.b) as second,
        sipp("uac_caller_ends", tmp_path, remote=office.gateway.sip, service="4001", hold=200) as caller,
    ):
        await caller.finished()
        await second.finished()
    assert await office.attempts() == [("dead", "failed", None), ("b", "answered", None)]


async def test_a_silent_trunk_is_soon_left_and_comes_last_once_it_is_down(
    office: Office, tmp_path: Path
) -> None:
    async def call(service: str) -> tuple[list[tuple[str, str, int | None]], float]:
        async with (
            sipp("uas_gateway_ends", tmp_path, port=office.b) as second,
            sipp("uac_caller_ends", tmp_path, remote=office.gateway.sip, service=service, hold=50) as caller,
        ):
            await caller.finished()
            await second.finished()
        tried, call = await office.attempts(), (await office.gateway.calls())[0]
        times = [datetime.fromisoformat(call[key]) for key in ("created_at", "answered_at")]
        return tried, (times[1] - times[0]).total_seconds()

    for service in ("7001", "7002"):
        tried, took = await call(service)
        assert tried == [("silent", "failed", None), ("b", "answered", None)]
        assert 0.5 < took < 3, "its patience, and not Timer B"

    async def is_down() -> bool:
        targets = (await office.gateway.get("/api/v1/trunks/silent"))["targets"]
        return [target["state"] for target in targets] == ["down"]

    await eventually(is_down, "two failures")
    tried, _ = await call("7003")
    assert tried == [("b", "answered", None)]


async def test_the_first_to_answer_wins_and_the_other_is_told(office: Office, tmp_path: Path) -> None:
    async with (
        sipp("uas_never_answers", tmp_path, port=office.a) as loser,
        sipp("uas_gateway_ends", tmp_path, port=office.b, ring=300) as winner,
        sipp("uac_caller_ends", tmp_path, remote=office.gateway.sip, service="2001", hold=200) as caller,
    ):
        for peer in (caller, winner, loser):
            await peer.finished()
        cancel = received(loser, "CANCEL")
    assert header(cancel, "Reason") == 'SIP;cause=200;text="Call completed elsewhere"'
    assert await office.attempts() == [("b", "answered", None), ("a", "canceled", None)]


async def test_the_callers_cancel_reaches_all(office: Office, tmp_path: Path) -> None:
    reason = 'Reason: Q.850;cause=16;text="gave up"\n'
    async with (
        sipp("uas_never_answers", tmp_path, port=office.a) as one,
        sipp("uas_never_answers", tmp_path, port=office.b) as two,
        sipp(
            "uac_caller_cancels", tmp_path, remote=office.gateway.sip, service="2002", reason=reason
        ) as caller,
    ):
        for peer in (caller, one, two):
            await peer.finished()
            if peer is not caller:
                assert header(received(peer, "CANCEL"), "Reason") == 'Q.850;cause=16;text="gave up"'


async def test_a_redirect_is_followed(office: Office, tmp_path: Path) -> None:
    contact = f"Contact: <sip:nobody@192.0.2.9>;q=0.1, <sip:moved@127.0.0.1:{office.b}>\n"
    async with (
        sipp("uas_rejects", tmp_path, port=office.a, status=302, headers=contact) as first,
        sipp("uas_gateway_ends", tmp_path, port=office.b) as second,
        sipp("uac_caller_ends", tmp_path, remote=office.gateway.sip, service="3001", hold=200) as caller,
    ):
        for peer in (first, caller, second):
            await peer.finished()
        assert received(second, "INVITE").startswith(f"INVITE sip:moved@127.0.0.1:{office.b} ")
    assert [outcome for _, outcome, _ in await office.attempts()] == ["failed", "answered"]


async def test_a_6xx_ends_the_hunt(office: Office, tmp_path: Path) -> None:
    async with (
        sipp("uas_rejects", tmp_path, port=office.a, status=603) as first,
        sipp("uac_refused", tmp_path, remote=office.gateway.sip, service="1002", status=603) as caller,
    ):
        await first.finished()
        await caller.finished()
    assert await office.attempts() == [("a", "failed", 603)]


async def test_503_of_all_trunks_is_500_to_the_caller(office: Office, tmp_path: Path) -> None:
    async with (
        sipp("uas_rejects", tmp_path, port=office.a, status=503) as one,
        sipp("uas_rejects", tmp_path, port=office.b, status=503) as two,
        sipp("uac_refused", tmp_path, remote=office.gateway.sip, service="1003", status=500) as caller,
    ):
        for peer in (one, two, caller):
            await peer.finished()


async def test_reasons_go_through(office: Office, tmp_path: Path) -> None:
    reason = 'Reason: Q.850;cause=20;text="absent, today"\n'
    async with (
        sipp("uas_rejects", tmp_path, port=office.a, status=480, headers=reason) as callee,
        sipp("uac_refused", tmp_path, remote=office.gateway.sip, service="3002", status=480) as caller,
    ):
        await callee.finished()
        await caller.finished()
        assert header(received(caller, "SIP/2.0 480"), "Reason") == 'Q.850;cause=20;text="absent, today"'
    call = (await office.gateway.calls())[0]
    assert (call["q850_cause"], call["sip_response_code"]) == (20, 480)
    reason = "Reason: Q.850;cause=31, SIP;cause=486\n"
    async with (
        sipp("uas_callee_ends", tmp_path, port=office.a, reason=reason) as callee,
        sipp("uac_gateway_ends", tmp_path, remote=office.gateway.sip, service="3003") as caller,
    ):
        await callee.finished()
        await caller.finished()
        assert header(received(caller, "BYE"), "Reason") == "Q.850;cause=31, SIP;cause=486"
    async with (
        sipp("uas_gateway_ends", tmp_path, port=office.a) as callee,
        sipp("uac_caller_ends", tmp_path, remote=office.gateway.sip, service="3004", hold=100) as caller,
    ):
        await caller.finished()
        await callee.finished()
        assert header(received(callee, "BYE"), "Reason") is None, "nothing is invented"


@pytest.mark.parametrize(
    ("host", "service", "expected"),
    [
        ("127.0.0.2", "3010", ("sip:anonymous@anonymous.invalid", None, None)),
        ("127.0.0.2", "5010", ("sip:+74950001122@", '"Anna" <sip:+7495@example.com>', "id")),
        ("127.0.0.1", "5011", ("sip:+74950001122@", None, "id")),
        ("127.0.0.1", "6010", ("sip:anonymous@anonymous.invalid", None, "id")),
    ],
    ids=["out of the domain", "within", "into it", "a trunk that asks for privacy"],
)
async def test_identity_by_trust(
    office: Office, tmp_path: Path, host: str, service: str, expected: tuple[Any, ...]
) -> None:
    headers = 'P-Asserted-Identity: "Anna" <sip:+7495@example.com>\nPrivacy: id\n'
    async with (
        sipp("uas_gateway_ends", tmp_path, port=office.a) as callee,
        sipp(
            "uac_caller_ends", tmp_path, remote=office.gateway.sip, host=host, service=service,
            headers=headers, hold=100,
        ) as caller,
    ):  # fmt: skip
        await caller.finished()
        await callee.finished()
        invite = received(callee, "INVITE")
    from_, asserted, privacy = expected
    assert from_ in (header(invite, "From") or "")
    assert (header(invite, "P-Asserted-Identity"), header(invite, "Privacy")) == (asserted, privacy)
    assert (await office.gateway.calls())[0]["from_name"] == "Anna"


async def test_headers_in_and_out_and_hops(office: Office, tmp_path: Path) -> None:
    headers = "X-Campaign: spring\nX-Secret: no\nx-campaign: sale\nSubject: none\n"
    async with (
        sipp("uas_gateway_ends", tmp_path, port=office.a) as callee,
        sipp(
            "uac_caller_ends", tmp_path, remote=office.gateway.sip, service="3020", headers=headers, hold=100
        ) as caller,
    ):
        await caller.finished()
        await callee.finished()
        invite = received(callee, "INVITE")
    assert header(invite, "X-Campaign") == "spring, sale"
    assert (header(invite, "X-Secret"), header(invite, "Subject")) == (None, None)
    assert header(invite, "Max-Forwards") == "69"
    assert (header(invite, "Diversion") or "").startswith("<sip:3020@127.0.0.1")
    call = (await office.gateway.calls())[0]
    assert call["headers"] == {"X-Campaign": "spring, sale", "X-Secret": "no"}
    # The same call comes back by a proxy that passes on what it does not know: a loop (RFC 5393).
    passage = f"X-Gateway-Passage: {header(invite, 'X-Gateway-Passage')}\n"
    async with sipp(
        "uac_refused", tmp_path, remote=office.gateway.sip, service="3020", status=482, headers=passage
    ) as caller:
        await caller.finished()
    assert "come back" in (await office.gateway.calls())[0]["reason"]


async def test_headers_set_by_the_api(office: Office, tmp_path: Path) -> None:
    new = {"to": "3030", "trunk": "a", "headers": {"X-Order": "42", "Subject": "no"}}
    problem = await office.gateway.post("/api/v1/calls", new, status=422)
    assert problem["errors"][0]["path"] == "headers.Subject"
    for name, value in (("Via", "x"), ("X-A", "a\r\nVia: b"), ("X a", "b")):
        await office.gateway.post("/api/v1/calls", {**new, "headers": {name: value}}, status=422)
    async with sipp("uas_callee_ends", tmp_path, port=office.a, hold=100) as callee:
        call = await office.gateway.post("/api/v1/calls", {**new, "headers": {"X-Order": "42"}}, status=201)
        await callee.finished()
        assert header(received(callee, "INVITE"), "X-Order") == "42"
    assert (await office.gateway.ended(call["id"]))["headers"] == {"X-Order": "42"}


async def test_an_ordered_call_takes_the_next_trunk(office: Office, tmp_path: Path) -> None:
    async with (
        sipp("uas_rejects", tmp_path, port=office.a, status=500) as first,
        sipp("uas_callee_ends", tmp_path, port=office.b, hold=100) as second,
    ):
        call = await office.gateway.post("/api/v1/calls", {"to": "1030", "route": "serial"}, status=201)
        await first.finished()
        await second.finished()
    ended = await office.gateway.ended(call["id"])
    assert (ended["status"], ended["trunk"], ended["route"]) == ("completed", "b", "serial")
