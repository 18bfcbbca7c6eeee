"""Reading what a client sent: typed, bounded in size and time, refused with the status that fits."""

import asyncio
import re
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from aiohttp import web

from telephony_gateway.api.problems import RequestError
from telephony_gateway.errors import CallNotFound, FieldError, Invalid

BODY_LIMIT = 64 * 1024
"""Bytes of one REST body; the largest honest one carries 4 KiB of `client_state`."""

BODY_TIMEOUT = 10.0
"""Seconds for a whole body: aiohttp itself waits for a dripping one for ever."""

IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")

ENTITY_TAG = re.compile(r'(?:W/)?"(\d{1,18})"')

_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `(?P<place>[^`]+)`)?$", re.DOTALL)
_FIELD = re.compile(r"(?:missing required|contains unknown) field `(?P<field>[^`]*)`")

T = TypeVar("T", bound=msgspec.Struct)
D = TypeVar("D")


async def read_json(request: web.Request, kind: type[T], *, default: T | None = None) -> T:
    """Read the body as `kind`; an absent body is the default, where the route has one."""
    _check_coding(request)
    body = await _read(request, BODY_LIMIT)
    if not body and default is not None:
        return default
    return _decode(request, body, kind)


async def read_object(request: web.Request, limit: int = BODY_LIMIT) -> dict[str, Any]:
    """Read the body as a JSON object whose keys are looked at later, one by one."""
    _check_coding(request)
    return _decode(request, await _read(request.clone(client_max_size=limit), limit), dict[str, Any])


def _decode(request: web.Request, body: bytes, kind: type[D]) -> D:
    _check_content_type(request)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise Invalid("the body does not fit", [field_error(error)]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(400, "malformed_json", f"the body is no JSON: {error}") from None


def _check_coding(request: web.Request) -> None:
    # A compressed body could grow a thousandfold after the size check; no client of this API needs one.
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise RequestError(415, "unsupported_media_type", "send the body without Content-Encoding")


def _check_content_type(request: web.Request) -> None:
    if request.content_type != "application/json":
        raise RequestError(415, "unsupported_media_type", "send the body as application/json")
    if (request.charset or "utf-8").lower() not in ("utf-8", "utf8", "us-ascii"):
        # JSON between systems is UTF-8 (RFC 8259, 8.1).
        raise RequestError(415, "unsupported_media_type", "send the body in UTF-8")


async def _read(request: web.BaseRequest, limit: int) -> bytes:
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await request.read()
    except TimeoutError:
        detail = f"the body did not arrive within {BODY_TIMEOUT:g} s"
        raise RequestError(408, "request_timeout", detail) from None
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(limit) from None
    except web.RequestPayloadError:
        raise RequestError(400, "bad_request", "the body is framed wrongly or was cut short") from None


def _too_large(limit: int) -> RequestError:
    return RequestError(413, "body_too_large", f"a body may have {limit} bytes")


def read_query(request: web.Request, kind: type[T], *, lists: frozenset[str] = frozenset()) -> T:
    """Read the query string as `kind`; parameters in `lists` may repeat or hold commas."""
    values: dict[str, object] = {}
    for name in request.query:
        given = request.query.getall(name)
        if name in lists:
            values[name] = [word for value in given for word in value.split(",")]
        elif len(given) > 1:
            raise Invalid("the query does not fit", [(name, "given more than once")])
        elif given[0].lower() == "null":
            # The lax conversion below, which numbers need, takes the word for an omitted parameter.
            raise Invalid("the query does not fit", [(name, "null is no value: leave the parameter out")])
        else:
            values[name] = given[0]
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid("the query does not fit", [field_error(error)]) from None


def field_error(error: msgspec.ValidationError) -> FieldError:
    """Split msgspec's message into where (`to`, `sessions[0].role`) and what."""
    match = _PLACE.match(str(error))
    what, place = (match["what"], match["place"] or "$") if match else (str(error), "$")
    path = place.removeprefix("$").removeprefix(".")
    if "matching regex" in what:
        # The pattern itself is in the OpenAPI document, for those who read patterns.
        what = "has characters or a form that this field cannot have"
    if field := _FIELD.search(what):
        path = f"{path}.{field['field']}" if path else field["field"]
    return path or "$", what


def read_call_id(request: web.Request) -> UUID:
    """Take the call's id from the path. What is no UUID names no call: 404, as for any other unknown id."""
    text = request.match_info["call_id"]
    try:
        call_id = UUID(text)
    except ValueError:
        raise CallNotFound(text[:64]) from None
    if str(call_id) != text.lower():
        raise CallNotFound(text[:64])
    return call_id


def read_idempotency_key(request: web.Request) -> str | None:
    """Take `Idempotency-Key`, if the client sent one."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
        raise Invalid("the headers do not fit", [("Idempotency-Key", "1 to 255 visible ASCII characters")])
    return key


def read_if_match(request: web.Request) -> int | None:
    """The version that `If-Match` demands (RFC 9110, 13.1.1); None when any will do.

    The tag of a compressed body is weak, since it names no bytes. The version in it grows with every change
    of the resource, so it is as strong a validator of that (RFC 9110, 8.8.1) and guards a change alike.
    """
    given = request.headers.get("If-Match")
    if given is None or given.strip() == "*":
        return None
    found = ENTITY_TAG.fullmatch(given.strip())
    if found is None:
        raise Invalid("the headers do not fit", [("If-Match", 'must be the ETag of the resource, as in "7"')])
    return int(found[1])
