"""The manager among fakes: an engine whose peers the test plays, a store and a cache in memory, browsers."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from telephony_gateway.calls.events import (
    Answered,
    Digit,
    Ended,
    EndedBy,
    EndedCause,
    Forwarded,
    Incoming,
    Refer,
    Ringing,
)
from telephony_gateway.calls.frames import ServerFrame
from telephony_gateway.calls.ids import IdSource, Owner
from telephony_gateway.calls.ladder import Rung, Rungs
from telephony_gateway.calls.manager import Manager, NewCall
from telephony_gateway.calls.model import TERMINAL_EVENTS, Call, CallEvent, Leg, LegStats, Session
from telephony_gateway.calls.policy import Policy
from telephony_gateway.calls.ports import CallPage, CallQuery
from telephony_gateway.calls.routing import Routing
from telephony_gateway.errors import EngineFailure, StoreUnavailable

START = datetime(2025, 11, 22, 12, tzinfo=UTC)
CARRIER = "203.0.113.7"
TABLES: dict[str, Any] = {
    "trunks": [
        {"name": "carrier", "addresses": ["203.0.113.0/24"], "uri": "sip:203.0.113.10:5060"},
        {"name": "pbx", "addresses": ["198.51.100.1"], "uri": "sip:198.51.100.1", "codecs": ["PCMA"]},
    ],
    "routes": [
        {"name": "sales", "match": {"to": r"^\+7495"}, "target": {"browser": "sales"}},
        {"name": "pbx", "match": {"to": "^2"}, "target": {"trunk": "pbx"}},
        {"name": "away", "match": {"to": "^3"}, "target": {"uri": "sip:away@192.0.2.9:5070"}},
        {"name": "loop", "match": {"to": "^5"}, "target": {"uri": "sip:us@192.0.2.1:5060"}},
        {"name": "closed", "match": {"to": "^4"}, "target": {"reject": 486}},
    ],
}


class LoopClock:
    """Wall-clock time that follows the loop's."""

    def now(self) -> datetime:
        return START + timedelta(seconds=asyncio.get_running_loop().time())


class Headers:
    """The headers of an INVITE that matter to the test."""

    def __init__(self, *headers: tuple[str, str]) -> None:
        self._headers = list(headers)

    def header(self, name: str, /) -> str | None:
        return next((value for found, value in self._headers if found.lower() == name.lower()), None)

    def headers(self) -> list[tuple[str, str]]:
        return self._headers


