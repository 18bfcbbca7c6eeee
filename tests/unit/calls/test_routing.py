"""Trunks and routes: who may call, where a call goes, and what a wrong table says."""

from typing import Any

import pytest

from telephony_gateway.calls.routing import DEVELOPMENT_ROUTE, DEVELOPMENT_TRUNK, Routing, Target
from telephony_gateway.errors import ConfigError, Forbidden, Invalid, TrunkNotFound

TABLES: dict[str, Any] = {
    "trunks": [
        {"name": "wide", "addresses": ["203.0.113.0/24", "2001:db8::/32"]},
        {"name": "narrow", "addresses": ["203.0.113.7"], "uri": "sip:203.0.113.7:5080", "codecs": ["opus"]},
    ],
    "routes": [
        {"name": "sales", "match": {"trunk": "wide", "to": r"^\+7495"}, "target": {"browser": "sales"}},
        {"name": "vip", "match": {"from": "^1$"}, "target": {"trunk": "narrow"}},
        {"name": "rest", "target": {"reject": 404}},
    ],
}


@pytest.fixture
def routing() -> Routing:
    return Routing.from_tables(TABLES, development=False)


@pytest.mark.parametrize(
    ("source", "trunk"),
    [
        ("203.0.113.1", "wide"),
        ("203.0.113.7", "narrow"),
        ("::ffff:203.0.113.7", "narrow"),
        ("2001:db8::5", "wide"),
        ("127.0.0.1", None),
        ("nonsense", None),
    ],
)
def test_the_narrowest_trunk_of_an_address(routing: Routing, source: str, trunk: str | None) -> None:
    found = routing.trunk_of(source)
    assert (found.name if found else None) == trunk


@pytest.mark.parametrize(
    ("trunk", "to", "from_", "route"),
    [
        ("wide", "+74951234567", "2", "sales"),
        ("narrow", "+74951234567", "2", "rest"),
        ("wide", "8", "1", "vip"),
        ("wide", "8", "11", "rest"),
    ],
)
def test_the_first_route_that_matches(routing: Routing, trunk: str, to: str, from_: str, route: str) -> None:
    found = routing.route(trunk=trunk, to=to, from_=from_)
    assert found is not None
    assert found.name == route


def test_production_has_only_what_is_named() -> None:
    bare = Routing.from_tables({}, development=False)
    assert bare.trunk_of("127.0.0.1") is None
    assert bare.route(trunk="development", to="1", from_="2") is None
    with pytest.raises(Forbidden):
        bare.destination("sip:a@127.0.0.1")


