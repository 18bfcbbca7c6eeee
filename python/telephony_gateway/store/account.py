"""Who runs the embedded server, and which folders this user can reach.

PostgreSQL refuses to run as root. When the gateway is root the server runs as the owner of its data, else
as `postgres`, else as `nobody`; a folder that this user cannot reach (a clone under /root, say) is then no
place for its data or its programs.
"""

import os
import pwd
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from telephony_gateway.errors import ConfigError

_CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """The user a server process runs as."""

    uid: int
    gid: int
    name: str

    def can_reach(self, path: Path) -> bool:
        """Whether every folder above `path` lets this user through, and `path` itself can be read and
        entered.
        """
        resolved = path.resolve()
        return all(self._may(folder, 0o1) for folder in resolved.parents) and self._may(resolved, 0o5)

    def _may(self, path: Path, bits: int) -> bool:
        try:
            status = path.stat()
        except OSError:
            return False
        if self.uid == 0:
            return True
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid == self.gid else 0
        return (status.st_mode >> shift) & bits == bits


def current_account() -> Account:
    """The user the gateway itself runs as."""
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return Account(uid, os.getegid(), name)


def server_account(data: Path) -> Account:
    """The user for the server whose data lie (or will lie) in `data`."""
    if os.geteuid() != 0:
        return _nameable(current_account())
    owner = _owner(data)
    for found in ([owner] if owner else []) + [_named(name) for name in _CANDIDATES]:
        if found is not None and found.uid != 0:
            return found
    raise ConfigError(
        "POSTGRES_URL",
        "PostgreSQL refuses to run as root and there is no user `postgres` or `nobody`; "
        "start the gateway as another user or name a database server",
    )


def _nameable(account: Account) -> Account:
    if account.name.isdecimal():
        raise ConfigError(
            "POSTGRES_URL",
            f"PostgreSQL will not run as user {account.uid}, which has no name in /etc/passwd; "
            "start the gateway as a user with a name or name a database server",
        )
    return account


def _owner(path: Path) -> Account | None:
    try:
        entry = pwd.getpwuid(path.stat().st_uid)
    except (OSError, KeyError):
        return None
    return Account(entry.pw_uid, entry.pw_gid, entry.pw_name)


def _named(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(entry.pw_uid, entry.pw_gid, entry.pw_name)


def own_folder(path: Path, account: Account) -> bool:
    """Make `path` a folder that only `account` enters (0700); False where the file system or a folder above
    does not let it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(path, account.uid, account.gid)
        path.chmod(0o700)
        status = path.lstat()
    except OSError:
        return False
    private = (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == account.uid
        and stat.S_IMODE(status.st_mode) == 0o700
    )
    return private and account.can_reach(path)


def other_homes() -> Iterator[Path]:
    """Folders of ours outside DATA_DIR that others may pass through, best first; the last is lost at a
    reboot.
    """
    for home in (_lasting_home(), Path(tempfile.gettempdir()) / f"telephony-gateway-{os.geteuid()}"):
        try:
            home.mkdir(mode=0o755, parents=True, exist_ok=True)
            # Someone else may have made a folder of this name in /tmp: theirs is no home of ours.
            if home.lstat().st_uid == os.geteuid() and not home.is_symlink():
                home.chmod(0o755)
                yield home
        except OSError:
            continue


def _lasting_home() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/telephony-gateway")
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "telephony-gateway"
