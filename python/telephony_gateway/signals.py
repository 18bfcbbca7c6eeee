"""SIGTERM and SIGINT: the first asks the gateway to stop, the second makes it. SIGHUP: to read its plan."""

import asyncio
import signal

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Watches for them. Until `started`, the first one cancels the start."""

    def __init__(self, starting: "asyncio.Task[int]") -> None:
        self.asked = asyncio.Event()
        self.forced = asyncio.Event()
        self.reread = asyncio.Event()
        self._starting: asyncio.Task[int] | None = starting
        self._loop = asyncio.get_running_loop()
        for number in SIGNALS:
            self._loop.add_signal_handler(number, self._receive)
        self._loop.add_signal_handler(signal.SIGHUP, self.reread.set)

    def started(self) -> None:
        """From here on the first signal means a graceful stop."""
        self._starting = None

    def close(self) -> None:
        """Back to what signals do by themselves."""
        for number in (*SIGNALS, signal.SIGHUP):
            self._loop.remove_signal_handler(number)

    def _receive(self) -> None:
        if self.asked.is_set():
            self.forced.set()
            return
        self.asked.set()
        if self._starting is not None:
            self._starting.cancel()
