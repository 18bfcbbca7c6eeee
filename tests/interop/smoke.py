"""One whole call through a gateway that runs already: `python -m tests.interop.smoke HTTP_PORT SIP_PORT`.

It must be ready within 60 s. SIPp calls in, a WebRTC peer answers, both talk, the back end hangs up. Exit
code 0 when both heard each other.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

import aiohttp

from tests.interop.gateway import Gateway, eventually
from tests.interop.peers import rtp_peer, sipp
from tests.interop.tone import seconds_of_tone
from tests.interop.webrtc_peer import webrtc_peer


async def ready(running: Gateway) -> bool:
    """Whether it accepts calls."""
    try:
        async with running.session.get(running.url + "/health/ready") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def call(http_port: int, sip_port: int, folder: Path) -> None:
    """Make the call; raises when anything is not as it should be."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        running = Gateway(None, http_port, sip_port, folder, session)  # type: ignore[arg-type]
        await eventually(lambda: ready(running), "readiness", 60)
        async with rtp_peer(1000) as phone, webrtc_peer(running) as browser:
            async with sipp("uac_gateway_ends", folder, remote=running.sip, audio_port=phone.port) as caller:
                ringing = (await browser.frame("incoming-call"))["call"]
                await browser.talk(ringing["id"], 700)
                await phone.talk(3)
                await running.post(f"/api/v1/calls/{ringing['id']}/end", {})
                await caller.finished()
            assert (await running.ended(ringing["id"]))["status"] == "completed"
            assert seconds_of_tone(phone.audio(), 700) >= 2
            assert seconds_of_tone(browser.audio(), 1000, rate=browser.heard_rate) >= 2


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(call(int(sys.argv[1]), int(sys.argv[2]), Path(name)))
    print("both heard each other")
