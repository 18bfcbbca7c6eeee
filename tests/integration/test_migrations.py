"""The schema is built once, in order, by whoever comes first, and a changed past is an error."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest
import structlog

from telephony_gateway.errors import ConfigError
from telephony_gateway.store import PostgresStore
from telephony_gateway.store.migrate import Migration, migrate, packaged_migrations, parse_migration


def url_of(server: str, name: str) -> str:
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture
async def empty_url(postgres_server: str) -> AsyncIterator[str]:
    """A database without our tables."""
    name = f"empty_{uuid4().hex}"
    connection = await asyncpg.connect(postgres_server)
    await connection.execute(f"CREATE DATABASE {name}")
    yield url_of(postgres_server, name)
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def connection(empty_url: str) -> AsyncIterator[asyncpg.Connection]:
    opened = await asyncpg.connect(empty_url)
    yield opened
    await opened.close()


def migration(version: str, up: str, options: str = "") -> Migration:
    return parse_migration(f"{version}_x.sql", f"-- migrate:up{options}\n{up}\n-- migrate:down\n")


async def test_packaged_migrations_apply_once(connection: asyncpg.Connection) -> None:
    count = len(packaged_migrations())
    assert await migrate(connection) == count
    assert await migrate(connection) == 0
    rows = await connection.fetch("SELECT version, checksum FROM schema_migrations")
    assert {row["version"] for row in rows} == {found.version for found in packaged_migrations()}
    assert all(len(row["checksum"]) == 64 for row in rows)


async def tables(connection: asyncpg.Connection) -> set[str]:
    rows = await connection.fetch("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
    return {row["relname"] for row in rows}


async def test_down_takes_back_what_up_made(connection: asyncpg.Connection) -> None:
    await migrate(connection)
    for found in reversed(packaged_migrations()):
        await connection.execute(found.down)
    assert await tables(connection) == {"schema_migrations", "schema_migrations_pkey"}


async def test_nodes_that_start_together_apply_once(empty_url: str) -> None:
    stores = [PostgresStore(empty_url) for _ in range(5)]
    await asyncio.gather(*(store.start() for store in stores))
    assert all([await store.ping() > 0 for store in stores])
    await asyncio.gather(*(store.close() for store in stores))


async def test_a_failure_leaves_nothing_half_made(connection: asyncpg.Connection) -> None:
    bad = migration("2", "CREATE TABLE half (x int); SELECT nonsense;")
    with pytest.raises(asyncpg.PostgresError):
        await migrate(connection, [migration("1", "CREATE TABLE whole (x int);"), bad])
    found = await tables(connection)
    assert "whole" in found
    assert "half" not in found
    assert await migrate(connection, [migration("1", "CREATE TABLE whole (x int);")]) == 0


async def test_a_file_that_was_changed_is_an_error(connection: asyncpg.Connection) -> None:
    first = migration("1", "CREATE TABLE a (x int);")
    await migrate(connection, [first])
    with pytest.raises(ConfigError, match="1_x was changed"):
        await migrate(connection, [dataclasses.replace(first, checksum="0" * 64)])


async def test_a_foreign_database_is_refused(connection: asyncpg.Connection) -> None:
    await migrate(connection, [migration("1", "SELECT 1;")])
    with pytest.raises(ConfigError, match="not this gateway's: 1"):
        await migrate(connection, [migration("2", "SELECT 1;")])


async def test_an_older_gateway_works_on_a_newer_database(connection: asyncpg.Connection) -> None:
    first, second = migration("1", "SELECT 1;"), migration("2", "SELECT 1;")
    await migrate(connection, [first, second])
    with structlog.testing.capture_logs() as said:
        assert await migrate(connection, [first]) == 0
    assert [line["event"] for line in said] == ["database is newer than this gateway"]


async def test_what_dbmate_applied_is_applied(connection: asyncpg.Connection) -> None:
    await connection.execute("CREATE TABLE schema_migrations (version varchar(128) PRIMARY KEY)")
    await connection.execute("INSERT INTO schema_migrations VALUES ('1')")
    assert await migrate(connection, [migration("1", "SELECT nonsense;"), migration("2", "SELECT 1;")]) == 1
    await connection.execute("INSERT INTO schema_migrations (version) VALUES ('3')")


async def test_a_migration_may_refuse_the_transaction(connection: asyncpg.Connection) -> None:
    index = "CREATE INDEX CONCURRENTLY a_x ON a (x);"
    migrations = [migration("1", "CREATE TABLE a (x int);"), migration("2", index, " transaction:false")]
    assert await migrate(connection, migrations) == 2


@pytest.mark.parametrize("name", ["x.sql", "1.sql", "1_x.txt"])
def test_names_are_checked(name: str) -> None:
    with pytest.raises(ValueError, match="is not a migration"):
        parse_migration(name, "-- migrate:up\nSELECT 1;\n")


def test_sections_are_read() -> None:
    found = parse_migration("12_add_x.sql", "-- migrate:up\nA;\n\n-- migrate:down\nB;\n")
    assert (found.version, found.name, found.up.strip(), found.down.strip()) == ("12", "add_x", "A;", "B;")
    assert found.in_transaction
    crlf = parse_migration("12_add_x.sql", "-- migrate:up\r\nA;\r\n\r\n-- migrate:down\r\nB;\r\n")
    assert crlf.checksum == found.checksum
