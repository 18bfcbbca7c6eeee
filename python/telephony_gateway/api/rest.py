"""`build_app`: the whole HTTP face put together."""

from collections.abc import AsyncIterator, Callable

from aiohttp import web

from telephony_gateway.api.auth import Keys
from telephony_gateway.api.context import CONTEXT, Context
from telephony_gateway.api.headers import ResponseHeaders
from telephony_gateway.api.health import HealthPages
from telephony_gateway.api.middleware import Origins, RateLimit, middlewares
from telephony_gateway.api.openapi import OpenApi
from telephony_gateway.api.pages import Pages
from telephony_gateway.api.plan import plan_routes
from telephony_gateway.api.requests import BODY_LIMIT
from telephony_gateway.api.routes import api_routes, browser_routes, install, operator_routes
from telephony_gateway.api.websocket import Sockets


def build_app(context: Context) -> web.Application:
    """Make the application; run it with `server.HttpRunner`, whose limits belong to it."""
    settings = context.settings
    keys = Keys(key.get_secret_value() for key in settings.api_keys)
    origins = Origins.of(settings.cors_origins)
    rate = RateLimit(settings.rate_limit, settings.redis_url)
    app = web.Application(middlewares=middlewares(context, keys, origins, rate), client_max_size=BODY_LIMIT)
    app[CONTEXT] = context
    sockets = Sockets(keys)
    _add_routes(app, sockets)
    app.on_response_prepare.append(ResponseHeaders(origins, production=settings.production).stamp)
    app.on_shutdown.append(sockets.close)
    app.cleanup_ctx.append(_closing(rate))
    return app


def _add_routes(app: web.Application, sockets: Sockets) -> None:
    openapi = OpenApi()
    routes = [
        *api_routes(openapi.serve),
        *plan_routes(),
        *operator_routes(HealthPages(sockets)),
        *browser_routes(Pages(), sockets),
    ]
    openapi.describe(routes)
    install(app, routes)


def _closing(rate: RateLimit) -> Callable[[web.Application], AsyncIterator[None]]:
    async def close(_app: web.Application) -> AsyncIterator[None]:
        yield
        await rate.close()

    return close
