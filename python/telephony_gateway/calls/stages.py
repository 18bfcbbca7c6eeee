"""The way of a call through a route's targets: stages tried in turn, each of places that are rung at once."""

import random
from collections.abc import Callable, Iterator, Sequence

import msgspec

from telephony_gateway.calls.plan import Choice, Goal, Ring, Target
from telephony_gateway.calls.routing import Destination, Routing
from telephony_gateway.errors import GatewayError

Draw = Callable[[int], int]
"""A number from 0 to the given one, both included."""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """Places that are rung at once, for so many seconds; None: for as long as the call may ring."""

    destinations: tuple[Destination, ...] = ()
    browser: str | None = None
    timeout: float | None = None
    same_callee: bool = False
    """Another way to the callee of the stage before: not worth trying once it was busy or rang in vain."""


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """The stages, and what could not become one."""

    stages: tuple[Stage, ...]
    refused: tuple[GatewayError, ...] = ()


def draw(most: int) -> int:
    """By chance; a route is no secret."""
    return random.randint(0, most)  # noqa: S311


def is_plain(target: Target) -> bool:
    """Whether there is one place to call: then nothing has to be hunted."""
    return target.trunk is not None or target.uri is not None


def way(routing: Routing, target: Target, user: str, chance: Draw = draw) -> Way:
    """The stages of a route's target for a call to this user part."""
    refused: list[GatewayError] = []
    if target.trunks is not None:
        stages = list(_trunks(routing, target.trunks, user, chance, refused))
    elif target.ring is not None:
        stages = list(_ring(routing, target.ring, user, refused))
    else:
        goal = Goal(browser=target.browser, trunk=target.trunk, uri=target.uri, user=target.user)
        stages = list(_in_turn(routing, goal, user, None, refused))
    some = tuple(stage for stage in stages if stage.destinations or stage.browser is not None)
    return Way(stages=some, refused=tuple(refused))


def in_order(choices: Sequence[Choice], chance: Draw = draw) -> Iterator[Choice]:
    """RFC 2782: the lowest priority first; among equals the next is drawn by weight, and a weight of 0 has a
    small chance only.
    """
    for priority in sorted({choice.priority for choice in choices}):
        left = sorted((c for c in choices if c.priority == priority), key=lambda choice: choice.weight)
        while left:
            mark, total = chance(sum(choice.weight for choice in left)), 0
            for choice in left:
                total += choice.weight
                if total >= mark:
                    break
            left.remove(choice)
            yield choice


def _trunks(
    routing: Routing, choices: Sequence[Choice], user: str, chance: Draw, refused: list[GatewayError]
) -> Iterator[Stage]:
    # As the engine does with a trunk's targets: those that are down come last, and are not left out.
    ordered = sorted(in_order(choices, chance), key=lambda choice: routing.is_down(choice.trunk))
    for choice in ordered:
        for group in _places(routing, Goal(trunk=choice.trunk), user, refused):
            yield Stage(destinations=group, same_callee=True)


def _ring(routing: Routing, ring: Ring, user: str, refused: list[GatewayError]) -> Iterator[Stage]:
    if ring.strategy == "serial":
        for goal in ring.targets:
            yield from _in_turn(routing, goal, user, ring.timeout, refused)
        return
    groups = [group for goal in ring.targets for group in _places(routing, goal, user, refused)]
    browser = next((goal.browser for goal in ring.targets if goal.browser is not None), None)
    together = tuple(destination for group in groups for destination in group)
    yield Stage(destinations=together, browser=browser, timeout=ring.timeout)


def _in_turn(
    routing: Routing, goal: Goal, user: str, timeout: float | None, refused: list[GatewayError]
) -> Iterator[Stage]:
    if goal.browser is not None:
        yield Stage(browser=goal.browser, timeout=timeout)
    for group in _places(routing, goal, user, refused):
        yield Stage(destinations=group, timeout=timeout)


def _places(
    routing: Routing, goal: Goal, user: str, refused: list[GatewayError]
) -> Sequence[tuple[Destination, ...]]:
    try:
        return routing.places(goal, user)
    except GatewayError as error:
        refused.append(error)
        return ()
