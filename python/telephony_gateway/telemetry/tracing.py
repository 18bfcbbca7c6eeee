"""One trace per call: INVITE, decision, database, media start, media, media end, and the call around them.

The spans are made by hand from what the manager tells its observers, with its times; no instrumentation runs
on the way of a call. The ids come from the call's id, so a span needs no memory of the call, and one that
comes late (the last write to the database) still finds its trace. Without an endpoint nothing is loaded.
"""

import asyncio
import hashlib
import os
import random
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

from telephony_gateway.calls.model import TERMINAL_EVENTS, Call, CallEvent, Leg
from telephony_gateway.calls.ports import Phase
from telephony_gateway.errors import ConfigError
from telephony_gateway.telemetry.masking import mask_text

Attributes = Mapping[str, str | int | float | bool]

_PHASE_NAMES: Mapping[Phase, str] = {
    "invite": "INVITE",
    "decision": "decision",
    "database": "database",
    "media": "media",
}
_FAILED = frozenset({"failed"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One span, done; times are nanoseconds of Unix time."""

    name: str
    trace_id: int
    span_id: int
    parent_id: int | None
    start: int
    end: int
    attributes: Attributes = field(default_factory=dict)
    kind: str = "INTERNAL"
    error: str | None = None


class SpanSink(Protocol):
    """Where spans go. `emit` queues and never blocks."""

    def sampled(self, trace_id: int) -> bool:
        """Whether this trace is to be kept."""
        ...

    def emit(self, span: Span) -> None:
        """Send a span, some time."""
        ...

    def shutdown(self) -> None:
        """Send what is queued; may block, is called from a thread."""
        ...


def trace_ids(call_id: UUID) -> tuple[int, int]:
    """The trace id of a call and the id of its root span.

    A digest, since samplers want random bits where an id of ours has its owner.
    """
    digest = hashlib.blake2b(call_id.bytes, digest_size=24).digest()
    return int.from_bytes(digest[:16]), int.from_bytes(digest[16:])


class Tracer:
    """Turns what the manager and the store tell into spans. Implements `calls.ports.Observer`."""

    def __init__(self, sink: SpanSink, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._sink = sink
        self._now = now

    def call_event(self, call: Call, event: CallEvent) -> None:
        """The call's own span is complete when it ends."""
        if event.type not in TERMINAL_EVENTS:
            return
        trace_id, root = trace_ids(call.id)
        if not self._sink.sampled(trace_id):
            return
        self._sink.emit(
            Span(
                name=f"call {call.direction}",
                trace_id=trace_id,
                span_id=root,
                parent_id=None,
                start=_nanoseconds(call.created_at),
                end=_nanoseconds(event.at),
                attributes=_call_attributes(call),
                kind="SERVER" if call.direction == "inbound" else "CLIENT",
                error=(call.reason or call.hangup_cause or "failed") if call.status in _FAILED else None,
            )
        )
        self._child(call, "end", event.at, event.at, {"call.status": call.status})

    def phase(self, call: Call, phase: Phase, started: datetime, ended: datetime) -> None:
        """A part of the call's handling."""
        self._child(call, _PHASE_NAMES[phase], started, ended, {})

    def leg_connected(self, call: Call, leg: Leg) -> None:
        """The moment a leg's media flows."""
        now = self._now()
        self._child(call, "media start", now, now, _leg_attributes(leg))

    def leg_ended(self, call: Call, leg: Leg) -> None:
        """The moment a leg is gone, with what was counted."""
        now = self._now()
        self._child(call, "media end", now, now, _leg_attributes(leg))

    def refused(self, reason: str) -> None:
        """Refused without a call: nothing to trace."""

    def written(self, calls: Iterable[Call], started: datetime, ended: datetime) -> None:
        """A transaction of the store made these calls' newest states durable."""
        for call in calls:
            self._child(call, "database", started, ended, {"db.system.name": "postgresql"})

    async def close(self, within: float = 2.0) -> None:
        """Send what is queued, in `within` seconds at most: a collector that hangs does not hold up the
        exit.
        """
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def shut_down() -> None:
            try:
                self._sink.shutdown()
            finally:
                # The loop may be gone when a thread that hung wakes up.
                if not loop.is_closed():
                    loop.call_soon_threadsafe(done.set)

        threading.Thread(target=shut_down, name="traces-shutdown", daemon=True).start()
        try:
            await asyncio.wait_for(done.wait(), within)
        except TimeoutError:
            return

    def _child(
        self, call: Call, name: str, started: datetime, ended: datetime, attributes: Attributes
    ) -> None:
        trace_id, root = trace_ids(call.id)
        if self._sink.sampled(trace_id):
            self._sink.emit(
                Span(
                    name=name,
                    trace_id=trace_id,
                    span_id=random.getrandbits(64) or 1,
                    parent_id=root,
                    start=_nanoseconds(started),
                    end=_nanoseconds(ended),
                    attributes={"call.id": str(call.id), **attributes},
                )
            )


def open_tracer(endpoint: str | None, environment: Mapping[str, str] = os.environ) -> Tracer | None:
    """A tracer for OTEL_EXPORTER_OTLP_ENDPOINT, or None without one; the exporter is loaded only here."""
    if endpoint is None:
        return None
    try:
        from telephony_gateway.telemetry.otlp import OtlpSink
    except ImportError as error:
        raise ConfigError(
            "OTEL_EXPORTER_OTLP_ENDPOINT", "is set but the exporter is missing; install the extra [otel]"
        ) from error
    return Tracer(OtlpSink(endpoint, environment))


def _call_attributes(call: Call) -> Attributes:
    found = {
        "call.id": str(call.id),
        "call.direction": call.direction,
        "call.status": call.status,
        "call.from": mask_text(call.from_),
        "call.to": mask_text(call.to),
        "call.trunk": call.trunk,
        "call.route": call.route,
        "call.duration": call.duration,
        "call.hangup_cause": call.hangup_cause,
        "call.hangup_source": call.hangup_source,
        "sip.call_id": call.sip_call_id,
        "sip.response_code": call.sip_response_code,
    }
    return {name: value for name, value in found.items() if value is not None}


def _leg_attributes(leg: Leg) -> Attributes:
    found: dict[str, str | int | float | None] = {
        "leg.id": str(leg.id),
        "leg.kind": leg.kind,
        "leg.side": leg.side,
        "leg.codec": leg.codec,
    }
    if leg.stats is not None:
        found |= {
            "rtp.packets_received": leg.stats.packets_received,
            "rtp.packets_sent": leg.stats.packets_sent,
            "rtp.packets_lost": leg.stats.packets_lost,
            "rtp.jitter": leg.stats.jitter,
            "rtp.round_trip": leg.stats.round_trip,
        }
    return {name: value for name, value in found.items() if value is not None}


def _nanoseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000
