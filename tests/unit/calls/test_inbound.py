"""Calls that come in: admission, routing, ringing browsers, answering, and every way it may go wrong."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from telephony_gateway.calls.events import Held, Incoming
from telephony_gateway.calls.frames import CallEnded, IncomingCall
from telephony_gateway.errors import EngineFailure, NotAcceptable, Overloaded, WrongState
from tests.unit.calls.world import START, TABLES, FakeBrowser, Headers, World, settle


class PanicException(BaseException):
    """As PyO3 raises it: not an Exception."""


async def test_a_browser_answers(world: World) -> None:
    browser = world.browser()
    leg, call = await world.ringing()
    assert browser.heard() == ["IncomingCall"]
    assert world.engine.of("ring") == [(leg, ["PCMU", "PCMA", "opus"])]
    await asyncio.sleep(3)
    joined = await world.manager.join(browser, call.id)
    assert joined.session.call_id == call.id
    assert await world.manager.offer(browser, call.id, "o") == "answer to o"
    assert world.engine.names() == ["ring", "accept_offer", "bridge", "answer"]
    answered = await world.manager.find_call(call.id)
    assert answered.status == "in-progress"
    assert answered.answered_at == START + timedelta(seconds=3)
    await asyncio.sleep(10)
    world.end(leg, "bye")
    await settle()
    ended = await world.manager.find_call(call.id)
    assert (ended.status, ended.hangup_cause, ended.hangup_source) == (
        "completed",
        "normal_clearing",
        "caller",
    )
    assert ended.duration == 10
    assert world.history(call) == [
        "call.initiated",
        "call.ringing",
        "session.joined",
        "call.answered",
        "call.bridged",
        "session.left",
        "call.completed",
    ]
    assert isinstance(browser.frames[-1], CallEnded)
    assert [leg.state for leg in ended.legs] == ["ended", "ended"]
    assert all(leg.stats is not None for leg in ended.legs)


async def test_what_the_sip_side_speaks_is_offered_first(world: World) -> None:
    world.engine.faults.clear()
    browser = world.browser()
    await world.talking(browser)
    ((_, _, codecs),) = world.engine.of("accept_offer")
    assert codecs == ["PCMU", "PCMA", "opus"]


@pytest.mark.parametrize(
    ("to", "source", "status"),
    [
        ("+7495", "192.0.2.50", 403),
        ("999", "203.0.113.7", 404),
        ("4", "203.0.113.7", 486),
        ("5", "203.0.113.7", 482),
        ("+7495", "203.0.113.7", 480),
    ],
    ids=["no trunk", "no route", "rejected by route", "a loop", "no browser"],
)
async def test_refusals(world: World, to: str, source: str, status: int) -> None:
    leg = world.invite(to, source)
    await settle()
    assert world.engine.of("reject") == [(leg, status)]


async def test_a_stranger_leaves_no_record(world: World) -> None:
    world.invite(source="192.0.2.50")
    assert world.store.calls == {}
    assert ("refused", "no_trunk") in world.watcher.told


async def test_only_browsers_of_the_route_ring(world: World) -> None:
    sales, support, stranger = (
        world.browser("sales"),
        world.browser("support", names=frozenset({"support"})),
        world.browser("stranger", authenticated=False),
    )
    await world.ringing()
    assert (sales.heard(), support.heard(), stranger.heard()) == (["IncomingCall"], [], [])


async def test_a_browser_that_comes_late_rings_too(world: World) -> None:
    world.browser("first")
    leg, _call = await world.ringing()
    late = world.browser("late", names=frozenset())
    assert late.heard() == []
    late.names = frozenset({"sales"})
    world.manager.connect(late)
    world.manager.connect(late)
    assert late.heard() == ["IncomingCall"]
    world.end(leg, "cancel")


async def test_the_first_of_two_browsers_wins(world: World) -> None:
    one, two = world.browser("one"), world.browser("two")
    _, call = await world.ringing()
    results = await asyncio.gather(
        world.manager.join(one, call.id), world.manager.join(two, call.id), return_exceptions=True
    )
    assert [isinstance(result, WrongState) for result in results] == [False, True]
    await world.manager.offer(one, call.id, "o")
    assert two.last().status == "in-progress"
    with pytest.raises(WrongState):
        await world.manager.offer(two, call.id, "o")


async def test_joining_twice_is_joining_once(world: World) -> None:
    browser = world.browser()
    _, call = await world.ringing()
    first = await world.manager.join(browser, call.id)
    assert (await world.manager.join(browser, call.id)).session.id == first.session.id


async def test_nobody_answers(world: World) -> None:
    browser = world.browser()
    leg, call = await world.ringing()
    await asyncio.sleep(61)
    ended = await world.manager.find_call(call.id)
    assert (ended.status, ended.hangup_cause) == ("no-answer", "timeout")
    assert world.engine.of("reject") == [(leg, 480)]
    assert browser.heard()[-1] == "CallEnded"


async def test_the_caller_cancels_while_it_rings(world: World) -> None:
    world.browser()
    leg, call = await world.ringing()
    world.end(leg, "cancel", status=487)
    ended = await world.manager.find_call(call.id)
    assert (ended.status, ended.hangup_cause, ended.hangup_source) == (
        "canceled",
        "originator_cancel",
        "caller",
    )


@pytest.mark.parametrize("gap", ["accept_offer", "bridge", "answer"])
async def test_the_caller_cancels_while_the_browser_answers(world: World, gap: str) -> None:
    browser = world.browser()
    leg, call = await world.ringing()
    await world.manager.join(browser, call.id)
    gate = world.engine.hold(gap)
    offer = asyncio.create_task(world.manager.offer(browser, call.id, "o"))
    await settle()
    world.end(leg, "cancel", status=487)
    gate.set()
    with pytest.raises(WrongState):
        await offer
    assert (await world.manager.find_call(call.id)).status == "canceled"


@pytest.mark.parametrize("gap", ["accept_offer", "bridge"])
async def test_the_browsers_socket_closes_before_the_200(world: World, gap: str) -> None:
    browser, other = world.browser("b1"), world.browser("b2")
    _, call = await world.ringing()
    await world.manager.join(browser, call.id)
    gate = world.engine.hold(gap)
    offer = asyncio.create_task(world.manager.offer(browser, call.id, "o"))
    await settle()
    world.manager.disconnect(browser)
    gate.set()
    with pytest.raises(WrongState):
        await offer
    assert (await world.manager.find_call(call.id)).status == "ringing", "it rings on for the others"
    await world.manager.join(other, call.id)
    await world.manager.offer(other, call.id, "o")
    assert (await world.manager.find_call(call.id)).status == "in-progress"


async def test_the_browsers_socket_closes_behind_the_200(world: World) -> None:
    browser = world.browser()
    _, call = await world.ringing()
    await world.manager.join(browser, call.id)
    gate = world.engine.hold("answer")
    offer = asyncio.create_task(world.manager.offer(browser, call.id, "o"))
    await settle()
    world.manager.disconnect(browser)
    with pytest.raises(WrongState):
        await world.manager.join(world.browser("b2"), call.id)
    gate.set()
    with pytest.raises(WrongState):
        await offer
    ended = await world.manager.find_call(call.id)
    assert (ended.status, ended.hangup_source) == ("completed", "callee")


@pytest.mark.parametrize("gap", ["accept_offer", "bridge", "answer"])
async def test_the_request_is_cancelled_with_its_socket(world: World, gap: str) -> None:
    browser = world.browser()
    leg, call = await world.ringing()
    await world.manager.join(browser, call.id)
    gate = world.engine.hold(gap)
    offer = asyncio.create_task(world.manager.offer(browser, call.id, "o"))
    await settle()
    offer.cancel()
    await settle()
    assert offer.cancelled()
    world.manager.disconnect(browser)
    gate.set()
    await settle()
    after = await world.manager.find_call(call.id)
    if gap == "answer":
        assert (after.status, after.hangup_source) == ("completed", "callee")
        assert (leg,) in world.engine.of("hangup")
    else:
        assert after.status == "ringing"


async def test_the_request_is_cancelled_and_then_its_work_fails(world: World) -> None:
    browser = world.browser()
    _, call = await world.ringing()
    await world.manager.join(browser, call.id)
    gate = world.engine.hold("bridge")
    offer = asyncio.create_task(world.manager.offer(browser, call.id, "o"))
    await settle()
    offer.cancel()
    await settle()
    world.engine.faults["answer"] = PanicException("late")
    gate.set()
    await settle()
    assert (await world.manager.find_call(call.id)).status == "failed"


async def test_the_socket_closes_in_the_middle_of_a_join(world: World) -> None:
    world.browser("other")
    browser = world.browser(authenticated=False)
    _, call = await world.ringing()
    ticket = await world.manager.create_session(call.id)
    join = asyncio.create_task(world.manager.join(browser, call.id, ticket.token))
    await asyncio.sleep(0)
    world.manager.disconnect(browser)
    with pytest.raises(WrongState):
        await join
    assert (await world.manager.find_call(call.id)).status == "ringing"
    await world.manager.join(world.browser("next"), call.id)


async def test_the_answer_fails_although_nothing_ended_yet(world: World) -> None:
    browser = world.browser()
    leg, call = await world.ringing()
    await world.manager.join(browser, call.id)
    world.engine.faults["answer"] = EngineFailure("not now", reason="wrong_state")
    with pytest.raises(WrongState):
        await world.manager.offer(browser, call.id, "o")
    assert (await world.manager.find_call(call.id)).status == "failed"
    assert (leg,) in world.engine.of("hangup")


async def test_a_useless_offer_does_not_end_the_call(world: World) -> None:
    browser = world.browser()
    _, call = await world.ringing()
    await world.manager.join(browser, call.id)
    world.engine.faults["accept_offer"] = NotAcceptable("nothing usable")
    with pytest.raises(NotAcceptable):
        await world.manager.offer(browser, call.id, "o")
    await settle()
    assert len(world.engine.alive) == 1, "the browser's leg is gone, the caller's is there"
    world.engine.faults.clear()
    await world.manager.offer(browser, call.id, "o")
    assert (await world.manager.find_call(call.id)).status == "in-progress"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Overloaded("no ports are free"), 503),
        (EngineFailure("the engine does not answer", reason="timeout"), 500),
    ],
)
async def test_the_engine_cannot_ring(world: World, error: Exception, status: int) -> None:
    world.browser()
    world.engine.faults["ring"] = error
    leg = world.invite()
    await settle()
    assert world.engine.of("reject") == [(leg, status)]
    assert world.only().status == "failed"


async def test_no_common_codec(world: World) -> None:
    browser = world.browser()
    world.engine.faults["ring"] = NotAcceptable("nothing in common")
    leg = world.invite()
    await settle()
    world.end(leg, "not_acceptable", by="system", status=488)
    assert (world.only().status, world.only().sip_response_code) == ("failed", 488)
    assert browser.heard() == []


async def test_the_200_is_never_confirmed(world: World) -> None:
    leg, call = await world.talking(world.browser())
    world.end(leg, "no_ack", by="system")
    ended = await world.manager.find_call(call.id)
    assert (ended.status, ended.hangup_cause) == ("failed", "timeout")


@pytest.mark.parametrize("how", ["leave", "disconnect", "ice"])
async def test_the_browser_ends_an_answered_call(world: World, how: str) -> None:
    browser = world.browser()
    leg, call = await world.talking(browser)
    if how == "leave":
        await world.manager.leave(browser, call.id)
    elif how == "disconnect":
        world.manager.disconnect(browser)
    else:
        world.end(world.engine.of("accept_offer")[0][0], "ice_failed", by="system", reason="ICE failed")
    await settle()
    ended = await world.manager.find_call(call.id)
    assert ended.status == "completed"
    assert ended.hangup_source == ("system" if how == "ice" else "callee")
    assert (leg,) in world.engine.of("hangup")


async def test_events_of_an_ended_call_change_nothing(world: World) -> None:
    browser = world.browser()
    leg, call = await world.talking(browser)
    await world.manager.end_call(call.id, reason="enough")
    before = await world.manager.find_call(call.id)
    world.press(leg, "1")
    world.ring(leg)
    world.pick_up(leg)
    await settle()
    after = await world.manager.find_call(call.id)
    assert (after.sequence, after.reason) == (before.sequence, "enough")
    with pytest.raises(WrongState):
        await world.manager.end_call(call.id)
    world.manager.disconnect(browser)


async def test_a_declined_call(world: World) -> None:
    world.browser()
    leg, call = await world.ringing()
    await world.manager.end_call(call.id, source="callee")
    assert world.engine.of("reject") == [(leg, 603)]
    assert (await world.manager.find_call(call.id)).hangup_cause == "call_rejected"


async def test_who_joins_reads_of_it_in_the_reply_and_the_others_by_a_notice(world: World) -> None:
    first, second = world.browser("b1"), world.browser("b2")
    _, call = await world.ringing()
    await world.manager.join(first, call.id)
    assert first.heard() == ["IncomingCall"]
    assert second.heard() == ["IncomingCall", "CallState"]


async def test_one_declines_and_the_others_ring_on(world: World) -> None:
    first, second = world.browser("b1"), world.browser("b2")
    leg, call = await world.ringing()
    await world.manager.leave(first, call.id)
    assert world.engine.of("reject") == []
    world.manager.connect(first)
    await world.manager.join(second, call.id)
    assert first.heard() == ["IncomingCall"], "silent from then on"
    await world.manager.leave(second, call.id)
    assert world.engine.of("reject") == []
    with pytest.raises(WrongState):
        await world.manager.leave(first, call.id)
    await world.manager.leave(second, call.id)
    assert world.engine.of("reject") == [(leg, 603)]
    ended = await world.manager.find_call(call.id)
    assert (ended.status, ended.hangup_cause, ended.hangup_source) == ("canceled", "call_rejected", "callee")


async def test_who_came_while_the_call_was_taken_is_rung_when_it_is_free_again(world: World) -> None:
    first = world.browser()
    _, call = await world.ringing()
    await world.manager.join(first, call.id)
    late = world.browser("late")
    assert late.heard() == []
    await world.manager.leave(first, call.id)
    assert late.heard() == ["IncomingCall"]


async def test_digits_are_told_up_to_a_bound(world: World) -> None:
    leg, call = await world.talking(world.browser())
    for _ in range(world.policy.max_notes + 5):
        world.press(leg, "7")
    assert world.history(call).count("call.dtmf") == world.policy.max_notes


@pytest.mark.parametrize("fault", [PanicException("a panic"), RuntimeError("a bug")])
async def test_a_fault_ends_only_its_call(world: World, fault: BaseException) -> None:
    one, two = world.browser("one"), world.browser("two")
    _, good = await world.ringing()
    await world.manager.join(one, good.id)
    world.engine.faults["ring"] = fault
    bad_leg = world.invite()
    await settle()
    (bad,) = [call for call in world.store.calls.values() if call.id != good.id]
    assert (bad.status, world.engine.of("reject")) == ("failed", [(bad_leg, 500)])
    world.engine.faults = {"accept_offer": fault}
    with pytest.raises(EngineFailure):
        await world.manager.offer(one, good.id, "o")
    assert (await world.manager.find_call(good.id)).status == "failed"
    assert two.heard()[-1] == "CallEnded"


async def test_a_fault_at_the_door_refuses_the_call(world: World, monkeypatch: Any) -> None:
    def broken(*_: Any) -> None:
        raise PanicException("routing")

    monkeypatch.setattr(world.manager._inbound._routing, "route", broken)
    leg = world.invite()
    await settle()
    assert world.engine.of("reject") == [(leg, 500)]


async def test_no_room(world: World) -> None:
    small = World(max_calls=1)
    small.browser()
    await small.ringing()
    leg = small.invite()
    await settle()
    assert small.engine.of("reject") == [(leg, 503)]
    await small.check_end()


async def test_no_record_no_call(world: World) -> None:
    world.browser()
    world.store.down = True
    leg = world.invite()
    await settle()
    assert world.engine.of("reject") == [(leg, 503)]
    assert world.manager.active_calls == 0


async def test_a_store_that_goes_away_does_not_end_calls() -> None:
    world = World()
    browser = world.browser()
    leg, call = await world.talking(browser)
    world.store.down = True
    world.press(leg, "1")
    assert (await world.manager.find_call(call.id)).status == "in-progress"
    world.end(leg, "bye")
    assert browser.heard()[-1] == "CallEnded"
    await asyncio.sleep(100)
    assert world.engine.alive == set()


async def test_what_the_store_had_no_room_for_comes_before_the_next(world: World) -> None:
    browser = world.browser()
    leg, call = await world.talking(browser)
    world.store.down = True
    world.press(leg, "1")
    world.press(leg, "2")
    world.store.down = False
    world.press(leg, "3")
    # The store itself refuses a gap in the sequence.
    assert world.history(call).count("call.dtmf") == 3


async def test_the_end_of_a_call_is_recorded_once_the_store_is_back(world: World) -> None:
    leg, call = await world.talking(world.browser())
    world.store.down = True
    world.end(leg, "bye")
    await asyncio.sleep(60)
    assert world.store.calls[call.id].status == "in-progress"
    assert world.manager.active_calls == 0
    world.store.down = False
    await asyncio.sleep(10)
    assert world.store.calls[call.id].status == "completed"
    assert world.history(call)[-1] == "call.completed"


async def test_a_peer_that_holds_without_end_fills_no_history(world: World) -> None:
    leg, call = await world.talking(world.browser())
    for number in range(2 * world.policy.max_notes):
        world.engine.emit(Held(leg=leg, held=number % 2 == 0))
    assert len(world.history(call)) < world.policy.max_notes + 10


async def test_a_route_says_how_long_its_calls_may_ring() -> None:
    tables = TABLES | {"routes": [{"name": "quick", "target": {"browser": "sales"}, "ring_timeout": 10}]}
    world = World(tables)
    world.browser()
    leg = world.invite()
    await asyncio.sleep(9)
    assert world.only().status == "ringing"
    await asyncio.sleep(2)
    assert (world.only().status, world.engine.of("reject")) == ("no-answer", [(leg, 480)])
    await world.check_end()


async def test_a_phone_without_a_name_of_its_own_shows_its_users() -> None:
    alice = {"name": "alice", "password_env": "X", "display": "Alice of Sales"}
    world = World(TABLES | {"users": [alice]})
    for display, shown in (("", "Alice of Sales"), ("Al", "Al")):
        leg = world.engine.new_sip_leg()
        world.engine.alive.add(leg)
        event = Incoming(
            leg=leg, sip_call_id=f"{leg}", request_uri="sip:200@192.0.2.1", from_uri="sip:alice@192.0.2.1",
            from_display=display, to_uri="sip:200@192.0.2.1", source=("192.0.2.50", 5060),
            local=("192.0.2.1", 5060), codecs=["PCMA"], message=Headers(), trunk="", user="alice",
        )  # fmt: skip
        world.engine.emit(event)
        assert world.engine.of("dial")[-1][1]["from_display"] == shown
    assert {call.trunk for call in world.store.calls.values()} == {"phones"}
    await world.check_end()


async def test_a_cache_that_is_away_ends_nothing(world: World) -> None:
    world.cache.fault = ConnectionError("away")
    browser = world.browser()
    _, call = await world.talking(browser)
    assert (await world.manager.find_call(call.id)).status == "in-progress"
    world.cache.fault = None


async def test_a_browser_whose_send_fails_hurts_nobody(world: World) -> None:
    class Broken(FakeBrowser):
        def send(self, frame: Any) -> None:
            raise RuntimeError("closed")

    world.manager.connect(Broken("broken"))
    good = world.browser("good")
    await world.ringing()
    assert isinstance(good.frames[0], IncomingCall)


async def test_a_leg_that_never_ends_is_given_up() -> None:
    world = World()
    _leg, call = await world.talking(world.browser())
    world.engine.silent = True
    await world.manager.end_call(call.id)
    assert world.manager.active_calls == 0
    await asyncio.sleep(100)
    assert world.manager._calls.everything() == []
