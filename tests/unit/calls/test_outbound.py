"""Calls that go out: dialled at once, joined before or after the answer, ended by anyone."""

import asyncio
import contextlib
import json

import pytest

from telephony_gateway.calls.ids import IdSource, Owner
from telephony_gateway.calls.manager import NewCall
from telephony_gateway.errors import (
    Conflict,
    EngineFailure,
    Forbidden,
    GatewayError,
    Invalid,
    Overloaded,
    StoreUnavailable,
    TrunkNotFound,
    WrongState,
)
from tests.unit.calls.world import START, TABLES, LoopClock, World, settle

AWAY = {"uri": "sip:away@192.0.2.9:5070"}


async def test_accepted_and_dialled_at_once(world: World) -> None:
    leg, call = await world.dialled(from_="+7495", client_state="crm:42", timeout=20)
    assert (call.status, call.direction, call.to, call.from_) == ("queued", "outbound", "+7900", "+7495")
    ((number, how),) = world.engine.of("dial")
    assert number == leg
    assert how["uri"] == "sip:+7900@203.0.113.10:5060"
    assert how["from_uri"] == "sip:+7495@203.0.113.10"
    assert how["next_hop"] == "sip:203.0.113.10:5060"
    assert how["timeout"] == 20


async def test_the_browser_joins_before_the_answer(world: World) -> None:
    browser = world.browser()
    leg, call = await world.dialled()
    await world.manager.join(browser, call.id)
    assert await world.manager.offer(browser, call.id, "o") == "answer to o"
    assert "bridge" not in world.engine.names()
    world.ring(leg)
    world.ring(leg, 183)
    assert browser.last().status == "ringing"
    world.pick_up(leg, "PCMA")
    await settle()
    assert len(world.engine.of("bridge")) == 1
    await asyncio.sleep(100)
    assert (await world.manager.find_call(call.id)).status == "in-progress"
    world.end(leg, "bye")
    ended = await world.manager.find_call(call.id)
    assert (ended.status, ended.hangup_source, ended.sip_call_id) == ("completed", "callee", f"call-{leg}@us")
    assert world.history(call) == [
        "call.initiated",
        "session.joined",
        "call.ringing",
        "call.answered",
        "call.bridged",
        "session.left",
        "call.completed",
    ]


async def test_the_browser_joins_after_the_answer(world: World) -> None:
    browser = world.browser()
    leg, call = await world.dialled()
    world.pick_up(leg, "PCMA")
    await asyncio.sleep(5)
    await world.manager.join(browser, call.id)
    await world.manager.offer(browser, call.id, "o")
    assert world.engine.of("accept_offer")[0][2] == ["PCMA", "PCMU", "opus"], "the callee's codec first"
    assert world.history(call)[-1] == "call.bridged"
    await asyncio.sleep(100)
    assert (await world.manager.find_call(call.id)).status == "in-progress"


async def test_the_answer_arrives_while_the_offer_is_taken(world: World) -> None:
    browser = world.browser()
    leg, call = await world.dialled()
    await world.manager.join(browser, call.id)
    gate = world.engine.hold("accept_offer")
    offer = asyncio.create_task(world.manager.offer(browser, call.id, "o"))
    await settle()
    world.pick_up(leg)
    await settle()
    gate.set()
    await offer
    await settle()
    assert world.history(call).count("call.bridged") == 1


async def test_the_gateway_offers_and_the_browser_answers(world: World) -> None:
    browser = world.browser()
    leg, call = await world.dialled()
    world.pick_up(leg)
    await world.manager.join(browser, call.id)
    with pytest.raises(WrongState):
        await world.manager.answer(browser, call.id, "too early")
    assert await world.manager.create_offer(browser, call.id) == "offer"
    await world.manager.answer(browser, call.id, "a")
    assert world.history(call)[-1] == "call.bridged"


async def test_nobody_joins_an_answered_call(world: World) -> None:
    leg, call = await world.dialled()
    world.pick_up(leg)
    await asyncio.sleep(61)
    ended = await world.manager.find_call(call.id)
    assert (ended.status, ended.hangup_cause) == ("completed", "time_limit")
    assert (leg,) in world.engine.of("hangup")


async def test_the_browser_leaves_before_the_answer(world: World) -> None:
    browser = world.browser()
    leg, call = await world.dialled()
    await world.manager.join(browser, call.id)
    await world.manager.offer(browser, call.id, "o")
    await world.manager.leave(browser, call.id)
    world.ring(leg)
    assert (await world.manager.find_call(call.id)).status == "ringing", "it rings on"
    await world.manager.join(browser, call.id)
    await world.manager.offer(browser, call.id, "o")
    world.pick_up(leg)
    await settle()
    assert world.history(call)[-1] == "call.bridged"


