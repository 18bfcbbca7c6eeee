"""Transfers: who may be called for the empty place, who leaves, who comes back, and what the history says."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from telephony_gateway.calls.events import Refer, ReferAnswered, Referral
from telephony_gateway.calls.transfer import NewTransfer
from telephony_gateway.errors import Conflict, EngineFailure, GatewayError, WrongState
from tests.unit.calls.world import TABLES, World, settle

PBX = "198.51.100.1"


def tables(**transfer: str) -> dict[str, Any]:
    trunks = [{**trunk, "transfer": transfer.get(trunk["name"], "handle")} for trunk in TABLES["trunks"]]
    return {**TABLES, "trunks": trunks}


async def talking(world: World, to: str = "200") -> tuple[int, int]:
    """A caller of the carrier and the far side talk."""
    leg, far = await talking_too(world, to)
    assert world.only().status == "in-progress"
    return leg, far


def refer(world: World, leg: int, uri: str = "sip:301@192.0.2.1", **more: Any) -> None:
    world.engine.emit(Refer(leg=leg, id=7, uri=uri, **more))


def told(world: World) -> list[int]:
    return [status for _, _, status in world.engine.of("notify_refer")]


def transfers(world: World) -> list[str]:
    history = world.history(world.only())
    return [event.removeprefix("call.") for event in history if event.startswith("call.transfer")]


async def test_the_far_side_makes_room_for_whom_it_names(world: World) -> None:
    leg, far = await talking(world)
    refer(world, far, referred_by="<sip:bob@pbx>")
    assert world.engine.of("accept_refer") == [(far, 7)]
    new, how = world.engine.of("dial")[-1]
    assert how["uri"] == "sip:away@192.0.2.9:5070", "by the route for 3..."
    assert ("Referred-By", "<sip:bob@pbx>") in how["headers"]
    assert how["from_uri"].startswith("sip:+79001112233@"), "the one who stays is said to call"
    world.ring(new)
    world.pick_up(new)
    await settle()
    assert world.engine.of("bridge")[-1] == (leg, new)
    assert world.engine.of("introduce") == [(leg, new)]
    assert told(world) == [180, 200]
    assert (far,) in world.engine.of("hangup")
    assert transfers(world) == ["transfer-requested", "transferred"]
    assert world.only().status == "in-progress"
    world.end(new, "bye")
    await settle()
    assert (world.only().status, world.only().hangup_source) == ("completed", "callee")
    assert world.history(world.only())[-1] == "call.completed"


async def test_the_caller_makes_room_too(world: World) -> None:
    leg, far = await talking(world)
    refer(world, leg)
    new, how = world.engine.of("dial")[-1]
    assert how["from_uri"].startswith("sip:200@"), "the callee stays"
    world.pick_up(new)
    await settle()
    assert world.engine.of("bridge")[-1] == (far, new)
    world.end(new, "bye")
    await settle()
    assert world.only().hangup_source == "caller"


async def test_a_browsers_partner_is_exchanged(world: World) -> None:
    browser = world.browser(names=frozenset({"sales"}))
    leg, call = await world.talking(browser)
    refer(world, leg)
    new = world.engine.of("dial")[-1][0]
    world.pick_up(new)
    await settle()
    assert world.engine.of("bridge")[-1][1] == new
    world.manager.send_digits(browser, call.id, "1")
    assert world.engine.of("send_digits") == [(new, "1")], "the browser talks to the new one"
    await world.manager.leave(browser, call.id)
    await settle()
    assert world.only().status == "completed"


@pytest.mark.parametrize("parted", [False, True])
async def test_nobody_leaves_when_nobody_answers(parted: bool) -> None:
    trunks = [{**trunk, "ringback": "eu"} for trunk in TABLES["trunks"]] if parted else TABLES["trunks"]
    world = World({**TABLES, "trunks": trunks})
    leg, far = await talking(world)
    refer(world, far)
    new = world.engine.of("dial")[-1][0]
    world.ring(new)
    await settle()
    assert world.engine.of("unbridge") == ([(leg,)] if parted else [])
    world.end(new, "rejected", status=486)
    await settle()
    assert told(world) == [180, 486]
    assert transfers(world) == ["transfer-requested", "transfer-failed"]
    assert world.only().status == "in-progress"
    assert world.engine.of("bridge")[-1] == (leg, far)
    refer(world, far)
    assert len(world.engine.of("accept_refer")) == 2, "it may be tried again"
    world.end(leg, "bye")
    await settle()
    await world.check_end()


async def test_silence_ends_a_transfer(world: World) -> None:
    leg, far = await talking(world)
    refer(world, far)
    await settle_for(world, 120)
    assert told(world) == [408]
    world.end(leg, "bye")
    await settle()


async def settle_for(world: World, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await settle()


async def test_who_asked_may_hang_up_at_once(world: World) -> None:
    leg, far = await talking(world)
    refer(world, far)
    world.end(far, "bye")
    await settle()
    assert world.only().status == "in-progress", "somebody is being called"
    new = world.engine.of("dial")[-1][0]
    world.pick_up(new)
    await settle()
    assert world.engine.of("bridge")[-1] == (leg, new)
    assert transfers(world) == ["transfer-requested", "transferred"]
    world.end(leg, "bye")
    await settle()


async def test_who_asked_and_left_ends_the_call_if_nobody_answers(world: World) -> None:
    _, far = await talking(world)
    refer(world, far)
    world.end(far, "bye")
    world.end(world.engine.of("dial")[-1][0], "rejected", status=404)
    await settle()
    assert (world.only().status, world.only().hangup_source) == ("completed", "callee")
    assert transfers(world) == ["transfer-requested", "transfer-failed"]


async def test_who_stays_may_hang_up_meanwhile(world: World) -> None:
    leg, far = await talking(world)
    refer(world, far)
    new = world.engine.of("dial")[-1][0]
    world.end(leg, "bye")
    await settle()
    assert world.only().hangup_source == "caller"
    assert {(far,), (new,)} <= set(world.engine.of("hangup"))


async def test_an_answer_that_cannot_be_joined_is_no_transfer(world: World) -> None:
    leg, far = await talking(world)
    refer(world, far)
    world.engine.faults["bridge"] = EngineFailure("no", reason="internal")
    new = world.engine.of("dial")[-1][0]
    world.pick_up(new)
    await settle()
    assert told(world) == [500]
    assert (new,) in world.engine.of("hangup")
    assert world.only().status == "in-progress"
    world.end(leg, "bye")
    await settle()


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        ("sip:901@192.0.2.1", 403),
        ("sip:400@192.0.2.1", 403),
        ("tel:+1;x=y", 403),
    ],
)
async def test_a_transfer_goes_where_the_trunk_may_call(world: World, uri: str, status: int) -> None:
    leg, far = await talking(world)
    refer(world, far, uri)
    assert world.engine.of("refuse_refer") == [(far, 7, status)]
    assert transfers(world) == ["transfer-requested", "transfer-failed"]
    assert world.only().status == "in-progress"
    world.end(leg, "bye")
    await settle()


async def test_one_transfer_at_a_time(world: World) -> None:
    leg, far = await talking(world)
    refer(world, far)
    refer(world, leg)
    assert world.engine.of("refuse_refer") == [(leg, 7, 491)]
    world.end(leg, "bye")
    await settle()


async def test_a_trunk_may_refuse() -> None:
    world = World(tables(carrier="refuse"))
    leg, _ = await talking(world)
    refer(world, leg)
    assert world.engine.of("refuse_refer") == [(leg, 7, 403)]
    world.end(leg, "bye")
    await settle()
    await world.check_end()


@pytest.fixture
async def passing() -> AsyncIterator[World]:
    world = World(tables(carrier="pass"))
    yield world
    await world.check_end()


async def test_a_refer_is_passed_on_with_all_it_says(passing: World) -> None:
    leg, far = await talking(passing)
    refer(passing, leg, headers=[("X-Note", "a b")], referred_by="<sip:a@b>")
    assert passing.engine.of("refer") == [(far, "sip:301@192.0.2.1?X-Note=a%20b", None, False, "<sip:a@b>")]
    assert passing.engine.of("accept_refer") == []
    passing.engine.emit(ReferAnswered(leg=far, status=202))
    assert passing.engine.of("accept_refer") == [(leg, 7)]
    for status in (100, 180, 200):
        passing.engine.emit(Referral(leg=far, status=status, last=status == 200))
    assert told(passing) == [180, 200]
    assert transfers(passing) == ["transfer-requested", "transferred"]
    passing.end(far, "bye")
    await settle()


@pytest.mark.parametrize("status", [486, None])
async def test_a_passed_transfer_may_fail(passing: World, status: int | None) -> None:
    leg, far = await talking(passing)
    refer(passing, leg)
    passing.engine.emit(ReferAnswered(leg=far, status=202))
    passing.engine.emit(Referral(leg=far, status=status, last=True))
    assert told(passing) == [status or 408]
    assert transfers(passing) == ["transfer-requested", "transfer-failed"]
    assert passing.only().status == "in-progress"
    passing.end(far, "bye")
    await settle()


async def test_the_other_side_may_refuse_to_be_passed_on(passing: World) -> None:
    leg, far = await talking(passing)
    refer(passing, leg)
    passing.engine.emit(ReferAnswered(leg=far, status=603))
    assert passing.engine.of("refuse_refer") == [(leg, 7, 603)]
    passing.end(far, "bye")
    await settle()


@pytest.mark.parametrize("who", ["leaving", "staying"])
async def test_a_call_that_ends_first_says_that_the_outcome_is_not_known(passing: World, who: str) -> None:
    leg, far = await talking(passing)
    refer(passing, leg)
    passing.engine.emit(ReferAnswered(leg=far, status=202))
    passing.end(leg if who == "leaving" else far, "bye")
    await settle()
    assert transfers(passing) == ["transfer-requested", "transfer-failed"]
    assert passing.only().status == "completed"
    assert passing.only().hangup_source == ("caller" if who == "leaving" else "callee")


async def test_a_trunk_that_refuses_transfers_is_not_asked_to_call() -> None:
    world = World(tables(carrier="pass", pbx="refuse"))
    leg, _ = await talking(world)
    refer(world, leg)
    assert world.engine.of("refuse_refer") == [(leg, 7, 403)]
    assert world.engine.of("refer") == []
    world.end(leg, "bye")
    await settle()
    await world.check_end()


async def test_a_browser_is_not_asked_to_call(passing: World) -> None:
    browser = passing.browser(names=frozenset({"sales"}))
    leg, _ = await passing.talking(browser)
    refer(passing, leg)
    assert passing.engine.of("refer") == []
    assert passing.engine.of("accept_refer") == [(leg, 7)]
    passing.end(leg, "bye")
    await settle()


async def two_calls(world: World) -> tuple[tuple[int, int], tuple[int, int]]:
    first = await talking(world)
    leg = world.invite("300", PBX)
    await settle()
    far: int = world.engine.of("dial")[-1][0]
    world.pick_up(far)
    await settle()
    return first, (leg, far)


async def test_two_calls_of_one_telephone_become_one(world: World) -> None:
    (anna, bob), (bobs_other, carol) = await two_calls(world)
    first, second = world.store.calls.values()
    refer(world, bob, headers=[("Replaces", "x")], replaces=bobs_other)
    await settle()
    assert world.engine.of("bridge")[-2:] == [(anna, carol)] * 2
    assert told(world) == [200]
    first, second = (world.store.calls[call.id] for call in (first, second))
    assert (first.status, second.status) == ("in-progress", "completed")
    assert second.reason == "transferred"
    assert {(bob,), (bobs_other,)} <= set(world.engine.of("hangup"))
    assert (carol,) not in world.engine.of("hangup")
    world.end(carol, "bye")
    await settle()
    ended = world.store.calls[first.id]
    assert (ended.status, ended.hangup_source) == ("completed", "callee")
    assert (anna,) in world.engine.of("hangup")


@pytest.mark.parametrize("early_only", [False, True])
async def test_what_is_to_be_replaced_while_it_rings_only_stays_once_it_is_answered(
    world: World, early_only: bool
) -> None:
    """RFC 3891 3."""
    (anna, bob), (bobs_other, carol) = await two_calls(world)
    refer(world, bob, headers=[("Replaces", "x")], replaces=bobs_other, early_only=early_only)
    await settle()
    assert told(world) == [486 if early_only else 200]
    running = [call.status for call in world.store.calls.values()]
    assert running == ["in-progress", "in-progress" if early_only else "completed"]
    world.end(anna, "bye")
    world.end(carol, "bye")
    await settle()


@pytest.mark.parametrize("early_only", [False, True])
async def test_what_is_passed_on_says_whether_it_must_ring(passing: World, early_only: bool) -> None:
    anna, bob = await talking(passing)
    other, carol = await talking_too(passing)
    refer(passing, anna, headers=[("Replaces", "x")], replaces=other, early_only=early_only)
    assert passing.engine.of("refer") == [(bob, "", carol, early_only, None)]
    passing.end(anna, "bye")
    passing.end(other, "bye")
    await settle()


async def talking_too(world: World, to: str = "200") -> tuple[int, int]:
    leg = world.invite(to)
    await settle()
    far: int = world.engine.of("dial")[-1][0]
    world.pick_up(far)
    await settle()
    return leg, far


async def test_a_telephone_on_another_worker_is_asked_to_replace_its_call(world: World) -> None:
    (anna, bob), (bobs_other, carol) = await two_calls(world)
    world.engine.faults["bridge"] = WrongState("the legs are on two workers")
    refer(world, bob, headers=[("Replaces", "x")], replaces=bobs_other)
    await settle()
    del world.engine.faults["bridge"]
    new, how = world.engine.of("dial")[-1]
    assert how["replaces"] == carol
    assert how["from_uri"] == "sip:+79001112233@192.0.2.1"
    world.pick_up(new)
    world.end(carol, "bye")
    await settle()
    assert world.engine.of("bridge")[-1] == (anna, new)
    assert told(world) == [200]
    first, second = world.store.calls.values()
    assert (first.status, second.status) == ("in-progress", "completed")
    world.end(new, "bye")
    await settle()


async def test_a_call_that_is_not_there_any_more_cannot_be_taken_over(world: World) -> None:
    (anna, bob), (bobs_other, carol) = await two_calls(world)
    world.end(carol, "bye")
    await settle()
    refer(world, bob, headers=[("Replaces", "x")], replaces=bobs_other)
    await settle()
    assert told(world) == [481]
    world.end(anna, "bye")
    await settle()


async def test_a_dialog_between_others_is_for_them_to_replace(world: World) -> None:
    anna, bob = await talking(world)
    refer(world, bob, headers=[("Replaces", "a;to-tag=b;from-tag=c")])
    headers = world.engine.of("dial")[-1][1]["headers"]
    assert ("Replaces", "a;to-tag=b;from-tag=c") in headers
    assert ("Require", "replaces") in headers
    world.end(anna, "bye")
    await settle()


async def test_the_api_connects_the_caller_to_somebody_else(world: World) -> None:
    browser = world.browser(names=frozenset({"sales"}))
    leg, call = await world.talking(browser)
    new = NewTransfer(to="+7900", timeout=20)
    await world.manager.transfer(call.id, new, "key")
    await world.manager.transfer(call.id, new, "key")
    with pytest.raises(Conflict):
        await world.manager.transfer(call.id, NewTransfer(to="+7901"), "key")
    with pytest.raises(WrongState):
        await world.manager.transfer(call.id, new)
    ((other, how),) = world.engine.of("dial")
    assert (how["uri"], how["trunk"], how["timeout"]) == ("sip:+7900@203.0.113.10:5060", "carrier", 20)
    world.pick_up(other)
    await settle()
    assert world.engine.of("bridge")[-1] == (leg, other)
    assert world.history(call)[-3:] == ["call.transfer-requested", "call.transferred", "session.left"]
    assert world.engine.of("notify_refer") == []
    world.end(other, "bye")
    await settle()
    assert (world.only().status, world.only().hangup_source) == ("completed", "callee")


async def test_an_agent_may_leave_before_the_other_answers(world: World) -> None:
    browser = world.browser(names=frozenset({"sales"}))
    _, call = await world.talking(browser)
    await world.manager.transfer(call.id, NewTransfer(to="+7900"))
    await world.manager.leave(browser, call.id)
    await settle()
    assert world.only().status == "in-progress"
    world.end(world.engine.of("dial")[-1][0], "rejected", status=486)
    await settle()
    assert world.only().status == "completed", "nobody is left to talk to"


async def test_an_outbound_call_is_transferred_once(world: World) -> None:
    browser = world.browser()
    leg, call = await world.dialled()
    with pytest.raises(WrongState):
        await world.manager.transfer(call.id, NewTransfer(to="+7901"))
    world.pick_up(leg)
    with pytest.raises(WrongState):
        await world.manager.transfer(call.id, NewTransfer(to="+7901"))
    await world.manager.join(browser, call.id)
    await world.manager.offer(browser, call.id, "o")
    await world.manager.transfer(call.id, NewTransfer(to="+7901"))
    other = world.engine.of("dial")[-1][0]
    world.pick_up(other)
    await settle()
    with pytest.raises(WrongState):
        await world.manager.join(browser, call.id)
    with pytest.raises(GatewayError):
        await world.manager.transfer(call.id, NewTransfer(to="+7902", trunk="nowhere"))
    world.end(other, "bye")
    await settle()
    assert world.only().hangup_source == "caller", "it has the browser's place"


async def test_legs_that_change_their_call_keep_their_place_on_the_trunk() -> None:
    trunks = [{**trunk, "max_calls": 2} for trunk in TABLES["trunks"]]
    world = World({**TABLES, "trunks": trunks})
    (anna, bob), (bobs_other, _) = await two_calls(world)
    refer(world, bob, headers=[("Replaces", "x")], replaces=bobs_other)
    await settle()
    world.invite("200")
    await settle()
    assert len(world.engine.of("dial")) == 3, "Bob's legs are gone, Anna's place is taken"
    world.end(anna, "bye")
    await settle()
    for call in world.store.calls.values():
        if not call.over:
            await world.manager.end_call(call.id)
    await settle()
    await world.check_end()


async def asks_carol(world: World) -> tuple[int, int, int, int]:
    """Anna talks to Bob, whose other call rings at Carol's."""
    anna, bob = await talking(world)
    consult = world.invite("300", PBX)
    await settle()
    carol: int = world.engine.of("dial")[-1][0]
    world.ring(carol)
    await settle()
    return anna, bob, consult, carol


