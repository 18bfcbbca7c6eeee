"""Calling for the empty place of a transfer: stage after stage, until somebody answers or nobody is left."""

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import suppress

from telephony_gateway.calls.attempts import Failure, better, failure_of
from telephony_gateway.calls.closing import Closing
from telephony_gateway.calls.dialling import Dialler, said_by
from telephony_gateway.calls.endings import not_dialled, rejection
from telephony_gateway.calls.events import Answered, Ended, LegId, Ringing
from telephony_gateway.calls.hunting import ELSEWHERE, GRACE, NO_ANSWER
from telephony_gateway.calls.journal import Journal
from telephony_gateway.calls.legs import Legs
from telephony_gateway.calls.live import LiveCall
from telephony_gateway.calls.ports import Engine
from telephony_gateway.calls.redirects import MAX_REDIRECTS, places
from telephony_gateway.calls.routing import Destination, Routing
from telephony_gateway.calls.stages import Stage
from telephony_gateway.calls.tasks import Tasks
from telephony_gateway.calls.transfer import Transfer, take_place
from telephony_gateway.calls.uris import parse_sip
from telephony_gateway.errors import GatewayError, WrongState

MAX_ATTEMPTS = 16
REPLACING = 20.0
"""Seconds for a telephone to replace its own call: nobody has to pick up."""


