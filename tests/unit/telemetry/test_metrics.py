"""The metrics' names are a promise, their values are counts, their labels are bounded."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import uuid4

import msgspec
import pytest

from telephony_gateway.calls.model import Call, Ending, Leg, LegStats
from telephony_gateway.telemetry import Metrics, register_engine, register_writer

START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
PROMISED = [
    "http_requests_total",
    "http_request_duration_seconds",
    "calls_total",
    "call_duration_seconds",
    "active_calls",
    "webrtc_connections_total",
    "active_webrtc_connections",
]


def new_call(direction: str = "inbound") -> Call:
    return Call(id=uuid4(), direction=direction, status="queued", from_="a", to="b", created_at=START)


def tell(metrics: Metrics, call: Call, *triggers: str) -> Call:
    call, events = call.initiated()
    metrics.call_event(call, events[0])
    for second, trigger in enumerate(triggers, 1):
        at = START + timedelta(seconds=second)
        if trigger == "complete":
            call, events = call.end(Ending(status="completed", cause="normal_clearing", source="caller"), at)
        elif trigger == "busy":
            call, events = call.end(Ending(status="busy", cause="user_busy", source="callee"), at)
        else:
            call, events = call.apply(trigger, at)
        for event in events:
            metrics.call_event(call, event)
    return call


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


@pytest.mark.parametrize("name", PROMISED)
def test_the_promised_names_are_there_from_the_start(name: str) -> None:
    metrics = Metrics()
    metrics.observe_request("GET", "/health", 200, 0.001)
    body, content_type = metrics.render()
    assert content_type.startswith("text/plain; version=0.0.4")
    lines = body.decode().splitlines()
    assert any(line.startswith(f"# TYPE {name}") for line in lines)
    assert any(line.startswith((f"{name} ", f"{name}{{", f"{name}_bucket{{")) for line in lines)


def test_calls_are_counted_once() -> None:
    metrics = Metrics()
    tell(metrics, new_call(), "ring", "answer", "digit", "complete")
    tell(metrics, new_call(), "ring", "busy")
    tell(metrics, new_call("outbound"), "ring")
    assert value(metrics, "calls_total", direction="inbound", status="completed") == 1
    assert value(metrics, "calls_total", direction="inbound", status="busy") == 1
    assert value(metrics, "active_calls") == 1
    assert value(metrics, "call_duration_seconds_count", direction="inbound") == 1
    assert value(metrics, "call_duration_seconds_sum", direction="inbound") == 2


def test_browsers_media_is_counted_once_per_leg() -> None:
    metrics = Metrics()
    call = new_call()
    sip = Leg(id=uuid4(), kind="sip", side="caller")
    browser = Leg(
        id=uuid4(),
        kind="webrtc",
        side="callee",
        stats=LegStats(packets_lost=3, packets_received=9, jitter=0.004),
    )
    never = Leg(id=uuid4(), kind="webrtc", side="callee")
    for leg in (sip, browser, browser):
        metrics.leg_connected(call, leg)
    assert value(metrics, "active_webrtc_connections") == 1
    for leg in (sip, browser, never, browser):
        metrics.leg_ended(call, leg)
    assert value(metrics, "active_webrtc_connections") == 0
    assert value(metrics, "webrtc_connections_total") == 1
    assert value(metrics, "media_jitter_seconds_bucket", kind="webrtc", le="0.005") == 2


def test_labels_are_bounded() -> None:
    metrics = Metrics()
    for method in ("GET", "BREW", "X" * 100):
        metrics.observe_request(method, "/api/v1/calls/{call_id}", 404, 0.01)
    route = "/api/v1/calls/{call_id}"
    assert value(metrics, "http_requests_total", method="GET", route=route, status="404") == 1
    assert value(metrics, "http_requests_total", method="OTHER", route=route, status="404") == 2


def test_phases_and_refusals() -> None:
    metrics = Metrics()
    for phase in ("invite", "decision", "media"):
        metrics.phase(new_call(), phase, START, START + timedelta(milliseconds=20))
    metrics.refused("no_trunk")
    assert value(metrics, "call_phase_duration_seconds_sum", phase="decision") == pytest.approx(0.02)
    assert value(metrics, "call_phase_duration_seconds_count", phase="media") is None
    assert value(metrics, "calls_refused_total", reason="no_trunk") == 1


ENGINE = SimpleNamespace(
    sip_messages_received=10,
    sip_messages_sent=11,
    sip_retransmissions=1,
    sip_transactions=2,
    sip_dialogs=3,
    sip_connections=2,
    sip_connections_opened=5,
    forwarded=6,
    rtp_packets_received=500,
    rtp_packets_sent=501,
    legs=4,
    ports_free=90,
    ports_in_use=10,
    event_queue_depth=5,
    event_queue_capacity=8192,
    refused_overload=6,
    refused={"unknown_source": 3},
    drops={"sip.parse": 7, "rtp.unknown_source": 8},
)


def test_the_engine_is_read_at_the_scrape() -> None:
    metrics = Metrics()
    asked: list[int] = []
    register_engine(metrics.registry, lambda: asked.append(1) or ENGINE)  # type: ignore[func-returns-value]
    assert asked == []
    assert value(metrics, "engine_drops_total", plane="rtp", reason="unknown_source") == 8
    assert value(metrics, "engine_rtp_packets_total", direction="sent") == 501
    assert value(metrics, "engine_rtp_ports_free") == 90
    assert value(metrics, "engine_event_queue_depth") == 5
    assert value(metrics, "engine_sip_transactions") == 2


def test_a_part_that_cannot_be_read_hides_no_other() -> None:
    metrics = Metrics()

    def stopped() -> SimpleNamespace:
        raise RuntimeError("stopped")

    register_engine(metrics.registry, stopped)
    assert value(metrics, "active_calls") == 0
    assert b"engine_" not in metrics.render()[0]


def test_the_stores_queue_is_read_at_the_scrape() -> None:
    metrics = Metrics()
    stats = SimpleNamespace(
        written=9, batches=3, retries=2, refused=1, batch_seconds=0.5, last_batch_seconds=0.1
    )
    register_writer(metrics.registry, SimpleNamespace(stats=stats, depth=7, away=True))
    assert value(metrics, "store_queue_depth") == 7
    assert value(metrics, "store_away") == 1
    assert value(metrics, "store_batch_seconds_sum") == 0.5
    assert value(metrics, "store_batch_seconds_count") == 3
    assert value(metrics, "store_refused_records_total") == 1


def test_an_unanswered_call_has_no_duration() -> None:
    metrics = Metrics()
    call = tell(metrics, new_call(), "ring", "busy")
    assert msgspec.structs.asdict(call)["answered_at"] is None
    assert value(metrics, "call_duration_seconds_count", direction="inbound") == 0
