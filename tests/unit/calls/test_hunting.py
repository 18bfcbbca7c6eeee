"""Calls with several places to go: in turn, at once, redirected; one answer, one final status."""

import asyncio
import contextlib
import random
from typing import Any

import pytest

from telephony_gateway.calls.events import TrunksDown
from telephony_gateway.calls.hunting import ELSEWHERE
from telephony_gateway.calls.manager import NewCall
from telephony_gateway.calls.plan import Choice
from telephony_gateway.calls.stages import in_order
from telephony_gateway.calls.standing import Standing
from telephony_gateway.errors import EngineFailure, GatewayError, Invalid
from tests.unit.calls.world import CARRIER, FakeBrowser, World, settle


def trunk(name: str, host: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "addresses": [host], "uri": f"sip:{host}", **keys}


def tables(target: dict[str, Any]) -> dict[str, Any]:
    return {
        "trunks": [trunk("carrier", CARRIER), trunk("a", "198.51.100.1"), trunk("b", "198.51.100.2")],
        "routes": [{"name": "out", "target": target}],
    }


SERIAL = {"trunks": [{"trunk": "a", "priority": 1}, {"trunk": "b", "priority": 2}]}
PHONES = [{"uri": "sip:one@198.51.100.1"}, {"uri": "sip:two@198.51.100.2"}]


async def hunted(target: dict[str, Any]) -> tuple[World, int, list[int]]:
    """A world where a call came in and is hunted; the caller's leg and those dialled at once."""
    world = World(tables(target))
    leg = world.invite("200")
    await settle()
    return world, leg, dialled(world)


def dialled(world: World) -> list[int]:
    return [leg for leg, _ in world.engine.of("dial")]


def attempts(world: World) -> list[tuple[str, str, int | None]]:
    events = world.store.events[world.only().id]
    lines = [event.data for event in events if event.type == "call.attempt"]
    return [(line["outcome"], line["target"], line["sip_response_code"]) for line in lines]


@pytest.mark.parametrize(
    "how", [("rejected", 503), ("unreachable", None), ("transport_error", None), ("rejected", 404)]
)
async def test_the_next_trunk_is_tried_when_one_fails(how: tuple[Any, int | None]) -> None:
    world, leg, (first,) = await hunted(SERIAL)
    world.end(first, how[0], status=how[1])
    await settle()
    second = dialled(world)[-1]
    assert world.engine.of("dial")[-1][1]["uri"] == "sip:200@198.51.100.2"
    world.ring(second)
    world.pick_up(second, "PCMA")
    await settle()
    assert world.engine.of("bridge") == [(leg, second)]
    assert world.only().status == "in-progress"
    assert attempts(world) == [
        ("failed", "sip:200@198.51.100.1", how[1]),
        ("answered", "sip:200@198.51.100.2", None),
    ]
    world.end(second, "bye")
    await settle()
    assert world.only().status == "completed"
    await world.check_end()


async def test_a_silent_trunk_is_soon_left_while_other_places_wait() -> None:
    world, _, (first,) = await hunted(SERIAL)
    world.end(first, "unreachable")
    await settle()
    assert [how["elsewhere"] for _, how in world.engine.of("dial")] == [True, False]
    world.end(dialled(world)[-1], "unreachable")
    await settle()
    await world.check_end()


async def test_a_phone_that_may_sleep_is_not() -> None:
    world, _, (first,) = await hunted({"ring": {"targets": PHONES}})
    assert world.engine.of("dial")[0][1]["elsewhere"] is False
    world.end(first, "rejected", status=603)
    await settle()
    await world.check_end()


async def test_a_trunk_that_is_down_is_tried_after_the_others_until_its_time_is_over() -> None:
    world, standing = World(tables(SERIAL)), Standing()
    world.routing.is_down = standing.is_down

    async def tried() -> list[str]:
        before = len(dialled(world))
        world.invite("200")
        await settle()
        for _ in range(2):
            world.end(dialled(world)[-1], "rejected", status=503)
            await settle()
        return [how["trunk"] for _, how in world.engine.of("dial")[before:]]

    assert await tried() == ["a", "b"]
    standing.told(TrunksDown(trunks={"a": 30.0, "other": 1.0}))
    assert await tried() == ["b", "a"]
    await asyncio.sleep(30)
    assert await tried() == ["a", "b"]
    standing.told(TrunksDown(trunks={"a": 30.0, "b": 60.0}))
    assert await tried() == ["a", "b"], "where all are down their order is as ever"
    standing.told(TrunksDown(trunks={}))
    assert not standing.is_down("b")
    await world.check_end()


