"""From the engine's words to ours and back."""

from datetime import UTC, datetime
from typing import get_args
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telephony_gateway.calls.causes import q850_of
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


def test_what_a_peer_says_is_passed_on_and_nothing_invented() -> None:
    said = Ended(leg=1, by="remote", cause="bye", reasons='Q.850;cause=16, SIP;cause=200;text="a, b"')
    ending = ending_of(said, "callee", answered=True)
    assert (reason_header(ending), ending.q850_cause) == (said.reasons, 16)
    silent = ending_of(Ended(leg=1, by="remote", cause="bye"), "callee", answered=True)
    assert (reason_header(silent), silent.q850_cause) == (None, 16)
    ours = ending_of(Ended(leg=1, by="system", cause="media_timeout"), "callee", answered=True)
    assert reason_header(ours) == "Q.850;cause=19"


@pytest.mark.parametrize(
    ("status", "reasons", "told", "q850", "cause"),
    [
        (486, "", 486, 17, "user_busy"),
        (503, "", 500, 41, "unspecified"),
        (503, "Q.850;cause=17", 486, 17, "user_busy"),
        (503, "Q.850;cause=34", 500, 34, "unspecified"),
        (500, 'Q.850;cause=1;text="a;cause=2"', 500, 1, "not_found"),
        (407, "", 500, 21, "unspecified"),
        (480, "SIP;cause=486", 480, 18, "timeout"),
        (580, "", 580, 31, "unspecified"),
    ],
)
def test_sip_and_q850_explain_each_other(
    status: int, reasons: str, told: int, q850: int, cause: HangupCause
) -> None:
    rejected = Ended(leg=1, by="remote", cause="rejected", status=status, reasons=reasons)
    ending = ending_of(rejected, "callee", answered=False)
    assert (refusal_of(ending), ending.q850_cause, ending.cause) == (told, q850, cause)


@pytest.mark.parametrize(
    ("reasons", "q850"),
    [
        ("q.850 ; CAUSE = 18 ; text=x", 18),
        ("SIP;cause=486, Q.850;cause=17", 17),
        ('SIP;text="Q.850;cause=16"', None),
        ("Q.850;cause=999", None),
        ("Q.850;text=x", None),
        ("", None),
    ],
)
def test_q850_in_reason_values(reasons: str, q850: int | None) -> None:
    assert q850_of(reasons) == q850


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
