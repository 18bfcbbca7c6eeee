"""The lasting record: what goes in comes out, once, in order, whatever happens to the database meanwhile."""

import asyncio
import os
import signal
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from telephony_gateway.calls.clock import SystemClock
from telephony_gateway.calls.ids import IdSource, Owner
from telephony_gateway.calls.model import Call, CallEvent, Ending, Leg, LegStats, Session
from telephony_gateway.calls.ports import CallQuery
from telephony_gateway.errors import ConfigError, Invalid, StoreUnavailable
from telephony_gateway.store import EmbeddedPostgres, PostgresStore
from telephony_gateway.store.writer import Record, Writer, WriterLimits

START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
NODE = Owner(node=7, epoch=100)
COMPLETED = Ending(status="completed", cause="normal_clearing", source="caller")


def ids_of(owner: Owner) -> IdSource:
    return IdSource(owner, SystemClock())


IDS = ids_of(NODE)


def new_call(ids: IdSource = IDS, **fields: object) -> Call:
    values = {
        "direction": "inbound",
        "from_": "+74951234567",
        "to": "+78001112233",
        "created_at": START,
        **fields,
    }
    return Call(id=ids.new(), status="queued", **values)


def steps(call: Call, *triggers: str) -> tuple[Call, list[CallEvent]]:
    """The call after these steps, one second each, and all their events."""
    call, events = call.initiated({"trunk": "carrier-a"})
    told = list(events)
    for second, trigger in enumerate(triggers, 1):
        at = call.created_at + timedelta(seconds=second)
        call, events = call.end(COMPLETED, at) if trigger == "complete" else call.apply(trigger, at)
        told += events
    return call, told


def record_whole_call(store: PostgresStore, call: Call, *triggers: str) -> Call:
    """Record step by step, as the manager does."""
    state, events = steps(call, *triggers)
    state = msgspec.structs.replace(state, legs=call.legs)
    for event in events:
        store.record(msgspec.structs.replace(state, sequence=event.sequence), [event])
    return state


async def test_a_call_comes_back_as_it_went_in(store: PostgresStore) -> None:
    stats = LegStats(codec="PCMU", packets_received=500, jitter=0.00125, round_trip=0.031)
    legs = (
        Leg(id=uuid4(), kind="sip", side="caller", state="ended", codec="PCMU", stats=stats),
        Leg(id=uuid4(), kind="webrtc", side="callee", state="connected", session_id=uuid4()),
    )
    call, events = steps(
        new_call(trunk="carrier-a", sip_call_id="a@b", client_state='{"x": "\\\\u0000"}', legs=legs), "ring"
    )
    call = msgspec.structs.replace(call, legs=legs)
    store.record(call, events)
    assert await store.find_call(call.id) == call
    assert await store.call_events(call.id) == events


async def test_the_end_of_a_call_is_kept(store: PostgresStore) -> None:
    call = record_whole_call(store, new_call(), "ring", "answer", "bridge", "complete")
    found = await store.find_call(call.id)
    assert found == call
    assert found is not None
    assert (found.status, found.hangup_cause, found.duration) == ("completed", "normal_clearing", 2.0)
    assert [event.sequence for event in await store.call_events(call.id)] == [1, 2, 3, 4, 5]


async def test_an_unknown_call_is_none(store: PostgresStore) -> None:
    assert await store.find_call(uuid4()) is None
    assert await store.call_events(uuid4()) == []


async def test_an_older_state_does_not_overwrite_a_newer_one(store: PostgresStore) -> None:
    call, events = steps(new_call(), "ring")
    older, _ = new_call().initiated()
    store.record(call, events)
    await store.flush()
    store.record(msgspec.structs.replace(older, id=call.id), [])
    assert await store.find_call(call.id) == call


