"""The engine's legs of a call, from their number to their `Ended`: every leg is hung up on every path."""

import msgspec
import structlog

from telephony_gateway.calls.containment import contained
from telephony_gateway.calls.endings import reason_header, refusal_of
from telephony_gateway.calls.events import LegId
from telephony_gateway.calls.ids import IdSource
from telephony_gateway.calls.journal import Journal
from telephony_gateway.calls.live import LiveCall, LiveCalls
from telephony_gateway.calls.model import Ending, Leg, LegKind, LegSide, LegState, LegStats, Session
from telephony_gateway.calls.ports import Engine

log = structlog.get_logger(__name__)

RETRY_AFTER = ("Retry-After", "5")


class Legs:
    """Makes, follows and drops the legs of calls."""

    def __init__(self, *, engine: Engine, journal: Journal, calls: LiveCalls, ids: IdSource) -> None:
        self._engine = engine
        self._journal = journal
        self._calls = calls
        self._ids = ids

    def adopt(self, live: LiveCall, number: LegId, kind: LegKind, side: LegSide) -> None:
        """Note the leg that a fresh call begins with; the call's first event records it."""
        leg = Leg(id=self._ids.new(), kind=kind, side=side)
        self._calls.attach(live, number, leg)
        self._journal.amend(live, legs=(*live.call.legs, leg))

    def far(self, live: LiveCall) -> LegId:
        """A second SIP leg, to be dialled, beside the first."""
        number = self._engine.new_sip_leg(beside=live.anchor)
        leg = Leg(id=self._ids.new(), kind="sip", side="callee")
        self._calls.attach(live, number, leg)
        self._journal.leg(live, number, leg, followed=True)
        return number

    def beside(self, live: LiveCall, other: LegId, side: LegSide) -> LegId:
        """A SIP leg, to be dialled, for the partner of another one."""
        number = self._engine.new_sip_leg(beside=other)
        self.joins(live, number, side)
        return number

    def joins(self, live: LiveCall, number: LegId, side: LegSide) -> None:
        """A SIP leg comes to a call that runs."""
        leg = Leg(id=self._ids.new(), kind="sip", side=side)
        self._calls.attach(live, number, leg)
        self._journal.leg(live, number, leg, followed=True)

    def move(self, before: LiveCall, live: LiveCall, number: LegId, side: LegSide) -> None:
        """A leg goes from one call to another; the record of the first one keeps it as it is."""
        leg = msgspec.structs.replace(before.legs[number], side=side)
        self._calls.move(before, live, number, leg)
        self._journal.leg(live, number, leg, followed=True)

    def webrtc(self, live: LiveCall, session: Session) -> LegId:
        """A browser's leg, beside the SIP leg."""
        number = self._engine.new_webrtc_leg(beside=live.anchor)
        side = browser_side(live)
        leg = Leg(id=self._ids.new(), kind="webrtc", side=side, session_id=session.id)
        self._calls.attach(live, number, leg)
        self._journal.leg(live, number, leg)
        return number

    def update(
        self,
        live: LiveCall,
        number: LegId,
        state: LegState,
        codec: str | None = None,
        *,
        followed: bool = False,
    ) -> None:
        """The leg has come further, `followed` by a step of the call or not. What is gone stays gone."""
        leg = live.legs.get(number)
        if leg is not None and (leg.state != state or codec not in (None, leg.codec)):
            leg = msgspec.structs.replace(leg, state=state, codec=codec or leg.codec)
            self._journal.leg(live, number, leg, followed=followed)

    def passed_on(self, live: LiveCall, state: LegState, far: LegId, spoken: str | None) -> None:
        """Both legs of a forwarded call have come this far; a step of the call follows. The far one speaks
        `spoken`.
        """
        changed = []
        for number, codec in ((far, spoken), (live.anchor, live.codec)):
            if (leg := live.legs.get(number)) is not None and leg.state != state:
                leg = msgspec.structs.replace(leg, state=state, codec=codec or leg.codec)
                live.legs[number] = leg
                changed.append(leg)
        self._journal.amend(live, legs=live.call.with_legs(changed))

    def hold(self, live: LiveCall, number: LegId, *, held: bool) -> None:
        """The leg's peer listens no more, or again."""
        if leg := live.legs.get(number):
            self._journal.leg(live, number, msgspec.structs.replace(leg, held=held))

    def connected(self, live: LiveCall, number: LegId) -> None:
        """The leg's media flows."""
        self.update(live, number, "connected")
        if leg := live.legs.get(number):
            self._journal.leg_connected(live, leg)

    def ended(self, live: LiveCall, number: LegId, stats: LegStats | None) -> Leg | None:
        """The engine's leg is gone; returns what it was."""
        leg = live.legs.get(number)
        if leg is None:
            return None
        codec = (stats.codec if stats else None) or leg.codec
        leg = msgspec.structs.replace(leg, state="ended", stats=stats, codec=codec)
        # A call that is not over has its end before it, at the least.
        self._journal.leg(live, number, leg, followed=not live.call.over)
        self._calls.detach(live, number)
        self._journal.leg_ended(live, leg)
        return leg

    def drop(self, live: LiveCall, number: LegId) -> None:
        """Hang up a leg that never came to anything, without waiting for its end."""
        self.hangup(number)
        self.ended(live, number, None)

    def release(self, live: LiveCall, number: LegId, ending: Ending) -> None:
        """Hang up a leg because its call ended: an unanswered caller is refused with a fitting status."""
        unanswered = live.call.direction == "inbound" and not live.answering and not live.call.answered
        if number == live.anchor and unanswered:
            self._refuse(number, ending)
        else:
            self.hangup(number, reason_header(ending))

    def hangup(self, number: LegId, reason: str | None = None) -> None:
        """Hang up; a fault of the engine is logged, the other legs still get theirs."""
        with contained(lambda error: log.error("leg not hung up", leg=number, error=repr(error))):
            self._engine.hangup(number, reason)

    def _refuse(self, number: LegId, ending: Ending) -> None:
        # RFC 6432: a final response may say by Reason what the other side said.
        headers = (("Reason", ending.reasons),) if ending.reasons else ()
        status = refusal_of(ending)
        if status == 503:
            # RFC 3261 21.5.4: without it the caller takes us for broken.
            headers = (*headers, RETRY_AFTER)
        with contained(lambda _error: self.hangup(number)):
            self._engine.reject(number, status, None, headers)


def browser_side(live: LiveCall) -> LegSide:
    """Which side of the call its browser is."""
    return "callee" if live.call.direction == "inbound" else "caller"


def anchor_side(live: LiveCall) -> LegSide:
    """Which side of the call its first SIP leg is."""
    return "caller" if live.call.direction == "inbound" else "callee"
