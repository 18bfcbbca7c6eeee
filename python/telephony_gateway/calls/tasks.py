"""Work of a call that awaits the engine, and its timers. A fault in either ends that call and no other."""

import asyncio
import functools
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from telephony_gateway.calls.closing import Closing
from telephony_gateway.calls.containment import PASS_ON, contained
from telephony_gateway.calls.live import LiveCall
from telephony_gateway.errors import GatewayError, WrongState


class Tasks:
    """Starts tasks and timers that belong to calls."""

    def __init__(self, closing: Closing) -> None:
        self._closing = closing
        # Asking which loop runs is a system call each time (it looks for a fork).
        self._loop: asyncio.AbstractEventLoop | None = None

    def spawn(self, live: LiveCall, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run it for the call; it is cancelled when the call ends."""
        self._start(live, self._run(live, work))

    def begin(self, live: LiveCall, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Do at once what needs no wait, and `spawn` the rest: mostly nothing is left for a task.

        Whoever calls does it last: the call may be another after it.
        """
        run = self._run(live, work)
        try:
            awaited = run.send(None)
        except StopIteration:
            return
        self._start(live, _go_on(run, awaited))

    def _start(self, live: LiveCall, run: Coroutine[Any, Any, None]) -> None:
        task = self._running_loop().create_task(run, name=f"call {live.call.id.int:x}")
        live.tasks.add(task)
        task.add_done_callback(live.tasks.discard)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    async def shield(self, live: LiveCall, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await work that goes on although whoever asked for it goes away; the end of the call cancels it."""
        task = asyncio.get_running_loop().create_task(work(), name=f"call {live.call.id}")
        live.tasks.add(task)
        task.add_done_callback(live.tasks.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise WrongState("the call is over") from None
            task.add_done_callback(lambda done: self._orphaned(live, done))
            raise

    def later(self, live: LiveCall, seconds: float, action: Callable[[], None]) -> None:
        """Do it after so long, in place of the call's timer before, unless the call ends first."""

        def fire() -> None:
            live.timer = None
            with contained(lambda error: self._closing.fail(live, error)):
                action()

        live.set_timer(self._running_loop().call_later(seconds, fire))

    def _orphaned(self, live: LiveCall, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, GatewayError):
            self._closing.fail(live, error)

    async def _run(self, live: LiveCall, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        try:
            await work()
        except PASS_ON:
            raise
        except BaseException as error:
            self._closing.fail(live, error)


async def _go_on(run: Coroutine[Any, Any, None], awaited: Any) -> None:
    """The rest of work that has begun and waits for something."""
    await _resumed(run, awaited)


@types.coroutine
def _resumed(run: Coroutine[Any, Any, None], awaited: Any) -> Generator[Any, Any, None]:
    while True:
        try:
            value = yield awaited
        except BaseException as error:
            resume: Callable[[], Any] = functools.partial(run.throw, error)
        else:
            resume = functools.partial(run.send, value)
        try:
            awaited = resume()
        except StopIteration:
            return
