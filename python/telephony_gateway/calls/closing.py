"""The end of a call, whatever brings it: one terminal event, every leg hung up, every task cancelled."""

import asyncio
from collections import deque

import msgspec
import structlog

from telephony_gateway.calls.containment import contained
from telephony_gateway.calls.journal import Journal
from telephony_gateway.calls.legs import Legs
from telephony_gateway.calls.live import LiveCall, LiveCalls, Participant
from telephony_gateway.calls.model import Ending
from telephony_gateway.calls.policy import Policy
from telephony_gateway.errors import GatewayError, Overloaded

log = structlog.get_logger(__name__)

SWEEP = 0.25
"""How often, at most, calls that have lingered are let go: a timer for each would wake the loop for each."""
FAULT = Ending(
    status="failed",
    cause="unspecified",
    source="system",
    sip_response_code=500,
    reason="a fault inside the gateway",
)
NO_ROOM = Ending(
    status="failed",
    cause="unspecified",
    source="system",
    sip_response_code=503,
    reason="the gateway has no room for the call",
)


class Closing:
    """Ends calls. `finish` may be called from anywhere and more than once: the first call counts."""

    def __init__(self, *, journal: Journal, legs: Legs, calls: LiveCalls, policy: Policy) -> None:
        self._journal = journal
        self._legs = legs
        self._calls = calls
        self._policy = policy
        # In the order of their ends, since all linger equally long.
        self._lingering: deque[tuple[float, LiveCall]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        # Asking which loop runs is a system call each time (it looks for a fork).
        self._loop: asyncio.AbstractEventLoop | None = None

    def finish(self, live: LiveCall, ending: Ending, age: float = 0.0, *, passed_on: bool = False) -> None:
        """End the call this way, unless it is over; what ended it happened `age` seconds ago, and the engine
        has `passed_on` already that one of its two telephones hung up to the other.
        """
        if live.call.over:
            return
        live.clear_timer()
        live.cancel_tasks()
        unanswered = not live.call.answered
        if (participant := live.participant) is not None:
            self.part(live, participant, hangup=False)
        if unanswered and ending.status == "completed":
            ending = msgspec.structs.replace(ending, status="canceled")
        numbers = list(live.legs)
        try:
            for number in numbers:
                if not (passed_on and number in (live.anchor, live.far)):
                    self._legs.release(live, number, ending)
        finally:
            self._journal.end(live, ending, age)
            self._calls.retire(live)
            self._linger(live)
        if live.on_end is not None:
            live.on_end(ending)

    def part(self, live: LiveCall, participant: Participant, *, hangup: bool = True) -> None:
        """The participant leaves; what that means for the call is the caller's to decide."""
        live.participant = None
        session = msgspec.structs.replace(participant.session, left_at=self._journal.clock.now())
        self._journal.apply(live, "leave", {"session_id": str(session.id), "role": session.role})
        self._journal.session(session)
        if hangup and participant.leg is not None:
            self._legs.hangup(participant.leg)

    def fail(self, live: LiveCall, error: BaseException) -> None:
        """Something went wrong in the handling of this call: log it once; only this call ends."""
        _say(live, error)
        with contained(lambda _error: self._abandon(live)):
            self.finish(live, NO_ROOM if isinstance(error, Overloaded) else FAULT)

    def settle(self, live: LiveCall) -> None:
        """After a leg's end: forget a call that is over once its last leg is gone, it has lingered, and its
        record is whole.
        """
        if not live.call.over or live.lingers or live.legs:
            return
        if self._journal.is_complete(live):
            self._calls.forget(live)
        else:
            self._linger(live)

    def close(self) -> None:
        """No call lingers any more."""
        self._lingering.clear()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _abandon(self, live: LiveCall) -> None:
        # Even its end fails: no leg may stay with the engine, and the call must not count for ever.
        log.error("call abandoned", call_id=str(live.call.id))
        live.clear_timer()
        live.cancel_tasks()
        for number in list(live.legs):
            self._legs.hangup(number)
        self._calls.forget(live)

    def _linger(self, live: LiveCall) -> None:
        live.lingers = True
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._lingering.append((self._loop.time() + self._policy.linger, live))
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._policy.linger, self._let_go, self._loop)

    def _let_go(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        try:
            while self._lingering and self._lingering[0][0] <= now:
                self._lingered(self._lingering.popleft()[1], loop)
        finally:
            self._sweep = None
            if self._lingering:
                self._sweep = loop.call_at(max(self._lingering[0][0], now + SWEEP), self._let_go, loop)

    def _lingered(self, live: LiveCall, loop: asyncio.AbstractEventLoop) -> None:
        live.lingers = False
        self.settle(live)
        if live.legs:
            loop.call_later(self._policy.leg_farewell, self._give_up, live)

    def _give_up(self, live: LiveCall) -> None:
        if live.legs:
            log.error("legs never ended", call_id=str(live.call.id), legs=len(live.legs))
            for number in list(live.legs):
                self._calls.detach(live, number)
            self.settle(live)


def _say(live: LiveCall, error: BaseException) -> None:
    call_id = str(live.call.id)
    if isinstance(error, GatewayError):
        # The engine refused a command of ours and said why: a traceback would add nothing.
        log.error("call failed", call_id=call_id, code=error.code, error=error.message, over=live.call.over)
    else:
        log.error("call failed by a fault", call_id=call_id, exc_info=error, over=live.call.over)