@dataclass
class FakeEngine:
    """Remembers commands; ends legs as the real one does: one `Ended` each, a moment after the command."""

    manager: Manager | None = None
    commands: list[tuple[Any, ...]] = field(default_factory=list)
    alive: set[int] = field(default_factory=set)
    ended: list[int] = field(default_factory=list)
    faults: dict[str, BaseException] = field(default_factory=dict)
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    rung: list[int] = field(default_factory=list)
    rungs: list[Rung] = field(default_factory=list)
    refusing: bool = False
    asked_always: list[bool] = field(default_factory=list)
    silent: bool = False
    passes_on: bool = False
    """What a callee does is done to the caller whom it was dialled for, as the real engine does."""
    links: dict[int, int] = field(default_factory=dict)
    said: list[tuple[int, str | None]] = field(default_factory=list)
    """The Reason that each leg was ended with."""
    refused_with: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def names(self) -> list[str]:
        return [command[0] for command in self.commands]

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [command[1:] for command in self.commands if command[0] == name]

    def hold(self, name: str) -> asyncio.Event:
        """Let a command wait until the event is set."""
        return self.held.setdefault(name, asyncio.Event())

    def emit(self, event: Any) -> None:
        assert self.manager is not None
        if isinstance(event, Ended):
            if event.leg not in self.alive:
                return
            self.alive.discard(event.leg)
            self.ended.append(event.leg)
            self.unlinked(event.leg)
        if isinstance(event, Refer):
            self.unlinked(event.leg)
            self.unlinked(event.replaces or 0)
        self.manager.handle(event)

    def unlinked(self, leg: int) -> None:
        """Nothing is passed on between this leg and the other one any more."""
        self.links.pop(self.links.pop(leg, 0), None)

    def new_sip_leg(self, beside: int | None = None) -> int:
        return next(self._numbers)

    def new_webrtc_leg(self, beside: int | None = None) -> int:
        assert beside is not None, "both legs live on one worker"
        return next(self._numbers)

    def dial(self, leg: int, **how: Any) -> None:
        self._note("dial", leg, how)
        self.alive.add(leg)
        caller = how["caller"] if self.passes_on else None
        if caller in self.alive and caller not in self.links:
            self.links |= {leg: caller, caller: leg}

    async def ring(self, leg: int, *, codecs: Sequence[str], status: int = 180) -> str:
        self.unlinked(leg)
        await self._do("ring", leg, list(codecs))
        self.rung.append(status)
        return codecs[0]

    async def answer(self, leg: int, on_sent: Callable[[], None] | None = None) -> None:
        self.unlinked(leg)
        await self._do("answer", leg)
        self._must_live(leg)
        if on_sent is not None:
            on_sent()

    def reject(self, leg: int, status: int, reason: str | None = None, headers: Any = ()) -> None:
        self._note("reject", leg, status)
        self.said.append((leg, dict(headers).get("Reason")))
        self.refused_with.append((status, dict(headers)))
        self._end_soon(leg)

    def hangup(self, leg: int, reason: str | None = None) -> None:
        self._note("hangup", leg)
        self.said.append((leg, reason))
        self._end_soon(leg)

    async def accept_offer(self, leg: int, sdp: str, codecs: Sequence[str]) -> str:
        self.alive.add(leg)
        await self._do("accept_offer", leg, sdp, list(codecs))
        self._must_live(leg)
        return f"answer to {sdp}"

    async def create_offer(self, leg: int, codecs: Sequence[str]) -> str:
        self.alive.add(leg)
        await self._do("create_offer", leg, list(codecs))
        return "offer"

    async def accept_answer(self, leg: int, sdp: str) -> None:
        await self._do("accept_answer", leg, sdp)

    def add_candidate(self, leg: int, candidate: str | None) -> None:
        self._note("add_candidate", leg, candidate)

    async def bridge(self, first: int, second: int) -> None:
        await self._do("bridge", first, second)
        self._must_live(first)
        self._must_live(second)

    async def preview(self, first: int, second: int) -> None:
        await self._do("preview", first, second)
        self._must_live(first)
        self._must_live(second)

    def ring_back(self, leg: int, tone: str | None) -> None:
        self._note("ring_back", leg, tone)

    def unlink(self, leg: int) -> None:
        self._note("unlink", leg)
        self.unlinked(leg)

    def catch_up(self) -> None: ...

    def unbridge(self, leg: int) -> None:
        self._note("unbridge", leg)

    def send_digits(self, leg: int, digits: str, duration: float = 0.1) -> None:
        self._note("send_digits", leg, digits)

    def introduce(self, first: int, second: int) -> None:
        self._note("introduce", first, second)

    def refer(
        self,
        leg: int,
        target: str = "",
        *,
        replaces: int | None = None,
        early_only: bool = False,
        referred_by: str | None = None,
    ) -> None:
        self._note("refer", leg, target, replaces, early_only, referred_by)

    def accept_refer(self, leg: int, number: int) -> None:
        self._note("accept_refer", leg, number)

    def refuse_refer(self, leg: int, number: int, status: int) -> None:
        self._note("refuse_refer", leg, number, status)

    def notify_refer(self, leg: int, number: int, status: int, reason: str = "") -> None:
        self._note("notify_refer", leg, number, status)

    def leg_stats(self, leg: int) -> LegStats | None:
        return None

    def stats(self) -> Any:
        raise NotImplementedError

    def ladder(self, legs: Sequence[int]) -> Rungs:
        messages = [rung for rung in self.rungs if rung.leg in legs]
        return Rungs(messages=messages, truncated=not set(legs) <= {rung.leg for rung in self.rungs})

    def refusals(self) -> list[Any]:
        return []

    def set_trunks(self, document: bytes) -> None:
        self._note("set_trunks", 0, document)

    def ask_always(self, ask: bool) -> None:
        self.asked_always.append(ask)

    def refuse_new(self, refuse: bool) -> None:
        self.refusing = refuse

    def _note(self, name: str, *args: Any) -> None:
        self.commands.append((name, *args))
        if (fault := self.faults.get(name)) is not None:
            raise fault

    async def _do(self, name: str, *args: Any) -> None:
        self._note(name, *args)
        if (gate := self.held.get(name)) is not None:
            await gate.wait()
        await asyncio.sleep(0)

    def _must_live(self, leg: int) -> None:
        if leg not in self.alive:
            raise EngineFailure(f"no leg {leg}", reason="unknown_leg")

    def _end_soon(self, leg: int) -> None:
        if not self.silent:
            event = Ended(leg=leg, by="local", cause="bye", stats=LegStats(codec="PCMU"))
            asyncio.get_running_loop().call_soon(self.emit, event)