@pytest.mark.parametrize(
    ("statuses", "told"),
    [
        ((503, 503), 500),
        ((404, 503), 404),
        ((500, 404), 404),
        ((503, 500), 500),
        ((401, 408), 408),
        ((407, 407), 500),
        ((404, 484), 484),
    ],
)
async def test_the_caller_hears_the_best_of_all_answers(statuses: tuple[int, int], told: int) -> None:
    world, leg, _ = await hunted(SERIAL)
    for status in statuses:
        world.end(dialled(world)[-1], "rejected", status=status)
        await settle()
    assert world.engine.of("reject") == [(leg, told)]
    await world.check_end()


@pytest.mark.parametrize(("status", "told"), [(603, 603), (600, 600), (486, 486)])
async def test_who_declines_or_is_busy_is_not_called_by_another_trunk(status: int, told: int) -> None:
    world, leg, (first,) = await hunted(SERIAL)
    world.end(first, "rejected", status=status)
    await settle()
    assert dialled(world) == [first]
    assert world.engine.of("reject") == [(leg, told)]
    await world.check_end()


async def test_who_was_rung_in_vain_is_not_called_by_another_trunk() -> None:
    world, leg, (first,) = await hunted(SERIAL)
    world.ring(first)
    world.end(first, "timeout", by="system")
    await settle()
    assert dialled(world) == [first]
    assert world.engine.of("reject") == [(leg, 480)]
    await world.check_end()


async def test_phones_are_rung_one_after_the_other() -> None:
    world, leg, (first,) = await hunted({"ring": {"targets": PHONES, "timeout": 10}})
    assert world.engine.of("dial")[0][1]["timeout"] == 10
    world.ring(first)
    world.end(first, "rejected", status=486)
    await settle()
    second = dialled(world)[-1]
    world.ring(second)
    await settle()
    assert len(world.engine.of("ring")) == 1, "the caller hears ringing once"
    await asyncio.sleep(16)
    assert (second,) in world.engine.of("hangup"), "the engine forgot its timeout"
    assert world.engine.of("reject") == [(leg, 486)]
    assert world.only().status == "busy"
    await world.check_end()


async def test_the_first_of_several_phones_wins() -> None:
    world, leg, (one, two) = await hunted({"ring": {"targets": PHONES, "strategy": "parallel"}})
    world.ring(two)
    world.ring(one)
    await settle()
    assert len(world.engine.of("ring")) == 1
    world.pick_up(one, "PCMA")
    world.pick_up(two, "PCMA")
    await settle()
    assert (two, ELSEWHERE) in world.engine.said
    assert world.engine.of("bridge") == [(leg, one)]
    assert world.only().status == "in-progress"
    assert [outcome for outcome, _, _ in attempts(world)] == ["answered", "canceled"]
    world.end(one, "bye")
    await settle()
    assert world.only().hangup_source == "callee"
    await world.check_end()


async def test_one_of_several_phones_fails_and_the_other_rings_on() -> None:
    world, leg, (one, two) = await hunted({"ring": {"targets": PHONES, "strategy": "parallel"}})
    world.ring(one)
    world.end(one, "rejected", status=486)
    world.ring(two)
    world.pick_up(two, "PCMA")
    await settle()
    assert world.engine.of("bridge") == [(leg, two)]
    assert world.only().status == "in-progress"
    await world.check_end()


async def test_a_6xx_silences_the_other_phones() -> None:
    world, leg, (one, two) = await hunted({"ring": {"targets": PHONES, "strategy": "parallel"}})
    world.ring(two)
    world.end(one, "rejected", status=603)
    await settle()
    assert (two,) in world.engine.of("hangup")
    assert world.engine.of("reject") == [(leg, 603)]
    await world.check_end()


