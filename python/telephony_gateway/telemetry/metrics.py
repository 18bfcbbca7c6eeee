"""Prometheus metrics: of requests and calls as they happen, of the engine and the store when they are asked
for.

Label values are words of ours (routes' patterns, statuses, reasons), never a caller's or a peer's text: the
number of series is bounded. Implements `calls.ports.Observer` and what `api` needs of telemetry.
"""

from datetime import datetime
from uuid import UUID

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from telephony_gateway import __version__
from telephony_gateway.calls.model import TERMINAL_EVENTS, Call, CallEvent, Leg
from telephony_gateway.calls.ports import Phase
from telephony_gateway.telemetry.tally import Distribution, Tally

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_DIRECTIONS = ("inbound", "outbound")
_ENDINGS = ("completed", "busy", "failed", "no-answer", "canceled")
_REFUSALS = ("no_trunk", "full", "draining", "store")
_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_CALL_BUCKETS = (1, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
_PHASE_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_JITTER_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25)


class Metrics:
    """All metrics of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._webrtc_legs: set[UUID] = set()
        self._make_request_metrics()
        self._make_call_metrics()
        self._make_media_metrics()
        info = Gauge("telephony_gateway_info", "This gateway", ["version"], registry=self.registry)
        info.labels(__version__).set(1)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def _make_request_metrics(self) -> None:
        self._requests = Counter(
            "http_requests", "HTTP requests", ["method", "route", "status"], registry=self.registry
        )
        self._request_seconds = Histogram(
            "http_request_duration_seconds",
            "Time to answer an HTTP request",
            ["method", "route"],
            buckets=_REQUEST_BUCKETS,
            registry=self.registry,
        )

    def _make_call_metrics(self) -> None:
        registry = self.registry
        # Every series from the start: a rate over a series that appears with its first event misses that
        # event.
        endings = [(direction, status) for direction in _DIRECTIONS for status in _ENDINGS]
        self._calls = Tally("calls", "Calls that ended", ["direction", "status"], registry, endings)
        self._call_seconds = Distribution(
            "call_duration_seconds",
            "Length of the conversation of calls that were answered",
            ["direction"],
            _CALL_BUCKETS,
            registry,
            [(direction,) for direction in _DIRECTIONS],
        )
        self._active = 0
        active = Gauge("active_calls", "Calls that have not ended", registry=registry)
        active.set_function(lambda: self._active)
        self._refused = Counter(
            "calls_refused", "INVITEs refused without a call", ["reason"], registry=registry
        )
        self._phase_seconds = Distribution(
            "call_phase_duration_seconds",
            "Time of the parts of a call's handling",
            ["phase"],
            _PHASE_BUCKETS,
            registry,
        )
        for reason in _REFUSALS:
            self._refused.labels(reason)

    def _make_media_metrics(self) -> None:
        registry = self.registry
        self._webrtc = Counter("webrtc_connections", "Browsers' legs whose media came up", registry=registry)
        self._webrtc_active = Gauge(
            "active_webrtc_connections", "Browsers' legs whose media is up", registry=registry
        )
        self._lost = Tally(
            "media_packets_lost", "RTP packets that did not arrive, by kind of leg", ["kind"], registry
        )
        self._jitter = Distribution(
            "media_jitter_seconds",
            "Interarrival jitter of legs that ended (RFC 3550 6.4.1)",
            ["kind"],
            _JITTER_BUCKETS,
            registry,
        )

    def observe_request(self, method: str, route: str, status: int, duration: float) -> None:
        """Count one request; `route` is the pattern, never the path; `duration` in seconds."""
        known = method if method in _METHODS else "OTHER"
        self._requests.labels(known, route, str(status)).inc()
        self._request_seconds.labels(known, route).observe(duration)

    def call_event(self, call: Call, event: CallEvent) -> None:
        """Count beginnings and ends."""
        if event.type == "call.initiated":
            self._active += 1
        elif event.type in TERMINAL_EVENTS:
            self._active -= 1
            self._calls.add((call.direction, call.status))
            if call.answered:
                self._call_seconds.observe((call.direction,), call.duration)

    def phase(self, _call: Call, phase: Phase, started: datetime, ended: datetime) -> None:
        """Measure how long calls wait; the length of the conversation is measured at its end."""
        if phase != "media":
            self._phase_seconds.observe((phase,), (ended - started).total_seconds())

    def leg_connected(self, _call: Call, leg: Leg) -> None:
        """Count a browser's media that came up."""
        if leg.kind == "webrtc" and leg.id not in self._webrtc_legs:
            self._webrtc_legs.add(leg.id)
            self._webrtc.inc()
            self._webrtc_active.inc()

    def leg_ended(self, _call: Call, leg: Leg) -> None:
        """Count down, and keep what the leg's receiver measured."""
        if leg.kind == "webrtc" and leg.id in self._webrtc_legs:
            self._webrtc_legs.discard(leg.id)
            self._webrtc_active.dec()
        if leg.stats is not None:
            self._lost.add((leg.kind,), max(0, leg.stats.packets_lost))
            if leg.stats.packets_received:
                self._jitter.observe((leg.kind,), leg.stats.jitter)

    def refused(self, reason: str) -> None:
        """Count an INVITE refused at the door."""
        self._refused.labels(reason).inc()

    def render(self) -> tuple[bytes, str]:
        """The exposition and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4
