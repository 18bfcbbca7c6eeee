"""The first signal asks, the second forces; during the start the first one cancels."""

import asyncio
import os
import signal

import pytest

from telephony_gateway.signals import StopSignals


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_first_asks_second_forces(number: signal.Signals) -> None:
    task: asyncio.Task[int] = asyncio.create_task(asyncio.sleep(60, 0))
    signals = StopSignals(task)
    try:
        signals.started()
        os.kill(os.getpid(), number)
        await turn()
        assert (signals.asked.is_set(), signals.forced.is_set(), task.done()) == (True, False, False)
        os.kill(os.getpid(), number)
        await turn()
        assert signals.forced.is_set()
    finally:
        signals.close()
        task.cancel()


async def test_a_signal_cancels_the_start() -> None:
    task: asyncio.Task[int] = asyncio.create_task(asyncio.sleep(60, 0))
    signals = StopSignals(task)
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        await turn()
        assert task.cancelled()
        assert signals.asked.is_set()
    finally:
        signals.close()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
