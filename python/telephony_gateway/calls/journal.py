"""The one place where a running call changes: apply, record, tell.

Each step goes to the store (in order), the cache (latest state only), the observers and the browsers that
watch the call, so all of them show one sequence.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog

from telephony_gateway.calls.containment import PASS_ON, contained
from telephony_gateway.calls.events import LegId
from telephony_gateway.calls.frames import CallEnded, CallState, ServerFrame
from telephony_gateway.calls.live import LiveCall
from telephony_gateway.calls.model import Applied, Call, CallEvent, Ending, Leg, Session, Trigger
from telephony_gateway.calls.ports import Browser, Cache, Clock, Observer, Phase, Store
from telephony_gateway.errors import StoreUnavailable

log = structlog.get_logger(__name__)

MIRROR_LINGER = 0.05
"""How long a shared cache may be behind, so that the quick steps of a call are written to it once."""
LOCAL_LINGER = 0.5
"""How long one that only this process reads may be: what has just ended is at hand yet."""


class Journal:
    """Turns steps of a call into records and notices."""

    def __init__(self, *, store: Store, cache: Cache, observers: Sequence[Observer], clock: Clock) -> None:
        self._store = store
        self._mirror = CacheMirror(cache)
        self._on_event = [observer.call_event for observer in observers]
        self._on_phase = [observer.phase for observer in observers]
        self._on_leg_connected = [observer.leg_connected for observer in observers]
        self._on_leg_ended = [observer.leg_ended for observer in observers]
        self._on_refused = [observer.refused for observer in observers]
        self.clock = clock
        # Bound once: the lazy one is bound anew by each question whether it is enabled.
        self._log = log.bind()

    def begin(self, live: LiveCall, data: Mapping[str, Any]) -> None:
        """The first event of a call. `StoreUnavailable` here means that the call must not begin."""
        call, events = live.call.initiated(data)
        self._store.record(call, events)
        self._adopt(live, call, events)

    def found(self, live: LiveCall, data: Mapping[str, Any]) -> bool:
        """The first event of a call that is under way already; whether the store has room for it now."""
        self._keep(live, live.call.initiated(data))
        return not live.unwritten

    def apply(
        self, live: LiveCall, trigger: Trigger, data: Mapping[str, Any] | None = None, *, age: float = 0.0
    ) -> None:
        """One step that does not end the call, taken `age` seconds ago."""
        before, at = live.call.sequence, self._time(age)
        self._keep(live, live.call.apply(trigger, at, data))
        if trigger == "answer":
            self.phase(live.call, "invite", live.call.created_at, at)
        if trigger != "digit" and live.call.sequence != before:
            self.tell(live.watchers.values(), CallState(call=live.call))

    def answer(self, live: LiveCall, age: float = 0.0, rang: float | None = None) -> None:
        """The call is answered by somebody who hears the caller already, and `rang` so long ago."""
        at, call = self._time(age), live.call
        events: Sequence[CallEvent] = ()
        if rang is not None:
            call, events = call.apply("ring", self._time(rang))
        call, answered = call.apply("answer", at)
        call, bridged = call.apply("bridge", at)
        self._keep(live, (call, (*events, *answered, *bridged)))
        self.phase(live.call, "invite", live.call.created_at, at)
        self.tell(live.watchers.values(), CallState(call=live.call))

    def end(self, live: LiveCall, ending: Ending, age: float = 0.0) -> None:
        """The terminal step."""
        at = self._time(age)
        self._keep(live, live.call.end(ending, at))
        started = live.call.answered_at or live.call.created_at
        self.phase(live.call, "media" if live.call.answered else "invite", started, at)
        self.tell(live.watchers.values(), CallEnded(call=live.call))

    def _time(self, age: float) -> datetime:
        now = self.clock.now()
        return now - timedelta(seconds=age) if age else now

    def is_complete(self, live: LiveCall) -> bool:
        """Whether the store has all of it; what it had no room for is offered once more."""
        if live.unwritten:
            with suppress(StoreUnavailable):
                self._store.record(live.call, live.unwritten)
                live.unwritten = ()
        return not live.unwritten

    def leg(self, live: LiveCall, number: LegId, leg: Leg, *, followed: bool = False) -> None:
        """A leg is new or changed; no event tells of it. A step of the call that follows records it."""
        if number in live.legs:
            live.legs[number] = leg
        if followed:
            live.call = live.call.with_leg(leg)
        else:
            self._keep(live, (live.call.with_leg(leg), ()))

    def session(self, session: Session) -> None:
        """A participant's ticket is new or changed. It is not worth refusing the participant for."""
        with contained(lambda error: log.error("session not recorded", error=repr(error))):
            self._store.record_session(session)

    def amend(self, live: LiveCall, **changes: Any) -> None:
        """Facts that no event tells of; the next step records them."""
        live.call = msgspec.structs.replace(live.call, **changes)

    def leg_connected(self, live: LiveCall, leg: Leg) -> None:
        """Tell the observers that a leg's media flows."""
        _tell_observers(self._on_leg_connected, live.call, leg)

    def leg_ended(self, live: LiveCall, leg: Leg) -> None:
        """Tell the observers that a leg is gone."""
        _tell_observers(self._on_leg_ended, live.call, leg)

    def phase(self, call: Call, phase: Phase, started: datetime, ended: datetime | None = None) -> None:
        """Tell the observers that a part of the call took from `started` to `ended`, or to now."""
        _tell_observers(self._on_phase, call, phase, started, ended or self.clock.now())

    def refused(self, reason: str) -> None:
        """Tell the observers of an INVITE refused without a call."""
        _tell_observers(self._on_refused, reason)

    def tell(self, browsers: Iterable[Browser], frame: ServerFrame) -> None:
        """Push a frame; one browser's fault is its own."""
        for browser in list(browsers):
            with contained(lambda error: log.warning("frame not sent", error=repr(error))):
                browser.send(frame)

    async def close(self) -> None:
        """Wait until the cache has what it should."""
        await self._mirror.close()

    def _keep(self, live: LiveCall, applied: Applied) -> None:
        call, events = applied
        try:
            self._store.record(call, (*live.unwritten, *events) if live.unwritten else events)
            live.unwritten = ()
        except StoreUnavailable as error:
            # A call that runs is worth more than its record: say it once, and go on. What could not be
            # written goes before the next, so that no history has a gap.
            if not live.unwritten:
                log.error("call not recorded yet", call_id=str(call.id), error=error.message)
            live.unwritten += tuple(events)
        self._adopt(live, call, events)

    def _adopt(self, live: LiveCall, call: Call, events: Sequence[CallEvent]) -> None:
        live.call = call
        self._mirror.put(call)
        for event in events:
            self._note(call, event)

    def _note(self, call: Call, event: CallEvent) -> None:
        if self._log.is_enabled_for(logging.INFO):
            self._log.info(event.type, call_id=str(call.id), sequence=event.sequence, status=call.status)
        _tell_observers(self._on_event, call, event)


