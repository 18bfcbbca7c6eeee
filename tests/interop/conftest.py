"""One gateway for most tests; every test must give back what it took."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.interop.carriers import Carriers, between_carriers
from tests.interop.gateway import Gateway, gateway
from tests.interop.lasting import SCRIPTS, Lasting, lasting_calls

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


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def carriers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Carriers]:
    """One gateway between carriers for all tests of dialogs and sessions."""
    async with between_carriers(tmp_path_factory.mktemp("carriers"), *SCRIPTS) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def lasting(carriers: Carriers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lasting]:
    """Calls of a minute: begun with the first test that names them, asked about by the last."""
    async with lasting_calls(carriers, tmp_path_factory.mktemp("lasting")) as running:
        yield running
