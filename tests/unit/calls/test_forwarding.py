"""Inbound calls that a route sends on: two SIP legs, one call."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from telephony_gateway.calls.events import Refer
from telephony_gateway.calls.manager import NewTransfer
from telephony_gateway.calls.transfers import MAX_REFERS
from telephony_gateway.errors import EngineFailure, NotAcceptable, WrongState
from tests.unit.calls.world import TABLES, World, settle


async def forwarded(world: World, to: str = "200") -> tuple[int, int]:
    """The caller's leg and the far one."""
    leg = world.invite(to)
    await settle()
    return leg, world.engine.of("dial")[0][0]


async def test_both_sides_meet(world: World) -> None:
    leg, far = await forwarded(world)
    ((_, how),) = world.engine.of("dial")
    assert (how["uri"], how["next_hop"]) == ("sip:200@198.51.100.1", "sip:198.51.100.1")
    assert how["codecs"] == ["PCMA"]
    assert how["from_uri"] == "sip:+79001112233@198.51.100.1"
    world.ring(far)
    world.ring(far, 183)
    await settle()
    assert world.only().status == "ringing"
    world.pick_up(far, "PCMA")
    await settle()
    assert world.engine.names() == ["dial", "ring", "bridge", "answer"]
    assert world.engine.of("bridge") == [(leg, far)]
    assert world.only().status == "in-progress"
    world.end(far, "bye")
    await settle()
    assert (world.only().status, world.only().hangup_source) == ("completed", "callee")
    assert (leg,) in world.engine.of("hangup")


async def test_an_answer_without_ringing_takes_the_far_codec(world: World) -> None:
    leg, far = await forwarded(world, "300")
    assert world.engine.of("dial")[0][1]["uri"] == "sip:away@192.0.2.9:5070"
    assert world.engine.of("dial")[0][1]["codecs"] == ["PCMA", "PCMU", "opus"], "the caller's first"
    world.pick_up(far, "PCMA")
    await settle()
    assert world.engine.of("ring") == [(leg, ["PCMA", "PCMU", "opus"])]
    assert world.only().status == "in-progress"


async def test_what_the_engine_passed_on_is_only_recorded_and_at_its_time(world: World) -> None:
    world.engine.passes_on = True
    leg, far = await forwarded(world)
    ((_, how),) = world.engine.of("dial")
    assert (how["caller"], how["caller_codecs"]) == (leg, ("PCMU", "PCMA", "opus"))
    begun = world.only().created_at
    await asyncio.sleep(10)
    world.ring(far, age=2.0)
    world.ring(far, 183)
    assert world.only().status == "ringing"
    assert world.only().ringing_at == begun + timedelta(seconds=8)
    await asyncio.sleep(10)
    world.pick_up(far, "PCMA", age=1.0)
    assert (world.only().status, world.only().answered_at) == ("in-progress", begun + timedelta(seconds=19))
    assert {leg.state for leg in world.only().legs} == {"answered"}
    await asyncio.sleep(10)
    world.end(leg, "bye", age=4.0)
    assert world.engine.names() == ["dial"], "all else was done already"
    call = world.only()
    assert (call.status, call.hangup_source, call.duration) == ("completed", "caller", 7.0)
    assert call.ended_at == begun + timedelta(seconds=26)
    assert world.history(call) == [
        "call.initiated", "call.ringing", "call.answered", "call.bridged", "call.completed",
    ]  # fmt: skip


async def test_an_answer_passed_on_without_ringing_rings_for_the_record(world: World) -> None:
    world.engine.passes_on = True
    _, far = await forwarded(world)
    world.pick_up(far, "PCMA")
    assert world.history(world.only())[1:] == ["call.ringing", "call.answered", "call.bridged"]
    world.end(far, "bye")
    await settle()
    assert (world.only().hangup_source, world.engine.names()) == ("callee", ["dial"])


async def test_a_quick_answer_tells_of_the_ringing_too(world: World) -> None:
    world.engine.passes_on = True
    _, far = await forwarded(world)
    await asyncio.sleep(10)
    world.pick_up(far, "PCMA", age=1.0, rang=3.0)
    call = world.only()
    assert call.ringing_at == call.created_at + timedelta(seconds=7)
    assert call.answered_at == call.created_at + timedelta(seconds=9)
    assert world.history(call)[1:] == ["call.ringing", "call.answered", "call.bridged"]


async def test_a_tone_for_the_caller_is_not_the_engines_to_play() -> None:
    trunks = [TABLES["trunks"][0] | {"ringback": "eu"}, *TABLES["trunks"][1:]]
    world = World(TABLES | {"trunks": trunks})
    world.invite("200")
    await settle()
    assert world.engine.of("dial")[0][1]["caller"] is None


async def test_a_transfer_by_request_ends_what_is_passed_on(world: World) -> None:
    world.engine.passes_on = True
    leg, far = await forwarded(world)
    world.pick_up(far, "PCMA")
    await world.manager.transfer(world.only().id, NewTransfer(to="sip:other@198.51.100.1"))
    assert world.engine.of("unlink") == [(leg,)]
    assert world.engine.links == {}


