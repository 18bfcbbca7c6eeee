"""A call while it runs: its value, the engine's legs, who takes part, and what to cancel when it ends."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from telephony_gateway.calls.attempts import Hunt
from telephony_gateway.calls.caller import Caller
from telephony_gateway.calls.events import Incoming, LegId
from telephony_gateway.calls.ladder import PastLegs
from telephony_gateway.calls.limits import Limits
from telephony_gateway.calls.model import Call, CallEvent, Ending, Leg, Session
from telephony_gateway.calls.ports import Browser
from telephony_gateway.calls.routing import NOBODY, Destination, Party, Target
from telephony_gateway.errors import Overloaded, WrongState

if TYPE_CHECKING:
    from telephony_gateway.calls.transfer import NewTransfer, Transfer


class Order(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the maker of a call wants said to the callee."""

    from_: str | None = None
    caller: Caller | None = None
    """The caller of the call that this is for, where there is more to him than a number."""
    headers: dict[str, str] = {}
    vouched: bool = True
    """The one who ordered it answers for the number."""


@dataclass(slots=True, eq=False)
class Participant:
    """A browser that joined. `leg` is there from its first offer, `ready` once that offer was negotiated."""

    browser: Browser
    session: Session
    leg: LegId | None = None
    ready: bool = False
    bridged: bool = False


@dataclass(slots=True, eq=False)
class LiveCall:
    """The mutable holder of one call. `anchor` is the SIP leg that the call is about: the caller's leg of an
    inbound call, the callee's of an outbound one; `far` is the second SIP leg of a call that is forwarded.
    """

    call: Call
    anchor: LegId
    codecs: tuple[str, ...]
    target: Target | None = None
    far: LegId | None = None
    request: Incoming | Order | None = None
    """What is dialled for; until somebody answered."""
    destination: Destination | None = None
    """The one place of a call that is not hunted."""
    hunt: Hunt | None = None
    party: Party = NOBODY
    """Who is at the other end of `anchor`."""
    caller: Caller | None = None
    """Who called, where he hides or was vouched for: whoever is called for him later is told no more."""
    transfer: "Transfer | None" = None
    awaited: "tuple[LiveCall, Transfer] | None" = None
    """A transfer of another call, passed on to a telephone that was told to come to this one."""
    requests: "dict[str, NewTransfer]" = field(default_factory=dict)
    """Transfers that the API asked for, by their idempotency keys."""
    refers: int = 0
    """Transfers that were asked for."""
    far_codec: str | None = None
    codec: str | None = None
    answering: bool = False
    ringback: str | None = None
    """The tone for the side that waits while the other rings without sound of its own."""
    early: bool = False
    """The side that rings sends sound already."""
    notes: int = 0
    """Digits, holds and resumes that were recorded: a peer may send them without end."""
    unwritten: tuple[CallEvent, ...] = ()
    """Events that the store had no room for: they go before the next."""
    participant: Participant | None = None
    coming: Callable[[], None] | None = None
    """Fetches the telephone that answers this call with its leg, which talks already."""
    on_end: Callable[[Ending], None] | None = None
    watchers: dict[str, Browser] = field(default_factory=dict)
    declined: frozenset[str] = frozenset()
    legs: dict[LegId, Leg] = field(default_factory=dict)
    sip_legs: list[tuple[LegId, UUID]] = field(default_factory=list)
    """All there ever were, for who asks for their messages."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    timer: asyncio.TimerHandle | None = None
    lingers: bool = False
    """It is over and stays at hand for a while."""

    def require(self, participant: Participant) -> None:
        """`WrongState` unless the call goes on with this participant: asked after every wait."""
        if self.call.over:
            raise WrongState(f"the call is over: {self.call.status}")
        if self.participant is not participant:
            raise WrongState("the browser left the call")

    def set_timer(self, timer: asyncio.TimerHandle) -> None:
        """Put a timer in place of the one before."""
        self.clear_timer()
        self.timer = timer

    def clear_timer(self) -> None:
        """No call back any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def cancel_tasks(self) -> None:
        """Cancel what runs for this call, but for the task that asks."""
        if not self.tasks:
            return
        current = asyncio.current_task()
        for task in self.tasks:
            if task is not current:
                task.cancel()