async def test_nul_and_odd_characters_are_kept_as_far_as_text_can(store: PostgresStore) -> None:
    call, events = new_call(client_state="a\x00b", from_="\\u0000 \U0001f600").initiated({"note": "\x00"})
    store.record(call, events)
    found = await store.find_call(call.id)
    assert found is not None
    assert (found.client_state, found.from_) == ("a\ufffdb", "\\u0000 \U0001f600")
    assert (await store.call_events(call.id))[0].data["note"] == "\ufffd"


async def test_a_session_is_kept_without_its_token(store: PostgresStore, postgres_url: str) -> None:
    session = Session(
        id=uuid4(),
        call_id=uuid4(),
        role="agent",
        created_at=START,
        ws_url="ws://x/ws",
        token="secret",
        token_hash="ab" * 32,
    )
    store.record_session(session)
    store.record_session(msgspec.structs.replace(session, joined_at=START + timedelta(seconds=1)))
    await store.flush()
    row = await fetchrow(postgres_url, "SELECT * FROM sessions WHERE id = $1", session.id)
    assert row["token_hash"] == "ab" * 32
    assert row["joined_at"] == START + timedelta(seconds=1)
    assert "secret" not in str(dict(row))


async def fetchrow(url: str, sql: str, *arguments: object) -> asyncpg.Record:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchrow(sql, *arguments)
    finally:
        await connection.close()


async def test_legs_are_a_table_too(store: PostgresStore, postgres_url: str) -> None:
    leg = Leg(id=uuid4(), kind="sip", side="caller", codec="opus", stats=LegStats(packets_sent=9))
    call, events = new_call(legs=(leg,)).initiated()
    store.record(call, events)
    await store.flush()
    row = await fetchrow(
        postgres_url, "SELECT *, stats->>'packets_sent' AS sent FROM legs WHERE call_id = $1", call.id
    )
    assert (row["id"], row["side"], row["codec"], row["sent"]) == (leg.id, "caller", "opus", "9")


@pytest.mark.parametrize(
    "sql", ["UPDATE call_events SET type = 'x'", "DELETE FROM call_events", "TRUNCATE call_events"]
)
async def test_events_are_append_only(store: PostgresStore, postgres_url: str, sql: str) -> None:
    record_whole_call(store, new_call(), "ring")
    await store.flush()
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await fetchrow(postgres_url, sql)


async def every_page(store: PostgresStore, **query: object) -> list[UUID]:
    found: list[UUID] = []
    cursor = None
    while True:
        page = await store.list_calls(CallQuery(limit=3, cursor=cursor, **query))
        assert len(page.items) <= 3
        found += [call.id for call in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


async def test_pages_show_every_call_once_newest_first(store: PostgresStore) -> None:
    calls = [new_call(created_at=START + timedelta(seconds=second // 2)) for second in range(10)]
    for call in calls:
        store.record(*call.initiated())
    newest_first = sorted(calls, key=lambda call: (call.created_at, call.id), reverse=True)
    assert await every_page(store) == [call.id for call in newest_first]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"status": ("completed",)}, {1, 5, 9}),
        ({"status": ("ringing", "completed")}, {1, 3, 5, 7, 9, 11}),
        ({"direction": "outbound"}, {0, 3, 6, 9}),
        ({"direction": "outbound", "status": ("completed",)}, {9}),
        ({"created_after": START + timedelta(seconds=9)}, {9, 10, 11}),
        ({"created_before": START + timedelta(seconds=2)}, {0, 1}),
        ({"status": ("busy",)}, set()),
    ],
)
async def test_filters(store: PostgresStore, query: dict[str, object], expected: set[int]) -> None:
    numbers = {}
    for number in range(12):
        direction = "outbound" if number % 3 == 0 else "inbound"
        call = new_call(direction=direction, created_at=START + timedelta(seconds=number))
        triggers = {1: ("answer", "complete"), 3: ("ring",)}.get(number % 4, ())
        numbers[record_whole_call(store, call, *triggers).id] = number
    found = await every_page(store, **query)
    assert [numbers[call_id] for call_id in found] == sorted(expected, reverse=True)


