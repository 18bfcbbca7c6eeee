"""Calls that last a minute, as session timers do: they run while other tests do."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.interop.carriers import Carriers
from tests.interop.gateway import TERMINAL, Gateway
from tests.interop.peers import Sipp, sipp
from tests.interop.script import Script, sdp

SILENT = sdp(6000, direction="inactive")
"""Where media may flow and does not, a call ends after a minute too."""
BY_US = "Require: timer\nSession-Expires: 90;refresher=uac\nAllow: INVITE, ACK, BYE, CANCEL, UPDATE\n"
BY_CALLEE = BY_US.replace("=uac", "=uas")
BY_CALLER = "Supported: timer\nSession-Expires: 90;refresher=uac\n"


def _callee(headers: str) -> Script:
    script = Script("callee").invited(has=["Session-Expires: 90"])
    return script.answer("200 OK", SILENT, headers=headers).asked("ACK")


def _caller(headers: str = "") -> Script:
    script = Script("caller").ask("INVITE", SILENT, headers=headers).told(100, optional=True)
    return script.told(180, optional=True).told(200).ask("ACK")


SCRIPTS = {
    "refreshed": (
        _caller().left(),
        _callee(BY_US).asked("UPDATE", has=["Session-Expires: 90;refresher=uac"]).answer("200 OK").leaves(),
    ),
    "silent-callee": (_caller().left(), _callee(BY_CALLEE).left()),
    "silent-caller": (_caller(BY_CALLER).left(), _callee("").left()),
}
"""The caller's side and the callee's, by what happens."""


@dataclass
class Lasting:
    """The calls, while they run."""

    carriers: Carriers
    peers: list[Sipp]

    async def outcomes(self) -> dict[str, tuple[float, str]]:
        """How many seconds each lasted, and why it ended."""
        for peer in self.peers:
            await peer.finished(90)
        found = {}
        for call in await self.carriers.gateway.calls():
            for name, (number, _) in self.carriers.brief.items():
                if call["to"] == number:
                    ended = await self.carriers.gateway.ended(call["id"])
                    found[name] = (ended["duration"], ended["reason"])
        return found


@contextlib.asynccontextmanager
async def lasting_calls(carriers: Carriers, folder: Path) -> AsyncIterator[Lasting]:
    """Begin them all."""
    async with contextlib.AsyncExitStack() as stack:
        peers = []
        for name, (caller, callee) in SCRIPTS.items():
            number, port = carriers.brief[name]
            peers.append(await stack.enter_async_context(sipp(callee, folder, port=port, lasts=120)))
            near = sipp(caller, folder, remote=carriers.gateway.sip, service=number, lasts=120)
            peers.append(await stack.enter_async_context(near))
        yield Lasting(carriers, peers)
        numbers = [number for number, _ in carriers.brief.values()]
        for call in await carriers.gateway.calls():
            if call["to"] in numbers and call["status"] not in TERMINAL:
                await _end(carriers.gateway, call["id"])


async def _end(gateway: Gateway, call_id: str) -> None:
    """It may end by itself between the question and this."""
    async with gateway.session.post(f"{gateway.url}/api/v1/calls/{call_id}/end", json={}) as response:
        assert response.status in (200, 409), await response.text()
