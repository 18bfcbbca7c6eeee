"""Both hear each other: SIPp and a tone on one side, aiortc on the other, relayed and transcoded."""

import asyncio
import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from tests.interop.gateway import Gateway
from tests.interop.peers import RtpPeer, rtp_peer, sipp
from tests.interop.tone import rms, seconds_of_tone
from tests.interop.webrtc_peer import WebRtcPeer, webrtc_peer

pytestmark = pytest.mark.asyncio(loop_scope="session")

TALK = 6.0
FROM_PHONE, FROM_BROWSER = 1000.0, 700.0


def delays(way: str, sent: dict[bytes, float], arrived: dict[bytes, float]) -> dict[str, float]:
    """One-way delay that the gateway added, packet by packet: relayed payloads are the same at both ends."""
    added = [(arrived[payload] - at) * 1000 for payload, at in sent.items() if payload in arrived]
    assert len(added) > 100, f"{way}: {len(added)} payloads were relayed unchanged"
    return {
        f"{way}_ms_median": round(statistics.median(added), 2),
        f"{way}_ms_p99": round(statistics.quantiles(added, n=100)[98], 2),
    }


def check(phone: RtpPeer, browser: WebRtcPeer, what: str) -> None:
    """Each heard the other's tone for at least 5 s, nearly nothing was lost; the figures are printed."""
    heard_by_browser = seconds_of_tone(browser.audio(), FROM_PHONE, rate=browser.heard_rate)
    heard_by_phone = seconds_of_tone(phone.audio(), FROM_BROWSER)
    lost, expected = phone.lost()
    figures: dict[str, Any] = {
        "conversation": what,
        "browser_heard_s": round(heard_by_browser, 1),
        "phone_heard_s": round(heard_by_phone, 1),
        "lost_to_phone": lost,
        "packets_to_phone": expected,
    }
    if browser.arrived_at:
        # The first packet out is the answer to the first packet in: nothing else is sent to the browser.
        first = min(browser.arrived_at.values()) - min(phone.sent_at.values())
        figures["first_packet_to_browser_ms"] = round(first * 1000, 2)
    if browser.codec == "pcmu":
        figures |= delays("to_browser", phone.sent_at, browser.arrived_at)
        figures |= delays("to_phone", browser.sent_at, {one.payload: one.at for one in phone.arrivals})
    print(json.dumps(figures))
    assert heard_by_browser >= 5, figures
    assert heard_by_phone >= 5, figures
    assert 0.1 < rms(phone.audio()[8000:24000]) < 0.5, "the level is not the one that was sent"
    assert lost <= expected * 0.01, figures


@pytest.mark.parametrize("codec", ["PCMU", "opus"], ids=["relay", "transcode"])
async def test_a_carrier_calls_a_browser(running: Gateway, tmp_path: Path, codec: str) -> None:
    async with rtp_peer(FROM_PHONE) as phone, webrtc_peer(running, codec) as browser:
        async with sipp("uac_gateway_ends", tmp_path, remote=running.sip, audio_port=phone.port) as caller:
            call = (await browser.frame("incoming-call"))["call"]
            assert (call["status"], call["direction"]) == ("ringing", "inbound")
            await browser.talk(call["id"], FROM_BROWSER)
            await phone.talk(TALK + 1)
            await running.post(f"/api/v1/calls/{call['id']}/end", {})
            await caller.finished()
        await browser.frame("call-ended", 5)
        ended = await running.ended(call["id"])
        assert (ended["status"], ended["hangup_cause"]) == ("completed", "normal_clearing")
        check(phone, browser, f"inbound {codec}")


@pytest.mark.parametrize("codec", ["PCMU", "opus"], ids=["relay", "transcode"])
async def test_a_back_end_dials_out_and_a_browser_joins(running: Gateway, tmp_path: Path, codec: str) -> None:
    async with rtp_peer(FROM_PHONE) as phone, webrtc_peer(running, codec) as browser:
        async with sipp("uas_gateway_ends", tmp_path, audio_port=phone.port) as callee:
            new = {"to": f"sip:bob@127.0.0.1:{callee.port}", "from": "sip:gateway@127.0.0.1"}
            call = await running.post("/api/v1/calls", new, status=201)
            assert call["status"] == "queued"
            session = await running.post(f"/api/v1/calls/{call['id']}/sessions", {}, status=201)
            await browser.talk(call["id"], FROM_BROWSER, token=session["token"])
            await phone.talk(TALK + 1)
            await running.post(f"/api/v1/calls/{call['id']}/end", {})
            await callee.finished()
        ended = await running.ended(call["id"])
        assert (ended["status"], ended["direction"]) == ("completed", "outbound")
        check(phone, browser, f"outbound {codec}")


async def test_digits_pass_both_ways(running: Gateway, tmp_path: Path) -> None:
    async with rtp_peer(FROM_PHONE) as phone, webrtc_peer(running, "PCMU") as browser:
        async with sipp("uac_gateway_ends", tmp_path, remote=running.sip, audio_port=phone.port) as caller:
            call = (await browser.frame("incoming-call"))["call"]
            await browser.talk(call["id"], FROM_BROWSER)
            await phone.talk(1)
            await browser.send(type="dtmf", call_id=call["id"], digits="42#")
            await asyncio.sleep(1.5)
            await running.post(f"/api/v1/calls/{call['id']}/end", {})
            await caller.finished()
        assert phone.digits() == [4, 2, 11]
