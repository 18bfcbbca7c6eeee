"""The REST resources `trunks`, `routes`, `users`, `refusals`, and `plan`, which takes a file at once."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from telephony_gateway.api import plan_schemas as schemas
from telephony_gateway.api.calls import answer
from telephony_gateway.api.context import CONTEXT
from telephony_gateway.api.requests import read_if_match, read_object, read_query
from telephony_gateway.api.routes import Route as Address
from telephony_gateway.calls.plan import Route
from telephony_gateway.calls.provisioning import Place, PlanDiff, Provisioning
from telephony_gateway.calls.stored import Entry, RowKind
from telephony_gateway.calls.tables import Table, read
from telephony_gateway.calls.trunks import NAME, Trunk
from telephony_gateway.errors import Invalid, NotFound, VersionMismatch, WrongState

PLAN_LIMIT: Final = 1 << 20
"""Bytes of a whole plan: as many as gateway.toml may have."""
PLACE: Final = ("position", "before", "after")
KINDS: Final[Mapping[str, type[Table]]] = {"trunk": Trunk, "route": Route}

Row = dict[str, Any]
Handler = Callable[[web.Request, RowKind], Awaitable[web.StreamResponse]]


def _provisioning(request: web.Request) -> Provisioning:
    return request.app[CONTEXT].provisioning


def _views(request: web.Request, kind: RowKind, only: Entry | None = None) -> list[Any]:
    """All of a kind, or one of them."""
    provisioning = _provisioning(request)
    places = enumerate(provisioning.entries(kind), 1)
    wanted = [(place, entry) for place, entry in places if only is None or entry is only]
    if kind == "route":
        return [schemas.route_view(entry, place) for place, entry in wanted]
    targets = provisioning.targets()
    return [schemas.trunk_view(entry, targets.get(entry.name, ())) for _, entry in wanted]


def _shown(request: web.Request, entry: Entry, status: int = 200, **headers: str) -> web.Response:
    if entry.stored is not None:
        headers["ETag"] = f'"{entry.stored.version}"'
    (view,) = _views(request, entry.kind, entry)
    return answer(view, status, **headers)


async def _list(request: web.Request, kind: RowKind) -> web.Response:
    return answer({"items": _views(request, kind)})


async def _find(request: web.Request, kind: RowKind) -> web.Response:
    return _shown(request, _provisioning(request).entry(kind, _name(request, kind)))


def _name(request: web.Request, kind: RowKind) -> str:
    name = request.match_info["name"]
    if not NAME.fullmatch(name):
        raise NotFound(f"no {kind} can have the name {name[:64]!r}")
    return name


async def _create(request: web.Request, kind: RowKind) -> web.Response:
    row = await read_object(request)
    place = _place(row, kind)
    _check(kind, row)

    def edit(found: Entry | None) -> Row:
        if found is not None:
            raise WrongState(f"a {kind} is named {found.name!r} already")
        return row

    entry = await _provisioning(request).put(kind, row["name"], edit, place=place)
    return _shown(request, entry, 201, Location=f"/api/v1/{kind}s/{entry.name}")


async def _replace(request: web.Request, kind: RowKind) -> web.Response:
    name, expected = _name(request, kind), read_if_match(request)
    row = await read_object(request)
    place = _place(row, kind)
    row.setdefault("name", name)
    _same_name(row, name)
    _check(kind, row)
    made: list[bool] = []

    def edit(found: Entry | None) -> Row:
        made[:] = [found is None]
        if found is None and "If-Match" in request.headers:
            raise VersionMismatch(f"no {kind} is named {name!r}")
        return row

    entry = await _provisioning(request).put(kind, name, edit, place=place, expected=expected)
    return _shown(request, entry, 201 if made[0] else 200)


async def _patch(request: web.Request, kind: RowKind) -> web.Response:
    name, expected = _name(request, kind), read_if_match(request)
    changes = await read_object(request)
    place = _place(changes, kind)
    _same_name(changes, name)

    def edit(found: Entry | None) -> Row:
        if found is None or found.stored is None:
            raise NotFound(f"no {kind} is named {name!r}")
        row: Row = _merged(found.stored.row, changes)
        _check(kind, row)
        return row

    entry = await _provisioning(request).put(kind, name, edit, place=place, expected=expected)
    return _shown(request, entry)


async def _delete(request: web.Request, kind: RowKind) -> web.Response:
    await _provisioning(request).delete(kind, _name(request, kind), expected=read_if_match(request))
    return web.Response(status=204)


def _check(kind: RowKind, row: Row) -> None:
    """Every key at fault at once; what else is in the plan is checked when it is put there."""
    for key in schemas.READ_ONLY:
        row.pop(key, None)
    _, faults = read(KINDS[kind], row, "")
    if faults:
        raise Invalid("the body does not fit", [(fault.field or "$", fault.what) for fault in faults])


def _same_name(row: Row, name: str) -> None:
    if row.get("name", name) != name:
        raise Invalid("the body does not fit", [("name", f"must be {name!r}, as in the path, or left out")])


def _place(row: Row, kind: RowKind) -> Place | None:
    if kind != "route":
        return None
    given = {key: row.pop(key) for key in PLACE if key in row}
    given = {key: value for key, value in given.items() if value is not None}
    if len(given) > 1:
        raise Invalid("the place does not fit", [(key, "at most one place can be given") for key in given])
    try:
        place = msgspec.convert(given, Place)
    except msgspec.ValidationError as error:
        what = str(error).partition(" - ")[0]
        raise Invalid("the place does not fit", [(key, what) for key in given]) from None
    if place.position is not None and place.position < 1:
        raise Invalid("the place does not fit", [("position", "must be 1 or more")])
    return place


def _merged(row: Any, changes: Mapping[str, Any]) -> Any:
    """A JSON merge patch (RFC 7396 2)."""
    merged = dict(row) if isinstance(row, Mapping) else {}
    for key, value in changes.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value) if isinstance(value, Mapping) else value
    return merged


async def list_users(request: web.Request) -> web.Response:
    """`GET /api/v1/users`."""
    return answer({"items": [schemas.user_view(user) for user in _provisioning(request).users]})


async def list_refusals(request: web.Request) -> web.Response:
    """`GET /api/v1/refusals`."""
    query = read_query(request, schemas.RefusalsQuery)
    refusals = request.app[CONTEXT].manager.refusals
    return answer({"items": refusals.latest(source=query.source, rule=query.rule, limit=query.limit)})


async def apply_plan(request: web.Request) -> web.Response:
    """`PUT /api/v1/plan`."""
    query = read_query(request, schemas.ApplyQuery)
    tables = await read_object(request, PLAN_LIMIT)
    return answer(await _provisioning(request).apply(tables, dry_run=query.dry_run))


def plan_routes() -> list[Address]:
    """The addresses of these resources."""
    return [
        *_resource("trunk", Trunk, schemas.TrunkView, schemas.TrunkList, schemas.TrunkPatch),
        *_resource("route", schemas.NewRoute, schemas.RouteView, schemas.RouteList, schemas.RoutePatch),
        Address(
            method="GET",
            path="/api/v1/users",
            handler=list_users,
            summary="List the SIP phones' accounts",
            tag="plan",
            answers={200: schemas.UserList},
        ),
        Address(
            method="GET",
            path="/api/v1/refusals",
            handler=list_refusals,
            summary="Show why requests were refused or dropped, in plain words",
            tag="plan",
            query=schemas.RefusalsQuery,
            answers={200: schemas.RefusalList},
        ),
        Address(
            method="PUT",
            path="/api/v1/plan",
            handler=apply_plan,
            summary="Make trunks and routes those of a file, all or nothing",
            tag="plan",
            query=schemas.ApplyQuery,
            body=schemas.PlanBody,
            answers={200: PlanDiff},
        ),
    ]


def _resource(word: RowKind, body: type, view: type, many: type, patch: type) -> list[Address]:
    path, one = f"/api/v1/{word}s", f"/api/v1/{word}s/{{name}}"

    def address(method: str, at: str, handler: Handler, summary: str, **more: Any) -> Address:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await handler(request, word)

        # Clients know an operation by this name: `list_trunks`, `change_route`.
        handle.__name__ = summary.lower().replace(" a ", "_").replace(" ", "_")
        return Address(method=method, path=at, handler=handle, summary=summary, tag="plan", **more)

    both = {200: view, 201: view}
    return [
        address("GET", path, _list, f"List {word}s", answers={200: many}),
        address("POST", path, _create, f"Create a {word}", body=body, answers={201: view}),
        address("GET", one, _find, f"Find a {word}", answers={200: view}),
        address("PUT", one, _replace, f"Replace a {word}", body=body, conditional=True, answers=both),
        address("PATCH", one, _patch, f"Change a {word}", body=patch, conditional=True, answers={200: view}),
        address("DELETE", one, _delete, f"Delete a {word}", conditional=True, answers={204: ""}),
    ]