async def test_the_caller_cancels_all_branches() -> None:
    world, leg, (one, two) = await hunted({"ring": {"targets": PHONES, "strategy": "parallel"}})
    world.ring(one)
    await settle()
    world.end(leg, "cancel", status=487)
    await settle()
    assert {(one,), (two,)} <= set(world.engine.of("hangup"))
    assert world.only().status == "canceled"
    await world.check_end()


async def test_a_plain_call_that_is_redirected_follows() -> None:
    world, leg, (first,) = await hunted({"trunk": "a"})
    contacts = [
        "sip:x@192.0.2.77",
        "sip:300@198.51.100.2?Replaces=x",
        "sip:200@198.51.100.1",
        "sip:3@198.51.100.2",
    ]
    world.end(first, "rejected", status=302, contacts=contacts)
    await settle()
    assert [how["uri"] for _, how in world.engine.of("dial")] == [
        "sip:200@198.51.100.1",
        "sip:3@198.51.100.2",
    ]
    second = dialled(world)[-1]
    assert world.engine.of("dial")[-1][1]["trunk"] == "b"
    world.pick_up(second, "PCMA")
    await settle()
    assert world.engine.of("bridge") == [(leg, second)]
    await world.check_end()


@pytest.mark.parametrize(("matches", "status"), [({"trunk": "a"}, None), ({"trunk": "b"}, 480)])
async def test_a_redirect_spends_only_trunks_its_sender_may_call(matches: Any, status: int | None) -> None:
    """What a trunk could not call by an INVITE of its own, it gets by no 302 either."""
    out = {"name": "out", "match": {"to": "^900", **matches}, "target": {"trunk": "b"}}
    inward = {"name": "in", "match": {"trunk": "carrier"}, "target": {"trunk": "a"}}
    world = World({**tables({}), "routes": [out, inward]})
    leg = world.invite("200")
    await settle()
    (first,) = dialled(world)
    world.end(first, "rejected", status=302, contacts=["sip:900@198.51.100.2"])
    await settle()
    assert [told for _, told in world.engine.of("reject")] == ([status] if status else [])
    assert len(world.engine.of("dial")) == (1 if status else 2)
    world.end(leg, "cancel", status=487)
    await settle()


async def test_a_plain_call_has_no_attempts() -> None:
    world, leg, (first,) = await hunted({"trunk": "a"})
    world.ring(first)
    world.pick_up(first, "PCMA")
    await settle()
    assert attempts(world) == []
    world.end(leg, "bye")
    await world.check_end()


@pytest.mark.parametrize("contacts", [[], ["sip:x@192.0.2.77"], ["tel:+7495"], ["sip:200@198.51.100.1"]])
async def test_a_redirect_that_leads_nowhere_is_no_answer(contacts: list[str]) -> None:
    world, _leg, (first,) = await hunted({"trunk": "a"})
    world.end(first, "rejected", status=302, contacts=contacts)
    await settle()
    ((_, told),) = world.engine.of("reject")
    assert told == 480
    await world.check_end()


async def test_redirects_without_end_are_left() -> None:
    world, leg, _ = await hunted({"trunk": "a"})
    for number in range(20):
        legs = dialled(world)
        world.end(legs[-1], "rejected", status=302, contacts=[f"sip:{number}@198.51.100.2"])
        await settle()
    assert len(dialled(world)) == 6
    assert world.engine.of("reject") == [(leg, 480)]
    await world.check_end()


async def test_a_browser_and_a_phone_ring_at_once_and_the_browser_wins() -> None:
    world = World(tables({"ring": {"targets": [{"browser": "sales"}, PHONES[0]], "strategy": "parallel"}}))
    browser = world.browser()
    leg = world.invite("200")
    await settle()
    (phone,) = dialled(world)
    assert browser.heard() == ["IncomingCall"]
    call = world.only()
    await world.manager.join(browser, call.id)
    await world.manager.offer(browser, call.id, "o")
    assert (phone, ELSEWHERE) in world.engine.said
    assert world.only().status == "in-progress"
    world.end(leg, "bye")
    await world.check_end()


