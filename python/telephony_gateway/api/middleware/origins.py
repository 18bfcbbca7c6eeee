"""One Origin rule for REST and for WebSocket upgrades: CORS headers alone do not guard `/ws`."""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from telephony_gateway.errors import Forbidden

METHODS = "GET, HEAD, POST, PATCH, OPTIONS"
REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, X-API-Key, X-Request-ID"
EXPOSED_HEADERS = (
    "Location, RateLimit-Limit, RateLimit-Policy, RateLimit-Remaining, RateLimit-Reset, Retry-After, "
    "X-Request-ID"
)
MAX_AGE = "600"
"""Seconds a browser may remember a preflight."""


@dataclass(frozen=True)
class Origins:
    """The origins a browser may call from: those of `CORS_ORIGINS`, and always the gateway's own page."""

    allowed: frozenset[str]
    any: bool

    @classmethod
    def of(cls, origins: Iterable[str]) -> "Origins":
        """Read the setting; `*` among the origins allows all."""
        cleaned = frozenset(origin.strip().rstrip("/").lower() for origin in origins if origin.strip())
        return cls(allowed=cleaned - {"*"}, any="*" in cleaned)

    def permit(self, request: web.Request) -> bool:
        """Whether the request may pass. Without Origin it is no browser's cross-site request."""
        origin = request.headers.get("Origin")
        return origin is None or self.listed(origin) or same_origin(origin, request.host)

    def listed(self, origin: str) -> bool:
        """Whether the setting names the origin (RFC 6454: scheme and host compare without case)."""
        return self.any or origin.lower() in self.allowed

    def stamp(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add the CORS headers of an answer. No credentials: keys travel in headers, never in cookies."""
        if not self.any:
            response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin")
        if origin is not None and self.listed(origin):
            response.headers["Access-Control-Allow-Origin"] = "*" if self.any else origin
            response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS


def same_origin(origin: str, host: str) -> bool:
    """Compare host and port only: behind a proxy that ends TLS our own scheme says nothing."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return False
    suffix = ":443" if parts.scheme == "https" else ":80"
    return parts.netloc.lower().removesuffix(suffix) == host.lower().removesuffix(suffix)


def guard_origins(origins: Origins) -> Middleware:
    """Refuse other origins with 403 and answer preflights."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not origins.permit(request):
            raise Forbidden("this origin is not among CORS_ORIGINS")
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return _preflight()
        return await handler(request)

    return guard


def _preflight() -> web.Response:
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": REQUEST_HEADERS,
            "Access-Control-Max-Age": MAX_AGE,
        },
    )
