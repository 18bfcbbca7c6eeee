"""Finding calls: those at hand first, then the cache, then the store."""

from uuid import UUID

import structlog

from telephony_gateway.calls.containment import contained
from telephony_gateway.calls.ids import Owner
from telephony_gateway.calls.ladder import Ladder, ladder
from telephony_gateway.calls.live import LiveCall, LiveCalls
from telephony_gateway.calls.model import Call, CallEvent
from telephony_gateway.calls.policy import Policy
from telephony_gateway.calls.ports import Cache, CallPage, CallQuery, Engine, Store
from telephony_gateway.errors import CallNotFound, WrongState

log = structlog.get_logger(__name__)


class Lookup:
    """Reads calls and their history."""

    def __init__(
        self, *, calls: LiveCalls, cache: Cache, store: Store, engine: Engine, owner: Owner, policy: Policy
    ) -> None:
        self._engine = engine
        self._owner = owner
        self._policy = policy
        self._calls = calls
        self._cache = cache
        self._store = store

    async def call(self, call_id: UUID) -> Call:
        """A call, running or over; `CallNotFound`."""
        self._engine.catch_up()
        if (live := self._calls.find(call_id)) is not None:
            return live.call
        if (call := await self._cached(call_id) or await self._store.find_call(call_id)) is not None:
            return call
        raise CallNotFound(call_id)

    async def live(self, call_id: UUID) -> LiveCall:
        """A call that runs here; `WrongState` if it is over or runs elsewhere, `CallNotFound`."""
        self._engine.catch_up()
        live = self._calls.find(call_id)
        if live is not None and not live.call.over:
            return live
        call = await self.call(call_id)
        if call.over:
            raise WrongState(f"the call is over: {call.status}")
        raise WrongState("the call runs on another node")

    def at_hand(self, call_id: UUID) -> LiveCall:
        """A call that runs here, without asking anyone else."""
        self._engine.catch_up()
        live = self._calls.find(call_id)
        if live is None:
            raise CallNotFound(call_id)
        if live.call.over:
            raise WrongState(f"the call is over: {live.call.status}")
        return live

    async def page(self, query: CallQuery) -> CallPage:
        """A page of calls."""
        self._engine.catch_up()
        return await self._store.list_calls(query)

    async def events(self, call_id: UUID) -> list[CallEvent]:
        """A call's history."""
        await self.call(call_id)
        return await self._store.call_events(call_id)

    async def ladder(self, call_id: UUID) -> Ladder:
        """A call's SIP messages, which only the node that ran it has; `WrongState` for any other."""
        if not self._policy.ladder_memory:
            raise WrongState("SIP messages are not kept: SIP_LADDER_MEMORY is 0")
        live = self._calls.find(call_id)
        numbers = live.sip_legs if live is not None else self._calls.past.of(call_id)
        if numbers is not None:
            return ladder(numbers, self._engine.ladder)
        call = await self.call(call_id)
        if Owner.from_id(call.id).node == self._owner.node:
            return Ladder(items=(), truncated=True)
        raise WrongState("the call ran on another node, which alone has its SIP messages")

    async def _cached(self, call_id: UUID) -> Call | None:
        with contained(lambda error: log.warning("cache not read", error=repr(error))):
            return await self._cache.find_call(call_id)
        return None
