"""Every way a call can end, each with its one terminal status and the right words on the wire."""

import asyncio
from pathlib import Path

import pytest

from tests.interop.gateway import Gateway, eventually
from tests.interop.peers import rtp_peer, sipp
from tests.interop.webrtc_peer import webrtc_peer

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def one_terminal_event(gateway: Gateway, call_id: str) -> None:
    """The history is gapless and ends once."""
    events = (await gateway.get(f"/api/v1/calls/{call_id}/events"))["items"]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    terminal = {"call.completed", "call.busy", "call.failed", "call.no-answer", "call.canceled"}
    assert sum(event["type"] in terminal for event in events) == 1


async def test_the_caller_hangs_up(running: Gateway, tmp_path: Path) -> None:
    async with rtp_peer(440) as phone, webrtc_peer(running) as browser:
        async with sipp(
            "uac_caller_ends", tmp_path, remote=running.sip, audio_port=phone.port, hold=800
        ) as caller:
            call = (await browser.frame("incoming-call"))["call"]
            await browser.talk(call["id"], 440)
            await caller.finished()
        ended = await running.ended(call["id"])
    assert (ended["status"], ended["hangup_source"]) == ("completed", "caller")
    assert ended["duration"] == pytest.approx(0.8, abs=0.5)
    await one_terminal_event(running, call["id"])


async def test_the_browser_leaves(running: Gateway, tmp_path: Path) -> None:
    async with rtp_peer(440) as phone, webrtc_peer(running) as browser:
        async with sipp("uac_gateway_ends", tmp_path, remote=running.sip, audio_port=phone.port) as caller:
            call = (await browser.frame("incoming-call"))["call"]
            await browser.talk(call["id"], 440)
            await phone.talk(0.5)
            await browser.socket.close()
            await caller.finished()
        ended = await running.ended(call["id"])
    assert (ended["status"], ended["hangup_source"]) == ("completed", "callee")
    await one_terminal_event(running, call["id"])


async def test_the_caller_cancels_while_it_rings(running: Gateway, tmp_path: Path) -> None:
    async with webrtc_peer(running) as browser:
        async with sipp("uac_caller_cancels", tmp_path, remote=running.sip, hold=300) as caller:
            call = (await browser.frame("incoming-call"))["call"]
            await caller.finished()
        await browser.frame("call-ended")
        ended = await running.ended(call["id"])
    assert (ended["status"], ended["hangup_cause"]) == ("canceled", "originator_cancel")
    await one_terminal_event(running, call["id"])


async def test_nobody_is_there_to_answer(running: Gateway, tmp_path: Path) -> None:
    async with sipp("uac_refused", tmp_path, remote=running.sip, status=480) as caller:
        await caller.finished()
    call = (await running.calls())[0]
    assert (call["status"], call["sip_response_code"]) == ("no-answer", 480)
    assert call["reason"]


async def test_the_browser_declines(running: Gateway, tmp_path: Path) -> None:
    async with webrtc_peer(running) as browser:
        async with sipp("uac_refused", tmp_path, remote=running.sip, status=486) as caller:
            call = (await browser.frame("incoming-call"))["call"]
            async with running.session.patch(
                f"{running.url}/api/v1/calls/{call['id']}/status", json={"status": "busy"}
            ) as response:
                assert response.status == 200, await response.text()
            await caller.finished()
        assert (await running.ended(call["id"]))["status"] == "busy"


@pytest.mark.parametrize(
    ("status", "ends", "cause"),
    [
        (486, "busy", "user_busy"),
        (603, "failed", "call_rejected"),
        (404, "failed", "not_found"),
        (480, "no-answer", "timeout"),
    ],
)
async def test_the_callee_refuses(
    running: Gateway, tmp_path: Path, status: int, ends: str, cause: str
) -> None:
    async with sipp("uas_rejects", tmp_path, status=status) as callee:
        call = await running.post("/api/v1/calls", {"to": f"sip:bob@127.0.0.1:{callee.port}"}, status=201)
        await callee.finished()
    ended = await running.ended(call["id"])
    assert (ended["status"], ended["hangup_cause"], ended["sip_response_code"]) == (ends, cause, status)
    await one_terminal_event(running, call["id"])


async def test_the_callee_never_answers(running: Gateway, tmp_path: Path) -> None:
    async with sipp("uas_never_answers", tmp_path) as callee:
        new = {"to": f"sip:bob@127.0.0.1:{callee.port}", "timeout": 5}
        call = await running.post("/api/v1/calls", new, status=201)
        await callee.finished()
    assert (await running.ended(call["id"]))["status"] == "no-answer"
    await one_terminal_event(running, call["id"])


async def test_the_back_end_cancels_what_rings(running: Gateway, tmp_path: Path) -> None:
    async with sipp("uas_never_answers", tmp_path) as callee:
        call = await running.post("/api/v1/calls", {"to": f"sip:bob@127.0.0.1:{callee.port}"}, status=201)

        async def rings() -> bool:
            return str((await running.get(f"/api/v1/calls/{call['id']}"))["status"]) == "ringing"

        await eventually(rings, "ringing")
        await running.post(f"/api/v1/calls/{call['id']}/end", {})
        await callee.finished()
    assert (await running.ended(call["id"]))["status"] == "canceled"


async def test_the_callee_hangs_up(running: Gateway, tmp_path: Path) -> None:
    async with (
        rtp_peer(440) as phone,
        sipp("uas_callee_ends", tmp_path, audio_port=phone.port, hold=500) as callee,
    ):
        call = await running.post("/api/v1/calls", {"to": f"sip:bob@127.0.0.1:{callee.port}"}, status=201)
        await callee.finished()
        ended = await running.ended(call["id"])
    assert (ended["status"], ended["hangup_source"]) == ("completed", "callee")
    await one_terminal_event(running, call["id"])


async def test_ten_callers_at_once(running: Gateway, tmp_path: Path) -> None:
    async with webrtc_peer(running) as browser:
        async with sipp("uac_caller_cancels", tmp_path, remote=running.sip, hold=500, calls=10) as caller:
            await caller.finished()
        await asyncio.sleep(0.2)
        rung = {frame["call"]["id"] for frame in browser.frames if frame["type"] == "incoming-call"}
    assert len(rung) == 10
    for call_id in rung:
        assert (await running.ended(call_id))["status"] == "canceled"
        await one_terminal_event(running, call_id)
