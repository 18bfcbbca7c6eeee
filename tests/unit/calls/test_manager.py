"""The one door: requests about calls, tickets, draining, observers."""

import asyncio
from uuid import uuid4

import pytest

from telephony_gateway.calls.journal import MIRROR_LINGER
from telephony_gateway.calls.manager import NewCall
from telephony_gateway.calls.model import Call
from telephony_gateway.calls.ports import CallQuery
from telephony_gateway.calls.tickets import token_hash
from telephony_gateway.errors import CallNotFound, Overloaded, SessionNotFound, Unauthorized, WrongState
from tests.unit.calls.world import START, World, settle


async def test_unknown_calls(world: World) -> None:
    browser, nobody = world.browser(), uuid4()
    for attempt in (
        world.manager.find_call(nobody),
        world.manager.call_events(nobody),
        world.manager.end_call(nobody),
        world.manager.change_status(nobody, "completed"),
        world.manager.create_session(nobody),
        world.manager.join(browser, nobody),
        world.manager.leave(browser, nobody),
        world.manager.offer(browser, nobody, "o"),
    ):
        with pytest.raises(CallNotFound):
            await attempt
    with pytest.raises(CallNotFound):
        world.manager.candidate(browser, nobody, None)


async def test_calls_that_are_over_are_found_but_take_nothing(world: World) -> None:
    browser = world.browser()
    leg, call = await world.talking(browser)
    world.end(leg, "bye")
    await asyncio.sleep(50)
    assert world.manager._calls.everything() == []
    world.cache.calls.clear()
    assert (await world.manager.find_call(call.id)).status == "completed"
    assert len(await world.manager.call_events(call.id)) == 7
    assert [kept.id for kept in (await world.manager.list_calls(CallQuery())).items] == [call.id]
    with pytest.raises(WrongState):
        await world.manager.join(browser, call.id)
    with pytest.raises(WrongState):
        await world.manager.create_session(call.id)


async def test_a_call_of_another_node(world: World) -> None:
    other = Call(id=uuid4(), direction="inbound", status="ringing", from_="1", to="2", created_at=START)
    world.cache.calls[other.id] = other
    assert await world.manager.find_call(other.id) == other
    with pytest.raises(WrongState, match="another node"):
        await world.manager.end_call(other.id)


@pytest.mark.parametrize("status", ["queued", "ringing", "in-progress", "busy", "failed", "no-answer"])
async def test_an_answered_call_can_only_be_completed(world: World, status: str) -> None:
    world.browser()
    _, call = await world.talking(world.browser())
    if status == "in-progress":
        assert (await world.manager.change_status(call.id, "in-progress")).status == status
    else:
        with pytest.raises(WrongState):
            await world.manager.change_status(call.id, status)  # type: ignore[arg-type]
    with pytest.raises(WrongState):
        await world.manager.change_status(call.id, "canceled")
    assert (await world.manager.change_status(call.id, "completed")).hangup_source == "system"


@pytest.mark.parametrize(("status", "told"), [("busy", 486), ("no-answer", 480), ("canceled", 603)])
async def test_a_caller_is_declined(world: World, status: str, told: int) -> None:
    world.browser()
    leg, call = await world.ringing()
    for impossible in ("queued", "in-progress", "failed"):
        with pytest.raises(WrongState):
            await world.manager.change_status(call.id, impossible)  # type: ignore[arg-type]
    assert (await world.manager.change_status(call.id, status)).status == status  # type: ignore[arg-type]
    assert world.engine.of("reject") == [(leg, told)]


async def test_a_callee_is_not_declined(world: World) -> None:
    _, call = await world.dialled()
    with pytest.raises(WrongState):
        await world.manager.change_status(call.id, "busy")


async def test_two_requests_end_a_call_once(world: World) -> None:
    _, call = await world.talking(world.browser())
    results = await asyncio.gather(
        world.manager.end_call(call.id), world.manager.end_call(call.id), return_exceptions=True
    )
    assert [isinstance(result, WrongState) for result in results] == [False, True]


