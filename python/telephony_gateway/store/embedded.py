"""The embedded PostgreSQL: one server of our own for a gateway whose POSTGRES_URL is unset.

It listens on a Unix socket in a folder that only its user enters, never on the network; it dies with the
gateway (PR_SET_PDEATHSIG) and is started again should it fail. The data survive both. One gateway per data
folder: a lock says who came first.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import structlog

from telephony_gateway.errors import ConfigError, StoreUnavailable
from telephony_gateway.store.account import Account, other_homes, own_folder, server_account
from telephony_gateway.store.binaries import find_binaries

log = structlog.get_logger(__name__)

START_TIMEOUT = 60.0
"""Crash recovery of a large log takes a while."""
LOCK_PATIENCE = 10.0
"""After a kill -9 of gateway and server, the children of the old server may live a few seconds longer."""
_LOG_LIMIT = 4 << 20
_SOCKET_PATH_LIMIT = 107  # sockaddr_un.sun_path less its end, unix(7)
_HELD = ("lock file", "is already in use", "pre-existing shared memory block")

# Call records: durable (fsync and synchronous_commit stay on), few connections, little memory, no parallel
# plans.
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
    """Starts, watches and stops the server whose data lie under `data_dir`; drive it from the main thread's
    loop.
    """

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
        return f"postgresql://postgres@/postgres?host={quote(str(self._sockets), safe='/')}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> str:
        """Bring the server up (making its data folder on the first start) and return the dsn."""
        self._claim()
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

    def _claim(self) -> None:
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._data_dir / "postgres.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError("DATA_DIR", f"{self._data_dir} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 20, 0).decode(errors="replace").strip()
            os.close(lock)
            fix = f"{self._data_dir} is in use by another gateway (process {holder}); choose another folder"
            raise ConfigError("DATA_DIR", fix) from None
        os.truncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    async def _prepare(self) -> None:
        self._account = server_account(self._data_dir / "postgres")
        self._home = self._find_home(self._account)
        self._data = self._home / "data"
        self._sockets = self._socket_folder()
        self._binaries = await asyncio.to_thread(
            find_binaries, self._bin_dir, self._account, self._data_major()
        )
        if self._data_major() is None:
            await self._initialise()

    def _find_home(self, account: Account) -> Path:
        """`DATA_DIR/postgres`, or the place that `DATA_DIR/postgres.location` names because the server's
        user cannot reach it.
        """
        pointer = self._data_dir / "postgres.location"
        home = Path(pointer.read_text().strip()) if pointer.exists() else self._data_dir / "postgres"
        if own_folder(home, account):
            return home
        if (home / "data").exists():
            raise ConfigError(
                "DATA_DIR",
                f"the user {account.name} may not use {home}; start the gateway as the folder's owner",
            )
        for other in other_homes():
            elsewhere = Path(tempfile.mkdtemp(prefix="postgres-", dir=other))
            if own_folder(elsewhere, account):
                with contextlib.suppress(OSError):
                    home.rmdir()
                pointer.write_text(f"{elsewhere}\n")
                log.warning(
                    "data folder out of reach",
                    setting="DATA_DIR",
                    user=account.name,
                    wanted=str(home),
                    used=str(elsewhere),
                )
                return elsewhere
        raise ConfigError("DATA_DIR", f"the user {account.name} can use neither {home} nor any other folder")

    def _socket_folder(self) -> Path:
        """Beside the data, or, where that path is too long for a socket, a short one in the folder for
        temporary files.
        """
        folder = self._home / "run"
        if len(os.fsencode(folder / ".s.PGSQL.5432.lock")) > _SOCKET_PATH_LIMIT:
            name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
            folder = Path(tempfile.gettempdir()) / f"telephony-gateway-{name}"
        if not own_folder(folder, self._account):
            raise ConfigError(
                "DATA_DIR", f"{folder} cannot be made a private folder of the user {self._account.name}"
            )
        return folder

    def _data_major(self) -> int | None:
        try:
            return int((self._data / "PG_VERSION").read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ConfigError(
                "DATA_DIR", f"{self._data} is not a sound PostgreSQL folder: {error}"
            ) from error

    async def _initialise(self) -> None:
        """initdb into a folder beside, then one rename: an interrupted first start leaves nothing half
        made.
        """
        unfinished = self._home / "data.new"
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
                "DATA_DIR", f"initdb failed in {self._home}: {output.decode(errors='replace').strip()[-500:]}"
            )
        unfinished.rename(self._data)

    def _spawn(self, command: list[str], output: int) -> subprocess.Popen[bytes]:
        """In this thread, which must be the main one: the kernel ends the child when the thread that made
        it ends.
        """
        launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("_launch.py"))]
        identity = [str(os.getpid()), str(self._account.uid), str(self._account.gid)]
        # A session of its own: Ctrl-C is for the gateway, which stops the server when the last record is
        # written.
        return subprocess.Popen(
            launcher + identity + command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            start_new_session=True,
        )

    async def _launch(self) -> None:
        """Start the server and wait until it accepts connections; wait for a dying predecessor to let go of
        the data.
        """
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
        output = os.open(self._log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._process = self._spawn(self._command(), output)
        finally:
            os.close(output)
        return await self._becomes_ready(self._process)

    def _clear_stale_lock(self) -> None:
        """After a power cut the pid in postmaster.pid may be another program's by now, for which the server
        would wait in vain. We hold the folder's lock, so what is not a living postgres is no server of it.
        """
        pid = next(iter(self._pid_file()), "").strip()
        if pid and not _is_postgres(pid):
            log.warning("stale lock of embedded postgres removed", pid=pid)
            (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _command(self) -> list[str]:
        settings = {**self._settings, "unix_socket_directories": str(self._sockets)}
        if self._binaries.major >= 18:  # asynchronous reads are for large tables on idle cores
            settings["io_method"] = "sync"
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [self._binaries.postgres, "-D", str(self._data), *options]

    async def _becomes_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """The eighth line of postmaster.pid is `ready` once the server with the pid of the first line
        accepts connections.
        """
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
            return (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []

    @property
    def _log_path(self) -> Path:
        return self._home / "postgres.log"

    def _trim_log(self) -> int:
        """Start a new log when the old one has grown; returns where the coming lines begin."""
        try:
            size = self._log_path.stat().st_size
        except FileNotFoundError:
            return 0
        if size > _LOG_LIMIT:
            self._log_path.replace(self._log_path.with_suffix(".log.1"))
            return 0
        return size

    def _log_tail(self) -> str:
        with self._log_path.open("rb") as lines:
            lines.seek(self._log_start)
            return lines.read(64 << 10).decode(errors="replace").strip()[-1000:]

    async def _keep_alive(self) -> None:
        """Start the server again when it ends without being asked to; the store's writer waits and tries
        again meanwhile.
        """
        pause = 0.5
        while self._process is not None:
            status = await _exit_of(self._process)
            log.error("embedded postgres ended, starting it again", exit_status=status, pid=self._process.pid)
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
