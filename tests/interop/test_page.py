"""The page in Chromium: somebody clicks "answer", the two talk."""

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from tests.interop.chromium import METER, chromium_page, inbound_audio
from tests.interop.gateway import Gateway
from tests.interop.peers import rtp_peer, sipp
from tests.interop.tone import seconds_of_tone

pytestmark = pytest.mark.asyncio(loop_scope="module")

TALK = 7.0
FROM_PHONE, FROM_BROWSER = 1000.0, 700.0


def heard(readings: list[dict[str, float]]) -> float:
    """Seconds in which the tone was clear."""
    spans = [later["at"] - one["at"] for one, later in itertools.pairwise(readings)]
    return sum(
        span for span, one in zip(spans, readings, strict=False) if one["purity"] > 0.8 and one["level"] > -60
    )


def report(what: str, readings: list[dict[str, float]], stats: dict[str, Any], lost: tuple[int, int]) -> None:
    """Print what was measured: one JSON line."""
    emitted = max(1, stats["jitterBufferEmittedCount"])
    figures = {
        "conversation": what,
        "browser_heard_s": round(heard(readings), 1),
        "browser_packets": stats["packetsReceived"],
        "browser_lost": stats["packetsLost"],
        "browser_jitter_ms": round(stats["jitter"] * 1000, 2),
        "browser_jitter_buffer_ms": round(stats["jitterBufferDelay"] / emitted * 1000, 1),
        "lost_to_phone": lost[0],
        "packets_to_phone": lost[1],
    }
    print(json.dumps(figures))


async def test_a_call_in_is_answered_on_the_page(running: Gateway, tmp_path: Path) -> None:
    async with chromium_page(running.url, tmp_path, FROM_BROWSER) as page, rtp_peer(FROM_PHONE) as phone:
        await expect(page.get_by_test_id("connection")).to_have_text("ready")
        async with sipp("uac_gateway_ends", tmp_path, remote=running.sip, audio_port=phone.port) as caller:
            await expect(page.get_by_test_id("caller")).to_contain_text("4950001122")
            await page.get_by_test_id("answer").click()
            await expect(page.get_by_test_id("status")).to_have_text("in-progress")
            talking = asyncio.create_task(phone.talk(TALK + 1))
            readings = await page.evaluate(METER, {"frequency": FROM_PHONE, "seconds": TALK})
            await talking
            stats = await inbound_audio(page)
            await page.get_by_test_id("hangup").click()
            await caller.finished()
        await expect(page.get_by_test_id("dialler")).to_be_visible()
        call = (await running.calls())[0]
        assert (await running.ended(call["id"]))["status"] == "completed"
    report("page inbound", readings, stats, phone.lost())
    assert heard(readings) >= 5
    assert seconds_of_tone(phone.audio(), FROM_BROWSER) >= 5
    assert stats["packetsLost"] <= 0.01 * stats["packetsReceived"]
    assert phone.lost()[0] <= 0.01 * phone.lost()[1]


async def test_a_call_out_is_dialled_on_the_page(running: Gateway, tmp_path: Path) -> None:
    async with chromium_page(running.url, tmp_path, FROM_BROWSER) as page, rtp_peer(FROM_PHONE) as phone:
        async with sipp(
            "uas_callee_ends", tmp_path, audio_port=phone.port, hold=int(TALK * 1000) + 2000
        ) as callee:
            await page.get_by_test_id("dial-to").fill(f"sip:bob@127.0.0.1:{callee.port}")
            await page.get_by_test_id("dial").click()
            await expect(page.get_by_test_id("status")).to_have_text("in-progress")
            talking = asyncio.create_task(phone.talk(TALK + 1))
            readings = await page.evaluate(METER, {"frequency": FROM_PHONE, "seconds": TALK})
            await talking
            stats = await inbound_audio(page)
            await callee.finished()
        await expect(page.get_by_test_id("notice")).to_contain_text("Call ended")
    report("page outbound", readings, stats, phone.lost())
    assert heard(readings) >= 5
    assert seconds_of_tone(phone.audio(), FROM_BROWSER) >= 5


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
