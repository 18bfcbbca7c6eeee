"""The way back to a peer that connects again, moves to another port or repeats its answer."""

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from tests.interop.callee import callee
from tests.interop.carriers import Carriers
from tests.interop.exchange import history, play
from tests.interop.peers import CALLEE, sipp
from tests.interop.script import Script, sdp
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

RTP = 6000
OFFER = sdp(RTP, address="127.0.0.1").replace("[local_ip]", "127.0.0.1").replace("\n", "\r\n")


def value(message: str, name: str) -> str:
    """The first value of a header."""
    found = re.search(rf"^{name}: *(.*?)\r$", message, re.MULTILINE)
    assert found is not None, message
    return found[1]


def accepted(request: str) -> bytes:
    """200 to a request within a dialog."""
    copied = [f"{name}: {value(request, name)}" for name in ("Via", "From", "To", "Call-ID", "CSeq")]
    return "\r\n".join(["SIP/2.0 200 OK", *copied, "Content-Length: 0", "", ""]).encode()


async def message(reader: asyncio.StreamReader) -> str:
    """The next message of a stream."""
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode()
    length = int(value(head, "Content-Length"))
    return head + (await reader.readexactly(length)).decode()


@dataclass
class Caller:
    """A call by TCP, whose streams may come and go."""

    port: int
    contact: str
    call: str = field(default_factory=lambda: uuid.uuid4().hex)
    to: str = f"<sip:{CALLEE}@127.0.0.1>"
    number: int = 0

    @contextlib.asynccontextmanager
    async def stream(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Connect, and be gone at the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            await writer.wait_closed()

    async def offers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """INVITE, its 200 and the ACK."""
        self.number += 1
        writer.write(self._request("INVITE", OFFER))
        while (answer := await message(reader)).startswith("SIP/2.0 1"):
            pass
        assert answer.startswith("SIP/2.0 200"), answer
        self.to = value(answer, "To")
        writer.write(self._request("ACK"))
        await writer.drain()

    def _request(self, method: str, body: str = "") -> bytes:
        lines = [
            f"{method} sip:{CALLEE}@127.0.0.1:{self.port};transport=tcp SIP/2.0",
            f"Via: SIP/2.0/TCP 127.0.0.1:1;branch=z9hG4bK{uuid.uuid4().hex};rport",
            "Max-Forwards: 70",
            f"From: <sip:anna@127.0.0.1>;tag={self.call}",
            f"To: {self.to}",
            f"Call-ID: {self.call}",
            f"CSeq: {self.number} {method}",
            f"Contact: <{self.contact}>",
            *(["Content-Type: application/sdp"] if body else []),
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join([*lines, "", body]).encode()


@contextlib.asynccontextmanager
async def answered(carriers: Carriers) -> AsyncIterator[None]:
    """Whom the gateway calls on: he answers and is hung up on."""
    contact = f"sip:bob@127.0.0.1:{carriers.callee}"
    async with callee(carriers.callee, contact, OFFER):
        yield


async def test_a_repeated_2xx_gets_the_same_ack(carriers: Carriers, tmp_path: Path) -> None:
    """RFC 3261 13.2.2.4: it is sent again to the letter."""
    contact = f"sip:bob@127.0.0.1:{carriers.callee}"
    caller = Script("caller").calls(sdp(RTP)).pause(200).leaves()
    async with callee(carriers.callee, contact, OFFER, deaf=2) as bob:
        async with sipp(caller, tmp_path, remote=carriers.gateway.sip) as anna:
            await anna.finished()
        await history(carriers.gateway)
    assert len(bob.acks) == 3
    assert len(set(bob.acks)) == 1, bob.acks


async def hang_up(carriers: Carriers) -> None:
    """The back end ends the newest call."""
    call = (await carriers.gateway.calls())[0]["id"]
    await carriers.gateway.post(f"/api/v1/calls/{call}/end", {})


async def test_a_caller_that_connects_again_is_hung_up_on_by_its_new_stream(carriers: Carriers) -> None:
    """RFC 3261 12.2.2, RFC 5626: nobody listens where the first stream came from, or where Contact says."""
    caller = Caller(carriers.gateway.sip_port, f"sip:anna@127.0.0.1:{free_port()};transport=tcp")
    async with answered(carriers):
        async with caller.stream() as (reader, writer):
            await caller.offers(reader, writer)
        async with caller.stream() as (reader, writer):
            await caller.offers(reader, writer)
            await hang_up(carriers)
            bye = await message(reader)
            assert bye.startswith("BYE ")
            writer.write(accepted(bye))
            await writer.drain()
    await history(carriers.gateway)


async def test_a_caller_whose_stream_is_gone_is_reached_at_the_port_that_its_name_tells(
    carriers: Carriers,
) -> None:
    """RFC 3261 12.2.1.1: the port that the stream came from is nobody's."""
    byes: asyncio.Queue[str] = asyncio.Queue()

    async def taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bye = await message(reader)
        writer.write(accepted(bye))
        await writer.drain()
        writer.close()
        byes.put_nowait(bye)

    async with await asyncio.start_server(taken, "127.0.0.1", 0) as server, answered(carriers):
        port = server.sockets[0].getsockname()[1]
        caller = Caller(carriers.gateway.sip_port, f"sip:anna@localhost:{port}")
        async with caller.stream() as (reader, writer):
            await caller.offers(reader, writer)
        await hang_up(carriers)
        bye = await asyncio.wait_for(byes.get(), 5)
        assert bye.startswith(f"BYE sip:anna@localhost:{port} ")
    await history(carriers.gateway)


class Elsewhere(asyncio.DatagramProtocol):
    """Takes the requests that come to another port."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[str] = asyncio.Queue()
        self.transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        request = data.decode()
        self.requests.put_nowait(request)
        if not request.startswith("ACK "):
            self.transport.sendto(accepted(request), address)


async def test_a_callee_that_moves_to_another_port_is_found_there(carriers: Carriers, tmp_path: Path) -> None:
    """RFC 3261 12.2.2: the Contact of his re-INVITE is where later requests go, port and all."""
    other = free_port()
    held, holds = sdp(RTP, direction="recvonly"), sdp(RTP, direction="sendonly")
    callee = Script("callee").called(sdp(RTP)).at(f"sip:moved@[local_ip]:{other}")
    callee.pause(200).renews(holds, has=["a=recvonly"])
    caller = Script("caller").calls(sdp(RTP)).renewed(held, has=["a=sendonly"]).pause(200).leaves()
    loop = asyncio.get_running_loop()
    transport, elsewhere = await loop.create_datagram_endpoint(Elsewhere, local_addr=("127.0.0.1", other))
    try:
        await play(carriers, tmp_path, caller, callee)
        bye = await asyncio.wait_for(elsewhere.requests.get(), 5)
    finally:
        transport.close()
    assert bye.startswith(f"BYE sip:moved@127.0.0.1:{other} "), bye
    await history(carriers.gateway)
