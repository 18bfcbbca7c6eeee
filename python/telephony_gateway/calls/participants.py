"""Browsers in calls: join, negotiate, leave. At most one browser is in a call; the first to join has it."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from telephony_gateway.calls.bridging import Bridging, browser_left
from telephony_gateway.calls.browsers import Browsers
from telephony_gateway.calls.closing import Closing
from telephony_gateway.calls.endings import ending_of
from telephony_gateway.calls.events import Ended, LegId
from telephony_gateway.calls.hunting import Hunting
from telephony_gateway.calls.journal import Journal
from telephony_gateway.calls.legs import Legs, browser_side
from telephony_gateway.calls.live import LiveCall, LiveCalls, Participant
from telephony_gateway.calls.model import Call, Session
from telephony_gateway.calls.policy import Policy
from telephony_gateway.calls.ports import Browser, Engine
from telephony_gateway.calls.tasks import Tasks
from telephony_gateway.calls.tickets import Tickets
from telephony_gateway.errors import GatewayError, Invalid, WrongState

_DIGITS = re.compile(r"[0-9A-D*#]{1,32}")


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """What a browser gets when it joins."""

    session: Session
    call: Call


class Participants:
    """Lets browsers into calls and out of them."""

    def __init__(
        self,
        *,
        engine: Engine,
        journal: Journal,
        calls: LiveCalls,
        legs: Legs,
        closing: Closing,
        tasks: Tasks,
        bridging: Bridging,
        tickets: Tickets,
        browsers: Browsers,
        hunting: Hunting,
        policy: Policy,
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._calls = calls
        self._legs = legs
        self._closing = closing
        self._tasks = tasks
        self._bridging = bridging
        self._tickets = tickets
        self._browsers = browsers
        self._hunting = hunting
        self._policy = policy

    async def join(self, live: LiveCall, browser: Browser, token: str | None) -> Joined:
        """Reserve the call for this browser. Its offer, once negotiated, answers an inbound call."""
        session = await self._tickets.admit(browser, live.call, token)
        # Looking the token up took a moment: only now is it known whose the call is.
        if (mine := live.participant) is not None and mine.browser is browser:
            return Joined(session=mine.session, call=live.call)
        if browser not in self._browsers:
            raise WrongState("the browser is gone")
        _check_joinable(live)
        session = msgspec.structs.replace(session, joined_at=self._journal.clock.now(), left_at=None)
        live.participant = Participant(browser, session)
        # It reads of its joining in the reply; the notice is for the others, and would come before the reply.
        self._calls.unwatch_one(live, browser)
        self._journal.apply(live, "join", {"session_id": str(session.id), "role": session.role})
        self._calls.watch(live, browser)
        self._journal.session(session)
        return Joined(session=session, call=live.call)

    async def offer(self, live: LiveCall, browser: Browser, sdp: str) -> str:
        """Take the browser's offer; returns the answer."""
        participant = _participant(live, browser)
        number = self._leg(live, participant)
        with self._negotiating(live, participant, number):
            answer = await self._engine.accept_offer(number, sdp, self._codecs(live))
        await self._negotiated(live, participant)
        return answer

    async def create_offer(self, live: LiveCall, browser: Browser) -> str:
        """An offer for a browser that would rather answer one; `answer` completes it."""
        participant = _participant(live, browser)
        number = self._leg(live, participant)
        with self._negotiating(live, participant, number):
            return await self._engine.create_offer(number, self._codecs(live))

    async def answer(self, live: LiveCall, browser: Browser, sdp: str) -> None:
        """Take the browser's answer to our offer."""
        participant = _participant(live, browser)
        if participant.leg is None:
            raise WrongState("there is no offer to answer")
        with self._negotiating(live, participant, participant.leg):
            await self._engine.accept_answer(participant.leg, sdp)
        await self._negotiated(live, participant)

    def candidate(self, live: LiveCall, browser: Browser, candidate: str | None) -> None:
        """A trickled candidate. Before the offer there is nothing it could belong to."""
        participant = _participant(live, browser)
        if participant.leg is None:
            raise WrongState("send the offer before its candidates")
        self._engine.add_candidate(participant.leg, candidate)

    def send_digits(self, live: LiveCall, browser: Browser, digits: str) -> None:
        """Tones from the browser's keypad towards the SIP side."""
        _participant(live, browser)
        if _DIGITS.fullmatch(digits) is None:
            raise Invalid("not digits", [("digits", "must be 1 to 32 of 0-9, A-D, * and #")])
        if live.call.status != "in-progress":
            raise WrongState("the call is not in progress")
        self._engine.send_digits(live.anchor, digits)

    def leave(self, live: LiveCall, browser: Browser) -> None:
        """The browser goes: an answered call ends, one that rings rings on. Who did not join declines."""
        if live.participant is None or live.participant.browser is not browser:
            self._decline(live, browser)
            return
        leaving = live.transfer is not None and live.transfer.leaving == live.participant.leg
        self._closing.part(live, live.participant)
        if leaving and live.transfer is not None:
            live.transfer.gone = browser_left(live)
        elif live.call.status == "in-progress":
            self._closing.finish(live, browser_left(live))
        elif live.call.status == "ringing":
            # Who came while it was taken has not been rung yet.
            self._browsers.announce(live)

    def _decline(self, live: LiveCall, browser: Browser) -> None:
        """One agent's "not me" is no refusal while others ring; the last one's is."""
        if not self._browsers.decline(live, browser):
            raise WrongState("join the call first")
        if live.participant is None and not self._browsers.any_for(live):
            self._hunting.declined(live)

    def disconnect(self, live: LiveCall, browser: Browser) -> None:
        """The browser's socket closed: if it is in the call, it leaves."""
        if live.participant is not None and live.participant.browser is browser:
            self.leave(live, browser)

    def lost(self, live: LiveCall, event: Ended) -> None:
        """The media leg of a browser is gone, though its socket may be there."""
        participant = live.participant
        if participant is None or participant.leg != event.leg:
            return
        participant.leg = None
        self._closing.part(live, participant)
        if live.call.status == "in-progress":
            self._closing.finish(live, ending_of(event, browser_side(live), answered=True))

    async def _negotiated(self, live: LiveCall, participant: Participant) -> None:
        live.require(participant)
        participant.ready = True
        # Once the 200 is on its way there is no way back, even if the browser's socket closes meanwhile.
        await self._tasks.shield(live, lambda: self._bridging.join(live))
        if live.hunt is not None and live.call.answered:
            self._hunting.taken(live)

    def _leg(self, live: LiveCall, participant: Participant) -> LegId:
        if participant.leg is None:
            participant.leg = self._legs.webrtc(live, participant.session)
        return participant.leg

    @contextmanager
    def _negotiating(self, live: LiveCall, participant: Participant, number: LegId) -> Iterator[None]:
        """When a first negotiation fails, its leg goes and the browser may try again."""
        try:
            yield
        except BaseException as error:
            if not participant.ready and participant.leg == number:
                participant.leg = None
                self._legs.drop(live, number)
            if isinstance(error, GatewayError):
                # The leg may have ended meanwhile, with its call or its browser: no fault of the engine.
                live.require(participant)
            raise

    def _codecs(self, live: LiveCall) -> Sequence[str]:
        """What the SIP side speaks first: then the media is relayed, not transcoded."""
        first = [live.codec] if live.codec else []
        return list(dict.fromkeys([*first, *live.codecs, *self._policy.codecs]))


def _participant(live: LiveCall, browser: Browser) -> Participant:
    participant = live.participant
    if participant is None or participant.browser is not browser:
        raise WrongState("join the call first")
    return participant


def _check_joinable(live: LiveCall) -> None:
    call = live.call
    if call.over:
        raise WrongState(f"the call is over: {call.status}")
    if live.participant is not None:
        raise WrongState("another browser has the call")
    if call.direction == "outbound" and live.far is not None:
        raise WrongState("the call was transferred: no browser can join it")
    if call.direction == "inbound" and (live.target is None or live.target.browser is None):
        raise WrongState("the call is forwarded: no browser can join it")
    if call.direction == "inbound" and (call.status != "ringing" or live.answering):
        raise WrongState(f"the call is {call.status}: it cannot be answered now")
