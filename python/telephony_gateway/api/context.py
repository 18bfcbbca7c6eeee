"""What the HTTP face is given at the root: the manager, the settings, the telemetry, the parts' health."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec
from aiohttp import web

from telephony_gateway.calls.manager import Manager
from telephony_gateway.calls.provisioning import Provisioning
from telephony_gateway.calls.registrations import Registrations
from telephony_gateway.config import Settings
from telephony_gateway.errors import GatewayError

CHECK_TIMEOUT = 2.0
"""Seconds until a component that does not answer counts as down."""

CHECK_LIFETIME = 1.0
"""Seconds a report stays good: open health endpoints must not become a way to hammer the database."""


class ComponentHealth(msgspec.Struct, frozen=True, kw_only=True):
    """What one component said when it was asked; `latency` in seconds, `info` shown as it is."""

    status: Literal["up", "down"]
    latency: float | None = None
    detail: str | None = None
    info: Mapping[str, Any] = {}


Check = Callable[[], Awaitable[ComponentHealth]]


@dataclass
class Health:
    """Whether the gateway is fit for work: flags set by the root, components asked on demand."""

    components: Mapping[str, Check]
    ready: bool = False
    draining: bool = False
    started_at: float = field(default_factory=time.monotonic)
    _report: dict[str, ComponentHealth] = field(default_factory=dict, init=False)
    _reported_at: float = field(default=float("-inf"), init=False)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started_at

    async def report(self) -> Mapping[str, ComponentHealth]:
        """Ask every component at once; callers within `CHECK_LIFETIME` share one answer."""
        async with self._lock:
            if time.monotonic() - self._reported_at >= CHECK_LIFETIME:
                answers = await asyncio.gather(*(_ask(check) for check in self.components.values()))
                self._report = dict(zip(self.components, answers, strict=True))
                self._reported_at = time.monotonic()
            return self._report


async def _ask(check: Check) -> ComponentHealth:
    began = time.monotonic()
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            return await check()
    except TimeoutError:
        detail = f"no answer within {CHECK_TIMEOUT:g} s"
    except GatewayError as error:
        detail = error.message
    except Exception as error:
        # A driver's message may carry a DSN; its class name does not.
        detail = type(error).__name__
    return ComponentHealth(status="down", latency=time.monotonic() - began, detail=detail)


class Telemetry(Protocol):
    """What the HTTP face reports, and where `/metrics` comes from."""

    def observe_request(self, method: str, route: str, status: int, duration: float) -> None:
        """Count one request; `route` is the pattern, never the path; `duration` in seconds."""

    def render(self) -> tuple[bytes, str]:
        """Give the exposition and its content type."""


@dataclass(frozen=True)
class Context:
    """Everything `build_app` needs."""

    manager: Manager
    settings: Settings
    telemetry: Telemetry
    health: Health
    provisioning: Provisioning
    registrations: Registrations


CONTEXT = web.AppKey("context", Context)

REQUEST_ID = web.RequestKey("request_id", str)
"""Names the request in the log and in the answer."""

RATE_HEADERS = web.RequestKey("rate_headers", dict[str, str])
"""What the rate limiter has to say about the request."""
