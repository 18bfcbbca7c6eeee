"""The HTTP face on a loopback port, before the real Manager, with a scripted engine and a store in memory."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import aiohttp
from aiohttp import web

from telephony_gateway.api.context import ComponentHealth, Context, Health
from telephony_gateway.api.rest import build_app
from telephony_gateway.api.server import HttpRunner
from telephony_gateway.calls.events import Ended, Incoming, Ringing
from telephony_gateway.calls.ids import IdSource, Owner
from telephony_gateway.calls.ladder import Rung, Rungs
from telephony_gateway.calls.manager import Manager
from telephony_gateway.calls.model import Call, CallEvent, Session
from telephony_gateway.calls.policy import Policy
from telephony_gateway.calls.ports import CallPage, CallQuery, Target
from telephony_gateway.calls.provisioning import Provisioning
from telephony_gateway.calls.refusals import Refusal
from telephony_gateway.calls.registrations import Registrations
from telephony_gateway.calls.routing import Routing
from telephony_gateway.config import Settings
from telephony_gateway.errors import Invalid, NotAcceptable
from tests.unit.plan_store import MemoryPlan

OFFER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n"
ANSWER = OFFER.replace("o=- 1", "o=- 2")
KEY = "a-key-of-the-tests"
UNKNOWN = "0190163d-8694-739b-aea5-966c26f8ad90"


class SystemClock:
    """The wall clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class ScriptedEngine:
    """Does what it is told at once and remembers it; tests play the peers by calling `manager.handle`."""

    def __init__(self) -> None:
        self.commands: list[tuple[Any, ...]] = []
        self.known_targets: list[Target] = []
        self.usable = True
        self.refused: list[Refusal] = []
        self.rungs: list[Rung] = []
        self.delay = 0.0
        self.fault: BaseException | None = None
        self.manager: Manager | None = None
        self._legs = itertools.count(1)

    def new_sip_leg(self, beside: int | None = None) -> int:
        return next(self._legs)

    def new_webrtc_leg(self, beside: int | None = None) -> int:
        return next(self._legs)

    def dial(self, leg: int, **how: Any) -> None:
        self.commands.append(("dial", leg, how))

    async def ring(self, leg: int, *, codecs: Sequence[str], status: int = 180) -> str:
        self.commands.append(("ring", leg))
        return codecs[0]

    async def answer(self, leg: int, on_sent: Callable[[], None] | None = None) -> None:
        self.commands.append(("answer", leg))
        if on_sent is not None:
            on_sent()

    def reject(self, leg: int, status: int, reason: str | None = None, headers: Sequence[Any] = ()) -> None:
        self.commands.append(("reject", leg, status))
        self._gone(leg)

    def hangup(self, leg: int, reason: str | None = None) -> None:
        self.commands.append(("hangup", leg))
        self._gone(leg)

    async def accept_offer(self, leg: int, sdp: str, codecs: Sequence[str]) -> str:
        self.commands.append(("accept_offer", leg))
        await asyncio.sleep(self.delay)
        if self.fault is not None:
            raise self.fault
        if not self.usable or "m=audio" not in sdp:
            raise NotAcceptable("nothing in the offer is usable")
        return ANSWER

    async def create_offer(self, leg: int, codecs: Sequence[str]) -> str:
        self.commands.append(("create_offer", leg))
        return OFFER

    async def accept_answer(self, leg: int, sdp: str) -> None:
        self.commands.append(("accept_answer", leg))

    def add_candidate(self, leg: int, candidate: str | None) -> None:
        self.commands.append(("add_candidate", leg, candidate))

    async def bridge(self, first: int, second: int) -> None:
        self.commands.append(("bridge", first, second))

    def unlink(self, leg: int) -> None: ...

    def catch_up(self) -> None: ...

    def unbridge(self, leg: int) -> None:
        self.commands.append(("unbridge", leg))

    def send_digits(self, leg: int, digits: str, duration: float = 0.1) -> None:
        self.commands.append(("send_digits", leg, digits))

    def leg_stats(self, leg: int) -> None:
        return None

    def ladder(self, legs: Sequence[int]) -> Rungs:
        return Rungs(messages=[rung for rung in self.rungs if rung.leg in legs])

    def refusals(self) -> list[Refusal]:
        return list(self.refused)

    def set_trunks(self, document: bytes) -> None:
        self.commands.append(("set_trunks", document))

    def check_trunks(self, document: bytes) -> None: ...

    def set_dial_plan(self, document: bytes) -> None: ...

    def ask_always(self, ask: bool) -> None: ...

    def set_users(self, document: bytes) -> None:
        self.commands.append(("set_users", document))

    def targets(self) -> list[Target]:
        return self.known_targets

    def refuse_new(self, refuse: bool) -> None:
        self.commands.append(("refuse_new", refuse))

    def stats(self) -> Any:
        raise NotImplementedError

    def _gone(self, leg: int) -> None:
        assert self.manager is not None
        ended = Ended(leg=leg, by="local", cause="bye")
        asyncio.get_running_loop().call_soon(self.manager.handle, ended)

    def names(self) -> list[str]:
        return [command[0] for command in self.commands]


