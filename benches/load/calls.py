"""Whole gateway between two SIPps: INVITE, 180, 200, ACK, BYE, ports allocated, record written.

`measure` charges the gateway's CPU to the calls, `drift` watches its memory, `trying` how soon it says 100.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benches.load.probe import Probe
from benches.load.process import cpu_of, resident_mib
from tests.interop.gateway import Gateway, eventually, gateway, remove_databases
from tests.interop.peers import filled
from tests.ports import free_port

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
name = "closed"
match = {{ to = "^0000$" }}
target = {{ reject = 486 }}
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
    (folder / "scenario.xml").write_text(filled(text, **{"ring": 0, "hold": 0, **keys}))
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


@dataclass(frozen=True)
class Load:
    """A gateway and the SIPp that answers behind it."""

    running: Gateway
    folder: Path

    @property
    def pid(self) -> int:
        """Of the gateway; its database has others."""
        return self.running.process.pid

    async def call(self, rate: int, calls: int) -> dict[str, float]:
        """Run so many calls at `rate` a second, until the last is recorded; what the calling SIPp counted."""
        limits = ["-r", str(rate), "-m", str(calls), "-l", "20000", "-timeout", "400"]
        target = "{}:{}".format(*self.running.sip)
        folder = self.folder / f"uac{sum(1 for _ in self.folder.glob('uac*'))}"
        calling = await start_sipp("uac_caller_ends", folder, free_port(), *limits, target)
        try:
            await calling.wait()
        finally:
            await stop(calling)
        await settle(self.running)
        return totals(folder)


@contextlib.asynccontextmanager
async def load(folder: Path) -> AsyncIterator[Load]:
    """A gateway of its own that sends every call on to a SIPp."""
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
            yield Load(running, folder)
        finally:
            await stop(answering)
    remove_databases(folder)


async def measure(folder: Path, rate: int, calls: int) -> dict[str, Any]:
    """Run `calls` at `rate` a second through the gateway and charge its CPU to them."""
    async with load(folder) as loaded:
        before = cpu_of(loaded.pid)
        seen = await loaded.call(rate, calls)
        spent = cpu_of(loaded.pid) - before
        return {
            "bench": "calls through the gateway",
            "rate": rate,
            "calls": calls,
            **seen,
            "cpu_ms_per_call": round(spent.total * 1000 / calls, 3),
            "user_ms_per_call": round(spent.user * 1000 / calls, 3),
            "rss_mib": round(resident_mib(loaded.pid), 1),
        }


async def drift(folder: Path, rate: int, first: int, last: int) -> dict[str, Any]:
    """How much resident memory grows between call number `first` and call number `last`."""
    async with load(folder) as loaded:
        await loaded.call(rate, first)
        early = resident_mib(loaded.pid)
        seen = await loaded.call(rate, last - first)
        late = resident_mib(loaded.pid)
        return {
            "bench": "memory over calls",
            "rate": rate,
            "from_call": first,
            "to_call": last,
            **seen,
            "rss_mib_early": round(early, 2),
            "rss_mib_late": round(late, 2),
            "drift_mib": round(late - early, 2),
        }


async def trying(folder: Path, rate: int, calls: int) -> dict[str, Any]:
    """How soon an INVITE gets its 100 under load, seen by a socket of ours with the kernel's time stamps."""
    async with load(folder) as loaded:
        probe = Probe(loaded.running.sip)
        probing = asyncio.create_task(asyncio.to_thread(probe.run, calls / rate))
        seen = await loaded.call(rate, calls)
        waits = sorted(await probing)
        return {
            "bench": "INVITE to 100 Trying",
            "rate": rate,
            "calls": calls,
            **seen,
            "probes": len(waits),
            "unanswered": probe.unanswered,
            "p50_ms": round(waits[len(waits) // 2] * 1000, 3),
            "p99_ms": round(waits[len(waits) * 99 // 100] * 1000, 3),
            "max_ms": round(waits[-1] * 1000, 3),
        }
