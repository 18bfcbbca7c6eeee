"""Trunks, routes and users as the REST API shows them: the words of `gateway.toml` and who manages each."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from telephony_gateway.calls.plan import Route, User
from telephony_gateway.calls.ports import Target
from telephony_gateway.calls.refusals import Refusal
from telephony_gateway.calls.stored import Entry
from telephony_gateway.calls.tables import Table
from telephony_gateway.calls.trunks import Trunk

ManagedBy = Annotated[
    Literal["file", "api"],
    Meta(
        description="`file`: gateway.toml, read at the start and on SIGHUP; `api`: this API, in the database."
    ),
]
Version = Annotated[
    Annotated[int, Meta(ge=0)] | None,
    Meta(description="Grows with each change; also the ETag. Null where the file manages it."),
]
Faults = Annotated[
    tuple[str, ...], Meta(description="Why it is left out of the running plan; empty when it is in it.")
]
Updated = Annotated[datetime | None, Meta(description="When it was last changed (RFC 3339).")]


class TargetView(msgspec.Struct, frozen=True, kw_only=True):
    """One place that a trunk's requests are sent to."""

    transport: Annotated[str, Meta(description="`udp`, `tcp` or `tls`.")]
    address: Annotated[str, Meta(description="Its IP address and port.")]
    state: Annotated[
        Literal["up", "down", "trial"],
        Meta(description="`down`: tried after all others; `trial`: its time is over, the next use decides."),
    ]
    last_rtt: Annotated[float | None, Meta(description="Seconds that the last answered OPTIONS took.")] = None
    failures: Annotated[int, Meta(ge=0, description="Failures in a row.")] = 0


class TrunkView(Trunk, frozen=True, kw_only=True):
    """A trunk. Passwords are never here: `password_env` names the variable that holds one."""

    targets: Annotated[
        tuple[TargetView, ...], Meta(description="Its targets that failed, or that `probe` asks after.")
    ] = ()

    managed_by: ManagedBy = "api"
    version: Version = None
    updated_at: Updated = None
    faults: Faults = ()


class RouteView(Route, frozen=True, kw_only=True):
    """A route; they are tried in the order of their positions, the API's before the file's."""

    managed_by: ManagedBy = "api"
    version: Version = None
    updated_at: Updated = None
    faults: Faults = ()
    position: Annotated[int, Meta(ge=1, description="Its place among all routes, from 1.")] = 1


class NewRoute(Route, frozen=True, kw_only=True):
    """A route to make or to replace, and its place among those of the API (at most one of the three)."""

    position: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)] | None,
        Meta(description="Its place, from 1; omitted: the last."),
    ] = None
    before: Annotated[str | None, Meta(description="Just before the route of this name.")] = None
    after: Annotated[str | None, Meta(description="Just after the route of this name.")] = None


class UserView(User, frozen=True, kw_only=True):
    """A SIP phone's account, from gateway.toml."""

    managed_by: ManagedBy = "file"


class TrunkList(msgspec.Struct, frozen=True, kw_only=True):
    """All trunks."""

    items: Annotated[list[TrunkView], Meta(description="The file's, then the API's.")]


class RouteList(msgspec.Struct, frozen=True, kw_only=True):
    """All routes."""

    items: Annotated[list[RouteView], Meta(description="In the order they are tried.")]


class UserList(msgspec.Struct, frozen=True, kw_only=True):
    """All users."""

    items: Annotated[list[UserView], Meta(description="In the order of the file.")]


class TrunkPatch(msgspec.Struct, frozen=True, kw_only=True):
    """Some keys of a trunk; null takes one back to its default (RFC 7396)."""


class RoutePatch(msgspec.Struct, frozen=True, kw_only=True):
    """Some keys of a route; null takes one back to its default (RFC 7396)."""


class PlanBody(msgspec.Struct, frozen=True, kw_only=True):
    """A whole gateway.toml, as JSON."""

    trunks: Annotated[tuple[Trunk, ...], Meta(description="[[trunks]] of the file.")] = ()
    routes: Annotated[tuple[Route, ...], Meta(description="[[routes]] of the file.")] = ()
    users: Annotated[
        tuple[User, ...], Meta(description="[[users]]: only as the running gateway has them already.")
    ] = ()


class RefusalsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which refusals to list."""

    source: Annotated[
        Annotated[str, Meta(max_length=64)] | None, Meta(description="Only those of this IP address.")
    ] = None
    rule: Annotated[
        Annotated[str, Meta(max_length=64)] | None, Meta(description="Only those by this rule.")
    ] = None
    limit: Annotated[int, Meta(ge=1, le=1000, description="How many at most.")] = 100


class RefusalList(msgspec.Struct, frozen=True, kw_only=True):
    """Why requests were refused or dropped on this node."""

    items: Annotated[list[Refusal], Meta(description="The newest first; the latest 1000 or so are kept.")]


class ApplyQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to apply."""

    dry_run: Annotated[bool, Meta(description="Only check, and show what would change.")] = False


READ_ONLY = frozenset({"managed_by", "version", "updated_at", "faults", "targets"})
"""What a client may send back as it got it; it changes nothing."""


def trunk_view(entry: Entry, targets: Iterable[Target] = ()) -> TrunkView:
    """A trunk as clients see it."""
    value = entry.value if isinstance(entry.value, Trunk) else Trunk(name=entry.name)
    seen = tuple(msgspec.convert(target, TargetView, from_attributes=True) for target in targets)
    return TrunkView(**_fields(value), **_meta(entry), targets=seen)


def route_view(entry: Entry, position: int) -> RouteView | dict[str, Any]:
    """A route as clients see it."""
    if not isinstance(entry.value, Route):
        # Nothing of the row could be read: it is shown as it stands.
        return {"name": entry.name, "position": position, "target": {}, **msgspec.to_builtins(_meta(entry))}
    return RouteView(**_fields(entry.value), **_meta(entry), position=position)


def user_view(user: User) -> UserView:
    """A user as clients see it."""
    return UserView(**_fields(user))


def _fields(value: Table) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__}


def _meta(entry: Entry) -> dict[str, Any]:
    if entry.stored is None:
        return {"managed_by": "file"}
    return {
        "managed_by": "api",
        "version": entry.stored.version,
        "updated_at": entry.stored.updated_at,
        "faults": tuple(str(fault) for fault in entry.faults),
    }
