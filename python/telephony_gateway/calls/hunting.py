"""Hunting: a call with several places to go tries them until one answers (RFC 3261 16.5 to 16.7, by a B2BUA).

A plain call never comes here. A hunt begins with a route of several targets, or when the one place that was
called answers 3xx. Each place is one leg; the first that answers wins, the others are cancelled. The caller
hears one final status: the best of all (16.7, item 6).
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from telephony_gateway.calls.attempts import Failure, Hunt, better, failure_of
from telephony_gateway.calls.browsers import Browsers
from telephony_gateway.calls.closing import Closing
from telephony_gateway.calls.dialling import Dialler
from telephony_gateway.calls.endings import not_dialled, requested
from telephony_gateway.calls.events import Ended, Incoming, LegId
from telephony_gateway.calls.journal import Journal
from telephony_gateway.calls.legs import Legs
from telephony_gateway.calls.live import LiveCall
from telephony_gateway.calls.model import Ending
from telephony_gateway.calls.plan import Target
from telephony_gateway.calls.redirects import MAX_REDIRECTS, places
from telephony_gateway.calls.refusals import Refusals
from telephony_gateway.calls.routing import Destination, Routing
from telephony_gateway.calls.stages import Stage
from telephony_gateway.calls.tasks import Tasks
from telephony_gateway.errors import GatewayError

MAX_ATTEMPTS: Final = 64
GRACE: Final = 5.0
"""The engine's own INVITE timeout comes first; ours only makes sure."""
ELSEWHERE: Final = 'SIP;cause=200;text="Call completed elsewhere"'
"""RFC 3326 3.1: a phone that reads it shows no missed call."""

NO_ANSWER = Ending(
    status="no-answer", cause="timeout", source="system", sip_response_code=480, reason="nobody answered"
)


