"""Limits against real peers: one Redis for two nodes, and clients that drip."""

import asyncio
import time
from typing import Any

import pytest

from telephony_gateway.api import server
from telephony_gateway.api.middleware.rate import RateLimit
from tests.unit.api.world import world


async def test_two_nodes_count_together(redis_url: str) -> None:
    limit = {"RATE_LIMIT": "6/hour", "REDIS_URL": redis_url}
    async with world(**limit) as first, world(**limit) as second:
        for left in (5, 4, 3, 2, 1, 0):
            node = first if left % 2 else second
            async with node.http.get("/api/v1/calls") as response:
                assert response.status == 200
                assert response.headers["RateLimit-Remaining"] == str(left)
        await first.json("GET", "/api/v1/calls", 429)
        await second.json("GET", "/api/v1/calls", 429)


async def test_a_frozen_redis_costs_one_short_wait(own_redis: Any) -> None:
    limit = RateLimit("1000/hour", own_redis.url)
    try:
        assert (await limit.hit("192.0.2.1"))[0]
        own_redis.freeze()
        began = time.monotonic()
        for _ in range(50):
            assert (await limit.hit("192.0.2.1"))[0]
        assert time.monotonic() - began < 1.5
    finally:
        own_redis.thaw()
        await limit.close()


@pytest.mark.parametrize("opening", [b"", b"GET /health HTTP/1.1\r\nHost: a\r\nX: "])
async def test_silent_and_dripping_clients_are_cut(monkeypatch: pytest.MonkeyPatch, opening: bytes) -> None:
    monkeypatch.setitem(server.LIMITS, "keepalive_timeout", 0.4)
    async with world() as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(opening)
        drip = asyncio.create_task(drips(writer)) if opening else None
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        if drip is not None:
            drip.cancel()
        writer.close()


async def drips(writer: asyncio.StreamWriter) -> None:
    """One byte of a header at a time, for ever."""
    while True:
        writer.write(b"y")
        await asyncio.sleep(0.05)


async def test_an_idle_connection_is_kept_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(server.LIMITS, "keepalive_timeout", 0.4)
    async with world() as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        for _ in range(2):
            writer.write(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            await reader.readuntil(b"}")
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()


def test_the_limits_are_those_of_the_design() -> None:
    assert server.LIMITS["keepalive_timeout"] == 20
    assert server.LIMITS["max_headers"] == 64
    assert server.LIMITS["max_field_size"] <= 8190
