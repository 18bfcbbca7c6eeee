"""Which trunks stand behind the others: those of which no target is well, as the engine found out.

The engine orders the targets of one trunk by itself; which of several trunks comes first is decided here.
"""

import asyncio

from telephony_gateway.calls.events import TrunksDown


class Standing:
    """Remembers what the engine told; asking costs no more than a look."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def told(self, event: TrunksDown) -> None:
        """Others are down now than before."""
        now = asyncio.get_running_loop().time()
        self._until = {trunk: now + seconds for trunk, seconds in event.trunks.items()}

    def is_down(self, trunk: str) -> bool:
        """Whether calls had better go by another trunk; when its time is over, the next one tries it."""
        until = self._until.get(trunk)
        return until is not None and asyncio.get_running_loop().time() < until
