"""The ladder of a call: every message of every leg, browsers' calls too, without secrets."""

from pathlib import Path
from typing import Any

import pytest

from tests.interop.gateway import Gateway, eventually, gateway
from tests.interop.peers import rtp_peer, sipp
from tests.interop.script import Script, sdp
from tests.interop.webrtc_peer import webrtc_peer
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONFIG = """
[[trunks]]
name = "outside"
addresses = ["127.0.0.1"]

[[trunks]]
name = "busy"
uri = "sip:127.0.0.1:{busy}"

[[trunks]]
name = "careful"
uri = "sip:127.0.0.1:{careful}"
username = "gateway"
password_env = "CAREFUL_PASSWORD"
realm = "careful"

[[routes]]
name = "out"
target = {{ trunks = [{{ trunk = "busy" }}, {{ trunk = "careful", priority = 2 }}] }}
"""

CHALLENGE = 'Proxy-Authenticate: Digest realm="careful", nonce="4f6", algorithm=SHA-256, qop="auth"\n'


async def lines(running: Gateway, call_id: str, leg: str) -> list[str]:
    """What the ladder says of one leg: `>` left, `<` came."""
    told = await running.get(f"/api/v1/calls/{call_id}/sip")
    assert not told["truncated"]
    times = [item["at"] for item in told["items"]]
    assert times == sorted(times)
    items = [item for item in told["items"] if item["leg"] == leg]
    return [f"{'>' if item['direction'] == 'out' else '<'}{words(item['summary'])}" for item in items]


def words(summary: str) -> str:
    """`INVITE`, `200 INVITE`."""
    first, _, rest = summary.partition(" ")
    return f"{first} {rest.rpartition('(')[2].rstrip(')')}" if first.isdigit() else first


async def shows(running: Gateway, call_id: str, leg: str, expected: list[str]) -> None:
    """The ladder of a leg comes to this: its last answer may still be under way."""

    async def complete() -> bool:
        return len(await lines(running, call_id, leg)) >= len(expected)

    await eventually(complete, f"{len(expected)} messages of {leg}")
    assert await lines(running, call_id, leg) == expected


def careful(port: int) -> Script:
    """A carrier that asks for a password, takes a re-INVITE and waits for the BYE."""
    callee = Script("callee").invited().answer("407 Proxy Authentication Required", headers=CHALLENGE)
    callee.asked("ACK").asked("INVITE", has=["response="]).answer("180 Ringing").pause(100)
    callee.answer("200 OK", sdp(port)).asked("ACK")
    return callee.renewed(sdp(port, direction="recvonly")).left()


async def test_every_leg_of_a_forwarded_call(tmp_path: Path) -> None:
    ports = {"busy": free_port(), "careful": free_port()}
    config = tmp_path / "gateway.toml"
    config.write_text(CONFIG.format(**ports))
    async with (
        gateway(tmp_path, GATEWAY_CONFIG=str(config), CAREFUL_PASSWORD="5ec2e7") as running,
        rtp_peer(440) as phone,
        rtp_peer(880) as far,
    ):
        caller = Script("caller").calls(sdp(phone.port)).pause(200)
        caller.renews(sdp(phone.port, direction="sendonly")).pause(100).leaves()
        async with (
            sipp("uas_rejects", tmp_path, port=ports["busy"], status=503) as first,
            sipp(careful(far.port), tmp_path, port=ports["careful"]) as second,
            sipp(caller, tmp_path, remote=running.sip, service="1001") as outside,
        ):
            for peer in (first, outside, second):
                await peer.finished()
        call = (await running.calls())[0]
        await running.ended(call["id"])
        near, refused, taken = (leg["id"] for leg in call["legs"])
        await shows(running, call["id"], near, [
            "<INVITE", ">100 INVITE", ">180 INVITE", ">200 INVITE", "<ACK",
            "<INVITE", ">100 INVITE", ">200 INVITE", "<ACK", "<BYE", ">200 BYE",
        ])  # fmt: skip
        await shows(running, call["id"], refused, [">INVITE", "<180 INVITE", "<503 INVITE", ">ACK"])
        await shows(running, call["id"], taken, [
            ">INVITE", "<407 INVITE", ">ACK", ">INVITE", "<180 INVITE", "<200 INVITE", ">ACK",
            ">INVITE", "<200 INVITE", ">ACK", ">BYE", "<200 BYE",
        ])  # fmt: skip
        await tells_no_secret(running, call["id"], ports["careful"])


async def tells_no_secret(running: Gateway, call_id: str, port: int) -> None:
    """The message is whole but for the digest's response, in both forms."""
    items: list[dict[str, Any]] = (await running.get(f"/api/v1/calls/{call_id}/sip"))["items"]
    proved = next(item["message"] for item in items if "Proxy-Authorization" in item["message"])
    assert proved.startswith(f"INVITE sip:1001@127.0.0.1:{port} SIP/2.0\r\n")
    for part in ('username="gateway"', 'response="***"', 'cnonce="***"', "m=audio"):
        assert part in proved
    async with running.session.get(f"{running.url}/api/v1/calls/{call_id}/sip?format=text") as response:
        text = await response.text()
    assert text.count("\n--- ") + 1 == len(items)
    assert 'response="***"' in text


async def test_a_browsers_call_shows_its_telephone(running: Gateway, tmp_path: Path) -> None:
    async with rtp_peer(440) as phone, webrtc_peer(running) as browser:
        async with sipp("uac_caller_ends", tmp_path, remote=running.sip, audio_port=phone.port) as caller:
            call = (await browser.frame("incoming-call"))["call"]
            leg = call["legs"][0]["id"]
            assert await lines(running, call["id"], leg) == ["<INVITE", ">100 INVITE", ">180 INVITE"]
            await browser.talk(call["id"], 440)
            await caller.finished()
        await running.ended(call["id"])
    expected = ["<INVITE", ">100 INVITE", ">180 INVITE", ">200 INVITE", "<ACK", "<BYE", ">200 BYE"]
    await shows(running, call["id"], leg, expected)


async def test_a_repeated_message_is_counted(running: Gateway, tmp_path: Path) -> None:
    deaf = Script("callee").invited().pause(700).answer("486 Busy Here").asked("ACK")
    async with sipp(deaf, tmp_path) as callee:
        call = await running.post("/api/v1/calls", {"to": f"sip:bob@127.0.0.1:{callee.port}"}, status=201)
        await callee.finished()
    await running.ended(call["id"])
    told = (await running.get(f"/api/v1/calls/{call['id']}/sip"))["items"]
    assert [words(item["summary"]) for item in told] == ["INVITE", "486 INVITE", "ACK"]
    assert len(told[0]["retransmissions"]) == 1
