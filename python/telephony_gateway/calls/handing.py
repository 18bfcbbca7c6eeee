"""Handing a telephone on to browsers, which know calls that ring and no others: one of their own rings there.
The one who stays comes to it when somebody answers, and its call before is over.
"""

from contextlib import suppress

from telephony_gateway.calls.attended import Attended
from telephony_gateway.calls.browsers import Browsers
from telephony_gateway.calls.closing import Closing
from telephony_gateway.calls.endings import refusal_of
from telephony_gateway.calls.ids import IdSource
from telephony_gateway.calls.journal import Journal
from telephony_gateway.calls.legs import Legs
from telephony_gateway.calls.live import LiveCall, LiveCalls
from telephony_gateway.calls.model import Call, Ending
from telephony_gateway.calls.plan import Route, Target
from telephony_gateway.calls.policy import Policy
from telephony_gateway.calls.ports import Engine
from telephony_gateway.calls.seeking import Seeking
from telephony_gateway.calls.tasks import Tasks
from telephony_gateway.calls.transfer import Transfer, party_of
from telephony_gateway.errors import GatewayError, StoreUnavailable, WrongState

NOBODY = Ending(
    status="no-answer",
    cause="unspecified",
    source="system",
    sip_response_code=480,
    reason="no browser is connected",
)
NO_ANSWER = Ending(
    status="no-answer", cause="timeout", source="system", sip_response_code=480, reason="nobody answered"
)
GONE = Ending(status="canceled", cause="originator_cancel", source="caller", reason="the caller hung up")


class Handing:
    """Makes the browsers' call, and brings the telephone to it."""

    def __init__(
        self,
        *,
        engine: Engine,
        journal: Journal,
        calls: LiveCalls,
        legs: Legs,
        closing: Closing,
        tasks: Tasks,
        browsers: Browsers,
        seeking: Seeking,
        attended: Attended,
        ids: IdSource,
        policy: Policy,
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._calls = calls
        self._legs = legs
        self._closing = closing
        self._tasks = tasks
        self._browsers = browsers
        self._seeking = seeking
        self._attended = attended
        self._ids = ids
        self._policy = policy

    def prepare(self, live: LiveCall, transfer: Transfer, route: Route, number: str, names: str) -> LiveCall:
        """The browsers' call, which does not ring yet; `Overloaded` and `StoreUnavailable`."""
        known = live.legs[transfer.staying]
        other = LiveCall(
            call=self._call(live, transfer, route, number),
            anchor=transfer.staying,
            codecs=live.codecs,
            codec=known.codec,
            target=Target(browser=names),
            party=party_of(live, transfer.staying),
            caller=transfer.order.caller,
        )
        self._calls.add(other)
        try:
            data = {"direction": "inbound", "trunk": other.call.trunk, "route": route.name}
            self._journal.begin(other, data)
        except StoreUnavailable:
            self._calls.forget(other)
            raise
        return other

    def ring(self, live: LiveCall, transfer: Transfer, other: LiveCall) -> None:
        """Ring the browsers; the one who stays hears it."""
        live.transfer = transfer
        live.on_end = lambda _ending: self._closing.finish(other, GONE)
        other.on_end = lambda ending: self._failed(live, transfer, ending)
        if not self._browsers.any_for(other):
            self._closing.finish(other, NOBODY)
            return
        other.coming = lambda: self._come(live, transfer, other)
        self._tasks.later(other, other.call.timeout, lambda: self._closing.finish(other, NO_ANSWER))
        self._seeking.rings(live, transfer, 180)
        self._journal.apply(other, "ring")
        self._browsers.announce(other)

    def _call(self, live: LiveCall, transfer: Transfer, route: Route, number: str) -> Call:
        is_caller = live.legs[transfer.staying].side == "caller"
        return Call(
            id=self._ids.new(),
            direction="inbound",
            status="queued",
            from_=transfer.order.from_ or "anonymous",
            from_name=live.call.from_name if is_caller else None,
            to=number,
            trunk=party_of(live, transfer.staying).trunk,
            route=route.name,
            timeout=route.ring_timeout or self._policy.ring_timeout,
            created_at=self._journal.clock.now(),
        )

    def _come(self, live: LiveCall, transfer: Transfer, other: LiveCall) -> None:
        """A browser has answered, and the two hear each other."""
        if transfer.staying not in live.legs or live.transfer is not transfer:
            raise WrongState("the caller is gone")
        live.on_end = other.on_end = other.coming = None
        self._legs.move(live, other, transfer.staying, "caller")
        if (participant := other.participant) is not None and participant.leg is not None:
            with suppress(GatewayError):
                self._engine.introduce(participant.leg, transfer.staying)
        self._attended.outcome(live, transfer, 200, "")

    def _failed(self, live: LiveCall, transfer: Transfer, ending: Ending) -> None:
        live.on_end = None
        self._attended.outcome(live, transfer, refusal_of(ending), ending.reason or "")
