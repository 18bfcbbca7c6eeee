"""Calls that go out: accepted and dialled at once, joined by a browser before or after the callee answers."""

import asyncio
import hashlib
from datetime import datetime
from uuid import UUID

import msgspec

from telephony_gateway.calls.bridging import Bridging
from telephony_gateway.calls.carried import faults, settable
from telephony_gateway.calls.closing import Closing
from telephony_gateway.calls.containment import PASS_ON
from telephony_gateway.calls.dialling import Dialler
from telephony_gateway.calls.events import Answered, Ringing
from telephony_gateway.calls.hunting import GRACE, NO_ANSWER, Hunting
from telephony_gateway.calls.ids import IdSource, Owner
from telephony_gateway.calls.journal import Journal
from telephony_gateway.calls.legs import Legs
from telephony_gateway.calls.live import LiveCall, LiveCalls, Order
from telephony_gateway.calls.lookup import Lookup
from telephony_gateway.calls.model import Call, Ending
from telephony_gateway.calls.policy import Policy
from telephony_gateway.calls.ports import Cache, Engine
from telephony_gateway.calls.routing import Destination, Routing
from telephony_gateway.calls.stages import Stage, way
from telephony_gateway.calls.tasks import Tasks
from telephony_gateway.calls.uris import MAX_URI, is_diallable, parse_sip
from telephony_gateway.errors import (
    CallNotFound,
    Conflict,
    EngineFailure,
    FieldError,
    GatewayError,
    Invalid,
    Overloaded,
)

MAX_CLIENT_STATE = 4096
MAX_IDEMPOTENCY_KEY = 255
MIN_TIMEOUT, MAX_TIMEOUT = 1.0, 600.0
UNATTENDED = Ending(
    status="completed", cause="time_limit", source="system", reason="no browser joined the answered call"
)
NOT_TAKEN = "is no X- header, and the trunk's `headers` do not name it"
NOT_DIALLED = Ending(status="failed", cause="unspecified", source="system", reason="could not be dialled")


class NewCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call to be made: `to` a number (with `trunk` or `route`) or a `sip:` URI; `timeout` is seconds to the
    answer. `headers` go into the INVITE.
    """

    to: str
    from_: str | None = msgspec.field(name="from", default=None)
    trunk: str | None = None
    route: str | None = None
    timeout: float = 60.0
    client_state: str | None = None
    headers: dict[str, str] = {}


class _Claim(msgspec.Struct, frozen=True):
    """What an idempotency key stands for."""

    call_id: UUID
    fingerprint: str


class Outbound:
    """Makes calls."""

    def __init__(
        self,
        *,
        engine: Engine,
        cache: Cache,
        journal: Journal,
        calls: LiveCalls,
        legs: Legs,
        closing: Closing,
        tasks: Tasks,
        bridging: Bridging,
        lookup: Lookup,
        routing: Routing,
        dialler: Dialler,
        hunting: Hunting,
        ids: IdSource,
        policy: Policy,
    ) -> None:
        self._engine = engine
        self._cache = cache
        self._journal = journal
        self._calls = calls
        self._legs = legs
        self._closing = closing
        self._tasks = tasks
        self._bridging = bridging
        self._lookup = lookup
        self._routing = routing
        self._dialler = dialler
        self._hunting = hunting
        self._ids = ids
        self._policy = policy
        self._claiming: set[UUID] = set()
        """Ids whose claim to a key is under way."""

    async def create(self, new: NewCall, idempotency_key: str | None) -> Call:
        """Accept a call and dial it. The same key and body again return the first call."""
        _validate(new, idempotency_key)
        stages = self._stages(new)
        if self._calls.full:
            raise Overloaded("too many calls are running", retry_after=5.0)
        call_id = self._ids.new()
        if idempotency_key is not None:
            claim = await self._claim(idempotency_key, _Claim(call_id, _fingerprint(new)))
            if claim.call_id != call_id and (earlier := await self._earlier(claim.call_id)) is not None:
                return earlier
            call_id = claim.call_id
            if (made := self._calls.find(call_id)) is not None:
                return made.call  # by another repetition, while this one looked
        return self._dial(call_id, new, stages)

    def ringing(self, live: LiveCall, event: Ringing) -> None:
        """The callee's phone rings, with sound of its own or without; a browser that waits hears it."""
        live.codec = event.codec or live.codec
        news = (event.codec is not None and not live.early) or live.call.status == "queued"
        live.early |= event.codec is not None
        self._legs.update(live, live.anchor, "ringing", event.codec, followed=True)
        self._journal.apply(live, "ring")
        if news and live.participant is not None:
            self._tasks.spawn(live, lambda: self._bridging.join(live))

    def answered(self, live: LiveCall, event: Answered) -> None:
        """The callee answered; the browser may be there already or is awaited."""
        live.codec, live.request = event.codec, None
        live.clear_timer()
        self._journal.amend(live, sip_call_id=event.sip_call_id)
        self._legs.update(live, event.leg, "answered", event.codec, followed=True)
        self._journal.apply(live, "answer")
        self._tasks.later(
            live, self._policy.unattended_timeout, lambda: self._closing.finish(live, UNATTENDED)
        )
        self._tasks.spawn(live, lambda: self._bridging.join(live))

    async def _claim(self, key: str, claim: _Claim) -> _Claim:
        name = f"idempotency:{key}"
        self._claiming.add(claim.call_id)
        try:
            kept = await self._cache.claim(name, msgspec.json.encode(claim), self._policy.idempotency_ttl)
        finally:
            self._claiming.discard(claim.call_id)
        earlier = claim if kept is None else msgspec.json.decode(kept, type=_Claim)
        if earlier.fingerprint != claim.fingerprint:
            raise Conflict("the idempotency key was used before with another body")
        return earlier

    async def _earlier(self, call_id: UUID) -> Call | None:
        # Another process may be between its claim and its call. If no call comes, the claim was for nothing:
        # whoever holds the key makes the call, under the id that the claim named.
        for _ in range(3):
            try:
                return await self._lookup.call(call_id)
            except CallNotFound:
                if Owner.from_id(call_id) == self._ids.owner and call_id not in self._claiming:
                    return None  # a claim of ours has its call at once, or never
                await asyncio.sleep(0.1)
        return None

    def _stages(self, new: NewCall) -> tuple[Stage, ...]:
        """Where the call may go: one place, or those of a route in turn."""
        if new.route is None:
            stages: tuple[Stage, ...] = (Stage(destinations=(self._routing.destination(new.to, new.trunk),)),)
        else:
            stages = self._way_out(new, new.route)
        for name in new.headers:
            if not all(self._takes(name, place) for stage in stages for place in stage.destinations):
                raise Invalid("the call does not fit", [(f"headers.{name}", NOT_TAKEN)])
        return stages

    def _way_out(self, new: NewCall, name: str) -> tuple[Stage, ...]:
        route = self._routing.route_named(name)
        if route is None:
            raise Invalid("no such route", [("route", f"{name!r} is no route")])
        found = way(self._routing, route.target, new.to)
        stages = tuple(stage for stage in found.stages if stage.destinations)
        if stages:
            return stages
        if found.refused:
            raise found.refused[0]
        raise Invalid("the route leads nowhere", [("route", f"{name!r} leads to no trunk, phone or URI")])

    def _check_room(self, stages: tuple[Stage, ...]) -> None:
        """Raise what the first place says unless one of them takes a call now: then none is made, and whoever
        repeats the request later, with the same key, gets one.
        """
        full: list[GatewayError] = []
        for place in (place for stage in stages for place in stage.destinations):
            try:
                self._dialler.check(place)
            except GatewayError as error:
                full.append(error)
            else:
                return
        raise full[0]

    def _takes(self, name: str, place: Destination) -> bool:
        trunk = self._routing.trunks.get(place.trunk) if place.trunk else None
        return settable(name, trunk.headers if trunk is not None else ())

    def _dial(self, call_id: UUID, new: NewCall, stages: tuple[Stage, ...]) -> Call:
        self._check_room(stages)
        first = stages[0].destinations[0]
        live = self._begin(self._call(call_id, new, first), first)
        live.request = Order(from_=new.from_, headers=new.headers)
        try:
            if len(stages) == len(stages[0].destinations) == 1:
                self._dial_plain(live, first)
            else:
                self._hunting.begin(live, stages, NO_ANSWER)
        except GatewayError:
            self._closing.finish(live, NOT_DIALLED)
            raise
        except PASS_ON:
            raise
        except BaseException as error:
            # Nothing else will ever end the call: no event of the engine, no timer.
            self._closing.fail(live, error)
            raise EngineFailure("a fault inside the gateway ended the call", reason="fault") from None
        return live.call

    def _dial_plain(self, live: LiveCall, destination: Destination) -> None:
        live.destination, live.party = destination, destination.party
        try:
            self._dialler.dial(live, live.anchor, destination, live.call.timeout)
        except GatewayError:
            self._legs.drop(live, live.anchor)
            raise
        self._tasks.later(live, live.call.timeout + GRACE, lambda: self._closing.finish(live, NO_ANSWER))

    def _begin(self, call: Call, destination: Destination) -> LiveCall:
        trunk = self._routing.trunks.get(destination.trunk) if destination.trunk else None
        tone = trunk.tone if trunk else None
        leg = self._engine.new_sip_leg()
        live = LiveCall(call=call, anchor=leg, codecs=destination.codecs, ringback=tone)
        self._calls.add(live)
        self._legs.adopt(live, live.anchor, "sip", "callee")
        try:
            self._journal.begin(live, {"direction": "outbound", "trunk": call.trunk})
        except GatewayError:
            self._calls.forget(live)
            raise
        return live

    def _patience(self, new: NewCall) -> float:
        """Seconds that it may ring: what was ordered, unless its route has less."""
        route = self._routing.route_named(new.route) if new.route is not None else None
        return min(new.timeout, (route.ring_timeout if route else None) or new.timeout)

    def _call(self, call_id: UUID, new: NewCall, destination: Destination) -> Call:
        now: datetime = self._journal.clock.now()
        return Call(
            id=call_id,
            direction="outbound",
            status="queued",
            from_=new.from_ or "",
            to=new.to,
            trunk=destination.trunk,
            route=new.route,
            client_state=new.client_state,
            headers=new.headers,
            timeout=self._patience(new),
            created_at=now,
        )


