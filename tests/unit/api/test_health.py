"""Health, readiness and metrics."""

import asyncio
from typing import Any

import pytest

from telephony_gateway import __version__
from telephony_gateway.api import context
from telephony_gateway.api.context import ComponentHealth, Health
from telephony_gateway.errors import StoreUnavailable
from tests.unit.api.world import World


async def test_all_is_well(gateway: World) -> None:
    for path in ("/health", "/health/ready", "/health/live"):
        body = await gateway.json("GET", path, 200)
        assert (body["status"], body["version"]) == ("healthy", __version__)
        assert body["uptime"] >= 0


async def test_details_tell_each_component(gateway: World) -> None:
    async with gateway.socket():
        body = await gateway.json("GET", "/health/detailed", 200)
    assert (body["status"], body["active_calls"], body["websockets"]) == ("healthy", 0, 1)
    assert set(body["components"]) == {"engine", "database", "cache"}
    assert body["components"]["engine"] == {
        "status": "up",
        "latency_ms": 1.5,
        "detail": None,
        "version": "1",
    }


@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        (StoreUnavailable("the database does not answer"), "the database does not answer"),
        (OSError("postgresql://user:secret@db"), "OSError"),
    ],
)
async def test_a_component_that_fails_is_down(gateway: World, fault: BaseException, detail: str) -> None:
    async def broken() -> ComponentHealth:
        raise fault

    gateway.health.components = {**gateway.health.components, "database": broken}
    assert (await gateway.json("GET", "/health", 503))["status"] == "unhealthy"
    assert (await gateway.json("GET", "/health/ready", 503))["status"] == "unhealthy"
    assert (await gateway.json("GET", "/health/live", 200))["status"] == "healthy"
    part = (await gateway.json("GET", "/health/detailed", 503))["components"]["database"]
    assert (part["status"], part["detail"]) == ("down", detail)


async def test_a_component_that_hangs_is_down(gateway: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "CHECK_TIMEOUT", 0.05)

    async def stuck() -> ComponentHealth:
        await asyncio.sleep(60)
        raise AssertionError

    gateway.health.components = {"cache": stuck}
    part = (await gateway.json("GET", "/health/detailed", 503))["components"]["cache"]
    assert part["status"] == "down"
    assert part["latency_ms"] >= 50


@pytest.mark.parametrize(
    ("flags", "status"),
    [({"draining": True}, "draining"), ({"ready": False}, "starting")],
)
async def test_readiness_turns_at_once(gateway: World, flags: dict[str, Any], status: str) -> None:
    for name, value in flags.items():
        setattr(gateway.health, name, value)
    assert (await gateway.json("GET", "/health/ready", 503))["status"] == status
    assert (await gateway.json("GET", "/health/live", 200))["status"] == status


async def test_many_probes_are_one_question() -> None:
    asked = 0

    async def counted() -> ComponentHealth:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        return ComponentHealth(status="up")

    health = Health(components={"database": counted}, ready=True)
    await asyncio.gather(*(health.report() for _ in range(20)))
    assert asked == 1


async def test_metrics_are_what_telemetry_renders(gateway: World) -> None:
    async with gateway.http.get("/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert (await response.text()).startswith("# HELP active_calls")
