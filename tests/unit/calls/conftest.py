"""Each test gets a world in virtual time and, at its end, the proof that nothing of it is left."""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import structlog

from tests.unit.calls.virtual import VirtualLoop
from tests.unit.calls.world import World


def pytest_asyncio_loop_factories(config: object, item: object) -> dict[str, Callable[[], VirtualLoop]]:
    """Every test here runs in virtual time."""
    return {"virtual": VirtualLoop}


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """Tracebacks that tests provoke go nowhere, and quickly."""
    structlog.configure(
        processors=[structlog.processors.KeyValueRenderer()], logger_factory=structlog.ReturnLoggerFactory()
    )
    yield
    structlog.reset_defaults()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A manager among fakes, checked at the end."""
    world = World()
    yield world
    await world.check_end()
