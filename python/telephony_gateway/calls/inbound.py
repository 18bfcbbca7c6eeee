"""Calls that come in: admitted by trunk, routed by pattern, then rung at browsers, forwarded or refused."""

from datetime import timedelta
from uuid import UUID

import msgspec
import structlog

from telephony_gateway.calls.bridging import Bridging
from telephony_gateway.calls.browsers import Browsers
from telephony_gateway.calls.caller import caller_of
from telephony_gateway.calls.carried import carried
from telephony_gateway.calls.closing import Closing
from telephony_gateway.calls.dialling import Dialler
from telephony_gateway.calls.endings import rejection
from telephony_gateway.calls.events import Forwarded, Incoming
from telephony_gateway.calls.forwarding import Forwarding
from telephony_gateway.calls.ids import IdSource
from telephony_gateway.calls.journal import Journal
from telephony_gateway.calls.legs import RETRY_AFTER, Legs
from telephony_gateway.calls.limits import Limits
from telephony_gateway.calls.live import LiveCall, LiveCalls
from telephony_gateway.calls.model import Call, Ending
from telephony_gateway.calls.plan import PHONES
from telephony_gateway.calls.policy import Policy
from telephony_gateway.calls.ports import Engine
from telephony_gateway.calls.refusals import Refusals
from telephony_gateway.calls.replacing import Replacing
from telephony_gateway.calls.routing import Party, Route, Routing, Trunk
from telephony_gateway.calls.tasks import Tasks
from telephony_gateway.calls.uris import user_of
from telephony_gateway.calls.vouching import Vouching
from telephony_gateway.errors import NotAcceptable, StoreUnavailable

log = structlog.get_logger(__name__)

MAX_NAME = 128
"""Characters of a display name that are kept."""
NOBODY_THERE = Ending(
    status="no-answer",
    cause="unspecified",
    source="system",
    sip_response_code=480,
    reason="no browser is connected",
)
NOBODY_ANSWERED = Ending(
    status="no-answer", cause="timeout", source="system", sip_response_code=480, reason="nobody answered"
)


