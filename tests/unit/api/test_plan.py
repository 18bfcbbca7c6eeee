"""Trunks and routes by REST: live, ordered, versioned, and never at odds with each other or with the file."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from telephony_gateway.calls.ports import Target
from tests.unit.api.world import World, world

FILE: dict[str, Any] = {
    "trunks": [{"name": "old", "addresses": ["192.0.2.0/24"], "uri": "sip:192.0.2.1"}],
    "routes": [{"name": "rest", "target": {"reject": 404}}],
    "users": [{"name": "alice", "password_env": "SECRET", "display": "Alice"}],
}
CARRIER = {"name": "carrier", "addresses": ["203.0.113.0/24"], "uri": "sip:203.0.113.10", "max_cps": 10}
SALES = {"name": "sales", "match": {"trunk": "carrier"}, "target": {"browser": "sales"}}


@pytest.fixture
async def gateway() -> AsyncIterator[World]:
    async with world(FILE) as running:
        yield running


async def spaces() -> AsyncIterator[bytes]:
    for _ in range(110):
        yield b" " * 10_000


async def names(gateway: World, of: str) -> list[str]:
    return [item["name"] for item in (await gateway.json("GET", f"/api/v1/{of}", 200))["items"]]


async def test_a_trunk_lives_and_dies_without_a_restart(gateway: World) -> None:
    made = await gateway.json("POST", "/api/v1/trunks", 201, json=CARRIER)
    assert (made["managed_by"], made["version"], made["max_cps"], made["faults"]) == ("api", 1, 10, [])
    assert gateway.engine.commands[-1][0] == "set_trunks"
    assert b"carrier" in gateway.engine.commands[-1][1]
    assert await names(gateway, "trunks") == ["old", "carrier"]
    call = await gateway.json("POST", "/api/v1/calls", 201, json={"to": "100", "trunk": "carrier"})
    assert call["trunk"] == "carrier"
    await gateway.json("DELETE", "/api/v1/trunks/carrier", 204)
    documents = [command[1] for command in gateway.engine.commands if command[0] == "set_trunks"]
    assert b"carrier" not in documents[-1]
    await gateway.json("GET", "/api/v1/trunks/carrier", 404)
    await gateway.json("POST", "/api/v1/calls", 422, json={"to": "100", "trunk": "carrier"})
    # The call that ran keeps what it was given.
    assert (await gateway.json("GET", f"/api/v1/calls/{call['id']}", 200))["trunk"] == "carrier"


async def test_a_trunk_shows_its_targets(gateway: World) -> None:
    def target(trunk: str, state: str) -> Target:
        return Target(
            trunk=trunk, transport="udp", address="192.0.2.1:5060", state=state, last_rtt=0.25, failures=2
        )

    gateway.engine.known_targets = [target("old", "down"), target("other", "up")]
    seen = await gateway.json("GET", "/api/v1/trunks/old", 200)
    assert seen["targets"] == [
        {"transport": "udp", "address": "192.0.2.1:5060", "state": "down", "last_rtt": 0.25, "failures": 2}
    ]


async def test_versions_guard_against_lost_changes(gateway: World) -> None:
    await gateway.json("POST", "/api/v1/trunks", 201, json=CARRIER)
    async with gateway.http.get("/api/v1/trunks/carrier") as response:
        tag = response.headers["ETag"]
        seen = await response.json()
    changed = await gateway.json(
        "PATCH", "/api/v1/trunks/carrier", 200, json={"max_calls": 5}, headers={"If-Match": tag}
    )
    assert (changed["max_calls"], changed["max_cps"], changed["version"]) == (5, 10, 2)
    late = await gateway.json("PUT", "/api/v1/trunks/carrier", 412, json=seen, headers={"If-Match": tag})
    assert "at version 2" in late["detail"]
    # What was read may be sent back as it is.
    same = await gateway.json("PUT", "/api/v1/trunks/carrier", 200, json=changed)
    assert (same["version"], same["max_calls"]) == (3, 5)
    plain = await gateway.json("PATCH", "/api/v1/trunks/carrier", 200, json={"max_calls": None})
    assert plain["max_calls"] is None
    await gateway.json("DELETE", "/api/v1/trunks/carrier", 412, headers={"If-Match": '"1"'})
    await gateway.json("DELETE", "/api/v1/trunks/carrier", 422, headers={"If-Match": "1"})
    await gateway.json("DELETE", "/api/v1/trunks/carrier", 204, headers={"If-Match": "*"})
    await gateway.json("PUT", "/api/v1/trunks/carrier", 412, json=CARRIER, headers={"If-Match": '"4"'})
    assert (await gateway.json("PUT", "/api/v1/trunks/carrier", 201, json=CARRIER))["version"] == 6


async def test_the_version_of_a_compressed_body_guards_alike(gateway: World) -> None:
    many = [f"198.51.{number}.0/24" for number in range(100)]
    await gateway.json("POST", "/api/v1/trunks", 201, json={**CARRIER, "addresses": many})
    async with gateway.http.get("/api/v1/trunks/carrier", headers={"Accept-Encoding": "gzip"}) as response:
        tag = response.headers["ETag"]
    assert tag == 'W/"1"'
    for status in (200, 412):
        await gateway.json(
            "PATCH", "/api/v1/trunks/carrier", status, json={"max_calls": 5}, headers={"If-Match": tag}
        )


async def test_routes_have_an_explicit_order(gateway: World) -> None:
    await gateway.json("POST", "/api/v1/trunks", 201, json=CARRIER)
    for name, place in (
        ("b", {}),
        ("d", {}),
        ("a", {"before": "b"}),
        ("c", {"after": "b"}),
        ("e", {"position": 9}),
    ):
        await gateway.json("POST", "/api/v1/routes", 201, json={**SALES, "name": name, **place})
    assert await names(gateway, "routes") == ["a", "b", "c", "d", "e", "rest"]
    moved = await gateway.json("PATCH", "/api/v1/routes/e", 200, json={"position": 1})
    assert moved["position"] == 1
    assert await names(gateway, "routes") == ["e", "a", "b", "c", "d", "rest"]
    # Who made room keeps its version: its meaning is the same.
    assert (await gateway.json("GET", "/api/v1/routes/a", 200))["version"] == 4
    for place in ({"before": "nobody"}, {"position": 0}, {"before": "a", "after": "b"}, {"position": "x"}):
        await gateway.json("PATCH", "/api/v1/routes/e", 422, json=place)


async def test_routes_of_the_api_come_before_those_of_the_file(gateway: World) -> None:
    gateway.invite(leg=1)
    assert gateway.engine.commands[-1] == ("reject", 1, 404)
    busy = {"name": "busy", "target": {"reject": 486}}
    await gateway.json("POST", "/api/v1/routes", 201, json=busy)
    gateway.invite(leg=2, sip_call_id="second")
    assert gateway.engine.commands[-1] == ("reject", 2, 486)
    await gateway.json("DELETE", "/api/v1/routes/busy", 204)
    gateway.invite(leg=3, sip_call_id="third")
    assert gateway.engine.commands[-1] == ("reject", 3, 404)


async def test_a_trunk_that_a_route_names_stays(gateway: World) -> None:
    await gateway.json("POST", "/api/v1/trunks", 201, json=CARRIER)
    out = {"name": "out", "target": {"trunks": [{"trunk": "carrier"}, {"trunk": "old"}]}}
    await gateway.json("POST", "/api/v1/routes", 201, json=out)
    refused = await gateway.json("DELETE", "/api/v1/trunks/carrier", 409)
    assert "'out'" in refused["detail"]
    refused = await gateway.json("PATCH", "/api/v1/trunks/carrier", 422, json={"uri": None})
    assert "route 'out'" in refused["detail"]
    await gateway.json("DELETE", "/api/v1/routes/out", 204)
    await gateway.json("DELETE", "/api/v1/trunks/carrier", 204)


async def test_what_the_file_manages_is_the_files(gateway: World) -> None:
    assert (await gateway.json("GET", "/api/v1/trunks/old", 200))["managed_by"] == "file"
    for method in ("PUT", "PATCH", "DELETE"):
        refused = await gateway.json(method, "/api/v1/trunks/old", 409, json={})
        assert "gateway.toml" in refused["detail"]
    await gateway.json("DELETE", "/api/v1/routes/rest", 409)
    await gateway.json("POST", "/api/v1/trunks", 409, json={"name": "old"})


@pytest.mark.parametrize(
    ("path", "body", "paths"),
    [
        ("trunks", {"name": "t", "adresses": [], "max_cps": 0, "dtmf": "x"}, ["adresses", "dtmf", "max_cps"]),
        ("trunks", {}, ["name"]),
        ("trunks", {"name": "t", "addresses": ["x"]}, ["trunk 't': addresses"]),
        ("trunks", {"name": "t", "username": "u", "password_env": "NOT_THERE"}, ["trunk 't': password_env"]),
        ("trunks", {"name": "a/b"}, ["trunk 'a/b': name"]),
        ("trunks", {"name": "t", "uri": "sip:a\x1b@192.0.2.1"}, ["trunk 't': uri"]),
        ("trunks", {"name": "t", "uri": "sip:a\0@192.0.2.1", "headers": ["X-\0"]}, ["uri", "headers"]),
        ("trunks", {"name": "t", "tls": {"ca_file": "a\0"}}, ["tls.ca_file"]),
        (
            "routes",
            {"name": "r", "match": {"to": "\x1b"}, "target": {"reject": 404}},
            ["route 'r': match.to"],
        ),
        ("routes", {"name": "r", "match": {"to": "1\0"}, "target": {"reject": 404}}, ["match.to"]),
        ("routes", {"name": "r", "target": {"trunk": "nobody"}}, ["route 'r': target.trunk"]),
        ("routes", {"name": "r", "target": {"reject": 200}}, ["target.reject"]),
        ("routes", {"name": "r", "match": {"to": "("}, "target": {"reject": 404}}, ["route 'r': match.to"]),
    ],
)
async def test_every_fault_is_named(gateway: World, path: str, body: Any, paths: list[str]) -> None:
    refused = await gateway.json("POST", f"/api/v1/{path}", 422, json=body)
    assert [error["path"] for error in refused["errors"]] == paths
    await gateway.json("GET", f"/api/v1/{path}/{body.get('name', 'x').replace('/', '%2F')}", 404)


async def test_secrets_are_neither_kept_nor_shown(gateway: World) -> None:
    made = await gateway.json(
        "POST", "/api/v1/trunks", 201, json={**CARRIER, "username": "u", "password_env": "SECRET"}
    )
    assert made["password_env"] == "SECRET"
    told = await gateway.json("GET", "/api/v1/trunks", 200), await gateway.json("GET", "/api/v1/users", 200)
    assert "hidden-word" not in str(told)
    assert [user["name"] for user in told[1]["items"]] == ["alice"]


async def test_a_plan_is_applied_whole_or_not_at_all(gateway: World) -> None:
    plan: dict[str, Any] = {"trunks": [FILE["trunks"][0], CARRIER], "routes": [SALES]}
    tried = await gateway.json("PUT", "/api/v1/plan?dry_run=true", 200, json=plan)
    assert (tried["dry_run"], tried["trunks"]["created"], tried["routes"]["created"]) == (
        True,
        ["carrier"],
        ["sales"],
    )
    assert await names(gateway, "trunks") == ["old"]
    await gateway.json("PUT", "/api/v1/plan", 200, json=plan)
    assert await names(gateway, "routes") == ["sales", "rest"]
    again = await gateway.json("PUT", "/api/v1/plan", 200, json=plan)
    assert again["trunks"] == {"created": [], "changed": [], "removed": [], "unchanged": ["carrier"]}
    changed = {**CARRIER, "max_cps": 20}
    other = {"name": "busy", "target": {"reject": 486}}
    diff = await gateway.json(
        "PUT", "/api/v1/plan", 200, json={"trunks": [changed], "routes": [other, SALES]}
    )
    assert (diff["trunks"]["changed"], diff["routes"]["created"]) == (["carrier"], ["busy"])
    assert await names(gateway, "routes") == ["busy", "sales", "rest"]
    diff = await gateway.json(
        "PUT", "/api/v1/plan", 200, json={"trunks": [changed], "routes": [SALES, other]}
    )
    assert diff["reordered"]
    assert await names(gateway, "routes") == ["sales", "busy", "rest"]
    bad = {"trunks": [{"name": "new"}], "routes": [{"name": "r", "target": {"trunk": "new"}}, {"nam": 1}]}
    refused = await gateway.json("PUT", "/api/v1/plan", 422, json=bad)
    assert len(refused["errors"]) == 4
    assert await names(gateway, "trunks") == ["old", "carrier"]
    diff = await gateway.json("PUT", "/api/v1/plan", 200, json={})
    assert (diff["trunks"]["removed"], diff["routes"]["removed"]) == (["carrier"], ["sales", "busy"])


async def test_an_applied_plan_leaves_the_file_alone(gateway: World) -> None:
    foreign = {"trunks": [{"name": "old", "addresses": ["198.51.100.0/24"]}]}
    refused = await gateway.json("PUT", "/api/v1/plan", 422, json=foreign)
    assert "gateway.toml" in refused["detail"]
    await gateway.json(
        "PUT", "/api/v1/plan", 422, json={"users": [{"name": "bob", "password_env": "SECRET"}]}
    )
    mine = {"routes": [{"name": "r", "target": {"trunk": "old"}}], "users": FILE["users"]}
    assert (await gateway.json("PUT", "/api/v1/plan", 200, json=mine))["routes"]["created"] == ["r"]
    await gateway.json(
        "PUT", "/api/v1/plan", 413, data=spaces(), headers={"Content-Type": "application/json"}
    )
