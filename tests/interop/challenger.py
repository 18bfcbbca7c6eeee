"""A carrier that asks who calls (RFC 3261 22): a test says step by step what it answers."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import cast

from tests.interop.digest import fields, response

Address = tuple[str, int]
PASSWORD = "wonderland"
REALM = "carrier.example"


def challenge(nonce: str, algorithm: str = "SHA-256", *, realm: str = REALM, more: str = 'qop="auth"') -> str:
    """One challenge."""
    return f'Digest realm="{realm}", nonce="{nonce}", algorithm={algorithm}, {more}'


@dataclass
class Asked:
    """A request of the gateway."""

    text: str
    source: Address

    @property
    def method(self) -> str:
        return self.text.split(" ", 1)[0]

    def values(self, name: str) -> list[str]:
        """The lines of a header."""
        return re.findall(rf"^{name}: *(.*?)\r$", self.text, re.MULTILINE)

    def proof(self, name: str = "Authorization") -> dict[str, str]:
        """Its only credentials, which must be right."""
        (line,) = self.values(name)
        given, body = fields(line), self.text.partition("\r\n\r\n")[2]
        assert given["uri"] == self.text.split(" ", 2)[1], line
        assert given["response"] == response(given, PASSWORD, self.method, body), line
        return given


@dataclass
class Carrier(asyncio.DatagramProtocol):
    """One address of the carrier."""

    gateway: Address
    requests: asyncio.Queue[Asked] = field(default_factory=asyncio.Queue)
    seen: set[tuple[str, str]] = field(default_factory=set)
    alive: asyncio.Event = field(default_factory=asyncio.Event)
    transport: asyncio.DatagramTransport = field(init=False)

    @property
    def address(self) -> str:
        """`host:port`."""
        host, port = self.transport.get_extra_info("sockname")
        return f"{host}:{port}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: Address) -> None:
        asked = Asked(data.decode(), address)
        name = (asked.method, asked.values("Via")[0].partition("branch=")[2])
        if asked.method.startswith("SIP/2.0"):
            self.alive.set()
        elif name not in self.seen:
            self.seen.add(name)
            self.requests.put_nowait(asked)

    async def asked(self, method: str) -> Asked:
        """The next request, repetitions left out."""
        asked = await asyncio.wait_for(self.requests.get(), 10)
        assert asked.method == method, asked.text
        return asked

    async def refuses(self, asked: Asked, status: str, *headers: str) -> None:
        """Send a final refusal; that of an INVITE is acknowledged."""
        self.says(asked, status, *headers)
        if asked.method == "INVITE":
            await self.asked("ACK")

    def says(self, asked: Asked, status: str, *headers: str, tag: str = "carrier", body: str = "") -> None:
        """Send a response."""
        (to,) = asked.values("To")
        copied = [f"{name}: {asked.values(name)[0]}" for name in ("Via", "From", "Call-ID", "CSeq")]
        lines = [
            f"SIP/2.0 {status}",
            *copied,
            f"To: {to}" if ";tag=" in to else f"To: {to};tag={tag}",
            *headers,
        ]
        lines += ["Content-Type: application/sdp"] if body else []
        text = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body])
        self.transport.sendto(text.encode(), asked.source)

    async def hears_no_more(self) -> None:
        """Nothing follows what was said: it answers a later request, and sends nothing before."""
        self.alive.clear()
        here, branch = self.address, f"z9hG4bK{time.monotonic_ns()}"
        text = (
            f"OPTIONS sip:{self.gateway[0]}:{self.gateway[1]} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {here};branch={branch}\r\n"
            f"From: <sip:carrier@{here}>;tag=o\r\nTo: <sip:gateway@{here}>\r\nCall-ID: {branch}\r\n"
            "CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        )
        self.transport.sendto(text.encode(), self.gateway)
        await asyncio.wait_for(self.alive.wait(), 10)
        assert self.requests.empty(), self.requests.get_nowait().text


@contextlib.asynccontextmanager
async def carrier(gateway: Address, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Carrier]:
    """Listens at an address of loopback."""
    transport, peer = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Carrier(gateway), local_addr=(host, port)
    )
    try:
        yield peer
    finally:
        transport.close()
        await asyncio.sleep(0)