@pytest.mark.parametrize("cursor", ["", "x", "!!!!", "AAAA", "\u00e9" * 32, "/" * 32])
async def test_a_foreign_cursor_is_invalid(store: PostgresStore, cursor: str) -> None:
    with pytest.raises(Invalid):
        await store.list_calls(CallQuery(cursor=cursor))


async def test_orphans_of_this_node_end_as_node_crash(store: PostgresStore) -> None:
    before = ids_of(Owner(node=NODE.node, epoch=NODE.epoch - 1))
    ringing = record_whole_call(store, new_call(before), "ring")
    talking = record_whole_call(store, new_call(before), "answer", "digit")
    over = record_whole_call(store, new_call(before), "answer", "complete")
    ours = record_whole_call(store, new_call(), "ring")
    others = record_whole_call(store, new_call(ids_of(Owner(node=8, epoch=99))), "ring")
    assert await store.close_orphans(NODE, START + timedelta(minutes=1)) == 2
    for orphan in (ringing, talking):
        found = await store.find_call(orphan.id)
        assert found is not None
        assert (found.status, found.hangup_cause, found.hangup_source) == ("failed", "node_crash", "system")
        events = await store.call_events(orphan.id)
        assert [event.sequence for event in events] == list(range(1, orphan.sequence + 2))
        assert events[-1].type == "call.failed"
    for left_alone in (over, ours, others):
        assert await store.find_call(left_alone.id) == left_alone
    assert await store.close_orphans(NODE) == 0


class Flaky:
    """Connections that break at chosen writes, before or after the server has committed."""

    def __init__(self, url: str, breaks: Sequence[str]) -> None:
        self.url = url
        self.breaks = list(breaks)

    async def connect(self) -> "FlakyConnection":
        return FlakyConnection(self, await asyncpg.connect(self.url))


class FlakyConnection:
    def __init__(self, owner: Flaky, inner: asyncpg.Connection) -> None:
        self.owner = owner
        self.inner = inner

    async def execute(self, *arguments: object, **options: object) -> str:
        what = self.owner.breaks.pop(0) if self.owner.breaks else "ok"
        if what == "before":
            raise ConnectionResetError("cut before the write")
        status = await self.inner.execute(*arguments, **options)
        if what == "after":
            raise asyncpg.ConnectionDoesNotExistError("cut after the commit")
        return status

    def is_closed(self) -> bool:
        return self.inner.is_closed()

    def terminate(self) -> None:
        self.inner.terminate()


async def test_a_retry_neither_loses_nor_doubles(store: PostgresStore, postgres_url: str) -> None:
    flaky = Flaky(postgres_url, ["before", "after", "before", "after", "ok", "after"])
    writer = Writer(flaky.connect, WriterLimits(batch=4, first_pause=0.01))
    writer.start()
    call, events = steps(new_call(), "ring", "answer", *["digit"] * 20, "complete")
    for event in events:
        writer.put(Record(call=msgspec.structs.replace(call, sequence=event.sequence), events=[event]))
    await writer.flush(10)
    await writer.close(1)
    assert await store.find_call(call.id) == call
    assert await store.call_events(call.id) == events
    assert (writer.stats.retries, writer.stats.written, writer.stats.refused) == (5, 24, 0)


async def test_a_refused_record_does_not_stop_the_others(store: PostgresStore) -> None:
    calls = [new_call() for _ in range(20)]
    for number, call in enumerate(calls):
        state, events = call.initiated()
        if number == 7:  # an integer that the column cannot hold
            state = msgspec.structs.replace(state, sip_response_code=1 << 40)
        if number == 11:  # not text at all
            state = msgspec.structs.replace(state, reason="\ud800")
        store.record(state, events)
    await store.flush()
    assert store.writer.stats.refused == 2
    assert len(await every_page(store)) == 18


async def test_a_full_queue_refuses_and_recovers(postgres_url: str) -> None:
    store = PostgresStore(postgres_url, limits=WriterLimits(capacity=5))
    await store.start()
    calls = [new_call() for _ in range(6)]
    for call in calls[:5]:
        store.record(*call.initiated())
    with pytest.raises(StoreUnavailable):
        store.record(*calls[5].initiated())
    await store.flush()
    store.record(*calls[5].initiated())
    await store.close()
    assert store.writer.depth == 0


