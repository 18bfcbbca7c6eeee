"""The asyncio face of the Rust engine: one reader, one drain, one callback; it serves `calls.ports.Engine`.

The only module that imports the extension. Its events become those of `calls.events` here, its errors those
of the `GatewayError` tree. Commands with a result wait for the `Done` event that carries their correlation.
"""

import asyncio
import functools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog

from telephony_gateway import _core
from telephony_gateway.calls import events
from telephony_gateway.calls.ladder import Rung, Rungs
from telephony_gateway.calls.model import LegStats
from telephony_gateway.calls.ports import Target
from telephony_gateway.calls.refusals import Refusal
from telephony_gateway.errors import (
    ConfigError,
    EngineFailure,
    GatewayError,
    Invalid,
    NotAcceptable,
    Overloaded,
    WrongState,
)

T = TypeVar("T")
Waiting = tuple[float, asyncio.Future[_core.Done], Callable[[], None] | None]
"""Until when, who waits, and what to do before the next event is told."""
log = structlog.get_logger(__name__)

BATCH = 256
"""Events taken per wake-up, so that a flood of them does not hold the loop."""
COMMAND_TIMEOUT = 10.0
"""Far above what any command takes; passing it means that the engine is sick."""


class EngineClient:
    """Owns the extension's engine from `start` to `stop`. All methods belong to the event loop's thread."""

    def __init__(
        self,
        *,
        sip_host: str,
        sip_port: int,
        sip_tls_port: int = 5061,
        sip_tls_files: tuple[str, str, str | None] | None = None,
        sip_public_address: str | None = None,
        rtp_port_range: tuple[int, int] = (20000, 29999),
        webrtc_host: str | None = None,
        webrtc_port: int = 40000,
        media_workers: int = 1,
        user_agent: str = "telephony-gateway",
        media_timeout: float = 60.0,
        event_capacity: int = 8192,
        dns_servers: str = "",
        unknown_sources: str = "take",
        ladder_memory: int = 32 << 20,
    ) -> None:
        self._build = functools.partial(
            _core.Engine,
            sip_host=sip_host,
            sip_port=sip_port,
            sip_tls_port=sip_tls_port,
            sip_tls_files=sip_tls_files,
            sip_public_address=sip_public_address,
            rtp_port_range=rtp_port_range,
            webrtc_host=webrtc_host,
            webrtc_port=webrtc_port,
            media_workers=media_workers,
            user_agent=user_agent,
            media_timeout=media_timeout,
            event_capacity=event_capacity,
            dns_servers=dns_servers,
            unknown_sources=unknown_sources,
            ladder_memory=ladder_memory,
        )
        self._engine: _core.Engine | None = None
        self._on_event: Callable[[events.Event], None] = _ignore
        self.on_registration: Callable[[events.Registration | events.Bindings], None] = _ignore
        self.on_trunks_down: Callable[[events.TrunksDown], None] = _ignore
        # In the order of their deadlines, since all wait equally long: one timer does for all of them.
        self._waiting: dict[int, Waiting] = {}
        self._overdue: asyncio.TimerHandle | None = None
        # Asking which loop runs is a system call each time (it looks for a fork).
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self, on_event: Callable[[events.Event], None]) -> None:
        """Bind and start the threads; `ConfigError` names the setting that does not work."""
        try:
            self._engine = await asyncio.to_thread(self._build)
        except _core.EngineError as error:
            raise _translate(error) from None
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._engine.fileno(), self._drain)

    async def stop(self, timeout: float = 5.0) -> None:  # noqa: ASYNC109 - the threads keep it, not this task
        """Hang up what is left, wait for the threads, deliver the last events; idempotent."""
        engine = self._engine
        if engine is None:
            return
        await asyncio.to_thread(engine.stop, timeout)
        asyncio.get_running_loop().remove_reader(engine.fileno())
        while self._drain():
            pass
        self._engine = None
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
        for _, waiting, _ in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(EngineFailure("the engine was stopped", reason="stopped"))

    @property
    def sip_address(self) -> tuple[str, int]:
        """Where SIP is listened for."""
        return self._running.sip_address

    @property
    def sip_listeners(self) -> list[tuple[str, str, int]]:
        """What is listened on for SIP: transport, host and port."""
        return self._running.sip_listeners

    @property
    def webrtc_addresses(self) -> list[tuple[str, int]]:
        """Where browsers' media is listened for, one per worker."""
        return self._running.webrtc_addresses

    def new_sip_leg(self, beside: int | None = None) -> int:
        """A number for a leg to be dialled, on the media worker of `beside`."""
        return self._call(lambda engine: engine.new_sip_leg(beside))

    def new_webrtc_leg(self, beside: int | None = None) -> int:
        """A browser's leg, on the media worker of `beside`."""
        return self._call(lambda engine: engine.new_webrtc_leg(beside))

    def dial(
        self,
        leg: int,
        *,
        uri: str,
        from_uri: str,
        from_display: str = "",
        next_hop: str | None = None,
        trunk: str = "",
        codecs: Sequence[str],
        headers: Sequence[tuple[str, str]] = (),
        timeout: float = 60.0,
        elsewhere: bool = False,
        replaces: int | None = None,
        caller: int | None = None,
        caller_codecs: Sequence[str] = (),
    ) -> None:
        """Send an INVITE; `Ringing`, `Answered` or `Ended` follow. Where others wait `elsewhere`, a silent
        trunk gets its patience only. `replaces` sends it to that leg's peer, to take the leg's place there
        (RFC 3891). What the callee does is done to the `caller` at once, if plain; the events say what was.
        """
        self._call(
            lambda engine: engine.dial(
                leg,
                uri=uri,
                from_uri=from_uri,
                from_display=from_display,
                next_hop=next_hop,
                trunk=trunk,
                codecs=list(codecs),
                headers=list(headers),
                timeout=timeout,
                elsewhere=elsewhere,
                replaces=replaces,
                caller=caller,
                caller_codecs=list(caller_codecs),
            )
        )

    async def ring(self, leg: int, *, codecs: Sequence[str], status: int = 180) -> str:
        """Negotiate the offer, send the provisional, return the codec ("" if the caller is yet to answer)."""
        rung = self._call(lambda engine: engine.ring(leg, codecs=list(codecs), status=status))
        return rung if isinstance(rung, str) else (await self._done(rung)).codec or ""

    async def answer(self, leg: int, on_sent: Callable[[], None] | None = None) -> None:
        """Send 200 with the SDP answer; `on_sent` hears of it before any later event of the leg is told."""
        correlation = self._call(lambda engine: engine.answer(leg))
        if correlation is not None:
            await self._done(correlation, on_sent)
        elif on_sent is not None:
            on_sent()

    def reject(
        self, leg: int, status: int, reason: str | None = None, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Refuse an incoming leg."""
        self._call(lambda engine: engine.reject(leg, status, reason, list(headers)))

    def hangup(self, leg: int, reason: str | None = None) -> None:
        """CANCEL, BYE or close, as the leg's state demands; harmless on a leg that is gone."""
        self._call(lambda engine: engine.hangup(leg, reason))

    async def accept_offer(self, leg: int, sdp: str, codecs: Sequence[str]) -> str:
        """Take a browser's offer; returns the SDP answer. `NotAcceptable` when nothing in it is usable."""
        done = await self._ask(lambda engine: engine.accept_offer(leg, sdp, list(codecs)))
        return done.sdp or ""

    async def create_offer(self, leg: int, codecs: Sequence[str]) -> str:
        """An SDP offer for a browser."""
        done = await self._ask(lambda engine: engine.create_offer(leg, list(codecs)))
        return done.sdp or ""

    async def accept_answer(self, leg: int, sdp: str) -> None:
        """Take a browser's answer to our offer."""
        await self._ask(lambda engine: engine.accept_answer(leg, sdp))

    def add_candidate(self, leg: int, candidate: str | None) -> None:
        """A trickled ICE candidate; None ends them."""
        self._call(lambda engine: engine.add_candidate(leg, candidate))

    async def bridge(self, first: int, second: int) -> None:
        """Join two legs' media."""
        correlation = self._call(lambda engine: engine.bridge(first, second))
        if correlation is not None:
            await self._done(correlation)

    async def preview(self, first: int, second: int) -> None:
        """Let two legs hear each other before their call is answered: early media."""
        await self._ask(lambda engine: engine.preview(first, second))

    def ring_back(self, leg: int, tone: str | None) -> None:
        """Play a ringback tone to a leg's peer until sound or the answer comes; None ends it."""
        self._call(lambda engine: engine.ring_back(leg, tone))

    def unlink(self, leg: int) -> None:
        """Pass nothing on any more between the leg and the one that it was dialled for, or that for it."""
        self._call(lambda engine: engine.unlink(leg))

    def catch_up(self) -> None:
        """Deliver what has happened and was in no hurry to be told."""
        # What comes while this is done wakes the loop as ever: a flood must not hold it here.
        while self._engine is not None and self._drain() == BATCH:
            pass

    def unbridge(self, leg: int) -> None:
        """Part a leg from its peer."""
        self._call(lambda engine: engine.unbridge(leg))

    def send_digits(self, leg: int, digits: str, duration: float = 0.1) -> None:
        """Send RFC 4733 digits to the leg's peer."""
        self._call(lambda engine: engine.send_digits(leg, digits, duration))

    def introduce(self, first: int, second: int) -> None:
        """Tell the peers of two legs that were bridged anew what each does: a hold before is over."""
        self._call(lambda engine: engine.introduce(first, second))

    def refer(
        self,
        leg: int,
        target: str = "",
        *,
        replaces: int | None = None,
        early_only: bool = False,
        referred_by: str | None = None,
    ) -> None:
        """Ask a leg's peer to call somebody else; `ReferAnswered` and `Referral` follow."""
        self._call(
            lambda engine: engine.refer(
                leg, target, replaces=replaces, early_only=early_only, referred_by=referred_by
            )
        )

    def accept_refer(self, leg: int, number: int) -> None:
        """Take up what a leg's peer asks for."""
        self._call(lambda engine: engine.accept_refer(leg, number))

    def refuse_refer(self, leg: int, number: int, status: int) -> None:
        """Turn it down."""
        self._call(lambda engine: engine.refuse_refer(leg, number, status))

    def notify_refer(self, leg: int, number: int, status: int, reason: str = "") -> None:
        """Tell how far it has come; from 200 on that is the last word."""
        self._call(lambda engine: engine.notify_refer(leg, number, status, reason))

    def leg_stats(self, leg: int) -> LegStats | None:
        """Media counters of a running leg."""
        return _leg_stats(self._call(lambda engine: engine.leg_stats(leg)))

    def stats(self) -> _core.EngineStats:
        """Counters of the whole engine."""
        return self._running.stats()

    def targets(self) -> list[Target]:
        """The targets that failed or are probed."""
        return [_target(report) for report in self._running.targets()]

    def set_trunks(self, document: bytes) -> None:
        """Replace the trunks: the JSON that `calls.routing` makes of them."""
        self._call(lambda engine: engine.set_trunks(document))

    def check_trunks(self, document: bytes) -> None:
        """Whether they could be set, files and all; `Invalid` says why not."""
        self._call(lambda engine: engine.check_trunks(document))

    def refusals(self) -> list[Refusal]:
        """What was refused or dropped at the door, the newest first."""
        return [
            Refusal(
                at=datetime.fromtimestamp(refusal.at, UTC),
                rule=refusal.rule,
                status=refusal.status,
                source=refusal.source[0],
                port=refusal.source[1],
                trunk=refusal.trunk or None,
                request=refusal.request,
                reason=refusal.reason,
            )
            for refusal in self._running.refusals()
        ]

    def ladder(self, legs: Sequence[int]) -> Rungs:
        """The SIP messages of these legs in their order."""
        messages, truncated = self._running.ladder(list(legs))
        return Rungs(messages=[_rung(one) for one in messages], truncated=truncated)

    def set_users(self, document: bytes) -> None:
        """Replace the users whose phones may register: the JSON that `calls.routing` makes of them."""
        self._call(lambda engine: engine.set_users(document))

    def set_dial_plan(self, document: bytes) -> None:
        """Replace the plain part of the plan, which other trunks make void: the JSON of `calls.plain`."""
        self._call(lambda engine: engine.set_dial_plan(document))

    def ask_always(self, ask: bool) -> None:
        """Ask about each call, whatever the plain part of the plan says."""
        self._call(lambda engine: engine.ask_always(ask))

    def refuse_new(self, refuse: bool) -> None:
        """New INVITEs get 503 with Retry-After (draining)."""
        self._call(lambda engine: engine.refuse_new(refuse))

    @property
    def _running(self) -> _core.Engine:
        if self._engine is None:
            raise EngineFailure("the engine is not running", reason="stopped")
        return self._engine

    def _call(self, command: Callable[[_core.Engine], T]) -> T:
        try:
            return command(self._running)
        except _core.EngineError as error:
            raise _translate(error) from None

    async def _ask(self, command: Callable[[_core.Engine], int]) -> _core.Done:
        return await self._done(self._call(command))

    async def _done(self, correlation: int, on_done: Callable[[], None] | None = None) -> _core.Done:
        loop = self._loop or asyncio.get_running_loop()
        waiting: asyncio.Future[_core.Done] = loop.create_future()
        self._waiting[correlation] = (loop.time() + COMMAND_TIMEOUT, waiting, on_done)
        if self._overdue is None:
            self._overdue = loop.call_later(COMMAND_TIMEOUT, self._give_up)
        try:
            done = await waiting
        finally:
            self._waiting.pop(correlation, None)
        if done.error is not None:
            raise _translate(done.error)
        return done

    def _give_up(self) -> None:
        """Fail what waits too long; come back for the next, if there is one."""
        loop = asyncio.get_running_loop()
        self._overdue = None
        for deadline, waiting, _ in self._waiting.values():
            if deadline > loop.time():
                self._overdue = loop.call_at(deadline, self._give_up)
                return
            if not waiting.done():
                waiting.set_exception(EngineFailure("the engine does not answer", reason="timeout"))

    def _drain(self) -> int:
        """Deliver a batch, of so many events; if more wait, the descriptor stays readable and the loop calls
        again.
        """
        batch = self._running.poll_events(BATCH)
        for event in batch:
            try:
                self._deliver(event)
            except Exception:
                log.exception("event handler failed", event_type=type(event).__name__)
        return len(batch)

    def _deliver(self, event: _core.Event) -> None:
        if (neutral := _NEUTRAL.get(type(event))) is not None:
            self._on_event(neutral(event))
        elif isinstance(event, _core.Done):
            self._answered(event)
        elif isinstance(event, _core.Registration | _core.Bindings):
            self.on_registration(_registration(event))
        elif isinstance(event, _core.TrunksDown):
            self.on_trunks_down(events.TrunksDown(trunks=event.trunks))

    def _answered(self, event: _core.Done) -> None:
        entry = self._waiting.get(event.correlation)
        if entry is not None:
            _, waiting, on_done = entry
            if not waiting.done():
                waiting.set_result(event)
                # Whoever waits runs later, after the other events of this batch.
                if on_done is not None and event.error is None:
                    on_done()
        elif event.error is not None:
            log.warning(
                "engine refused a command", leg=event.leg, code=event.error.code, error=str(event.error)
            )


def _rung(rung: _core.Rung) -> Rung:
    return Rung(
        at=datetime.fromtimestamp(rung.at, UTC),
        leg=rung.leg,
        sent=rung.sent,
        transport=rung.transport,
        local=_host_port(rung.local),
        remote=_host_port(rung.remote),
        message=rung.message,
    )


def _host_port(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _ignore(event: object) -> None:
    """Nobody listens yet."""


def _registration(event: _core.Registration | _core.Bindings) -> events.Registration | events.Bindings:
    if isinstance(event, _core.Bindings):
        return events.Bindings(user=event.user, bindings=[_binding(one) for one in event.bindings])
    return events.Registration(
        trunk=event.trunk,
        state=event.state,
        expires=event.expires,
        registrar=event.registrar,
        status=event.status,
        reason=event.reason,
        retry=event.retry,
    )


def _binding(binding: _core.Binding) -> events.Binding:
    return events.Binding(
        token=binding.token,
        uri=binding.uri,
        q=binding.q,
        expires=binding.expires,
        source=binding.source,
        transport=binding.transport,
        user_agent=binding.user_agent,
    )


def _incoming(event: _core.Incoming) -> events.Incoming:
    return events.Incoming(
        leg=event.leg,
        sip_call_id=event.sip_call_id,
        request_uri=event.request_uri,
        from_uri=event.from_uri,
        from_display=event.from_display,
        to_uri=event.to_uri,
        source=event.source,
        local=event.local,
        trunk=event.trunk,
        user=event.user,
        replaces=event.replaces,
        codecs=event.codecs,
        message=event,
        forwarded=None if (told := event.forwarded) is None else _forwarded(*told),
    )


def _forwarded(leg: int, route: str, to: str, from_: str, age: float) -> events.Forwarded:
    return events.Forwarded(leg=leg, route=route, to=to, from_=from_, age=age)


def _ringing(event: _core.Ringing) -> events.Ringing:
    return events.Ringing(
        leg=event.leg, status=event.status, codec=event.codec, passed_on=event.passed_on, age=event.age
    )


def _taken(event: _core.Answered) -> events.Answered:
    return events.Answered(
        leg=event.leg,
        codec=event.codec,
        sip_call_id=event.sip_call_id,
        rang=event.rang,
        passed_on=event.passed_on,
        age=event.age,
    )


def _digit(event: _core.Digit) -> events.Digit:
    return events.Digit(leg=event.leg, digit=event.digit, duration=event.duration)


def _refer(event: _core.Refer) -> events.Refer:
    return events.Refer(
        leg=event.leg,
        id=event.id,
        uri=event.uri,
        headers=event.headers,
        referred_by=event.referred_by,
        replaces=event.replaces,
        early_only=event.early_only,
    )


def _referral(event: _core.Referral) -> events.Referral:
    return events.Referral(leg=event.leg, status=event.status, reason=event.reason, last=event.last)


def _ended(event: _core.Ended) -> events.Ended:
    return events.Ended(
        leg=event.leg,
        by=event.by,
        cause=event.cause,
        status=event.status,
        reason=event.reason,
        reasons=event.reasons,
        contacts=event.contacts,
        stats=_leg_stats(event.stats),
        passed_on=event.passed_on,
        age=event.age,
    )


# The extension's events in the words of the call control. By type: a call has half a dozen.
_NEUTRAL: dict[type, Callable[[Any], events.Event]] = {
    _core.Incoming: _incoming,
    _core.Ringing: _ringing,
    _core.Answered: _taken,
    _core.Confirmed: lambda event: events.Confirmed(leg=event.leg),
    _core.Connected: lambda event: events.Connected(leg=event.leg),
    _core.Digit: _digit,
    _core.Held: lambda event: events.Held(leg=event.leg, held=event.held),
    _core.Refer: _refer,
    _core.ReferAnswered: lambda event: events.ReferAnswered(leg=event.leg, status=event.status),
    _core.Referral: _referral,
    _core.Ended: _ended,
}


def _target(report: _core.TargetReport) -> Target:
    host, port = report.address
    return Target(
        trunk=report.trunk,
        transport=report.transport,
        address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        state=report.state,
        last_rtt=report.last_rtt,
        failures=report.failures,
    )


def _leg_stats(stats: _core.LegStats | None) -> LegStats | None:
    if stats is None:
        return None
    return LegStats(
        codec=stats.codec,
        packets_received=stats.packets_received,
        packets_sent=stats.packets_sent,
        bytes_received=stats.bytes_received,
        bytes_sent=stats.bytes_sent,
        packets_lost=stats.packets_lost,
        jitter=stats.jitter,
        round_trip=stats.round_trip,
    )


def _translate(error: _core.EngineError) -> GatewayError:
    """The extension's error as one of ours; what no user can have caused stays an `EngineFailure`."""
    message = str(error)
    if error.setting is not None and error.code != "no_ports":
        return ConfigError(error.setting, message)
    match error.code:
        case "not_acceptable" | "bad_sdp":
            return NotAcceptable(message)
        case "wrong_state":
            return WrongState(message)
        case "invalid":
            return Invalid(message)
        case "queue_full" | "no_ports" | "exhausted":
            return Overloaded(message, retry_after=1.0)
        case code:
            return EngineFailure(message, reason=code)
