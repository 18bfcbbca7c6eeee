"""A line that loses datagrams: a relay between one SIP peer and the next, in user space."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import cast

from tests.ports import free_port

Address = tuple[str, int]


@dataclass
class Line:
    """Where it listens, and what became of what came."""

    port: int
    remote: Address
    loss: float
    chance: random.Random
    carried: int = 0
    lost: int = 0
    near: "_End | None" = None
    far: "_End | None" = None
    peer: Address | None = None

    def toss(self) -> bool:
        """Whether this one gets through."""
        if self.chance.random() < self.loss:
            self.lost += 1
            return False
        self.carried += 1
        return True


@dataclass
class _End(asyncio.DatagramProtocol):
    """One of its two sockets: the near one faces the peer that sends first, the far one `remote`."""

    line: Line
    near: bool
    transport: asyncio.DatagramTransport = field(init=False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: Address) -> None:
        if self.near:
            self.line.peer = address
        other = self.line.far if self.near else self.line.near
        target = self.line.remote if self.near else self.line.peer
        if other is not None and target is not None and self.line.toss():
            other.transport.sendto(data, target)


@contextlib.asynccontextmanager
async def lossy_line(remote: Address, loss: float, seed: int) -> AsyncIterator[Line]:
    """A line from a free port of loopback to `remote` and back: `loss` is the share that gets lost."""
    line = Line(free_port(), remote, loss, random.Random(seed))
    loop = asyncio.get_running_loop()
    ends = []
    for near, port in ((True, line.port), (False, 0)):
        _, end = await loop.create_datagram_endpoint(
            lambda near=near: _End(line, near), local_addr=("127.0.0.1", port)
        )
        ends.append(end)
    line.near, line.far = ends
    try:
        yield line
    finally:
        for end in ends:
            end.transport.close()
        await asyncio.sleep(0)