async def test_a_target_that_still_rings_rings_for_who_stays(world: World) -> None:
    anna, bob, consult, carol = await asks_carol(world)
    refer(world, bob, headers=[("Replaces", "x")], replaces=consult)
    await settle()
    assert world.engine.of("accept_refer") == [(bob, 7)]
    assert world.engine.of("reject") == [(consult, 480)], "Bob's call to Carol is over"
    assert (carol,) not in world.engine.of("hangup")
    assert told(world) == [180]
    world.pick_up(carol)
    await settle()
    assert world.engine.of("bridge")[-1] == (anna, carol)
    assert told(world) == [180, 200]
    first, second = world.store.calls.values()
    assert (first.status, second.status, second.reason) == ("in-progress", "canceled", "transferred")
    world.end(carol, "bye")
    await settle()
    assert world.store.calls[first.id].hangup_source == "callee"
    assert len(world.engine.of("dial")) == 2, "nobody is called twice"


async def test_who_stays_comes_back_from_a_target_that_rang_in_vain(world: World) -> None:
    anna, bob, consult, carol = await asks_carol(world)
    refer(world, bob, headers=[("Replaces", "x")], replaces=consult)
    await settle()
    world.end(carol, "rejected", status=486)
    await settle()
    assert told(world) == [180, 486]
    assert world.engine.of("bridge")[-1] == (anna, bob)
    world.end(bob, "bye")
    await settle()


