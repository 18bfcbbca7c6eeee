"""One WebSocket as the manager sees it: it queues frames and never waits.

A browser that does not read cannot make the gateway keep its frames for ever: past the bounds of its queue it
is closed with 1013, and it may come back and ask again.
"""

import asyncio
import time
from collections import deque
from contextlib import suppress
from uuid import uuid4

import structlog
from aiohttp import WSCloseCode, web

from telephony_gateway.api import frames

log = structlog.get_logger(__name__)

QUEUE_FRAMES = 256
QUEUE_BYTES = 1024 * 1024
"""What may wait for a browser that reads slowly."""

CLOSE_TIMEOUT = 3.0
"""Seconds for the closing handshake (RFC 6455, 7.1.1); then the connection is cut."""


class Socket:
    """Implements `calls.ports.Browser`."""

    def __init__(self, response: web.WebSocketResponse, request: web.Request, *, authenticated: bool) -> None:
        self.id = str(uuid4())
        self.names: frozenset[str] = frozenset()
        self.authenticated = authenticated
        self._response = response
        self._request = request
        self._queue: deque[str] = deque()
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._closing: tuple[int, bytes] | None = None
        self._writer: asyncio.Task[None] | None = None

    @property
    def closing(self) -> bool:
        """Whether frames are pointless by now."""
        return self._closing is not None or self._response.closed

    def start(self) -> None:
        """Begin to write what is queued."""
        self._writer = asyncio.create_task(self._write(), name=f"websocket-writer-{self.id}")

    def send(self, frame: frames.AnyServerFrame) -> None:
        """Queue a frame; too many of them, and the browser is told to come back later."""
        if self.closing:
            return
        text = frames.encode(frame)
        if len(self._queue) >= QUEUE_FRAMES or self._queued_bytes + len(text) > QUEUE_BYTES:
            log.warning("websocket_too_slow", socket=self.id, frames=len(self._queue))
            self._queue.clear()
            self.close(WSCloseCode.TRY_AGAIN_LATER, b"reads too slowly")
            # The writer may be stuck behind the very frames that are not read.
            if self._writer is not None:
                self._writer.cancel()
            return
        self._queue.append(text)
        self._queued_bytes += len(text)
        self._wake.set()

    def close(self, code: int, message: bytes) -> None:
        """Close once what is queued has left."""
        if self._closing is None:
            self._closing = (code, message)
            self._wake.set()

    async def finish(self) -> None:
        """End the writer and the connection, whatever the peer does."""
        self.close(WSCloseCode.OK, b"")
        if self._writer is not None:
            with suppress(TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(2 * CLOSE_TIMEOUT):
                    await self._writer

    async def _write(self) -> None:
        try:
            while not self._response.closed and (self._queue or self._closing is None):
                if not self._queue:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                text = self._queue.popleft()
                self._queued_bytes -= len(text)
                await self._response.send_str(text)
        except ConnectionError:
            # The peer is gone; the reader finds out by itself.
            return
        finally:
            await self._shut()

    async def _shut(self) -> None:
        code, message = self._closing or (WSCloseCode.OK, b"")
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._response.close(code=code, message=message, drain=False)
        except (TimeoutError, ConnectionError, RuntimeError):
            if self._request.transport is not None:
                self._request.transport.abort()


class FrameBudget:
    """A token bucket for one socket: bursts as an offer with its candidates makes them, but no flood."""

    def __init__(self, rate: float = 50.0, burst: int = 150, patience: int = 500) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._patience = patience
        self._refused = 0
        self._at = time.monotonic()

    def spend(self, now: float | None = None) -> bool:
        """Take one frame's worth; False when the socket has none left."""
        now = time.monotonic() if now is None else now
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            self._refused += 1
            return False
        self._tokens -= 1.0
        return True

    @property
    def exhausted(self) -> bool:
        """Whether the peer went on so long after the first refusals that it is no mistake."""
        return self._refused > self._patience

    @property
    def wait(self) -> float:
        """Seconds until the next frame may pass."""
        return max(0.0, (1.0 - self._tokens) / self._rate)
