"""The lasting record of calls in PostgreSQL: writes through the queue of `writer.py`, reads by a pool."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import structlog

from telephony_gateway.calls.ids import Owner
from telephony_gateway.calls.model import TERMINAL, Call, CallEvent, Ending, Session
from telephony_gateway.calls.ports import CallPage, CallQuery
from telephony_gateway.errors import ConfigError, GatewayError, StoreUnavailable
from telephony_gateway.store import queries
from telephony_gateway.store.migrate import migrate
from telephony_gateway.store.plan import PostgresPlan
from telephony_gateway.store.writer import DEFAULT_LIMITS, OnWritten, Record, Writer, WriterLimits

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT = 5.0
COMMAND_TIMEOUT = 10.0
POOL_SIZE = 8
READ_PATIENCE = 1.0
"""A read waits this long for records queued before it, so that a client finds what it has just made."""

_AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
_OPEN = ["queued", "ringing", "in-progress"]
_NODE_CRASH = Ending(
    status="failed",
    cause="node_crash",
    source="system",
    reason="the gateway that held the call stopped without ending it",
)


class PostgresStore:
    """Implements `calls.ports.Store`. `start` connects and migrates; `close` writes what is queued and lets
    go.
    """

    def __init__(
        self, dsn: str, *, limits: WriterLimits = DEFAULT_LIMITS, on_written: OnWritten | None = None
    ) -> None:
        self._dsn = dsn
        self._pool: asyncpg.Pool | None = None
        self._writer = Writer(self._connect, limits, on_written)
        self.plan = PostgresPlan(self._reading)

    @property
    def writer(self) -> Writer:
        """The write queue, for the metrics."""
        return self._writer

    async def start(self) -> None:
        """Connect, migrate, begin to write. `ConfigError` names POSTGRES_URL, host and database, never the
        password.
        """
        try:
            connection = await self._connect()
            try:
                await migrate(connection)
            finally:
                await connection.close(timeout=CONNECT_TIMEOUT)
            self._pool = await asyncpg.create_pool(
                self._dsn,
                min_size=1,
                max_size=POOL_SIZE,
                timeout=CONNECT_TIMEOUT,
                command_timeout=COMMAND_TIMEOUT,
                max_inactive_connection_lifetime=300,
                reset=_nothing_to_reset,
                server_settings={"application_name": "telephony-gateway"},
            )
        except (*_AWAY, ValueError) as error:
            raise ConfigError(
                "POSTGRES_URL", f"{place_of(self._dsn)} cannot be used: {_plain(error)}"
            ) from error
        self._writer.start()

    async def close(self, within: float = 5.0) -> None:
        """Write what is queued in `within` seconds, then close every connection; idempotent."""
        await self._writer.close(within)
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), within)
            except (*_AWAY, asyncio.CancelledError):
                pool.terminate()

    def record(self, call: Call, events: Sequence[CallEvent]) -> None:
        """Queue the call's new state and its events; never blocks."""
        self._writer.put(Record(call=call, events=events))

    def record_session(self, session: Session) -> None:
        """Queue a participant's ticket, without its token."""
        self._writer.put(Record(session=queries.without_token(session)))

    async def flush(self, within: float = 5.0) -> None:
        """Wait until everything recorded so far is durable; `StoreUnavailable` after `within` seconds."""
        await self._writer.flush(within)

    async def find_call(self, call_id: UUID) -> Call | None:
        """A call by id, running or over."""
        await self._catch_up()
        waiting = self._writer.waiting(call_id)
        async with self._reading() as connection:
            row = await connection.fetchrow(queries.FIND_CALL, call_id)
        if waiting:
            return waiting[-1].call
        return queries.call_of(row) if row is not None else None

    async def list_calls(self, query: CallQuery) -> CallPage:
        """A page of calls, newest first."""
        sql, arguments = queries.page_query(query)
        await self._catch_up()
        async with self._reading() as connection:
            rows = await connection.fetch(sql, *arguments)
        calls = tuple(queries.call_of(row) for row in rows[: query.limit])
        more = len(rows) > query.limit
        return CallPage(items=calls, next_cursor=queries.encode_cursor(calls[-1]) if more else None)

    async def call_events(self, call_id: UUID) -> list[CallEvent]:
        """A call's history in its order, with what a slow database has not written yet."""
        await self._catch_up()
        waiting = [event for record in self._writer.waiting(call_id) for event in record.events]
        async with self._reading() as connection:
            rows = await connection.fetch(queries.EVENTS, call_id)
        stored = [queries.event_of(row) for row in rows]
        return [*stored, *(event for event in waiting if event.sequence > len(stored))]

    async def ping(self) -> float:
        """Latency in seconds."""
        began = time.perf_counter()
        async with self._reading() as connection:
            await connection.execute("SELECT 1")
        return time.perf_counter() - began

    async def close_orphans(self, owner: Owner, at: datetime | None = None) -> int:
        """End what an earlier process of this node left running, as `failed` with the cause `node_crash`;
        returns how many.

        Before the first call of this process: the calls of other nodes, and its own, are left alone.
        """
        await self._catch_up()
        async with self._reading() as connection:
            rows = await connection.fetch(queries.FIND_OPEN, _OPEN)
        moment = at or datetime.now(UTC)
        orphans = [call for call in map(queries.call_of, rows) if _is_orphan(call, owner)]
        for call in orphans:
            ended, events = call.end(_NODE_CRASH, max(moment, call.created_at))
            self.record(ended, events)
        await self.flush()
        if orphans:
            log.warning("ended calls that a crash left open", calls=len(orphans))
        return len(orphans)

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(
            self._dsn,
            timeout=CONNECT_TIMEOUT,
            command_timeout=COMMAND_TIMEOUT,
            server_settings={"application_name": "telephony-gateway"},
        )

    async def _catch_up(self) -> None:
        """A slow queue makes a read late by READ_PATIENCE at most; a database that is away shows in the
        read itself.
        """
        with suppress(StoreUnavailable):
            await self._writer.flush(READ_PATIENCE)

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
        if self._pool is None:
            raise StoreUnavailable("the store is not open")
        try:
            async with self._pool.acquire(timeout=CONNECT_TIMEOUT) as connection:
                yield connection
        except GatewayError:
            raise
        except _AWAY as error:
            raise StoreUnavailable(f"the database does not answer: {_plain(error)}", retry_after=5) from error


def _is_orphan(call: Call, owner: Owner) -> bool:
    made_by = Owner.from_id(call.id)
    return call.status not in TERMINAL and made_by.node == owner.node and made_by.epoch != owner.epoch


async def _nothing_to_reset(connection: asyncpg.Connection) -> None:
    """Our reads leave no state in a connection; the usual reset would cost a round trip for each."""


def place_of(dsn: str) -> str:
    """Host and database of a dsn, for messages: never the user's name or password."""
    try:
        parts = urlsplit(dsn)
        host = parts.hostname or "the local socket"
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "the URL"
    return f"database {parts.path.removeprefix('/') or 'postgres'!r} at {host}{port}"


def _plain(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
