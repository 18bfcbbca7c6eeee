"""Real services for the tests that need them: one PostgreSQL per session, a fresh database per test, one
Redis.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from telephony_gateway.store import EmbeddedPostgres, PostgresStore
from telephony_gateway.store.migrate import migrate
from tests.ports import free_port

TEMPLATE = "telephony_template"


def database_url(server: str, name: str) -> str:
    """The dsn of another database of the same server."""
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))


async def _make_template(server: str) -> None:
    connection = await asyncpg.connect(server)
    await connection.execute(f"CREATE DATABASE {TEMPLATE}")
    await connection.close()
    connection = await asyncpg.connect(database_url(server, TEMPLATE))
    await migrate(connection)
    await connection.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The dsn of a server of our own, with a migrated template in it."""
    folder = Path(tempfile.mkdtemp(prefix="tg-test-"))
    folder.chmod(0o755)
    # A loop that only the server's watcher uses: the tests each have their own.
    with asyncio.Runner() as runner:
        server = EmbeddedPostgres(folder, settings={"fsync": "off"})
        dsn = runner.run(server.start())
        try:
            runner.run(_make_template(dsn))
            yield dsn
        finally:
            runner.run(server.stop())
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def postgres_url(postgres_server: str) -> AsyncIterator[str]:
    """A fresh, migrated database, gone after the test."""
    name = f"test_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(postgres_server)
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
    try:
        yield database_url(postgres_server, name)
    finally:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    """An open store on a fresh database."""
    opened = PostgresStore(postgres_url)
    await opened.start()
    try:
        yield opened
    finally:
        await opened.close()


class RedisServer:
    """A redis-server of our own that can be stopped, frozen and started again on its port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self._folder)]
        self._process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), *options], stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
                return
            time.sleep(0.02)
        raise RuntimeError("redis-server did not start")

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(10)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that several tests share; a test that stops it makes its own."""
    if shutil.which("redis-server") is None:
        assert "CI" not in os.environ, "redis-server is not installed: `make test` installs it"
        pytest.skip("redis-server is not installed")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The shared Redis, emptied."""
    with socket.create_connection(("127.0.0.1", redis_server.port), 2) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        connection.recv(64)
    return redis_server.url


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that the test may stop, freeze and start again."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()
