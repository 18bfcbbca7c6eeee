"""The embedded PostgreSQL: one server of our own for a gateway whose POSTGRES_URL is unset.

It listens on a Unix socket in a folder that only its user enters, never on the network; it dies with the
gateway (PR_SET_PDEATHSIG) and is started again should it fail. The data survive both. One gateway per data
folder: a lock says who came first.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import structlog

from telephony_gateway.errors import ConfigError, StoreUnavailable
from telephony_gateway.store.binaries import find_binaries
from telephony_gateway.store.folders import claim, prepare

log = structlog.get_logger(__name__)

START_TIMEOUT = 60.0
"""Crash recovery of a large log takes a while."""
LOCK_PATIENCE = 10.0
"""After a kill -9 of gateway and server, the children of the old server may live a few seconds longer."""
_LOG_LIMIT = 4 << 20
_HELD = ("lock file", "is already in use", "pre-existing shared memory block")

# For call records: durable (fsync and synchronous_commit stay on), few connections, little memory.
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "40",
    "shared_buffers": "32MB",
    "huge_pages": "off",
    "max_wal_size": "512MB",
    "checkpoint_timeout": "15min",
    "max_worker_processes": "2",
    "max_parallel_workers": "0",
    "max_logical_replication_workers": "0",
    "autovacuum_max_workers": "1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] ",
}


class EmbeddedPostgres:
    """Starts, watches and stops the server of one DATA_DIR; drive it from the main thread's loop."""

    def __init__(
        self,
        data_dir: Path,
        *,
        bin_dir: Path | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
        stop_timeout: float = 10.0,
    ) -> None:
        self._settings = {**_SETTINGS, **settings}
        self._data_dir = data_dir.absolute()
        self._bin_dir = bin_dir
        self._stop_timeout = stop_timeout
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def dsn(self) -> str:
        """How to connect; valid after `start`."""
        return f"postgresql://postgres@/postgres?host={quote(str(self._folders.sockets), safe='/')}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> str:
        """Bring the server up (making its data folder on the first start) and return the dsn."""
        self._lock = claim(self._data_dir)
        try:
            await self._prepare()
            await self._launch()
        except BaseException:
            await self.stop()
            raise
        self._watch = asyncio.create_task(self._keep_alive(), name="embedded-postgres")
        return self.dsn

    async def stop(self) -> None:
        """Fast shutdown (SIGINT: clients are cut, data are written), then let go of the lock; idempotent."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None
        await self._end_process()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _prepare(self) -> None:
        self._folders = prepare(self._data_dir)
        major = self._folders.data_major()
        self._binaries = await asyncio.to_thread(find_binaries, self._bin_dir, self._folders.account, major)
        if major is None:
            await self._initialise()

    async def _initialise(self) -> None:
        """Make the data beside, then rename: an interrupted first start leaves nothing half made."""
        unfinished = self._folders.home / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        locale = ["--locale=C.UTF-8"]
        if self._binaries.major >= 17:  # built in: no locale needs to be installed
            locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command = [
            self._binaries.initdb,
            "--pgdata",
            str(unfinished),
            "--username=postgres",
            "--encoding=UTF8",
            *locale,
        ]
        command += ["--auth-local=trust", "--auth-host=reject", "--no-instructions"]
        process = self._spawn(command, subprocess.PIPE)
        output, _ = await asyncio.to_thread(process.communicate)
        if process.returncode != 0:
            raise ConfigError(
                "DATA_DIR",
                f"initdb failed in {self._folders.home}: {output.decode(errors='replace').strip()[-500:]}",
            )
        unfinished.rename(self._folders.data)

    def _spawn(self, command: list[str], output: int) -> subprocess.Popen[bytes]:
        """In the main thread: the kernel ends the child with the thread that made it (PR_SET_PDEATHSIG)."""
        launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("_launch.py"))]
        identity = [str(os.getpid()), str(self._folders.account.uid), str(self._folders.account.gid)]
        # A session of its own: Ctrl-C is for the gateway, which stops the server after the last record.
        return subprocess.Popen(
            launcher + identity + command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            start_new_session=True,
        )

    async def _launch(self) -> None:
        """Start the server until it accepts connections; a dying predecessor may hold the data a while."""
        patience = time.monotonic() + LOCK_PATIENCE
        while not await self._launch_once():
            lines = self._log_tail()
            if not any(word in lines for word in _HELD) or time.monotonic() > patience:
                raise StoreUnavailable(
                    f"the embedded PostgreSQL did not start (DATA_DIR {self._data_dir}): {lines}"
                )
            await asyncio.sleep(0.2)

    async def _launch_once(self) -> bool:
        self._clear_stale_lock()
        self._log_start = self._trim_log()
        output = os.open(self._folders.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._process = self._spawn(self._command(), output)
        finally:
            os.close(output)
        return await self._becomes_ready(self._process)

    def _clear_stale_lock(self) -> None:
        """Take away a postmaster.pid whose pid is another program's by now, as happens after a power cut.

        The server would wait for it in vain; another gateway's server it cannot be, for we hold the lock.
        """
        pid = next(iter(self._pid_file()), "").strip()
        if pid and not _is_postgres(pid):
            log.warning("stale lock of embedded postgres removed", pid=pid)
            (self._folders.data / "postmaster.pid").unlink(missing_ok=True)

    def _command(self) -> list[str]:
        settings = {**self._settings, "unix_socket_directories": str(self._folders.sockets)}
        if self._binaries.major >= 18:  # asynchronous reads are for large tables on idle cores
            settings["io_method"] = "sync"
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [self._binaries.postgres, "-D", str(self._folders.data), *options]

    async def _becomes_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """True once postmaster.pid has this process in its first line and `ready` in its eighth."""
        deadline = time.monotonic() + START_TIMEOUT
        while process.poll() is None:
            lines = self._pid_file()
            if len(lines) >= 8 and lines[0].strip() == str(process.pid) and lines[7].strip() == "ready":
                return True
            if time.monotonic() > deadline:
                raise StoreUnavailable(
                    f"the embedded PostgreSQL is not ready after {START_TIMEOUT:.0f} s: {self._log_tail()}"
                )
            await asyncio.sleep(0.01)
        return False

    def _pid_file(self) -> list[str]:
        try:
            return (self._folders.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []

    def _trim_log(self) -> int:
        """Start a new log when the old one has grown; returns where the coming lines begin."""
        try:
            size = self._folders.log.stat().st_size
        except FileNotFoundError:
            return 0
        if size > _LOG_LIMIT:
            self._folders.log.replace(self._folders.log.with_suffix(".log.1"))
            return 0
        return size

    def _log_tail(self) -> str:
        with self._folders.log.open("rb") as lines:
            lines.seek(self._log_start)
            return lines.read(64 << 10).decode(errors="replace").strip()[-1000:]

    async def _keep_alive(self) -> None:
        """Start the server again when it ends without being asked to; the store's writer waits meanwhile."""
        pause = 0.5
        while self._process is not None:
            status = await _exit_of(self._process)
            log.error("embedded postgres ended, starting it again", exit_status=status, pid=self._process.pid)
            await asyncio.sleep(0.2)
            while True:
                try:
                    await self._launch()
                    break
                except (StoreUnavailable, OSError) as error:
                    log.error("embedded postgres does not start", error=str(error), retry_in=pause)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 30.0)
            pause = 0.5

    async def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for ending in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            if process.poll() is not None:
                return
            process.send_signal(ending)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(_exit_of(process), self._stop_timeout)
                return
            log.warning("embedded postgres does not stop", signal=ending.name, pid=process.pid)


def _is_postgres(pid: str) -> bool:
    """False for a process that surely is something else, or dead and not yet buried."""
    try:
        name, _, state = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return True  # gone: the server finds that out itself, and looks for its predecessor's children
    return name == "postgres" and not state.startswith(" Z")


async def _exit_of(process: subprocess.Popen[bytes]) -> int:
    """Wait for the exit without a thread or a signal handler: a pidfd turns readable."""
    if process.poll() is not None:
        return process.returncode
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    descriptor = os.pidfd_open(process.pid)
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return process.wait()