class Inbound:
    """Takes INVITEs."""

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
        forwarding: Forwarding,
        dialler: Dialler,
        bridging: Bridging,
        routing: Routing,
        ids: IdSource,
        policy: Policy,
        refusals: Refusals,
        limits: Limits,
        vouching: Vouching,
        replacing: Replacing,
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._calls = calls
        self._legs = legs
        self._closing = closing
        self._tasks = tasks
        self._browsers = browsers
        self._forwarding = forwarding
        self._dialler = dialler
        self._bridging = bridging
        self._routing = routing
        self._ids = ids
        self._policy = policy
        self._refusals = refusals
        self._limits = limits
        self._vouching = vouching
        self._replacing = replacing
        self._asks_always = False

    def incoming(self, event: Incoming, *, draining: bool) -> None:
        """Decide where a call goes; the one Python decision of an inbound call."""
        self._dialler.heard_at(event.local)
        if event.forwarded is not None:
            self._forwarded(event, event.forwarded)
            return
        trunk = self._admit(event, draining)
        if trunk is None:
            return
        if event.replaces is not None:
            self._replacing.take(event, trunk, lambda *why: self._refuse(event, *why))
            return
        to = trunk.received(user_of(event.request_uri) or user_of(event.to_uri))
        from_ = user_of(event.from_uri)
        route = self._routing.route(trunk=trunk.name, to=to, from_=from_, user=event.user)
        live = self._begin(event, self._call(event, trunk, route, to, from_), trunk, route)
        if live is not None:
            self._vouching.judge(
                live,
                event,
                trunk,
                lambda: self._follow(live, event, route),
                lambda status, reason: self._note(event, status, "identity", reason),
            )
            self._journal.phase(live.call, "decision", live.call.created_at)

    def _forwarded(self, event: Incoming, told: Forwarded) -> None:
        """The engine sent the call on by a plain route: it is under way, whatever the plan says now."""
        trunk = self._routing.trunks.get(event.trunk) or Trunk(name=event.trunk)
        route = self._routing.route_named(told.route)
        call = self._call(event, trunk, route, told.to, told.from_, told.age)
        call = msgspec.structs.replace(call, route=told.route)
        target = route.target if route else None
        party = Party(trunk=trunk.name)
        live = LiveCall(call=call, anchor=event.leg, codecs=trunk.codecs, target=target, party=party)
        self._calls.admit(live)
        self._legs.adopt(live, event.leg, "sip", "caller")
        self._limits.came(trunk, event.leg)
        self._forwarding.sent_on(live, event, told.leg, target)
        data = {"direction": "inbound", "trunk": call.trunk, "route": call.route}
        if not self._journal.found(live, data) and not self._asks_always:
            # Calls that cannot be recorded are not taken: asked about the next, we refuse it.
            self._asks_always = True
            self._engine.ask_always(True)
        self._journal.phase(live.call, "decision", call.created_at, call.created_at)

    def _admit(self, event: Incoming, draining: bool) -> Trunk | None:
        trunk = self._trunk(event)
        if trunk is None:
            self._refuse(event, 403, "no_trunk", f"no trunk allows {event.source[0]}")
        elif draining:
            self._refuse(event, 503, "draining", "the gateway is about to stop")
            return None
        elif self._calls.full:
            self._refuse(event, 503, "full", f"there are {self._policy.max_calls} calls: MAX_CALLS")
            return None
        return trunk

    def _trunk(self, event: Incoming) -> Trunk | None:
        """Who let the call in: a user's password, or the trunk that the engine found, if it still is one."""
        return PHONES if event.user is not None else self._routing.trunks.get(event.trunk)

    def _refuse(self, event: Incoming, status: int, rule: str, reason: str) -> None:
        log.info("call refused", rule=rule, reason=reason, source=event.source[0])
        self._journal.refused(rule)
        self._note(event, status, rule, reason)
        self._engine.reject(event.leg, status, None, (RETRY_AFTER,) if status == 503 else ())

    def _note(self, event: Incoming, status: int, rule: str, reason: str) -> None:
        at = self._journal.clock.now()
        self._refusals.refused(at, event, status=status, rule=rule, reason=reason)

    def _call(
        self, event: Incoming, trunk: Trunk, route: Route | None, to: str, from_: str, age: float = 0.0
    ) -> Call:
        call_id: UUID = self._ids.new()
        return Call(
            id=call_id,
            direction="inbound",
            status="queued",
            from_=from_ or event.from_uri,
            from_name=self._display(event)[:MAX_NAME] or None,
            to=to or event.to_uri,
            trunk=trunk.name,
            route=route.name if route else None,
            sip_call_id=event.sip_call_id,
            timeout=(route.ring_timeout if route else None) or self._policy.ring_timeout,
            headers=carried(event.message, trunk.headers),
            created_at=self._journal.clock.now() - timedelta(seconds=age),
        )

    def _display(self, event: Incoming) -> str:
        """The caller's name, or that of the user whose phone calls."""
        user = self._routing.users.get(event.user) if event.user is not None else None
        return event.from_display or (user.display if user else None) or ""

    def _begin(self, event: Incoming, call: Call, trunk: Trunk, route: Route | None) -> LiveCall | None:
        target = route.target if route else None
        live = LiveCall(call=call, anchor=event.leg, codecs=trunk.codecs, target=target, ringback=trunk.tone)
        live.party = Party(trunk=trunk.name, user=event.user)
        live.caller = caller_of(event.message, user_of(event.from_uri), call.from_name or "", trunk)
        self._calls.add(live)
        self._legs.adopt(live, event.leg, "sip", "caller")
        self._limits.came(trunk, event.leg)
        try:
            self._journal.begin(live, {"direction": "inbound", "trunk": call.trunk, "route": call.route})
        except StoreUnavailable:
            self._calls.forget(live)
            self._refuse(event, 503, "store", "the database does not keep up")
            return None
        if self._asks_always:
            self._asks_always = False
            self._engine.ask_always(False)
        return live

    def _follow(self, live: LiveCall, event: Incoming, route: Route | None) -> None:
        if route is None:
            reason = f"no route takes {live.call.to} from trunk {live.call.trunk}"
            self._note(event, 404, "no_route", reason)
            self._closing.finish(live, rejection(404, reason))
        elif route.target.reject is not None:
            reason = f"rejected by route {route.name}"
            self._note(event, route.target.reject, "route", reason)
            self._closing.finish(live, rejection(route.target.reject, reason))
        elif route.target.browser is not None:
            self._ring_browsers(live)
        else:
            self._forwarding.forward(live, event, route.target)

    def _ring_browsers(self, live: LiveCall) -> None:
        if not self._browsers.any_for(live):
            self._closing.finish(live, NOBODY_THERE)
            return
        self._tasks.later(live, live.call.timeout, lambda: self._closing.finish(live, NOBODY_ANSWERED))
        self._tasks.spawn(live, lambda: self._ring(live))

    async def _ring(self, live: LiveCall) -> None:
        try:
            live.codec = await self._bridging.ring(live, live.codecs)
        except NotAcceptable:
            return  # 488 has left; the leg's `Ended` ends the call
        self._legs.update(live, live.anchor, "ringing", live.codec, followed=True)
        self._journal.apply(live, "ring")
        self._browsers.announce(live)