async def test_the_browser_leaves_after_the_answer(world: World) -> None:
    browser = world.browser()
    leg, call = await world.dialled()
    world.pick_up(leg)
    await world.manager.join(browser, call.id)
    await world.manager.leave(browser, call.id)
    ended = await world.manager.find_call(call.id)
    assert (ended.status, ended.hangup_source) == ("completed", "caller")
    with pytest.raises(WrongState):
        await world.manager.leave(browser, call.id)


@pytest.mark.parametrize(
    ("cause", "code", "status", "hangup_cause"),
    [
        ("rejected", 486, "busy", "user_busy"),
        ("rejected", 600, "busy", "user_busy"),
        ("rejected", 480, "no-answer", "timeout"),
        ("rejected", 408, "no-answer", "timeout"),
        ("timeout", None, "no-answer", "timeout"),
        ("rejected", 404, "failed", "not_found"),
        ("rejected", 604, "failed", "not_found"),
        ("rejected", 603, "failed", "call_rejected"),
        ("rejected", 500, "failed", "unspecified"),
        ("rejected", 488, "failed", "unspecified"),
        ("rejected", 487, "canceled", "originator_cancel"),
        ("unreachable", None, "failed", "unspecified"),
        ("transport_error", None, "failed", "unspecified"),
        ("error", None, "failed", "unspecified"),
    ],
)
async def test_the_callee_does_not_answer(
    world: World, cause: str, code: int | None, status: str, hangup_cause: str
) -> None:
    leg, call = await world.dialled()
    world.ring(leg)
    world.end(leg, cause, status=code)  # type: ignore[arg-type]
    ended = await world.manager.find_call(call.id)
    assert (ended.status, ended.hangup_cause, ended.sip_response_code) == (status, hangup_cause, code)
    assert ended.reason


async def test_an_engine_that_forgets_the_timeout(world: World) -> None:
    _, call = await world.dialled(timeout=10)
    await asyncio.sleep(16)
    assert (await world.manager.find_call(call.id)).status == "no-answer"


async def test_canceled_by_request(world: World) -> None:
    leg, call = await world.dialled()
    ended = await world.manager.change_status(call.id, "canceled")
    assert (ended.status, ended.hangup_cause) == ("canceled", "originator_cancel")
    assert world.engine.of("hangup") == [(leg,)]
    assert (await world.manager.change_status(call.id, "canceled")).sequence == ended.sequence
    with pytest.raises(WrongState):
        await world.manager.change_status(call.id, "completed")


async def test_digits_to_the_callee(world: World) -> None:
    browser = world.browser()
    leg, call = await world.dialled()
    await world.manager.join(browser, call.id)
    with pytest.raises(WrongState):
        world.manager.send_digits(browser, call.id, "1")
    world.pick_up(leg)
    world.manager.send_digits(browser, call.id, "12#")
    assert world.engine.of("send_digits") == [(leg, "12#")]
    with pytest.raises(Invalid):
        world.manager.send_digits(browser, call.id, "x")


async def test_candidates_belong_to_an_offer(world: World) -> None:
    browser = world.browser()
    _, call = await world.dialled()
    await world.manager.join(browser, call.id)
    with pytest.raises(WrongState):
        world.manager.candidate(browser, call.id, "candidate:1")
    await world.manager.offer(browser, call.id, "o")
    world.manager.candidate(browser, call.id, "candidate:1")
    world.manager.candidate(browser, call.id, None)
    assert [candidate for _, candidate in world.engine.of("add_candidate")] == ["candidate:1", None]


@pytest.mark.parametrize(
    ("new", "error"),
    [
        (NewCall(to="+7900"), Invalid),
        (NewCall(to="+7900", trunk="nobody"), TrunkNotFound),
        (NewCall(to="sip:a@198.18.0.1"), Forbidden),
        (NewCall(to="sip:a b@203.0.113.10"), Invalid),
        (NewCall(to="sip:a\r\nX: y@203.0.113.10"), Invalid),
        (NewCall(to="", trunk="carrier"), Invalid),
        (NewCall(to="9" * 65, trunk="carrier"), Invalid),
        (NewCall(to="+7900", trunk="carrier", timeout=0), Invalid),
        (NewCall(to="+7900", trunk="carrier", timeout=float("nan")), Invalid),
        (NewCall(to="+7900", trunk="carrier", from_="<sip:x>"), Invalid),
        (NewCall(to="+7900", trunk="carrier", client_state="x" * 5000), Invalid),
    ],
)
async def test_what_cannot_be_dialled(world: World, new: NewCall, error: type[Exception]) -> None:
    with pytest.raises(error):
        await world.manager.create_call(new)
    assert world.engine.commands == []


