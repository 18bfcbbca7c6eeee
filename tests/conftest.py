"""What every test session does."""

from collections.abc import Iterator

import pytest

from tests.interop.gateway import remove_databases


@pytest.fixture(scope="session", autouse=True)
def nothing_stays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Databases of gateways that were tested, out of reach of pytest's own tidying."""
    yield
    remove_databases(tmp_path_factory.getbasetemp())
