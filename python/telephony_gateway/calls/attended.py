"""Attended transfers: two calls of one telephone become one (RFC 3891), and INVITEs that replace a leg."""

from telephony_gateway.calls.attempts import Failure
from telephony_gateway.calls.closing import Closing
from telephony_gateway.calls.endings import rejection
from telephony_gateway.calls.events import Answered, Incoming, LegId
from telephony_gateway.calls.forwarding import Forwarding
from telephony_gateway.calls.hunting import ELSEWHERE, Hunting
from telephony_gateway.calls.legs import Legs
from telephony_gateway.calls.live import LiveCall, LiveCalls
from telephony_gateway.calls.model import Ending
from telephony_gateway.calls.ports import Engine
from telephony_gateway.calls.routing import Destination
from telephony_gateway.calls.seeking import Seeking
from telephony_gateway.calls.tasks import Tasks
from telephony_gateway.calls.transfer import Transfer, staying_with, trunk_of
from telephony_gateway.calls.trunks import Trunk
from telephony_gateway.errors import GatewayError, WrongState


class Attended:
    """Joins the far ends of two calls."""

    def __init__(
        self,
        *,
        engine: Engine,
        calls: LiveCalls,
        legs: Legs,
        closing: Closing,
        tasks: Tasks,
        seeking: Seeking,
        forwarding: Forwarding,
        hunting: Hunting,
    ) -> None:
        self._engine = engine
        self._calls = calls
        self._legs = legs
        self._closing = closing
        self._tasks = tasks
        self._seeking = seeking
        self._forwarding = forwarding
        self._hunting = hunting

    def partner(self, leg: LegId) -> LegId | None:
        """Who talks to the peer of a leg, if that is a telephone."""
        live = self._calls.of_leg(leg)
        other = staying_with(live, leg) if live is not None else None
        known = live.legs.get(other) if live is not None and other is not None else None
        return other if known is not None and known.kind == "sip" else None

    def transfer(self, live: LiveCall, transfer: Transfer, named: LegId) -> None:
        """The one who stays shall talk to the partner of the leg that is named."""
        other = self._calls.of_leg(named)
        live.transfer = transfer
        assert transfer.number is not None
        self._engine.accept_refer(transfer.leaving, transfer.number)
        if other is None or other is live or other.call.status != "in-progress" or other.transfer is not None:
            self._fail(live, transfer, 481, "the call to be taken over is in no state for that")
            return
        transfer.answering = True
        newcomer = self.partner(named)
        if newcomer is not None:
            self._tasks.spawn(live, lambda: self._merge(live, transfer, other, named, newcomer))
        else:
            self._fail(live, transfer, 488, "a browser's call cannot be taken over")

    def replace(self, event: Incoming, trunk: Trunk) -> bool:
        """An INVITE is to take a leg's place; whether there is such a leg, in a call that allows it."""
        named = event.replaces
        live = self._calls.of_leg(named) if named is not None else None
        if live is not None and named is not None and _rings(live, named):
            self._legs.joins(live, event.leg, "callee")
            self._tasks.spawn(live, lambda: self._pick_up(live, event, trunk))
            return True
        staying = staying_with(live, named) if live is not None and named is not None else None
        if live is None or named is None or staying is None:
            return False
        if live.transfer is not None or live.call.status != "in-progress":
            return False
        transfer = Transfer(leaving=named, staying=staying, to=event.from_uri, kind="attended")
        transfer.answering = True
        live.transfer = transfer
        leaving = live.legs[named]
        self._legs.joins(live, event.leg, leaving.side)
        transfer.mine.add(event.leg)
        place = _place(event, trunk)
        self._tasks.spawn(live, lambda: self._take_over(live, transfer, event.leg, place))
        return True

    async def _pick_up(self, live: LiveCall, event: Incoming, trunk: Trunk) -> None:
        """Somebody answers what rings elsewhere (RFC 3891 1)."""
        codec = await self._engine.ring(event.leg, codecs=trunk.codecs)
        await self._engine.answer(event.leg)
        if live.call.answered or live.answering:
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

    async def _take_over(self, live: LiveCall, transfer: Transfer, leg: LegId, place: Destination) -> None:
        try:
            await self._engine.answer(leg)
            self._legs.update(live, leg, "answered")
            await self._seeking.settle(live, transfer, leg, place)
        except GatewayError as error:
            if live.transfer is transfer:
                self._legs.hangup(leg)
                transfer.parted = True
                self._fail(live, transfer, 500, error.message)

    async def _merge(
        self, live: LiveCall, transfer: Transfer, other: LiveCall, named: LegId, newcomer: LegId
    ) -> None:
        """The newcomer's leg moves from its call to this one, and its call is over."""
        trunk = trunk_of(other, newcomer)
        try:
            await self._engine.bridge(transfer.staying, newcomer)
        except WrongState:
            if live.transfer is transfer:
                self._call_anew(live, transfer, newcomer, trunk)
            return
        except GatewayError as error:
            if live.transfer is transfer:
                self._fail(live, transfer, 503, error.message)
            return
        known = other.legs.get(newcomer)
        if known is None or other.call.over or live.call.over or live.transfer is not transfer:
            return
        leaving = live.legs.get(transfer.leaving)
        side = leaving.side if leaving is not None else known.side
        source = other.legs[named].side if named in other.legs else "unknown"
        self._legs.move(other, live, newcomer, side)
        place = Destination(uri=transfer.to, host="", trunk=trunk, next_hop=None, codecs=live.codecs)
        ending = Ending(status="completed", cause="normal_clearing", source=source, reason="transferred")
        self._closing.finish(other, ending)
        await self._seeking.settle(live, transfer, newcomer, place)

    def _call_anew(self, live: LiveCall, transfer: Transfer, newcomer: LegId, trunk: str | None) -> None:
        """Different media workers carry the two: the newcomer's telephone is asked to replace its call."""
        transfer.answering = False
        place = Destination(uri=transfer.to, host="", trunk=trunk, next_hop=None, codecs=live.codecs)
        self._seeking.replace(live, transfer, newcomer, place)

    def _fail(self, live: LiveCall, transfer: Transfer, status: int, reason: str) -> None:
        self._seeking.fail(live, transfer, Failure(status, rejection(status, reason)))


def _rings(live: LiveCall, leg: LegId) -> bool:
    """Whether the leg is one that rings for a caller."""
    hunted = live.hunt is not None and leg in live.hunt.ringing
    is_callee = hunted or (leg == live.far and live.hunt is None)
    return is_callee and live.call.direction == "inbound" and not live.call.answered and not live.answering


def _place(event: Incoming, trunk: Trunk) -> Destination:
    """Where a leg that came in by an INVITE sits."""
    return Destination(uri=event.from_uri, host="", trunk=trunk.name, next_hop=None, codecs=trunk.codecs)