async def test_a_target_that_rings_for_ever_is_given_up(world: World) -> None:
    anna, bob, consult, carol = await asks_carol(world)
    refer(world, bob, headers=[("Replaces", "x")], replaces=consult)
    await settle_for(world, 120)
    assert told(world) == [180, 408]
    assert (carol,) in world.engine.of("hangup")
    world.end(anna, "bye")
    await settle()


async def test_a_target_that_is_just_answering_is_there_at_once(world: World) -> None:
    anna, bob, consult, carol = await asks_carol(world)
    gate = world.engine.hold("bridge")
    world.pick_up(carol)
    refer(world, bob, headers=[("Replaces", "x")], replaces=consult)
    gate.set()
    await settle()
    assert world.engine.of("bridge")[-1] == (anna, carol)
    assert told(world) == [200]
    world.end(carol, "bye")
    await settle()


async def test_a_target_on_another_worker_answers_and_is_asked_to_replace_its_call(world: World) -> None:
    anna, bob, consult, carol = await asks_carol(world)
    refer(world, bob, headers=[("Replaces", "x")], replaces=consult)
    world.engine.faults["bridge"] = WrongState("the legs are on two workers")
    world.pick_up(carol)
    await settle()
    del world.engine.faults["bridge"]
    new, how = world.engine.of("dial")[-1]
    assert how["replaces"] == carol
    world.pick_up(new)
    await settle()
    assert world.engine.of("bridge")[-1] == (anna, new)
    assert (carol,) in world.engine.of("hangup")
    assert told(world) == [180, 200]
    world.end(new, "bye")
    await settle()