async def test_a_uri_of_a_trunk_in_production(world: World) -> None:
    await world.manager.create_call(NewCall(to="sip:bob@203.0.113.99:5070"))
    ((_, how),) = world.engine.of("dial")
    assert how["next_hop"] == "sip:203.0.113.10:5060"
    assert world.only().trunk == "carrier"


async def test_a_dial_that_the_engine_refuses(world: World) -> None:
    world.engine.faults["dial"] = EngineFailure("the queue is full", reason="queue_full")
    with pytest.raises(EngineFailure):
        await world.dialled()
    assert world.only().status == "failed"
    assert world.manager.active_calls == 0


async def test_no_room_and_no_record() -> None:
    world = World(max_calls=1)
    await world.dialled()
    with pytest.raises(Overloaded):
        await world.dialled()
    await world.manager.end_call(world.only().id)
    world.store.down = True
    with pytest.raises(StoreUnavailable):
        await world.dialled()
    world.store.down = False
    await world.check_end()


@pytest.mark.parametrize("command", ["dial", "new_sip_leg"])
@pytest.mark.parametrize("fault", [RuntimeError("a bug"), Overloaded("no ports")])
async def test_a_fault_of_a_dial_leaves_no_call_behind(
    monkeypatch: pytest.MonkeyPatch, command: str, fault: Exception
) -> None:
    both = {"name": "both", "target": {"ring": {"targets": [AWAY, AWAY], "strategy": "parallel"}}}
    world = World(TABLES | {"routes": [both]})
    numbers = iter([1])

    def second(*_: object, **__: object) -> int:
        for number in numbers:
            return number
        raise fault

    if command == "dial":
        world.engine.faults["dial"] = fault
    else:
        monkeypatch.setattr(world.engine, "new_sip_leg", second)
    with contextlib.suppress(GatewayError):
        await world.manager.create_call(NewCall(to="200", route="both"))
    await settle()
    assert world.manager.active_calls == 0
    assert world.only().status == "failed"
    await world.check_end()


async def test_an_order_that_crosses_the_end_of_the_gateway_is_refused(world: World) -> None:
    """Its key is asked for while the last calls are hung up."""
    order = asyncio.create_task(world.manager.create_call(NewCall(to="+7900", trunk="carrier"), "key"))
    await asyncio.sleep(0)
    await world.manager.drain(0)
    with pytest.raises(Overloaded, match="shutting down"):
        await order
    assert world.store.calls == {}


async def test_a_route_bounds_how_long_an_ordered_call_rings() -> None:
    quick = {"name": "quick", "target": AWAY, "ring_timeout": 20}
    world = World(TABLES | {"routes": [quick]})
    for asked, rings in ((60.0, 20.0), (10.0, 10.0)):
        await world.manager.create_call(NewCall(to="200", route="quick", timeout=asked))
        assert world.engine.of("dial")[-1][1]["timeout"] == rings
    await world.check_end()


async def test_the_same_key_is_the_same_call(world: World) -> None:
    new = NewCall(to="+7900", trunk="carrier")
    first, second = await asyncio.gather(
        world.manager.create_call(new, "key"), world.manager.create_call(new, "key")
    )
    assert first.id == second.id
    assert len(world.engine.of("dial")) == 1
    with pytest.raises(Conflict):
        await world.manager.create_call(NewCall(to="+7901", trunk="carrier"), "key")


async def test_a_key_that_another_process_holds_is_waited_for(world: World) -> None:
    new = NewCall(to="+7900", trunk="carrier")
    world.store.down = True
    with pytest.raises(StoreUnavailable):
        await world.manager.create_call(new, "key")
    world.store.down = False
    elsewhere = IdSource(Owner.of("another", START), LoopClock()).new()
    ((key, claim),) = world.cache.claims.items()
    world.cache.claims[key] = json.dumps({**json.loads(claim), "call_id": str(elsewhere)}).encode()
    began = asyncio.get_running_loop().time()
    call = await world.manager.create_call(new, "key")
    assert call.id == elsewhere, "it never came: whoever holds the key makes it"
    assert asyncio.get_running_loop().time() > began + 0.1


async def test_a_key_whose_call_never_came(world: World) -> None:
    new = NewCall(to="+7900", trunk="carrier")
    world.store.down = True
    with pytest.raises(StoreUnavailable):
        await world.manager.create_call(new, "key")
    world.store.down = False
    began = asyncio.get_running_loop().time()
    call, same = await asyncio.gather(
        world.manager.create_call(new, "key"), world.manager.create_call(new, "key")
    )
    assert call.status == "queued"
    assert same.id == call.id
    assert len(world.engine.of("dial")) == 1
    assert asyncio.get_running_loop().time() == began, "a claim of this process is waited for by nobody"
    assert (await world.manager.create_call(new, "key")).id == call.id
