"""Calls that the engine sent on by the plain part of the plan, and what that part is."""

import asyncio
import json
import re
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telephony_gateway.calls import plain
from telephony_gateway.calls.events import Forwarded
from telephony_gateway.calls.patterns import everywhere, fault_of
from telephony_gateway.calls.plan import Plan
from telephony_gateway.calls.policy import Policy
from telephony_gateway.calls.routing import Routing
from tests.unit.calls.world import World, settle

NUMBERS = st.text("0123456789+*#._-abAB", max_size=12)
PIECES = [
    "1",
    r"\d",
    r"\.",
    "[0-4]",
    "[^5a]",
    r"[\w+]",
    ".",
    "(?:12|3)",
    "(4)",
    "(?P<n>6|)",
    "^",
    "$",
    r"\A",
    r"\Z",
]
REPEATS = ["", "", "", "?", "*", "+", "{2}", "{1,3}", "{2,}", "*?"]


def document(tables: dict[str, Any], **policy: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        plain.document(Routing.from_tables(tables, development=False), Policy(**policy))
    )
    return found


def way(trunk: dict[str, Any], route: dict[str, Any] | None = None, **policy: Any) -> dict[str, Any] | None:
    """The way of a route to this trunk."""
    out = {"name": "out", "uri": "sip:192.0.2.1", **trunk}
    routes = [{"name": "r", "target": {"trunk": "out"}, **(route or {})}]
    found: dict[str, Any] | None = document({"trunks": [out], "routes": routes}, **policy)["routes"][0]["way"]
    return found


def test_a_way_says_all_that_a_dial_needs() -> None:
    trunk = {
        "uri": "sip:[2001:db8::1]:5080",
        "strip": 1,
        "prepend": "00",
        "codecs": ["PCMA"],
        "ring_timeout": 9,
    }
    assert way(trunk, {"ring_timeout": 20}, from_host="gw.example") == {
        "trunk": "out", "scheme": "sip", "host": "[2001:db8::1]:5080", "next_hop": "sip:[2001:db8::1]:5080",
        "address": "[2001:db8::1]:5080", "from_host": "gw.example", "strip": 1, "prepend": "00",
        "codecs": ["PCMA"], "timeout": 9,
    }  # fmt: skip
    named = way({"uri": "sips:carrier.example"}, {"ring_timeout": 20})
    assert named is not None
    assert (named["scheme"], named["address"], named["from_host"]) == ("sips", None, "carrier.example")
    assert named["timeout"] == 20


@pytest.mark.parametrize(
    "trunk",
    [
        {"max_calls": 5},
        {"max_cps": 5},
        {"trusted": True},
        {"privacy": "id"},
        {"headers": ["X-One"]},
        {"caller_id": {"policy": "anonymous"}},
        {"stir": {"sign": True, "key_file": "/k", "certificate_url": "https://a.example/c"}},
    ],
)
def test_what_asks_for_more_has_no_way(trunk: dict[str, Any]) -> None:
    assert way(trunk) is None


@pytest.mark.parametrize(
    "target",
    [{"browser": "all"}, {"reject": 486}, {"uri": "sip:a@b"}, {"user": "u"}, {"trunks": [{"trunk": "out"}]}],
)
def test_other_targets_have_no_way(target: dict[str, Any]) -> None:
    tables = {"target": target}
    users = [{"name": "u", "password_env": "SECRET"}]
    out = {"name": "out", "uri": "sip:192.0.2.1"}
    found = document({"trunks": [out], "users": users, "routes": [{"name": "r", **tables}]})
    assert found["routes"][0]["way"] is None


def test_a_pattern_that_others_read_differently_may_take_any_call() -> None:
    match = {"to": "(?i)a", "from": "^1", "trunk": "out"}
    tables = {
        "trunks": [{"name": "out", "uri": "sip:192.0.2.1"}],
        "routes": [{"name": "r", "match": match, "target": {"trunk": "out"}}],
    }
    (route,) = document(tables)["routes"]
    assert route == {"name": "r", "trunk": "out", "to": None, "from": None, "way": None}


def test_routes_for_users_are_none_of_a_trunks() -> None:
    users = [{"name": "u", "password_env": "SECRET"}]
    routes = [{"name": "r", "match": {"user": "u"}, "target": {"reject": 486}}]
    assert document({"users": users, "routes": routes})["routes"] == []


def test_callers_who_are_judged_or_wait_by_a_tone_are_asked_about() -> None:
    stir = {"verify": "annotate", "ca_file": "/ca", "allow": ["a.example"]}
    trunks = [
        {"name": "a"},
        {"name": "b", "stir": stir},
        {"name": "c", "ringback": "eu"},
        {"name": "d", "max_calls": 1},
        {"name": "e", "trusted": True, "incoming": {"strip": 2, "prepend": "+"}, "codecs": ["PCMU"]},
    ]
    sources = document({"trunks": trunks})["sources"]
    assert sorted(sources) == ["a", "e"]
    assert sources["e"] == {"strip": 2, "prepend": "+", "codecs": ["PCMU"]}


