"""Where a call goes: the plan of `gateway.toml` and the API, compiled and ready to be asked.

`plan.py` and `trunks.py` know what its tables hold and what may be wrong in them.
"""

import functools
import ipaddress
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from telephony_gateway.calls.events import Binding
from telephony_gateway.calls.plan import (
    DEVELOPMENT_ROUTE,
    DEVELOPMENT_TRUNK,
    EVERY_BROWSER,
    PHONES,
    Goal,
    Plan,
    Route,
    Target,
    User,
    read_plan,
)
from telephony_gateway.calls.tables import config_error
from telephony_gateway.calls.trunks import ALL_CODECS, REALM, Network, Trunk, engine_row, named_transport
from telephony_gateway.calls.uris import SipUri, escape_user, is_diallable, parse_sip
from telephony_gateway.errors import Forbidden, Invalid, TrunkNotFound

__all__ = [
    "ALL_CODECS",
    "DEVELOPMENT_ROUTE",
    "DEVELOPMENT_TRUNK",
    "EVERY_BROWSER",
    "Destination",
    "Party",
    "Plan",
    "Route",
    "Routing",
    "Target",
    "Trunk",
]

REMEMBERED: Final = 1024
"""Source addresses whose trunk is remembered."""


class Party(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who is at the other end of a leg, as routes and trunks' rules see callers."""

    trunk: str | None = None
    user: str | None = None
    number: str | None = None
    """None: the call says it."""


NOBODY: Final = Party()


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """Where to send an INVITE and what to offer there."""

    uri: str
    host: str
    trunk: str | None
    next_hop: str | None
    codecs: tuple[str, ...]
    at_trunk: str | None = None
    """The trunk that is there, where the call does not go by its way."""
    user: str | None = None
    """Of ours, whose phone is there."""
    number: str | None = None

    @property
    def party(self) -> Party:
        """Who answers there."""
        trunk = PHONES.name if self.user is not None else self.trunk or self.at_trunk
        return Party(trunk=trunk, user=self.user, number=self.number)


class Routing:
    """A plan without faults, ready to be asked; in development the built-in trunk and route stand behind."""

    def __init__(self, plan: Plan, *, development: bool, environ: Mapping[str, str] | None = None) -> None:
        self._development = development
        self.environ: Mapping[str, str] = environ or {}
        """Where secrets are."""
        self.contacts: Callable[[str], Sequence[Binding]] = lambda _user: ()
        self.is_down: Callable[[str], bool] = lambda _trunk: False
        """Whether no target of a trunk is well."""
        self._routes: list[_Compiled] = []
        self.adopt(plan)

    def adopt(self, plan: Plan) -> None:
        """Take another plan in place of this one, at once: calls that run keep what they were given."""
        self.plan = plan
        trunks = self._with_built_in(plan)
        routes = [*plan.routes, DEVELOPMENT_ROUTE] if self._development else plan.routes
        self.trunks: Mapping[str, Trunk] = trunks
        self.users: Mapping[str, User] = {user.name: user for user in plan.users}
        self._sources = _by_prefix(trunks.values())
        # A change of one route compiles no other anew.
        known = {compiled.route.name: compiled for compiled in self._routes}
        self._routes = [_compiled(route, known.get(route.name)) for route in routes]
        self._at_host = _by_host(trunks.values())
        # Carriers call from few addresses.
        self._trunk_of = functools.lru_cache(REMEMBERED)(self._search)

    @property
    def development(self) -> bool:
        """Whether the built-in trunk and route are there."""
        return self._development

    @classmethod
    def from_tables(
        cls, tables: Mapping[str, Any], *, development: bool, environ: Mapping[str, str] | None = None
    ) -> "Routing":
        """Check and compile the tables of `gateway.toml`; `ConfigError` names the field at fault.

        With an environment, the variables that secrets are in must be there.
        """
        plan, faults = read_plan(tables, environ)
        if faults:
            raise config_error(faults)
        return cls(plan, development=development, environ=environ)

    @property
    def engine_document(self) -> bytes:
        """What the engine has to know of the trunks, as JSON."""
        return self.document_of(self.plan)

    def document_of(self, plan: Plan, environ: Mapping[str, str] | None = None) -> bytes:
        """The same for another plan, before it is adopted."""
        trunks = self._with_built_in(plan).values()
        rows = [engine_row(trunk, self.environ if environ is None else environ) for trunk in trunks]
        for trunk, row in zip(trunks, rows, strict=True):
            # The built-in trunk has every private address: phones sit there, too.
            row["last"] = row["phones"] = trunk is DEVELOPMENT_TRUNK
        return msgspec.json.encode(rows)

    @property
    def users_document(self) -> bytes:
        """What the engine has to know of the users whose phones register here, as JSON."""
        rows = [user_row(user, self.environ) for user in self.users.values()]
        return msgspec.json.encode({"realm": REALM, "users": rows})

    def _with_built_in(self, plan: Plan) -> dict[str, Trunk]:
        trunks = {trunk.name: trunk for trunk in plan.trunks}
        if self._development:
            trunks.setdefault(DEVELOPMENT_TRUNK.name, DEVELOPMENT_TRUNK)
        return trunks

    @property
    def routes(self) -> list[Route]:
        """The routes in their order, the built-in one too."""
        return [compiled.route for compiled in self._routes]

    @property
    def route_names(self) -> list[str]:
        """The routes in their order."""
        return [compiled.route.name for compiled in self._routes]

    def trunk(self, name: str) -> Trunk:
        """A trunk by name."""
        trunk = self.trunks.get(name)
        if trunk is None:
            raise TrunkNotFound(name)
        return trunk

    def trunk_of(self, source: str) -> Trunk | None:
        """The trunk whose networks hold the address: the narrowest wins, the built-in one comes last."""
        return self._trunk_of(source)

    def _search(self, source: str) -> Trunk | None:
        try:
            address = ipaddress.ip_address(source.partition("%")[0])
        except ValueError:
            return None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return next((trunk for network, trunk in self._sources if address in network), None)

    def route(self, *, trunk: str, to: str, from_: str, user: str | None = None) -> Route | None:
        """The first route that takes a call of this trunk to and from these user parts."""
        return next((r.route for r in self._routes if r.takes(trunk, to, from_, user)), None)

    def destination(self, to: str, trunk_name: str | None = None) -> Destination:
        """Where a call to a number (by a trunk) or to a `sip:` URI is sent."""
        trunk = self.trunk(trunk_name) if trunk_name is not None else None
        if to.lower().startswith(("sip:", "sips:")):
            return self._direct(to, trunk)
        if trunk is None:
            raise Invalid("a number needs a trunk", [("trunk", "is required unless `to` is a sip: URI")])
        return _by_trunk(to, trunk)

    def places(self, goal: Goal, user: str) -> list[tuple[Destination, ...]]:
        """Where a goal of a hunt is to be had: groups to be tried in turn, each to be rung at once."""
        if goal.trunk is not None:
            return [(_by_trunk(user, self.trunk(goal.trunk)),)]
        if goal.uri is not None:
            return [(self._as_it_says(goal.uri),)]
        return self._phones(goal.user) if goal.user is not None else []

    def _phones(self, user: str) -> list[tuple[Destination, ...]]:
        """A user's phones, the preferred ones first; equally preferred ones ring at once (RFC 3261 16.6)."""
        groups = itertools.groupby(self.contacts(user), key=lambda binding: binding.q)
        return [tuple(_by_flow(binding, user) for binding in group) for _, group in groups]

    def route_named(self, name: str) -> Route | None:
        """A route by its name."""
        return next((compiled.route for compiled in self._routes if compiled.route.name == name), None)

    def forward(self, target: Target, user: str) -> Destination:
        """Where a route's `trunk` or `uri` target sends a call for this user part."""
        if target.trunk is not None:
            return _by_trunk(user, self.trunk(target.trunk))
        return self._as_it_says(target.uri or "")

    def _as_it_says(self, to: str) -> Destination:
        """A `uri` of a route is called as it stands; a trunk that is there keeps its say in transfers."""
        uri = _parsed(to)
        trunk = self._trunk_at(uri)
        found = self._towards(to, uri, None)
        return found if trunk is None else msgspec.structs.replace(found, at_trunk=trunk.name)

    def _direct(self, to: str, trunk: Trunk | None) -> Destination:
        uri = _parsed(to)
        if trunk is not None and uri.secure and not _by_tls(trunk):
            raise Invalid(
                "a sips: URI is called by TLS only (RFC 5630)",
                [("trunk", f"{trunk.name!r} is not reached by TLS: set its transport, or dial a sip: URI")],
            )
        trunk = trunk or self._trunk_at(uri)
        if trunk is None and not self._development:
            raise Forbidden(f"no trunk has the host {uri.host}: in production only trunks are dialled")
        return self._towards(to, uri, trunk)

    def _towards(self, to: str, uri: SipUri, trunk: Trunk | None) -> Destination:
        codecs = trunk.codecs if trunk else ALL_CODECS
        next_hop = trunk.uri if trunk else None
        if trunk is not None and uri.secure and not _by_tls(trunk):
            # RFC 5630 3.1.3: TLS or nothing; not along the way that the trunk has for the others.
            next_hop = f"sips:{uri.host_port}"
        name = trunk.name if trunk else None
        return Destination(uri=to, host=uri.host, trunk=name, next_hop=next_hop, codecs=codecs)

    def _trunk_at(self, uri: SipUri) -> Trunk | None:
        same_host = self._at_host.get(uri.bare_host, ())
        # Several trunks may be ports of one machine.
        exact = (trunk for trunk, port in same_host if port == uri.effective_port)
        nearest = next(exact, None) or next((trunk for trunk, _ in same_host), None)
        return nearest or self.trunk_of(uri.bare_host)


class _Compiled:
    """A route, compiled. `patterns` keeps out what could take long; subjects have at most 64 characters."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self._to = _pattern(route.match.to)
        self._from = _pattern(route.match.from_)

    def takes(self, trunk: str, to: str, from_: str, user: str | None) -> bool:
        return (
            self.route.match.trunk in (None, trunk)
            and self.route.match.user in (None, user)
            and (self._to is None or self._to.search(to) is not None)
            and (self._from is None or self._from.search(from_) is not None)
        )


def _compiled(route: Route, known: _Compiled | None) -> _Compiled:
    return known if known is not None and known.route == route else _Compiled(route)


def user_row(user: User, environ: Mapping[str, str]) -> dict[str, Any]:
    """What the engine has to know of a user; its secret comes from the environment here, and only here."""
    kind, variable = ("password", user.password_env) if user.password_env else ("ha1", user.ha1_env)
    return {"name": user.name, kind: environ.get(variable or "", ""), "max_contacts": user.max_contacts}


def _by_flow(binding: Binding, user: str) -> Destination:
    parsed = parse_sip(binding.uri)
    return Destination(
        uri=binding.uri,
        host=parsed.host if parsed else binding.source[0],
        trunk=None,
        next_hop=f"flow:{binding.token}",
        codecs=ALL_CODECS,
        user=user,
        number=user,
    )


def _by_trunk(number: str, trunk: Trunk) -> Destination:
    if trunk.uri is None:
        raise Invalid(
            f"trunk {trunk.name!r} has no uri to dial", [("trunk", "has no uri: dial a sip: URI instead")]
        )
    if not is_diallable(number):
        raise Invalid("not a number", [("to", "must be a number of up to 64 characters, or a sip: URI")])
    if not (dialled := trunk.dialled(number)):
        raise Invalid("nothing left to dial", [("to", f"trunk {trunk.name!r} strips all of it")])
    known = _parsed(trunk.uri)
    return Destination(
        uri=f"{known.scheme}:{escape_user(dialled)}@{known.host_port}",
        host=known.host,
        trunk=trunk.name,
        next_hop=trunk.uri,
        codecs=trunk.codecs,
        number=number,
    )


def _parsed(uri: str) -> SipUri:
    parsed = parse_sip(uri)
    if parsed is None:
        raise Invalid("not a sip: URI", [("to", "must be a sip: URI, as in sip:alice@192.0.2.1:5060")])
    if "?" in uri:
        raise Invalid("not a place to call", [("to", "must not bring header fields (RFC 3261 19.1.1)")])
    return parsed


def _by_tls(trunk: Trunk) -> bool:
    """Whether what goes to the trunk goes by TLS; without a uri it goes where the called URI says."""
    known = parse_sip(trunk.uri) if trunk.uri is not None else None
    return known is None or known.secure or "tls" in (trunk.transport, named_transport(trunk))


def _by_host(trunks: Iterable[Trunk]) -> Mapping[str, Sequence[tuple[Trunk, int]]]:
    found: dict[str, list[tuple[Trunk, int]]] = {}
    for trunk in trunks:
        if trunk.uri and (known := parse_sip(trunk.uri)):
            found.setdefault(known.bare_host, []).append((trunk, known.effective_port))
    return found


def _by_prefix(trunks: Any) -> list[tuple[Network, Trunk]]:
    pairs = [(network, trunk) for trunk in trunks for network in trunk.networks]
    return sorted(pairs, key=lambda pair: (pair[1] is DEVELOPMENT_TRUNK, -pair[0].prefixlen))


def _pattern(pattern: str | None) -> re.Pattern[str] | None:
    return None if pattern is None else re.compile(pattern)
