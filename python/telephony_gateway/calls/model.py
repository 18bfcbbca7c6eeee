"""What a call is: frozen values and one literal table of what may follow what.

`Call.apply` takes a trigger and returns the next call with the events that tell of it; it does no I/O and
reads no clock. Every event gets the next `sequence`, without a gap, and exactly one event of a call is
terminal: the rows of a call that is over are empty.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from telephony_gateway.errors import WrongState

Status = Literal["queued", "ringing", "in-progress", "completed", "busy", "failed", "no-answer", "canceled"]
TerminalStatus = Literal["completed", "busy", "failed", "no-answer", "canceled"]
Direction = Literal["inbound", "outbound"]
HangupCause = Literal[
    "normal_clearing",
    "user_busy",
    "call_rejected",
    "timeout",
    "originator_cancel",
    "not_found",
    "time_limit",
    "unspecified",
    "node_crash",
]
HangupSource = Literal["caller", "callee", "system", "unknown"]
LegKind = Literal["sip", "webrtc", "stream"]
LegSide = Literal["caller", "callee"]
LegState = Literal["new", "ringing", "answered", "connected", "ended"]
SessionRole = Literal["agent", "customer", "supervisor", "bot"]
EventType = Literal[
    "call.initiated",
    "call.ringing",
    "call.answered",
    "call.bridged",
    "call.dtmf",
    "call.held",
    "call.resumed",
    "call.transfer-requested",
    "call.transferred",
    "call.transfer-failed",
    "call.attempt",
    "call.verified",
    "session.joined",
    "session.left",
    "call.completed",
    "call.busy",
    "call.failed",
    "call.no-answer",
    "call.canceled",
]
Trigger = Literal[
    "ring",
    "attempt",
    "verify",
    "answer",
    "bridge",
    "digit",
    "hold",
    "resume",
    "refer",
    "transfer",
    "refer-fail",
    "join",
    "leave",
    "complete",
    "busy",
    "fail",
    "expire",
    "cancel",
]

TERMINAL: Final[frozenset[Status]] = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})
TERMINAL_EVENTS: Final[frozenset[EventType]] = frozenset(
    {"call.completed", "call.busy", "call.failed", "call.no-answer", "call.canceled"}
)

TRANSITIONS: Final[Mapping[Status, Mapping[Trigger, Status]]] = {
    "queued": {
        "ring": "ringing",
        "attempt": "queued",
        "verify": "queued",
        "answer": "in-progress",
        "join": "queued",
        "leave": "queued",
        "busy": "busy",
        "fail": "failed",
        "expire": "no-answer",
        "cancel": "canceled",
    },
    "ringing": {
        "ring": "ringing",
        "attempt": "ringing",
        "verify": "ringing",
        "answer": "in-progress",
        "bridge": "ringing",
        "digit": "ringing",
        "join": "ringing",
        "leave": "ringing",
        "busy": "busy",
        "fail": "failed",
        "expire": "no-answer",
        "cancel": "canceled",
    },
    "in-progress": {
        "attempt": "in-progress",
        "verify": "in-progress",
        "bridge": "in-progress",
        "digit": "in-progress",
        "hold": "in-progress",
        "resume": "in-progress",
        "refer": "in-progress",
        "transfer": "in-progress",
        "refer-fail": "in-progress",
        "join": "in-progress",
        "leave": "in-progress",
        "complete": "completed",
        "fail": "failed",
    },
    "completed": {},
    "busy": {},
    "failed": {},
    "no-answer": {},
    "canceled": {},
}

EVENT_OF: Final[Mapping[Trigger, EventType]] = {
    "ring": "call.ringing",
    "attempt": "call.attempt",
    "verify": "call.verified",
    "answer": "call.answered",
    "bridge": "call.bridged",
    "digit": "call.dtmf",
    "hold": "call.held",
    "resume": "call.resumed",
    "refer": "call.transfer-requested",
    "transfer": "call.transferred",
    "refer-fail": "call.transfer-failed",
    "join": "session.joined",
    "leave": "session.left",
    "complete": "call.completed",
    "busy": "call.busy",
    "fail": "call.failed",
    "expire": "call.no-answer",
    "cancel": "call.canceled",
}

TRIGGER_OF_ENDING: Final[Mapping[TerminalStatus, Trigger]] = {
    "completed": "complete",
    "busy": "busy",
    "failed": "fail",
    "no-answer": "expire",
    "canceled": "cancel",
}


class LegStats(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Media counters of one leg; `jitter` and `round_trip` are seconds."""

    codec: str | None = None
    packets_received: int = 0
    packets_sent: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    packets_lost: int = 0
    jitter: float = 0.0
    round_trip: float | None = None


