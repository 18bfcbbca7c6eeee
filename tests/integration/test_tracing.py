"""Spans arrive at a collector over both protocols; a collector that is not there disturbs nothing."""

import asyncio
import logging
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from uuid import uuid4

import grpc
import pytest
import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from telephony_gateway.calls.model import Call, Ending
from telephony_gateway.store import PostgresStore
from telephony_gateway.telemetry import Tracer, open_tracer
from telephony_gateway.telemetry.tracing import trace_ids

START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
BUSY = Ending(status="busy", cause="user_busy", source="callee", sip_response_code=486)


class Collector(TraceServiceServicer):  # type: ignore[misc]
    """Keeps what it is sent, whichever way it came."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.paths: list[str] = []
        self.fail = False

    def Export(self, request: ExportTraceServiceRequest, _context: Any) -> ExportTraceServiceResponse:
        self.requests.append(request)
        return ExportTraceServiceResponse()

    @property
    def resources(self) -> list[dict[str, str]]:
        return [
            {pair.key: pair.value.string_value for pair in group.resource.attributes}
            for request in self.requests
            for group in request.resource_spans
        ]

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]


@contextmanager
def grpc_collector() -> Iterator[tuple[Collector, str]]:
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield collector, f"http://127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


@contextmanager
def http_collector() -> Iterator[tuple[Collector, str]]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.paths.append(self.path)
            if not collector.fail:
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(400 if collector.fail else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield collector, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def live(tracer: Tracer) -> Call:
    call = Call(id=uuid4(), direction="outbound", status="queued", from_="a", to="b", created_at=START)
    call, first = call.initiated()
    tracer.phase(call, "decision", START, START + timedelta(milliseconds=3))
    call, last = call.end(BUSY, START + timedelta(seconds=2))
    for event in (*first, *last):
        tracer.call_event(call, event)
    return call


def check(collector: Collector, call: Call) -> None:
    trace_id, root = trace_ids(call.id)
    spans = {span.name: span for span in collector.spans}
    assert set(spans) == {"call outbound", "decision", "end"}
    assert {int.from_bytes(span.trace_id) for span in spans.values()} == {trace_id}
    assert int.from_bytes(spans["call outbound"].span_id) == root
    assert spans["call outbound"].parent_span_id == b""
    assert (
        spans["call outbound"].end_time_unix_nano - spans["call outbound"].start_time_unix_nano == 2 * 10**9
    )
    assert int.from_bytes(spans["decision"].parent_span_id) == root
    assert collector.resources[0]["service.name"] == "telephony-gateway"


async def test_grpc_is_the_default() -> None:
    with grpc_collector() as (collector, endpoint):
        tracer = open_tracer(endpoint, {})
        assert tracer is not None
        call = live(tracer)
        await tracer.close(5)
        check(collector, call)


async def test_http_by_the_protocol_variable() -> None:
    with http_collector() as (collector, endpoint):
        tracer = open_tracer(endpoint, {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"})
        assert tracer is not None
        call = live(tracer)
        await tracer.close(5)
        check(collector, call)
        assert collector.paths == ["/v1/traces"]


async def test_a_name_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"OTEL_SERVICE_NAME": "office", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    monkeypatch.setenv("OTEL_SERVICE_NAME", "office")
    with http_collector() as (collector, endpoint):
        tracer = open_tracer(endpoint, environment)
        assert tracer is not None
        live(tracer)
        await tracer.close(5)
        assert collector.resources[0]["service.name"] == "office"


async def test_sampling_keeps_whole_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    with grpc_collector() as (collector, endpoint):
        tracer = open_tracer(endpoint, {})
        assert tracer is not None
        for _ in range(60):
            live(tracer)
        await tracer.close(5)
        counts: dict[bytes, int] = {}
        for span in collector.spans:
            counts[span.trace_id] = counts.get(span.trace_id, 0) + 1
        assert 10 < len(counts) < 50
        assert set(counts.values()) == {3}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_a_collector_that_is_not_there_is_said_once(
    protocol: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    with structlog.testing.capture_logs() as said:
        tracer = open_tracer("http://127.0.0.1:1", {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol})
        assert tracer is not None
        began = time.monotonic()
        for _ in range(500):
            live(tracer)
        assert time.monotonic() - began < 1
        for _ in range(4):
            live(tracer)
            await asyncio.sleep(0.2)
        began = time.monotonic()
        await tracer.close(1.0)
        assert time.monotonic() - began < 1.5
        await asyncio.sleep(1.2)
    assert [line["event"] for line in said] == ["traces not exported"]
    assert caplog.records == []


async def test_a_collector_that_comes_back_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    with http_collector() as (collector, endpoint), structlog.testing.capture_logs() as said:
        collector.fail = True
        tracer = open_tracer(endpoint, {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"})
        assert tracer is not None
        for _ in range(3):
            live(tracer)
            await asyncio.sleep(0.1)
        collector.fail = False
        live(tracer)
        await tracer.close(5)
    assert [line["event"] for line in said] == ["traces not exported", "traces exported again"]


async def test_the_stores_transactions_are_in_the_trace(postgres_url: str) -> None:
    with grpc_collector() as (collector, endpoint):
        tracer = open_tracer(endpoint, {})
        assert tracer is not None
        store = PostgresStore(postgres_url, on_written=tracer.written)
        await store.start()
        call, events = Call(
            id=uuid4(), direction="inbound", status="queued", from_="a", to="b", created_at=START
        ).initiated()
        store.record(call, events)
        await store.close()
        await tracer.close(5)
        (span,) = collector.spans
        assert (span.name, int.from_bytes(span.trace_id)) == ("database", trace_ids(call.id)[0])
        assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 10**9
