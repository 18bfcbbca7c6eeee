"""Both caches keep one contract; Redis may go away and come back."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from telephony_gateway.cache import Cache, MemoryCache, RedisCache, open_cache
from telephony_gateway.calls.model import Call, Leg, LegStats, Session
from telephony_gateway.errors import ConfigError, StoreUnavailable

START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def new_call() -> Call:
    leg = Leg(id=uuid4(), kind="sip", side="caller", stats=LegStats(jitter=0.25))
    call = Call(
        id=uuid4(), direction="inbound", status="queued", from_="+7495", to="x", created_at=START, legs=(leg,)
    )
    return call.initiated()[0]


def new_session() -> Session:
    return Session(
        id=uuid4(),
        call_id=uuid4(),
        role="agent",
        created_at=START,
        ws_url="ws://x/ws",
        ice_servers=({"urls": ["stun:x"]},),
    )


@pytest.fixture(params=["memory", "redis"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    url = request.getfixturevalue("redis_url") if request.param == "redis" else None
    opened = await open_cache(url)
    yield opened
    await opened.close()


async def test_a_call_comes_back(cache: Cache) -> None:
    call = new_call()
    assert await cache.find_call(call.id) is None
    await cache.put_call(call)
    assert await cache.find_call(call.id) == call


async def test_a_late_older_state_does_not_overwrite(cache: Cache) -> None:
    call = new_call()
    later, _ = call.apply("ring", START)
    await cache.put_call(later)
    await cache.put_call(call)
    assert await cache.find_call(call.id) == later
    same = msgspec.structs.replace(later, legs=())
    await cache.put_call(same)
    assert await cache.find_call(call.id) == same


async def test_the_first_claim_wins(cache: Cache) -> None:
    assert await cache.claim("key", b"\x00first", HOUR) is None
    assert await cache.claim("key", b"second", HOUR) == b"\x00first"
    assert await cache.claim("other", b"third", HOUR) is None


async def test_of_many_claims_at_once_one_wins(cache: Cache) -> None:
    answers = await asyncio.gather(*(cache.claim("key", str(n).encode(), HOUR) for n in range(50)))
    assert answers.count(None) == 1
    assert len(set(answers) - {None}) == 1


async def test_a_claim_expires(cache: Cache) -> None:
    assert await cache.claim("key", b"1", timedelta(milliseconds=30)) is None
    await asyncio.sleep(0.06)
    assert await cache.claim("key", b"2", HOUR) is None


async def test_a_session_comes_back_and_expires(cache: Cache) -> None:
    session = new_session()
    await cache.put_session("hash", session, timedelta(milliseconds=300))
    assert await cache.find_session("hash") == session
    assert await cache.find_session("other") is None
    await asyncio.sleep(0.35)
    assert await cache.find_session("hash") is None


async def test_ping(cache: Cache) -> None:
    assert 0 <= await cache.ping() < 1


async def test_memory_is_bounded_and_keeps_what_is_used() -> None:
    cache = MemoryCache(calls=3)
    calls = [new_call() for _ in range(4)]
    for call in calls[:3]:
        await cache.put_call(call)
    await cache.find_call(calls[0].id)
    await cache.put_call(calls[3])
    assert len(cache) == 3
    assert [await cache.find_call(call.id) is not None for call in calls] == [True, False, True, True]


async def test_memory_forgets_calls_that_nothing_touched() -> None:
    now = 0.0
    cache = MemoryCache(clock=lambda: now)
    call = new_call()
    await cache.put_call(call)
    now = 3599.0
    assert await cache.find_call(call.id) == call
    now = 3601.0
    assert await cache.find_call(call.id) is None


async def test_nodes_share_redis_under_a_prefix(redis_url: str) -> None:
    one, two, other = RedisCache(redis_url), RedisCache(redis_url), RedisCache(redis_url, prefix="other:")
    call = new_call()
    await one.put_call(call)
    assert await two.find_call(call.id) == call
    assert await other.find_call(call.id) is None
    for cache in (one, two, other):
        await cache.close()


async def test_what_another_version_wrote_is_absent(redis_url: str) -> None:
    cache = RedisCache(redis_url)
    await cache._redis.set("telephony:session:hash", b'{"unknown": 1}')
    assert await cache.find_session("hash") is None
    await cache.close()


async def test_redis_may_go_and_come_back(own_redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telephony_gateway.cache.REDIS_PAUSE", 0.05)
    cache = RedisCache(own_redis.url)
    await cache.start()
    call, session = new_call(), new_session()
    await cache.put_call(call)
    await cache.put_session("hash", session, HOUR)
    own_redis.stop()
    assert await cache.find_call(call.id) == call
    assert await cache.find_session("hash") == session
    assert await cache.claim("key", b"1", HOUR) is None
    assert await cache.claim("key", b"2", HOUR) == b"1"
    with pytest.raises(StoreUnavailable):
        await cache.ping()
    own_redis.start()
    await asyncio.sleep(0.06)
    assert await cache.ping() < 1
    later, _ = call.apply("ring", START)
    await cache.put_call(later)
    assert await cache.find_call(call.id) == later
    await cache.close()


async def test_a_frozen_redis_delays_one_operation_only(own_redis: Any) -> None:
    cache = RedisCache(own_redis.url)
    await cache.start()
    own_redis.freeze()
    try:
        began = time.perf_counter()
        for _ in range(20):
            await cache.put_call(new_call())
        assert time.perf_counter() - began < 0.9
    finally:
        own_redis.thaw()
        await cache.close()


@pytest.mark.parametrize("url", ["redis://:secret@127.0.0.1:1/0", "unix:///nowhere/redis.sock"])
async def test_no_redis_at_the_start_is_said_plainly(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^REDIS_URL: Redis at (127\.0\.0\.1:1|/nowhere)") as raised:
        await open_cache(url)
    assert "secret" not in str(raised.value)


async def test_a_url_that_is_none_is_said_plainly() -> None:
    with pytest.raises(ConfigError, match="REDIS_URL"):
        await open_cache("redis://127.0.0.1:port/0")
