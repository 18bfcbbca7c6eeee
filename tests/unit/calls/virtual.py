"""An event loop whose time jumps to the next timer instead of waiting: minutes of calls in milliseconds."""

import asyncio
import selectors
from typing import Any


class _Selector(selectors.DefaultSelector):
    """Never sleeps: what the loop would have slept is added to its time."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("deadlock: nothing is left that could wake the test")
        self.skipped += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Starts at zero; moves only when everything waits."""

    def __init__(self) -> None:
        self._jumps = _Selector()
        super().__init__(self._jumps)

    def time(self) -> float:
        return self._jumps.skipped
