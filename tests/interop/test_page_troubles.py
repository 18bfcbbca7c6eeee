"""The page when something is in the way: no microphone, no connection, a wrong key, a faster page."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.interop.chromium import chromium_page
from tests.interop.gateway import Gateway, eventually, gateway
from tests.interop.peers import rtp_peer, sipp
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

DENY = """() => {
  navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("no", "NotAllowedError"); };
}"""
HESITATE = """() => {
  const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    await new Promise((resolve) => { window.allow = resolve; });
    return window.opened = await open(wanted);
  };
}"""
NO_OFFER = """() => {
  RTCPeerConnection.prototype.setLocalDescription = async () => { throw new Error("no offer"); };
}"""
KEY = "k" * 32
OFFLINE = r"ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|WebSocket|ERR_EMPTY_RESPONSE"


async def ready(page: Page) -> None:
    """Wait until the page hears of calls."""
    await expect(page.get_by_test_id("connection")).to_have_text("ready")


async def truth(page: Page, expression: str) -> None:
    """Wait until the page says so; its own policy forbids Playwright's way of waiting for a function."""

    async def said() -> bool:
        return bool(await page.evaluate(expression))

    await eventually(said, expression)


@contextlib.asynccontextmanager
async def second_page(page: Page, url: str) -> AsyncIterator[Page]:
    """Another page of the same Chromium."""
    other = await page.context.new_page()
    await other.goto(url)
    await ready(other)
    yield other
    await other.close()


async def joins(running: Gateway, call_id: str) -> int:
    """How often a browser joined the call, less how often one left."""
    events = (await running.get(f"/api/v1/calls/{call_id}/events"))["items"]
    types = [event["type"] for event in events]
    return types.count("session.joined") - types.count("session.left")


async def test_the_other_page_stops_ringing_when_one_answers(running: Gateway, tmp_path: Path) -> None:
    async with chromium_page(running.url, tmp_path, 700) as page, second_page(page, running.url) as other:
        async with (
            rtp_peer(440) as phone,
            sipp("uac_gateway_ends", tmp_path, remote=running.sip, audio_port=phone.port) as caller,
        ):
            await expect(other.get_by_test_id("incoming")).to_be_visible()
            await page.get_by_test_id("answer").click()
            await expect(page.get_by_test_id("status")).to_have_text("in-progress")
            await expect(other.get_by_test_id("incoming")).to_be_hidden()
            await expect(other.get_by_test_id("dialler")).to_be_visible()
            await page.get_by_test_id("hangup").click()
            await caller.finished()


async def test_a_denied_microphone_leaves_the_call_to_others(running: Gateway, tmp_path: Path) -> None:
    async with chromium_page(running.url, tmp_path, 700) as page, second_page(page, running.url) as other:
        await page.evaluate(DENY)
        async with (
            rtp_peer(440) as phone,
            sipp("uac_gateway_ends", tmp_path, remote=running.sip, audio_port=phone.port) as caller,
        ):
            await page.get_by_test_id("answer").click()
            await expect(page.get_by_test_id("notice")).to_contain_text("microphone is not allowed")
            await other.get_by_test_id("answer").click()
            await expect(other.get_by_test_id("status")).to_have_text("in-progress")
            await other.get_by_test_id("hangup").click()
            await caller.finished()


async def test_without_a_microphone_nobody_is_dialled(running: Gateway, tmp_path: Path) -> None:
    before = await running.calls()
    async with chromium_page(running.url, tmp_path, 700) as page:
        await ready(page)
        await page.evaluate(DENY)
        await page.get_by_test_id("dial-to").fill("sip:bob@127.0.0.1:9")
        await page.get_by_test_id("dial").click()
        await expect(page.get_by_test_id("notice")).to_contain_text("microphone is not allowed")
    assert len(await running.calls()) == len(before)


async def test_a_call_that_ends_at_the_question_leaves_no_open_microphone(
    running: Gateway, tmp_path: Path
) -> None:
    async with chromium_page(running.url, tmp_path, 700) as page:
        await ready(page)
        await page.evaluate(HESITATE)
        async with sipp("uac_caller_cancels", tmp_path, remote=running.sip, hold=1500) as caller:
            await page.get_by_test_id("answer").click()
            await caller.finished()
        await truth(page, "() => window.allow !== undefined")
        await expect(page.get_by_test_id("incoming")).to_be_hidden()
        await page.evaluate("() => allow()")
        await truth(page, "() => window.opened?.getTracks().every((track) => track.readyState === 'ended')")
        await expect(page.get_by_test_id("dialler")).to_be_visible()


