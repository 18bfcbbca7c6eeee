"""The REST resource `calls`: each handler reads, asks the manager once, and writes."""

import re
from typing import Any

import msgspec
from aiohttp import web

from telephony_gateway.api import schemas
from telephony_gateway.api.context import CONTEXT
from telephony_gateway.api.requests import read_call_id, read_idempotency_key, read_json, read_query
from telephony_gateway.calls.ladder import as_text
from telephony_gateway.calls.manager import Manager, NewCall, NewTransfer
from telephony_gateway.errors import Invalid

HOST = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")

_encoder = msgspec.json.Encoder()


def answer(value: Any, status: int = 200, **headers: str) -> web.Response:
    """Write a value as JSON."""
    return web.Response(
        body=_encoder.encode(value), status=status, content_type="application/json", headers=headers
    )


def _manager(request: web.Request) -> Manager:
    return request.app[CONTEXT].manager


async def create_call(request: web.Request) -> web.Response:
    """`POST /api/v1/calls`."""
    key = read_idempotency_key(request)
    body = await read_json(request, schemas.NewCallBody)
    if body.client_state is not None and len(body.client_state.encode()) > schemas.CLIENT_STATE_LIMIT:
        raise Invalid("the body does not fit", [("client_state", "more than 4096 bytes in UTF-8")])
    call = await _manager(request).create_call(
        NewCall(
            to=body.to,
            from_=body.from_,
            trunk=body.trunk,
            timeout=body.timeout,
            client_state=body.client_state,
            route=body.route,
            headers=body.headers,
        ),
        key,
    )
    return answer(call, 201, Location=f"/api/v1/calls/{call.id}")


async def list_calls(request: web.Request) -> web.Response:
    """`GET /api/v1/calls`."""
    query = read_query(request, schemas.ListQuery, lists=frozenset({"status"}))
    return answer(await _manager(request).list_calls(query.to_query()))


async def find_call(request: web.Request) -> web.Response:
    """`GET /api/v1/calls/{call_id}`."""
    return answer(await _manager(request).find_call(read_call_id(request)))


async def call_events(request: web.Request) -> web.Response:
    """`GET /api/v1/calls/{call_id}/events`."""
    return answer({"items": await _manager(request).call_events(read_call_id(request))})


async def call_sip(request: web.Request) -> web.Response:
    """`GET /api/v1/calls/{call_id}/sip`."""
    query = read_query(request, schemas.SipQuery)
    ladder = await _manager(request).call_sip(read_call_id(request))
    if query.format == "text":
        return web.Response(text=as_text(ladder), content_type="text/plain", charset="utf-8")
    return answer(ladder)


async def change_status(request: web.Request) -> web.Response:
    """`PATCH /api/v1/calls/{call_id}/status`."""
    call_id = read_call_id(request)
    body = await read_json(request, schemas.StatusBody)
    return answer(await _manager(request).change_status(call_id, body.status))


async def end_call(request: web.Request) -> web.Response:
    """`POST /api/v1/calls/{call_id}/end`."""
    call_id = read_call_id(request)
    body = await read_json(request, schemas.EndBody, default=schemas.EndBody())
    return answer(await _manager(request).end_call(call_id, reason=body.reason))


async def transfer_call(request: web.Request) -> web.Response:
    """`POST /api/v1/calls/{call_id}/actions/transfer`."""
    call_id, key = read_call_id(request), read_idempotency_key(request)
    body = await read_json(request, schemas.TransferBody)
    wanted = NewTransfer(to=body.to, trunk=body.trunk, timeout=body.timeout)
    return answer(await _manager(request).transfer(call_id, wanted, key), 202)


async def create_session(request: web.Request) -> web.Response:
    """`POST /api/v1/calls/{call_id}/sessions`."""
    call_id = read_call_id(request)
    body = await read_json(request, schemas.SessionBody, default=schemas.SessionBody())
    session = await _manager(request).create_session(call_id, role=body.role, ws_url=_ws_url(request))
    return answer(schemas.SessionTicket.of(session), 201)


def _ws_url(request: web.Request) -> str | None:
    """Name `/ws` as this client reached us, through whatever proxies; None leaves it to the settings."""
    if not HOST.fullmatch(request.host):
        return None
    secure = request.secure or request.headers.get("X-Forwarded-Proto", "").lower() == "https"
    return f"{'wss' if secure else 'ws'}://{request.host}/ws"