async def test_the_other_places_of_a_route_ring_for_who_stays_too() -> None:
    ring = {"strategy": "serial", "timeout": 10, "targets": [{"uri": "sip:c@192.0.2.9"}, {"trunk": "pbx"}]}
    world = World(
        {
            **TABLES,
            "routes": [{"name": "both", "match": {"to": "^30"}, "target": {"ring": ring}}, *TABLES["routes"]],
        }
    )
    anna, bob, consult, carol = await asks_carol(world)
    refer(world, bob, headers=[("Replaces", "x")], replaces=consult)
    await settle()
    world.end(carol, "rejected", status=486)
    await settle()
    dave = world.engine.of("dial")[-1][0]
    assert dave != carol
    world.pick_up(dave)
    await settle()
    assert world.engine.of("bridge")[-1] == (anna, dave)
    world.end(anna, "bye")
    await settle()
    await world.check_end()


async def test_an_early_dialog_of_ours_is_nobody_elses_to_replace(passing: World) -> None:
    anna, bob = await talking(passing)
    consult = passing.invite("300")
    await settle()
    passing.ring(passing.engine.of("dial")[-1][0])
    refer(passing, anna, headers=[("Replaces", "x")], replaces=consult)
    await settle()
    assert passing.engine.of("refer") == []
    assert told(passing) == [180]
    passing.end(bob, "bye")
    await settle()


