"""Whole gateway between two SIPps: INVITE, 180, 200, ACK, BYE, ports allocated, record written."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from benches.load.process import cpu_of, resident_mib
from tests.interop.gateway import Gateway, eventually, gateway
from tests.interop.peers import free_port

SCENARIOS = Path(__file__).resolve().parents[2] / "tests/interop/scenarios"
THROUGH = """
[[trunks]]
name = "callers"
addresses = ["127.0.0.1/32"]
codecs = ["PCMU", "PCMA"]
[[trunks]]
name = "callees"
addresses = ["127.0.0.2/32"]
uri = "sip:127.0.0.1:{callee}"
codecs = [{codecs}]
[[routes]]
name = "through"
target = {{ trunk = "callees" }}
"""


async def start_sipp(
    scenario: str, folder: Path, port: int, *arguments: str, **keys: int
) -> asyncio.subprocess.Process:
    """A SIPp of many calls; its statistics land in stat.csv."""
    folder.mkdir()
    text = (SCENARIOS / f"{scenario}.xml").read_text()
    for name, value in {"ring": 0, "hold": 0, "audio_port": 6000, **keys}.items():
        text = text.replace(f"[{name}]", str(value))
    (folder / "scenario.xml").write_text(text)
    common = ["-sf", "scenario.xml", "-i", "127.0.0.1", "-p", str(port), "-nostdin", "-buff_size", "4194304"]
    traces = ["-trace_stat", "-stf", "stat.csv", "-fd", "1", "-trace_err", "-error_file", "errors.log"]
    return await asyncio.create_subprocess_exec(
        "sipp",
        *common,
        *traces,
        *arguments,
        cwd=folder,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def stop(process: asyncio.subprocess.Process) -> None:
    """End a SIPp, if it has not ended by itself."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def totals(folder: Path) -> dict[str, float]:
    """The cumulative columns of the last line SIPp wrote."""
    lines = (folder / "stat.csv").read_text().splitlines()
    row = dict(zip(lines[0].split(";"), lines[-1].split(";"), strict=False))
    wanted = {"ok": "SuccessfulCall(C)", "failed": "FailedCall(C)", "retransmissions": "Retransmissions(C)"}
    return {name: float(row[column]) for name, column in wanted.items()}


async def settle(running: Gateway) -> None:
    """Wait until every call is over and recorded."""

    async def over() -> bool:
        return (await running.metrics())["active_calls"] == 0

    await eventually(over, "end of all calls", 60)
    await running.calls()


async def measure(folder: Path, rate: int, calls: int) -> dict[str, Any]:
    """Run `calls` at `rate` a second through the gateway and charge its CPU to them."""
    callee = free_port()
    (folder / "gateway.toml").write_text(THROUGH.format(callee=callee, codecs='"PCMU"'))
    settings = {
        "GATEWAY_CONFIG": str(folder / "gateway.toml"),
        "LOG_LEVEL": "warning",
        "RTP_PORT_RANGE": "20000-29999",
    }
    async with gateway(folder, **settings) as running:
        answering = await start_sipp("uas_gateway_ends", folder / "uas", callee)
        try:
            await asyncio.sleep(0.5)
            before = cpu_of(running.process.pid)
            limits = ["-r", str(rate), "-m", str(calls), "-l", "20000", "-timeout", "300"]
            target = f"{running.sip[0]}:{running.sip[1]}"
            calling = await start_sipp("uac_caller_ends", folder / "uac", free_port(), *limits, target)
            await calling.wait()
            await settle(running)
            spent = cpu_of(running.process.pid) - before
        finally:
            await stop(answering)
        seen = totals(folder / "uac")
        return {
            "bench": "calls through the gateway",
            "rate": rate,
            "calls": calls,
            **seen,
            "cpu_ms_per_call": round(spent.total * 1000 / calls, 3),
            "user_ms_per_call": round(spent.user * 1000 / calls, 3),
            "rss_mib": round(resident_mib(running.process.pid), 1),
        }
