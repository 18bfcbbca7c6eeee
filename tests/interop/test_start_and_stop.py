"""Start-up mistakes name the setting and the fix; SIGTERM loses nothing."""

import asyncio
import signal
import socket
from pathlib import Path

import pytest

from tests.interop.gateway import COMMAND, gateway, settings
from tests.interop.peers import rtp_peer, sipp
from tests.interop.webrtc_peer import webrtc_peer
from tests.ports import free_port


async def refused_start(folder: Path, **overrides: str) -> str:
    """What the gateway says when it cannot start; it must not take long, nor show a traceback."""
    process = await asyncio.create_subprocess_exec(
        str(COMMAND),
        "serve",
        env=settings(folder, **overrides),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout
    said = (await asyncio.wait_for(process.stdout.read(), 30)).decode()
    assert await process.wait() == 2, said
    assert "Traceback" not in said
    return said


async def test_a_database_that_is_down_is_named(tmp_path: Path) -> None:
    url = f"postgresql://postgres:secret@127.0.0.1:{free_port()}/calls"
    said = await refused_start(tmp_path, POSTGRES_URL=url)
    assert "POSTGRES_URL" in said
    assert "secret" not in said


async def test_a_taken_http_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        said = await refused_start(tmp_path, PORT=str(holder.getsockname()[1]))
    assert "PORT" in said


async def test_a_taken_sip_port_is_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        said = await refused_start(tmp_path, SIP_PORT=str(holder.getsockname()[1]))
    assert "SIP_PORT" in said


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("PORT", "many"),
        ("RTP_PORT_RANGE", "30000"),
        ("NODE_ENV", "staging"),
        ("MEDIA_WORKERS", "0"),
        ("GATEWAY_CONFIG", "nowhere.toml"),
        ("SIP_PUBLIC_ADDRESS", "not an address"),
    ],
)
async def test_a_wrong_setting_is_named(tmp_path: Path, setting: str, value: str) -> None:
    assert setting in await refused_start(tmp_path, **{setting: value})


async def test_production_needs_keys(tmp_path: Path) -> None:
    assert "API_KEYS" in await refused_start(tmp_path, NODE_ENV="production")


async def test_a_wrong_route_is_named(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(
        '[[routes]]\nname = "sales"\nmatch = { to = "(" }\ntarget = { reject = 404 }\n'
    )
    said = await refused_start(tmp_path, GATEWAY_CONFIG=str(tmp_path / "gateway.toml"))
    assert "sales" in said
    assert "match.to" in said


async def test_sigterm_refuses_new_calls_and_lets_running_ones_finish(tmp_path: Path) -> None:
    async with (
        gateway(tmp_path, SHUTDOWN_TIMEOUT="10") as running,
        webrtc_peer(running) as browser,
        rtp_peer(440) as phone,
    ):
        async with sipp(
            "uac_caller_ends", tmp_path, remote=running.sip, audio_port=phone.port, hold=2500
        ) as caller:
            call = (await browser.frame("incoming-call"))["call"]
            await browser.talk(call["id"], 440)
            await browser.frame("call-state", 5)
            running.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            async with running.session.get(running.url + "/health/ready") as response:
                assert response.status == 503
            async with sipp("uac_refused", tmp_path, remote=running.sip, status=503) as late:
                await late.finished()
            assert running.process.returncode is None, "it waits for the running call"
            await caller.finished()
        assert await running.stop() == 0


async def test_a_call_that_outlasts_the_shutdown_gets_bye_and_its_record(tmp_path: Path) -> None:
    async with (
        gateway(tmp_path, SHUTDOWN_TIMEOUT="1") as running,
        webrtc_peer(running) as browser,
        rtp_peer(440) as phone,
    ):
        async with sipp("uac_gateway_ends", tmp_path, remote=running.sip, audio_port=phone.port) as caller:
            call = (await browser.frame("incoming-call"))["call"]
            await browser.talk(call["id"], 440)
            assert await running.stop() == 0
            await caller.finished()
    async with gateway(tmp_path) as again:
        ended = await again.get(f"/api/v1/calls/{call['id']}")
        assert ended["status"] == "completed"
        assert ended["hangup_source"] == "system"


async def test_a_second_signal_hangs_up_at_once(tmp_path: Path) -> None:
    async with (
        gateway(tmp_path, exit_code=1, SHUTDOWN_TIMEOUT="60") as running,
        webrtc_peer(running) as browser,
        rtp_peer(440) as phone,
    ):
        async with sipp("uac_gateway_ends", tmp_path, remote=running.sip, audio_port=phone.port) as caller:
            call = (await browser.frame("incoming-call"))["call"]
            await browser.talk(call["id"], 440)
            running.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.5)
            assert running.process.returncode is None, "the first one waits for the call"
            assert await running.stop() == 1, "a call was cut"
            await caller.finished()


async def test_a_killed_gateway_leaves_no_open_record(tmp_path: Path) -> None:
    async with gateway(tmp_path, exit_code=-signal.SIGKILL) as running, webrtc_peer(running) as browser:
        async with sipp("uac_caller_cancels", tmp_path, remote=running.sip, hold=20000):
            call = (await browser.frame("incoming-call"))["call"]
            await running.get("/api/v1/calls")  # what a list shows is durable
            running.process.kill()
            await running.process.wait()
    async with gateway(tmp_path) as again:
        ended = await again.get(f"/api/v1/calls/{call['id']}")
        assert (ended["status"], ended["hangup_cause"]) == ("failed", "node_crash")
