"""The whole of gateway.toml: every key is known, every fault is found and named."""

import json
import tomllib
from typing import Any

import pytest

from telephony_gateway.calls.plan import read_plan
from telephony_gateway.calls.routing import Routing
from telephony_gateway.calls.trunks import Trunk, engine_row
from telephony_gateway.errors import ConfigError

EVERYTHING = """
[[trunks]]
name = "carrier-a"
addresses = ["203.0.113.0/24", "2001:db8::/32"]
uri = "sip:203.0.113.10:5061;transport=tls"
codecs = ["PCMA", "PCMU"]
transport = "tls"
local = "192.0.2.1"
advertise = "gw.example.com"
tls = { ca_file = "ca.pem", cert_file = "gw.pem", key_file = "gw.key", verify = true }
username = "gw"
password_env = "CARRIER_A_PASSWORD"
realm = "carrier.example.com"
register = true
registrar = "sip:reg.example.com"
register_expires = 600
contact_user = "74951234567"
inbound_auth = true
"100rel" = "require"
ringback = "eu"
session_timer = "off"
session_expires = 900
min_se = 120
dtmf = "info"
replaces = ["phones"]
transfer = "pass"
trusted = true
privacy = "id"
headers = ["X-*", "User-to-User"]
caller_id = { policy = "replace", number = "+74951234567", name = "Sales" }
strip = 1
prepend = "+7"
incoming = { strip = 2, prepend = "8" }
ring_timeout = 25
patience = 2.5
max_cps = 10
max_calls = 100
probe = 30
rewrite_contact = true

[trunks.stir]
sign = true
attestation = "A"
verify = "annotate"
key_file = "k.pem"
certificate_url = "https://c.example.com/c.pem"
ca_file = "ca.pem"
allow = ["c.example.com", "*.d.example.com"]

[[trunks]]
name = "carrier-b"
uri = "sip:198.51.100.1"

[[users]]
name = "alice"
password_env = "ALICE_PASSWORD"
display = "Alice"
max_contacts = 3

[[users]]
name = "bob"
ha1_env = "BOB_HA1"

[[routes]]
name = "out"
match = { to = "^9" }
target = { trunks = [{ trunk = "carrier-a", weight = 10 }, { trunk = "carrier-b", priority = 2 }] }

[[routes]]
name = "team"
target.ring = { targets = [{ user = "alice" }, { browser = "sales" }], strategy = "parallel", timeout = 15 }

[[routes]]
name = "bob"
target = { user = "bob" }
"""
SECRETS = {"CARRIER_A_PASSWORD": "a", "ALICE_PASSWORD": "b", "BOB_HA1": "c"}


def faults(tables: dict[str, Any], environ: dict[str, str] | None = None) -> list[str]:
    return [str(fault) for fault in read_plan(tables, environ)[1]]


def of_trunk(**keys: Any) -> list[str]:
    return faults({"trunks": [{"name": "t", **keys}]})


def test_every_key_is_known() -> None:
    tables = tomllib.loads(EVERYTHING)
    plan, wrong = read_plan(tables, SECRETS)
    assert wrong == []
    trunk = plan.trunks[0]
    assert (trunk.reliable, trunk.caller_id.number, trunk.stir.allow) == (
        "require",
        "+74951234567",
        ("c.example.com", "*.d.example.com"),
    )
    assert set(Trunk.__struct_encode_fields__) == tables["trunks"][0].keys()
    assert plan.users[0].max_contacts == 3
    choices = plan.routes[0].target.trunks
    assert choices is not None
    assert [choice.weight for choice in choices] == [10, 1]


