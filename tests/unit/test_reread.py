"""Reading `gateway.toml` again: all of it, or nothing, and the log says why."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from telephony_gateway import reread
from telephony_gateway.calls.plan import Plan
from telephony_gateway.config import environment
from telephony_gateway.errors import Invalid
from telephony_gateway.reread import Rereading

GOOD = '[[trunks]]\nname = "a"\nusername = "u"\npassword_env = "A_SECRET"\n'


@pytest.fixture
def said() -> Iterator[LogCapture]:
    capture = LogCapture()
    structlog.configure(processors=[capture])
    yield capture
    structlog.reset_defaults()


class Gateway:
    """Takes plans."""

    def __init__(self) -> None:
        self.taken: list[tuple[Plan, Mapping[str, str]]] = []
        self.fault: Exception | None = None

    async def take(self, plan: Plan, environ: Mapping[str, str]) -> None:
        if self.fault is not None:
            raise self.fault
        self.taken.append((plan, environ))


@contextlib.asynccontextmanager
async def following(path: Path | None, gateway: Gateway) -> Any:
    asked = asyncio.Event()
    task = asyncio.create_task(Rereading(path, gateway.take).follow(asked))
    yield asked
    assert not task.done(), "whatever happens, it can be asked again"
    task.cancel()


async def told(capture: LogCapture, count: int) -> list[Any]:
    async with asyncio.timeout(5):
        while len(capture.entries) < count:
            await asyncio.sleep(0.01)
    return list(capture.entries)


async def test_the_file_and_its_secrets_are_read_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: LogCapture
) -> None:
    monkeypatch.chdir(tmp_path)
    path, gateway = tmp_path / "gateway.toml", Gateway()
    async with following(path, gateway) as asked:
        path.write_text(GOOD)
        asked.set()
        (refused,) = await told(said, 1)
        assert "A_SECRET" in refused["faults"][0]
        assert gateway.taken == []
        (tmp_path / ".env").write_text("A_SECRET=wonderland\n")
        asked.set()
        taken = (await told(said, 2))[1]
        assert (taken["event"], taken["trunks"]) == ("gateway.toml read anew", 1)
        assert gateway.taken[0][1]["A_SECRET"] == "wonderland"
        path.write_text("[[trunks]]\nname = 'a'\nadresses = []\n[[routes]]\nname = 'r'\n")
        asked.set()
        refused = (await told(said, 3))[2]
        assert (refused["log_level"], refused["count"]) == ("error", 2)
        path.unlink()
        asked.set()
        assert "cannot be read" in (await told(said, 4))[3]["faults"][0]
    assert len(gateway.taken) == 1
    assert "wonderland" not in str(said.entries)


@pytest.mark.parametrize("fault", [Invalid("no certificate"), RuntimeError("a fault"), TimeoutError()])
async def test_what_is_not_taken_is_told(tmp_path: Path, said: LogCapture, fault: Exception) -> None:
    path, gateway = tmp_path / "gateway.toml", Gateway()
    path.write_text("")
    gateway.fault = fault
    async with following(path, gateway) as asked:
        asked.set()
        assert (await told(said, 1))[0]["log_level"] == "error"
        gateway.fault = None
        asked.set()
        assert (await told(said, 2))[1]["log_level"] == "info"


async def test_without_a_file_there_is_nothing_to_read(said: LogCapture) -> None:
    async with following(None, Gateway()) as asked:
        asked.set()
        assert "GATEWAY_CONFIG" in (await told(said, 1))[0]["event"]
    assert reread.PATIENCE < 60


def test_the_environment_stands_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("A=file\nB=file\nEMPTY\n")
    monkeypatch.setenv("A", "environment")
    found = environment()
    assert (found["A"], found["B"], "EMPTY" in found) == ("environment", "file", False)