async def test_the_phone_wins_while_the_browser_negotiates() -> None:
    world = World(tables({"ring": {"targets": [{"browser": "sales"}, PHONES[0]], "strategy": "parallel"}}))
    browser = world.browser()
    leg = world.invite("200")
    await settle()
    (phone,) = dialled(world)
    call = world.only()
    await world.manager.join(browser, call.id)
    world.pick_up(phone, "PCMA")
    await settle()
    assert world.engine.of("bridge") == [(leg, phone)]
    assert browser.last().status == "in-progress"
    await world.check_end()


async def test_browsers_first_then_a_phone() -> None:
    world = World(tables({"ring": {"targets": [{"browser": "sales"}, PHONES[0]], "timeout": 10}}))
    browser = world.browser()
    world.invite("200")
    await settle()
    assert (browser.heard(), dialled(world)) == (["IncomingCall"], [])
    await asyncio.sleep(11)
    assert len(dialled(world)) == 1
    await world.check_end()


async def test_the_last_browser_declines_and_the_phone_rings() -> None:
    world = World(tables({"ring": {"targets": [{"browser": "sales"}, PHONES[0]], "timeout": 10}}))
    browser = world.browser()
    world.invite("200")
    await settle()
    await world.manager.leave(browser, world.only().id)
    await settle()
    assert len(dialled(world)) == 1
    assert not world.only().over
    await world.check_end()


async def test_an_ordered_call_takes_the_next_trunk_of_its_route() -> None:
    world = World(tables(SERIAL))
    call = await world.manager.create_call(NewCall(to="200", route="out"))
    assert (call.trunk, call.route) == ("a", "out")
    (first,) = dialled(world)
    world.end(first, "rejected", status=503)
    await settle()
    second = dialled(world)[-1]
    world.ring(second)
    world.pick_up(second)
    await settle()
    answered = world.only()
    assert (answered.status, answered.trunk) == ("in-progress", "b")
    browser = world.browser()
    await world.manager.join(browser, call.id)
    await world.manager.offer(browser, call.id, "o")
    assert world.engine.of("bridge")[0][0] == second
    world.end(second, "bye")
    await settle()
    assert world.only().status == "completed"
    await world.check_end()


async def test_an_ordered_call_rings_phones_at_once() -> None:
    world = World(tables({"ring": {"targets": PHONES, "strategy": "parallel"}}))
    await world.manager.create_call(NewCall(to="200", route="out"))
    one, two = dialled(world)
    world.ring(one)
    world.pick_up(two)
    await settle()
    assert world.only().status == "in-progress"
    assert (one, ELSEWHERE) in world.engine.said
    world.end(two, "bye")
    await settle()
    assert world.only().status == "completed"
    await world.check_end()


async def test_an_ordered_call_is_redirected() -> None:
    world = World(tables(SERIAL))
    await world.manager.create_call(NewCall(to="200", trunk="a"))
    world.end(dialled(world)[0], "rejected", status=302, contacts=["sip:3@198.51.100.2"])
    await settle()
    second = dialled(world)[-1]
    world.end(second, "rejected", status=486)
    await settle()
    assert (world.only().status, world.only().sip_response_code) == ("busy", 486)
    await world.check_end()


async def test_a_route_that_leads_to_no_place_is_refused() -> None:
    world = World(tables({"browser": "sales"}))
    for route in ("out", "none"):
        with pytest.raises(Invalid):
            await world.manager.create_call(NewCall(to="200", route=route))
    with pytest.raises(Invalid):
        await world.manager.create_call(NewCall(to="200", route="out", trunk="a"))
    await world.check_end()


async def test_a_place_that_cannot_be_dialled_is_passed_over() -> None:
    world = World(tables(SERIAL))
    world.engine.faults["dial"] = EngineFailure("full", reason="queue_full")
    leg = world.invite("200")
    await settle()
    assert len(dialled(world)) == 2
    assert world.engine.of("reject") == [(leg, 500)]
    await world.check_end()


def test_trunks_are_drawn_by_priority_and_weight() -> None:
    choices = [
        Choice(trunk="last", priority=2, weight=9),
        Choice(trunk="never first", priority=1, weight=0),
        Choice(trunk="three", priority=1, weight=3),
        Choice(trunk="one", priority=1, weight=1),
    ]
    firsts = [next(in_order(choices, lambda most, n=n: n % (most + 1))).trunk for n in range(5)]  # type: ignore[misc]
    assert sorted(firsts) == ["never first", "one", "three", "three", "three"]
    order = [choice.trunk for choice in in_order(choices, lambda most: most)]
    assert order == ["three", "one", "never first", "last"]


