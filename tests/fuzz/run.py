"""Run every fuzz target for a while: `python tests/fuzz/run.py [seconds]`.

libFuzzer without a nightly compiler: the coverage pass is switched on by stable code generation options.
Seeds are the torture messages, where they are at hand; nothing found is kept but crashes.
"""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TARGET = ROOT / "target" / "fuzz"
TARGETS = ("message", "uri", "headers", "framer", "sdp", "digest", "endpoint")
COVERAGE = (
    "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 "
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table "
    "-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing"
)


def triple() -> str:
    """This machine, as rustc names it: named, it keeps the flags from build scripts, which have none."""
    said = subprocess.run(
        [os.environ.get("RUSTC", "rustc"), "-vV"], capture_output=True, text=True, check=True
    )
    return next(line.removeprefix("host: ") for line in said.stdout.splitlines() if line.startswith("host: "))


def build() -> Path:
    """Compile all targets; returns their folder."""
    host = triple()
    environment = {**os.environ, "RUSTFLAGS": COVERAGE, "CARGO_TARGET_DIR": str(TARGET)}
    command = [
        os.environ.get("CARGO", "cargo"),
        "build",
        "--release",
        "--locked",
        "--quiet",
        "--target",
        host,
    ]
    subprocess.run(command, cwd=HERE, env=environment, check=True)
    return TARGET / host / "release"


def seeds(folder: Path) -> None:
    """Starting points: torture messages, their header values, and a session description."""
    corpora = Path(os.environ.get("SIP_CORPUS_DIR", ROOT.parent / "shared" / "corpora"))
    files = sorted(corpora.glob("rfc4475/*")) + sorted(corpora.glob("rfc5118/*"))
    for number, file in enumerate(files):
        message = file.read_bytes()
        (folder / f"message{number}").write_bytes(message)
        (folder / f"deed{number}").write_bytes(b"\x07" + message)
        for line, text in enumerate(message.splitlines()):
            (folder / f"value{number}.{line}").write_bytes(text.partition(b":")[2].strip())
            (folder / f"uri{number}.{line}").write_bytes(text.partition(b"<")[2].partition(b">")[0])
        if b"v=0" in message:
            (folder / f"sdp{number}").write_bytes(b"v=0" + message.partition(b"v=0")[2])


def run(programs: Path, target: str, seconds: int) -> tuple[str, int, str]:
    """One target; returns its exit code and the end of what it said."""
    with tempfile.TemporaryDirectory() as work:
        corpus = Path(work) / "corpus"
        corpus.mkdir()
        seeds(corpus)
        limits = [f"-max_total_time={seconds}", "-max_len=4096", "-rss_limit_mb=2048", "-timeout=10"]
        crashes = TARGET / "crashes" / target
        crashes.mkdir(parents=True, exist_ok=True)
        command = [str(programs / target), str(corpus), f"-artifact_prefix={crashes}/", *limits]
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=seconds + 120
        )
        return target, done.returncode, done.stderr[-3000:]


def main() -> int:
    """Build, run two at a time, say what was found."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    programs = build()
    failed = 0
    with ThreadPoolExecutor(max_workers=2) as pool:
        for target, code, said in pool.map(lambda target: run(programs, target, seconds), TARGETS):
            runs = [line for line in said.splitlines() if line.startswith("Done ")]
            print(f"fuzz {target}: {'ok' if code == 0 else 'FAILED'} {runs[-1] if runs else ''}")
            if code:
                failed += 1
                print(said)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