@dataclass
class FakeStore:
    """Keeps everything, and checks the one ordered truth as it comes."""

    calls: dict[UUID, Call] = field(default_factory=dict)
    events: dict[UUID, list[CallEvent]] = field(default_factory=dict)
    sessions: dict[UUID, Session] = field(default_factory=dict)
    down: bool = False

    def record(self, call: Call, events: Sequence[CallEvent]) -> None:
        if self.down:
            raise StoreUnavailable("too much waits")
        kept = self.events.setdefault(call.id, [])
        for event in events:
            assert event.sequence == len(kept) + 1, "a gap"
            kept.append(event)
        assert call.sequence == len(kept)
        self.calls[call.id] = call

    def record_session(self, session: Session) -> None:
        assert session.token is None
        self.sessions[session.id] = session

    async def flush(self) -> None: ...

    async def find_call(self, call_id: UUID) -> Call | None:
        return self.calls.get(call_id)

    async def list_calls(self, query: CallQuery) -> CallPage:
        return CallPage(items=tuple(self.calls.values()))

    async def call_events(self, call_id: UUID) -> list[CallEvent]:
        return self.events.get(call_id, [])

    async def ping(self) -> float:
        return 0.0


@dataclass
class FakeCache:
    """As the shared one, in a dict; every answer takes a turn of the loop."""

    shared: bool = True
    calls: dict[UUID, Call] = field(default_factory=dict)
    claims: dict[str, bytes] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    fault: Exception | None = None

    async def put_call(self, call: Call) -> None:
        await self._turn()
        self.calls[call.id] = call

    async def find_call(self, call_id: UUID) -> Call | None:
        await self._turn()
        return self.calls.get(call_id)

    async def claim(self, key: str, value: bytes, ttl: timedelta) -> bytes | None:
        await self._turn()
        earlier = self.claims.get(key)
        self.claims.setdefault(key, value)
        return earlier

    async def put_session(self, token_hash: str, session: Session, ttl: timedelta) -> None:
        await self._turn()
        self.sessions[token_hash] = session

    async def find_session(self, token_hash: str) -> Session | None:
        await self._turn()
        return self.sessions.get(token_hash)

    async def ping(self) -> float:
        return 0.0

    async def close(self) -> None: ...

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault


@dataclass(eq=False)
class FakeBrowser:
    """Reads every frame at once."""

    id: str
    names: frozenset[str] = frozenset({"sales"})
    authenticated: bool = True
    frames: list[ServerFrame] = field(default_factory=list)

    def send(self, frame: ServerFrame) -> None:
        self.frames.append(frame)

    def heard(self) -> list[str]:
        return [type(frame).__name__ for frame in self.frames]

    def last(self) -> Call:
        return self.frames[-1].call


@dataclass
class Watcher:
    """An observer that counts."""

    told: list[tuple[str, Any]] = field(default_factory=list)

    def call_event(self, call: Call, event: CallEvent) -> None:
        self.told.append(("event", event.type))

    def phase(self, call: Call, phase: str, started: datetime, ended: datetime) -> None:
        assert started <= ended
        self.told.append(("phase", phase))

    def leg_connected(self, call: Call, leg: Leg) -> None:
        self.told.append(("connected", leg.kind))

    def leg_ended(self, call: Call, leg: Leg) -> None:
        self.told.append(("ended", leg.kind))

    def refused(self, reason: str) -> None:
        self.told.append(("refused", reason))


