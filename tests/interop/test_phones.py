"""Phones that register over streams, and by way of Kamailio: they are called by the way they came."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.interop.certificates import Authority
from tests.interop.gateway import Gateway, eventually, gateway
from tests.interop.kamailio import kamailio
from tests.interop.peers import sipp
from tests.interop.pjsua_peer import phone
from tests.interop.script import Script, sdp
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

PASSWORD = "wonderland"
PLAN = """
[[users]]
name = "alice"
password_env = "PASSWORD"

[[users]]
name = "bob"
password_env = "PASSWORD"

[[routes]]
name = "to-alice"
match = { to = "^alice$" }
target = { user = "alice" }

[[routes]]
name = "of-alice"
match = { user = "alice", to = "^desk$" }
target = { user = "bob" }

[[routes]]
name = "to-bob"
match = { to = "^bob$" }
target = { user = "bob" }
"""


@dataclass
class Office:
    """A gateway with two users, reached by every transport."""

    gateway: Gateway
    tls_port: int
    authority: Path

    def port(self, transport: str) -> int:
        return self.tls_port if transport == "tls" else self.gateway.sip_port

    def account(self, user: str, transport: str = "udp") -> dict[str, Any]:
        """What a phone of this user is set to."""
        where = f"sip:127.0.0.1:{self.port(transport)}"
        account = {"user": user, "username": user, "password": PASSWORD, "transport": transport}
        if transport != "udp":
            where += f";transport={transport}"
        if transport == "tls":
            account["authority"] = str(self.authority)
        return account | {"registrar": where}

    async def bindings(self, user: str) -> list[dict[str, Any]]:
        return list((await self.gateway.get(f"/api/v1/users/{user}"))["bindings"])

    async def bound(self, user: str, count: int) -> list[dict[str, Any]]:
        """The user's phones, once there are so many."""

        async def probe() -> bool:
            return len(await self.bindings(user)) == count

        await eventually(probe, f"{count} phones of {user}")
        return await self.bindings(user)

    async def call(self, folder: Path, user: str, status: int = 200) -> dict[str, Any]:
        """SIPp calls a user, hears this and hangs up; the call."""
        script = Script("caller").ask("INVITE", sdp(6000)).told(100, optional=True).told(180, optional=True)
        script.told(status).ask("ACK")
        if status == 200:
            script.pause(200).leaves()
        async with sipp(script, folder, remote=self.gateway.sip, service=user) as caller:
            await caller.finished()
        return await self.gateway.ended((await self.gateway.calls())[0]["id"])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def office(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Office]:
    folder, port = tmp_path_factory.mktemp("office"), free_port()
    authority = Authority(folder / "ca")
    own = authority.sign("127.0.0.1", file="gateway")
    (folder / "gateway.toml").write_text(PLAN)
    settings = {
        "SIP_TLS_PORT": str(port),
        "SIP_TLS_CERTIFICATE": str(own.certificate),
        "SIP_TLS_KEY": str(own.key),
        "GATEWAY_CONFIG": str(folder / "gateway.toml"),
        "PASSWORD": PASSWORD,
    }
    async with gateway(folder, **settings) as running:
        yield Office(running, port, authority.file)


def header(message: str, name: str) -> str:
    found = re.search(rf"^{name}:\s*(.*?)\r?$", message, re.MULTILINE | re.IGNORECASE)
    return found[1] if found else ""


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_a_phone_is_called_by_the_stream_it_keeps_open(
    office: Office, tmp_path: Path, transport: str
) -> None:
    """RFC 5626 5.3, and RFC 3608: what it sends goes the same way; registered anew it is still one phone."""
    port = office.port(transport)
    async with (
        phone(tmp_path / "bob", **office.account("bob"), auto=200) as bob,
        phone(tmp_path / "alice", **office.account("alice", transport), auto=200) as alice,
    ):
        for one in (alice, bob):
            await one.event("registered", code=200)
        (binding,) = await office.bound("alice", 1)
        assert binding["transport"] == transport
        assert (await office.call(tmp_path, "alice"))["status"] == "completed"
        await alice.register()
        await alice.event("registered", code=200)
        assert len(await office.bindings("alice")) == 1
        assert (await office.call(tmp_path, "alice"))["status"] == "completed"
        call = await alice.call(f"sip:bob@127.0.0.1:{port};transport={transport}")
        await alice.event("state", call=call, state="CONFIRMED")
        await bob.event("state", state="CONFIRMED")
        await alice.hang_up(call)
        await bob.event("state", state="DISCONNECTED")
        await alice.register(renew=False)
        await office.bound("alice", 0)
        assert (await office.call(tmp_path, "alice", 480))["status"] == "no-answer"
    whence = re.findall(r"Request msg INVITE\S* \(\w+\) from (\w+ [\d.:]+):\n", alice.log.read_text())
    assert whence == [f"{transport.upper()} 127.0.0.1:{port}"] * 2
    service = f"<sip:127.0.0.1:{port};transport={transport};lr>"
    granted = [answer for answer in alice.received("SIP/2.0 200") if "REGISTER" in header(answer, "CSeq")]
    assert header(granted[0], "Service-Route") == service
    assert header(alice.sent("INVITE")[0], "Route") == service


