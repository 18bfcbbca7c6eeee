"""The one door to call control: engine events and requests of the API go in here.

`Manager` only composes the rooms beside it and keeps faults inside the call they happen in. Everything runs
on one event loop; a call changes only through `Journal` and ends only through `Closing`.
"""

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

import structlog

from telephony_gateway.calls.attended import Attended
from telephony_gateway.calls.bridging import Bridging
from telephony_gateway.calls.browsers import Browsers
from telephony_gateway.calls.clock import SystemClock
from telephony_gateway.calls.closing import Closing
from telephony_gateway.calls.containment import PASS_ON, contained
from telephony_gateway.calls.dialling import Dialler
from telephony_gateway.calls.endings import as_requested, requested, shutdown
from telephony_gateway.calls.events import Event, Incoming, LegId
from telephony_gateway.calls.forwarding import Forwarding
from telephony_gateway.calls.handing import Handing
from telephony_gateway.calls.hunting import Hunting
from telephony_gateway.calls.ids import IdSource
from telephony_gateway.calls.inbound import Inbound
from telephony_gateway.calls.journal import Journal
from telephony_gateway.calls.ladder import Ladder, PastLegs
from telephony_gateway.calls.legs import Legs
from telephony_gateway.calls.limits import Limits
from telephony_gateway.calls.live import LiveCall, LiveCalls
from telephony_gateway.calls.lookup import Lookup
from telephony_gateway.calls.model import Call, CallEvent, HangupSource, Session, SessionRole, Status
from telephony_gateway.calls.outbound import NewCall, Outbound
from telephony_gateway.calls.participants import Joined, Participants
from telephony_gateway.calls.policy import Policy
from telephony_gateway.calls.ports import (
    Browser,
    Cache,
    CallPage,
    CallQuery,
    Clock,
    Engine,
    Observer,
    Store,
    Voucher,
)
from telephony_gateway.calls.progress import Progress
from telephony_gateway.calls.refusals import Refusals
from telephony_gateway.calls.replacing import Replacing
from telephony_gateway.calls.routing import Routing
from telephony_gateway.calls.seeking import Seeking
from telephony_gateway.calls.tasks import Tasks
from telephony_gateway.calls.tickets import Tickets
from telephony_gateway.calls.transfer import NewTransfer
from telephony_gateway.calls.transfers import Transfers
from telephony_gateway.calls.vouching import NobodyVouches, Vouching
from telephony_gateway.errors import EngineFailure, GatewayError, Overloaded

__all__ = ["Joined", "Manager", "NewCall", "NewTransfer"]

log = structlog.get_logger(__name__)

FAREWELL = 5.0
"""How long draining waits for the last BYEs to be answered."""


