"""The whole of `gateway.toml`: trunks, routes and users, read at once and checked against each other."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

from telephony_gateway.calls.patterns import fault_of
from telephony_gateway.calls.tables import Fault, Kind, T, Table, apart, label, read, rest
from telephony_gateway.calls.trunks import (
    Found,
    Name,
    Trunk,
    Variable,
    Word,
    faults_of,
    name_faults,
    secret_faults,
)
from telephony_gateway.calls.uris import parse_sip

EVERY_BROWSER: Final = "*"
MAX_PATTERN: Final = 256
MAX_TARGETS: Final = 16
MAX_ROWS: Final = 10_000
HA1: Final = "must be an HA1 as `user:realm:password` hashed, in hexadecimal"

Pattern = Annotated[str, msgspec.Meta(max_length=MAX_PATTERN)]

PRIVATE: Final = (
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
)


class Match(Table, frozen=True, kw_only=True):
    """Which calls a route takes; what is omitted matches any. `to` and `from` search the user part."""

    trunk: Name | None = None
    user: Name | None = None
    to: Pattern | None = None
    from_: Pattern | None = msgspec.field(name="from", default=None)


class Choice(Table, frozen=True, kw_only=True):
    """One of several trunks of a route: the lowest priority first, among equals by weight (as RFC 2782)."""

    trunk: Name
    priority: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 1
    weight: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 1


class Goal(Table, frozen=True, kw_only=True):
    """One place to ring: exactly one of these."""

    browser: Name | None = None
    trunk: Name | None = None
    uri: str | None = None
    user: Name | None = None


class Ring(Table, frozen=True, kw_only=True):
    """Several places to ring, one after the other or all at once; each for `timeout` seconds."""

    targets: tuple[Goal, ...]
    strategy: Literal["serial", "parallel"] = "serial"
    timeout: Annotated[float, msgspec.Meta(ge=1, le=300)] = 20.0


class Target(Table, frozen=True, kw_only=True):
    """Where a route leads: exactly one of these."""

    browser: Name | None = None
    trunk: Name | None = None
    trunks: tuple[Choice, ...] | None = None
    uri: str | None = None
    user: Name | None = None
    ring: Ring | None = None
    reject: Annotated[int, msgspec.Meta(ge=400, le=699)] | None = None


class Route(Table, frozen=True, kw_only=True):
    """One line of the routing plan; the first that matches wins."""

    name: Name
    target: Target
    match: Match = Match()
    ring_timeout: Annotated[float, msgspec.Meta(ge=1, le=600)] | None = None


class User(Table, frozen=True, kw_only=True):
    """A SIP phone that registers here; its secret is the password, or its HA1, in a variable."""

    name: Name
    password_env: Variable | None = None
    ha1_env: Variable | None = None
    display: Word | None = None
    max_contacts: Annotated[int, msgspec.Meta(ge=1, le=50)] = 5


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file."""

    trunks: tuple[Trunk, ...] = ()
    routes: tuple[Route, ...] = ()
    users: tuple[User, ...] = ()


_Rest = tuple[Any, Sequence[Fault]]
"""What could be read of a row, and what could not."""
STAND_IN: Final = {"target": {"browser": "*"}}
"""Of a route whose own cannot be read."""
DEVELOPMENT_TRUNK: Final = Trunk(name="development", addresses=PRIVATE)
PHONES: Final = Trunk(name="phones")
"""What calls of users' phones come by: no trunk of a carrier."""
DEVELOPMENT_ROUTE: Final = Route(name="development", target=Target(browser=EVERY_BROWSER))