class MemoryStore:
    """Keeps calls and events in dictionaries; its cursor is a number."""

    def __init__(self) -> None:
        self.calls: dict[UUID, Call] = {}
        self.events: dict[UUID, list[CallEvent]] = {}
        self.queries: list[CallQuery] = []
        self.fault: BaseException | None = None

    def record(self, call: Call, events: Sequence[CallEvent]) -> None:
        if self.fault is not None:
            raise self.fault
        self.calls[call.id] = call
        self.events.setdefault(call.id, []).extend(events)

    def record_session(self, session: Session) -> None:
        assert session.token is None

    async def flush(self) -> None:
        return None

    async def find_call(self, call_id: UUID) -> Call | None:
        if self.fault is not None:
            raise self.fault
        return self.calls.get(call_id)

    async def list_calls(self, query: CallQuery) -> CallPage:
        self.queries.append(query)
        if query.cursor is not None and not query.cursor.isdecimal():
            raise Invalid("the cursor is not ours", [("cursor", "not a cursor")])
        begin = int(query.cursor or 0)
        found = [
            call
            for call in sorted(self.calls.values(), key=lambda call: call.id, reverse=True)
            if (not query.status or call.status in query.status)
            and query.direction in (None, call.direction)
            and (query.created_after is None or call.created_at >= query.created_after)
            and (query.created_before is None or call.created_at < query.created_before)
        ]
        page = tuple(found[begin : begin + query.limit])
        more = begin + query.limit < len(found)
        return CallPage(items=page, next_cursor=str(begin + query.limit) if more else None)

    async def call_events(self, call_id: UUID) -> list[CallEvent]:
        return self.events.get(call_id, [])

    async def ping(self) -> float:
        return 0.001


class MemoryCache:
    """Dictionaries without expiry."""

    shared = False

    def __init__(self) -> None:
        self.claims: dict[str, bytes] = {}
        self.sessions: dict[str, Session] = {}

    async def put_call(self, call: Call) -> None:
        return None

    async def find_call(self, call_id: UUID) -> Call | None:
        return None

    async def claim(self, key: str, value: bytes, ttl: timedelta) -> bytes | None:
        earlier = self.claims.get(key)
        self.claims.setdefault(key, value)
        return earlier

    async def put_session(self, token_hash: str, session: Session, ttl: timedelta) -> None:
        self.sessions[token_hash] = session

    async def find_session(self, token_hash: str) -> Session | None:
        return self.sessions.get(token_hash)

    async def ping(self) -> float:
        return 0.0

    async def close(self) -> None:
        return None


@dataclass
class Counts:
    """Telemetry that only remembers."""

    requests: list[tuple[str, str, int]] = field(default_factory=list)

    def observe_request(self, method: str, route: str, status: int, duration: float) -> None:
        assert 0 <= duration < 60
        self.requests.append((method, route, status))

    def render(self) -> tuple[bytes, str]:
        return b"# HELP active_calls Calls\n" * 100, "text/plain; version=0.0.4; charset=utf-8"


class Invite:
    """The message behind an `Incoming`."""

    def header(self, name: str, /) -> str | None:
        return None

    def headers(self) -> list[tuple[str, str]]:
        return []


