"""Every figure of the project, one JSON line each: `python -m benches.run [--once] [NAME ...]`.

Names: micro (Rust loops, with callgrind instruction counts), boundary (one crossing into Python), store,
calls (CPU per call of the whole gateway between two SIPps), surge (700 calls/s for a minute), drift (memory
over 100,000 calls), trying (INVITE to 100 under load), media (CPU per call-second). `--once` runs each once:
it proves that the benches work, its figures mean nothing.
"""

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benches.load import calls, media

ROOT = Path(__file__).resolve().parents[1]
MESSAGE = ROOT / "tests/vectors/invite_1200.sip"
Figure = dict[str, Any]


def binary(name: str) -> Path:
    """A release binary of the benches crate."""
    return ROOT / "target/release" / name


def output(*command: str | Path) -> str:
    """What a bounded command prints."""
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=900).stdout


def instructions(*command: str | Path) -> int:
    """Instructions executed by one run, as callgrind counts them."""
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=900,
    )
    return int(re.findall(r"Collected : (\d+)", done.stderr)[0])


def per_round(rounds: int, *command: str | Path, after: tuple[str, ...] = ()) -> float:
    """Instructions of one more round: two runs subtracted, so that start-up does not count."""
    twice, once = (instructions(*command, str(many), *after) for many in (2 * rounds, rounds))
    return (twice - once) / rounds


def parse(once: bool, *body: str) -> Figure:
    """An INVITE to its routing keys, with every check; with `sdp`, its body too."""
    nanoseconds = float(output(binary("parse"), MESSAGE, str(2_000 if once else 200_000), *body))
    counted = per_round(200 if once else 2_000, binary("parse"), MESSAGE, after=body)
    figure, size = "_".join(("sip.parse_invite", *body)), MESSAGE.stat().st_size
    return {"figure": figure, "bytes": size, "ns": nanoseconds, "instructions": round(counted)}


def lingering(once: bool) -> Figure:
    """Heap of one call that is over, at both its ends, while its transactions wait for repetitions."""
    calls = 200 if once else 3_000
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "massif"
        # At a million calls a virtual second, none of them is forgotten before the last one is over.
        output(
            "valgrind",
            "--tool=massif",
            f"--massif-out-file={report}",
            binary("virtual_calls"),
            str(calls),
            "1000000",
        )
        heap, extra = (
            [int(size) for size in re.findall(rf"^{field}=(\d+)$", report.read_text(), re.MULTILINE)]
            for field in ("mem_heap_B", "mem_heap_extra_B")
        )
    peak = max(own + beside for own, beside in zip(heap, extra, strict=True))
    return {"figure": "sip.lingering_call", "calls": calls, "bytes": round(peak / calls)}


def counted(name: str, case: str, once: bool) -> Figure:
    """One loop of the benches crate: wall time and instructions of one round."""
    many = {"relay": 512_000, "transcode": 10_000}[name]
    few = {"relay": 6_400, "transcode": 100}[name]
    figure: Figure = json.loads(output(binary(name), case, str(few if once else many)))
    return figure | {"instructions": round(per_round(few, binary(name), case))}


def micro(once: bool) -> Iterator[Figure]:
    """The Rust loops: parse, one virtual call and the memory it leaves, SRTP, relay, transcode."""
    subprocess.run(
        ["cargo", "build", "--release", "--quiet", "-p", "telephony-benches"], cwd=ROOT, check=True
    )
    yield parse(once)
    yield parse(once, "sdp")
    calls_each = 200 if once else 2_000
    figure: Figure = json.loads(output(binary("virtual_calls"), str(500 if once else 100_000)))
    yield figure | {"instructions": round(per_round(calls_each, binary("virtual_calls")))}
    yield lingering(once)
    for line in output(binary("srtp"), "1" if once else "20").splitlines():
        yield json.loads(line)
    for case in ["rtp-rtp", "law-law", "rtp-srtp", "srtp-rtp"]:
        yield counted("relay", case, once)
    for case in ["opus-pcmu", "pcmu-opus"]:
        yield counted("transcode", case, once)


def boundary(once: bool) -> Iterator[Figure]:
    """One crossing into Python, by pytest-benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        brief = ["--benchmark-disable-gc", "--benchmark-min-rounds=5"] + (
            ["--benchmark-max-time=0.05"] if once else []
        )
        pytest = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "benches/bench_boundary.py",
            f"--benchmark-json={report}",
        ]
        output(*pytest, *brief)
        for bench in json.loads(report.read_text())["benchmarks"]:
            yield {
                "figure": f"boundary.{bench['name']}",
                "us_median": round(bench["stats"]["median"] * 1e6, 2),
            }


def store(once: bool) -> Iterator[Figure]:
    """What a recorded call costs."""
    arguments = ["--once"] if once else []
    for line in output(sys.executable, "-m", "benches.bench_store", *arguments).splitlines():
        if line.startswith("{"):  # the rest is the store's own log
            yield json.loads(line)


def whole_calls(once: bool) -> Iterator[Figure]:
    """CPU per call of the whole gateway."""
    for rate, number in [(20, 40)] if once else [(40, 1_200), (200, 6_000), (400, 12_000)]:
        with tempfile.TemporaryDirectory() as folder:
            yield asyncio.run(calls.measure(Path(folder), rate, number))


def surge(once: bool) -> Iterator[Figure]:
    """A minute at 700 calls/s: no call may fail, nothing may be sent twice."""
    rate, number = (50, 50) if once else (700, 42_000)
    with tempfile.TemporaryDirectory() as folder:
        yield asyncio.run(calls.measure(Path(folder), rate, number))


def drift(once: bool) -> Iterator[Figure]:
    """Memory between call 20,000 and call 100,000."""
    rate, first, last = (50, 20, 50) if once else (500, 20_000, 100_000)
    with tempfile.TemporaryDirectory() as folder:
        yield asyncio.run(calls.drift(Path(folder), rate, first, last))


def trying(once: bool) -> Iterator[Figure]:
    """How soon 100 Trying is there at 400 calls/s."""
    rate, number = (50, 50) if once else (400, 12_000)
    with tempfile.TemporaryDirectory() as folder:
        yield asyncio.run(calls.trying(Path(folder), rate, number))


def call_seconds(once: bool) -> Iterator[Figure]:
    """CPU per second of a relayed and of a transcoded call."""
    for mode, number in [("relay", 40), ("transcode", 20)]:
        with tempfile.TemporaryDirectory() as folder:
            yield asyncio.run(media.measure(Path(folder), mode, 4 if once else number, 2 if once else 15))


BENCHES: dict[str, Callable[[bool], Iterator[Figure]]] = {
    "micro": micro,
    "boundary": boundary,
    "store": store,
    "calls": whole_calls,
    "surge": surge,
    "drift": drift,
    "trying": trying,
    "media": call_seconds,
}


def main() -> None:
    """Run the named benches, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], help="which benches; default: all")
    parser.add_argument("--once", action="store_true", help="briefly, to see that they work")
    asked = parser.parse_args()
    for name in asked.names or BENCHES:
        for figure in BENCHES[name](asked.once):
            print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    main()
