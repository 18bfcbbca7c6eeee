"""A callee that repeats its answer and answers repetitions (RFC 3261 13.3.1.4, 17.2).

SIPp, which knows the message it sent last and no other, loses calls on a bad line by itself.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import cast

Address = tuple[str, int]
T1, T2 = 0.5, 4.0


@dataclass
class Answered:
    """One call: what was said last to its INVITE, and how far it came."""

    responses: list[bytes] = field(default_factory=list)
    repeating: asyncio.Task[None] | None = None
    acknowledged: bool = False
    left: int = 0


@dataclass
class Callee(asyncio.DatagramProtocol):
    """Rings, answers after `ring` seconds, is hung up on. The first `deaf` ACKs get the answer once more."""

    contact: str
    sdp: str
    ring: float = 0.1
    deaf: int = 0
    acks: list[bytes] = field(default_factory=list)
    calls: dict[str, Answered] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)
    transport: asyncio.DatagramTransport = field(init=False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: Address) -> None:
        text = data.decode()
        method, call = text.split(" ", 1)[0], self.calls.setdefault(_field(text, "Call-ID"), Answered())
        match method:
            case "INVITE" if call.responses:
                self.transport.sendto(call.responses[-1], address)
            case "INVITE":
                self._say(call, text, "180 Ringing", address)
                call.repeating = asyncio.ensure_future(self._answer(call, text, address))
            case "ACK" | "BYE" if call.repeating is not None:
                call.repeating.cancel()
                if method == "ACK":
                    self._acknowledged(call, data, address)
                call.acknowledged = call.acknowledged or method == "ACK"
                if method == "BYE":
                    call.left += 1
                    self.transport.sendto(self._response(text, "200 OK"), address)
            case _:
                self.strange.append(text)

    def _acknowledged(self, call: Answered, ack: bytes, address: Address) -> None:
        self.acks.append(ack)
        if len(self.acks) <= self.deaf:
            self.transport.sendto(call.responses[-1], address)

    async def _answer(self, call: Answered, invite: str, address: Address) -> None:
        await asyncio.sleep(self.ring)
        self._say(call, invite, "200 OK", address, self.sdp)
        waited, interval = 0.0, T1
        while waited < 64 * T1:
            await asyncio.sleep(interval)
            self.transport.sendto(call.responses[-1], address)
            waited, interval = waited + interval, min(2 * interval, T2)

    def _say(self, call: Answered, invite: str, status: str, address: Address, body: str = "") -> None:
        call.responses.append(self._response(invite, status, body))
        self.transport.sendto(call.responses[-1], address)

    def _response(self, request: str, status: str, body: str = "") -> bytes:
        to = _field(request, "To")
        tag = "" if ";tag=" in to else f";tag=callee{abs(hash(_field(request, 'Call-ID')))}"
        copied = [f"{name}: {_field(request, name)}" for name in ("Via", "From", "Call-ID", "CSeq")]
        lines = [f"SIP/2.0 {status}", *copied, f"To: {to}{tag}", f"Contact: <{self.contact}>"]
        lines += ["Content-Type: application/sdp"] if body else []
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body]).encode()


def _field(text: str, name: str) -> str:
    found = re.search(rf"^{name}: *(.*?)\r$", text, re.MULTILINE)
    return "" if found is None else found[1]


@contextlib.asynccontextmanager
async def callee(port: int, contact: str, sdp: str, *, deaf: int = 0) -> AsyncIterator[Callee]:
    """Answers at this port of loopback; `contact` is where later requests shall go."""
    _, peer = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Callee(contact, sdp, deaf=deaf), local_addr=("127.0.0.1", port)
    )
    try:
        yield peer
    finally:
        for call in peer.calls.values():
            if call.repeating is not None:
                call.repeating.cancel()
        peer.transport.close()
        await asyncio.sleep(0)