class LiveCalls:
    """Every call at hand, by id and by engine leg. Holds at most `capacity` running calls."""

    def __init__(self, capacity: int, past: PastLegs, limits: Limits | None = None) -> None:
        self.capacity = capacity
        self.closed = False
        """Whether it is too late for another call."""
        self.past = past
        self._limits = limits or Limits()
        # By the integer of the id: a UUID's own hash is a call of Python.
        self._by_id: dict[int, LiveCall] = {}
        self._by_leg: dict[LegId, LiveCall] = {}
        self._watched: dict[str, set[LiveCall]] = {}
        self._running: set[int] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._legless = asyncio.Event()
        self._legless.set()

    @property
    def running(self) -> int:
        """Calls that are not over."""
        return len(self._running)

    @property
    def full(self) -> bool:
        """Whether there is no room for another call."""
        return len(self._running) >= self.capacity

    def add(self, live: LiveCall) -> None:
        """Take a call in; `Overloaded` when there is no room."""
        if self.closed:
            raise Overloaded("the gateway is shutting down", retry_after=30.0)
        if self.full:
            raise Overloaded("too many calls are running", retry_after=5.0)
        self.admit(live)

    def admit(self, live: LiveCall) -> None:
        """Take a call in that is under way already."""
        self._by_id[live.call.id.int] = live
        self._running.add(live.call.id.int)
        self._idle.clear()

    def find(self, call_id: UUID) -> LiveCall | None:
        """The call of this id, if it is at hand."""
        return self._by_id.get(call_id.int)

    def of_leg(self, leg: LegId) -> LiveCall | None:
        """The call that an engine leg belongs to."""
        return self._by_leg.get(leg)

    def all_running(self) -> list[LiveCall]:
        """The calls that are not over."""
        return [self._by_id[call_id] for call_id in self._running]

    def everything(self) -> list[LiveCall]:
        """The calls at hand, those that are over too."""
        return list(self._by_id.values())

    def attach(self, live: LiveCall, number: LegId, leg: Leg) -> None:
        """Note that an engine leg belongs to a call, from before its first command to its `Ended`."""
        live.legs[number] = leg
        if leg.kind == "sip":
            live.sip_legs.append((number, leg.id))
        self._by_leg[number] = live
        self._legless.clear()

    def detach(self, live: LiveCall, number: LegId) -> None:
        """The engine leg is gone."""
        live.legs.pop(number, None)
        self._by_leg.pop(number, None)
        self._limits.left(number)
        if not self._by_leg:
            self._legless.set()

    def move(self, before: LiveCall, live: LiveCall, number: LegId, leg: Leg) -> None:
        """An engine leg goes on in another call: to its trunk it is the call that it was."""
        before.legs.pop(number, None)
        self.attach(live, number, leg)

    def watch(self, live: LiveCall, browser: Browser) -> None:
        """The browser is to hear of the call from now on."""
        live.watchers[browser.id] = browser
        self._watched.setdefault(browser.id, set()).add(live)

    def silence(self, live: LiveCall, browser: Browser) -> None:
        """The browser declined: it hears no more of this call, whoever else rings."""
        live.declined |= {browser.id}
        self.unwatch_one(live, browser)

    def unwatch_one(self, live: LiveCall, browser: Browser) -> None:
        """The browser hears of this call no more."""
        live.watchers.pop(browser.id, None)
        self._watched.get(browser.id, set()).discard(live)

    def unwatch(self, browser: Browser) -> set[LiveCall]:
        """The browser hears of no call any more; returns those that it watched."""
        watched = self._watched.pop(browser.id, set())
        for live in watched:
            live.watchers.pop(browser.id, None)
        return watched

    def retire(self, live: LiveCall) -> None:
        """The call is over: it no longer counts, but is at hand until `forget`."""
        self._running.discard(live.call.id.int)
        if not self._running:
            self._idle.set()

    def forget(self, live: LiveCall) -> None:
        """Drop every trace of a call."""
        self.retire(live)
        self.past.keep(live.call.id, live.sip_legs)
        for number in list(live.legs):
            self.detach(live, number)
        for browser_id in live.watchers:
            self._watched[browser_id].discard(live)
        self._by_id.pop(live.call.id.int, None)

    async def wait_idle(self) -> None:
        """Until no call runs."""
        await self._idle.wait()

    async def wait_legs(self) -> None:
        """Until the engine has no leg of ours."""
        await self._legless.wait()
