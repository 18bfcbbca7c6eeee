"""INVITEs with Replaces: they take a leg's place, or pick up what rings elsewhere (RFC 3891)."""

from collections.abc import Callable, Iterator
from typing import Final

from telephony_gateway.calls.attempts import Failure
from telephony_gateway.calls.endings import rejection
from telephony_gateway.calls.events import Answered, Incoming, LegId
from telephony_gateway.calls.forwarding import Forwarding
from telephony_gateway.calls.hunting import ELSEWHERE, Hunting
from telephony_gateway.calls.legs import Legs
from telephony_gateway.calls.limits import Limits
from telephony_gateway.calls.live import LiveCall, LiveCalls
from telephony_gateway.calls.ports import Engine
from telephony_gateway.calls.routing import Destination, Party, Routing
from telephony_gateway.calls.seeking import Seeking
from telephony_gateway.calls.tasks import Tasks
from telephony_gateway.calls.transfer import Transfer, may_name, party_of, staying_with
from telephony_gateway.calls.trunks import Trunk
from telephony_gateway.calls.uris import user_of
from telephony_gateway.calls.vouching import Vouching
from telephony_gateway.errors import GatewayError

NO_STATE: Final = (481, "replaces", "the call to be taken over is in no state for that")
Refuse = Callable[[int, str, str], None]
"""Turns the INVITE down, by a rule and for a reason."""


class Replacing:
    """Lets those take a leg's place who are of its call."""

    def __init__(
        self,
        *,
        engine: Engine,
        calls: LiveCalls,
        legs: Legs,
        tasks: Tasks,
        seeking: Seeking,
        forwarding: Forwarding,
        hunting: Hunting,
        routing: Routing,
        vouching: Vouching,
        limits: Limits,
    ) -> None:
        self._engine = engine
        self._calls = calls
        self._legs = legs
        self._tasks = tasks
        self._seeking = seeking
        self._forwarding = forwarding
        self._hunting = hunting
        self._routing = routing
        self._vouching = vouching
        self._limits = limits

    def take(self, event: Incoming, trunk: Trunk, refuse: Refuse) -> None:
        """Carry it out, if there is such a leg in a call that allows it. What fails changes nothing (3)."""
        named = event.replaces
        live = self._calls.of_leg(named) if named is not None else None
        if live is None or named is None or not _can_go(live, named):
            refuse(*NO_STATE)
        elif not self._is_of(live, named, Party(trunk=trunk.name, user=event.user)):
            who = f"user {event.user}" if event.user is not None else f"trunk {trunk.name}"
            refuse(403, "replaces", f"{who} is no side of the call that Replaces names")
        else:
            self._legs.joins(live, event.leg, live.legs[named].side)
            self._limits.came(trunk, event.leg)
            self._tasks.begin(live, lambda: self._come(live, named, event, trunk, refuse))

    def _is_of(self, live: LiveCall, named: LegId, party: Party) -> bool:
        return any(may_name(party, side, self._routing.trunks) for side in _sides(live, named))

    async def _come(
        self, live: LiveCall, named: LegId, event: Incoming, trunk: Trunk, refuse: Refuse
    ) -> None:
        wrong = await self._vouching.objection(event, trunk)
        if event.leg not in live.legs:
            return  # he has gone meanwhile
        if wrong is not None:
            refuse(wrong[0], "identity", wrong[1])
        elif _rings(live, named):
            await self._pick_up(live, event, trunk)
        elif _can_go(live, named) and (staying := staying_with(live, named)) is not None:
            await self._take_over(live, named, staying, event, trunk)
        else:
            refuse(*NO_STATE)

    async def _pick_up(self, live: LiveCall, event: Incoming, trunk: Trunk) -> None:
        """Somebody answers what rings elsewhere (RFC 3891 1). If he cannot, it rings on (3)."""
        try:
            codec = await self._engine.ring(event.leg, codecs=trunk.codecs)
            if not _is_answered(live):
                await self._engine.answer(event.leg)
        except GatewayError:
            # 488 has left, or he has gone: his leg is all that ends.
            self._legs.hangup(event.leg)
            return
        if _is_answered(live):
            self._legs.hangup(event.leg, ELSEWHERE)
            return
        rang = live.far
        if live.hunt is not None:
            self._hunting.taken(live)
        elif rang is not None:
            self._legs.hangup(rang, ELSEWHERE)
        live.far, live.target = event.leg, None
        live.destination = _place(event, trunk)
        answered = Answered(leg=event.leg, codec=codec, sip_call_id=event.sip_call_id)
        self._forwarding.answered(live, answered)

    async def _take_over(
        self, live: LiveCall, named: LegId, staying: LegId, event: Incoming, trunk: Trunk
    ) -> None:
        transfer = Transfer(leaving=named, staying=staying, to=event.from_uri, kind="attended")
        transfer.answering = True
        transfer.mine.add(event.leg)
        live.transfer = transfer
        try:
            await self._engine.answer(event.leg)
            self._legs.update(live, event.leg, "answered")
            await self._seeking.settle(live, transfer, event.leg, _place(event, trunk))
        except GatewayError as error:
            if live.transfer is transfer:
                self._legs.hangup(event.leg)
                transfer.parted = True
                self._seeking.fail(live, transfer, Failure(500, rejection(500, error.message)))


def _can_go(live: LiveCall, named: LegId) -> bool:
    """Whether another may have the leg's place now."""
    if _rings(live, named):
        return True
    talks = live.call.status == "in-progress" and staying_with(live, named) is not None
    return talks and live.transfer is None


def _rings(live: LiveCall, leg: LegId) -> bool:
    """Whether the leg is one that rings for a caller."""
    hunted = live.hunt is not None and leg in live.hunt.ringing
    is_callee = hunted or (leg == live.far and live.hunt is None)
    return is_callee and live.call.direction == "inbound" and not _is_answered(live)


def _is_answered(live: LiveCall) -> bool:
    """Whether somebody has the call already, or nobody can have it any more."""
    return live.call.over or live.call.answered or live.answering


def _sides(live: LiveCall, named: LegId) -> Iterator[Party]:
    """The sides of the call, and whom a transfer that was passed on has sent to it (RFC 3891 3)."""
    yield live.party
    if live.hunt is not None and named in live.hunt.ringing:
        yield live.hunt.ringing[named].party
    elif live.destination is not None and live.far is not None:
        yield live.destination.party
    if live.awaited is not None:
        other, transfer = live.awaited
        if other.transfer is transfer and not other.call.over:
            yield party_of(other, transfer.staying)


def _place(event: Incoming, trunk: Trunk) -> Destination:
    """Where a leg that came in by an INVITE sits."""
    return Destination(
        uri=event.from_uri,
        host="",
        trunk=trunk.name,
        next_hop=None,
        codecs=trunk.codecs,
        user=event.user,
        number=user_of(event.from_uri),
    )
