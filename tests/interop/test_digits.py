"""Digits by SIP INFO and by RFC 4733, each into the other: SIPp, pjsua2 and a browser."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.interop.gateway import Gateway, gateway
from tests.interop.peers import rtp_peer, sipp
from tests.interop.pjsua_peer import phone
from tests.interop.script import Script, sdp
from tests.interop.webrtc_peer import webrtc_peer
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONFIG = """
[[trunks]]
name = "plain"
uri = "sip:127.0.0.1:{plain}"

[[trunks]]
name = "old"
addresses = ["127.0.0.2"]
uri = "sip:127.0.0.1:{old}"
dtmf = "info"

[[routes]]
name = "plain"
match = {{ to = "^1" }}
target = {{ trunk = "plain" }}

[[routes]]
name = "old"
match = {{ to = "^2" }}
target = {{ trunk = "old" }}

[[routes]]
name = "rings"
target = {{ browser = "*" }}
"""
EVENTS = ["telephone-event"]
RELAY = "application/dtmf-relay"


def body(kind: str, text: str) -> str:
    """A body that is no session description, as `Script.ask` takes it."""
    return f"Content-Type: {kind}\n[body]{text}"


@dataclass
class Switchboard:
    """A gateway between a trunk that speaks RFC 4733 and one that speaks INFO."""

    gateway: Gateway
    plain: int
    old: int

    async def digits(self) -> list[str]:
        """What the latest call's history tells."""
        call = (await self.gateway.calls())[0]
        await self.gateway.ended(call["id"])
        events = (await self.gateway.get(f"/api/v1/calls/{call['id']}/events"))["items"]
        return [event["data"]["digit"] for event in events if event["type"] == "call.dtmf"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def board(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Switchboard]:
    """One gateway for all of it."""
    folder = tmp_path_factory.mktemp("switchboard")
    ports = {name: free_port() for name in ("plain", "old")}
    config = folder / "gateway.toml"
    config.write_text(CONFIG.format(**ports))
    async with gateway(folder, GATEWAY_CONFIG=str(config)) as running:
        before = await running.use()
        yield Switchboard(running, **ports)
        await running.settled(before)


def old_trunk(port: int, *digits: str) -> Script:
    """Takes a call without telephone-event, one INFO for each digit, and the BYE."""
    callee = Script("callee").invited(lacks=EVENTS).answer("180 Ringing").pause(100)
    callee.answer("200 OK", sdp(port, 0)).asked("ACK")
    for digit in digits:
        callee.asked("INFO", has=[f"Signal={digit}", "application/dtmf-relay"]).pause(100).answer("200 OK")
    return callee.left()


async def test_info_becomes_events_and_what_is_none_is_refused(board: Switchboard, tmp_path: Path) -> None:
    async with rtp_peer(440) as near, rtp_peer(880) as far:
        caller = Script("caller").calls(sdp(near.port))
        caller.ask("INFO", headers=body(RELAY, "Signal=5\nDuration=160\n")).told(200)
        caller.ask("INFO", headers=body("application/dtmf", "#")).told(200)
        caller.ask("INFO", headers=body(RELAY, "Signal=five\n")).told(400)
        caller.ask("INFO", headers=body("application/media_control+xml", "<x/>"))
        caller.told(415, has=["Accept: application/dtmf-relay"]).pause(800).leaves()
        async with (
            sipp(Script("callee").called(sdp(far.port)).left(), tmp_path, port=board.plain) as callee,
            sipp(caller, tmp_path, remote=board.gateway.sip, service="1001") as outside,
        ):
            await outside.finished()
            await callee.finished()
        events = [packet for packet in far.arrivals if packet.payload_type == 101]
    assert far.digits() == [5, 11]
    ends = [packet.payload for packet in events if packet.payload[0] == 5 and packet.payload[1] & 0x80]
    assert ends == [ends[0]] * 3, "the end is said three times"
    assert int.from_bytes(ends[0][2:4]) == 160 * 8
    assert await board.digits() == ["5", "#"]


async def test_a_telephones_events_become_info(board: Switchboard, tmp_path: Path) -> None:
    async with rtp_peer(880) as far, phone(tmp_path / "phone") as near:
        async with sipp(old_trunk(far.port, "1", "[*]", "9"), tmp_path, port=board.old) as callee:
            call = await near.call(f"sip:2001@127.0.0.1:{board.gateway.sip_port}")
            await near.event("state", state="CONFIRMED")
            await near.event("media")
            await asyncio.sleep(0.3)
            await near.digits(call, "1*9")
            await asyncio.sleep(2)
            await near.hang_up(call)
            await callee.finished()
        assert any("telephone-event" in answer for answer in near.received("SIP/2.0 200"))
        assert not [packet for packet in far.arrivals if packet.payload_type != 0]
    assert await board.digits() == ["1", "*", "9"]


async def test_a_telephones_info_becomes_events(board: Switchboard, tmp_path: Path) -> None:
    async with rtp_peer(880) as far, phone(tmp_path / "phone") as near:
        callee = Script("callee").called(sdp(far.port)).left()
        async with sipp(callee, tmp_path, port=board.plain) as peer:
            call = await near.call(f"sip:1001@127.0.0.1:{board.gateway.sip_port}")
            await near.event("state", state="CONFIRMED")
            await near.digits(call, "7D", info=True)
            await asyncio.sleep(1.5)
            await near.hang_up(call)
            await peer.finished()
        assert far.digits() == [7, 15]
    assert await board.digits() == ["7", "D"]


async def test_a_browsers_digits_become_info_and_back(board: Switchboard, tmp_path: Path) -> None:
    async with rtp_peer(440) as far, webrtc_peer(board.gateway) as browser:
        caller = Script("caller").ask("INVITE", sdp(far.port)).told(100, optional=True)
        caller.told(180, optional=True).told(200, lacks=EVENTS).ask("ACK")
        caller.ask("INFO", headers=body("application/dtmf", "3")).told(200)
        for digit in "4#":
            caller.asked("INFO", has=[f"Signal={digit}"]).answer("200 OK")
        caller.pause(200).leaves()
        async with sipp(caller, tmp_path, remote=board.gateway.sip, host="127.0.0.2") as outside:
            call = (await browser.frame("incoming-call"))["call"]
            await browser.talk(call["id"], 440)
            await asyncio.sleep(0.5)
            await browser.send(type="dtmf", call_id=call["id"], digits="4#")
            await outside.finished()
    assert await board.digits() == ["3"]