async def test_close_writes_what_is_queued(postgres_url: str) -> None:
    store = PostgresStore(postgres_url)
    await store.start()
    call, events = new_call().initiated()
    store.record(call, events)
    await store.close()
    again = PostgresStore(postgres_url)
    await again.start()
    assert await again.find_call(call.id) == call
    await again.close()


async def test_ping(store: PostgresStore) -> None:
    assert 0 < await store.ping() < 1


async def test_no_connection_is_left_behind(postgres_server: str, postgres_url: str) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    tasks = len(asyncio.all_tasks())
    for _ in range(3):
        store = PostgresStore(postgres_url)
        await store.start()
        store.record(*new_call().initiated())
        await store.ping()
        await store.close()
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == tasks
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://someone:pa%24sword@127.0.0.1:1/sales_voice",
        "postgresql://someone:pa%24sword@127.0.0.1:notaport/sales_voice",
    ],
)
async def test_no_database_at_the_start_is_said_plainly(url: str) -> None:
    store = PostgresStore(url)
    with pytest.raises(ConfigError, match=r"^POSTGRES_URL: ") as raised:
        await store.start()
    assert "sword" not in str(raised.value)
    await store.close()


async def test_a_wrong_database_is_named(postgres_server: str) -> None:
    store = PostgresStore(postgres_server.replace("/postgres?", "/nowhere?"))
    with pytest.raises(ConfigError, match="'nowhere'"):
        await store.start()
    await store.close()


async def test_records_wait_while_the_server_is_away(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    server = EmbeddedPostgres(folder)
    store = PostgresStore(await server.start(), limits=WriterLimits(first_pause=0.02, longest_pause=0.2))
    await store.start()
    first = record_whole_call(store, new_call(), "ring")
    await store.flush()
    await server.stop()
    second = record_whole_call(store, new_call(), "ring", "answer", "complete")
    with pytest.raises(StoreUnavailable):
        await store.flush(0.3)
    with pytest.raises(StoreUnavailable):
        await store.find_call(first.id)
    with pytest.raises(StoreUnavailable):
        await store.ping()
    assert store.writer.away
    await server.start()
    await store.flush(10)
    assert await store.find_call(second.id) == second
    assert [event.sequence for event in await store.call_events(second.id)] == [1, 2, 3, 4]
    await store.close()
    await server.stop()


async def test_a_history_is_whole_while_writing_takes_its_time(
    store: PostgresStore, postgres_url: str
) -> None:
    call = new_call()
    ended, events = steps(call, "ring", "answer", "complete")
    holder = await asyncpg.connect(postgres_url)
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE call_events IN EXCLUSIVE MODE")
            store.record(ended, events)
            assert await store.call_events(call.id) == events
            assert await store.find_call(call.id) == ended
        await store.flush()
        assert await store.call_events(call.id) == events
    finally:
        await holder.close()


async def test_a_frozen_server_blocks_nobody_for_long(tmp_path: Path) -> None:
    """Not closed, not answering: only timeouts help."""
    server = EmbeddedPostgres(tmp_path / "data", stop_timeout=1.0)
    limits = WriterLimits(first_pause=0.02, longest_pause=0.1, command_timeout=0.3)
    store = PostgresStore(await server.start(), limits=limits)
    await store.start()
    record_whole_call(store, new_call(), "ring")
    await store.flush()
    backend = store.writer._connection.get_server_pid()  # type: ignore[union-attr]
    os.kill(backend, signal.SIGSTOP)
    call = record_whole_call(store, new_call(), "ring")
    try:
        await store.flush(10)
        assert store.writer.stats.retries >= 1
        assert await store.find_call(call.id) == call
    finally:
        os.kill(backend, signal.SIGCONT)
        await store.close()
        await server.stop()
