"""A browser that does not read is closed, and the gateway waits for nobody."""

import asyncio
import socket
from typing import Any

import pytest

from telephony_gateway.api import socket as sockets
from telephony_gateway.api.frames import Registered
from tests.unit.api.world import World

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==\r\n\r\n"
)


class Listener:
    """Keeps the gateway's own `Socket`s as the manager meets them."""

    def __init__(self, gateway: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: list[Any] = []
        connect = gateway.manager.connect
        monkeypatch.setattr(gateway.manager, "connect", lambda b: (self.found.append(b), connect(b)))


async def stalled(port: int) -> socket.socket:
    """Connect a WebSocket that never reads again, with a small window."""
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(peer, ("127.0.0.1", port))
    await loop.sock_sendall(peer, UPGRADE)
    assert (await loop.sock_recv(peer, 12)).endswith(b"101")
    return peer


async def test_a_slow_reader_is_closed(gateway: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "CLOSE_TIMEOUT", 0.2)
    listener = Listener(gateway, monkeypatch)
    with await stalled(gateway.port):
        (browser,) = listener.found
        frame = Registered(browser="x" * 100_000)
        async with asyncio.timeout(10):
            while not browser.closing:
                browser.send(frame)
                await asyncio.sleep(0)
            while (await gateway.json("GET", "/health/detailed", 200))["websockets"]:
                await asyncio.sleep(0.02)
        browser.send(frame)
        assert not browser._queue


async def test_many_small_frames_are_bounded_too(gateway: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "CLOSE_TIMEOUT", 0.2)
    listener = Listener(gateway, monkeypatch)
    with await stalled(gateway.port):
        (browser,) = listener.found
        for _ in range(sockets.QUEUE_FRAMES):
            browser.send(Registered(browser="x"))
        assert not browser.closing
        browser.send(Registered(browser="x"))
        assert browser.closing


async def test_what_was_queued_leaves_before_the_close(
    gateway: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener(gateway, monkeypatch)
    async with gateway.socket() as talk:
        (browser,) = listener.found
        for number in range(10):
            browser.send(Registered(browser=str(number)))
        browser.close(1000, b"enough")
        seen = [(await talk.next("registered"))["browser"] for _ in range(10)]
        assert seen == [str(number) for number in range(10)]
        assert await talk.closed() == 1000


async def test_a_peer_that_vanishes_leaves_nothing(gateway: World, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener(gateway, monkeypatch)
    peer = await stalled(gateway.port)
    # RST instead of FIN: the peer's host died.
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    peer.close()
    async with asyncio.timeout(5):
        while (await gateway.json("GET", "/health/detailed", 200))["websockets"]:
            listener.found[0].send(Registered(browser="x"))
            await asyncio.sleep(0.02)
