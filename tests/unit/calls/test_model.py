"""The transition table: gapless sequences, one terminal event, nothing after it."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telephony_gateway.calls.model import (
    EVENT_OF,
    TERMINAL,
    TERMINAL_EVENTS,
    TRANSITIONS,
    TRIGGER_OF_ENDING,
    Call,
    CallEvent,
    Ending,
    EventType,
    HangupCause,
    HangupSource,
    Leg,
    Status,
    TerminalStatus,
    Trigger,
)
from telephony_gateway.errors import WrongState

START = datetime(2025, 11, 22, tzinfo=UTC)
triggers = st.sampled_from(get_args(Trigger))
endings = st.builds(
    Ending,
    status=st.sampled_from(get_args(TerminalStatus)),
    cause=st.sampled_from(get_args(HangupCause)),
    source=st.sampled_from(get_args(HangupSource)),
    sip_response_code=st.none() | st.integers(400, 699),
    reason=st.none() | st.text(),
)
steps = st.lists(st.tuples(triggers | endings, st.integers(-5, 60)), max_size=30)


def new_call(**fields: Any) -> Call:
    return Call(
        id=uuid4(), direction="inbound", status="queued", from_="1", to="2", created_at=START, **fields
    )


@given(steps)
def test_any_steps_keep_one_ordered_truth(steps: list[tuple[Any, int]]) -> None:
    call, first = new_call().initiated()
    told: list[CallEvent] = list(first)
    now = START
    for step, seconds in steps:
        now += timedelta(seconds=seconds)
        before = call
        try:
            if isinstance(step, Ending):
                call, events = call.end(step, now)
            else:
                call, events = call.apply(step, now)
        except WrongState:
            assert call is before
            continue
        assert not before.over
        told += events
    assert [event.sequence for event in told] == list(range(1, len(told) + 1))
    assert call.sequence == len(told)
    assert sum(event.type in TERMINAL_EVENTS for event in told) == int(call.over)
    assert (told[-1].type in TERMINAL_EVENTS) == call.over
    assert call.duration >= 0
    assert all(event.call_id == call.id for event in told)


def test_the_table_is_complete() -> None:
    assert set(TRANSITIONS) == set(get_args(Status))
    assert {status for status, row in TRANSITIONS.items() if not row} == TERMINAL
    assert set(EVENT_OF) == set(get_args(Trigger))
    assert {*EVENT_OF.values(), "call.initiated"} == set(get_args(EventType))
    assert set(TRIGGER_OF_ENDING) == set(TERMINAL)
    for status, trigger in TRIGGER_OF_ENDING.items():
        assert EVENT_OF[trigger] == f"call.{status}"
        assert all(row[trigger] == status for row in TRANSITIONS.values() if trigger in row)


def test_every_call_can_end_from_everywhere() -> None:
    for status in set(TRANSITIONS) - TERMINAL:
        assert set(TRANSITIONS[status].values()) & TERMINAL


def test_a_call_begins_once() -> None:
    call, _ = new_call().initiated()
    with pytest.raises(WrongState):
        call.initiated()


def test_a_second_ring_tells_nothing() -> None:
    call, _ = new_call().initiated()
    call, events = call.apply("ring", START)
    assert [event.type for event in events] == ["call.ringing"]
    assert call.apply("ring", START + timedelta(1)) == (call, ())


def test_the_duration_is_that_of_the_conversation() -> None:
    call, _ = new_call().initiated()
    call, _ = call.apply("answer", START + timedelta(seconds=5))
    ending = Ending(status="completed", cause="normal_clearing", source="callee", reason="bye")
    call, (event,) = call.end(ending, START + timedelta(seconds=12.5))
    assert call.duration == 7.5
    assert event.data == {
        "status": "completed",
        "hangup_cause": "normal_clearing",
        "hangup_source": "callee",
        "sip_response_code": None,
        "q850_cause": None,
        "reason": "bye",
        "duration": 7.5,
    }


def test_legs_are_added_and_replaced_in_their_place() -> None:
    one, two = (Leg(id=UUID(int=n), kind="sip", side="caller") for n in (1, 2))
    call = new_call().with_leg(one).with_leg(two)
    ended = msgspec.structs.replace(one, state="ended")
    assert call.with_leg(ended).legs == (ended, two)


def test_json_and_back() -> None:
    call, (event,) = new_call(legs=(Leg(id=uuid4(), kind="sip", side="caller"),)).initiated({"trunk": "a"})
    encoded = msgspec.json.encode(call)
    assert msgspec.json.decode(encoded, type=Call) == call
    assert b'"from":"1"' in encoded
    assert msgspec.json.decode(msgspec.json.encode(event), type=CallEvent) == event