@pytest.mark.parametrize(
    "source", ["127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "::1", "fe80::1%eth0"]
)
def test_development_takes_private_callers_and_rings_everyone(source: str) -> None:
    bare = Routing.from_tables({}, development=True)
    assert bare.trunk_of(source) is DEVELOPMENT_TRUNK
    assert bare.route(trunk="development", to="1", from_="2") is DEVELOPMENT_ROUTE
    assert bare.trunk_of("203.0.113.1") is None


def test_in_development_the_files_own_trunks_come_first() -> None:
    wide = Routing.from_tables({"trunks": [{"name": "all", "addresses": ["0.0.0.0/0"]}]}, development=True)
    found = wide.trunk_of("127.0.0.1")
    assert found is not None
    assert found.name == "all"


def test_destinations(routing: Routing) -> None:
    by_trunk = routing.destination("*100#", "narrow")
    assert (by_trunk.uri, by_trunk.next_hop) == ("sip:*100%23@203.0.113.7:5080", "sip:203.0.113.7:5080")
    assert by_trunk.codecs == ("opus",)
    direct = routing.destination("sip:bob@203.0.113.9")
    assert (direct.uri, direct.trunk) == ("sip:bob@203.0.113.9", "wide")
    assert routing.forward(Target(trunk="narrow"), "5").uri == "sip:5@203.0.113.7:5080"
    assert routing.forward(Target(uri="sip:x@192.0.2.1"), "5").uri == "sip:x@192.0.2.1"
    with pytest.raises(TrunkNotFound):
        routing.destination("1", "nobody")
    for to, trunk in (("1", None), ("1", "wide"), ("a b", "narrow"), ("sip:@", None)):
        with pytest.raises(Invalid):
            routing.destination(to, trunk)


def test_a_number_that_is_stripped_away_is_not_dialled() -> None:
    routing = Routing.from_tables(
        {"trunks": [{"name": "out", "uri": "sip:192.0.2.1", "strip": 3}]}, development=False
    )
    assert routing.destination("1234", "out").uri == "sip:4@192.0.2.1"
    with pytest.raises(Invalid) as refused:
        routing.destination("123", "out")
    assert refused.value.errors == [("to", "trunk 'out' strips all of it")]


def test_development_dials_any_uri() -> None:
    bare = Routing.from_tables({}, development=True)
    assert bare.destination("sip:a@198.18.0.1:5070").trunk is None


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"trunk": []}, ["trunk"]),
        ({"trunks": [{"name": "a", "adresses": []}]}, ["trunk 'a'", "adresses"]),
        ({"trunks": [{"addresses": []}]}, ["trunk number 1", "name"]),
        ({"trunks": [{"name": "a", "addresses": ["1.2.3.4/8"]}]}, ["trunk 'a'", "addresses", "1.2.3.4/8"]),
        ({"trunks": [{"name": "a", "uri": "203.0.113.1"}]}, ["trunk 'a'", "uri"]),
        ({"trunks": [{"name": "a", "codecs": ["G729"]}]}, ["trunk 'a'", "codecs", "G729"]),
        ({"trunks": [{"name": "a", "codecs": []}]}, ["trunk 'a'", "codecs"]),
        ({"trunks": [{"name": "a"}, {"name": "a"}]}, ["trunk 'a'", "twice"]),
        ({"trunks": 5}, ["trunks"]),
        ({"routes": [{"name": "r", "target": {"reject": 200}}]}, ["route 'r'", "target.reject"]),
        ({"routes": [{"name": "r", "target": {}}]}, ["route 'r'", "target", "exactly one"]),
        (
            {"routes": [{"name": "r", "target": {"browser": "a", "reject": 404}}]},
            ["route 'r'", "exactly one"],
        ),
        ({"routes": [{"name": "r", "target": {"trunk": "no"}}]}, ["route 'r'", "target.trunk", "no"]),
        ({"routes": [{"name": "r", "target": {"uri": "no"}}]}, ["route 'r'", "target.uri"]),
        (
            {"routes": [{"name": "r", "match": {"trunk": "x"}, "target": {"reject": 404}}]},
            ["match.trunk", "x"],
        ),
        ({"routes": [{"name": "r", "match": {"to": "("}, "target": {"reject": 404}}]}, ["'r'", "match.to"]),
        ({"routes": [{"name": "r", "match": {"from": "["}, "target": {"reject": 404}}]}, ["match.from"]),
        ({"routes": [{"name": "r", "match": {"to": "a" * 300}, "target": {"reject": 404}}]}, ["match.to"]),
        (
            {"routes": [{"name": "r", "match": {"t": "1"}, "target": {"reject": 404}}]},
            ["route 'r'", "match.t", "did you mean to?"],
        ),
        ({"routes": ["r"]}, ["route number 1"]),
    ],
)
def test_a_wrong_table_names_itself(tables: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        Routing.from_tables(tables, development=True)
    assert caught.value.setting == "GATEWAY_CONFIG"
    for word in words:
        assert word in caught.value.message


SECURE: dict[str, Any] = {
    "trunks": [
        {"name": "open", "uri": "sip:open.example:5080"},
        {"name": "named", "uri": "sip:named.example;transport=TLS"},
        {"name": "wished", "uri": "sip:wished.example", "transport": "tls"},
        {"name": "secure", "uri": "sips:secure.example"},
        {"name": "called", "addresses": ["192.0.2.7"]},
    ]
}


@pytest.mark.parametrize(
    ("to", "trunk", "next_hop"),
    [
        ("sips:bob@open.example", None, "sips:open.example"),
        ("sips:bob@open.example:5071;maddr=192.0.2.66", None, "sips:open.example:5071"),
        ("sip:bob@open.example", None, "sip:open.example:5080"),
        ("sips:bob@elsewhere.example", "named", "sip:named.example;transport=TLS"),
        ("sips:bob@elsewhere.example", "wished", "sip:wished.example"),
        ("sips:bob@elsewhere.example", "secure", "sips:secure.example"),
        ("sips:bob@192.0.2.7", "called", None),
    ],
)
def test_a_sips_uri_is_called_by_tls_only(to: str, trunk: str | None, next_hop: str | None) -> None:
    found = Routing.from_tables(SECURE, development=False).destination(to, trunk)
    assert (found.uri, found.next_hop) == (to, next_hop)


def test_a_sips_uri_cannot_be_called_by_a_trunk_without_tls() -> None:
    with pytest.raises(Invalid) as refused:
        Routing.from_tables(SECURE, development=False).destination("sips:bob@elsewhere.example", "open")
    assert refused.value.errors[0][0] == "trunk"


@pytest.mark.parametrize("to", ["sip:bob@open.example?Replaces=1", "sips:bob@secure.example?X=%0d%0aVia:x"])
def test_a_called_uri_brings_no_header_fields(to: str) -> None:
    with pytest.raises(Invalid, match="not a place to call"):
        Routing.from_tables(SECURE, development=False).destination(to)
