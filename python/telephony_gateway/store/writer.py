"""The queue between calls, which never wait, and the database, which may be slow or away.

Records are written in their order, many in one transaction. A lost connection is retried for as long as it
takes, with records waiting up to a bound; a record that the database refuses for what it holds is set
aside, so that the others go on.
"""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from uuid import UUID

import asyncpg
import msgspec
import structlog

from telephony_gateway.calls.model import Call, CallEvent, Session
from telephony_gateway.errors import StoreUnavailable
from telephony_gateway.store.queries import WRITE, encode_rows

log = structlog.get_logger(__name__)

Connect = Callable[[], Awaitable[asyncpg.Connection]]
OnWritten = Callable[[Collection[Call], datetime, datetime], None]
"""Told which calls' events a transaction made durable, and when it began and ended."""

# The values themselves are at fault (SQLSTATE classes: data, constraint, program limit): no repetition will
# help.
_REFUSED_CLASSES = frozenset({"22", "23", "54"})


class Record(msgspec.Struct, frozen=True, gc=False):
    """What is written together: a call's new state and the events that led to it, or a session."""

    call: Call | None = None
    events: Sequence[CallEvent] = ()
    session: Session | None = None


@dataclass(slots=True)
class WriterStats:
    """Counters since the start; the metrics read them."""

    written: int = 0
    batches: int = 0
    retries: int = 0
    refused: int = 0
    batch_seconds: float = 0.0
    last_batch_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class WriterLimits:
    """How much is written at once, how long a record may wait for how much company, and how much may wait in
    all.
    """

    batch: int = 256
    company: int = 16
    linger: float = 0.1
    capacity: int = 65_536
    first_pause: float = 0.05
    longest_pause: float = 5.0
    command_timeout: float = 10.0


DEFAULT_LIMITS = WriterLimits()


