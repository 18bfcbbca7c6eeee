"""The OpenAPI 3.1 document: the route table and the msgspec types, written down for clients."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from telephony_gateway import __version__
from telephony_gateway.api import frames, schemas
from telephony_gateway.api.docs import document
from telephony_gateway.api.problems import CONTENT_TYPE as PROBLEM
from telephony_gateway.api.routes import Route

Json = dict[str, Any]

REFERENCE = "#/components/schemas/{name}"

SECURITY: Json = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "One of API_KEYS (RFC 6750, 2.1)."},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "One of API_KEYS."},
}


def _parameter(name: str, place: str, description: str, schema: Json) -> Json:
    """A parameter of an operation; what stands in the path is always there."""
    schema = {"type": "string", **schema}
    required = place == "path"
    return {"name": name, "in": place, "required": required, "description": description, "schema": schema}


CALL_ID = _parameter("call_id", "path", "The call's `id` (UUIDv7, RFC 9562).", {"format": "uuid"})
NAME = _parameter("name", "path", "Its `name`.", {"pattern": "^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$"})
IDEMPOTENCY_KEY = _parameter(
    "Idempotency-Key",
    "header",
    "The same key with the same body gets the first request's call; with another body, 409.",
    {"pattern": "^[!-~]{1,255}$"},
)
IF_MATCH = _parameter(
    "If-Match",
    "header",
    "The ETag that was read (RFC 9110, 13.1.1): 412 when it has changed since.",
    {"pattern": '^((W/)?"[0-9]{1,18}"|[*])$'},
)


class OpenApi:
    """Makes the document once and serves it."""

    def __init__(self) -> None:
        self._body = b""

    def describe(self, routes: Iterable[Route]) -> None:
        """Make the document of the finished table."""
        self._body = msgspec.json.encode(build(routes))

    async def serve(self, _request: web.Request) -> web.Response:
        """`GET /api/v1/openapi.json`."""
        return web.Response(body=self._body, content_type="application/json")


def build(routes: Iterable[Route]) -> Json:
    """Assemble the document."""
    described = [route for route in routes if route.described]
    paths: dict[str, Json] = {}
    for route in described:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Telephony Gateway",
            "version": __version__,
            "description": "SIP carriers on one side, browsers and voice bots on the other. Errors are "
            "RFC 9457 problems; RateLimit headers tell the limits; times are RFC 3339, durations seconds.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": _schemas(described), "securitySchemes": SECURITY},
    }


def _schemas(routes: Iterable[Route]) -> Json:
    kinds: list[Any] = [schemas.Problem, frames.AnyClientFrame, frames.AnyServerFrame]
    for route in routes:
        used = (route.body, *route.answers.values())
        kinds += [kind for kind in used if kind is not None and not isinstance(kind, str)]
    found, components = msgspec.json.schema_components(kinds, ref_template=REFERENCE)
    components["ClientFrame"] = {"description": "What a client may say on /ws.", **found[1]}
    components["ServerFrame"] = {"description": "What the gateway says on /ws.", **found[2]}
    return document(components)


def _operation(route: Route) -> Json:
    operation: Json = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "tags": [route.tag],
        "responses": _responses(route),
        # An empty requirement means: development, where API_KEYS is empty, needs none.
        "security": [{}] if route.open else [{"bearer": []}, {"api_key": []}, {}],
    }
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {
            "required": not route.body_optional,
            "content": {"application/json": {"schema": _reference(route.body)}},
        }
    return operation


def _operation_id(route: Route) -> str:
    name = getattr(route.handler, "__name__", "")
    return name if route.tag == "calls" else f"{route.tag}_{name}"


def _parameters(route: Route) -> list[Json]:
    parameters = [CALL_ID] if "{call_id}" in route.path else []
    if "{name}" in route.path:
        parameters.append(NAME)
    if route.idempotent:
        parameters.append(IDEMPOTENCY_KEY)
    if route.conditional:
        parameters.append(IF_MATCH)
    if route.query is not None:
        parameters += _query_parameters(route.query)
    return parameters


def _query_parameters(kind: type[Any]) -> list[Json]:
    (_,), components = msgspec.json.schema_components([kind], ref_template=REFERENCE)
    properties: Mapping[str, Json] = components[kind.__name__]["properties"]
    return [_query_parameter(name, dict(schema)) for name, schema in properties.items()]


def _query_parameter(name: str, schema: Json) -> Json:
    description = schema.pop("description", "")
    # A query has no null: of an optional field only what may be given is shown.
    options = [option for option in schema.pop("anyOf", []) if option.get("type") != "null"]
    if options:
        schema = {**schema, **options[0]}
    if schema.get("default", ...) is None:
        del schema["default"]
    if "enum" in schema:
        schema["enum"] = [value for value in schema["enum"] if value is not None]
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _responses(route: Route) -> Json:
    answers = {str(status): _response(status, kind) for status, kind in route.answers.items()}
    refused = {"description": "Refused", "content": {PROBLEM: {"schema": _reference(schemas.Problem)}}}
    return {**answers, "default": refused}


def _response(status: int, kind: type[Any] | str) -> Json:
    description = HTTPStatus(status).phrase
    if isinstance(kind, str):
        return {"description": description, **({"content": {kind: {}}} if kind else {})}
    return {"description": description, "content": {"application/json": {"schema": _reference(kind)}}}


def _reference(kind: type[Any]) -> Json:
    return {"$ref": REFERENCE.format(name=kind.__name__)}
