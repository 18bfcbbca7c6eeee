"""A softphone of pjsua2, in a process of its own: one process holds one, in one thread.

`phone(...)` starts it; `await it.call(uri)` and the other commands are carried out in order, and what happens
is read by `await it.event("state", state="CONFIRMED")`. Every event is a dict with a `type`:

`incoming` (call, from, to), `state` (call, state, code, reason), `media` (call, status), `registered` (code,
active), `digit` (call, digit), `transfer` (call, to), `transferred` (call, code, final).

It sends a tone, and records what it hears if it was started with `record`.
"""

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
Json = dict[str, Any]


@dataclass
class Phone:
    """A running softphone."""

    process: asyncio.subprocess.Process
    log: Path
    host: str = "127.0.0.1"
    port: int = 0
    events: list[Json] = field(default_factory=list)
    """What happened and was not asked for yet, in order."""
    _replies: dict[int, asyncio.Future[Any]] = field(default_factory=dict)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _number: int = 0

    def uri(self, user: str = "phone", transport: str = "") -> str:
        """Where it can be called."""
        return f"sip:{user}@{self.host}:{self.port}" + (f";transport={transport}" if transport else "")

    async def event(self, type_: str, timeout: float = 10, **wanted: Any) -> Json:
        """The first event of this kind with these values; it and nothing else is taken out."""
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            for index, event in enumerate(self.events):
                if event["type"] == type_ and all(event.get(key) == value for key, value in wanted.items()):
                    return self.events.pop(index)
            self._arrived.clear()
            left = deadline - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(self._arrived.wait(), max(left, 0))
            except TimeoutError:
                raise AssertionError(f"no {type_} {wanted}; seen: {self.events}\n{self.tail()}") from None

    def tail(self) -> str:
        """The end of pjsua's own log, messages included."""
        files = [self.log.with_suffix(".err"), self.log]
        return "\n".join(file.read_text(errors="replace")[-6000:] for file in files if file.exists())

    def sent(self, start: str) -> list[str]:
        """The messages it sent whose first line begins so ("PRACK", "SIP/2.0 180")."""
        return self._messages("TX", start)

    def received(self, start: str) -> list[str]:
        """The messages it received whose first line begins so."""
        return self._messages("RX", start)

    def _messages(self, way: str, start: str) -> list[str]:
        text = self.log.read_text(errors="replace")
        found = re.findall(rf"[ .]{way} \d+ bytes [^\n]*:\n(.*?)\n--end msg--", text, re.DOTALL)
        return [message for message in found if message.startswith(start)]

    async def do(self, command: str, **arguments: Any) -> Any:
        """Carry a command out; pjsua's refusal is an AssertionError."""
        self._number += 1
        reply = self._replies[self._number] = asyncio.get_running_loop().create_future()
        assert self.process.stdin is not None
        request = {"number": self._number, "do": command, **arguments}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        await self.process.stdin.drain()
        return await asyncio.wait_for(reply, 10)

    async def call(self, uri: str, **headers: str) -> int:
        """Call somebody; the number of the call. Further headers: `X_Name="value"`."""
        plain = {name.replace("_", "-"): value for name, value in headers.items()}
        return int(await self.do("call", uri=uri, headers=plain))

    async def answer(self, call: int, status: int = 200) -> None:
        """Answer or refuse; 180 and 183 are no final answers."""
        await self.do("answer", call=call, status=status)

    async def hang_up(self, call: int) -> None:
        """BYE, CANCEL or a refusal."""
        await self.do("hang_up", call=call)

    async def hold(self, call: int) -> None:
        """Re-INVITE with `sendonly`."""
        await self.do("hold", call=call)

    async def resume(self, call: int, *, update: bool = False) -> None:
        """Re-INVITE (or UPDATE) with `sendrecv`."""
        await self.do("resume", call=call, update=update)

    async def transfer(self, call: int, to: str) -> None:
        """Blind: REFER."""
        await self.do("transfer", call=call, to=to)

    async def attended_transfer(self, call: int, other: int) -> None:
        """REFER with Replaces: joins the peers of two calls."""
        await self.do("attended_transfer", call=call, other=other)

    async def digits(self, call: int, digits: str, *, info: bool = False) -> None:
        """RFC 4733 events, or SIP INFO."""
        await self.do("digits", call=call, digits=digits, info=info)

    async def register(self, *, renew: bool = True) -> None:
        """Register again, or leave."""
        await self.do("register", renew=renew)

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            message = json.loads(line)
            reply = self._replies.pop(message.get("number"), None)
            if reply is None:
                self.events.append(message)
                self._arrived.set()
            elif reply.done():
                continue
            elif "error" in message:
                reply.set_exception(AssertionError(message["error"]))
            else:
                reply.set_result(message["result"])


@contextlib.asynccontextmanager
async def phone(folder: Path, **options: Any) -> AsyncIterator[Phone]:
    """Start a softphone. Options (all may be left out):

    transport: "udp", "tcp" or "tls"; host, port; certificate, key, authority: PEM files; verify: of servers;
    require_certificate: of clients. user, registrar, username, password (or hashed_password, of MD5), realm;
    contact: parameters of Contact (";q=0.5"); proxy: a URI that every request goes by. reliable: "off",
    "supported" or "require" (100rel); timers: the same; session_expires, min_se. auto: status to answer every
    call with. record: WAV file; codecs: names in order ("PCMA/8000").
    """
    folder.mkdir(exist_ok=True)
    log = folder / f"pjsua-{len(list(folder.glob('pjsua-*.log')))}.log"
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    arguments = ["-m", "tests.interop.pjsua_process", json.dumps({"log": str(log), **plain})]
    with log.with_suffix(".err").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    running = Phone(process, log, str(options.get("host", "127.0.0.1")))
    reader = asyncio.create_task(running._read())
    try:
        running.port = int((await running.event("ready", timeout=20))["port"])
        yield running
    finally:
        await _stop(process)
        reader.cancel()


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End of input is the sign to leave; pjsua hangs up what is left and takes a second for it."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), 10)
    except TimeoutError:
        process.kill()
        await process.wait()