async def test_who_asks_for_a_call_hears_what_was_in_no_hurry(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.engine.passes_on = True
    _, far = await forwarded(world)
    monkeypatch.setattr(world.engine, "catch_up", lambda: world.pick_up(far, "PCMA"))
    assert (await world.manager.find_call(world.only().id)).status == "in-progress"


async def test_ringing_and_answer_at_once_ring_once(world: World) -> None:
    _, far = await forwarded(world)
    world.ring(far)
    world.pick_up(far, "PCMA")
    await settle()
    assert len(world.engine.of("ring")) == 1
    assert world.only().status == "in-progress"


async def test_a_caller_who_hangs_up_on_the_200_was_answered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    leg, far = await forwarded(world)
    answer = world.engine.answer

    async def answer_and_hear_bye(number: int, on_sent: Callable[[], None]) -> None:
        def sent() -> None:
            on_sent()
            world.end(leg, "bye")  # in one batch of events: whoever awaits the answer has not run yet

        await answer(number, sent)

    monkeypatch.setattr(world.engine, "answer", answer_and_hear_bye)
    world.pick_up(far, "PCMA")
    await settle()
    assert (world.only().status, world.only().hangup_source) == ("completed", "caller")


@pytest.mark.parametrize(
    ("code", "told", "status"),
    [(486, 486, "busy"), (404, 404, "failed"), (407, 500, "failed"), (503, 500, "failed")],
)
async def test_the_far_sides_refusal_reaches_the_caller(
    world: World, code: int, told: int, status: str
) -> None:
    leg, far = await forwarded(world)
    world.end(far, "rejected", status=code)
    await settle()
    assert world.engine.of("reject") == [(leg, told)]
    assert (world.only().status, world.only().sip_response_code) == (status, code)


async def test_the_far_sides_reason_reaches_the_caller(world: World) -> None:
    leg, far = await forwarded(world)
    world.end(far, "rejected", status=480, reasons="Q.850;cause=20")
    await settle()
    assert (leg, "Q.850;cause=20") in world.engine.said
    assert (world.only().q850_cause, world.only().sip_response_code) == (20, 480)


async def test_the_callers_reason_reaches_the_far_side(world: World) -> None:
    leg, far = await forwarded(world)
    world.end(leg, "cancel", reasons='SIP;cause=200;text="Call completed elsewhere"')
    await settle()
    assert (far, 'SIP;cause=200;text="Call completed elsewhere"') in world.engine.said


async def test_a_call_that_comes_back_is_a_loop_and_one_to_another_number_is_none(world: World) -> None:
    await forwarded(world)
    ((_, how),) = world.engine.of("dial")
    sent = [pair for pair in how["headers"] if pair[0] == "X-Gateway-Passage"]
    back = world.invite("200", headers=sent)
    spiral = world.invite("201", headers=[*sent, ("Max-Forwards", "9")])
    await settle()
    assert world.engine.of("reject") == [(back, 482)]
    assert spiral in world.engine.alive
    onward = dict(world.engine.of("dial")[-1][1]["headers"])
    assert onward["Max-Forwards"] == "8"
    assert onward["X-Gateway-Passage"].startswith(sent[0][1] + ",")


async def test_the_far_side_does_not_answer(world: World) -> None:
    leg, far = await forwarded(world)
    world.end(far, "timeout", by="local")
    await settle()
    assert world.engine.of("reject") == [(leg, 480)]


async def test_the_engine_forgets_the_far_timeout(world: World) -> None:
    await forwarded(world)
    await asyncio.sleep(66)
    assert world.only().status == "no-answer"


@pytest.mark.parametrize("gap", ["ring", "bridge", "answer"])
async def test_the_caller_cancels_in_any_gap(world: World, gap: str) -> None:
    leg, far = await forwarded(world)
    gate = world.engine.hold(gap)
    world.pick_up(far, "PCMA")
    await settle()
    world.end(leg, "cancel")
    gate.set()
    await settle()
    assert world.only().status == "canceled"
    assert (far,) in world.engine.of("hangup")


async def test_the_far_side_hangs_up_before_the_caller_is_answered(world: World) -> None:
    leg, far = await forwarded(world)
    gate = world.engine.hold("bridge")
    world.pick_up(far, "PCMA")
    await settle()
    world.end(far, "bye")
    gate.set()
    await settle()
    assert world.only().status == "canceled"
    assert world.engine.of("reject") == [(leg, 480)]


async def test_the_caller_has_no_common_codec(world: World) -> None:
    leg, far = await forwarded(world)
    world.engine.faults["ring"] = NotAcceptable("nothing")
    world.ring(far)
    await settle()
    world.end(leg, "not_acceptable", by="system", status=488)
    await settle()
    assert world.only().status == "failed"
    assert (far,) in world.engine.of("hangup")


async def test_the_dial_fails(world: World) -> None:
    world.engine.faults["dial"] = EngineFailure("full", reason="queue_full")
    leg = world.invite("200")
    await settle()
    assert world.only().status == "failed"
    assert world.engine.of("reject") == [(leg, 500)]


async def test_no_browser_may_join(world: World) -> None:
    browser = world.browser(names=frozenset())
    _, far = await forwarded(world)
    world.ring(far)
    await settle()
    assert browser.heard() == []
    with pytest.raises(WrongState):
        await world.manager.join(browser, world.only().id)


async def test_a_telephone_that_refers_without_end_fills_no_history() -> None:
    carrier = TABLES["trunks"][0] | {"transfer": "refuse"}
    world = World(TABLES | {"trunks": [carrier, TABLES["trunks"][1]]})
    leg, far = await forwarded(world)
    world.pick_up(far, "PCMA")
    await settle()
    for number in range(3 * MAX_REFERS):
        world.engine.emit(Refer(leg=leg, id=number, uri="sip:300@192.0.2.1"))
    assert len(world.engine.of("refuse_refer")) == 3 * MAX_REFERS
    assert {status for _, _, status in world.engine.of("refuse_refer")} == {403}
    assert len(world.history(world.only())) < 2 * MAX_REFERS + 10
    assert world.only().status == "in-progress"
    await world.check_end()