@dataclass
class World:
    """A running gateway and what stands around it."""

    engine: ScriptedEngine
    store: MemoryStore
    cache: MemoryCache
    manager: Manager
    counts: Counts
    health: Health
    http: aiohttp.ClientSession
    runner: web.AppRunner
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def json(self, method: str, path: str, status: int, **how: Any) -> Any:
        """Ask and expect a status; gives the decoded body."""
        async with self.http.request(method, path, **how) as response:
            body = await response.json(content_type=None)
            assert response.status == status, body
            if status >= 400 and not path.startswith("/health"):
                assert response.content_type == "application/problem+json"
                assert (body["status"], body["instance"]) == (status, path.partition("?")[0])
            return body

    def invite(self, leg: int = 900, to: str = "100", sip_call_id: str = "abc") -> None:
        """Someone calls."""
        incoming = Incoming(
            leg=leg,
            sip_call_id=sip_call_id,
            request_uri=f"sip:{to}@127.0.0.1",
            from_uri="sip:+74951234567@127.0.0.1",
            from_display="",
            to_uri=f"sip:{to}@127.0.0.1",
            source=("127.0.0.1", 5070),
            local=("127.0.0.1", 5060),
            codecs=["PCMU"],
            trunk="development",
            message=Invite(),
        )
        self.manager.handle(incoming)

    def ringing(self, leg: int) -> None:
        """The callee's phone rings."""
        self.manager.handle(Ringing(leg=leg, status=180))

    @asynccontextmanager
    async def socket(self, **how: Any) -> AsyncIterator["Talk"]:
        """A browser's WebSocket."""
        async with self.http.ws_connect("/ws", **how) as socket:
            yield Talk(socket)


@dataclass
class Talk:
    """The client's side of a WebSocket; frames that nobody waited for yet are kept."""

    socket: aiohttp.ClientWebSocketResponse
    frames: list[dict[str, Any]] = field(default_factory=list)

    async def send(self, **frame: Any) -> None:
        await self.socket.send_json(frame)

    async def next(self, kind: str, timeout: float = 5, **fields: Any) -> dict[str, Any]:
        """The first frame of this type with these fields, kept or to come."""
        wanted = {"type": kind, **fields}.items()
        while True:
            for frame in self.frames:
                if wanted <= frame.items():
                    self.frames.remove(frame)
                    return frame
            message = await self.socket.receive(timeout)
            assert message.type is aiohttp.WSMsgType.TEXT, (message, self.frames)
            self.frames.append(message.json())

    async def ask(self, reply: str, **frame: Any) -> dict[str, Any]:
        """Send a frame and wait for its reply."""
        number = f"r{id(frame)}"
        await self.send(**frame, request_id=number)
        return await self.next(reply, request_id=number)

    async def alive(self) -> None:
        """It still does what it is asked."""
        await self.ask("registered", type="register", browser="alive")

    async def closed(self) -> int | None:
        """Read on until the gateway closes; the code it gave."""
        while (await self.socket.receive(10)).type is aiohttp.WSMsgType.TEXT:
            pass
        return self.socket.close_code


async def up() -> ComponentHealth:
    return ComponentHealth(status="up", latency=0.0015, info={"version": "1"})


@asynccontextmanager
async def world(tables: Mapping[str, Any] | None = None, **settings: Any) -> AsyncIterator[World]:
    """Run a gateway with these settings."""
    configured = Settings(_env_file=None, **({"NODE_ENV": "test", "RATE_LIMIT": "100000/minute"} | settings))
    engine, store, cache, counts, clock = (
        ScriptedEngine(),
        MemoryStore(),
        MemoryCache(),
        Counts(),
        SystemClock(),
    )
    routing = Routing.from_tables(tables or {}, development=True, environ={"SECRET": "hidden-word"})
    provisioning = Provisioning(store=MemoryPlan(), engine=engine, routing=routing)
    await provisioning.start()
    engine.commands.clear()
    manager = Manager(
        engine=engine,
        store=store,
        cache=cache,
        routing=routing,
        ids=IdSource(Owner.of("test", clock.now()), clock),
        policy=Policy(authentication=bool(configured.api_keys), linger=0.05, leg_farewell=0.2),
        observers=(),
        clock=clock,
    )
    engine.manager = manager
    health = Health(components={"engine": up, "database": up, "cache": up}, ready=True)
    context = Context(manager, configured, counts, health, provisioning, Registrations(SystemClock()))
    runner = HttpRunner(build_app(context))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        try:
            yield World(engine, store, cache, manager, counts, health, http, runner, port)
        finally:
            await manager.drain(0)
            await runner.cleanup()