def _validate(new: NewCall, key: str | None) -> None:
    errors: list[FieldError] = []
    if not 1 <= len(new.to) <= MAX_URI:
        errors.append(("to", f"must have 1 to {MAX_URI} characters"))
    if new.from_ is not None and not (is_diallable(new.from_) or parse_sip(new.from_)):
        errors.append(("from", "must be a number or a sip: URI"))
    if not MIN_TIMEOUT <= new.timeout <= MAX_TIMEOUT:
        errors.append(("timeout", f"must be {MIN_TIMEOUT:.0f} to {MAX_TIMEOUT:.0f} seconds"))
    if new.client_state is not None and len(new.client_state) > MAX_CLIENT_STATE:
        errors.append(("client_state", f"must have at most {MAX_CLIENT_STATE} characters"))
    if key is not None and not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY:
        errors.append(("Idempotency-Key", f"must have 1 to {MAX_IDEMPOTENCY_KEY} characters"))
    if new.route is not None and (new.trunk is not None or parse_sip(new.to)):
        errors.append(("route", "takes a number, and no trunk beside it"))
    errors.extend(faults(new.headers))
    if errors:
        raise Invalid("the call does not fit", errors)


def _fingerprint(new: NewCall) -> str:
    return hashlib.sha256(msgspec.json.encode(new)).hexdigest()
