"""One call through the whole process, seen from outside: its trace, its metrics, its log."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.integration.conftest import RedisServer
from tests.interop.gateway import Gateway, eventually, gateway
from tests.interop.peers import rtp_peer, sipp
from tests.interop.webrtc_peer import webrtc_peer
from tests.ports import free_port

METRICS = {
    "http_requests_total",
    "http_request_duration_seconds_count",
    "calls_total",
    "call_duration_seconds_count",
    "active_calls",
    "webrtc_connections_total",
    "active_webrtc_connections",
    "engine_rtp_ports_in_use",
    "engine_sip_transactions",
    "engine_event_queue_depth",
}


class Collector:
    """An OTLP/HTTP receiver that keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    async def receive(self, request: web.Request) -> web.Response:
        """POST /v1/traces."""
        export = ExportTraceServiceRequest.FromString(await request.read())
        self.spans += [s for r in export.resource_spans for scope in r.scope_spans for s in scope.spans]
        return web.Response()


@pytest.fixture
async def collector() -> AsyncIterator[tuple[Collector, str]]:
    """A running collector and its address."""
    kept, port = Collector(), free_port()
    app = web.Application()
    app.router.add_post("/v1/traces", kept.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield kept, f"http://127.0.0.1:{port}"
    await runner.cleanup()


async def one_call(running: Gateway, folder: Path) -> dict[str, Any]:
    """A call in, answered by a browser, ended by the caller."""
    async with rtp_peer(440) as phone, webrtc_peer(running) as browser:
        async with sipp(
            "uac_caller_ends", folder, remote=running.sip, audio_port=phone.port, hold=800
        ) as caller:
            call = (await browser.frame("incoming-call"))["call"]
            await browser.talk(call["id"], 440)
            await phone.talk(0.3)
            await caller.finished()
        return await running.ended(call["id"])


async def test_one_trace_a_call(tmp_path: Path, collector: tuple[Collector, str]) -> None:
    kept, address = collector
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": address,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    async with gateway(tmp_path, **settings) as running:
        await one_call(running, tmp_path)
    names = {span.name for span in kept.spans}
    assert {"call inbound", "INVITE", "decision", "database", "media start", "media end"} <= names
    assert len({span.trace_id for span in kept.spans}) == 1, "one trace"
    root = next(span for span in kept.spans if span.name == "call inbound")
    assert all(span.parent_span_id == root.span_id for span in kept.spans if span is not root)


async def test_metrics_and_masked_log(tmp_path: Path) -> None:
    async with gateway(
        tmp_path, NODE_ENV="production", HOST="127.0.0.1", API_KEYS="k" * 32, **config(tmp_path)
    ) as one:
        one.session.headers["Authorization"] = "Bearer " + "k" * 32
        async with webrtc_peer(one) as browser:
            await browser.request("authenticated", type="authenticate", api_key="k" * 32)
        async with sipp("uac_refused", tmp_path, remote=one.sip, status=480) as caller:
            await caller.finished()
        samples = await one.metrics()
    found = {name.split("{")[0] for name in samples}
    assert found >= METRICS
    assert sum(value for name, value in samples.items() if name.startswith("calls_total")) == 1
    lines = [json.loads(line) for line in (tmp_path / "gateway.log").read_text().splitlines()]
    assert any("call_id" in line for line in lines)
    assert any(line.get("event") == "ready" for line in lines)
    text = (tmp_path / "gateway.log").read_text()
    for secret in ("74951234567", "74950001122", "k" * 32):
        assert secret not in text, secret


def config(folder: Path) -> dict[str, str]:
    """A trunk for loopback: production has none of its own."""
    path = folder / "gateway.toml"
    path.write_text(
        '[[trunks]]\nname = "carrier"\naddresses = ["127.0.0.1/32"]\ncodecs = ["PCMU"]\n'
        '[[routes]]\nname = "sales"\ntarget = { browser = "sales" }\n'
    )
    return {"GATEWAY_CONFIG": str(path)}


async def test_production_takes_no_call_that_no_trunk_names(tmp_path: Path) -> None:
    production = {"NODE_ENV": "production", "HOST": "127.0.0.1", "API_KEYS": "k" * 32}
    async with gateway(tmp_path, SIP_UNKNOWN_SOURCES="refuse", **production) as running:
        async with sipp("uac_refused", tmp_path, remote=running.sip, status=403) as caller:
            await caller.finished()
        async with running.session.get(running.url + "/api/v1/calls") as response:
            assert response.status == 401


async def test_the_cache_may_be_redis(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    redis.start()
    try:
        async with gateway(tmp_path, REDIS_URL=redis.url) as running:
            call = await one_call(running, tmp_path)
            assert call["status"] == "completed"
            health = await running.get("/health/detailed")
            assert health["components"]["cache"]["status"] == "up"
            redis.stop()

            async def noticed() -> bool:
                async with running.session.get(running.url + "/health/ready") as response:
                    return response.status == 503

            await eventually(noticed, "readiness without its cache")
            await asyncio.sleep(0)
    finally:
        redis.stop()