SHAPES: list[dict[str, Any]] = [
    SERIAL,
    {"trunk": "a"},
    {"ring": {"targets": PHONES, "strategy": "parallel", "timeout": 10}},
    {"ring": {"targets": [{"browser": "sales"}, *PHONES], "timeout": 10}},
    {"ring": {"targets": [*PHONES, {"browser": "sales"}], "strategy": "parallel"}},
]


@pytest.mark.parametrize("seed", range(60))
async def test_whatever_happens_the_call_ends_once_and_nothing_stays(seed: int) -> None:
    rng = random.Random(seed)
    shape = SHAPES[seed % len(SHAPES)]
    world = World(tables(shape))
    browser = world.browser()
    if rng.random() < 0.3 and "trunk" not in shape:
        await world.manager.create_call(NewCall(to="200", route="out"))
    else:
        world.invite("200")
    for _ in range(rng.randint(3, 30)):
        await happen(world, browser, rng)
        for _ in range(rng.choice([0, 1, 5])):
            await asyncio.sleep(0)
    await settle()
    if not world.only().over and rng.random() < 0.5:
        await world.manager.end_call(world.only().id)
    await world.check_end()


async def happen(world: World, browser: FakeBrowser, rng: random.Random) -> None:
    """One thing that a peer, a browser or time may do."""
    call, legs = world.only(), sorted(world.engine.alive)
    if not legs:
        return
    leg = rng.choice(legs)
    match rng.choice(["ring", "answer", "refuse", "redirect", "lose", "bye", "browser", "decline", "time"]):
        case "ring":
            world.ring(leg)
        case "answer" if leg in dialled(world):
            world.pick_up(leg)
        case "refuse" if leg in dialled(world):
            world.end(leg, "rejected", status=rng.choice([404, 486, 503, 603, 407, 480]))
        case "redirect" if leg in dialled(world):
            world.end(leg, "rejected", status=302, contacts=[f"sip:{rng.randint(1, 3)}@198.51.100.2"])
        case "lose" if leg in dialled(world):
            world.end(leg, rng.choice(["unreachable", "timeout", "transport_error"]), by="system")
        case "bye" if rng.random() < 0.3:
            world.end(leg, "cancel" if call.status in ("queued", "ringing") else "bye")
        case "browser":
            with contextlib.suppress(GatewayError):
                await world.manager.join(browser, call.id)
                await world.manager.offer(browser, call.id, "o")
        case "decline":
            with contextlib.suppress(GatewayError):
                await world.manager.leave(browser, call.id)
        case "time" if rng.random() < 0.3:
            await asyncio.sleep(rng.choice([1, 12, 30]))


OURS = {"uri": "sip:us@192.0.2.1:5060"}


async def test_a_place_that_is_the_gateway_itself_is_passed_over() -> None:
    world, leg, legs = await hunted({"ring": {"targets": [OURS, PHONES[0]]}})
    assert [how["uri"] for _, how in world.engine.of("dial")] == [PHONES[0]["uri"]]
    assert attempts(world) == [("failed", OURS["uri"], 482)]
    world.end(legs[0], "rejected", status=503)
    await settle()
    assert world.engine.of("reject") == [(leg, 482)]
    assert [refusal.rule for refusal in world.manager.refusals.latest()] == ["loop"]
    await world.check_end()


async def test_what_was_to_be_secret_is_not_redirected_into_the_open() -> None:
    world = World(tables({"uri": "sips:bob@198.51.100.9"}), development=True)
    leg = world.invite("200")
    (first,) = dialled(world)
    contacts = ["sip:bob@198.51.100.8", "sips:bob@198.51.100.7"]
    world.end(first, "rejected", status=302, contacts=contacts)
    await settle()
    second = dialled(world)[-1]
    assert world.engine.of("dial")[-1][1]["uri"] == "sips:bob@198.51.100.7"
    world.end(second, "rejected", status=302, contacts=contacts[:1])
    await settle()
    assert world.engine.of("reject") == [(leg, 480)]
    await world.check_end()
