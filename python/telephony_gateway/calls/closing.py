"""The end of a call, whatever brings it: one terminal event, every leg hung up, every task cancelled."""

import asyncio

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

    def finish(self, live: LiveCall, ending: Ending) -> None:
        """End the call this way, unless it is over."""
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
                self._legs.release(live, number, ending)
        finally:
            self._journal.end(live, ending)
            self._calls.retire(live)
            self._linger(live)

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
        if not live.call.over or live.timer is not None or live.legs:
            return
        if self._journal.is_complete(live):
            self._calls.forget(live)
        else:
            self._linger(live)

    def _abandon(self, live: LiveCall) -> None:
        # Even its end fails: no leg may stay with the engine, and the call must not count for ever.
        log.error("call abandoned", call_id=str(live.call.id))
        live.clear_timer()
        live.cancel_tasks()
        for number in list(live.legs):
            self._legs.hangup(number)
        self._calls.forget(live)

    def _linger(self, live: LiveCall) -> None:
        live.set_timer(self._policy.linger, lambda: self._lingered(live))

    def _lingered(self, live: LiveCall) -> None:
        live.timer = None
        self.settle(live)
        if live.legs:
            asyncio.get_running_loop().call_later(self._policy.leg_farewell, self._give_up, live)

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
