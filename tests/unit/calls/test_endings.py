"""From the engine's words to ours and back."""

from datetime import UTC, datetime
from typing import get_args
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telephony_gateway.calls.endings import Q850, ending_of, reason_header, refusal_of, rejection, requested
from telephony_gateway.calls.events import Ended, EndedBy, EndedCause
from telephony_gateway.calls.model import TRANSITIONS, TRIGGER_OF_ENDING, Call, HangupCause, LegSide

ended = st.builds(
    Ended,
    leg=st.just(1),
    by=st.sampled_from(get_args(EndedBy)),
    cause=st.sampled_from(get_args(EndedCause)),
    status=st.none() | st.integers(300, 699),
    reason=st.text(max_size=5),
)


@given(ended, st.sampled_from(get_args(LegSide)), st.booleans())
def test_every_end_is_a_step_of_the_table(ended: Ended, side: LegSide, answered: bool) -> None:
    ending = ending_of(ended, side, answered=answered)
    assert TRIGGER_OF_ENDING[ending.status] in TRANSITIONS["in-progress" if answered else "ringing"]
    assert ending.reason
    assert 400 <= refusal_of(ending) <= 699


@pytest.mark.parametrize(
    ("by", "side", "source"),
    [("remote", "caller", "caller"), ("remote", "callee", "callee"), ("local", "callee", "system")],
)
def test_who_hung_up(by: EndedBy, side: LegSide, source: str) -> None:
    assert ending_of(Ended(leg=1, by=by, cause="bye"), side, answered=True).source == source


def test_media_that_stops_is_the_systems_end() -> None:
    ending = ending_of(Ended(leg=1, by="remote", cause="media_timeout"), "caller", answered=True)
    assert (ending.status, ending.cause, ending.source) == ("completed", "timeout", "system")


def test_refusals_by_route_keep_their_status() -> None:
    assert (rejection(486, "x").status, rejection(486, "x").cause) == ("busy", "user_busy")
    assert (rejection(503, "x").status, rejection(503, "x").cause) == ("failed", "call_rejected")
    assert refusal_of(rejection(404, "x")) == 404
    assert refusal_of(rejection(487, "x")) == 480


def test_every_cause_has_a_reason_header() -> None:
    assert set(Q850) == set(get_args(HangupCause))
    assert reason_header(rejection(486, "x")) == "Q.850;cause=17"


@pytest.mark.parametrize("answered", [True, False])
def test_requests_fit_the_table(answered: bool) -> None:
    now = datetime(2025, 11, 22, tzinfo=UTC)
    for direction in ("inbound", "outbound"):
        call = Call(
            id=uuid4(),
            direction=direction,
            status="ringing",
            from_="",
            to="",
            created_at=now,  # type: ignore[arg-type]
        )
        if answered:
            call, _ = call.apply("answer", now)
        over, _ = call.end(requested(call, None, "system"), now)
        assert over.status == ("completed" if answered else "canceled")
