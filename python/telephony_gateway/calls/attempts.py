"""The search of a call for somebody who answers: what it has tried, and the best of the answers it got."""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec

from telephony_gateway.calls.endings import ending_of
from telephony_gateway.calls.events import Ended, LegId
from telephony_gateway.calls.model import Ending
from telephony_gateway.calls.routing import Destination
from telephony_gateway.calls.stages import Stage
from telephony_gateway.errors import GatewayError

# What a branch that brought no response counts as (RFC 3261 8.1.3.1 and 16.8).
_STATUS_OF_CAUSE = {"timeout": 408, "unreachable": 503, "transport_error": 503, "not_acceptable": 488}
# Within 4xx those that tell the caller what to change, then those about the callee; 401 and 407 are
# between us and the far side and say nothing to the caller.
_TELLING = {415: 0, 420: 0, 484: 0, 486: 1, 488: 2, 480: 3, 404: 4, 410: 4, 408: 6, 401: 8, 407: 8}


class Failure(msgspec.Struct, frozen=True, gc=False):
    """How one branch ended, and what it counts as."""

    status: int
    ending: Ending
    error: GatewayError | None = None
    """Why it was not even called."""


@dataclass(slots=True, eq=False)
class Hunt:
    """The search of one call."""

    waiting: deque[Stage]
    ringing: dict[LegId, Destination] = field(default_factory=dict)
    mine: set[LegId] = field(default_factory=set)
    rung: set[LegId] = field(default_factory=set)
    tried: set[str] = field(default_factory=set)
    best: Failure | None = None
    redirects: int = 0
    same_callee: bool = False
    """Whether the stage that rings is one of several ways to the same callee."""
    browser: str | None = None
    """The browsers that ring beside the legs."""
    ring: Callable[[], Awaitable[bool]] | None = None
    """Lets the caller hear ringing; False if there is no caller any more."""


def failure_of(event: Ended) -> Failure:
    """How the end of a leg that was not answered counts."""
    status = event.status if event.status is not None else _STATUS_OF_CAUSE.get(event.cause, 500)
    # A redirect that led nowhere: the callee is not to be had where he was called.
    counts_as = 480 if 300 <= status < 400 else status
    return Failure(counts_as, ending_of(event, "callee", answered=False))


def better(one: Failure | None, other: Failure) -> Failure:
    """RFC 3261 16.7, item 6: a 6xx, else the lowest class; within it what tells the caller most."""
    return other if one is None or _rank(other) < _rank(one) else one


def _rank(failure: Failure) -> tuple[int, int]:
    group = failure.status // 100
    telling = _TELLING.get(failure.status, 5) if group == 4 else int(failure.status == 503)
    return (0 if group == 6 else group, telling)
