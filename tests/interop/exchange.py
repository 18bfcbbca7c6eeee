"""A gateway between two SIP peers, and what became of the calls through it."""

import re
from pathlib import Path
from typing import Any

from tests.interop.gateway import Gateway, eventually
from tests.interop.peers import CALLEE, Sipp, sipp
from tests.interop.script import Script


class Exchange:
    """A gateway that sends every call to `callee`."""

    def __init__(self, running: Gateway, callee: int) -> None:
        self.gateway = running
        self.callee = callee


async def play(
    exchange: Exchange, folder: Path, caller: Script, callee: Script, *, service: str = CALLEE
) -> tuple[Sipp, Sipp]:
    """Play both sides to their end; `service` is dialled."""
    async with sipp(callee, folder, port=exchange.callee) as bob:
        async with sipp(caller, folder, remote=exchange.gateway.sip, service=service) as anna:
            await anna.finished()
            await bob.finished()
            return anna, bob


async def history(gateway: Gateway) -> list[dict[str, Any]]:
    """The events of the newest call, once it is over."""
    call = await gateway.ended((await gateway.calls())[0]["id"])
    assert call["status"] == "completed", call
    events: list[dict[str, Any]] = (await gateway.get(f"/api/v1/calls/{call['id']}/events"))["items"]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    return events


async def gateway_port(peer: Sipp) -> int:
    """The gateway's RTP port, from the first description that the peer received."""

    async def seen() -> int | None:
        log = peer.folder / "messages.log"
        text = log.read_text() if log.exists() else ""
        for part in text.split("-" * 47):
            if "message received" in part[:200] and (found := re.search(r"^m=audio (\d+)", part, re.M)):
                return int(found[1])
        return None

    return int(await eventually(seen, "a description"))