async def asks_a_browser(world: World) -> tuple[int, int, int, int, Any]:
    """Anna talks to Bob, who talks to a browser too."""
    browser = world.browser(names=frozenset({"sales"}))
    consult = world.invite("+74951234567", PBX)
    await settle()
    (call,) = world.store.calls.values()
    await world.manager.join(browser, call.id)
    await world.manager.offer(browser, call.id, "o")
    page = world.engine.of("bridge")[-1][1]
    leg = world.invite("200")
    await settle()
    far: int = world.engine.of("dial")[-1][0]
    world.pick_up(far)
    await settle()
    return leg, far, consult, page, browser


async def test_who_stays_comes_to_the_browsers_call(world: World) -> None:
    anna, bob, consult, page, browser = await asks_a_browser(world)
    refer(world, bob, headers=[("Replaces", "x")], replaces=consult)
    await settle()
    browsers, first = world.store.calls.values()
    assert world.engine.of("bridge")[-1] == (page, anna)
    assert told(world) == [200]
    assert (browsers.status, first.status, first.reason) == ("in-progress", "completed", "transferred")
    assert {(bob,), (consult,)} <= set(world.engine.of("hangup"))
    assert (anna,) not in world.engine.of("hangup")
    assert world.history(first)[-2:] == ["call.transferred", "call.completed"]
    assert world.history(browsers)[-1] == "call.transferred"
    world.manager.send_digits(browser, browsers.id, "1")
    assert world.engine.of("send_digits") == [(anna, "1")]
    world.end(anna, "bye")
    await settle()
    over = world.store.calls[browsers.id]
    assert (over.status, over.hangup_source) == ("completed", "caller")