def test_all_faults_are_listed_at_once() -> None:
    found = faults(
        {
            "trunk": [],
            "trunks": [
                {"name": "a", "adresses": ["x"], "uri": "nonsense", "max_cps": -1, "tls": {"verfy": True}},
                {"addresses": ["300.0.0.1"], "name": "b", "dtmf": "inband"},
                5,
            ],
            "routes": [{"name": "r", "match": {"trunk": "zz", "to": "("}, "target": {"trunk": "b"}}],
            "users": [{"name": "u"}],
        }
    )
    for words in (
        "trunk: is no table of this file",
        "trunk 'a': adresses: is no key of this table: did you mean addresses?",
        "trunk 'a': max_cps: must be",
        "trunk 'a': tls.verfy: is no key of this table: did you mean verify?",
        "trunk 'b': dtmf: must be rfc4733 or info, not 'inband'",
        "trunk number 3: must be a table, not 5",
        "route 'r': match.trunk: names 'zz', which is no trunk",
        "route 'r': match.to: is not a regular expression",
        "user 'u': password_env: must be there, or else ha1_env",
    ):
        assert any(fault.startswith(words) for fault in found), (words, found)
    # A trunk that is there, though wrong, is not missed by its routes.
    assert not any("target.trunk" in fault for fault in found)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"addresses": ["fe80::1%eth0"]}, "addresses: has 'fe80::1%eth0': leave out the zone"),
        ({"addresses": ["::fffe:0:0/95"]}, "addresses: has '::fffe:0:0/95': write IPv4 networks as such"),
        ({"transport": "sctp"}, "transport: must be udp, tcp or tls, not 'sctp'"),
        ({"transport": "tcp", "uri": "sip:a.example;transport=TLS"}, "transport: is tcp, but uri says"),
        ({"local": "eth0"}, "local: must be an IP address"),
        ({"advertise": "-x-"}, "advertise: must be an IP address or a host name"),
        ({"tls": {"cert_file": "a"}}, "tls: must have both cert_file and key_file"),
        ({"username": "u"}, "password_env: is missing"),
        ({"password_env": "P"}, "username: is missing"),
        ({"username": "u", "password_env": "my secret"}, "password_env: must be the name"),
        ({"username": 'u"', "password_env": "P"}, "username: must be printable"),
        ({"register": True}, "register: needs a registrar or a uri"),
        ({"register": True, "uri": "sip:a.example"}, "register: needs a username"),
        ({"registrar": "http://x"}, "registrar: must be a sip: URI"),
        ({"register_expires": 5}, "register_expires: must be a whole number >= 60"),
        ({"contact_user": "a b"}, "contact_user: must be a number"),
        ({"inbound_auth": True}, "inbound_auth: needs a username"),
        ({"session_expires": 100, "min_se": 200}, "session_expires: must be at least min_se, 200"),
        ({"min_se": 30}, "min_se: must be a whole number >= 90"),
        ({"100rel": "yes"}, "100rel: must be off, supported or require"),
        ({"headers": ["Via"]}, "headers: has 'Via', which the gateway writes itself"),
        ({"headers": ["X -"]}, "headers: has 'X -': must be"),
        ({"caller_id": {"policy": "replace"}}, "caller_id: needs a number"),
        ({"caller_id": {"number": "a b"}}, "caller_id.number: must be a number"),
        ({"prepend": "a b"}, "prepend: must be digits"),
        ({"strip": 99}, "strip: must be a whole number <= 32"),
        ({"max_calls": 0}, "max_calls: must be a whole number >= 1"),
        ({"probe": 30}, "probe: needs a uri"),
        ({"stir": {"sign": True}}, "stir.sign: needs key_file and certificate_url"),
        ({"stir": {"certificate_url": "http://x"}}, "stir.certificate_url: must be an https: URL"),
        ({"stir": {"allow": ["a b"]}}, "stir.allow: has 'a b'"),
        ({"name": "a/b"}, "name: must be letters, digits"),
        ({"name": "phones"}, "name: is what calls of users' phones come by"),
        ({"patience": 0}, "patience: must be a number >= 0.5"),
        ({"codecs": ["PCMU", "PCMU"]}, "codecs: must name"),
    ],
)
def test_a_wrong_trunk_says_where_and_what(keys: dict[str, Any], words: str) -> None:
    found = of_trunk(**keys)
    assert any(words in fault for fault in found), found


def test_mapped_networks_are_those_of_ipv4() -> None:
    addresses = ["::ffff:203.0.113.0/120", "::ffff:0:0/96", "2001:db8::/32", "::/0"]
    assert of_trunk(addresses=addresses) == []
    trunk = Trunk(name="t", addresses=tuple(addresses))
    seen = ["203.0.113.0/24", "0.0.0.0/0", "2001:db8::/32", "::/0"]
    assert engine_row(trunk, {})["addresses"] == seen


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"trunks": []}, "target.trunks: must be 1 to 16"),
        ({"trunks": [{"trunk": "zz"}]}, "target.trunks[0].trunk: must name a trunk"),
        ({"trunks": [{"trunk": "t"}]}, "target.trunks[0].trunk: must name a trunk that has a uri, which 't'"),
        ({"trunks": [{"trunk": "t", "prio": 1}]}, "target.trunks[0].prio: is no key"),
        ({"trunks": "t"}, "target.trunks: must be a list of tables"),
        ({"user": "nobody"}, "target.user: names 'nobody', which is no user"),
        ({"ring": {"targets": []}}, "target.ring.targets: must be 1 to 16"),
        ({"ring": {"targets": [{}]}}, "target.ring.targets[0]: must have exactly one"),
        ({"ring": {"targets": [{"uri": "x"}]}}, "target.ring.targets[0].uri: must be a sip: URI"),
        ({"ring": {}}, "target.ring.targets: is missing"),
        ({"user": "a", "browser": "b"}, "target: must have exactly one"),
    ],
)
def test_a_wrong_route_says_where_and_what(target: dict[str, Any], words: str) -> None:
    found = faults({"trunks": [{"name": "t"}], "routes": [{"name": "r", "target": target}]})
    assert any(words in fault for fault in found), found