class Leg(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One side of a call. The engine's number for it means nothing after a restart and is not here."""

    id: UUID
    kind: LegKind
    side: LegSide
    state: LegState = "new"
    codec: str | None = None
    held: bool = False
    session_id: UUID | None = None
    stats: LegStats | None = None


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One participant's ticket to a call. `token` is shown once; what is kept has only its SHA-256."""

    id: UUID
    call_id: UUID
    role: SessionRole
    created_at: datetime
    ws_url: str
    ice_servers: tuple[dict[str, Any], ...] = ()
    token: str | None = None
    token_hash: str | None = None
    joined_at: datetime | None = None
    left_at: datetime | None = None


class CallEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line of a call's history; `sequence` counts from 1 without a gap."""

    call_id: UUID
    sequence: int
    type: EventType
    at: datetime
    data: dict[str, Any] = {}


class Verification(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Whether somebody vouches for the caller's number (RFC 8224), in the words of 3GPP TS 24.229 7.2A.20."""

    verstat: Literal["TN-Validation-Passed", "TN-Validation-Failed", "No-TN-Validation"]
    attestation: Literal["A", "B", "C"] | None = None
    """How sure the one who vouches is (RFC 8588 4)."""
    origid: str | None = None
    status: int | None = None
    """The refusal that would fit: 403, 428, 436, 437 or 438; null when it passed."""
    reason: str | None = None


class Ending(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a call ended."""

    status: TerminalStatus
    cause: HangupCause
    source: HangupSource
    sip_response_code: int | None = None
    reason: str | None = None
    q850_cause: int | None = None
    reasons: str | None = None
    """The Reason values of the peer that ended it, "" if it gave none; None: we speak for ourselves."""


class Call(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The state of one call. A value: `apply` and `with_leg` return the next one. All times are UTC."""

    id: UUID
    direction: Direction
    status: Status
    from_: str = msgspec.field(name="from")
    from_name: str | None = None
    """The display name that the caller gave."""
    to: str
    trunk: str | None = None
    route: str | None = None
    sip_call_id: str | None = None
    client_state: str | None = None
    timeout: float = 60.0
    created_at: datetime
    ringing_at: datetime | None = None
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    duration: float = 0.0
    hangup_cause: HangupCause | None = None
    hangup_source: HangupSource | None = None
    sip_response_code: int | None = None
    q850_cause: int | None = None
    """Why it ended in the numbers of Q.850: the peer's own, or what its status means (RFC 3398)."""
    reason: str | None = None
    headers: dict[str, str] = {}
    """Headers of the caller's INVITE that its trunk lets through, or those that the call was made with."""
    verification: Verification | None = None
    """Of a call that came in by a trunk that verifies; null until it is known."""
    sequence: int = 0
    legs: tuple[Leg, ...] = ()

    @property
    def over(self) -> bool:
        """Whether the terminal event has happened."""
        return self.status in TERMINAL

    @property
    def answered(self) -> bool:
        """Whether both sides could ever talk."""
        return self.answered_at is not None

    def initiated(self, data: Mapping[str, Any] | None = None) -> "Applied":
        """The first event of a fresh call."""
        if self.sequence:
            raise WrongState("the call has begun already")
        return self._next("call.initiated", self.created_at, dict(data or {}), sequence=1)

    def apply(self, trigger: Trigger, at: datetime, data: Mapping[str, Any] | None = None) -> "Applied":
        """Take one step of the table; `WrongState` if it has none. A second `ring` tells nothing new."""
        status = self._after(trigger)
        if trigger == "ring" and self.status == "ringing":
            return self, ()
        return self._next(EVENT_OF[trigger], at, dict(data or {}), status=status, **self._times(trigger, at))

    def end(self, ending: Ending, at: datetime) -> "Applied":
        """The terminal step: the table's, with its cause."""
        result = {
            "hangup_cause": ending.cause,
            "hangup_source": ending.source,
            "sip_response_code": ending.sip_response_code,
            "q850_cause": ending.q850_cause,
            "reason": ending.reason,
            "duration": max(0.0, (at - self.answered_at).total_seconds()) if self.answered_at else 0.0,
        }
        trigger = TRIGGER_OF_ENDING[ending.status]
        status = self._after(trigger)
        return self._next(EVENT_OF[trigger], at, result, status=status, ended_at=at, **result)

    def with_leg(self, leg: Leg) -> "Call":
        """This call with the leg added, or replaced if it has one of that id. Tells no event."""
        return msgspec.structs.replace(self, legs=self.with_legs((leg,)))

    def with_legs(self, changed: Sequence[Leg]) -> tuple[Leg, ...]:
        """The legs with these added, or in place of those with their ids."""
        new = {leg.id.int: leg for leg in changed}
        kept = [new.pop(leg.id.int, leg) for leg in self.legs]
        return (*kept, *new.values())

    def _after(self, trigger: Trigger) -> Status:
        status = TRANSITIONS[self.status].get(trigger)
        if status is None:
            raise WrongState(f"a call that is {self.status} cannot take {trigger!r}")
        return status

    def _times(self, trigger: Trigger, at: datetime) -> dict[str, datetime]:
        match trigger:
            case "ring":
                return {"ringing_at": at}
            case "answer":
                return {"answered_at": at}
            case _:
                return {}

    def _next(self, event_type: EventType, at: datetime, data: dict[str, Any], **changes: Any) -> "Applied":
        changes.setdefault("sequence", self.sequence + 1)
        call = msgspec.structs.replace(self, **changes)
        return call, (_event(call, event_type, at, data),)


Applied = tuple[Call, tuple[CallEvent, ...]]
"""The next call, and what there is to tell."""


def _event(call: Call, event_type: EventType, at: datetime, data: dict[str, Any]) -> CallEvent:
    return CallEvent(
        call_id=call.id, sequence=call.sequence, type=event_type, at=at, data={"status": call.status, **data}
    )
