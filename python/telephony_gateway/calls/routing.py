"""Where a call goes: trunks (who may call in, where calls out leave) and routes, from `gateway.toml`.

The tables are checked once at the start: unknown keys, unknown names and bad regular expressions are a
`ConfigError` that names the table and the field.
"""

import functools
import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

from telephony_gateway.calls.uris import SipUri, escape_user, is_diallable, parse_sip
from telephony_gateway.errors import ConfigError, Forbidden, Invalid, TrunkNotFound

CodecName = Literal["PCMU", "PCMA", "opus"]
ALL_CODECS: Final[tuple[CodecName, ...]] = ("PCMU", "PCMA", "opus")
EVERY_BROWSER: Final = "*"
MAX_PATTERN: Final = 256
REMEMBERED: Final = 1024
"""Source addresses whose trunk is remembered."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Pattern = Annotated[str, msgspec.Meta(max_length=MAX_PATTERN)]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

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


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file: a key it does not know is an error."""


class Trunk(Table, frozen=True, kw_only=True):
    """A carrier or PBX: where its calls come from and where calls to it go."""

    name: Name
    addresses: tuple[str, ...] = ()
    uri: str | None = None
    codecs: tuple[CodecName, ...] = ALL_CODECS

    @property
    def networks(self) -> list[Network]:
        """`addresses`, parsed."""
        return [ipaddress.ip_network(address) for address in self.addresses]


class Match(Table, frozen=True, kw_only=True):
    """Which calls a route takes; what is omitted matches any. `to` and `from` search the user part."""

    trunk: Name | None = None
    to: Pattern | None = None
    from_: Pattern | None = msgspec.field(name="from", default=None)


class Target(Table, frozen=True, kw_only=True):
    """Where a route leads: exactly one of these."""

    browser: Name | None = None
    trunk: Name | None = None
    uri: str | None = None
    reject: Annotated[int, msgspec.Meta(ge=400, le=699)] | None = None


class Route(Table, frozen=True, kw_only=True):
    """One line of the routing plan; the first that matches wins."""

    name: Name
    target: Target
    match: Match = Match()


class Tables(Table, frozen=True, kw_only=True):
    """The whole file."""

    trunks: tuple[Trunk, ...] = ()
    routes: tuple[Route, ...] = ()


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """Where to send an INVITE and what to offer there."""

    uri: str
    host: str
    trunk: str | None
    next_hop: str | None
    codecs: tuple[str, ...]


DEVELOPMENT_TRUNK: Final = Trunk(name="development", addresses=PRIVATE)
DEVELOPMENT_ROUTE: Final = Route(name="development", target=Target(browser=EVERY_BROWSER))


class Routing:
    """The tables, ready to be asked. In development the built-in trunk and route stand behind them."""

    def __init__(self, tables: Tables, *, development: bool) -> None:
        _check(tables)
        self._development = development
        trunks = {trunk.name: trunk for trunk in tables.trunks}
        routes = list(tables.routes)
        if development:
            trunks.setdefault(DEVELOPMENT_TRUNK.name, DEVELOPMENT_TRUNK)
            routes.append(DEVELOPMENT_ROUTE)
        self.trunks: Mapping[str, Trunk] = trunks
        self._sources = _by_prefix(trunks.values())
        self._routes = [_Compiled(route) for route in routes]
        # Carriers call from few addresses.
        self._trunk_of = functools.lru_cache(REMEMBERED)(self._search)

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any], *, development: bool) -> "Routing":
        """Check and compile the tables of `gateway.toml`; `ConfigError` names the field at fault."""
        try:
            return cls(msgspec.convert(tables, Tables), development=development)
        except msgspec.ValidationError as error:
            raise ConfigError("GATEWAY_CONFIG", _in_words(str(error), tables)) from None

    @property
    def engine_document(self) -> bytes:
        """What the engine has to know of the trunks, as JSON."""
        rows = [{"name": trunk.name, "addresses": trunk.addresses} for trunk in self.trunks.values()]
        return msgspec.json.encode(rows)

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

    def route(self, *, trunk: str, to: str, from_: str) -> Route | None:
        """The first route that takes a call of this trunk to and from these user parts."""
        return next((r.route for r in self._routes if r.takes(trunk, to, from_)), None)

    def destination(self, to: str, trunk_name: str | None = None) -> Destination:
        """Where a call to a number (by a trunk) or to a `sip:` URI is sent."""
        trunk = self.trunk(trunk_name) if trunk_name is not None else None
        if to[:4].lower() == "sip:":
            return self._direct(to, trunk)
        if trunk is None:
            raise Invalid("a number needs a trunk", [("trunk", "is required unless `to` is a sip: URI")])
        return _by_trunk(to, trunk)

    def forward(self, target: Target, user: str) -> Destination:
        """Where a route's `trunk` or `uri` target sends a call for this user part."""
        if target.trunk is not None:
            return _by_trunk(user, self.trunk(target.trunk))
        return self._towards(target.uri or "", _parsed(target.uri or ""), None)

    def _direct(self, to: str, trunk: Trunk | None) -> Destination:
        uri = _parsed(to)
        trunk = trunk or self._trunk_at(uri)
        if trunk is None and not self._development:
            raise Forbidden(f"no trunk has the host {uri.host}: in production only trunks are dialled")
        return self._towards(to, uri, trunk)

    def _towards(self, to: str, uri: SipUri, trunk: Trunk | None) -> Destination:
        codecs = trunk.codecs if trunk else ALL_CODECS
        next_hop = trunk.uri if trunk else None
        name = trunk.name if trunk else None
        return Destination(uri=to, host=uri.host, trunk=name, next_hop=next_hop, codecs=codecs)

    def _trunk_at(self, uri: SipUri) -> Trunk | None:
        for trunk in self.trunks.values():
            known = parse_sip(trunk.uri) if trunk.uri else None
            if known is not None and known.bare_host == uri.bare_host:
                return trunk
        return self.trunk_of(uri.bare_host)


