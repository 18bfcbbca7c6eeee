"""Every address of the gateway in one table: the router, the guards and the OpenAPI document read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.http import HttpVersion11
from aiohttp.typedefs import Handler

from telephony_gateway.api import calls, registrations, schemas
from telephony_gateway.api.health import HealthPages
from telephony_gateway.api.middleware.authenticate import OPEN
from telephony_gateway.api.middleware.rate import UNLIMITED
from telephony_gateway.api.pages import Pages
from telephony_gateway.api.problems import problem
from telephony_gateway.api.websocket import Sockets
from telephony_gateway.calls.ladder import Ladder
from telephony_gateway.calls.model import Call
from telephony_gateway.calls.ports import CallPage
from telephony_gateway.calls.registrations import RegistrationList, UserPhones


@dataclass(frozen=True, kw_only=True)
class Route:
    """One method of one address. A route that says nothing needs a key and is counted."""

    method: str
    path: str
    handler: Handler
    summary: str = ""
    tag: str = ""
    open: bool = False
    """No key is needed, in production too."""
    counted: bool = True
    """Whether RATE_LIMIT covers it."""
    query: type[Any] | None = None
    body: type[Any] | None = None
    body_optional: bool = False
    idempotent: bool = False
    """Takes `Idempotency-Key`."""
    conditional: bool = False
    """Takes `If-Match`."""
    answers: Mapping[int, type[Any] | str] = field(default_factory=dict)
    """Status to schema, or to a content type where the body is no JSON of ours."""

    @property
    def described(self) -> bool:
        """Whether it stands in the OpenAPI document."""
        return bool(self.tag)


def api_routes(openapi: Handler) -> list[Route]:
    """The REST resources under `/api/v1`."""
    return [
        *_call_routes(),
        *_registration_routes(),
        Route(
            method="GET",
            path="/api/v1/openapi.json",
            handler=openapi,
            summary="This document",
            tag="about",
            answers={200: "application/json"},
        ),
    ]


def _call_routes() -> list[Route]:
    """Calls, and what can be asked of and done to one."""
    one = "/api/v1/calls/{call_id}"
    return [
        Route(
            method="POST",
            path="/api/v1/calls",
            handler=calls.create_call,
            summary="Make a call: accepted at once as `queued` and dialled",
            tag="calls",
            body=schemas.NewCallBody,
            idempotent=True,
            answers={201: Call},
        ),
        Route(
            method="GET",
            path="/api/v1/calls",
            handler=calls.list_calls,
            summary="List calls, newest first",
            tag="calls",
            query=schemas.ListQuery,
            answers={200: CallPage},
        ),
        Route(
            method="GET",
            path=one,
            handler=calls.find_call,
            summary="Show a call",
            tag="calls",
            answers={200: Call},
        ),
        Route(
            method="GET",
            path=f"{one}/events",
            handler=calls.call_events,
            summary="Show a call's history, in order and without gaps",
            tag="calls",
            answers={200: schemas.EventList},
        ),
        Route(
            method="GET",
            path=f"{one}/sip",
            handler=calls.call_sip,
            summary="Show a call's SIP messages, all legs in order, secrets masked",
            tag="calls",
            query=schemas.SipQuery,
            answers={200: Ladder},
        ),
        Route(
            method="PATCH",
            path=f"{one}/status",
            handler=calls.change_status,
            summary="Bring a call to another status",
            tag="calls",
            body=schemas.StatusBody,
            answers={200: Call},
        ),
        *_call_actions(one),
    ]


def _call_actions(one: str) -> list[Route]:
    """What can be done with a call that is there."""
    return [
        Route(
            method="POST",
            path=f"{one}/end",
            handler=calls.end_call,
            summary="End a call, whatever its state",
            tag="calls",
            body=schemas.EndBody,
            body_optional=True,
            answers={200: Call},
        ),
        Route(
            method="POST",
            path=f"{one}/actions/transfer",
            handler=calls.transfer_call,
            summary="Connect the far party to somebody else; if nobody answers, the call goes on as it was",
            tag="calls",
            body=schemas.TransferBody,
            idempotent=True,
            answers={202: Call},
        ),
        Route(
            method="POST",
            path=f"{one}/sessions",
            handler=calls.create_session,
            summary="Make a participant's ticket to a call",
            tag="calls",
            body=schemas.SessionBody,
            body_optional=True,
            answers={201: schemas.SessionTicket},
        ),
    ]


def _registration_routes() -> list[Route]:
    """Who is registered where: trunks at their carriers, phones here."""
    return [
        Route(
            method="GET",
            path="/api/v1/registrations",
            handler=registrations.list_registrations,
            summary="List the registrations of trunks at their carriers",
            tag="trunks",
            answers={200: RegistrationList},
        ),
        Route(
            method="GET",
            path="/api/v1/users/{name}",
            handler=registrations.find_user,
            summary="Show a user and the phones that are registered now",
            tag="users",
            answers={200: UserPhones},
        ),
    ]


def operator_routes(pages: HealthPages) -> list[Route]:
    """Probes, open to all; details and metrics, which need a key wherever keys are configured."""
    health = {200: schemas.HealthBody, 503: schemas.HealthBody}
    return [
        Route(
            method="GET",
            path="/health",
            handler=pages.brief,
            summary="Health in one word",
            tag="operation",
            open=True,
            counted=False,
            answers=health,
        ),
        Route(
            method="GET",
            path="/health/live",
            handler=pages.live,
            summary="Does the process run? (Restart it if not.)",
            tag="operation",
            open=True,
            counted=False,
            answers={200: schemas.HealthBody},
        ),
        Route(
            method="GET",
            path="/health/ready",
            handler=pages.ready,
            summary="May new calls be sent here?",
            tag="operation",
            open=True,
            counted=False,
            answers=health,
        ),
        Route(
            method="GET",
            path="/health/detailed",
            handler=pages.detailed,
            summary="Health of every component, with latency",
            tag="operation",
            answers={200: schemas.DetailedHealthBody, 503: schemas.DetailedHealthBody},
        ),
        Route(
            method="GET",
            path="/metrics",
            handler=pages.metrics,
            summary="Prometheus metrics",
            tag="operation",
            counted=False,
            answers={200: "text/plain"},
        ),
    ]


def browser_routes(pages: Pages, sockets: Sockets) -> list[Route]:
    """The page and the WebSocket; the socket checks keys and tokens itself, frame by frame."""
    return [
        Route(
            method="GET",
            path="/ws",
            handler=sockets.handle,
            summary="WebSocket signalling: JSON text frames, see ClientFrame and ServerFrame",
            tag="signalling",
            open=True,
            answers={101: ""},
        ),
        Route(method="GET", path="/", handler=pages.index, open=True, counted=False),
        Route(method="GET", path="/assets/{name:.+}", handler=pages.asset, open=True, counted=False),
    ]


def install(app: web.Application, routes: list[Route]) -> None:
    """Give the routes to aiohttp, and what the guards must know of them. HEAD comes with GET."""
    open_routes: set[str] = set()
    unlimited: set[str] = set()
    for route in routes:
        methods = ["GET", "HEAD"] if route.method == "GET" and route.path != "/ws" else [route.method]
        for method in methods:
            added = app.router.add_route(method, route.path, route.handler, expect_handler=_expect)
            pattern = added.resource.canonical if added.resource is not None else route.path
        if route.open:
            open_routes.add(pattern)
        if not route.counted:
            unlimited.add(pattern)
    app[OPEN] = frozenset(open_routes)
    app[UNLIMITED] = frozenset(unlimited)


async def _expect(request: web.Request) -> web.StreamResponse | None:
    # aiohttp answers this before any middleware runs, so the problem is made here (RFC 9110, 10.1.1).
    if request.version < HttpVersion11:
        return None
    if request.headers.get("Expect", "").lower() != "100-continue":
        return problem(417, "expectation_failed", "only 100-continue can be expected", instance=request.path)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # What was written does not count as the response, which has not begun.
    request.writer.output_size = 0
    return None