class Hunting:
    """Drives hunts."""

    def __init__(
        self,
        *,
        journal: Journal,
        legs: Legs,
        closing: Closing,
        tasks: Tasks,
        browsers: Browsers,
        dialler: Dialler,
        routing: Routing,
        refusals: Refusals,
    ) -> None:
        self._journal = journal
        self._legs = legs
        self._closing = closing
        self._tasks = tasks
        self._browsers = browsers
        self._dialler = dialler
        self._routing = routing
        self._refusals = refusals

    def begin(
        self,
        live: LiveCall,
        stages: Iterable[Stage],
        none: Ending,
        ring: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """Try the stages in turn; when there is nobody to try, the call ends with `none`."""
        live.hunt = Hunt(waiting=deque(stages), ring=ring)
        self._next(live, live.hunt, none)

    def leads(self, live: LiveCall, leg: LegId) -> bool:
        """A leg of the hunt rings; whether it is the one whose ringing the other side hears: the first."""
        hunt = live.hunt
        if hunt is None or leg not in hunt.ringing:
            return False
        hunt.rung.add(leg)
        if _lead(live) not in hunt.ringing or not hunt.rung - {leg}:
            _follow(live, leg)
        return _lead(live) == leg

    def won(self, live: LiveCall, leg: LegId) -> bool:
        """A leg of the hunt answered: it is the call's, the others are cancelled. False: it came too late."""
        hunt = live.hunt
        if hunt is None or leg not in hunt.ringing or live.answering:
            return False
        _follow(live, leg)
        destination = hunt.ringing.pop(leg)
        self._record(live, leg, destination, "answered", None)
        self._cancel(live, hunt)
        live.hunt = live.request = None
        live.destination = destination
        if (participant := live.participant) is not None and live.call.direction == "inbound":
            # A browser was about to answer: the first answer wins.
            self._closing.part(live, participant)
        if live.call.direction == "outbound":
            live.party = destination.party
            self._journal.amend(live, trunk=destination.trunk)
        return True

    def taken(self, live: LiveCall) -> None:
        """A browser answered: no leg of the hunt is wanted any more."""
        if live.hunt is not None:
            self._cancel(live, live.hunt)
            live.hunt = live.request = None

    def declined(self, live: LiveCall) -> None:
        """No browser that rings for the call wants it."""
        hunt = live.hunt
        if hunt is None:
            self._closing.finish(live, requested(live.call, "declined", "callee"))
            return
        hunt.browser = None
        hunt.best = better(hunt.best, Failure(486, requested(live.call, "declined", "callee")))
        if not hunt.ringing:
            self._next(live, hunt, NO_ANSWER)

    def failed(self, live: LiveCall, event: Ended) -> bool:
        """A leg ended. Whether that is the hunt's affair; then the call goes on, or has ended here."""
        hunt = live.hunt or self._redirected_plain(live, event)
        if hunt is None or event.leg not in hunt.mine:
            return False
        destination = hunt.ringing.pop(event.leg, None)
        if destination is None:
            return True  # it was given up before
        if live.answering:
            return True  # a browser has just taken the call
        failure = failure_of(event)
        self._record(live, event.leg, destination, "failed", failure)
        if event.by == "remote" and failure.status >= 600:
            # RFC 3261 16.7, item 5: nobody else is asked.
            self._closing.finish(live, failure.ending)
            return True
        self._follow_redirect(live, hunt, event, destination)
        hunt.best = better(hunt.best, failure)
        self._skip_same_callee(hunt, event.leg, failure)
        if not hunt.ringing and hunt.browser is None:
            self._next(live, hunt, NO_ANSWER)
        return True

    def _redirected_plain(self, live: LiveCall, event: Ended) -> Hunt | None:
        """The one place that was called answered 3xx: from here on the call is hunted."""
        unanswered = live.request is not None and not live.call.answered and not live.answering
        if not event.contacts or not unanswered or live.destination is None:
            return None
        if event.leg != _lead(live):
            return None
        live.hunt = hunt = Hunt(waiting=deque(), tried={live.destination.uri})
        hunt.ringing[event.leg] = live.destination
        hunt.mine.add(event.leg)
        return hunt

    def _next(self, live: LiveCall, hunt: Hunt, none: Ending) -> None:
        while hunt.waiting:
            stage = hunt.waiting.popleft()
            if self._start(live, hunt, stage):
                timeout = stage.timeout or live.call.timeout
                grace = 0.0 if stage.browser is not None and not hunt.ringing else GRACE
                self._tasks.later(live, timeout + grace, lambda: self._give_up(live, hunt))
                return
        best = hunt.best
        if best is not None and best.error is not None and isinstance(live.request, Incoming):
            now = self._journal.clock.now()
            self._refusals.turned_away(now, live.request, best.ending, best.error)
        self._closing.finish(live, best.ending if best is not None else none)

    def _start(self, live: LiveCall, hunt: Hunt, stage: Stage) -> bool:
        """Ring the places of a stage; whether anything rings."""
        hunt.same_callee, hunt.browser = stage.same_callee, None
        for destination in stage.destinations:
            self._dial(live, hunt, destination, stage.timeout or live.call.timeout)
        if stage.browser is not None and hunt.ring is not None:
            # From here on a browser may join, also while the next place rings.
            live.target = Target(browser=stage.browser)
            if self._browsers.any_for(live):
                hunt.browser = stage.browser
                self._tasks.spawn(live, lambda: self._ring_browsers(live, hunt))
        return bool(hunt.ringing) or hunt.browser is not None

    async def _ring_browsers(self, live: LiveCall, hunt: Hunt) -> None:
        if hunt.ring is not None and await hunt.ring():
            self._browsers.announce(live)

    def _dial(self, live: LiveCall, hunt: Hunt, destination: Destination, timeout: float) -> None:
        if len(hunt.mine) >= MAX_ATTEMPTS:
            return
        first = live.call.direction == "outbound" and not hunt.mine
        leg = live.anchor if first else self._legs.far(live)
        hunt.mine.add(leg)
        hunt.tried.add(destination.uri)
        if not hunt.ringing:
            _follow(live, leg)
        try:
            if isinstance(live.request, Incoming):
                self._dialler.check_onward(destination)
            else:
                self._dialler.check(destination)
            self._dialler.dial(live, leg, destination, timeout, elsewhere=bool(hunt.waiting))
        except GatewayError as error:
            self._legs.drop(live, leg)
            ending = not_dialled(error)
            failure = Failure(ending.sip_response_code or 500, ending, error)
            hunt.best = better(hunt.best, failure)
            self._record(live, leg, destination, "failed", failure)
            return
        hunt.ringing[leg] = destination

    def _give_up(self, live: LiveCall, hunt: Hunt) -> None:
        """Nobody of this stage answered in its time."""
        if live.hunt is not hunt or live.answering:
            return
        failure = Failure(408, NO_ANSWER)
        hunt.best = better(hunt.best, failure)
        for leg, destination in list(hunt.ringing.items()):
            del hunt.ringing[leg]
            self._legs.hangup(leg)
            self._record(live, leg, destination, "failed", failure)
            self._skip_same_callee(hunt, leg, failure)
        hunt.browser = None
        self._next(live, hunt, NO_ANSWER)

    def _cancel(self, live: LiveCall, hunt: Hunt) -> None:
        for leg, destination in hunt.ringing.items():
            self._legs.hangup(leg, ELSEWHERE)
            self._record(live, leg, destination, "canceled", None)
        hunt.ringing.clear()

    def _skip_same_callee(self, hunt: Hunt, leg: LegId, failure: Failure) -> None:
        """Another trunk to a callee who is busy, or was rung in vain, would only disturb him again."""
        rung_in_vain = leg in hunt.rung and failure.status in (408, 480)
        if hunt.same_callee and (failure.status == 486 or rung_in_vain):
            while hunt.waiting and hunt.waiting[0].same_callee:
                hunt.waiting.popleft()

    def _follow_redirect(self, live: LiveCall, hunt: Hunt, event: Ended, before: Destination) -> None:
        """RFC 3261 8.1.3.4: where the callee is said to be comes next, by `q`; at once if others ring."""
        if not event.contacts or hunt.redirects >= MAX_REDIRECTS:
            return
        hunt.redirects += 1
        found = places(self._routing, event.contacts, before, hunt.tried)
        stages = [Stage(destinations=(place,), same_callee=hunt.same_callee) for place in found]
        if stages and hunt.ringing:
            self._dial(live, hunt, stages.pop(0).destinations[0], live.call.timeout)
        hunt.waiting.extendleft(reversed(stages))

    def _record(
        self, live: LiveCall, leg: LegId, destination: Destination, outcome: str, failure: Failure | None
    ) -> None:
        """One line of the call's history for each place that was tried."""
        known = live.legs.get(leg)
        data = {
            "outcome": outcome,
            "leg_id": str(known.id) if known is not None else None,
            "trunk": destination.trunk,
            "target": destination.uri,
            "sip_response_code": failure.ending.sip_response_code if failure else None,
            "q850_cause": failure.ending.q850_cause if failure else None,
            "reason": failure.ending.reason if failure else None,
        }
        self._journal.apply(live, "attempt", data)


def _lead(live: LiveCall) -> LegId | None:
    """The called leg that the call is about now."""
    return live.far if live.call.direction == "inbound" else live.anchor


def _follow(live: LiveCall, leg: LegId) -> None:
    if live.call.direction == "inbound":
        live.far = leg
        live.early = False
    else:
        live.anchor = leg
