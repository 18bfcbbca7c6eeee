"""A thousand calls over lines that lose a tenth of all datagrams, on both sides of the gateway."""

import asyncio
import csv
from pathlib import Path

import pytest

from tests.interop.callee import callee
from tests.interop.gateway import Gateway, gateway
from tests.interop.lossy import lossy_line
from tests.interop.peers import Sipp, sipp
from tests.interop.script import Script, sdp
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

CALLS, RATE, LOSS = 1000, 80, 0.1
AT_LEAST = 999
DESCRIPTION = sdp(6000, address="127.0.0.1").replace("[local_ip]", "127.0.0.1").replace("\n", "\r\n")


def caller() -> Script:
    """Calls, stays a second, hangs up."""
    script = (
        Script("caller", transactions=True)
        .ask("INVITE", sdp(6000))
        .told(100, optional=True)
        .told(180, optional=True)
    )
    return script.told(183, optional=True).told(200).ask("ACK").pause(1000).ask("BYE").told(200)


def counted(peer: Sipp) -> dict[str, int]:
    """SIPp's own statistics."""
    with (peer.folder / "statistics.csv").open() as file:
        last = list(csv.DictReader(file, delimiter=";"))[-1]
    return {name: int(last[f"{name}(C)"]) for name in ("SuccessfulCall", "FailedCall", "Retransmissions")}


async def outcomes(running: Gateway) -> dict[str, int]:
    """How many calls of each status the records have, a call counted once."""
    seen: dict[str, str] = {}
    path = "/api/v1/calls?limit=200"
    while path:
        page = await running.get(path)
        for call in page["items"]:
            assert call["id"] not in seen, f"{call['id']} has two records"
            seen[call["id"]] = call["status"]
        path = f"/api/v1/calls?limit=200&cursor={page['next_cursor']}" if page.get("next_cursor") else ""
    return {status: list(seen.values()).count(status) for status in set(seen.values())}


async def test_a_thousand_calls_over_lossy_lines(tmp_path: Path) -> None:
    port = free_port()
    async with lossy_line(("127.0.0.1", port), LOSS, 2) as far:
        tables = tmp_path / "gateway.toml"
        tables.write_text(
            f"""
[[trunks]]
name = "carrier"
addresses = ["127.0.0.1"]
uri = "sip:127.0.0.1:{far.port}"

[[routes]]
name = "through"
target = {{ trunk = "carrier" }}
"""
        )
        wide = {"GATEWAY_CONFIG": str(tables), "RTP_PORT_RANGE": "12000-15999", "LOG_LEVEL": "info"}
        async with gateway(tmp_path, **wide) as running, lossy_line(running.sip, LOSS, 1) as near:
            before = await running.use()
            async with (
                callee(port, f"sip:bob@127.0.0.1:{far.port}", DESCRIPTION) as bob,
                sipp(caller(), tmp_path, remote=("127.0.0.1", near.port), calls=CALLS, rate=RATE) as anna,
            ):
                await asyncio.wait_for(anna.process.wait(), 100)
                await running.settled(before, 45, transactions=True)
            told = counted(anna)
            assert told["SuccessfulCall"] >= AT_LEAST, told
            assert told["SuccessfulCall"] + told["FailedCall"] == CALLS
            assert told["Retransmissions"] > CALLS * LOSS, "the line was no bad one"
            assert min(near.lost, far.lost) > CALLS * LOSS
            assert (len(bob.calls), bob.strange) == (CALLS, [])
            assert sum(call.left > 0 for call in bob.calls.values()) >= AT_LEAST
            ended = await outcomes(running)
            assert sum(ended.values()) == CALLS
            assert ended["completed"] >= AT_LEAST, ended
