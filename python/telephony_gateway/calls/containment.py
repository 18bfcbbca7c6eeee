"""Faults stay where they happen.

A panic in the extension arrives as PyO3's PanicException, which is a BaseException: `except Exception`
would let it through to the event loop and take every call down.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PASS_ON = (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)


@contextmanager
def contained(on_fault: Callable[[BaseException], object]) -> Iterator[None]:
    """Hand any fault of the block to `on_fault`, but for what must stop the process or the task."""
    try:
        yield
    except PASS_ON:
        raise
    except BaseException as error:
        on_fault(error)