@pytest.mark.parametrize("status", [None, 486])
async def test_who_stays_is_asked_to_call_the_browsers_worker(world: World, status: int | None) -> None:
    anna, bob, consult, page, browser = await asks_a_browser(world)
    world.engine.faults["bridge"] = WrongState("the legs are on two workers")
    refer(world, bob, headers=[("Replaces", "x")], replaces=consult)
    await settle()
    del world.engine.faults["bridge"]
    new, how = world.engine.of("dial")[-1]
    assert how["replaces"] == anna
    browsers, first = world.store.calls.values()
    if status is None:
        world.pick_up(new)
        world.end(anna, "bye")
    else:
        world.end(new, "rejected", status=status)
    await settle()
    assert told(world) == [status or 200]
    assert world.store.calls[browsers.id].status == "in-progress"
    assert world.store.calls[first.id].over is (status is None)
    if status is None:
        assert world.engine.of("bridge")[-1] == (page, new)
    await world.manager.leave(browser, browsers.id)
    world.end(bob, "bye")
    await settle()


async def test_who_stays_may_hang_up_instead_of_calling_the_browsers_worker(world: World) -> None:
    anna, bob, consult, _, browser = await asks_a_browser(world)
    world.engine.faults["bridge"] = WrongState("the legs are on two workers")
    refer(world, bob, headers=[("Replaces", "x")], replaces=consult)
    await settle()
    browsers, first = world.store.calls.values()
    world.end(anna, "bye")
    world.end(world.engine.of("dial")[-1][0], "rejected", status=603)
    await settle()
    assert told(world) == [603]
    over = world.store.calls[first.id]
    assert (over.status, over.hangup_source) == ("completed", "caller")
    await world.manager.leave(browser, browsers.id)


async def test_a_browsers_call_that_ends_meanwhile_is_no_transfer(world: World) -> None:
    _, bob, consult, _, browser = await asks_a_browser(world)
    world.engine.faults["bridge"] = WrongState("the legs are on two workers")
    refer(world, bob, headers=[("Replaces", "x")], replaces=consult)
    await settle()
    browsers, first = world.store.calls.values()
    await world.manager.leave(browser, browsers.id)
    await settle_for(world, 60)
    assert told(world) == [408]
    assert world.store.calls[first.id].status == "in-progress"
    world.end(bob, "bye")
    await settle()


async def test_two_browsers_are_not_joined(world: World) -> None:
    _, _, consult, _, _ = await asks_a_browser(world)
    other = world.browser("b2", names=frozenset({"sales"}))
    leg = world.invite("+7495", PBX)
    await settle()
    call = list(world.store.calls.values())[-1]
    await world.manager.join(other, call.id)
    await world.manager.offer(other, call.id, "o")
    refer(world, leg, headers=[("Replaces", "x")], replaces=consult)
    await settle()
    assert told(world) == [488]
    for call in world.store.calls.values():
        await world.manager.end_call(call.id)
    await settle()


async def test_a_target_that_has_moved_is_followed(world: World) -> None:
    """RFC 3261 8.1.3.4, as for any call; the place that sent us on is not asked twice."""
    leg, far = await talking(world)
    refer(world, far)
    away = world.engine.of("dial")[-1][0]
    contacts = [
        "sip:away@192.0.2.9:5070",
        "tel:+7",
        "sip:x@nowhere.example",
        "sip:1@203.0.113.10",
        "sip:2@198.51.100.1",
    ]
    world.end(away, "rejected", status=302, contacts=contacts)
    await settle()
    moved, how = world.engine.of("dial")[-1]
    assert how["uri"] == "sip:1@203.0.113.10", "where a trunk is; anybody else may not be called"
    assert how["from_uri"].startswith("sip:+79001112233@"), "the one who stays is said to call"
    world.end(moved, "rejected", status=486)
    await settle()
    last, how = world.engine.of("dial")[-1]
    assert how["uri"] == "sip:2@198.51.100.1"
    world.pick_up(last)
    await settle()
    assert world.engine.of("bridge")[-1] == (leg, last)
    assert told(world) == [200]
    world.end(leg, "bye")
    await settle()


async def test_a_target_that_sends_us_round_is_given_up(world: World) -> None:
    leg, far = await talking(world)
    refer(world, far)
    for number in range(20):
        if told(world):
            break
        asked = world.engine.of("dial")[-1][0]
        world.end(asked, "rejected", status=302, contacts=[f"sip:{number}@203.0.113.10"])
        await settle()
    assert told(world) == [480]
    assert len(world.engine.of("dial")) == 1 + 1 + 5
    world.end(leg, "bye")
    await settle()