class World:
    """Everything a call needs, and the peers' part played by the test."""

    def __init__(
        self,
        tables: dict[str, Any] = TABLES,
        *,
        development: bool = False,
        voucher: Any = None,
        **policy: Any,
    ) -> None:
        self.engine, self.store, self.cache = FakeEngine(), FakeStore(), FakeCache()
        self.watcher = Watcher()
        clock = LoopClock()
        self.policy = Policy(**policy)
        self.routing = Routing.from_tables(tables, development=development)
        self.manager = Manager(
            engine=self.engine,
            store=self.store,
            cache=self.cache,
            routing=self.routing,
            ids=IdSource(Owner.of("test", START), clock),
            policy=self.policy,
            observers=[self.watcher],
            clock=clock,
            voucher=voucher,
        )
        self.engine.manager = self.manager

    def browser(self, name: str = "b1", **fields: Any) -> FakeBrowser:
        browser = FakeBrowser(name, **fields)
        self.manager.connect(browser)
        return browser

    def trunk_of(self, source: str) -> str:
        """As the engine finds it."""
        found = self.routing.trunk_of(source)
        return found.name if found else ""

    def invite(
        self,
        to: str = "+74951234567",
        source: str = CARRIER,
        headers: Sequence[tuple[str, str]] = (),
        forwarded: Forwarded | None = None,
        *,
        user: str | None = None,
        from_: str = "+79001112233",
    ) -> int:
        """A carrier calls in; returns its leg."""
        leg = self.engine.new_sip_leg()
        self.engine.alive.add(leg)
        event = Incoming(
            leg=leg,
            sip_call_id=f"call-{leg}@carrier",
            request_uri=f"sip:{to}@192.0.2.1:5060",
            from_uri=f"sip:{from_}@203.0.113.7",
            from_display="",
            to_uri=f"sip:{to}@192.0.2.1",
            source=(source, 5060),
            local=("192.0.2.1", 5060),
            codecs=["PCMA", "PCMU"],
            message=Headers(*headers),
            trunk=self.trunk_of(source),
            forwarded=forwarded,
            user=user,
        )
        self.engine.emit(event)
        return leg

    async def ringing(self) -> tuple[int, Call]:
        """A call that rings the sales browsers."""
        leg = self.invite()
        await settle()
        call = self.only()
        assert call.status == "ringing"
        return leg, call

    async def talking(self, browser: FakeBrowser) -> tuple[int, Call]:
        """An inbound call that the browser answered."""
        leg, call = await self.ringing()
        await self.manager.join(browser, call.id)
        await self.manager.offer(browser, call.id, "o")
        return leg, await self.manager.find_call(call.id)

    async def dialled(self, **fields: Any) -> tuple[int, Call]:
        """An outbound call; returns its SIP leg."""
        call = await self.manager.create_call(NewCall(to="+7900", trunk="carrier", **fields))
        return self.engine.of("dial")[-1][0], call

    def ring(self, leg: int, status: int = 180, age: float = 0.0) -> None:
        passed_on = "PCMU" if leg in self.engine.links else None
        self.engine.emit(Ringing(leg=leg, status=status, passed_on=passed_on, age=age))

    def pick_up(self, leg: int, codec: str = "PCMU", age: float = 0.0, rang: float | None = None) -> None:
        passed_on = codec if leg in self.engine.links else None
        call_id = f"call-{leg}@us"
        self.engine.emit(
            Answered(leg=leg, codec=codec, sip_call_id=call_id, rang=rang, passed_on=passed_on, age=age)
        )

    def press(self, leg: int, digit: str) -> None:
        self.engine.emit(Digit(leg=leg, digit=digit, duration=0.1))

    def end(
        self,
        leg: int,
        cause: EndedCause,
        *,
        by: EndedBy = "remote",
        status: int | None = None,
        reason: str = "",
        reasons: str = "",
        contacts: Sequence[str] = (),
        age: float = 0.0,
    ) -> None:
        """A peer ends a leg, or it dies."""
        other = self.engine.links.get(leg) if leg in self.engine.alive else None
        call = self.manager._calls.of_leg(leg)
        passed_on = cause == "bye" and by == "remote" and other is not None and call.call.answered
        self.engine.emit(
            Ended(
                leg=leg, by=by, cause=cause, status=status, reason=reason, reasons=reasons,
                contacts=contacts, stats=LegStats(), passed_on=passed_on, age=age,
            )
        )  # fmt: skip
        if passed_on:
            self.engine.emit(Ended(leg=other, by="local", cause="bye", stats=LegStats()))

    def only(self) -> Call:
        """The one call there is."""
        (call,) = self.store.calls.values()
        return call

    def history(self, call: Call) -> list[str]:
        return [event.type for event in self.store.events[call.id]]

    async def check_end(self) -> None:
        """When all is over: no leg, no task, no call, and each call ended exactly once."""
        self.engine.held.clear()
        self.engine.faults.clear()
        await self.manager.drain(1000)
        await asyncio.sleep(100)
        assert self.manager.active_calls == 0
        assert self.engine.alive == set(), f"legs left: {self.engine.alive} after {self.engine.commands}"
        await self.manager.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in others if task.get_name().startswith(("call", "cache"))]
        for events in self.store.events.values():
            terminal = [event.type for event in events if event.type in TERMINAL_EVENTS]
            assert len(terminal) == 1, [event.type for event in events]
            assert events[-1].type in TERMINAL_EVENTS


async def settle() -> None:
    """Let everything that can run without time passing run."""
    for _ in range(30):
        await asyncio.sleep(0)
