"""How an ended leg ends its call, as tables: from the engine's cause and SIP status to our words and back."""

from collections.abc import Mapping
from typing import Final

from telephony_gateway.calls.causes import CAUSE_BY_Q850, STATUS_BY_Q850, q850_of, q850_of_status
from telephony_gateway.calls.events import Ended, EndedCause
from telephony_gateway.calls.model import (
    Call,
    Ending,
    HangupCause,
    HangupSource,
    LegSide,
    Status,
    TerminalStatus,
)
from telephony_gateway.errors import (
    EngineFailure,
    GatewayError,
    LoopDetected,
    Overloaded,
    RateLimited,
    WrongState,
)

Outcome = tuple[TerminalStatus, HangupCause]

# Final responses to an INVITE (RFC 3261 21.4 - 21.6); what is not here failed without a better word.
BY_STATUS: Final[Mapping[int, Outcome]] = {
    403: ("failed", "call_rejected"),
    404: ("failed", "not_found"),
    408: ("no-answer", "timeout"),
    410: ("failed", "not_found"),
    480: ("no-answer", "timeout"),
    484: ("failed", "not_found"),
    486: ("busy", "user_busy"),
    487: ("canceled", "originator_cancel"),
    600: ("busy", "user_busy"),
    603: ("failed", "call_rejected"),
    604: ("failed", "not_found"),
    607: ("failed", "call_rejected"),
    608: ("failed", "call_rejected"),
}

# Before the answer, by the engine's cause; `rejected` goes by its status.
BEFORE_ANSWER: Final[Mapping[EndedCause, Outcome]] = {
    "bye": ("canceled", "originator_cancel"),
    "cancel": ("canceled", "originator_cancel"),
    "timeout": ("no-answer", "timeout"),
    "no_ack": ("failed", "timeout"),
}

# After the answer the call took place: completed, whatever ended it, but for a 200 that was never confirmed.
AFTER_ANSWER: Final[Mapping[EndedCause, Outcome]] = {
    "bye": ("completed", "normal_clearing"),
    "cancel": ("completed", "normal_clearing"),
    "closed": ("completed", "normal_clearing"),
    "no_ack": ("failed", "timeout"),
    "media_timeout": ("completed", "timeout"),
}

# What an unanswered caller is told, by how the call ended (RFC 3261 21).
REFUSAL: Final[Mapping[TerminalStatus, int]] = {
    "busy": 486,
    "no-answer": 480,
    "failed": 500,
    "canceled": 480,
    "completed": 480,
}

# How a caller is turned away whose call is set to such a status.
DECLINE: Final[Mapping[Status, Ending]] = {
    "busy": Ending(
        status="busy", cause="user_busy", source="callee", sip_response_code=486, reason="declined"
    ),
    "no-answer": Ending(
        status="no-answer", cause="timeout", source="callee", sip_response_code=480, reason="declined"
    ),
}

# What the peer of a leg we hang up reads in the Reason header (RFC 3326; Q.850 cause values).
Q850: Final[Mapping[HangupCause, int]] = {
    "normal_clearing": 16,
    "user_busy": 17,
    "call_rejected": 21,
    "timeout": 19,
    "originator_cancel": 16,
    "not_found": 1,
    "time_limit": 16,
    "unspecified": 31,
    "node_crash": 41,
}


def ending_of(ended: Ended, side: LegSide, *, answered: bool) -> Ending:
    """How the end of the leg on this side ends the call."""
    status, cause = _outcome(ended, answered)
    told = q850_of(ended.reasons) if ended.reasons else None
    if cause == "unspecified" and told is not None:
        cause = CAUSE_BY_Q850.get(told, cause)
    return Ending(
        status=status,
        cause=cause,
        source=_source(ended, side),
        sip_response_code=ended.status,
        reason=ended.reason or ended.cause.replace("_", " "),
        q850_cause=told if told is not None else _q850(ended, cause, answered=answered),
        reasons=ended.reasons if ended.by == "remote" else None,
    )


