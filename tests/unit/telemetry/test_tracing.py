"""One trace per call, from what the observers are told; nothing is kept, nothing is loaded without an
endpoint.
"""

import asyncio
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from telephony_gateway.calls.model import Call, Ending, Leg, LegStats
from telephony_gateway.errors import ConfigError
from telephony_gateway.telemetry import Tracer, open_tracer
from telephony_gateway.telemetry.tracing import Span, trace_ids

START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
SECOND = 1_000_000_000
START_NS = int(START.timestamp()) * SECOND


class Spans:
    """A sink that keeps."""

    def __init__(self, *, keep: bool = True) -> None:
        self.spans: list[Span] = []
        self.keep = keep
        self.released = threading.Event()

    def sampled(self, trace_id: int) -> bool:
        return self.keep

    def emit(self, span: Span) -> None:
        self.spans.append(span)

    def shutdown(self) -> None:
        self.released.wait(5)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def new_call() -> Call:
    return Call(
        id=uuid4(),
        direction="inbound",
        status="queued",
        from_="+74951234567",
        to="+78001112233",
        trunk="carrier-a",
        created_at=START,
    )


def live(tracer: Tracer, ending: Ending) -> Call:
    """A whole call, told as the manager tells it."""
    call, events = new_call().initiated()
    told = list(events)
    tracer.phase(call, "decision", START, after(0.02))
    call, events = call.apply("ring", after(0.1))
    told += events
    call, events = call.apply("answer", after(2))
    told += events
    tracer.phase(call, "invite", START, after(2))
    leg = Leg(id=uuid4(), kind="sip", side="caller", codec="PCMU", stats=LegStats(packets_lost=3))
    tracer.leg_connected(call, leg)
    call, events = call.end(ending, after(10))
    told += events
    for event in told:
        tracer.call_event(call, event)
    tracer.phase(call, "media", after(2), after(10))
    tracer.leg_ended(call, leg)
    tracer.written([call], after(10), after(10.003))
    return call


COMPLETED = Ending(status="completed", cause="normal_clearing", source="caller", sip_response_code=200)


def test_a_call_is_one_trace() -> None:
    sink = Spans()
    call = live(Tracer(sink, now=lambda: after(2.5)), COMPLETED)
    trace_id, root = trace_ids(call.id)
    names = [span.name for span in sink.spans]
    assert sorted(names) == sorted(
        ["call inbound", "INVITE", "decision", "database", "media start", "media", "media end", "end"]
    )
    assert {span.trace_id for span in sink.spans} == {trace_id}
    assert len({span.span_id for span in sink.spans}) == len(sink.spans)
    by_name = {span.name: span for span in sink.spans}
    whole = by_name.pop("call inbound")
    assert (whole.span_id, whole.parent_id, whole.kind, whole.error) == (root, None, "SERVER", None)
    assert (whole.start, whole.end) == (START_NS, START_NS + 10 * SECOND)
    assert {span.parent_id for span in by_name.values()} == {root}
    assert by_name["media"].end - by_name["media"].start == 8 * SECOND
    assert by_name["media end"].attributes["rtp.packets_lost"] == 3
    assert by_name["database"].end - by_name["database"].start == 3_000_000


def test_attributes_are_masked() -> None:
    sink = Spans()
    live(Tracer(sink), COMPLETED)
    whole = next(span for span in sink.spans if span.parent_id is None)
    assert whole.attributes["call.from"] == "+7********67"
    assert "4951234567" not in str(sink.spans)


def test_a_failed_call_is_an_error() -> None:
    sink = Spans()
    live(Tracer(sink), Ending(status="failed", cause="unspecified", source="system", reason="no media"))
    assert [span.error for span in sink.spans if span.parent_id is None] == ["no media"]


def test_what_is_not_sampled_is_not_sent() -> None:
    sink = Spans(keep=False)
    live(Tracer(sink), COMPLETED)
    assert sink.spans == []


def test_ids_are_steady_and_differ() -> None:
    one, other = uuid4(), uuid4()
    assert trace_ids(one) == trace_ids(one)
    assert trace_ids(one)[0] != trace_ids(other)[0]
    assert 0 < trace_ids(one)[0] < 1 << 128
    assert 0 < trace_ids(one)[1] < 1 << 64


async def test_closing_does_not_wait_for_a_collector_that_hangs() -> None:
    sink = Spans()
    began = time.monotonic()
    await Tracer(sink).close(within=0.05)
    assert time.monotonic() - began < 1
    sink.released.set()
    await asyncio.sleep(0.05)


async def test_closing_waits_for_the_last_spans() -> None:
    sink = Spans()
    sink.released.set()
    await Tracer(sink).close()


def test_without_an_endpoint_there_is_no_tracer() -> None:
    assert open_tracer(None) is None


def test_an_unknown_protocol_is_said_plainly() -> None:
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_PROTOCOL"):
        open_tracer("http://127.0.0.1:4317", {"OTEL_EXPORTER_OTLP_PROTOCOL": "carrier-pigeon"})


def test_nothing_is_loaded_without_an_endpoint() -> None:
    code = (
        "import sys, telephony_gateway.telemetry as t; t.open_tracer(None);"
        "sys.exit(any(name.partition('.')[0] in ('opentelemetry', 'grpc') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
