"""A trunk's `max_calls` and `max_cps` for calls that are dialled by it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from telephony_gateway.calls.limits import MAX_PACED, Limits
from telephony_gateway.calls.manager import NewCall
from telephony_gateway.calls.trunks import Trunk
from telephony_gateway.errors import TrunkCalls, TrunkRate
from tests.unit.calls.world import CARRIER, World, settle

NEW = NewCall(to="+7900", trunk="small")
EITHER = NewCall(to="+7900", route="either")


def tables(**limits: Any) -> dict[str, Any]:
    return {
        "trunks": [
            {"name": "carrier", "addresses": [CARRIER]},
            {"name": "small", "addresses": ["198.51.100.1"], "uri": "sip:198.51.100.1", **limits},
            {"name": "other", "uri": "sip:198.51.100.2"},
        ],
        "routes": [
            {"name": "small", "match": {"to": "^1"}, "target": {"trunk": "small"}},
            {"name": "hunt", "match": {"to": "^2"}, "target": {"trunks": [{"trunk": "small"}]}},
            {"name": "busy", "match": {"trunk": "small"}, "target": {"uri": "sip:away@192.0.2.9"}},
            {
                "name": "either",
                "target": {"trunks": [{"trunk": "small"}, {"trunk": "other", "priority": 2}]},
            },
        ],
    }


@pytest.fixture
async def full() -> AsyncIterator[World]:
    """A world whose small trunk takes one call, and has it."""
    world = World(tables(max_calls=1))
    await world.manager.create_call(NEW)
    yield world
    await world.check_end()


def refusals(world: World) -> list[tuple[str, int | None, str]]:
    return [(found.rule, found.status, found.reason) for found in world.manager.refusals.latest()]


async def test_whoever_orders_a_call_by_a_full_trunk_hears_when_to_come_again(full: World) -> None:
    with pytest.raises(TrunkCalls, match="trunk small takes 1 calls at a time") as refused:
        await full.manager.create_call(NEW)
    assert (refused.value.code, refused.value.retry_after) == ("trunk_calls", 5.0)
    assert len(full.store.calls) == 1, "no call was made"


async def test_a_full_trunk_has_room_once_its_call_ends(full: World) -> None:
    full.end(full.engine.of("dial")[0][0], "rejected", status=486)
    await settle()
    assert (await full.manager.create_call(NEW)).status == "queued"


async def test_calls_in_count_as_calls_out_do() -> None:
    world = World(tables(max_calls=1))
    leg = world.invite("9", source="198.51.100.1")
    with pytest.raises(TrunkCalls):
        await world.manager.create_call(NEW)
    world.end(leg, "cancel")
    await settle()
    await world.manager.create_call(NEW)
    await world.check_end()


async def test_the_same_key_makes_the_call_once_there_is_room(full: World) -> None:
    with pytest.raises(TrunkCalls):
        await full.manager.create_call(NEW, "key")
    full.end(full.engine.of("dial")[0][0], "rejected", status=486)
    await settle()
    made = await full.manager.create_call(NEW, "key")
    assert made.status == "queued"
    assert (await full.manager.create_call(NEW, "key")).id == made.id


async def test_more_calls_a_second_than_a_trunk_takes_are_told_the_wait() -> None:
    world = World(tables(max_cps=2))
    for _ in range(2):
        await world.manager.create_call(NEW)
    with pytest.raises(TrunkRate, match="trunk small takes 2 calls a second") as refused:
        await world.manager.create_call(NEW)
    assert refused.value.retry_after == pytest.approx(0.5)
    await asyncio.sleep(0.5)
    await world.manager.create_call(NEW)
    await world.check_end()


async def test_a_slow_trunk_takes_a_call_in_ten_seconds() -> None:
    world = World(tables(max_cps=0.1))
    await world.manager.create_call(NEW)
    await asyncio.sleep(9)
    with pytest.raises(TrunkRate) as refused:
        await world.manager.create_call(NEW)
    assert refused.value.retry_after == pytest.approx(1)
    await asyncio.sleep(1)
    await world.manager.create_call(NEW)
    await world.check_end()


async def test_a_hunt_goes_on_to_the_next_trunk(full: World) -> None:
    call = await full.manager.create_call(EITHER)
    assert full.engine.of("dial")[-1][1]["trunk"] == "other"
    events = full.store.events[call.id]
    (line,) = [event.data for event in events if event.type == "call.attempt"]
    assert (line["trunk"], line["sip_response_code"]) == ("small", 503)
    assert line["reason"] == "trunk small takes 1 calls at a time"


@pytest.mark.parametrize("to", ["100", "200"], ids=["plain", "hunted"])
async def test_who_is_routed_to_a_full_trunk_gets_503(full: World, to: str) -> None:
    leg = full.invite(to)
    await settle()
    assert full.engine.of("reject") == [(leg, 503)]
    assert full.engine.refused_with == [(503, {"Retry-After": "5"})]
    assert refusals(full) == [("trunk_calls", 503, "trunk small takes 1 calls at a time")]
    call = next(call for call in full.store.calls.values() if call.direction == "inbound")
    assert (call.status, call.reason) == ("failed", "trunk small takes 1 calls at a time")


async def test_nothing_is_kept_of_trunks_that_are_gone() -> None:
    limits = Limits()
    for number in range(2 * MAX_PACED):
        limits.dialled(Trunk(name=f"t{number}", max_cps=1000, max_calls=1), number)
        await asyncio.sleep(0.01)
        limits.left(number)
    assert len(limits._full_at) <= MAX_PACED + 1
    assert not limits._calls
    assert not limits._trunk_of


async def test_a_leg_that_goes_on_in_another_call_still_counts(full: World) -> None:
    """As an attended transfer has it (RFC 3891)."""
    first = full.engine.of("dial")[0][0]
    other = await full.manager.create_call(NewCall(to="+7900", trunk="other"))
    calls = full.manager._calls
    before, after = calls.of_leg(first), calls.find(other.id)
    assert before is not None
    assert after is not None
    calls.move(before, after, first, before.legs[first])
    with pytest.raises(TrunkCalls):
        await full.manager.create_call(NEW)
    calls.detach(after, first)
    await full.manager.create_call(NEW)
    full.engine.alive.discard(first)
