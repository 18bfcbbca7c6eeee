"""Errors as RFC 9457 problem details: the one shape every failing REST answer has."""

import math
from http import HTTPStatus

import msgspec
from aiohttp import web

from telephony_gateway.errors import FieldError, GatewayError

CONTENT_TYPE = "application/problem+json"


class RequestError(GatewayError):
    """The HTTP request itself is at fault, before anything reached the manager."""

    def __init__(self, status: int, code: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.status = status
        self.word = code


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    instance: str,
    request_id: str | None = None,
    errors: list[FieldError] | None = None,
    retry_after: float | None = None,
) -> web.Response:
    """Make the response; `type` is about:blank, so `title` is the status phrase (RFC 9457, 4.2.1)."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "instance": instance,
    }
    if request_id is not None:
        body["request_id"] = request_id
    if errors:
        body["errors"] = [{"path": path, "message": message} for path, message in errors]
    response = web.Response(status=status, body=msgspec.json.encode(body), content_type=CONTENT_TYPE)
    if retry_after is not None:
        # Whole seconds (RFC 9110, 10.2.3); rounding down would invite the client too early.
        response.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
    return response