@dataclass(slots=True)
class _Waiter:
    target: int
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Writer:
    """One task, one connection, one queue. `put` is called from the loop that `start` ran on."""

    def __init__(
        self, connect: Connect, limits: WriterLimits = DEFAULT_LIMITS, on_written: OnWritten | None = None
    ) -> None:
        self.stats = WriterStats()
        self._connect = connect
        self._limits = limits
        self._on_written = on_written
        self._queue: deque[Record] = deque()
        self._taken = 0
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._waiters: deque[_Waiter] = deque()
        self._connection: asyncpg.Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._away = False

    @property
    def depth(self) -> int:
        """Records that are not durable yet."""
        return len(self._queue)

    @property
    def away(self) -> bool:
        """Whether the last attempt to write failed for want of a database."""
        return self._away

    def waiting(self, call_id: UUID) -> list[Record]:
        """A call's records that are not durable yet, in their order."""
        return [record for record in self._queue if record.call is not None and record.call.id == call_id]

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="store-writer")

    def put(self, record: Record) -> None:
        """Queue a record; `StoreUnavailable` when the bound is reached."""
        if len(self._queue) >= self._limits.capacity:
            raise StoreUnavailable(
                "too many records wait for the database", retry_after=self._limits.longest_pause
            )
        self._queue.append(record)
        self._wake.set()

    async def flush(self, within: float) -> None:
        """Wait until all that is queued now is durable; `StoreUnavailable` after `within` seconds."""
        if not self._queue:
            return
        waiter = _Waiter(self._taken + len(self._queue))
        self._waiters.append(waiter)
        self._hurry.set()
        try:
            await asyncio.wait_for(waiter.done, within)
        except TimeoutError:
            raise StoreUnavailable(
                f"{self.depth} records are not written after {within:g} s", retry_after=5
            ) from None
        finally:
            with contextlib.suppress(ValueError):
                self._waiters.remove(waiter)

    async def close(self, within: float) -> None:
        """Write what is left as far as `within` seconds allow, then stop."""
        try:
            if self._task is not None:
                await self.flush(within)
        except StoreUnavailable as error:
            log.error("records lost", records=self.depth, error=error.message)
        finally:
            await self._stop()

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self._drop_connection()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await self._gather()
            # The records stay in the queue until they are durable: `depth` and `flush` count them.
            batch = list(islice(self._queue, self._limits.batch))
            await self._write_or_split(batch)
            for _ in batch:
                self._queue.popleft()
            self._taken += len(batch)
            self._tell_waiters()
            if not self._queue:
                self._wake.clear()

    async def _gather(self) -> None:
        """Let a batch grow: a transaction costs as much as a dozen records in it. What comes many at once has
        waited for each other already.
        """
        if len(self._queue) < min(self._limits.company, self._limits.batch) and not self._waiters:
            self._hurry.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.linger):
                    await self._hurry.wait()

    def _tell_waiters(self) -> None:
        while self._waiters and self._waiters[0].target <= self._taken:
            waiter = self._waiters.popleft()
            if not waiter.done.done():
                waiter.done.set_result(None)

    async def _write_or_split(self, batch: Sequence[Record]) -> None:
        """Write the batch; where something in it is refused, halve until that stands alone; set it aside."""
        refusal = await self._write(batch)
        if refusal is None:
            return
        if len(batch) == 1:
            self._set_aside(batch[0], refusal)
            return
        middle = len(batch) // 2
        await self._write_or_split(batch[:middle])
        await self._write_or_split(batch[middle:])

    def _set_aside(self, record: Record, refusal: Exception) -> None:
        self.stats.refused += 1
        # Not the values: they may hold numbers and names.
        log.error(
            "record refused by the database",
            call_id=str(_call_id(record)),
            events=[event.type for event in record.events],
            error=type(refusal).__name__,
            sqlstate=getattr(refusal, "sqlstate", None),
        )

    async def _write(self, batch: Sequence[Record]) -> Exception | None:
        """Try until it is durable (None) or refused for what it holds (the refusal)."""
        try:
            arguments = _arguments(batch)
        except Exception as error:  # not even JSON: surrogates, an integer without end
            return error
        pause = self._limits.first_pause
        while True:
            try:
                await self._execute(arguments)
            except Exception as error:
                if is_refusal(error):
                    return error
                self._gone(error, pause)
            else:
                self._written(batch)
                return None
            # Jitter: the nodes of a fleet shall not come back in one moment.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(pause * 2, self._limits.longest_pause)

    async def _execute(self, arguments: Sequence[str]) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
        began = time.perf_counter()
        await self._connection.execute(WRITE, *arguments, timeout=self._limits.command_timeout)
        self.stats.last_batch_seconds = time.perf_counter() - began
        self.stats.batch_seconds += self.stats.last_batch_seconds

    def _gone(self, error: Exception, pause: float) -> None:
        self.stats.retries += 1
        self._drop_connection()
        if not self._away:
            self._away = True
            log.error(
                "database away, records wait",
                error=f"{type(error).__name__}: {error}",
                records=self.depth,
                retry_in=pause,
            )

    def _written(self, batch: Sequence[Record]) -> None:
        self.stats.batches += 1
        self.stats.written += len(batch)
        if self._on_written is not None:
            self._tell_observer(self._on_written, batch)
        if self._away:
            self._away = False
            log.info("database back", records=self.depth, retries=self.stats.retries)

    def _tell_observer(self, on_written: OnWritten, batch: Sequence[Record]) -> None:
        told = {record.call.id: record.call for record in batch if record.call is not None and record.events}
        ended = datetime.now(UTC)
        try:
            on_written(told.values(), ended - timedelta(seconds=self.stats.last_batch_seconds), ended)
        except Exception:
            log.exception("observer of the store failed")

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            connection.terminate()


def is_refusal(error: Exception) -> bool:
    """Whether the database refused the values, rather than being away, busy, read-only or broken."""
    return isinstance(error, asyncpg.PostgresError) and str(error.sqlstate)[:2] in _REFUSED_CLASSES


def _arguments(batch: Iterable[Record]) -> tuple[str, str, str]:
    """The batch for WRITE: every event, and of each call and session only the newest state (one row is
    written once).
    """
    events: list[CallEvent] = []
    # By the integer of the id: a UUID's own hash is a call of Python.
    calls: dict[int, Call] = {}
    sessions: dict[int, Session] = {}
    for record in batch:
        events.extend(record.events)
        if record.call is not None:
            calls[record.call.id.int] = record.call
        if record.session is not None:
            sessions[record.session.id.int] = record.session
    return encode_rows(events), encode_rows(list(calls.values())), encode_rows(list(sessions.values()))


def _call_id(record: Record) -> object:
    return (
        record.call.id
        if record.call is not None
        else record.session.call_id
        if record.session is not None
        else None
    )
