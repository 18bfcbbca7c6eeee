"""The only place where errors become HTTP: `GatewayError` and aiohttp's own exceptions to problem+json."""

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from telephony_gateway import errors
from telephony_gateway.api.context import REQUEST_ID
from telephony_gateway.api.problems import RequestError, problem

log = structlog.get_logger(__name__)

STATUSES: dict[type[errors.GatewayError], int] = {
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.TrunkNotFound: 422,  # named in the body, not in the path
    errors.WrongState: 409,
    errors.Conflict: 409,
    errors.VersionMismatch: 412,
    errors.Invalid: 422,
    errors.NotAcceptable: 422,
    errors.RateLimited: 429,
    errors.Overloaded: 503,
    errors.StoreUnavailable: 503,
    errors.CacheUnavailable: 503,
}
"""What is not listed, itself or by a parent, is our fault: 500."""

CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "body_too_large",
    417: "expectation_failed",
    426: "upgrade_required",
}
"""Stable words for the refusals of aiohttp itself."""


def status_of(error: errors.GatewayError) -> int:
    """Find the status of an error by its nearest listed ancestor."""
    if isinstance(error, RequestError):
        return error.status
    return next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), 500)


@web.middleware
async def translate_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every failure as a problem; log once what is our own fault."""
    try:
        return await handler(request)
    except errors.GatewayError as error:
        return _refusal(request, error)
    except web.HTTPException as error:
        return _http_refusal(request, error)
    except ConnectionError:
        # The client left while we read or wrote: nobody will see this answer, and it is nobody's bug.
        return _problem(request, 400, "bad_request", "the connection was lost")
    except Exception:
        log.exception("request_failed", method=request.method, path=request.path)
        return _problem(request, 500, "internal", "an error inside the gateway; its log has this request_id")


def _refusal(request: web.Request, error: errors.GatewayError) -> web.Response:
    status = status_of(error)
    if status == 500:
        log.error("request_failed", method=request.method, path=request.path, code=error.code, exc_info=error)
    response = problem(
        status,
        error.word if isinstance(error, RequestError) else error.code,
        error.message,
        instance=request.rel_url.raw_path,
        request_id=request.get(REQUEST_ID),
        errors=error.errors if isinstance(error, errors.Invalid) else None,
        retry_after=error.retry_after,
    )
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="telephony-gateway"'
    if status in (408, 413):
        # The rest of the body is still on its way; reading it would give the client what the limit refused.
        response.force_close()
    return response


def _http_refusal(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    if error.status < 400:
        return _redirect(error)
    response = _problem(request, error.status, CODES.get(error.status, "http_error"), _detail(request, error))
    if allow := error.headers.get("Allow"):
        response.headers["Allow"] = allow
    return response


def _redirect(error: web.HTTPException) -> web.Response:
    # aiohttp deprecates returning an exception as a response.
    return web.Response(status=error.status, headers={"Location": error.headers.get("Location", "/")})


def _detail(request: web.Request, error: web.HTTPException) -> str:
    if error.status == 404:
        return f"nothing is at {request.rel_url.raw_path}"
    if isinstance(error, web.HTTPMethodNotAllowed):
        return f"{request.rel_url.raw_path} takes {', '.join(sorted(error.allowed_methods))}"
    return error.reason


def _problem(request: web.Request, status: int, code: str, detail: str) -> web.Response:
    return problem(
        status, code, detail, instance=request.rel_url.raw_path, request_id=request.get(REQUEST_ID)
    )