def test_a_missing_secret_is_a_fault_where_there_is_an_environment() -> None:
    tables = tomllib.loads(EVERYTHING)
    assert faults(tables) == []
    found = faults(tables, {"ALICE_PASSWORD": "b", "BOB_HA1": ""})
    assert found == [
        "trunk 'carrier-a': password_env: names CARRIER_A_PASSWORD, which the environment does not have: "
        "set it to the secret",
        "user 'bob': ha1_env: names BOB_HA1, which the environment does not have: set it to the secret",
    ]
    with pytest.raises(ConfigError, match=r"CARRIER_A_PASSWORD.*\(and 1 more"):
        Routing.from_tables(tables, development=False, environ={"ALICE_PASSWORD": "b"})


def test_numbers_are_rewritten_for_the_trunk() -> None:
    trunk = Trunk(name="t", strip=1, prepend="+7")
    assert trunk.dialled("84951234567") == "+74951234567"
    routing = Routing.from_tables(
        {"trunks": [{"name": "t", "uri": "sip:h.example", "strip": 1, "prepend": "00"}]}, development=False
    )
    assert routing.destination("+491", "t").uri == "sip:00491@h.example"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"max_cps": "ten"}, "max_cps: must be a number, got text"),
        ({"max_calls": 1.5}, "max_calls: must be a whole number, got a number"),
        ({"register": "yes"}, "register: must be true or false, got text"),
        ({"addresses": "192.0.2.1"}, "addresses: must be a list, got text"),
        ({"max_cps": 0}, "max_cps: must be a number >= 0.1"),
    ],
)
def test_kinds_are_told_in_words(keys: dict[str, Any], words: str) -> None:
    (found,) = faults({"trunks": [{"name": "a", **keys}]})
    assert words in found


def test_who_has_no_uri_is_asked_in_the_gateways_own_realm() -> None:
    row = {"name": "pbx", "addresses": ["192.0.2.1/32"], "inbound_auth": True}
    row |= {"username": "pbx", "password_env": "PBX_PASSWORD"}
    routing = Routing.from_tables({"trunks": [row]}, development=False, environ={"PBX_PASSWORD": "secret"})
    (told,) = json.loads(routing.engine_document)
    assert told["guard"] == {"username": "pbx", "password": "secret", "realm": "telephony-gateway"}


def test_only_a_trunk_that_wants_info_says_so_to_the_engine() -> None:
    rows = [{"name": name, "uri": "sip:h.example", "dtmf": name} for name in ("info", "rfc4733")]
    routing = Routing.from_tables({"trunks": rows}, development=False)
    assert [row.get("dtmf") for row in json.loads(routing.engine_document)] == ["info", None]


def test_a_secret_in_the_place_of_its_variables_name_is_told_to_nobody() -> None:
    trunk = {"name": "t", "uri": "sip:192.0.2.1", "username": "u"}
    for written, shown in (
        ("hunter2", "a variable"),
        ("CARRIER_A", "CARRIER_A"),
        ("s3cret word", "must be the name"),
    ):
        (fault,) = faults({"trunks": [trunk | {"password_env": written}]}, {})
        assert shown in fault
        assert (written in fault) == (written == "CARRIER_A")


@pytest.mark.parametrize(
    ("tables", "found"),
    [
        (
            {"trunks": [{"name": "t", "max_calls": "many", "addresses": ["nowhere"]}]},
            ["trunk 't': max_calls: ", "trunk 't': addresses: has 'nowhere'"],
        ),
        (
            {"trunks": [{"name": "t", "uri": 7, "probe": 5, "advertise": "a b"}]},
            ["trunk 't': uri: ", "trunk 't': advertise: "],
        ),
        (
            {"trunks": [{"name": "t", "username": 7, "password_env": "not a name", "inbound_auth": True}]},
            ["trunk 't': username: ", "trunk 't': password_env: must be the name"],
        ),
        (
            {"trunks": [{"name": "t", "incoming": {"prepend": 5}, "prepend": "#?"}]},
            ["trunk 't': incoming.prepend: ", "trunk 't': prepend: "],
        ),
        (
            {"routes": [{"name": "r", "target": {"reject": "no"}, "match": {"to": "(", "trunk": "x"}}]},
            ["route 'r': target.reject: ", "route 'r': match.trunk: names 'x'", "route 'r': match.to: "],
        ),
        (
            {"users": [{"name": "u", "max_contacts": 0}]},
            ["user 'u': max_contacts: ", "user 'u': password_env: must be there"],
        ),
        (
            {"users": [{"name": 7, "max_contacts": 0}]},
            ["user number 1: name: ", "user number 1: max_contacts: "],
        ),
        ({"routes": ["r"]}, ["route number 1: must be a table"]),
    ],
)
def test_a_key_that_cannot_be_read_hides_no_other_fault(tables: dict[str, Any], found: list[str]) -> None:
    said = faults(tables)
    assert len(said) == len(found), said
    for fault, begins in zip(said, found, strict=True):
        assert fault.startswith(begins)