async def test_a_target_that_will_not_anywhere_is_asked_nowhere_else() -> None:
    ring = {"strategy": "serial", "timeout": 10, "targets": [{"uri": "sip:c@192.0.2.9"}, {"trunk": "pbx"}]}
    both = {"name": "both", "match": {"to": "^30"}, "target": {"ring": ring}}
    world = World({**TABLES, "routes": [both, *TABLES["routes"]]})
    leg, far = await talking(world)
    refer(world, far)
    world.end(world.engine.of("dial")[-1][0], "rejected", status=603)
    await settle()
    assert told(world) == [603], "RFC 3261 16.7, item 5"
    assert len(world.engine.of("dial")) == 2
    world.end(leg, "bye")
    await settle()
    await world.check_end()


async def rings_at_browsers(world: World) -> tuple[int, int, Any, Any]:
    """Anna talks to Bob, who transfers her to the sales people."""
    browser = world.browser(names=frozenset({"sales"}))
    anna, bob = await talking(world)
    refer(world, bob, "sip:+7495@192.0.2.1")
    await settle()
    assert world.engine.of("accept_refer") == [(bob, 7)]
    first, second = world.store.calls.values()
    assert browser.last().id == second.id
    assert (second.status, second.from_, second.to, second.route) == (
        "ringing",
        "+79001112233",
        "+7495",
        "sales",
    )
    assert told(world) == [180]
    return anna, bob, browser, (first.id, second.id)


async def test_browsers_ring_for_whom_they_are_to_have(world: World) -> None:
    anna, bob, browser, (first, second) = await rings_at_browsers(world)
    assert world.store.calls[first].status == "in-progress", "until somebody answers"
    await world.manager.join(browser, second)
    await world.manager.offer(browser, second, "o")
    await settle()
    page = world.engine.of("bridge")[-1][1]
    assert world.engine.of("bridge")[-1] == (anna, page)
    assert world.engine.of("introduce") == [(page, anna)]
    assert world.engine.of("answer") == [(anna,)], "she was answered long ago"
    assert told(world) == [180, 200]
    assert (bob,) in world.engine.of("hangup")
    assert (anna,) not in world.engine.of("hangup")
    before, now = world.store.calls[first], world.store.calls[second]
    assert (before.status, before.reason, now.status) == ("completed", "transferred", "in-progress")
    assert world.history(before)[-2:] == ["call.transferred", "call.completed"]
    assert world.history(now)[:4] == ["call.initiated", "call.ringing", "session.joined", "call.answered"]
    world.manager.send_digits(browser, second, "1")
    assert world.engine.of("send_digits") == [(anna, "1")]
    world.end(anna, "bye")
    await settle()
    assert (world.store.calls[second].status, world.store.calls[second].hangup_source) == (
        "completed",
        "caller",
    )


@pytest.mark.parametrize("how", ["declined", "silence", "gone"])
async def test_who_stays_comes_back_from_browsers_that_do_not_answer(world: World, how: str) -> None:
    anna, bob, browser, (first, second) = await rings_at_browsers(world)
    match how:
        case "declined":
            await world.manager.leave(browser, second)
        case "silence":
            await settle_for(world, 120)
        case _:
            await world.manager.end_call(second)
    await settle()
    assert told(world) == [180, {"declined": 603, "silence": 480, "gone": 603}[how]]
    assert world.engine.of("bridge")[-1] == (anna, bob)
    assert transfers_of(world, first) == ["transfer-requested", "transfer-failed"]
    assert world.store.calls[second].over
    refer(world, bob)
    await settle()
    assert len(world.engine.of("accept_refer")) == 2, "it may be tried again"
    world.end(anna, "bye")
    await settle()


def transfers_of(world: World, call: Any) -> list[str]:
    history = world.history(world.store.calls[call])
    return [event.removeprefix("call.") for event in history if event.startswith("call.transfer")]


async def test_who_stays_may_hang_up_while_browsers_ring(world: World) -> None:
    anna, _, browser, (first, second) = await rings_at_browsers(world)
    world.end(anna, "bye")
    await settle()
    assert (world.store.calls[first].status, world.store.calls[first].hangup_source) == (
        "completed",
        "caller",
    )
    assert (world.store.calls[second].status, world.store.calls[second].hangup_cause) == (
        "canceled",
        "originator_cancel",
    )
    assert browser.heard()[-1] == "CallEnded"


async def test_who_stays_may_hang_up_while_a_browser_answers(world: World) -> None:
    anna, _, browser, (_, second) = await rings_at_browsers(world)
    await world.manager.join(browser, second)
    gate = world.engine.hold("bridge")
    answer = asyncio.ensure_future(world.manager.offer(browser, second, "o"))
    await settle()
    world.end(anna, "bye")
    gate.set()
    with pytest.raises(WrongState):
        await answer
    await settle()
    assert world.store.calls[second].status == "canceled"


