"""Joining the two sides of a call, once both are there: a browser with its SIP leg, or two SIP legs.

Every `await` is a gap in which the caller may hang up or the browser may go; after each, what is still true
is asked anew.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

from telephony_gateway.calls.closing import Closing
from telephony_gateway.calls.containment import contained
from telephony_gateway.calls.events import LegId
from telephony_gateway.calls.journal import Journal
from telephony_gateway.calls.legs import Legs, browser_side
from telephony_gateway.calls.live import LiveCall, Participant
from telephony_gateway.calls.model import Ending
from telephony_gateway.calls.ports import Engine
from telephony_gateway.errors import GatewayError, WrongState

ANSWER_FAILED = Ending(
    status="failed", cause="unspecified", source="system", reason="the call could not be answered"
)


class Bridging:
    """Bridges legs and answers the caller."""

    def __init__(self, *, engine: Engine, journal: Journal, legs: Legs, closing: Closing) -> None:
        self._engine = engine
        self._journal = journal
        self._legs = legs
        self._closing = closing

    async def join(self, live: LiveCall) -> None:
        """Bring the browser and the SIP leg together, if both are ready; whoever comes last calls again."""
        participant = live.participant
        if participant is None or participant.leg is None or not participant.ready or participant.bridged:
            return
        if live.call.direction == "inbound":
            await self._answer_with(live, participant, participant.leg)
        elif live.call.status == "in-progress":
            await self._bridge_answered(live, participant, participant.leg)
        elif live.early:
            await self._preview(live, participant.leg)
        elif live.ringback is not None and live.call.status == "ringing":
            self._engine.ring_back(participant.leg, live.ringback)

    async def ring(self, live: LiveCall, codecs: Sequence[str], early: LegId | None = None) -> str:
        """Ring the caller: with the sound of the `early` leg, else with its trunk's tone, else plainly."""
        sounds = early is not None or live.ringback is not None
        codec = await self._engine.ring(live.anchor, codecs=codecs, status=183 if sounds else 180)
        if early is not None:
            live.early = True
            await self._preview(live, early)
        elif live.ringback is not None and codec:
            self._engine.ring_back(live.anchor, live.ringback)
        return codec

    async def connect_far(self, live: LiveCall, far: LegId) -> None:
        """The far side of a forwarded call answered: so does the caller's leg."""
        await self._engine.bridge(live.anchor, far)
        if not live.call.over:
            await self._answer(live)

    async def _preview(self, live: LiveCall, leg: LegId) -> None:
        # One of the legs may have ended meanwhile; and a call without early media is a call all the same.
        with suppress(GatewayError):
            await self._engine.preview(live.anchor, leg)

    async def _answer_with(self, live: LiveCall, participant: Participant, leg: LegId) -> None:
        participant.bridged = True
        await self._bridge(live, participant, leg)
        await self._answer(live)
        if live.participant is not participant:
            # The browser went while the 200 was on its way: nobody is there to talk to.
            self._closing.finish(live, browser_left(live))
        live.require(participant)

    async def _bridge_answered(self, live: LiveCall, participant: Participant, leg: LegId) -> None:
        participant.bridged = True
        await self._bridge(live, participant, leg)
        live.clear_timer()
        self._journal.apply(live, "bridge")

    async def _bridge(self, live: LiveCall, participant: Participant, leg: LegId) -> None:
        try:
            await self._engine.bridge(live.anchor, leg)
        except GatewayError:
            # One of the legs may have ended meanwhile: then this is no fault of the engine.
            live.require(participant)
            raise
        live.require(participant)

    async def _answer(self, live: LiveCall) -> None:
        live.answering = True
        if live.coming is not None:
            self._fetch(live, live.coming)
            return
        try:
            await self._engine.answer(live.anchor, lambda: self._answered(live))
        except GatewayError:
            # Usually the caller cancelled first, and its `Ended` is on the way or here.
            self._closing.finish(live, ANSWER_FAILED)
            raise WrongState("the caller is gone") from None
        if live.call.over:
            raise WrongState("the call is over")

    def _answered(self, live: LiveCall) -> None:
        if live.call.over:
            return
        with contained(lambda error: self._closing.fail(live, error)):
            live.clear_timer()
            self._legs.update(live, live.anchor, "answered", followed=True)
            self._journal.answer(live)

    def _fetch(self, live: LiveCall, coming: Callable[[], None]) -> None:
        """The telephone was answered long ago, in the call that hands it on."""
        try:
            coming()
        except GatewayError:
            self._closing.finish(live, ANSWER_FAILED)
            raise
        live.clear_timer()
        self._journal.answer(live)


def browser_left(live: LiveCall) -> Ending:
    """How an answered call ends when its browser hangs up or goes away."""
    return Ending(
        status="completed", cause="normal_clearing", source=browser_side(live), reason="the browser left"
    )
