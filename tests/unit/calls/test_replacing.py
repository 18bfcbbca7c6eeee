"""INVITEs that replace a leg: who may send them, what becomes of the call, and what does not (RFC 3891)."""

import asyncio
from typing import Any

import pytest

from telephony_gateway.calls.events import Incoming, Refer, ReferAnswered, Referral
from telephony_gateway.errors import NotAcceptable
from tests.unit.calls.test_transfer import PBX, tables, talking, transfers
from tests.unit.calls.test_vouching import FAILED, PASSED, FakeVoucher
from tests.unit.calls.world import CARRIER, TABLES, Headers, World, settle

OTHER = "192.0.2.99"
OTHERS: dict[str, Any] = {
    **TABLES,
    "trunks": [*TABLES["trunks"], {"name": "other", "addresses": [OTHER], "codecs": ["PCMU"]}],
    "users": [{"name": "desk", "password_env": "SECRET"}],
}


def replacing(world: World, named: int, source: str = PBX, user: str | None = None) -> int:
    leg = world.engine.new_sip_leg()
    world.engine.alive.add(leg)
    event = Incoming(
        leg=leg, sip_call_id="r", request_uri="sip:200@192.0.2.1", from_uri="sip:carol@198.51.100.1",
        from_display="", to_uri="sip:200@192.0.2.1", source=(source, 5060), local=("192.0.2.1", 5060),
        codecs=["PCMU"], message=Headers(), trunk=world.trunk_of(source), replaces=named, user=user,
    )  # fmt: skip
    world.engine.emit(event)
    return leg


async def test_an_invite_takes_a_legs_place(world: World) -> None:
    anna, bob = await talking(world)
    carol = replacing(world, bob)
    await settle()
    assert world.engine.of("answer")[-1] == (carol,)
    assert world.engine.of("bridge")[-1] == (anna, carol)
    assert (bob,) in world.engine.of("hangup")
    assert transfers(world) == ["transferred"]
    world.end(carol, "bye")
    await settle()
    assert world.only().hangup_source == "callee"


async def test_only_a_call_that_runs_can_be_taken_over(world: World) -> None:
    leg = world.invite("200")
    await settle()
    other = replacing(world, leg)
    await settle()
    assert world.engine.of("reject") == [(other, 481)]
    world.end(leg, "cancel")
    await settle()


async def test_what_rings_elsewhere_is_picked_up(world: World) -> None:
    anna = world.invite("200")
    await settle()
    bob = world.engine.of("dial")[-1][0]
    world.ring(bob)
    await settle()
    carol = replacing(world, bob)
    await settle()
    assert world.engine.of("answer") == [(carol,), (anna,)]
    assert world.engine.of("bridge")[-1] == (anna, carol)
    assert (bob,) in world.engine.of("hangup")
    assert world.only().status == "in-progress"
    world.end(carol, "bye")
    await settle()
    assert (world.only().status, world.only().hangup_source) == ("completed", "callee")


async def rings_at_bob(world: World) -> tuple[int, int]:
    anna = world.invite("200")
    await settle()
    bob: int = world.engine.of("dial")[-1][0]
    world.ring(bob)
    await settle()
    return anna, bob


@pytest.mark.parametrize("fails", ["ring", "answer"])
async def test_a_pick_up_that_fails_lets_the_call_ring_on(world: World, fails: str) -> None:
    """RFC 3891 3: the dialog that is named goes on as it was."""
    anna, bob = await rings_at_bob(world)
    world.engine.faults[fails] = NotAcceptable("no codec in common")
    carol = replacing(world, bob)
    await settle()
    world.engine.faults.clear()
    assert world.engine.of("hangup") == [(carol,)]
    assert world.only().status == "ringing"
    world.pick_up(bob)
    await settle()
    assert world.engine.of("bridge")[-1] == (anna, bob)
    world.end(anna, "bye")
    await settle()


async def test_who_picks_up_may_think_better_of_it(world: World) -> None:
    anna, bob = await rings_at_bob(world)
    gate = world.engine.hold("ring")
    carol = replacing(world, bob)
    await settle()
    world.end(carol, "cancel")
    gate.set()
    await settle()
    assert (bob,) not in world.engine.of("hangup")
    assert world.only().status == "ringing"
    world.end(anna, "cancel")
    await settle()
    assert world.only().status == "canceled"


async def test_who_picks_up_too_late_is_not_answered(world: World) -> None:
    anna, bob = await rings_at_bob(world)
    gate = world.engine.hold("ring")
    carol = replacing(world, bob)
    await settle()
    world.pick_up(bob)
    gate.set()
    await settle()
    assert world.engine.of("answer") == [(anna,)]
    assert (carol,) in world.engine.of("hangup")
    world.end(anna, "bye")
    await settle()


