"""What every test session does."""

from collections.abc import Iterator

import pytest

from tests.interop.gateway import remove_databases

TOGETHER = {"test_dialogs.py": "lasting", "test_sessions.py": "lasting"}
"""Files whose tests share more than their module's fixtures."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests in one process, where several processes share the work."""
    for item in items:
        group = TOGETHER.get(item.path.name, str(item.path))
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session", autouse=True)
def nothing_stays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Databases of gateways that were tested, out of reach of pytest's own tidying."""
    yield
    remove_databases(tmp_path_factory.getbasetemp())
