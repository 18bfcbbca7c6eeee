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


class Observation:
    """One request from its arrival to its answer; only the first `finish` tells."""

    def __init__(self, telemetry: Telemetry, request: web.Request) -> None:
        self._telemetry = telemetry
        self._request = request
        self._began = time.perf_counter()
        self._finished = False

    def finish(self, status: int) -> None:
        """The answer is known. A WebSocket says so at its upgrade: how long it stays open is no latency."""
        if not self._finished:
            self._finished = True
            _report(self._telemetry, self._request, status, time.perf_counter() - self._began)


OBSERVATION = web.RequestKey("observation", Observation)


def observe(telemetry: Telemetry) -> Middleware:
    """Name, time, count and log each request."""

    @web.middleware
    async def observed(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[REQUEST_ID] = request_id(request)
        request[OBSERVATION] = observation = Observation(telemetry, request)
        with structlog.contextvars.bound_contextvars(request_id=request[REQUEST_ID]):
            status = 499  # what stays when the client leaves before an answer
            try:
                response = await handler(request)
                status = response.status
                return response
            finally:
                observation.finish(status)

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