class Manager:
    """Call control of one node."""

    def __init__(
        self,
        *,
        engine: Engine,
        store: Store,
        cache: Cache,
        routing: Routing,
        ids: IdSource,
        policy: Policy,
        observers: Sequence[Observer] = (),
        clock: Clock | None = None,
        voucher: Voucher | None = None,
    ) -> None:
        voucher = voucher or NobodyVouches()
        self._engine = engine
        self._draining = False
        self.refusals = Refusals(engine.refusals)
        self._calls = calls = LiveCalls(policy.max_calls, PastLegs(policy.ladder_memory), limits := Limits())
        self._lookup = lookup = Lookup(
            calls=calls, cache=cache, store=store, engine=engine, owner=ids.owner, policy=policy
        )
        self._journal = journal = Journal(
            store=store, cache=cache, observers=observers, clock=clock or SystemClock()
        )
        legs = Legs(engine=engine, journal=journal, calls=calls, ids=ids)
        self._closing = closing = Closing(journal=journal, legs=legs, calls=calls, policy=policy)
        tasks = Tasks(closing)
        bridging = Bridging(engine=engine, journal=journal, legs=legs, closing=closing)
        self._tickets = tickets = Tickets(cache=cache, journal=journal, ids=ids, policy=policy)
        self._browsers = browsers = Browsers(journal=journal, calls=calls)
        dialler = Dialler(engine=engine, routing=routing, policy=policy, voucher=voucher, limits=limits)
        hunting = Hunting(
            journal=journal, legs=legs, closing=closing, tasks=tasks, browsers=browsers, dialler=dialler,
            routing=routing, refusals=self.refusals,
        )  # fmt: skip
        self._participants = Participants(
            engine=engine, journal=journal, calls=calls, legs=legs, closing=closing, tasks=tasks,
            bridging=bridging, tickets=tickets, browsers=browsers, hunting=hunting, policy=policy,
        )  # fmt: skip
        forwarding = Forwarding(
            engine=engine, journal=journal, legs=legs, closing=closing, tasks=tasks,
            bridging=bridging, routing=routing, dialler=dialler, hunting=hunting, refusals=self.refusals,
        )  # fmt: skip
        seeking = Seeking(
            engine=engine, journal=journal, legs=legs, closing=closing, tasks=tasks, dialler=dialler,
            routing=routing,
        )  # fmt: skip
        attended = Attended(
            engine=engine, journal=journal, calls=calls, legs=legs, closing=closing, tasks=tasks,
            seeking=seeking,
        )  # fmt: skip
        handing = Handing(
            engine=engine, journal=journal, calls=calls, legs=legs, closing=closing, tasks=tasks,
            browsers=browsers, seeking=seeking, attended=attended, ids=ids, policy=policy,
        )  # fmt: skip
        self._transfers = Transfers(
            engine=engine, journal=journal, closing=closing, routing=routing, seeking=seeking,
            attended=attended, handing=handing,
        )  # fmt: skip
        self._outbound = Outbound(
            engine=engine, cache=cache, journal=journal, calls=calls, legs=legs, closing=closing, tasks=tasks,
            bridging=bridging, lookup=lookup, routing=routing, dialler=dialler, hunting=hunting, ids=ids,
            policy=policy,
        )  # fmt: skip
        vouching = Vouching(voucher=voucher, journal=journal, closing=closing, tasks=tasks)
        replacing = Replacing(
            engine=engine, calls=calls, legs=legs, tasks=tasks, seeking=seeking, forwarding=forwarding,
            hunting=hunting, routing=routing, vouching=vouching, limits=limits,
        )  # fmt: skip
        self._inbound = Inbound(
            engine=engine, journal=journal, calls=calls, legs=legs, closing=closing, tasks=tasks,
            browsers=browsers, forwarding=forwarding, dialler=dialler, bridging=bridging, routing=routing,
            ids=ids, policy=policy, refusals=self.refusals, limits=limits, vouching=vouching,
            replacing=replacing,
        )  # fmt: skip
        self._progress = Progress(
            journal=journal, legs=legs, closing=closing, outbound=self._outbound, forwarding=forwarding,
            participants=self._participants, hunting=hunting, transfers=self._transfers, seeking=seeking,
            policy=policy,
        )  # fmt: skip

    @property
    def active_calls(self) -> int:
        """Calls that are not over."""
        self._engine.catch_up()
        return self._calls.running

    @property
    def draining(self) -> bool:
        """Whether new calls are refused because the gateway is stopping."""
        return self._draining

    def handle(self, event: Event) -> None:
        """Take one event of the engine. Never raises: a fault ends the event's call and no other."""
        live = None
        try:
            if isinstance(event, Incoming):
                self._inbound.incoming(event, draining=self._draining)
            elif (live := self._calls.of_leg(event.leg)) is not None:
                self._progress.handle(live, event)
        except PASS_ON:
            raise
        except BaseException as error:
            self._fault(event, error, live)

    async def create_call(self, new: NewCall, idempotency_key: str | None = None) -> Call:
        """Accept a call and dial it at once. The same key and body again return the first call."""
        if self._draining:
            raise Overloaded("the gateway is shutting down", retry_after=30.0)
        # A trunk's limit counts the calls that are there, not those whose end is yet to be told.
        self._engine.catch_up()
        return await self._outbound.create(new, idempotency_key)

    async def find_call(self, call_id: UUID) -> Call:
        """A call, running or over."""
        return await self._lookup.call(call_id)

    async def list_calls(self, query: CallQuery) -> CallPage:
        """A page of calls."""
        return await self._lookup.page(query)

    async def call_events(self, call_id: UUID) -> list[CallEvent]:
        """A call's history."""
        return await self._lookup.events(call_id)

    async def call_sip(self, call_id: UUID) -> Ladder:
        """A call's SIP messages."""
        return await self._lookup.ladder(call_id)

    async def change_status(self, call_id: UUID, status: Status) -> Call:
        """End a call as `completed`, before its answer as `canceled`; decline one that came in as `busy` or
        `no-answer`. Setting a status twice is fine.
        """
        call = await self._lookup.call(call_id)
        if call.status == status:
            return call
        live = await self._lookup.live(call_id)
        with self._care(live):
            self._closing.finish(live, as_requested(live.call, status))
        return live.call

    async def end_call(
        self, call_id: UUID, *, reason: str | None = None, source: HangupSource = "system"
    ) -> Call:
        """Hang up; `WrongState` when the call is over already."""
        live = await self._lookup.live(call_id)
        with self._care(live):
            self._closing.finish(live, requested(live.call, reason, source))
        return live.call

    async def transfer(self, call_id: UUID, new: NewTransfer, idempotency_key: str | None = None) -> Call:
        """Call somebody for the far party to talk to; the others of the call leave when that one answers."""
        live = await self._lookup.live(call_id)
        with self._care(live):
            self._transfers.by_request(live, new, idempotency_key)
        return live.call

    async def create_session(
        self, call_id: UUID, *, role: SessionRole = "agent", ws_url: str | None = None
    ) -> Session:
        """A participant's ticket; its token is in this answer only."""
        live = await self._lookup.live(call_id)
        return await self._tickets.issue(live.call, role, ws_url)

    def connect(self, browser: Browser) -> None:
        """A browser is there; call again when it registered or authenticated: it rings for what rings."""
        self._browsers.connect(browser)

    def disconnect(self, browser: Browser) -> None:
        """A browser's socket closed: it leaves its calls. Never raises."""
        for live in self._browsers.disconnect(browser):
            with contained(lambda error, live=live: self._closing.fail(live, error)):  # type: ignore[misc]
                self._participants.disconnect(live, browser)

    async def join(self, browser: Browser, call_id: UUID, token: str | None = None) -> Joined:
        """Reserve the call for this browser: the first one gets it, the next gets `WrongState`."""
        live = await self._lookup.live(call_id)
        with self._care(live):
            return await self._participants.join(live, browser, token)

    async def leave(self, browser: Browser, call_id: UUID) -> None:
        """The browser hangs up: an answered call ends, one that rings rings on. Who did not join
        declines for itself: the call is refused when nobody else rings.
        """
        live = await self._lookup.live(call_id)
        with self._care(live):
            self._participants.leave(live, browser)

    async def offer(self, browser: Browser, call_id: UUID, sdp: str) -> str:
        """Take the browser's offer, return the answer; this answers a ringing inbound call."""
        live = await self._lookup.live(call_id)
        with self._care(live):
            return await self._participants.offer(live, browser, sdp)

    async def create_offer(self, browser: Browser, call_id: UUID) -> str:
        """An offer for a browser that would rather answer one."""
        live = await self._lookup.live(call_id)
        with self._care(live):
            return await self._participants.create_offer(live, browser)

    async def answer(self, browser: Browser, call_id: UUID, sdp: str) -> None:
        """Take the browser's answer to `create_offer`; this answers a ringing inbound call."""
        live = await self._lookup.live(call_id)
        with self._care(live):
            await self._participants.answer(live, browser, sdp)

    def candidate(self, browser: Browser, call_id: UUID, candidate: str | None) -> None:
        """A trickled ICE candidate of the browser; None ends them."""
        live = self._lookup.at_hand(call_id)
        with self._care(live):
            self._participants.candidate(live, browser, candidate)

    def send_digits(self, browser: Browser, call_id: UUID, digits: str) -> None:
        """Tones from the browser's keypad towards the SIP side."""
        live = self._lookup.at_hand(call_id)
        with self._care(live):
            self._participants.send_digits(live, browser, digits)

    async def drain(self, grace: float, farewell: float = FAREWELL) -> None:
        """Refuse new calls, let running ones finish for `grace` seconds, then hang up the rest."""
        self._draining = self._calls.closed = True
        self._engine.refuse_new(True)
        self._engine.catch_up()
        await _at_most(grace, self._calls.wait_idle())
        for live in self._calls.all_running():
            with contained(lambda error, live=live: self._closing.fail(live, error)):  # type: ignore[misc]
                self._closing.finish(live, shutdown(live.call))
        await _at_most(farewell, self._calls.wait_legs())

    async def close(self) -> None:
        """After `drain`: let go of every timer and wait for the cache."""
        self._closing.close()
        for live in self._calls.everything():
            live.clear_timer()
            live.cancel_tasks()
            self._calls.forget(live)
        await self._journal.close()

    @contextmanager
    def _care(self, live: LiveCall) -> Iterator[None]:
        """A request's own mistake is the requester's; a fault ends the call and is told as such."""
        try:
            yield
        except (GatewayError, *PASS_ON):
            raise
        except BaseException as error:
            self._closing.fail(live, error)
            raise EngineFailure("a fault inside the gateway ended the call", reason="fault") from None

    def _fault(self, event: Event, error: BaseException, live: LiveCall | None) -> None:
        if isinstance(event, Incoming) and event.forwarded is not None:
            self._let_go(event.forwarded.leg)
        # The leg of an `Ended` belongs to no call any more.
        if (live := live or self._calls.of_leg(event.leg)) is not None:
            self._closing.fail(live, error)
            return
        log.error("event not handled", event_type=type(event).__name__, leg=event.leg, exc_info=error)
        if isinstance(event, Incoming):
            with contained(lambda error: log.error("call not refused", exc_info=error)):
                self._engine.reject(event.leg, 500)

    def _let_go(self, leg: LegId) -> None:
        """Hang up on who was called for a call, unless he has come to it."""
        if self._calls.of_leg(leg) is None:
            with contained(lambda error: log.error("leg not hung up", leg=leg, error=repr(error))):
                self._engine.hangup(leg)


async def _at_most(seconds: float, wait: Coroutine[Any, Any, None]) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(wait, seconds)
