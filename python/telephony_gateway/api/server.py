"""How the application is run: limits of the HTTP protocol, and refusals of what is no HTTP."""

import asyncio
import logging
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from telephony_gateway.api.context import CONTEXT
from telephony_gateway.api.headers import ALWAYS, SERVER
from telephony_gateway.api.problems import problem

KEEPALIVE_TIMEOUT = 20.0
"""Seconds of silence between requests; it also cuts dripped headers. aiohttp's default is an hour."""

LINGER_TIMEOUT = 2.0
"""Seconds to read and drop the rest of a body that was refused."""

CLOSE_TIMEOUT = 5.0
"""Seconds for running requests and closing handshakes at the end."""

LIMITS: dict[str, Any] = {
    "keepalive_timeout": KEEPALIVE_TIMEOUT,
    "lingering_time": LINGER_TIMEOUT,
    "max_line_size": 8190,
    "max_field_size": 8190,
    "max_headers": 64,
    # Compressed bodies are refused (415), so nothing is ever inflated.
    "auto_decompress": False,
    # middleware/observe.py writes the one line of each request.
    "access_log": None,
}

log = logging.getLogger(__name__)


class HttpRunner(web.AppRunner):
    """Runs the application of `build_app` behind `LIMITS`."""

    def __init__(self, app: web.Application) -> None:
        super().__init__(app, shutdown_timeout=CLOSE_TIMEOUT, **LIMITS)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            self.app,
            request_factory=made.request_factory,
            loop=asyncio.get_running_loop(),
            **LIMITS,
        )


class _Server(web.Server):
    def __init__(self, handler: Any, app: web.Application, **kwargs: Any) -> None:
        super().__init__(handler, **kwargs)
        self._app = app
        self._limits = {name: kwargs[name] for name in LIMITS}

    def __call__(self) -> web.RequestHandler:
        return _Protocol(self._app, self, loop=self._loop, **self._limits)


class _Protocol(web.RequestHandler):
    """aiohttp's protocol, but a peer that speaks no HTTP is a counted value, not a traceback in the log."""

    __slots__ = ("_app",)

    def __init__(self, app: web.Application, server: web.Server, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._app = app

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be parsed (400, 431) as a problem and close; our own faults go to aiohttp."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        log.debug("no HTTP from %s: %s", request.remote, type(exc).__name__)
        response = _unparsable(exc)
        response.force_close()
        self._app[CONTEXT].telemetry.observe_request("OTHER", "unmatched", response.status, 0.0)
        return response


def _unparsable(exc: BaseException | None) -> web.Response:
    # The parser's own message repeats the peer's bytes: not for the answer.
    refusal = _refusal(exc)
    refusal.headers.update(ALWAYS | {"Server": SERVER})
    return refusal


def _refusal(exc: BaseException | None) -> web.Response:
    if isinstance(exc, LineTooLong) or "Too many headers" in str(exc):
        return problem(431, "headers_too_large", "the request line or a header is too large", instance="/")
    return problem(400, "bad_request", "this is no HTTP request that can be read", instance="/")
