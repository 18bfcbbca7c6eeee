"""Is the gateway alive, is it ready, and if not, which part is it? And its metrics."""

from collections.abc import Mapping
from typing import Literal

import msgspec
from aiohttp import web

from telephony_gateway import __version__
from telephony_gateway.api.calls import answer
from telephony_gateway.api.context import CONTEXT, ComponentHealth, Health
from telephony_gateway.api.schemas import ComponentBody, DetailedHealthBody, HealthBody
from telephony_gateway.api.websocket import Sockets

Overall = Literal["healthy", "unhealthy", "starting", "draining"]


def overall(health: Health, report: Mapping[str, ComponentHealth]) -> Overall:
    """Sum up: what the gateway does of its own will comes before what is wrong with it."""
    if health.draining:
        return "draining"
    if not health.ready:
        return "starting"
    return "healthy" if all(part.status == "up" for part in report.values()) else "unhealthy"


def _http_status(status: Overall) -> int:
    return 200 if status == "healthy" else 503


class HealthPages:
    """The handlers of `/health...` and `/metrics`."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets

    async def brief(self, request: web.Request) -> web.Response:
        """`GET /health`: one word; 503 unless it is `healthy`."""
        health = request.app[CONTEXT].health
        status = overall(health, await health.report())
        body = HealthBody(status=status, version=__version__, uptime=round(health.uptime, 3))
        return answer(body, _http_status(status))

    async def detailed(self, request: web.Request) -> web.Response:
        """`GET /health/detailed`: every component with its latency."""
        context = request.app[CONTEXT]
        report = await context.health.report()
        status = overall(context.health, report)
        body = DetailedHealthBody(
            status=status,
            version=__version__,
            uptime=round(context.health.uptime, 3),
            active_calls=context.manager.active_calls,
            websockets=len(self._sockets),
            components={name: _component(part) for name, part in report.items()},
        )
        shown = msgspec.to_builtins(body)
        for name, part in report.items():
            shown["components"][name].update(part.info)
        return answer(shown, _http_status(status))

    async def ready(self, request: web.Request) -> web.Response:
        """`GET /health/ready`: may calls be sent here? 503 when starting, draining or broken."""
        return await self.brief(request)

    async def live(self, request: web.Request) -> web.Response:
        """`GET /health/live`: does the event loop turn? Asks no component: a restart mends none of them."""
        health = request.app[CONTEXT].health
        status: Overall = "draining" if health.draining else "healthy" if health.ready else "starting"
        return answer(HealthBody(status=status, version=__version__, uptime=round(health.uptime, 3)))

    async def metrics(self, request: web.Request) -> web.Response:
        """`GET /metrics`: the Prometheus exposition."""
        body, content_type = request.app[CONTEXT].telemetry.render()
        return web.Response(body=body, headers={"Content-Type": content_type})


def _component(part: ComponentHealth) -> ComponentBody:
    latency = round(part.latency * 1000, 3) if part.latency is not None else None
    return ComponentBody(status=part.status, latency_ms=latency, detail=part.detail)
