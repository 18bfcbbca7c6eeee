"""Attended transfers: two calls of one telephone become one (RFC 3891)."""

import asyncio
from contextlib import suppress
from typing import Final

from telephony_gateway.calls.attempts import Failure
from telephony_gateway.calls.closing import Closing
from telephony_gateway.calls.endings import rejection
from telephony_gateway.calls.events import Answered, LegId, Ringing
from telephony_gateway.calls.hunting import GRACE
from telephony_gateway.calls.journal import Journal
from telephony_gateway.calls.legs import Legs
from telephony_gateway.calls.live import LiveCall, LiveCalls
from telephony_gateway.calls.model import Ending, HangupSource
from telephony_gateway.calls.ports import Engine
from telephony_gateway.calls.routing import Destination, Party
from telephony_gateway.calls.seeking import REPLACING, Seeking
from telephony_gateway.calls.tasks import Tasks
from telephony_gateway.calls.transfer import TALKING, Transfer, describe, party_of, rings_for, staying_with
from telephony_gateway.errors import GatewayError, WrongState

NO_STATE: Final = "the call to be taken over is in no state for that"


class Attended:
    """Joins the far ends of two calls."""

    def __init__(
        self,
        *,
        engine: Engine,
        journal: Journal,
        calls: LiveCalls,
        legs: Legs,
        closing: Closing,
        tasks: Tasks,
        seeking: Seeking,
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._calls = calls
        self._legs = legs
        self._closing = closing
        self._tasks = tasks
        self._seeking = seeking

    def owner(self, leg: LegId) -> Party | None:
        """Whose the leg is: nobody else may name it (RFC 3891 3)."""
        live = self._calls.of_leg(leg)
        return party_of(live, leg) if live is not None else None

    def await_replacement(self, named: LegId, live: LiveCall, transfer: Transfer) -> None:
        """The one who stays was told to take the place of a leg of ours: he may, while the transfer runs."""
        if (other := self._calls.of_leg(named)) is not None:
            other.awaited = (live, transfer)

    def partner(self, leg: LegId) -> LegId | None:
        """Who talks to the peer of a leg, if that is a telephone."""
        live = self._calls.of_leg(leg)
        other = staying_with(live, leg) if live is not None else None
        return other if live is not None and other is not None and _is_telephone(live, other) else None

    def rings(self, leg: LegId) -> bool:
        """Whether telephones ring for the leg. Its dialog is ours to replace then: who names a dialog that is
        early, and was not begun by the one who is asked, gets a 481 (RFC 3891 3).
        """
        live = self._calls.of_leg(leg)
        return live is not None and bool(rings_for(live, leg))

    def at_browsers(self, leg: LegId) -> LiveCall | None:
        """The leg's call if nothing but browsers rings for it, and none has joined."""
        live = self._calls.of_leg(leg)
        if live is None or live.call.status != "ringing" or leg != live.anchor or rings_for(live, leg):
            return None
        waits = live.call.direction == "inbound" and live.participant is None and not live.answering
        return live if waits and live.target is not None and live.target.browser is not None else None

    def transfer(self, live: LiveCall, transfer: Transfer, named: LegId, *, early_only: bool) -> None:
        """The one who stays shall talk to the partner of the leg that is named, or if `early_only` to whom
        rings for it.
        """
        other = self._calls.of_leg(named)
        live.transfer = transfer
        assert transfer.number is not None
        self._engine.accept_refer(transfer.leaving, transfer.number)
        if other is None or other is live or other.transfer is not None:
            self._fail(live, transfer, 481, NO_STATE)
        elif early_only and (other.call.answered or other.answering):
            self._fail(live, transfer, 486, "the call to be taken over was answered (RFC 3891 3)")
        elif ringing := rings_for(other, named):
            self._take_ringing(live, transfer, other, ringing)
        elif other.call.status != "in-progress" or (newcomer := staying_with(other, named)) is None:
            self._fail(live, transfer, 481, NO_STATE)
        elif _is_telephone(other, newcomer):
            transfer.answering = True
            self._tasks.spawn(live, lambda: self._merge(live, transfer, other, named, newcomer))
        elif _is_telephone(live, transfer.staying):
            transfer.answering = True
            self._tasks.spawn(live, lambda: self._come(live, transfer, other, named, newcomer))
        else:
            self._fail(live, transfer, 488, "two browsers cannot be joined")

    async def _merge(
        self, live: LiveCall, transfer: Transfer, other: LiveCall, named: LegId, newcomer: LegId
    ) -> None:
        """The newcomer's leg moves from its call to this one, and its call is over."""
        party = party_of(other, newcomer)
        try:
            await self._engine.bridge(transfer.staying, newcomer)
        except WrongState:
            if live.transfer is transfer:
                self._call_anew(live, transfer, newcomer, party)
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
        place = _place_of(transfer, party, live)
        self._closing.finish(other, transferred(source))
        await self._seeking.settle(live, transfer, newcomer, place)

    def _take_ringing(
        self, live: LiveCall, transfer: Transfer, other: LiveCall, ringing: dict[LegId, Destination]
    ) -> None:
        """What rings for the one who asks rings for the one who stays, and his call is over.

        To be asked for a dialog that is still early is a semi-attended transfer. The races that RFC 5589 7.6
        tells of need a CANCEL and a new INVITE: here the target's leg stays the one that it is.
        """
        leaving, hunt = live.legs.get(transfer.leaving), other.hunt
        for leg, destination in ringing.items():
            self._legs.move(other, live, leg, leaving.side if leaving is not None else "callee")
            transfer.ringing[leg] = destination
        transfer.mine.update(ringing)
        transfer.taken.update(ringing)
        far, codec = other.far, other.far_codec if other.early else None
        other.hunt = other.far = None
        self._closing.finish(other, transferred("caller"))
        stages = [stage for stage in hunt.waiting if stage.destinations] if hunt is not None else []
        self._seeking.go_on(live, transfer, stages, other.call.timeout)
        for leg in ringing:
            self._catch_up(live, leg, codec if leg == far else None)

    def _catch_up(self, live: LiveCall, leg: LegId, codec: str | None) -> None:
        """Tell of a leg that has come to the call what its call before was told."""
        known = live.legs.get(leg)
        if known is not None and known.state in TALKING:
            self._seeking.answered(live, Answered(leg=leg, codec=known.codec or "", sip_call_id=""))
        elif known is not None and known.state == "ringing":
            self._seeking.ringing(live, Ringing(leg=leg, status=183 if codec else 180, codec=codec))

    async def _come(
        self, live: LiveCall, transfer: Transfer, other: LiveCall, named: LegId, browser: LegId
    ) -> None:
        """A browser's page knows its own call: that one goes on, and the one who stays comes to it."""
        place = _place_of(transfer, party_of(live, transfer.staying), live)
        back = Transfer(leaving=named, staying=browser, to=transfer.to, kind="attended", answering=True)
        back.outcome = lambda status, reason: self.outcome(live, transfer, status, reason)
        describe(other, back)
        other.transfer = back
        try:
            await self._engine.bridge(browser, transfer.staying)
            known, gone = live.legs.get(transfer.staying), other.legs.get(named)
            if known is None or gone is None or live.call.over or other.transfer is not back:
                return
            self._legs.move(live, other, transfer.staying, gone.side)
            await self._seeking.settle(other, back, transfer.staying, place)
        except WrongState:
            if other.transfer is back and not other.call.over:
                back.answering, transfer.elsewhere = False, True
                self._seeking.replace(other, back, transfer.staying, place)
                self._tasks.spawn(live, lambda: self._await_outcome(live, transfer))
        except GatewayError as error:
            if other.transfer is back:
                self._seeking.fail(other, back, Failure(503, rejection(503, error.message)))

    async def _await_outcome(self, live: LiveCall, transfer: Transfer) -> None:
        # The other call may end without a word about this one.
        await asyncio.sleep(REPLACING + 2 * GRACE)
        self.outcome(live, transfer, 408, "the outcome was never told")

    def outcome(self, live: LiveCall, transfer: Transfer, status: int, reason: str) -> None:
        """What has come of a transfer that another call carries out for this one."""
        if live.call.over or live.transfer is not transfer or status < 200:
            return
        if status >= 300:
            self._fail(live, transfer, status, reason)
            return
        live.transfer = None
        with suppress(GatewayError):
            self._engine.notify_refer(transfer.leaving, transfer.number or 0, status)
        self._journal.apply(live, "transfer", transfer.facts | {"new_leg_id": None})
        leaving = live.legs.get(transfer.leaving)
        self._closing.finish(live, transferred(leaving.side if leaving is not None else "unknown"))

    def _call_anew(self, live: LiveCall, transfer: Transfer, newcomer: LegId, party: Party) -> None:
        """Different media workers carry the two: the newcomer's telephone is asked to replace its call."""
        transfer.answering = False
        place = _place_of(transfer, party, live)
        self._seeking.replace(live, transfer, newcomer, place)

    def _fail(self, live: LiveCall, transfer: Transfer, status: int, reason: str) -> None:
        self._seeking.fail(live, transfer, Failure(status, rejection(status, reason)))


def transferred(source: HangupSource) -> Ending:
    """How the call ends that is not needed any more."""
    return Ending(status="completed", cause="normal_clearing", source=source, reason="transferred")


def _is_telephone(live: LiveCall, leg: LegId) -> bool:
    known = live.legs.get(leg)
    return known is not None and known.kind == "sip"


def _place_of(transfer: Transfer, party: Party, live: LiveCall) -> Destination:
    """Where a leg of another call sits."""
    return Destination(
        uri=transfer.to,
        host="",
        trunk=party.trunk,
        next_hop=None,
        codecs=live.codecs,
        user=party.user,
        number=party.number,
    )
