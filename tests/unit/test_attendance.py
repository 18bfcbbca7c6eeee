"""The event loop hosts the SIP thread while it has the time."""

from collections.abc import Callable
from typing import Any

from telephony_gateway.attendance import BUSY, IDLE, RETURN, WINDOW, Attendance

DESCRIPTOR = 7


class Loop:
    """Virtual time, one reader, one timer."""

    def __init__(self) -> None:
        self.now = 100.0
        self.load = 5.0
        self.readers: dict[int, Callable[[], None]] = {}
        self.timer: Timer | None = None

    def time(self) -> float:
        return self.now

    def add_reader(self, descriptor: int, work: Callable[[], None]) -> None:
        self.readers[descriptor] = work

    def remove_reader(self, descriptor: int) -> None:
        del self.readers[descriptor]

    def call_later(self, delay: float, action: Callable[[], None]) -> "Timer":
        assert self.timer is None
        self.timer = Timer(self, self.now + delay, action)
        return self.timer

    def run(self, seconds: float, share: float) -> None:
        """Time passes, the loop is busy for this share of it; then a message comes, or the timer is due."""
        self.now += seconds
        self.load += seconds * share
        for work in list(self.readers.values()):
            work()
        if self.timer is not None and self.timer.at <= self.now:
            due, self.timer = self.timer, None
            due.action()


class Timer:
    """What `call_later` returns."""

    def __init__(self, loop: Loop, at: float, action: Callable[[], None]) -> None:
        self.loop, self.at, self.action = loop, at, action

    def cancel(self) -> None:
        self.loop.timer = None


def attendance(loop: Loop, through: bool = True) -> tuple[Attendance, list[Any]]:
    told: list[Any] = []

    def host(hosted: bool) -> int:
        told.append(hosted)
        return DESCRIPTOR

    def attend() -> bool:
        told.append("work")
        return through

    made = Attendance(loop, host, attend, lambda: loop.load)  # type: ignore[arg-type]
    return made, told


def test_the_loop_does_the_rounds_from_the_start() -> None:
    loop = Loop()
    made, told = attendance(loop)
    loop.run(0.01, 0.5)
    assert made.is_host
    assert told == [True, "work"]


def test_a_busy_loop_leaves_the_rounds_to_the_thread_and_takes_them_back_when_it_is_idle() -> None:
    loop = Loop()
    made, told = attendance(loop)
    loop.run(WINDOW / 2, 1.0)
    assert made.is_host, "a burst is no load"
    loop.run(WINDOW / 2, BUSY)
    assert not made.is_host
    assert loop.readers == {}
    loop.run(RETURN, IDLE + 0.05)
    assert not made.is_host
    loop.run(RETURN, IDLE - 0.05)
    assert made.is_host
    assert told == [True, "work", "work", False, True]


def test_a_loop_that_keeps_pace_stays_the_host() -> None:
    loop = Loop()
    made, _ = attendance(loop)
    for _ in range(100):
        loop.run(WINDOW, BUSY - 0.05)
    assert made.is_host


def test_a_loop_that_does_not_get_through_leaves_the_rounds_at_once() -> None:
    loop = Loop()
    made, told = attendance(loop, through=False)
    loop.run(0.01, 0.1)
    assert not made.is_host
    assert told == [True, "work", False]


def test_closing_leaves_nothing_behind() -> None:
    for share in (0.0, 1.0):
        loop = Loop()
        made, told = attendance(loop)
        loop.run(WINDOW, share)
        made.close()
        assert loop.readers == {}
        assert loop.timer is None
        assert told[-1] is False
