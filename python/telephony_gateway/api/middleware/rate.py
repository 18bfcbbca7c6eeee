"""Requests per client address, counted in process or, with `REDIS_URL`, for all nodes together."""

import ipaddress
import math
import time
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from telephony_gateway.api.context import RATE_HEADERS
from telephony_gateway.errors import RateLimited

if TYPE_CHECKING:
    from limits import WindowStats
    from redis.asyncio import ConnectionPool

log = structlog.get_logger(__name__)

UNLIMITED = web.AppKey("unlimited_routes", frozenset[str])
"""Patterns that are not counted: probes and scrapers, and the page's files."""

RETRY_SHARED = 5.0
"""Seconds the shared counter is left alone after it failed; meanwhile this node counts for itself."""

REDIS_TIMEOUT = 0.25
"""Seconds a request may wait for the shared counter."""


class RateLimit:
    """A sliding window per client. The counter must never be the reason that a call cannot be made."""

    def __init__(self, limit: str, redis_url: str | None = None) -> None:
        self.item: RateLimitItem = parse(limit)
        self._local = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._pool = _pool(redis_url) if redis_url else None
        self._shared = _shared(self._pool) if self._pool else None
        self._shared_after = 0.0

    async def hit(self, client: str) -> tuple[bool, "WindowStats"]:
        """Count one request; tells whether it may pass and what is left of the window."""
        if self._shared is not None and time.monotonic() >= self._shared_after:
            try:
                return await self._count(self._shared, client)
            except Exception as error:
                self._shared_after = time.monotonic() + RETRY_SHARED
                log.warning("rate_limit_not_shared", error=type(error).__name__, retry_after=RETRY_SHARED)
        return await self._count(self._local, client)

    async def _count(
        self, limiter: SlidingWindowCounterRateLimiter, client: str
    ) -> tuple[bool, "WindowStats"]:
        passed = await limiter.hit(self.item, client)
        return passed, await limiter.get_window_stats(self.item, client)

    async def close(self) -> None:
        """Close the connection to Redis, if there is one."""
        if self._pool is not None:
            await self._pool.aclose()


def _pool(url: str) -> "ConnectionPool":
    # Here and not above: the client is an extra, needed only with REDIS_URL.
    from redis.asyncio import ConnectionPool

    return ConnectionPool.from_url(
        url, socket_timeout=REDIS_TIMEOUT, socket_connect_timeout=REDIS_TIMEOUT, max_connections=32
    )


def _shared(pool: "ConnectionPool") -> SlidingWindowCounterRateLimiter:
    from limits.aio.storage import RedisStorage

    # The address is the pool's; the URL here only tells which kind of server it is.
    storage = RedisStorage(
        "async+redis://localhost:6379",
        implementation="redispy",
        key_prefix="telephony-gateway:rate",
        connection_pool=pool,  # type: ignore[arg-type]
    )
    return SlidingWindowCounterRateLimiter(storage)


def client_of(request: web.Request) -> str:
    """Name the client by address; one IPv6 subscriber holds a whole /64, so that is one client."""
    remote = (request.remote or "unknown").partition("%")[0]
    try:
        address = ipaddress.ip_address(remote)
    except ValueError:
        return remote
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False).network_address)
    return str(address)


def limit_rate(rate: RateLimit) -> Middleware:
    """Count, stamp the answer and refuse with 429 what is too much."""

    @web.middleware
    async def limited(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not _counted(request):
            return await handler(request)
        passed, window = await rate.hit(client_of(request))
        wait = max(0.0, window.reset_time - time.time())
        request[RATE_HEADERS] = _headers(rate.item, window.remaining, wait)
        if not passed:
            raise RateLimited(f"more than {rate.item} from one address", retry_after=max(1.0, wait))
        return await handler(request)

    return limited


def _counted(request: web.Request) -> bool:
    resource = request.match_info.route.resource
    return resource is None or resource.canonical not in request.app[UNLIMITED]


def _headers(item: RateLimitItem, remaining: int, wait: float) -> dict[str, str]:
    # draft-ietf-httpapi-ratelimit-headers-06, the form that clients read today.
    return {
        "RateLimit-Limit": str(item.amount),
        "RateLimit-Policy": f"{item.amount};w={item.get_expiry()}",
        "RateLimit-Remaining": str(max(0, remaining)),
        "RateLimit-Reset": str(math.ceil(wait)),
    }