class Seeking:
    """Drives the search, and puts the new leg in its place."""

    def __init__(
        self,
        *,
        engine: Engine,
        journal: Journal,
        legs: Legs,
        closing: Closing,
        tasks: Tasks,
        dialler: Dialler,
        routing: Routing,
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._legs = legs
        self._closing = closing
        self._tasks = tasks
        self._dialler = dialler
        self._routing = routing

    def begin(self, live: LiveCall, transfer: Transfer, stages: Iterable[Stage]) -> None:
        """Try the stages in turn."""
        transfer.waiting = deque(stages)
        live.transfer = transfer
        self._next(live, transfer)

    def replace(self, live: LiveCall, transfer: Transfer, other: LegId, place: Destination) -> None:
        """Call the peer of another leg, to take that leg's place there."""
        leg, known = self._seat(live, transfer), parse_sip(transfer.to)
        host = known.host if known is not None else "anonymous.invalid"
        trunk = self._routing.trunks.get(place.trunk) if place.trunk else None
        said = said_by(transfer.order, trunk, host)
        try:
            self._engine.dial(
                leg,
                uri=transfer.to,
                from_uri=said.uri,
                from_display=said.display,
                headers=said.headers,
                trunk=place.trunk or "",
                codecs=list(place.codecs),
                timeout=REPLACING,
                replaces=other,
            )
        except GatewayError as error:
            self._legs.drop(live, leg)
            self.fail(live, transfer, Failure(503, rejection(503, error.message)))
            return
        transfer.ringing[leg] = place
        self._tasks.spawn(live, lambda: self._wait(live, transfer, Stage(timeout=REPLACING)))

    def go_on(self, live: LiveCall, transfer: Transfer, stages: Iterable[Stage], timeout: float) -> None:
        """Wait for legs that were dialled for another call and are this one's now; then try the stages."""
        transfer.waiting = deque(stages)
        transfer.stage += 1
        self._tasks.spawn(live, lambda: self._wait(live, transfer, Stage(timeout=timeout)))

    def ringing(self, live: LiveCall, event: Ringing) -> bool:
        """A leg rings; whether it is one of a transfer. The side that stays hears it."""
        transfer = live.transfer
        if transfer is None or event.leg not in transfer.mine:
            return False
        if event.leg in transfer.ringing and not transfer.answering:
            self._legs.update(live, event.leg, "ringing", event.codec)
            self._tell(transfer, event.status)
            if event.codec is not None or not transfer.parted:
                transfer.parted = True
                self._tasks.spawn(live, lambda: self._let_hear(live, transfer, event))
        return True

    def rings(self, live: LiveCall, transfer: Transfer, status: int) -> None:
        """Something rings that has no sound of its own: the side that stays hears a tone."""
        transfer.parted = True
        self._tell(transfer, status)
        with suppress(GatewayError):
            self._play(live, transfer)

    def answered(self, live: LiveCall, event: Answered) -> bool:
        """A leg answered; whether it is one of a transfer. The first one has the place."""
        transfer = live.transfer
        if transfer is None or event.leg not in transfer.mine:
            return False
        destination = transfer.ringing.pop(event.leg, None)
        if destination is None or transfer.answering:
            self._legs.hangup(event.leg, ELSEWHERE)
            return True
        transfer.answering = True
        self._legs.update(live, event.leg, "answered", event.codec)
        self._cancel(transfer)
        self._tasks.spawn(live, lambda: self._settle(live, transfer, event.leg, destination))
        return True

    def ended(self, live: LiveCall, transfer: Transfer, event: Ended) -> bool:
        """A leg ended; whether it is one that was called for the transfer."""
        if event.leg not in transfer.mine:
            return False
        before = transfer.ringing.pop(event.leg, None)
        if before is None or transfer.answering:
            return True
        failure = failure_of(event)
        transfer.best = better(transfer.best, failure)
        if event.by == "remote" and failure.status >= 600:
            # RFC 3261 16.7, item 5: nobody else is asked.
            transfer.waiting.clear()
            self._cancel(transfer)
        self._follow(live, transfer, event, before)
        if not transfer.ringing:
            self._next(live, transfer)
        return True

    async def settle(self, live: LiveCall, transfer: Transfer, leg: LegId, destination: Destination) -> None:
        """Give the leg, which is of this call and answered, the place of the one that leaves."""
        await self._engine.bridge(transfer.staying, leg)
        if live.call.over or live.transfer is not transfer:
            return
        take_place(live, transfer, leg, destination)
        live.transfer = None
        self._drop_asked(live, transfer)
        with suppress(GatewayError):
            self._engine.introduce(transfer.staying, leg)
        self._tell(transfer, 200)
        known = live.legs.get(leg)
        new_leg = str(known.id) if known is not None else None
        self._journal.apply(live, "transfer", transfer.facts | {"new_leg_id": new_leg})
        if (participant := live.participant) is not None and participant.leg == transfer.leaving:
            self._closing.part(live, participant)
        elif transfer.gone is None:
            self._legs.hangup(transfer.leaving)

    def fail(self, live: LiveCall, transfer: Transfer, failure: Failure) -> None:
        """Nobody answered: who was to leave stays, unless it has gone."""
        live.transfer = None
        self._drop_asked(live, transfer)
        self._tell(transfer, failure.status, failure.ending.reason or "")
        said = {"sip_response_code": failure.status, "reason": failure.ending.reason}
        self._journal.apply(live, "refer-fail", transfer.facts | said)
        if transfer.gone is not None:
            self._closing.finish(live, transfer.gone)
        elif transfer.parted:
            self._tasks.spawn(live, lambda: self._rejoin(transfer))

    async def _settle(self, live: LiveCall, transfer: Transfer, leg: LegId, destination: Destination) -> None:
        try:
            await self.settle(live, transfer, leg, destination)
        except GatewayError as error:
            if live.call.over or live.transfer is not transfer:
                return
            if isinstance(error, WrongState) and transfer.asked is None and leg in transfer.taken:
                transfer.asked, transfer.answering = leg, False
                self.replace(live, transfer, leg, destination)
                return
            # The one who answered is gone again, or the media cannot be joined.
            self._legs.hangup(leg)
            transfer.parted = True
            self.fail(live, transfer, Failure(500, rejection(500, error.message)))

    async def _rejoin(self, transfer: Transfer) -> None:
        # Either side may have hung up meanwhile; its end is told.
        with suppress(GatewayError):
            self._engine.ring_back(transfer.staying, None)
            await self._engine.bridge(transfer.staying, transfer.leaving)

    async def _let_hear(self, live: LiveCall, transfer: Transfer, event: Ringing) -> None:
        with suppress(GatewayError):
            if event.codec is not None:
                await self._engine.preview(transfer.staying, event.leg)
            else:
                self._play(live, transfer)

    def _play(self, live: LiveCall, transfer: Transfer) -> None:
        if live.ringback is not None:
            self._engine.unbridge(transfer.staying)
            self._engine.ring_back(transfer.staying, live.ringback)

    def _follow(self, live: LiveCall, transfer: Transfer, event: Ended, before: Destination) -> None:
        """RFC 3261 8.1.3.4: where the target is said to be comes next; at once if others ring."""
        if not event.contacts or transfer.redirects >= MAX_REDIRECTS:
            return
        transfer.redirects += 1
        transfer.tried.add(before.uri)
        stages = [
            Stage(destinations=(place,))
            for place in places(self._routing, event.contacts, before, transfer.tried)
        ]
        if stages and transfer.ringing:
            self._dial(live, transfer, stages.pop(0).destinations[0], live.call.timeout)
        transfer.waiting.extendleft(reversed(stages))

    def _next(self, live: LiveCall, transfer: Transfer) -> None:
        while transfer.waiting:
            stage = transfer.waiting.popleft()
            for destination in stage.destinations:
                self._dial(live, transfer, destination, stage.timeout or live.call.timeout)
            if transfer.ringing:
                transfer.stage += 1
                self._tasks.spawn(live, lambda: self._wait(live, transfer, stage))  # noqa: B023
                return
        self.fail(live, transfer, transfer.best or Failure(480, NO_ANSWER))

    async def _wait(self, live: LiveCall, transfer: Transfer, stage: Stage) -> None:
        number = transfer.stage
        await asyncio.sleep((stage.timeout or live.call.timeout) + GRACE)
        if live.transfer is not transfer or transfer.stage != number or transfer.answering:
            return
        transfer.best = better(transfer.best, Failure(408, NO_ANSWER))
        self._cancel(transfer)
        self._next(live, transfer)

    def _dial(self, live: LiveCall, transfer: Transfer, destination: Destination, timeout: float) -> None:
        if len(transfer.mine) >= MAX_ATTEMPTS:
            return
        leg = self._seat(live, transfer)
        transfer.tried.add(destination.uri)
        try:
            self._dialler.check_onward(destination)
            self._dialler.dial(
                live, leg, destination, timeout,
                elsewhere=bool(transfer.waiting), order=transfer.order, extra=transfer.headers,
            )  # fmt: skip
        except GatewayError as error:
            self._legs.drop(live, leg)
            ending = not_dialled(error)
            transfer.best = better(transfer.best, Failure(ending.sip_response_code or 500, ending, error))
            return
        transfer.ringing[leg] = destination

    def _seat(self, live: LiveCall, transfer: Transfer) -> LegId:
        leaving = live.legs.get(transfer.leaving)
        leg = self._legs.beside(live, transfer.staying, leaving.side if leaving is not None else "callee")
        transfer.mine.add(leg)
        return leg

    def _cancel(self, transfer: Transfer) -> None:
        for leg in transfer.ringing:
            self._legs.hangup(leg, ELSEWHERE)
        transfer.ringing.clear()

    def _drop_asked(self, live: LiveCall, transfer: Transfer) -> None:
        if transfer.asked is not None and transfer.asked in live.legs:
            self._legs.hangup(transfer.asked)

    def _tell(self, transfer: Transfer, status: int, reason: str = "") -> None:
        if transfer.outcome is not None:
            transfer.outcome(status, reason)
        if transfer.number is not None:
            with suppress(GatewayError):
                self._engine.notify_refer(transfer.leaving, transfer.number, status, reason)