def read_plan(
    tables: Mapping[str, Any], environ: Mapping[str, str] | None, known: Iterable[str] = ()
) -> tuple[Plan, list[Fault]]:
    """The rows that can be read, and everything that is wrong; only a plan without faults may be used.
    `known` are names that routes may use though they stand elsewhere.
    """
    faults = [
        Fault(key, "", "is no table of this file: there are trunks, routes and users")
        for key in tables
        if key not in Plan.__struct_fields__
    ]
    rests: list[_Rest] = []
    plan = Plan(
        trunks=_rows(Trunk, "trunk", tables.get("trunks", ()), faults, rests),
        routes=_rows(Route, "route", tables.get("routes", ()), faults, rests),
        users=_rows(User, "user", tables.get("users", ()), faults, rests),
    )
    # What could not be read is named all the same: a route to a trunk with a fault has none itself.
    unread = {_name(row) for row in _listed(tables.get("trunks")) + _listed(tables.get("users"))}
    named = {*unread, *known}
    faults.extend(plan_faults(plan, environ, known=named))
    names = _Names(plan, named)
    for row, wrong in rests:
        faults.extend(apart(_row_faults(row, environ, names), wrong))
    return plan, faults


def plan_faults(
    plan: Plan, environ: Mapping[str, str] | None, known: Iterable[str | None] = ()
) -> Iterator[Fault]:
    """What is wrong with rows that could be read, each by itself and all together."""
    rows: tuple[tuple[Kind, Sequence[Any]], ...] = (
        ("trunk", plan.trunks), ("route", plan.routes), ("user", plan.users),
    )  # fmt: skip
    for kind, some in rows:
        twice = (name for name, count in Counter(row.name for row in some).items() if count > 1)
        yield from (Fault(f"{kind} {name!r}", "name", "is there twice") for name in twice)
    names = _Names(plan, known)
    for _, some in rows:
        for row in some:
            yield from _row_faults(row, environ, names)


def _row_faults(
    row: Trunk | Route | User, environ: Mapping[str, str] | None, names: "_Names"
) -> Iterator[Fault]:
    """What is wrong in a row that could be read."""
    match row:
        case Trunk():
            return trunk_faults(row, environ)
        case Route():
            return _of(f"route {row.name!r}", names.route_faults(row))
        case User():
            return _of(f"user {row.name!r}", _user_faults(row, environ))


def trunk_faults(trunk: Trunk, environ: Mapping[str, str] | None) -> Iterator[Fault]:
    """What is wrong in a trunk by itself."""
    if trunk.name == PHONES.name:
        yield Fault(f"trunk {trunk.name!r}", "name", "is what calls of users' phones come by: take another")
    yield from _of(f"trunk {trunk.name!r}", faults_of(trunk, environ))


def routes_faults(plan: Plan) -> Callable[[Route], Iterator[Fault]]:
    """Tells what is wrong in a route among the trunks and users of a plan."""
    names = _Names(plan, ())
    return lambda route: _of(f"route {route.name!r}", names.route_faults(route))


def trunks_of(route: Route) -> set[str]:
    """The trunks that a route names."""
    target = route.target
    goals = target.ring.targets if target.ring else ()
    named = (
        route.match.trunk,
        target.trunk,
        *(c.trunk for c in target.trunks or ()),
        *(g.trunk for g in goals),
    )
    return {name for name in named if name is not None}


def _rows(kind: type[T], word: Kind, rows: object, faults: list[Fault], rests: list[_Rest]) -> tuple[T, ...]:
    if not isinstance(rows, Sequence) or isinstance(rows, str) or len(rows) > MAX_ROWS:
        faults.append(Fault(f"{word}s", "", f"must be a list of up to {MAX_ROWS} tables, as in [[{word}s]]"))
        return ()
    found = []
    for index, row in enumerate(rows):
        value, wrong = read(kind, row, label(word, row, index))
        faults.extend(wrong)
        if value is not None:
            found.append(value)
        elif (left := rest(kind, row, wrong, STAND_IN)) is not None:
            rests.append((left, wrong))
    return tuple(found)


def _listed(rows: object) -> list[object]:
    return list(rows) if isinstance(rows, Sequence) and not isinstance(rows, str) else []


