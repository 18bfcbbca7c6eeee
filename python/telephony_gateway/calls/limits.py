"""How many calls a trunk takes, at a time and a second: asked before one is dialled by it.

The engine keeps these limits at its door and counts legs as they are counted here. That a trunk is full has
to be known before a call to it is made, so that whoever orders one hears when to come again, and a hunt goes
on elsewhere.
"""

import asyncio
from typing import Final

from telephony_gateway.calls.events import LegId
from telephony_gateway.calls.trunks import Trunk
from telephony_gateway.errors import TrunkCalls, TrunkRate

RETRY_FULL: Final = 5.0
"""Seconds after which a full trunk may have room: nobody knows when a call ends."""
MAX_PACED: Final = 1024
"""Trunks whose pace is remembered, beyond those that have just been used: names come and go by the API."""


class Limits:
    """Counts the calls of trunks that have a limit; of others nothing is kept."""

    def __init__(self) -> None:
        self._trunk_of: dict[LegId, str] = {}
        self._calls: dict[str, int] = {}
        self._full_at: dict[str, float] = {}

    def came(self, trunk: Trunk, leg: LegId) -> None:
        """A call of the trunk is here."""
        if trunk.max_calls is not None:
            self._trunk_of[leg] = trunk.name
            self._calls[trunk.name] = self._calls.get(trunk.name, 0) + 1

    def check(self, trunk: Trunk) -> None:
        """`TrunkCalls` or `TrunkRate` unless another call can be dialled by it now."""
        if trunk.max_calls is not None and self._calls.get(trunk.name, 0) >= trunk.max_calls:
            raise TrunkCalls(f"trunk {trunk.name} takes {trunk.max_calls} calls at a time", RETRY_FULL)
        if trunk.max_cps is not None and (wait := self._wait(trunk, trunk.max_cps)) > 0:
            raise TrunkRate(f"trunk {trunk.name} takes {trunk.max_cps:g} calls a second", wait)

    def dialled(self, trunk: Trunk, leg: LegId) -> None:
        """A call by the trunk is dialled."""
        if trunk.max_cps is not None:
            now = asyncio.get_running_loop().time()
            self._full_at[trunk.name] = max(self._full_at.get(trunk.name, 0.0), now) + 1 / trunk.max_cps
            self._forget_idle(now)
        self.came(trunk, leg)

    def left(self, leg: LegId) -> None:
        """The leg is gone."""
        if self._trunk_of and (name := self._trunk_of.pop(leg, None)) is not None:
            self._calls[name] -= 1
            if not self._calls[name]:
                del self._calls[name]

    def _wait(self, trunk: Trunk, pace: float) -> float:
        """Seconds until there is a token: a bucket that holds the calls of a second, one at the least."""
        full_at = self._full_at.get(trunk.name, 0.0)
        room = max(1.0 - 1 / pace, 0.0)
        return full_at - asyncio.get_running_loop().time() - room

    def _forget_idle(self, now: float) -> None:
        if len(self._full_at) > MAX_PACED:
            self._full_at = {name: at for name, at in self._full_at.items() if at > now}
