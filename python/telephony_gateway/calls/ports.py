"""What the call control needs from the rest of the house, as Protocols.

The rooms outside implement them; tests fake them.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, Protocol
from uuid import UUID

import msgspec

from telephony_gateway.calls.events import LegId
from telephony_gateway.calls.frames import ServerFrame
from telephony_gateway.calls.ladder import Rungs
from telephony_gateway.calls.model import (
    Call,
    CallEvent,
    Direction,
    Leg,
    LegStats,
    Session,
    Status,
    Verification,
)
from telephony_gateway.calls.refusals import Refusal
from telephony_gateway.calls.trunks import Stir

Phase = Literal["invite", "decision", "database", "media"]
"""The parts of a call that a trace shows."""


class Clock(Protocol):
    """Wall-clock time; timers use the event loop's own."""

    def now(self) -> datetime:
        """The time, UTC."""
        ...


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """How one place is that requests are sent to: known once it failed or is probed."""

    trunk: str
    transport: str
    address: str
    state: str
    """`up`, `down` (tried after all others) or `trial` (its time is over, the next use decides)."""
    last_rtt: float | None
    """Seconds that the last answered probe took."""
    failures: int
    """In a row."""


class EngineStats(Protocol):
    """Counters since the start; `drops` maps `plane.reason` to counts."""

    @property
    def sip_messages_received(self) -> int: ...  # noqa: D102
    @property
    def sip_messages_sent(self) -> int: ...  # noqa: D102
    @property
    def sip_retransmissions(self) -> int: ...  # noqa: D102
    @property
    def sip_transactions(self) -> int: ...  # noqa: D102
    @property
    def sip_dialogs(self) -> int: ...  # noqa: D102
    @property
    def sip_connections(self) -> int: ...  # noqa: D102
    @property
    def sip_connections_opened(self) -> int: ...  # noqa: D102
    @property
    def forwarded(self) -> int: ...  # noqa: D102
    @property
    def rtp_packets_received(self) -> int: ...  # noqa: D102
    @property
    def rtp_packets_sent(self) -> int: ...  # noqa: D102
    @property
    def legs(self) -> int: ...  # noqa: D102
    @property
    def ports_free(self) -> int: ...  # noqa: D102
    @property
    def ports_in_use(self) -> int: ...  # noqa: D102
    @property
    def event_queue_depth(self) -> int: ...  # noqa: D102
    @property
    def event_queue_capacity(self) -> int: ...  # noqa: D102
    @property
    def refused_overload(self) -> int: ...  # noqa: D102
    @property
    def refused(self) -> Mapping[str, int]: ...  # noqa: D102
    @property
    def drops(self) -> Mapping[str, int]: ...  # noqa: D102


