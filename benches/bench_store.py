"""What a recorded call costs: CPU of the gateway's process and of PostgreSQL, and how long the server takes
to start.

Run as `python -m benches.bench_store`; one JSON line a figure.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from benches.load.process import cpu_of
from telephony_gateway.calls.clock import SystemClock
from telephony_gateway.calls.ids import IdSource, Owner
from telephony_gateway.calls.model import Call, CallEvent, Ending, Leg, LegStats
from telephony_gateway.store import EmbeddedPostgres, PostgresStore
from telephony_gateway.telemetry import Metrics
from telephony_gateway.telemetry.masking import mask_event

COMPLETED = Ending(status="completed", cause="normal_clearing", source="caller")
STATS = LegStats(
    codec="PCMU", packets_received=500, packets_sent=500, bytes_received=80_000, bytes_sent=80_000
)


def whole_call(ids: IdSource) -> Iterator[tuple[Call, list[CallEvent]]]:
    """The records of a call that comes in, is answered and ends: five steps, of two legs."""
    now = datetime.now(UTC)
    legs = (Leg(id=ids.new(), kind="sip", side="caller"), Leg(id=ids.new(), kind="webrtc", side="callee"))
    call = Call(
        id=ids.new(),
        direction="inbound",
        status="queued",
        from_="+74951234567",
        to="+78001112233",
        trunk="carrier-a",
        route="sales",
        sip_call_id="1-4242@203.0.113.10",
        created_at=now,
        legs=legs,
    )
    call, events = call.initiated()
    yield call, list(events)
    for step, trigger in enumerate(("ring", "answer", "bridge"), 1):
        call, events = call.apply(trigger, now + timedelta(seconds=step))  # type: ignore[arg-type]
        yield call, list(events)
    ended = tuple(msgspec.structs.replace(leg, state="ended", codec="PCMU", stats=STATS) for leg in legs)
    call, events = msgspec.structs.replace(call, legs=ended).end(COMPLETED, now + timedelta(seconds=9))
    yield call, list(events)


def server_cpu(postmaster: int) -> float:
    """Seconds of the server and all its processes."""
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return sum(cpu_of(pid).total for pid in [postmaster, *map(int, children)])


async def record(store: PostgresStore, calls: list[list[tuple[Call, list[CallEvent]]]], rate: int) -> None:
    """Step by step at `rate` calls a second, the steps of many calls mixed as they are in life."""
    per_tick = max(1, rate // 100)
    waves = [calls[at : at + per_tick] for at in range(0, len(calls), per_tick)]
    began = time.monotonic()
    for tick in range(len(waves) + 4):
        for step in range(5):
            if 0 <= tick - step < len(waves):
                for steps in waves[tick - step]:
                    store.record(*steps[step])
        await asyncio.sleep(max(0.0, began + (tick + 1) / 100 - time.monotonic()))
    await store.flush(60)


async def measure_store(dsn: str, pid: int, rate: int, calls: int) -> dict[str, Any]:
    """CPU per call, of which the making of the values is no part."""
    store = PostgresStore(dsn)
    await store.start()
    ids = IdSource(Owner(1, 1), SystemClock())
    made = [list(whole_call(ids)) for _ in range(calls)]
    ours, theirs = time.process_time(), server_cpu(pid)
    await record(store, made, rate)
    ours, theirs = time.process_time() - ours, server_cpu(pid) - theirs
    stats = store.writer.stats
    await store.close()
    return {
        "bench": "call recorded",
        "rate": rate,
        "calls": calls,
        "records": stats.written,
        "records_per_batch": round(stats.written / stats.batches, 1),
        "gateway_cpu_us_per_call": round(ours / calls * 1e6, 1),
        "postgres_cpu_us_per_call": round(theirs / calls * 1e6, 1),
    }


async def measure_start(folder: Path) -> tuple[dict[str, Any], EmbeddedPostgres]:
    """The first start makes the data, the second finds them."""
    seconds = []
    for _ in range(2):
        server = EmbeddedPostgres(folder)
        began = time.perf_counter()
        await server.start()
        seconds.append(round(time.perf_counter() - began, 3))
        if len(seconds) < 2:
            await server.stop()
    return {"bench": "embedded server start", "cold_s": seconds[0], "warm_s": seconds[1]}, server


def micro(name: str, work: Callable[[], object], times: int) -> dict[str, Any]:
    """CPU of one run of `work`, the best of five rounds."""
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(times):
            work()
        best = min(best, (time.process_time() - began) / times)
    return {"bench": name, "us": round(best * 1e6, 2)}


def measure_telemetry(times: int) -> Iterator[dict[str, Any]]:
    """What the observers and the mask cost on the way of a call."""
    steps = list(whole_call(IdSource(Owner(1, 1), SystemClock())))
    metrics = Metrics()
    yield micro(
        "metrics of a call",
        lambda: [metrics.call_event(call, event) for call, events in steps for event in events],
        times,
    )
    event = {
        "event": "call.ringing",
        "call_id": str(steps[0][0].id),
        "sequence": 2,
        "status": "ringing",
        "level": "info",
    }
    yield micro("log line masked", lambda: mask_event(None, "info", dict(event)), times)


async def measure(*, once: bool) -> list[dict[str, Any]]:
    """Every figure; `once` only proves that they can be had."""
    figures = list(measure_telemetry(10 if once else 5000))
    with tempfile.TemporaryDirectory(prefix="tg-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        start, server = await measure_start(folder)
        figures.append(start)
        try:
            for rate, calls in [(100, 20)] if once else [(100, 1000), (400, 4000), (2000, 8000)]:
                figures.append(await measure_store(server.dsn, server.pid or 0, rate, calls))
        finally:
            await server.stop()
    return figures


def main() -> None:
    """Print the figures."""
    for figure in uvloop.run(measure(once="--once" in sys.argv)):
        print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    main()