async def test_a_page_that_joined_but_cannot_speak_leaves(running: Gateway, tmp_path: Path) -> None:
    async with chromium_page(running.url, tmp_path, 700) as page:
        await ready(page)
        await page.evaluate(NO_OFFER)
        async with (
            rtp_peer(440) as phone,
            sipp("uac_gateway_ends", tmp_path, remote=running.sip, audio_port=phone.port),
        ):
            await page.get_by_test_id("answer").click()
            await expect(page.get_by_test_id("notice")).to_contain_text("no offer")
            call = (await running.calls())[0]

            async def left() -> bool:
                return await joins(running, call["id"]) == 0

            await eventually(left, "leave of the page that cannot speak")
            await expect(page.get_by_test_id("answer")).to_be_enabled()
            await page.get_by_test_id("decline").click()
            await running.ended(call["id"])


async def test_a_lost_gateway_leaves_no_calls_on_the_page(tmp_path: Path) -> None:
    ports = {"PORT": str(free_port()), "SIP_PORT": str(free_port()), "WEBRTC_PORT": str(free_port())}
    async with contextlib.AsyncExitStack() as stack:
        async with gateway(tmp_path, exit_code=-9, **ports) as running:
            page = await stack.enter_async_context(
                chromium_page(running.url, tmp_path, 700, tolerate=OFFLINE)
            )
            await ready(page)
            phone = await stack.enter_async_context(rtp_peer(440))
            async with sipp("uac_gateway_ends", tmp_path, remote=running.sip, audio_port=phone.port):
                await page.get_by_test_id("answer").click()
                await expect(page.get_by_test_id("status")).to_have_text("in-progress")
                running.process.kill()
                await expect(page.get_by_test_id("notice")).to_contain_text(
                    "connection to the gateway was lost"
                )
            microphones = "testPeers.every((peer) => peer.connectionState === 'closed')"
            assert await page.evaluate(microphones)
        async with gateway(tmp_path, **ports) as running:
            await expect(page.get_by_test_id("connection")).to_have_text("ready", timeout=25_000)
            await expect(page.get_by_test_id("dialler")).to_be_visible()
            async with sipp("uac_caller_cancels", tmp_path, remote=running.sip, hold=3000) as caller:
                await expect(page.get_by_test_id("incoming")).to_have_count(1)
                await caller.finished()
            await stack.aclose()


async def test_a_key_is_asked_for_until_it_is_right(tmp_path: Path) -> None:
    production = {
        "NODE_ENV": "production",
        "HOST": "127.0.0.1",
        "API_KEYS": KEY,
        "GATEWAY_CONFIG": "gateway.toml",
    }
    (tmp_path / "gateway.toml").write_text(
        '[[trunks]]\nname = "carrier"\naddresses = ["127.0.0.1/32"]\ncodecs = ["PCMU"]\n'
        '[[routes]]\nname = "sales"\ntarget = { browser = "sales" }\n'
    )
    async with (
        gateway(tmp_path, **production) as running,
        chromium_page(f"{running.url}/?browser=sales", tmp_path, 700, tolerate="401") as page,
    ):
        await page.get_by_test_id("api-key").fill("wrong")
        await page.get_by_role("button", name="Connect").click()
        await expect(page.get_by_test_id("notice")).to_contain_text("does not know this key")
        await page.get_by_test_id("api-key").fill(KEY)
        await page.get_by_role("button", name="Connect").click()
        await ready(page)
        async with (
            rtp_peer(440) as phone,
            sipp("uac_gateway_ends", tmp_path, remote=running.sip, audio_port=phone.port) as caller,
        ):
            await page.get_by_test_id("answer").click()
            await expect(page.get_by_test_id("status")).to_have_text("in-progress")
            await asyncio.sleep(0.2)
            await page.get_by_test_id("hangup").click()
            await caller.finished()
        await expect(page.get_by_test_id("dialler")).to_be_visible()
