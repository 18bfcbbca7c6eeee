"""What keeps a session: reliable ringing, session timers, refreshes, late offers."""

from pathlib import Path

import pytest

from tests.interop.gateway import Gateway
from tests.interop.peers import rtp_peer, sipp
from tests.interop.webrtc_peer import webrtc_peer

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_caller_pracks_and_refreshes(running: Gateway, tmp_path: Path) -> None:
    async with rtp_peer(440) as phone, webrtc_peer(running) as browser:
        async with sipp("uac_refreshes", tmp_path, remote=running.sip, audio_port=phone.port) as caller:
            call = (await browser.frame("incoming-call"))["call"]
            await browser.talk(call["id"], 440)
            await caller.finished()
        ended = await running.ended(call["id"])
    assert (ended["status"], ended["hangup_source"]) == ("completed", "caller")