async def test_who_asked_may_hang_up_while_browsers_ring(world: World) -> None:
    anna, bob, browser, (first, second) = await rings_at_browsers(world)
    world.end(bob, "bye")
    await settle()
    assert world.store.calls[first].status == "in-progress"
    await world.manager.join(browser, second)
    await world.manager.offer(browser, second, "o")
    await settle()
    assert world.engine.of("bridge")[-1][0] == anna
    assert world.store.calls[first].reason == "transferred"
    await world.manager.leave(browser, second)
    await settle()
    assert (anna,) in world.engine.of("hangup")


async def test_a_call_of_somebody_else_is_not_named(world: World) -> None:
    """RFC 3891 3: who asks has to be he whom the call belongs to."""
    anna, bob = await talking(world)
    consult = world.invite("300")
    await settle()
    refer(world, bob, headers=[("Replaces", "x")], replaces=consult)
    assert world.engine.of("refuse_refer") == [(bob, 7, 403)]
    first, _ = world.store.calls.values()
    assert world.history(first)[-1] == "call.transfer-failed"
    world.end(anna, "bye")
    world.end(consult, "cancel")
    await settle()


async def test_a_trunk_may_answer_for_another_ones_calls() -> None:
    trunks = [TABLES["trunks"][0], {**TABLES["trunks"][1], "replaces": ["carrier"]}]
    world = World({**TABLES, "trunks": trunks})
    anna, bob = await talking(world)
    consult = world.invite("300")
    await settle()
    refer(world, bob, headers=[("Replaces", "x")], replaces=consult)
    assert world.engine.of("accept_refer") == [(bob, 7)]
    world.end(anna, "bye")
    await settle()
    await world.check_end()


async def test_browsers_that_are_not_there_are_no_target(world: World) -> None:
    anna, bob = await talking(world)
    refer(world, bob, "sip:+7495@192.0.2.1")
    await settle()
    assert told(world) == [480]
    first, second = world.store.calls.values()
    assert (first.status, second.status) == ("in-progress", "no-answer")
    world.end(anna, "bye")
    await settle()


@pytest.mark.parametrize("mode", ["handle", "pass"])
async def test_browsers_that_still_ring_ring_for_who_stays(mode: str) -> None:
    world = World(tables(pbx=mode))
    browser = world.browser(names=frozenset({"sales"}))
    anna, bob = await talking(world)
    consult = world.invite("+7495", PBX)
    await settle()
    first, asked = world.store.calls.values()
    refer(world, bob, headers=[("Replaces", "x")], replaces=consult)
    await settle()
    *_, again = world.store.calls.values()
    assert browser.heard()[-3:] == ["IncomingCall", "CallEnded", "IncomingCall"]
    assert world.engine.of("reject") == [(consult, 480)]
    assert (world.store.calls[asked.id].reason, again.from_) == ("transferred", "+79001112233")
    await world.manager.join(browser, again.id)
    await world.manager.offer(browser, again.id, "o")
    await settle()
    assert world.engine.of("bridge")[-1][0] == anna
    assert told(world) == [180, 200]
    assert world.store.calls[first.id].reason == "transferred"
    world.end(anna, "bye")
    await settle()
    await world.check_end()


async def test_browsers_that_ring_for_a_browsers_partner_stay_where_they_are(world: World) -> None:
    browser = world.browser(names=frozenset({"sales"}))
    leg, call = await world.talking(browser)
    consult = world.invite("+7495")
    other = world.browser("b2", names=frozenset({"sales"}))
    await settle()
    refer(world, leg, headers=[("Replaces", "x")], replaces=consult)
    await settle()
    assert world.engine.of("refuse_refer") == [(leg, 7, 488)]
    assert other.last().status == "ringing"
    world.end(consult, "cancel")
    await world.manager.end_call(call.id)
    await settle()


@pytest.mark.parametrize("asked_by", ["a telephone", "the API"])
async def test_a_caller_who_hides_stays_hidden_from_whom_he_is_handed_to(world: World, asked_by: str) -> None:
    """RFC 3323 5: what he asked for holds for whoever is called in his name."""
    leg = world.invite(to="200", headers=[("Privacy", "id")])
    await settle()
    (far, how) = world.engine.of("dial")[-1]
    assert how["from_uri"] == "sip:anonymous@anonymous.invalid"
    world.ring(far)
    world.pick_up(far)
    await settle()
    if asked_by == "a telephone":
        refer(world, far)
    else:
        await world.manager.transfer(world.only().id, NewTransfer(to="301"))
    await settle()
    new, how = world.engine.of("dial")[-1]
    assert new not in {leg, far}
    assert (how["from_uri"], how["from_display"]) == ("sip:anonymous@anonymous.invalid", "Anonymous")
