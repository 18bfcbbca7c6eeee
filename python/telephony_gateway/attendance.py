"""Whether the event loop does the SIP thread's rounds.

While calls are few, a message that wakes the SIP thread, which wakes the event loop, which wakes the SIP
thread, costs more in wake-ups than in work. So the loop watches what the thread would watch and does its
rounds: one wake-up a message. With many calls the two work side by side, on two cores.
"""

import asyncio
import time
from collections.abc import Callable

WINDOW = 0.5
"""Seconds over which the loop's load is measured."""
BUSY = 0.65
"""The share of a core at which the loop leaves the rounds to the thread."""
IDLE = 0.45
"""The share at which it takes them back; the rounds add a tenth to it, so nothing swings."""
RETURN = 1.0
"""Seconds between two looks whether to take them back."""


class Attendance:
    """Hosts the SIP thread as long as the loop has the time. `host` says so to the engine, which returns the
    descriptor to watch; `attend` is called when that is readable, and says whether it got through.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: Callable[[bool], int],
        attend: Callable[[], bool],
        load: Callable[[], float] = time.thread_time,
    ) -> None:
        self._loop = loop
        self._host = host
        self._attend = attend
        self._load = load
        self._timer: asyncio.TimerHandle | None = None
        self._since = (0.0, 0.0)
        self._begin()

    @property
    def is_host(self) -> bool:
        """Whether the loop does the rounds."""
        return self._timer is None

    def close(self) -> None:
        """Leave the rounds to the thread for good."""
        if self._timer is not None:
            self._timer.cancel()
        else:
            self._loop.remove_reader(self._host(False))

    def _begin(self) -> None:
        self._timer = None
        self._mark()
        self._loop.add_reader(self._host(True), self._work)

    def _work(self) -> None:
        if not self._attend():
            # More comes in than is done, whatever else has the core.
            self._leave()
        elif self._loop.time() - self._since[0] >= WINDOW:
            if self._share() >= BUSY:
                self._leave()
            else:
                self._mark()

    def _leave(self) -> None:
        self._mark()
        self._loop.remove_reader(self._host(False))
        self._timer = self._loop.call_later(RETURN, self._look)

    def _look(self) -> None:
        if self._share() <= IDLE:
            self._begin()
        else:
            self._mark()
            self._timer = self._loop.call_later(RETURN, self._look)

    def _mark(self) -> None:
        self._since = self._loop.time(), self._load()

    def _share(self) -> float:
        """The part of a core that the loop's thread used since the last mark."""
        since, load = self._since
        return (self._load() - load) / max(self._loop.time() - since, 1e-3)
