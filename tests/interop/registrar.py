"""A registrar over TCP or TLS that grants what the test says, and keeps what it was asked."""

import asyncio
import contextlib
import re
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.interop.certificates import Certified


@dataclass
class Asked:
    """One REGISTER, and when it came."""

    at: float
    text: str

    def header(self, name: str) -> str:
        """The first of this name, or nothing."""
        found = re.search(rf"^{name}: *(.*?)\r$", self.text, re.MULTILINE)
        return "" if found is None else found[1]


@dataclass
class Registrar:
    """Answers each REGISTER with 200 and the next of the grants, the last one again and again: whole
    lines, where `{own}` is the Contact URI that was asked for."""

    grants: list[str]
    port: int = 0
    asked: list[Asked] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One stream."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                text = (await reader.readuntil(b"\r\n\r\n")).decode().lstrip("\r\n")
                if text:
                    writer.write(self._answer(Asked(time.monotonic(), text)))
        writer.close()

    def _answer(self, register: Asked) -> bytes:
        grant = self.grants[min(len(self.asked), len(self.grants) - 1)]
        self.asked.append(register)
        own = re.search(r"<(.*)>", register.header("Contact"))
        copied = [f"{name}: {register.header(name)}" for name in ("Via", "From", "Call-ID", "CSeq")]
        granted = grant.replace("{own}", own[1] if own else "").splitlines()
        to = f"To: {register.header('To')};tag=registrar"
        return "\r\n".join(["SIP/2.0 200 OK", *copied, to, *granted, "Content-Length: 0", "", ""]).encode()


@contextlib.asynccontextmanager
async def registrar(*grants: str, certified: Certified | None = None) -> AsyncIterator[Registrar]:
    """A registrar on loopback, under TLS with a certificate."""
    peer, context = Registrar(list(grants)), None
    if certified is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certified.certificate, certified.key)
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0, ssl=context)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