def rejection(status: int, reason: str) -> Ending:
    """How a call ends that we refuse with this SIP status."""
    outcome, cause = BY_STATUS.get(status, ("failed", "call_rejected"))
    return Ending(
        status=outcome,
        cause=cause,
        source="system",
        sip_response_code=status,
        reason=reason,
        q850_cause=q850_of_status(status),
    )


def not_dialled(error: GatewayError) -> Ending:
    """How a call ends that came in and could not be sent on: a limit of ours is a 503 of ours."""
    kinds = ((LoopDetected, 482), (Overloaded, 503), (RateLimited, 503), (EngineFailure, 500))
    return rejection(next((status for kind, status in kinds if isinstance(error, kind)), 404), error.message)


def requested(call: Call, reason: str | None, source: HangupSource) -> Ending:
    """How a call ends on request: an unanswered caller is declined, an unanswered callee cancelled."""
    if call.answered:
        return Ending(status="completed", cause="normal_clearing", source=source, reason=reason)
    if call.direction == "inbound":
        return Ending(
            status="canceled", cause="call_rejected", source=source, sip_response_code=603, reason=reason
        )
    return Ending(status="canceled", cause="originator_cancel", source=source, reason=reason)


def as_requested(call: Call, status: Status) -> Ending:
    """How a call ends whose status someone sets; `WrongState` for what it cannot become by request."""
    if status == "completed":
        return requested(call, None, "system")
    if call.answered:
        raise WrongState("the call was answered: it can only be completed")
    if status == "canceled":
        return requested(call, None, "system")
    if call.direction == "inbound" and (decline := DECLINE.get(status)) is not None:
        return decline
    raise WrongState(f"the call cannot be made {status} by request")


def shutdown(call: Call) -> Ending:
    """How a call ends that is still there when the gateway must go."""
    status: TerminalStatus = "completed" if call.answered else "canceled"
    return Ending(
        status=status, cause="normal_clearing", source="system", reason="the gateway is shutting down"
    )


def refusal_of(ending: Ending) -> int:
    """The final response for a caller whose call ended this way before it was answered."""
    code = ending.sip_response_code
    # A 401 or 407 is between us and the far side; a 487 would claim that the caller cancelled; a 503 that
    # came in would turn the caller away from us, who are well (RFC 3261 16.7, item 6, and 21.5.4).
    hidden = (401, 407, 487, 503) if ending.source == "callee" else (401, 407, 487)
    if code is not None and 400 <= code <= 699 and code not in hidden:
        return code
    if code is not None and 300 <= code <= 399:
        return 480  # nobody was where the peer pointed to
    # The exchange behind the peer may have said more (RFC 3398 7.2.4.1).
    meant = STATUS_BY_Q850.get(ending.q850_cause or 0) if ending.reasons else None
    return meant if meant is not None and meant not in hidden else REFUSAL[ending.status]


def reason_header(ending: Ending) -> str | None:
    """The Reason header for a leg that is hung up because its call ended this way: what the peer of the other
    leg said is passed on, and where it said nothing, nothing is invented (RFC 3326).
    """
    if ending.reasons is not None:
        return ending.reasons or None
    return f"Q.850;cause={Q850[ending.cause]}"


def _outcome(ended: Ended, answered: bool) -> Outcome:
    if answered:
        return AFTER_ANSWER.get(ended.cause, ("completed", "unspecified"))
    if ended.cause == "rejected" and ended.status is not None:
        return BY_STATUS.get(ended.status, ("failed", "unspecified"))
    return BEFORE_ANSWER.get(ended.cause, ("failed", "unspecified"))


def _q850(ended: Ended, cause: HangupCause, *, answered: bool) -> int:
    if not answered and ended.cause == "rejected" and ended.status is not None:
        return q850_of_status(ended.status)
    return Q850[cause]


def _source(ended: Ended, side: LegSide) -> HangupSource:
    if ended.by == "remote" and ended.cause in ("bye", "cancel", "rejected", "closed"):
        return side
    return "system"
