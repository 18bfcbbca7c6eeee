"""What the engine tells the manager: the same words as the extension's events, without importing it.

`engine.py` translates. All durations are seconds, all addresses `(host, port)`.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from telephony_gateway.calls.model import LegStats

LegId = int
"""The engine's number of a leg; good only inside this process."""

EndedBy = Literal["local", "remote", "system"]
EndedCause = Literal[
    "bye",
    "cancel",
    "rejected",
    "timeout",
    "no_ack",
    "transport_error",
    "unreachable",
    "not_acceptable",
    "media_timeout",
    "ice_failed",
    "dtls_failed",
    "closed",
    "error",
]


class Message(Protocol):
    """The SIP message behind an event; its headers become Python strings only when they are read."""

    def header(self, name: str, /) -> str | None:
        """The first value of a header, or None."""
        ...

    def headers(self) -> list[tuple[str, str]]:
        """Every header in its order."""
        ...


class Forwarded(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the engine did with a call by the plain part of the plan (`calls.plain`)."""

    leg: LegId
    """The leg that it dialled; what the callee does is passed on to the caller."""
    route: str
    to: str
    from_: str
    """The numbers, as routes see them."""
    age: float = 0.0
    """How long ago it was when it was told."""


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """A new INVITE; 100 Trying has left already."""

    leg: LegId
    sip_call_id: str
    request_uri: str
    from_uri: str
    from_display: str
    to_uri: str
    source: tuple[str, int]
    local: tuple[str, int]
    codecs: Sequence[str]
    message: Message
    trunk: str = ""
    """The trunk that its source, or its registration, belongs to; empty without one."""
    user: str | None = None
    replaces: LegId | None = None
    """The leg whose place the new one is to take (RFC 3891)."""
    forwarded: Forwarded | None = None
    """It was sent on already; None if that is yet to be decided."""


class Ringing(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A provisional response (180, 183...) to our INVITE."""

    leg: LegId
    status: int
    codec: str | None = None
    """Of early media, if the response described some."""
    passed_on: str | None = None
    """The leg that this one was dialled for rings too: its codec, "" while its answer is to come."""
    age: float = 0.0
    """How long ago it was when it was told."""


class Answered(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A dialled leg was answered: ACK has left, its media is negotiated."""

    leg: LegId
    codec: str
    sip_call_id: str
    rang: float | None = None
    """How long ago it began to ring, and the leg that it was dialled for with it, if no `Ringing` told."""
    passed_on: str | None = None
    """The leg that this one was dialled for is answered too, and the two hear each other: its codec, "" while
    its answer is to come.
    """
    age: float = 0.0


class Confirmed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The caller's ACK to our 200 arrived. Not told while what happens is passed on between two legs."""

    leg: LegId


class Connected(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Media flows: ICE and DTLS are up (WebRTC), or the first RTP packet came (SIP)."""

    leg: LegId


class Digit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One RFC 4733 digit received from the leg's peer."""

    leg: LegId
    digit: str
    duration: float


class Held(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A SIP leg's peer holds the call, or takes it up again."""

    leg: LegId
    held: bool


class Refer(msgspec.Struct, frozen=True, kw_only=True):
    """A leg's peer asks for its partner to call somebody else (RFC 3515)."""

    leg: LegId
    id: int
    """Names the request among others of the leg."""
    uri: str
    """Refer-To without its headers."""
    headers: Sequence[tuple[str, str]] = ()
    referred_by: str = ""
    replaces: LegId | None = None
    """The leg of ours that a Replaces among the headers names: an attended transfer."""
    early_only: bool = False
    """It is to be replaced only while nobody has answered it."""


class ReferAnswered(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The final answer of a leg's peer to a REFER of ours."""

    leg: LegId
    status: int


class Referral(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What has become of what a REFER of ours asked for."""

    leg: LegId
    status: int | None
    """As the one who was called gave it; None if that was never said."""
    reason: str = ""
    last: bool = False


class Ended(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The leg is gone; exactly once per leg, nothing follows it."""

    leg: LegId
    by: EndedBy
    cause: EndedCause
    status: int | None = None
    reason: str = ""
    reasons: str = ""
    """The peer's Reason values as they stood (RFC 3326; in responses RFC 6432)."""
    contacts: Sequence[str] = ()
    """Where a 3xx says that the callee is, the likeliest first."""
    stats: LegStats | None = None
    passed_on: bool = False
    """The leg that this one was dialled for, or that for it, was hung up on in the same words."""
    age: float = 0.0


class Registration(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of a trunk's registration at its carrier; belongs to no leg."""

    trunk: str
    state: Literal["registered", "failed", "gone"]
    expires: float | None = None
    registrar: tuple[str, int] | None = None
    status: int | None = None
    reason: str = ""
    retry: float | None = None


class Binding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One phone of a user, as it can be called now."""

    token: int
    uri: str
    q: float
    expires: float
    source: tuple[str, int]
    transport: Literal["udp", "tcp", "tls"]
    user_agent: str


class Bindings(msgspec.Struct, frozen=True, kw_only=True):
    """The phones of a user that are registered here, the preferred ones first; belongs to no leg."""

    user: str
    bindings: Sequence[Binding]


class TrunksDown(msgspec.Struct, frozen=True, kw_only=True):
    """The trunks of which no target is well now, all of them; belongs to no leg."""

    trunks: Mapping[str, float]
    """Seconds until the first target is tried in its turn."""


Event = (
    Incoming
    | Ringing
    | Answered
    | Confirmed
    | Connected
    | Digit
    | Held
    | Refer
    | ReferAnswered
    | Referral
    | Ended
)