@pytest.mark.parametrize("rings", [False, True])
@pytest.mark.parametrize(("source", "user"), [(OTHER, None), (PBX, "desk")])
async def test_who_is_no_side_of_the_call_takes_nobodys_place(
    rings: bool, source: str, user: str | None
) -> None:
    """RFC 3891 3 and 8: to know the dialog's name is not enough."""
    world = World(OTHERS)
    anna, bob = await rings_at_bob(world) if rings else await talking(world)
    stranger = replacing(world, bob, source, user)
    await settle()
    assert world.engine.of("reject") == [(stranger, 403)]
    (refusal,) = world.manager.refusals.latest()
    who = "user desk" if user else "trunk other"
    assert (refusal.rule, refusal.reason) == ("replaces", f"{who} is no side of the call that Replaces names")
    assert world.only().status == ("ringing" if rings else "in-progress")
    world.end(anna, "cancel" if rings else "bye")
    await settle()
    await world.check_end()


async def test_the_caller_may_take_his_own_place() -> None:
    world = World()
    anna, bob = await talking(world)
    again = replacing(world, anna, CARRIER)
    await settle()
    assert world.engine.of("bridge")[-1] == (bob, again)
    assert (anna,) in world.engine.of("hangup")
    world.end(again, "bye")
    await settle()
    assert world.only().hangup_source == "caller"
    await world.check_end()


async def test_a_telephone_that_was_told_to_come_may() -> None:
    """A REFER that was passed on names our own dialog with a browser, in the words of the one who asked."""
    world = World(tables(pbx="pass"))
    browser = world.browser(names=frozenset({"sales"}))
    consult = world.invite("+7495", PBX)
    await settle()
    asked = world.only()
    await world.manager.join(browser, asked.id)
    await world.manager.offer(browser, asked.id, "o")
    anna = world.invite("200")
    await settle()
    bob = world.engine.of("dial")[-1][0]
    world.pick_up(bob)
    await settle()
    early = replacing(world, consult, CARRIER)
    assert world.engine.of("reject") == [(early, 403)], "nobody has told it to"
    world.engine.emit(Refer(leg=bob, id=7, uri="sip:x@y", headers=[("Replaces", "x")], replaces=consult))
    world.engine.emit(ReferAnswered(leg=anna, status=202))
    comes = replacing(world, consult, CARRIER)
    await settle()
    assert world.engine.of("answer")[-1] == (comes,)
    world.engine.emit(Referral(leg=anna, status=200, last=True))
    late = replacing(world, comes, CARRIER)
    await settle()
    assert world.engine.of("answer")[-1] == (late,), "it is its own now"
    world.end(late, "bye")
    world.end(anna, "bye")
    await settle()
    await world.check_end()


@pytest.mark.parametrize("rings", [False, True])
@pytest.mark.parametrize("verdict", [PASSED, FAILED, None])
async def test_who_must_be_vouched_for_must_be_here_too(rings: bool, verdict: Any) -> None:
    stir = {"verify": "require", "ca_file": "ca.pem", "allow": ["c.example"]}
    trunks = [TABLES["trunks"][0], {**TABLES["trunks"][1], "stir": stir}]
    world = World({**TABLES, "trunks": trunks}, voucher=FakeVoucher(verdict))
    anna, bob = await rings_at_bob(world) if rings else await talking(world)
    carol = replacing(world, bob)
    await settle()
    assert (carol,) not in world.engine.of("answer"), "the verdict takes two seconds"
    await asyncio.sleep(3)
    await settle()
    if verdict is PASSED:
        assert world.engine.of("bridge")[-1] == (anna, carol)
    else:
        status = 438 if verdict else 428
        assert world.engine.of("reject") == [(carol, status)]
        assert world.manager.refusals.latest()[0].rule == "identity"
        assert (bob,) not in world.engine.of("hangup")
    assert world.only().verification is None, "that is the caller's"
    world.end(anna, "cancel" if world.only().status == "ringing" else "bye")
    await settle()
    await world.check_end()


async def test_who_goes_before_the_verdict_is_forgotten() -> None:
    stir = {"verify": "require", "ca_file": "ca.pem", "allow": ["c.example"]}
    trunks = [TABLES["trunks"][0], {**TABLES["trunks"][1], "stir": stir}]
    world = World({**TABLES, "trunks": trunks}, voucher=FakeVoucher(FAILED))
    anna, bob = await talking(world)
    carol = replacing(world, bob)
    world.end(carol, "cancel")
    await asyncio.sleep(3)
    await settle()
    assert world.engine.of("reject") == []
    assert world.only().status == "in-progress"
    world.end(anna, "bye")
    await settle()
    await world.check_end()
