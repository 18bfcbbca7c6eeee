"""Migrations in dbmate's file format and with its `schema_migrations` table, so that `dbmate` works on the
same database.

Files are `migrations/<version>_<name>.sql` with the sections `-- migrate:up` and `-- migrate:down`; at the
start the gateway applies what is missing, in order, under an advisory lock (many nodes may start at once).
Beside each version stands the checksum of its file: a file changed after it was applied is an error, not a
surprise.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import asyncpg
import structlog

from telephony_gateway.errors import ConfigError

log = structlog.get_logger(__name__)

_LOCK = 0x7467_6D69_6772  # any number that no other program locks
_NAME = re.compile(r"(\d+)_(\w+)\.sql")
_SECTION = re.compile(r"^--\s*migrate:(up|down)([^\n]*)\n", re.MULTILINE)
# The column is ours; dbmate names the one it writes and leaves this NULL.
_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (version varchar(128) PRIMARY KEY);
ALTER TABLE schema_migrations ADD COLUMN IF NOT EXISTS checksum text;
"""


@dataclass(frozen=True)
class Migration:
    """One file."""

    version: str
    name: str
    up: str
    down: str
    checksum: str
    in_transaction: bool = True


def parse_migration(filename: str, text: str) -> Migration:
    """Read one file in dbmate's format."""
    name = _NAME.fullmatch(filename)
    parts = _SECTION.split(text)
    if name is None or len(parts) < 4 or parts[1] != "up":
        raise ValueError(
            f"{filename} is not a migration: <version>_<name>.sql with the section `-- migrate:up`"
        )
    down = parts[6] if len(parts) > 6 and parts[4] == "down" else ""
    checksum = hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()
    return Migration(name[1], name[2], parts[3], down, checksum, "transaction:false" not in parts[2])


def packaged_migrations() -> list[Migration]:
    """The migrations of this version of the gateway, in order."""
    folder = resources.files(__package__) / "migrations"
    files = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    return sorted(
        (parse_migration(file.name, file.read_text("utf-8")) for file in files),
        key=lambda found: found.version,
    )


async def migrate(connection: asyncpg.Connection, migrations: Sequence[Migration] | None = None) -> int:
    """Apply what is missing; returns how many were applied. Other nodes wait for their turn and then find
    nothing to do.
    """
    known = packaged_migrations() if migrations is None else migrations
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK, timeout=120)
    try:
        await connection.execute(_TABLE)
        rows = await connection.fetch("SELECT version, checksum FROM schema_migrations")
        applied = {row["version"]: row["checksum"] for row in rows}
        _check_drift(applied, known)
        missing = [migration for migration in known if migration.version not in applied]
        for migration in missing:
            await _apply(connection, migration)
        return len(missing)
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)


def _check_drift(applied: Mapping[str, str | None], known: Sequence[Migration]) -> None:
    for migration in known:
        checksum = applied.get(migration.version)
        if checksum is not None and checksum != migration.checksum:
            raise ConfigError(
                "POSTGRES_URL",
                f"migration {migration.version}_{migration.name} was changed after it was applied here",
            )
    unknown = applied.keys() - {migration.version for migration in known}
    latest = max((migration.version for migration in known), default="")
    foreign = sorted(version for version in unknown if version < latest)
    if foreign:
        raise ConfigError(
            "POSTGRES_URL", f"the database has migrations that are not this gateway's: {', '.join(foreign)}"
        )
    if unknown:
        # A newer gateway was here; its migrations keep older nodes working while they are replaced one by
        # one.
        log.warning("database is newer than this gateway", versions=sorted(unknown))


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    log.info("migration", version=migration.version, name=migration.name)
    # DDL may wait for readers and rewrite tables: the limit that guards queries does not fit here.
    if migration.in_transaction:
        async with connection.transaction():
            await _run(connection, migration)
    else:
        await _run(connection, migration)


async def _run(connection: asyncpg.Connection, migration: Migration) -> None:
    await connection.execute(migration.up, timeout=3600)
    await connection.execute(
        "INSERT INTO schema_migrations (version, checksum) VALUES ($1, $2)",
        migration.version,
        migration.checksum,
    )
