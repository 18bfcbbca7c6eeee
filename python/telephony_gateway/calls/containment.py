"""Faults stay where they happen.

A panic in the extension arrives as PyO3's PanicException, which is a BaseException: `except Exception`
would let it through to the event loop and take every call down.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType

PASS_ON = (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)


class contained:
    """Hand any fault of the block to `on_fault`, but for what must stop the process or the task.

    A class and not a generator: it is entered some thirty times in a call.
    """

    __slots__ = ("_on_fault",)

    def __init__(self, on_fault: Callable[[BaseException], object]) -> None:
        self._on_fault = on_fault

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        if error is None or isinstance(error, PASS_ON):
            return False
        self._on_fault(error)
        return True
