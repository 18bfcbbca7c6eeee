"""The page in Chromium: somebody clicks "answer", the two talk."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from tests.interop.chromium import Measured, chromium_page, inbound_audio, meter
from tests.interop.gateway import Gateway
from tests.interop.peers import RtpPeer, rtp_peer, sipp
from tests.interop.tone import seconds_of_tone

pytestmark = pytest.mark.asyncio(loop_scope="session")

TALK = 7.0
FROM_PHONE, FROM_BROWSER = 1000.0, 700.0


def report(what: str, phone: RtpPeer, heard: Measured, stats: dict[str, Any]) -> None:
    """Print what was measured, one JSON line, and hold it against what is asked."""
    buffered = stats["jitterBufferDelay"] / max(1, stats["jitterBufferEmittedCount"])
    lost, expected = phone.lost()
    figures = {
        "conversation": what,
        "browser_heard_s": round(heard.heard(), 1),
        "phone_heard_s": round(seconds_of_tone(phone.audio(), FROM_BROWSER), 1),
        "browser_packets": stats["packetsReceived"],
        "browser_lost": stats["packetsLost"],
        "browser_jitter_ms": round(stats["jitter"] * 1000, 2),
        "onset_ms": round((heard.onset - phone.started_at) * 1000),
        "of_it_jitter_buffer_ms": round(buffered * 1000),
        "lost_to_phone": lost,
        "packets_to_phone": expected,
    }
    print(json.dumps(figures))
    assert heard.heard() >= 5, figures
    assert seconds_of_tone(phone.audio(), FROM_BROWSER) >= 5, figures
    assert stats["packetsLost"] <= 0.01 * stats["packetsReceived"], figures
    assert lost <= 0.01 * expected, figures


async def test_a_call_in_is_answered_on_the_page(running: Gateway, tmp_path: Path) -> None:
    async with chromium_page(running.url, tmp_path, FROM_BROWSER) as page, rtp_peer(FROM_PHONE) as phone:
        await expect(page.get_by_test_id("connection")).to_have_text("ready")
        async with sipp("uac_gateway_ends", tmp_path, remote=running.sip, audio_port=phone.port) as caller:
            await expect(page.get_by_test_id("caller")).to_have_text("Anna")
            await expect(page.get_by_test_id("caller-number")).to_contain_text("4950001122")
            await page.get_by_test_id("answer").click()
            await expect(page.get_by_test_id("status")).to_have_text("in-progress")
            async with meter(page, FROM_PHONE, TALK) as measured:
                await phone.talk(TALK + 1)
                heard = await measured()
            stats = await inbound_audio(page)
            await page.get_by_test_id("hangup").click()
            await caller.finished()
        await expect(page.get_by_test_id("dialler")).to_be_visible()
        call = (await running.calls())[0]
        assert (await running.ended(call["id"]))["status"] == "completed"
    report("page inbound", phone, heard, stats)


async def test_a_call_out_is_dialled_on_the_page(running: Gateway, tmp_path: Path) -> None:
    async with chromium_page(running.url, tmp_path, FROM_BROWSER) as page, rtp_peer(FROM_PHONE) as phone:
        async with sipp(
            "uas_callee_ends", tmp_path, audio_port=phone.port, hold=int(TALK * 1000) + 2000
        ) as callee:
            await page.get_by_test_id("dial-to").fill(f"sip:bob@127.0.0.1:{callee.port}")
            await page.get_by_test_id("dial").click()
            await expect(page.get_by_test_id("status")).to_have_text("in-progress")
            async with meter(page, FROM_PHONE, TALK) as measured:
                await phone.talk(TALK + 1)
                heard = await measured()
            stats = await inbound_audio(page)
            await callee.finished()
        await expect(page.get_by_test_id("notice")).to_contain_text("Call ended")
    report("page outbound", phone, heard, stats)


async def test_digits_and_mute_on_the_page(running: Gateway, tmp_path: Path) -> None:
    async with chromium_page(running.url, tmp_path, FROM_BROWSER) as page, rtp_peer(FROM_PHONE) as phone:
        await expect(page.get_by_test_id("connection")).to_have_text("ready")
        async with sipp("uac_gateway_ends", tmp_path, remote=running.sip, audio_port=phone.port) as caller:
            await page.get_by_test_id("answer").click()
            await expect(page.get_by_test_id("status")).to_have_text("in-progress")
            talking = asyncio.create_task(phone.talk(5))
            for key in "15#":
                await page.get_by_test_id(f"key-{key}").click()
            await asyncio.sleep(1.5)
            await page.get_by_test_id("mute").click()
            await asyncio.sleep(0.5)
            phone.arrivals[:-1] = [packet for packet in phone.arrivals if packet.payload_type == 101]
            await talking
            assert seconds_of_tone(phone.audio(), FROM_BROWSER) == 0, "muted, and still heard"
            await page.get_by_test_id("hangup").click()
            await caller.finished()
        assert phone.digits() == [1, 5, 11]
