"""One gateway for most tests; every test must give back what it took."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.interop.gateway import Gateway, gateway

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """A development gateway: every connected browser rings."""
    async with gateway(tmp_path_factory.mktemp("gateway")) as running:
        before = await running.use()
        yield running
        await running.settled(before, 45, transactions=True)


@pytest_asyncio.fixture(loop_scope="session")
async def running(shared_gateway: Gateway, tmp_path: Path) -> AsyncIterator[Gateway]:
    """The shared gateway; fails the test that leaves a port, a leg or a descriptor behind."""
    before = await shared_gateway.use()
    yield shared_gateway
    await shared_gateway.settled(before)