async def test_a_ticket_opens_its_call_and_no_other() -> None:
    world = World(authentication=True)
    insider = world.browser("insider")
    stranger = world.browser("stranger", authenticated=False)
    _, call = await world.ringing()
    ticket = await world.manager.create_session(call.id, role="agent")
    assert ticket.token is not None
    assert token_hash(ticket.token) in world.cache.sessions
    assert insider.heard() == ["IncomingCall"]
    assert stranger.heard() == []
    other = await world.manager.create_call(NewCall(to="+7900", trunk="carrier"))
    with pytest.raises(Unauthorized):
        await world.manager.join(stranger, call.id)
    with pytest.raises(SessionNotFound):
        await world.manager.join(stranger, call.id, "guess")
    with pytest.raises(SessionNotFound):
        await world.manager.join(stranger, call.id, "x" * 10_000)
    with pytest.raises(SessionNotFound):
        await world.manager.join(stranger, other.id, ticket.token)
    joined = await world.manager.join(stranger, call.id, ticket.token)
    assert joined.session.id == ticket.id
    assert joined.session.token is None
    assert world.store.sessions[ticket.id].joined_at is not None
    await world.manager.leave(stranger, call.id)
    assert world.store.sessions[ticket.id].left_at is not None
    await world.check_end()


async def test_draining_waits_for_calls_and_hangs_up_the_rest(world: World) -> None:
    browser = world.browser()
    leg, call = await world.talking(browser)
    _, ringing = await world.dialled()
    drain = asyncio.create_task(world.manager.drain(20))
    await asyncio.sleep(1)
    assert world.engine.refusing
    with pytest.raises(Overloaded):
        await world.dialled()
    late = world.invite()
    await settle()
    assert (late, 503) in world.engine.of("reject")
    await asyncio.sleep(10)
    assert not drain.done()
    world.end(leg, "bye")
    await drain
    assert asyncio.get_running_loop().time() == pytest.approx(20)
    assert (await world.manager.find_call(call.id)).status == "completed"
    ended = await world.manager.find_call(ringing.id)
    assert (ended.status, ended.reason) == ("canceled", "the gateway is shutting down")


async def test_draining_ends_with_the_last_call(world: World) -> None:
    leg, _ = await world.talking(world.browser())
    drain = asyncio.create_task(world.manager.drain(1000))
    await asyncio.sleep(3)
    world.end(leg, "bye")
    await drain
    assert asyncio.get_running_loop().time() == pytest.approx(3)


async def test_a_ringing_call_may_be_answered_while_draining(world: World) -> None:
    browser = world.browser()
    leg, call = await world.ringing()
    drain = asyncio.create_task(world.manager.drain(1000))
    await asyncio.sleep(1)
    await world.manager.join(browser, call.id)
    await world.manager.offer(browser, call.id, "o")
    assert (await world.manager.find_call(call.id)).status == "in-progress"
    world.end(leg, "bye")
    await drain


async def test_draining_does_not_wait_for_ever_for_a_leg() -> None:
    world = World()
    await world.talking(world.browser())
    world.engine.silent = True
    await world.manager.drain(1)
    assert asyncio.get_running_loop().time() == pytest.approx(6)
    await world.manager.close()


async def test_observers_hear_everything(world: World) -> None:
    leg, _ = await world.talking(world.browser())
    world.end(leg, "bye")
    await settle()
    told = world.watcher.told
    assert told[0] == ("event", "call.initiated")
    for phase in ("decision", "invite", "media"):
        assert told.count(("phase", phase)) == 1
    assert sorted(what for what in told if what[0] == "ended") == [("ended", "sip"), ("ended", "webrtc")]


async def test_the_cache_has_the_latest_state(world: World) -> None:
    leg, call = await world.talking(world.browser())
    await asyncio.sleep(MIRROR_LINGER)
    await settle()
    assert world.cache.calls[call.id].status == "in-progress"
    world.end(leg, "bye")
    await asyncio.sleep(MIRROR_LINGER)
    await settle()
    assert world.cache.calls[call.id].status == "completed"


async def test_events_of_legs_that_nobody_knows(world: World) -> None:
    world.press(99, "1")
    world.ring(99)
    assert world.store.calls == {}