async def test_a_phone_that_was_called_transfers_in_its_users_name(office: Office, tmp_path: Path) -> None:
    host, port = office.gateway.sip
    async with (
        phone(tmp_path / "bob", **office.account("bob"), auto=200) as bob,
        phone(tmp_path / "alice", **office.account("alice"), auto=200) as alice,
        phone(tmp_path / "carol") as carol,
    ):
        for user, one in (("alice", alice), ("bob", bob)):
            await one.event("registered", code=200)
            await office.bound(user, 1)
        call = await carol.call(f"sip:alice@{host}:{port}")
        theirs = (await alice.event("incoming"))["call"]
        await carol.event("state", call=call, state="CONFIRMED")
        await alice.transfer(theirs, f"sip:desk@{host}:{port}")
        await alice.event("transferred", code=200, final=True)
        await bob.event("state", state="CONFIRMED")
        await carol.hang_up(call)
        await bob.event("state", state="DISCONNECTED")


async def test_a_phone_whose_stream_breaks_is_not_called_any_more(office: Office, tmp_path: Path) -> None:
    """Its binding goes with the stream, and it comes back by another."""
    async with phone(tmp_path / "lost", **office.account("alice", "tcp")) as alice:
        await alice.event("registered", code=200)
        await office.bound("alice", 1)
        alice.process.kill()
        await office.bound("alice", 0)
        assert (await office.call(tmp_path, "alice", 480))["status"] == "no-answer"
    async with phone(tmp_path / "back", **office.account("alice", "tcp"), auto=200) as alice:
        await alice.event("registered", code=200)
        assert (await office.call(tmp_path, "alice"))["status"] == "completed"


async def test_the_preferred_phone_rings_first(office: Office, tmp_path: Path) -> None:
    """RFC 3261 16.6: by falling q."""
    busy = phone(tmp_path / "desk", **office.account("alice"), contact=";q=0.9", auto=480)
    free = phone(tmp_path / "pocket", **office.account("alice", "tcp"), contact=";q=0.2", auto=200)
    async with free as pocket, busy as desk:
        for one in (pocket, desk):
            await one.event("registered", code=200)
        bindings = await office.bound("alice", 2)
        assert [binding["q"] for binding in bindings] == [0.9, 0.2]
        call = await office.call(tmp_path, "alice")
        assert call["status"] == "completed"
        await desk.event("incoming")
        await pocket.event("state", state="CONFIRMED")
    events = (await office.gateway.get(f"/api/v1/calls/{call['id']}/events"))["items"]
    attempts = [event["data"] for event in events if event["type"] == "call.attempt"]
    outcomes = [(attempt["outcome"], attempt["sip_response_code"]) for attempt in attempts]
    assert outcomes == [("failed", 480), ("answered", None)], attempts


async def test_a_phone_behind_a_proxy_is_called_by_its_path(office: Office, tmp_path: Path) -> None:
    """RFC 3327: Kamailio adds a Path to REGISTER, and stands in the way of the call back."""
    gate = f"sip:127.0.0.1:{office.gateway.sip_port}"
    async with kamailio(tmp_path, target=gate) as edge:
        account = office.account("alice") | {"proxy": f"{edge.udp};lr"}
        async with phone(tmp_path / "alice", **account, auto=200) as alice:
            await alice.event("registered", code=200)
            (binding,) = await office.bound("alice", 1)
            assert binding["source"].endswith(f":{edge.port}"), binding
            assert (await office.call(tmp_path, "alice"))["status"] == "completed"
            await alice.event("state", state="DISCONNECTED")
    (invite,) = alice.received("INVITE")
    assert f"127.0.0.1:{edge.port};" in header(invite, "Record-Route")
    assert all(f"UDP 127.0.0.1:{edge.port};" in header(bye, "Via") for bye in alice.received("BYE"))


@pytest.mark.parametrize("noise", [b"", b"\r\n"])
async def test_a_ping_on_a_stream_gets_its_pong(office: Office, noise: bytes) -> None:
    """RFC 5626 4.4.1: CRLF CRLF is answered by CRLF, whatever is sent between."""
    reader, writer = await asyncio.open_connection(*office.gateway.sip)
    options = (
        "OPTIONS sip:gw@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bKping;rport\r\n"
        "From: <sip:a@127.0.0.1>;tag=a\r\nTo: <sip:gw@127.0.0.1>\r\nCall-ID: ping\r\nCSeq: 1 OPTIONS\r\n"
        "Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
    for _ in range(2):
        writer.write(b"\r\n\r\n")
        assert await asyncio.wait_for(reader.readexactly(2), 2) == b"\r\n"
    writer.write(noise + options.encode())
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 2)
    assert answer.startswith(b"SIP/2.0 200 OK\r\n")
    writer.write(b"\r\n\r\n")
    assert await asyncio.wait_for(reader.readexactly(2), 2) == b"\r\n"
    writer.close()
    await writer.wait_closed()
