"""What who waits hears while the other side rings, and what is told of a call that is held."""

from typing import Any

from telephony_gateway.calls.events import Held, Ringing
from tests.unit.calls.world import TABLES, World, settle

RINGBACK: dict[str, Any] = {
    **TABLES,
    "trunks": [trunk | {"ringback": "us"} for trunk in TABLES["trunks"]],
}


def sound(world: World, leg: int, status: int = 183) -> None:
    """The called side rings with sound of its own."""
    world.engine.emit(Ringing(leg=leg, status=status, codec="PCMA"))


async def forwarded(world: World) -> tuple[int, int]:
    leg = world.invite("200")
    await settle()
    return leg, world.engine.of("dial")[0][0]


async def test_a_caller_without_tone_hears_nothing_of_ours(world: World) -> None:
    _, far = await forwarded(world)
    world.ring(far)
    world.ring(far, 183)
    await settle()
    assert world.engine.rung == [180]
    assert "ring_back" not in world.engine.names()


async def test_the_far_side_s_sound_reaches_the_caller(world: World) -> None:
    leg, far = await forwarded(world)
    world.ring(far)
    sound(world, far)
    sound(world, far)
    world.ring(far)
    await settle()
    assert world.engine.rung == [180, 183], "described once"
    assert world.engine.of("preview") == [(leg, far)]
    world.pick_up(far, "PCMA")
    await settle()
    assert world.engine.of("bridge") == [(leg, far)]
    assert world.history(world.only()).count("call.ringing") == 1


async def test_early_media_that_cannot_be_joined_does_no_harm(world: World) -> None:
    _, far = await forwarded(world)
    world.engine.alive.discard(far)
    sound(world, far)
    await settle()
    assert world.only().status == "ringing"
    world.engine.alive.add(far)
    world.pick_up(far, "PCMA")
    await settle()
    assert world.only().status == "in-progress"


async def test_a_tone_until_sound_comes() -> None:
    world = World(RINGBACK)
    leg, far = await forwarded(world)
    world.ring(far)
    await settle()
    assert world.engine.rung == [183]
    assert world.engine.of("ring_back") == [(leg, "us")]
    sound(world, far)
    await settle()
    assert world.engine.rung == [183, 183]
    assert world.engine.of("preview") == [(leg, far)]
    await world.check_end()


async def test_a_tone_while_browsers_ring() -> None:
    world = World(RINGBACK)
    world.browser()
    leg, _ = await world.ringing()
    assert world.engine.rung == [183]
    assert world.engine.of("ring_back") == [(leg, "us")]
    await world.check_end()


async def test_a_browser_that_waits_hears_the_callee_ring(world: World) -> None:
    browser = world.browser()
    leg, call = await world.dialled()
    await world.manager.join(browser, call.id)
    await world.manager.offer(browser, call.id, "o")
    sound(world, leg)
    await settle()
    ((first, media),) = world.engine.of("preview")
    assert first == leg
    world.pick_up(leg, "PCMA")
    await settle()
    assert world.engine.of("bridge") == [(leg, media)]
    assert world.history(call).count("call.bridged") == 1


async def test_a_browser_that_comes_later_hears_it_too() -> None:
    world = World(RINGBACK)
    browser = world.browser()
    leg, call = await world.dialled()
    world.ring(leg)
    await world.manager.join(browser, call.id)
    await world.manager.offer(browser, call.id, "o")
    assert [tone for _, tone in world.engine.of("ring_back")] == ["us"]
    sound(world, leg)
    await settle()
    assert len(world.engine.of("preview")) == 1
    await world.check_end()


async def test_holds_are_told_once_each(world: World) -> None:
    browser = world.browser()
    leg, call = await world.talking(browser)
    for held in (True, True, False, True):
        world.engine.emit(Held(leg=leg, held=held))
    assert world.history(call)[-3:] == ["call.held", "call.resumed", "call.held"]
    assert [one.held for one in browser.last().legs if one.kind == "sip"] == [True]
    event = world.store.events[call.id][-1]
    assert event.data["side"] == "caller"


async def test_a_hold_before_the_answer_is_no_history(world: World) -> None:
    leg = world.invite("200")
    await settle()
    world.engine.emit(Held(leg=leg, held=True))
    assert world.history(world.only()) == ["call.initiated"]
