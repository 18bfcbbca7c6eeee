"""Ids: UUIDv7 that ascend, never repeat, and name their owner."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from telephony_gateway.calls.ids import IdSource, Owner

START = datetime(2025, 11, 22, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        return self.time


def test_a_uuid_of_version_7() -> None:
    made = IdSource(Owner.of("node", START), Clock()).new()
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == int(START.timestamp() * 1000)


def test_ids_of_one_millisecond_ascend_beyond_the_counter() -> None:
    source = IdSource(Owner.of("node", START), Clock())
    made = [source.new() for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_a_clock_that_steps_back_does_not_turn_ids_around() -> None:
    clock = Clock()
    source = IdSource(Owner.of("node", START), clock)
    first = source.new()
    clock.time -= timedelta(hours=1)
    assert source.new() > first


@given(st.text(min_size=1), st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1)))
def test_an_id_names_its_owner(name: str, started: datetime) -> None:
    owner = Owner.of(name, started.replace(tzinfo=UTC))
    assert Owner.from_id(IdSource(owner, Clock()).new()) == owner


def test_owners_differ_by_node_and_by_start() -> None:
    assert Owner.of("a", START) != Owner.of("b", START)
    assert Owner.of("a", START) != Owner.of("a", START + timedelta(seconds=1))
    assert Owner.of("a", START).node == Owner.of("a", START + timedelta(seconds=1)).node