def _tell_observers(observers: Iterable[Callable[..., None]], *facts: object) -> None:
    for tell in observers:
        try:
            tell(*facts)
        except PASS_ON:
            raise
        except BaseException as error:
            log.error("observer failed", exc_info=error)


class CacheMirror:
    """Keeps the cache at the latest state of each call: one writer, newest state wins, one entry a call."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._linger = MIRROR_LINGER if cache.shared else LOCAL_LINGER
        self._waiting: dict[int, Call] = {}
        self._writer: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failing = False

    def put(self, call: Call) -> None:
        """Have the call written soon; while it runs, only others have to look it up."""
        if not (self._cache.shared or call.over):
            return
        self._waiting[call.id.int] = call
        if self._timer is None and self._writer is None:
            # Asking which loop runs is a system call each time (it looks for a fork).
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._timer = self._loop.call_later(self._linger, self._begin, self._loop)

    async def close(self) -> None:
        """Wait for what is to be written."""
        if self._timer is not None:
            self._timer.cancel()
            self._begin(asyncio.get_running_loop())
        if self._writer is not None:
            await asyncio.wait([self._writer])

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._writer = loop.create_task(self._write(), name="cache-mirror")

    async def _write(self) -> None:
        try:
            while self._waiting:
                call_id = next(iter(self._waiting))
                await self._put(self._waiting.pop(call_id))
        finally:
            self._writer = None

    async def _put(self, call: Call) -> None:
        try:
            await self._cache.put_call(call)
            self._failing = False
        except PASS_ON:
            raise
        except BaseException as error:
            self._fault(error)

    def _fault(self, error: BaseException) -> None:
        # The cache is a convenience: what it misses, the store has. Said once until it works again.
        if not self._failing:
            log.warning("cache not written", error=repr(error))
        self._failing = True
