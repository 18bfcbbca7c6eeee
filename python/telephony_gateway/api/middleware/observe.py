"""Every request gets an id, a log line and its place in the metrics."""

import re
import time
from uuid import uuid4

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from telephony_gateway.api.context import REQUEST_ID, Telemetry

log = structlog.get_logger(__name__)

HARMLESS_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"})
QUIET = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
"""Asked every few seconds by machines: logged at debug."""


def observe(telemetry: Telemetry) -> Middleware:
    """Name, time, count and log each request."""

    @web.middleware
    async def observed(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[REQUEST_ID] = request_id(request)
        began = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request[REQUEST_ID]):
            status = 499  # what stays when the client leaves before an answer
            try:
                response = await handler(request)
                status = response.status
                return response
            finally:
                _report(telemetry, request, status, time.perf_counter() - began)

    return observed


def request_id(request: web.Request) -> str:
    """Keep the caller's id if it is harmless in a log, else make one."""
    given = request.headers.get("X-Request-ID", "")
    return given if HARMLESS_ID.fullmatch(given) else str(uuid4())


def route_of(request: web.Request) -> str:
    """Name the route by its pattern: paths would give the metrics a series per call."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unmatched"


def _report(telemetry: Telemetry, request: web.Request, status: int, duration: float) -> None:
    route = route_of(request)
    method = request.method if request.method in METHODS else "OTHER"
    telemetry.observe_request(method, route, status, duration)
    write = log.debug if route in QUIET and status < 400 else log.info
    write(
        "http_request",
        method=method,
        path=request.path,
        route=route,
        status=status,
        duration=round(duration, 6),
        remote=request.remote,
    )