@given(st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(REPEATS)), max_size=5), st.lists(NUMBERS))
def test_a_pattern_means_the_same_everywhere(pieces: list[tuple[str, str]], numbers: list[str]) -> None:
    pattern = "".join(
        piece if piece in ("^", "$", r"\A", r"\Z") or "P<" in piece else piece + repeat
        for piece, repeat in {piece: (piece, repeat) for piece, repeat in pieces}.values()
    )
    if fault_of(pattern) is not None:
        return
    known = everywhere(pattern)
    assert known is not None
    assert "\\d" not in known
    for number in numbers:
        assert bool(re.search(known, number)) == bool(re.search(pattern, number))


@pytest.mark.parametrize(
    "pattern",
    [
        "(?i)a",
        "a*+",
        "(?>a)",
        r"\b1",
        "(?=1)",
        "(?<!1)2",
        "ä",
        r"(1)\1",
        r"\D",
        "[^\x07]",
        "(?s:.)",
        "(?x) 1",
    ],
)
def test_what_others_may_read_otherwise_is_not_said(pattern: str) -> None:
    assert everywhere(pattern) is None


def forward(world: World, to: str = "200", age: float = 0.0, **fields: Any) -> tuple[int, int]:
    """A call that the engine sent on; its two legs."""
    far = world.engine.new_sip_leg()
    told = Forwarded(leg=far, route="pbx", to=to, from_="+79001112233", age=age)
    leg = world.invite(to, source="203.0.113.7", forwarded=msgspec.structs.replace(told, **fields))
    world.engine.alive.add(far)
    world.engine.links |= {far: leg, leg: far}
    return leg, far


async def test_a_call_that_went_on_is_recorded_at_its_time(world: World) -> None:
    await asyncio.sleep(10)
    leg, far = forward(world, age=0.5)
    call = world.only()
    assert (call.route, call.trunk, call.to, call.from_) == ("pbx", "carrier", "200", "+79001112233")
    assert call.timeout == world.policy.ring_timeout
    world.pick_up(far, "PCMA", age=0.25, rang=0.375)
    assert world.only().ringing_at == call.created_at + timedelta(seconds=0.125)
    assert world.only().answered_at == call.created_at + timedelta(seconds=0.25)
    assert [leg.side for leg in world.only().legs] == ["caller", "callee"]
    world.end(far, "bye")
    await settle()
    assert (world.only().status, world.only().hangup_source) == ("completed", "callee")
    assert world.engine.names() == [], "the engine has hung up on the caller, too"
    assert leg not in world.engine.alive
    assert ("phase", "decision") in world.watcher.told


async def test_a_call_that_went_on_in_vain_is_refused(world: World) -> None:
    leg, far = forward(world)
    world.end(far, "rejected", status=486)
    await settle()
    assert world.only().status == "busy"
    assert world.engine.of("reject") == [(leg, 486)]


async def test_a_call_that_went_on_and_nobody_answers_ends(world: World) -> None:
    leg, far = forward(world)
    await asyncio.sleep(world.policy.ring_timeout + 10)
    assert world.only().status == "no-answer"
    assert (far,) in world.engine.of("hangup")
    assert world.engine.of("reject")[0][0] == leg


async def test_a_call_that_went_on_is_kept_whatever_the_plan_says_now(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.routing.adopt(Plan())
    monkeypatch.setattr(world, "trunk_of", lambda _: "carrier")
    forward(world)
    assert (world.only().route, world.only().trunk) == ("pbx", "carrier")


@pytest.mark.parametrize("why", ["full", "draining"])
async def test_a_call_that_went_on_is_not_refused_any_more(why: str) -> None:
    world = World(max_calls=1)
    world.invite("200")
    draining = asyncio.create_task(world.manager.drain(5)) if why == "draining" else None
    await settle()
    forward(world)
    assert world.manager.active_calls == 2
    if draining is not None:
        await draining
    await world.check_end()


async def test_a_full_store_has_the_next_call_asked_about(world: World) -> None:
    world.store.down = True
    _, far = forward(world)
    forward(world)
    assert world.engine.asked_always == [True]
    leg = world.invite("200")
    assert world.engine.of("reject") == [(leg, 503)]
    world.store.down = False
    world.pick_up(far)
    assert world.history(world.only()) == ["call.initiated", "call.ringing", "call.answered", "call.bridged"]
    world.invite("200")
    world.invite("200")
    assert world.engine.asked_always == [True, False]


@pytest.mark.parametrize("where", ["_forwarding.sent_on", "_routing.route_named"])
async def test_a_fault_while_it_is_recorded_ends_both_sides(
    world: World, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    room, _, name = where.partition(".")
    monkeypatch.setattr(getattr(world.manager._inbound, room), name, fail)
    leg, far = forward(world)
    assert world.engine.of("hangup") == [(far,)]
    assert world.engine.of("reject") == [(leg, 500)]
    await settle()
    assert all(call.over for call in world.store.calls.values())
