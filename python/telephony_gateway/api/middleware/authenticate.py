"""Who must show a key: said once per route in the table of `routes.py`, enforced here."""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from telephony_gateway.api.auth import Keys

OPEN = web.AppKey("open_routes", frozenset[str])
"""Patterns that need no key. Everything else does: a forgotten route is closed, not open."""


def authenticate(keys: Keys) -> Middleware:
    """Check the key before the handler sees the request."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if keys.required and not _is_open(request):
            keys.check(request.headers)
        return await handler(request)

    return check


def _is_open(request: web.Request) -> bool:
    resource = request.match_info.route.resource
    if resource is None:
        # 404 and 405: nothing to protect, and the truth helps more than a 401. Except under /api, where the
        # shape of what exists is nobody's business without a key.
        return not request.path.startswith("/api/")
    return resource.canonical in request.app[OPEN]
