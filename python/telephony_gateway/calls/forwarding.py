"""Inbound calls that a route sends on to a trunk or a SIP URI: two dialogs, joined (a B2BUA, RFC 7092)."""

from contextlib import suppress

from telephony_gateway.calls import passage
from telephony_gateway.calls.bridging import Bridging
from telephony_gateway.calls.closing import Closing
from telephony_gateway.calls.dialling import Dialler, in_order
from telephony_gateway.calls.endings import not_dialled, rejection
from telephony_gateway.calls.events import Answered, Incoming, LegId, Ringing
from telephony_gateway.calls.hunting import GRACE, NO_ANSWER, Hunting
from telephony_gateway.calls.journal import Journal
from telephony_gateway.calls.legs import Legs
from telephony_gateway.calls.live import LiveCall
from telephony_gateway.calls.model import Ending
from telephony_gateway.calls.ports import Engine
from telephony_gateway.calls.refusals import Refusals
from telephony_gateway.calls.routing import Routing, Target
from telephony_gateway.calls.stages import is_plain, way
from telephony_gateway.calls.tasks import Tasks
from telephony_gateway.errors import GatewayError, NotAcceptable

NOBODY = Ending(
    status="no-answer",
    cause="unspecified",
    source="system",
    sip_response_code=480,
    reason="nobody whom the route rings is there",
)


class Forwarding:
    """Dials the far side and maps what it says to the caller."""

    def __init__(
        self,
        *,
        engine: Engine,
        journal: Journal,
        legs: Legs,
        closing: Closing,
        tasks: Tasks,
        bridging: Bridging,
        routing: Routing,
        dialler: Dialler,
        hunting: Hunting,
        refusals: Refusals,
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._legs = legs
        self._closing = closing
        self._tasks = tasks
        self._bridging = bridging
        self._routing = routing
        self._dialler = dialler
        self._hunting = hunting
        self._refusals = refusals

    def forward(self, live: LiveCall, event: Incoming, target: Target) -> None:
        """Send the call on."""
        if _was_here(live, event):
            self._closing.finish(
                live, rejection(482, "the call has come back to where it was sent on before")
            )
            return
        live.request = event
        if is_plain(target):
            self._dial(live, event, target)
        else:
            self._hunt(live, target)

    def sent_on(self, live: LiveCall, event: Incoming, leg: LegId, target: Target | None) -> None:
        """The engine has dialled for the call, by a plain route."""
        live.request, live.far = event, leg
        self._tasks.later(live, live.call.timeout + GRACE, lambda: self._closing.finish(live, NO_ANSWER))
        self._legs.joins(live, leg, "callee")
        if target is not None:
            with suppress(GatewayError):
                live.destination = self._routing.forward(target, live.call.to)

    def _hunt(self, live: LiveCall, target: Target) -> None:
        found = way(self._routing, target, live.call.to)
        none = rejection(404, found.refused[0].message) if found.refused else NOBODY
        self._hunting.begin(live, found.stages, none, lambda: self._ring(live))

    def _dial(self, live: LiveCall, event: Incoming, target: Target) -> None:
        try:
            destination = self._routing.forward(target, live.call.to)
            self._dialler.check_onward(destination)
        except GatewayError as error:
            self._refuse(live, event, error)
            return
        self._tasks.later(live, live.call.timeout + GRACE, lambda: self._closing.finish(live, NO_ANSWER))
        live.far, live.destination = self._legs.far(live), destination
        try:
            # With a tone to be played the caller does not ring as plainly as the engine would have it.
            plain = live.ringback is None
            self._dialler.dial(live, live.far, destination, live.call.timeout, passes_on=plain)
        except GatewayError:
            self._legs.drop(live, live.far)
            raise

    def _refuse(self, live: LiveCall, event: Incoming, error: GatewayError) -> None:
        ending = not_dialled(error)
        self._refusals.turned_away(self._journal.clock.now(), event, ending, error)
        self._closing.finish(live, ending)

    def ringing(self, live: LiveCall, event: Ringing) -> None:
        """The far side rings: so does the caller's leg, with its sound if it sends any."""
        if event.passed_on is not None:
            if live.codec is None:
                live.codec = event.passed_on
                self._legs.passed_on(live, "ringing", event.leg, None)
                self._journal.apply(live, "ring", age=event.age)
            return
        self._legs.update(live, event.leg, "ringing", followed=True)
        live.far_codec = event.codec or live.far_codec
        early = event.leg if event.codec else None
        self._tasks.begin(live, lambda: self._ring(live, early))

    def answered(self, live: LiveCall, event: Answered) -> None:
        """The far side answered."""
        live.request = None
        live.far_codec = event.codec
        if event.passed_on is not None:
            self._passed_on(live, event, event.passed_on)
            return
        self._legs.update(live, event.leg, "answered", event.codec, followed=True)
        self._tasks.begin(live, lambda: self._connect(live, event.leg))

    def _passed_on(self, live: LiveCall, event: Answered, codec: str) -> None:
        """The engine has joined the two and answered the caller."""
        live.answering = True
        live.clear_timer()
        # Where nobody said that it rings, the answer does.
        rang = None if live.codec is not None else event.age if event.rang is None else event.rang
        live.codec = codec
        self._legs.passed_on(live, "answered", event.leg, event.codec)
        self._journal.answer(live, event.age, rang)

    async def _ring(self, live: LiveCall, early: LegId | None = None) -> bool:
        async with live.lock:
            if live.codec is None or (early is not None and not live.early):
                wanted = [live.far_codec] if live.far_codec else []
                try:
                    codec = await self._bridging.ring(live, in_order(wanted, live.codecs), early)
                except NotAcceptable:
                    return False  # 488 has left; the leg's `Ended` ends the call
                live.codec = codec
                self._legs.update(live, live.anchor, "ringing", codec, followed=True)
                self._journal.apply(live, "ring")
        return True

    async def _connect(self, live: LiveCall, far: LegId) -> None:
        if await self._ring(live):
            await self._bridging.connect_far(live, far)


def _was_here(live: LiveCall, event: Incoming) -> bool:
    """RFC 5393 in spirit: the call came by us before, to be sent on by the very same decision."""
    if not (earlier := passage.passages(event.message)):
        return False
    call = live.call
    return passage.token(call.trunk or "", call.to, call.from_) in earlier