def _name(row: object) -> str | None:
    name = row.get("name") if isinstance(row, Mapping) else None
    return name if isinstance(name, str) else None


def _of(table: str, found: Found) -> Iterator[Fault]:
    return (Fault(table, field, what) for field, what in found)


def _user_faults(user: User, environ: Mapping[str, str] | None) -> Found:
    yield from name_faults(user.name)
    if (user.password_env is None) == (user.ha1_env is None):
        yield "password_env", "must be there, or else ha1_env: exactly one of the two"
    yield from secret_faults("password_env", user.password_env, environ)
    yield from secret_faults("ha1_env", user.ha1_env, environ)


class _Names:
    """What a route may name."""

    def __init__(self, plan: Plan, known: Iterable[str | None]) -> None:
        self._known = set(known)
        self._trunks = {trunk.name: trunk for trunk in (DEVELOPMENT_TRUNK, PHONES, *plan.trunks)}
        self._users = {*self._known, *(user.name for user in plan.users)}

    def route_faults(self, route: Route) -> Found:
        match, target = route.match, route.target
        yield from name_faults(route.name)
        if match.trunk is not None and match.trunk not in self._trunks and match.trunk not in self._known:
            yield "match.trunk", f"names {match.trunk!r}, which is no trunk"
        if match.user is not None and match.user not in self._users:
            yield "match.user", f"names {match.user!r}, which is no user"
        yield from _pattern_faults("match.to", match.to)
        yield from _pattern_faults("match.from", match.from_)
        yield from _one_of("target", target)
        yield from self._goal_faults("target", target)
        yield from self._choice_faults(target.trunks)
        if target.ring is not None:
            yield from self._ring_faults(target.ring)

    def _goal_faults(self, path: str, goal: Goal | Target) -> Found:
        if goal.trunk is not None:
            yield from self._dialled(f"{path}.trunk", goal.trunk)
        if goal.uri is not None and (parse_sip(goal.uri) is None or "?" in goal.uri):
            yield f"{path}.uri", "must be a sip: URI, as in sip:alice@192.0.2.1:5060"
        if goal.user is not None and goal.user not in self._users:
            yield f"{path}.user", f"names {goal.user!r}, which is no user"

    def _choice_faults(self, choices: tuple[Choice, ...] | None) -> Found:
        if choices is None:
            return
        if not 1 <= len(choices) <= MAX_TARGETS or len({c.trunk for c in choices}) < len(choices):
            yield "target.trunks", f"must be 1 to {MAX_TARGETS} trunks, each once"
        for index, choice in enumerate(choices):
            yield from self._dialled(f"target.trunks[{index}].trunk", choice.trunk)

    def _ring_faults(self, ring: Ring) -> Found:
        if not 1 <= len(ring.targets) <= MAX_TARGETS:
            yield "target.ring.targets", f"must be 1 to {MAX_TARGETS} targets"
        for index, goal in enumerate(ring.targets):
            path = f"target.ring.targets[{index}]"
            yield from _one_of(path, goal)
            yield from self._goal_faults(path, goal)

    def _dialled(self, path: str, name: str) -> Found:
        trunk = self._trunks.get(name)
        if name not in self._known and (trunk is None or trunk.uri is None):
            yield path, f"must name a trunk that has a uri, not {name!r}"
        elif trunk is not None and trunk.uri is None:
            yield path, f"must name a trunk that has a uri, which {name!r} has not"


def _one_of(path: str, goal: Goal | Target) -> Found:
    fields = goal.__struct_fields__
    if sum(getattr(goal, field) is not None for field in fields) != 1:
        yield path, f"must have exactly one of {', '.join(fields[:-1])} and {fields[-1]}"


def _pattern_faults(field: str, pattern: str | None) -> Found:
    if pattern and (fault := fault_of(pattern)) is not None:
        yield field, fault