class _Compiled:
    """A route, compiled. Patterns are the operator's own; subjects have at most 64 characters."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self._to = _pattern(route, "to", route.match.to)
        self._from = _pattern(route, "from", route.match.from_)

    def takes(self, trunk: str, to: str, from_: str) -> bool:
        return (
            self.route.match.trunk in (None, trunk)
            and (self._to is None or self._to.search(to) is not None)
            and (self._from is None or self._from.search(from_) is not None)
        )


def _by_trunk(number: str, trunk: Trunk) -> Destination:
    if trunk.uri is None:
        raise Invalid(
            f"trunk {trunk.name!r} has no uri to dial", [("trunk", "has no uri: dial a sip: URI instead")]
        )
    if not is_diallable(number):
        raise Invalid("not a number", [("to", "must be a number of up to 64 characters, or a sip: URI")])
    known = _parsed(trunk.uri)
    return Destination(
        uri=f"sip:{escape_user(number)}@{known.host_port}",
        host=known.host,
        trunk=trunk.name,
        next_hop=trunk.uri,
        codecs=trunk.codecs,
    )


def _parsed(uri: str) -> SipUri:
    parsed = parse_sip(uri)
    if parsed is None:
        raise Invalid("not a sip: URI", [("to", "must be a sip: URI, as in sip:alice@192.0.2.1:5060")])
    return parsed


def _by_prefix(trunks: Any) -> list[tuple[Network, Trunk]]:
    pairs = [(network, trunk) for trunk in trunks for network in trunk.networks]
    return sorted(pairs, key=lambda pair: (pair[1] is DEVELOPMENT_TRUNK, -pair[0].prefixlen))


def _pattern(route: Route, field: str, pattern: str | None) -> re.Pattern[str] | None:
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise _fault(
            f"route {route.name!r}: match.{field}", f"is not a regular expression: {error}"
        ) from None


def _check(tables: Tables) -> None:
    _unique("trunk", [trunk.name for trunk in tables.trunks])
    _unique("route", [route.name for route in tables.routes])
    for trunk in tables.trunks:
        _check_trunk(trunk)
    names = {trunk.name: trunk for trunk in tables.trunks} | {DEVELOPMENT_TRUNK.name: DEVELOPMENT_TRUNK}
    for route in tables.routes:
        _check_route(route, names)


def _check_trunk(trunk: Trunk) -> None:
    where = f"trunk {trunk.name!r}"
    for address in trunk.addresses:
        try:
            ipaddress.ip_network(address)
        except ValueError as error:
            raise _fault(f"{where}: addresses", f"has {address!r}: {error}") from None
    if trunk.uri is not None and parse_sip(trunk.uri) is None:
        raise _fault(f"{where}: uri", "must be a sip: URI, as in sip:203.0.113.10:5060")
    if not trunk.codecs:
        raise _fault(f"{where}: codecs", f"must name at least one of {', '.join(ALL_CODECS)}")


def _check_route(route: Route, trunks: Mapping[str, Trunk]) -> None:
    where, target = f"route {route.name!r}", route.target
    if route.match.trunk is not None and route.match.trunk not in trunks:
        raise _fault(f"{where}: match.trunk", f"names {route.match.trunk!r}, which is no trunk")
    if sum(value is not None for value in (target.browser, target.trunk, target.uri, target.reject)) != 1:
        raise _fault(f"{where}: target", "must have exactly one of browser, trunk, uri and reject")
    if target.trunk is not None and (target.trunk not in trunks or trunks[target.trunk].uri is None):
        raise _fault(f"{where}: target.trunk", f"must name a trunk that has a uri, not {target.trunk!r}")
    if target.uri is not None and parse_sip(target.uri) is None:
        raise _fault(f"{where}: target.uri", "must be a sip: URI, as in sip:alice@192.0.2.1:5060")
    _pattern(route, "to", route.match.to)
    _pattern(route, "from", route.match.from_)


def _unique(kind: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise _fault(f"{kind} {name!r}", "is there twice")
        seen.add(name)


def _fault(where: str, what: str) -> ConfigError:
    return ConfigError("GATEWAY_CONFIG", f"{where} {what}")


_PATH = re.compile(r"(?P<what>.*?)(?: - at `(?:key in )?\$(?P<path>[^`]*)`)?", re.DOTALL)
_PLACE = re.compile(r"\.(?P<kind>trunk|route)s\[(?P<index>\d+)\](?:\.(?P<field>.*))?")


def _in_words(message: str, tables: Mapping[str, Any]) -> str:
    """A decoder's message (`... - at `$.routes[0].match``) with the table's own name in it."""
    found = _PATH.fullmatch(message)
    what, path = (found["what"], found["path"] or "") if found else (message, "")
    place = _PLACE.fullmatch(path)
    if place is None:
        return f"{path.removeprefix('.') or 'the file'}: {what}"
    row = tables[f"{place['kind']}s"][int(place["index"])]
    name = row.get("name") if isinstance(row, Mapping) else None
    label = f"{place['kind']} {name!r}" if name else f"{place['kind']} number {int(place['index']) + 1}"
    return f"{label}: {place['field']}: {what}" if place["field"] else f"{label}: {what}"
