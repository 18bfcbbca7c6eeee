"""Call state and short-lived claims that other processes may share: in this process, or in Redis.

Both implement `calls.ports.Cache` and pass the same tests. The cache is no record: what is lost here is
found in the store.
"""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
import structlog

from telephony_gateway.calls.model import Call, Session
from telephony_gateway.errors import ConfigError, StoreUnavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger(__name__)

T = TypeVar("T")
K = TypeVar("K", str, int)

CALL_TTL = timedelta(hours=1)
"""Renewed by every step of a call; what no step touched for that long is in the store."""
REDIS_TIMEOUT = 0.5
"""A cache that takes longer than this is no help to a call."""
REDIS_PAUSE = 1.0
"""After a failure Redis is left alone this long: calls shall not wait for a timeout each."""
REDIS_CONNECTIONS = 32

_encoder = msgspec.json.Encoder()
_calls = msgspec.json.Decoder(Call)
_sessions = msgspec.json.Decoder(Session)


class MemoryCache:
    """The cache of one process: bounded, the least recently used goes first, everything expires."""

    shared = False

    def __init__(
        self, capacity: int = 65_536, calls: int = 2_048, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        # Calls, by the integer of their id, crowd no claim or ticket out; an earlier one is in the store.
        self._calls: _Table[int] = _Table(calls)
        self._entries: _Table[str] = _Table(capacity)

    def __len__(self) -> int:
        return len(self._calls) + len(self._entries)

    async def put_call(self, call: Call) -> None:
        """Keep the state of a call, unless a newer one is there."""
        now = self._clock()
        known = self._calls.find(call.id.int, now)
        if known is None or known.sequence <= call.sequence:
            self._calls.put(call.id.int, call, now + CALL_TTL.total_seconds())

    async def find_call(self, call_id: UUID) -> Call | None:
        """The kept state of a call."""
        found: Call | None = self._calls.find(call_id.int, self._clock())
        return found

    async def claim(self, key: str, value: bytes, ttl: timedelta) -> bytes | None:
        """Set `key` unless it is set; returns the earlier value, or None when the claim is ours."""
        earlier: bytes | None = self._find(f"claim:{key}")
        if earlier is None:
            self._put(f"claim:{key}", value, ttl)
        return earlier

    async def put_session(self, token_hash: str, session: Session, ttl: timedelta) -> None:
        """Keep a ticket under the hash of its token."""
        self._put(f"session:{token_hash}", session, ttl)

    async def find_session(self, token_hash: str) -> Session | None:
        """The ticket of a token."""
        found: Session | None = self._find(f"session:{token_hash}")
        return found

    async def ping(self) -> float:
        """Latency in seconds: none."""
        return 0.0

    async def close(self) -> None:
        """Forget everything."""
        self._calls.clear()
        self._entries.clear()

    def _put(self, key: str, value: object, ttl: timedelta) -> None:
        self._entries.put(key, value, self._clock() + ttl.total_seconds())

    def _find(self, key: str) -> Any:
        return self._entries.find(key, self._clock())


class _Table(OrderedDict[K, tuple[float, Any]]):
    """Values until they expire; beyond the bound the least recently used goes."""

    def __init__(self, bound: int) -> None:
        super().__init__()
        self._bound = bound

    def put(self, key: K, value: object, expires: float) -> None:
        self[key] = (expires, value)
        self.move_to_end(key)
        if len(self) > self._bound:
            self.popitem(last=False)

    def find(self, key: K, now: float) -> Any:
        expires, value = self.get(key, (0.0, None))
        if value is None:
            return None
        if expires <= now:
            del self[key]
            return None
        self.move_to_end(key)
        return value


# A step that arrives late must not overwrite a later one; one round trip, no race between nodes.
_PUT_NEWER = """
local known = redis.call('HGET', KEYS[1], 's')
if known and tonumber(known) > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 's', ARGV[1], 'v', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""


class RedisCache:
    """The cache that the nodes of a fleet share.

    While Redis does not answer, this node goes on with what it put there itself: calls are not refused for
    want of a cache. It comes back by itself.
    """

    shared = True

    def __init__(self, url: str, *, prefix: str = "telephony:", fallback: MemoryCache | None = None) -> None:
        self._prefix = prefix
        self._fallback = fallback or MemoryCache()
        self._retry_at = 0.0
        self._away = False
        self._failures, self._redis = _open_redis(url)
        self._put_newer = self._redis.register_script(_PUT_NEWER)

    async def start(self) -> None:
        """Reach Redis once; `ConfigError` names REDIS_URL and the host."""
        try:
            await self.ping()
        except StoreUnavailable as error:
            await self.close()
            raise ConfigError("REDIS_URL", error.message) from error

    async def put_call(self, call: Call) -> None:
        """Keep the state of a call, unless a newer one is there."""
        await self._fallback.put_call(call)
        arguments: list[bytes | int] = [call.sequence, _encoder.encode(call), _milliseconds(CALL_TTL)]
        await self._try(lambda: self._put_newer(keys=[self._key("call", call.id)], args=arguments))

    async def find_call(self, call_id: UUID) -> Call | None:
        """The kept state of a call."""
        answered, value = await self._try(lambda: self._redis.hget(self._key("call", call_id), "v"))
        if not answered:
            return await self._fallback.find_call(call_id)
        return _decode(_calls, value)

    async def claim(self, key: str, value: bytes, ttl: timedelta) -> bytes | None:
        """Set `key` unless it is set; returns the earlier value, or None when the claim is ours."""
        name = self._key("claim", key)
        answered, earlier = await self._try(
            lambda: self._redis.set(name, value, px=_milliseconds(ttl), nx=True, get=True)
        )
        ours = await self._fallback.claim(key, value, ttl)
        return earlier if answered else ours

    async def put_session(self, token_hash: str, session: Session, ttl: timedelta) -> None:
        """Keep a ticket under the hash of its token."""
        await self._fallback.put_session(token_hash, session, ttl)
        name = self._key("session", token_hash)
        await self._try(lambda: self._redis.set(name, _encoder.encode(session), px=_milliseconds(ttl)))

    async def find_session(self, token_hash: str) -> Session | None:
        """The ticket of a token."""
        answered, value = await self._try(lambda: self._redis.get(self._key("session", token_hash)))
        found = _decode(_sessions, value) if answered else None
        return found or await self._fallback.find_session(token_hash)

    async def ping(self) -> float:
        """Latency in seconds; `StoreUnavailable` when Redis does not answer."""
        began = time.perf_counter()
        self._retry_at = 0.0
        answered, _ = await self._try(self._redis.ping)
        if not answered:
            raise StoreUnavailable(f"Redis at {self._place} does not answer")
        return time.perf_counter() - began

    async def close(self) -> None:
        """Let go of connections."""
        await self._redis.aclose()

    @property
    def _place(self) -> str:
        options = self._redis.connection_pool.connection_kwargs
        return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")

    def _key(self, kind: str, name: object) -> str:
        return f"{self._prefix}{kind}:{name}"

    async def _try(self, ask: Callable[[], Awaitable[Any]]) -> tuple[bool, Any]:
        """Whether Redis answered, and what."""
        if time.monotonic() < self._retry_at:
            return False, None
        try:
            answer = await ask()
        except self._failures as error:
            self._gone(error)
            return False, None
        if self._away:
            self._away = False
            log.info("redis back", at=self._place)
        return True, answer

    def _gone(self, error: Exception) -> None:
        self._retry_at = time.monotonic() + REDIS_PAUSE
        if not self._away:
            self._away = True
            log.error(
                "redis away, going on without it", at=self._place, error=f"{type(error).__name__}: {error}"
            )


Cache = MemoryCache | RedisCache


async def open_cache(url: str | None) -> Cache:
    """The cache of REDIS_URL: Redis, or this process when it is unset."""
    if url is None:
        return MemoryCache()
    cache = RedisCache(url)
    await cache.start()
    return cache


def _open_redis(url: str) -> tuple[tuple[type[Exception], ...], "Redis"]:
    """The client, loaded only when it is wanted; it connects with the first command, anew after a loss."""
    try:
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import ConnectionError as LostConnection
        from redis.exceptions import RedisError
    except ImportError as error:
        raise ConfigError(
            "REDIS_URL", "is set but the client is missing; install the extra [redis]"
        ) from error
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            timeout=REDIS_TIMEOUT,
            socket_timeout=REDIS_TIMEOUT,
            socket_connect_timeout=REDIS_TIMEOUT,
            # Once more, at once: an idle connection may have been closed at the other end.
            retry=Retry(NoBackoff(), 1, supported_errors=(LostConnection,)),
            health_check_interval=0,
            max_connections=REDIS_CONNECTIONS,
            client_name="telephony-gateway",
        )
    except ValueError as error:
        raise ConfigError(
            "REDIS_URL", f"{urlsplit(url).scheme}: is not a Redis URL that can be used"
        ) from error
    return (RedisError, OSError, TimeoutError), Redis.from_pool(pool)


def _decode(decoder: "msgspec.json.Decoder[T]", value: bytes | None) -> T | None:
    """What another version of the gateway wrote and this one cannot read is as good as absent."""
    if value is None:
        return None
    try:
        return decoder.decode(value)
    except msgspec.MsgspecError:
        return None


def _milliseconds(ttl: timedelta) -> int:
    return max(1, round(ttl.total_seconds() * 1000))
