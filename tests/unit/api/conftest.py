"""A gateway for each test, and the proof that no task outlives it."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import structlog

from tests.unit.api.world import KEY, World, world


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """Logs of the face go nowhere, unless a test captures them."""
    structlog.configure(
        processors=[structlog.processors.KeyValueRenderer()], logger_factory=structlog.ReturnLoggerFactory()
    )
    yield
    structlog.reset_defaults()


@pytest.fixture
async def no_leak() -> AsyncIterator[None]:
    """Every task of the gateway ends with it."""
    before = asyncio.all_tasks()
    yield
    for _ in range(150):
        left = [
            task
            for task in asyncio.all_tasks() - before
            if not (task.done() or task is asyncio.current_task())
        ]
        if not left:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"tasks left: {left}")


@pytest.fixture
async def gateway(no_leak: None) -> AsyncIterator[World]:
    """A development gateway: no keys."""
    async with world() as running:
        yield running


@pytest.fixture
async def guarded(no_leak: None) -> AsyncIterator[World]:
    """A production gateway: keys, and one foreign origin."""
    async with world(
        NODE_ENV="production", API_KEYS=f"other,{KEY}", CORS_ORIGINS="https://crm.example"
    ) as running:
        yield running