class Engine(Protocol):
    """The SIP and media engine.

    A refused command raises from the `GatewayError` tree; every leg dialled, ringing or offered ends in
    exactly one `Ended` event.
    """

    def new_sip_leg(self, beside: LegId | None = None) -> LegId:
        """A number for a leg to be dialled, on the media worker of `beside`."""
        ...

    def new_webrtc_leg(self, beside: LegId | None = None) -> LegId:
        """A browser's leg, on the media worker of `beside`."""
        ...

    def dial(
        self,
        leg: LegId,
        *,
        uri: str,
        from_uri: str,
        from_display: str = "",
        next_hop: str | None = None,
        trunk: str = "",
        codecs: Sequence[str],
        headers: Sequence[tuple[str, str]] = (),
        timeout: float = 60.0,
        elsewhere: bool = False,
        replaces: LegId | None = None,
        caller: LegId | None = None,
        caller_codecs: Sequence[str] = (),
    ) -> None:
        """Send an INVITE; `Ringing`, `Answered` or `Ended` follow. Where other places wait
        `elsewhere`, a silent trunk gets its patience only. `replaces` sends it to that leg's peer, to take
        the leg's place there (RFC 3891). What the callee does is done to the `caller` at once, as long
        as that is plain: it rings without sound, it answers, one of the two hangs up. The events tell.
        """
        ...

    async def ring(self, leg: LegId, *, codecs: Sequence[str], status: int = 180) -> str:
        """Negotiate the offer, send the provisional, return the codec. `NotAcceptable`: 488 has left."""
        ...

    async def answer(self, leg: LegId, on_sent: Callable[[], None] | None = None) -> None:
        """Send 200 with the SDP answer; `on_sent` hears of it before any later event of the leg is told."""
        ...

    def reject(
        self, leg: LegId, status: int, reason: str | None = None, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Refuse an incoming leg."""
        ...

    def hangup(self, leg: LegId, reason: str | None = None) -> None:
        """CANCEL, BYE or close, as the leg's state demands; harmless on a leg that is gone."""
        ...

    async def accept_offer(self, leg: LegId, sdp: str, codecs: Sequence[str]) -> str:
        """Take a browser's offer; returns the SDP answer. `NotAcceptable` when nothing in it is usable."""
        ...

    async def create_offer(self, leg: LegId, codecs: Sequence[str]) -> str:
        """An SDP offer for a browser."""
        ...

    async def accept_answer(self, leg: LegId, sdp: str) -> None:
        """Take a browser's answer to our offer."""
        ...

    def add_candidate(self, leg: LegId, candidate: str | None) -> None:
        """A trickled ICE candidate; None ends them."""
        ...

    async def bridge(self, first: LegId, second: LegId) -> None:
        """Join two legs' media."""
        ...

    async def preview(self, first: LegId, second: LegId) -> None:
        """Let two legs hear each other before their call is answered: early media."""
        ...

    def ring_back(self, leg: LegId, tone: str | None) -> None:
        """Play a ringback tone to a leg's peer until sound or the answer comes; None ends it."""
        ...

    def unlink(self, leg: LegId) -> None:
        """Pass nothing on any more between the leg and the one that it was dialled for, or that for it."""
        ...

    def catch_up(self) -> None:
        """Deliver what has happened and was in no hurry to be told."""
        ...

    def unbridge(self, leg: LegId) -> None:
        """Part a leg from its peer."""
        ...

    def send_digits(self, leg: LegId, digits: str, duration: float = 0.1) -> None:
        """Send RFC 4733 digits to the leg's peer."""
        ...

    def introduce(self, first: LegId, second: LegId) -> None:
        """Tell the peers of two legs that were bridged anew what each does: a hold before is over."""
        ...

    def refer(
        self,
        leg: LegId,
        target: str = "",
        *,
        replaces: LegId | None = None,
        early_only: bool = False,
        referred_by: str | None = None,
    ) -> None:
        """Ask a leg's peer to call somebody else, or to take the place of another leg at that leg's peer;
        `ReferAnswered` and `Referral` follow.
        """
        ...

    def accept_refer(self, leg: LegId, number: int) -> None:
        """Take up what a leg's peer asks for."""
        ...

    def refuse_refer(self, leg: LegId, number: int, status: int) -> None:
        """Turn it down with 300 to 699."""
        ...

    def notify_refer(self, leg: LegId, number: int, status: int, reason: str = "") -> None:
        """Tell how far it has come, as whoever was called said it; from 200 on that is the last word."""
        ...

    def leg_stats(self, leg: LegId) -> LegStats | None:
        """Media counters of a running leg."""
        ...

    def stats(self) -> EngineStats:
        """Counters of the whole engine."""
        ...

    def refusals(self) -> Sequence[Refusal]:
        """What was refused or dropped at the door, the newest first."""
        ...

    def ladder(self, legs: Sequence[LegId]) -> Rungs:
        """The SIP messages of these legs in their order, running or over, while there is room for them."""
        ...

    def set_trunks(self, document: bytes) -> None:
        """Replace the trunks that legs are made by: a JSON list."""
        ...

    def ask_always(self, ask: bool) -> None:
        """Ask about each call, whatever the plain part of the plan says."""
        ...

    def refuse_new(self, refuse: bool) -> None:
        """New INVITEs get 503 with Retry-After (draining)."""
        ...


class CallQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls to list, newest first. `cursor` is opaque: the `next_cursor` of the page before."""

    status: tuple[Status, ...] = ()
    direction: Direction | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    limit: int = 50
    cursor: str | None = None


class CallPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of calls."""

    items: tuple[Call, ...]
    next_cursor: str | None = None


class Store(Protocol):
    """The lasting record. Writes are queued in order and never block."""

    def record(self, call: Call, events: Sequence[CallEvent]) -> None:
        """Keep the call's new state and its events. `StoreUnavailable` when too much waits already."""
        ...

    def record_session(self, session: Session) -> None:
        """Keep a participant's ticket; its token is never kept."""
        ...

    async def flush(self) -> None:
        """Wait until everything recorded is written."""
        ...

    async def find_call(self, call_id: UUID) -> Call | None:
        """A call by id, running or over."""
        ...

    async def list_calls(self, query: CallQuery) -> CallPage:
        """A page of calls. `Invalid` for a cursor that is not ours."""
        ...

    async def call_events(self, call_id: UUID) -> list[CallEvent]:
        """A call's history in its order."""
        ...

    async def ping(self) -> float:
        """Latency in seconds. `StoreUnavailable` when the database does not answer."""
        ...


class Cache(Protocol):
    """Call state that other processes may share."""

    shared: bool
    """Whether others read it: then it hears of every step, else of the last."""

    async def put_call(self, call: Call) -> None:
        """Keep the state of a call."""
        ...

    async def find_call(self, call_id: UUID) -> Call | None:
        """The kept state of a call."""
        ...

    async def claim(self, key: str, value: bytes, ttl: timedelta) -> bytes | None:
        """Set `key` unless it is set; returns the earlier value, or None when the claim is ours."""
        ...

    async def put_session(self, token_hash: str, session: Session, ttl: timedelta) -> None:
        """Keep a ticket under the hash of its token."""
        ...

    async def find_session(self, token_hash: str) -> Session | None:
        """The ticket of a token."""
        ...

    async def ping(self) -> float:
        """Latency in seconds."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Voucher(Protocol):
    """Vouches for callers by STIR/SHAKEN, and judges those who are vouched for (RFC 8224)."""

    def configure(self, trunks: Mapping[str, Stir], *, anew: bool = False) -> None:
        """Take the trunks' settings; `ConfigError` names a file at fault, and nothing has changed. Files that
        were read before are read again only `anew`.
        """
        ...

    def check(self, trunk: str, stir: Stir) -> None:
        """`ConfigError` names a file of these settings that cannot be used; nothing is changed."""
        ...

    def sign(self, trunk: str, caller: str, callee: str) -> str | None:
        """The Identity header of a call out, if this trunk signs and both are telephone numbers."""
        ...

    async def verify(
        self, trunk: str, identities: Sequence[str], caller: str, callees: Sequence[str]
    ) -> Verification | None:
        """The verdict on a call in, within seconds; None if its trunk does not verify. Never raises."""
        ...


class Browser(Protocol):
    """One WebSocket. `send` queues and never blocks; a browser too slow to read is closed."""

    @property
    def id(self) -> str:
        """Names this connection in logs."""
        ...

    @property
    def names(self) -> frozenset[str]:
        """The route targets (`target = { browser = "sales" }`) that it registered for."""
        ...

    @property
    def authenticated(self) -> bool:
        """Whether it may see and join any call; otherwise a session's token opens one."""
        ...

    def send(self, frame: ServerFrame) -> None:
        """Queue a frame."""
        ...


class Observer(Protocol):
    """Metrics and traces. Called on the event loop; must not raise or block."""

    def call_event(self, call: Call, event: CallEvent) -> None:
        """A call's event was recorded; `call` is the state after it."""
        ...

    def phase(self, call: Call, phase: Phase, started: datetime, ended: datetime) -> None:
        """A part of the call's handling took from `started` to `ended`."""
        ...

    def leg_connected(self, call: Call, leg: Leg) -> None:
        """The media of a leg flows."""
        ...

    def leg_ended(self, call: Call, leg: Leg) -> None:
        """A leg is gone; `leg.stats` has its counters. Called once for every leg, connected or not."""
        ...

    def refused(self, reason: str) -> None:
        """An INVITE was refused at the door, without a call (`no_trunk`, `full`, `draining`, `store`)."""
        ...
