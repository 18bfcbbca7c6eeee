"""The folders of the embedded server: whose they are, where they are, and who holds them.

`DATA_DIR/postgres` holds `data`, `run` (the socket) and `postgres.log`. Where the server's user cannot
reach it, `DATA_DIR/postgres.location` names another folder.
"""

import contextlib
import fcntl
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import structlog

from telephony_gateway.errors import ConfigError
from telephony_gateway.store.account import Account, other_homes, own_folder, server_account

log = structlog.get_logger(__name__)

_SOCKET_PATH_LIMIT = 107  # sockaddr_un.sun_path less its end, unix(7)


@dataclass(frozen=True)
class Folders:
    """Where one embedded server lives, and as whom."""

    account: Account
    home: Path
    sockets: Path

    @property
    def data(self) -> Path:
        """What initdb makes."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.home / "postgres.log"

    def data_major(self) -> int | None:
        """The version of the data, if there are any."""
        try:
            return int((self.data / "PG_VERSION").read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ConfigError("DATA_DIR", f"{self.data} is not a sound PostgreSQL folder: {error}") from error


def claim(data_dir: Path) -> int:
    """Lock the folder for this process; returns the descriptor that holds the lock until it is closed."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(data_dir / "postgres.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError("DATA_DIR", f"{data_dir} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode(errors="replace").strip()
        os.close(lock)
        fix = f"{data_dir} is in use by another gateway (process {holder}); choose another folder"
        raise ConfigError("DATA_DIR", fix) from None
    os.truncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def prepare(data_dir: Path) -> Folders:
    """Find or make the folders, and who they are for."""
    pointer = data_dir / "postgres.location"
    home = Path(pointer.read_text().strip()) if pointer.exists() else data_dir / "postgres"
    account = server_account(home)
    if not own_folder(home, account):
        home = _elsewhere(home, account, pointer)
    return Folders(account, home, _socket_folder(home, account))


def _elsewhere(home: Path, account: Account, pointer: Path) -> Path:
    if (home / "data").exists():
        fix = f"the user {account.name} may not use {home}; start the gateway as the folder's owner"
        raise ConfigError("DATA_DIR", fix)
    for other in other_homes():
        found = Path(tempfile.mkdtemp(prefix="postgres-", dir=other))
        if own_folder(found, account):
            with contextlib.suppress(OSError):
                home.rmdir()
            pointer.write_text(f"{found}\n")
            log.warning(
                "data folder out of reach",
                setting="DATA_DIR",
                user=account.name,
                wanted=str(home),
                used=str(found),
            )
            return found
    raise ConfigError("DATA_DIR", f"the user {account.name} can use neither {home} nor any other folder")


def _socket_folder(home: Path, account: Account) -> Path:
    """Beside the data, or in the folder for temporary files where that path is too long for a socket."""
    folder = home / "run"
    if len(os.fsencode(folder / ".s.PGSQL.5432.lock")) > _SOCKET_PATH_LIMIT:
        name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"telephony-gateway-{name}"
    if not own_folder(folder, account):
        raise ConfigError("DATA_DIR", f"{folder} cannot be made a private folder of the user {account.name}")
    return folder
