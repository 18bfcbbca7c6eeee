"""The shield from outside: strangers hear nothing, trunks keep to their limits, and REST says why."""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.interop.gateway import Gateway, eventually, gateway
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

FAST, SMALL, STRANGER = "127.0.0.1", "127.0.0.2", "127.0.0.9"
KEY = "k" * 32
PLAN = """
[[trunks]]
name = "fast"
addresses = ["127.0.0.1/32"]
max_cps = 5

[[trunks]]
name = "small"
addresses = ["127.0.0.2/32"]
max_calls = 2

[[routes]]
name = "busy"
match = {{ trunk = "fast", to = "^1" }}
target = {{ reject = 486 }}

[[routes]]
name = "silence"
match = {{ trunk = "small" }}
target = {{ uri = "sip:nobody@127.0.0.3:{port}" }}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shielded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """A production gateway with two small trunks."""
    folder: Path = tmp_path_factory.mktemp("shield")
    plan = folder / "gateway.toml"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.3", 0))
        plan.write_text(PLAN.format(port=silent.getsockname()[1]))
        settings = {"NODE_ENV": "production", "HOST": "127.0.0.1", "API_KEYS": KEY}
        async with gateway(folder, GATEWAY_CONFIG=str(plan), **settings) as running:
            running.session.headers["Authorization"] = f"Bearer {KEY}"
            yield running


class Peer:
    """A UDP socket at an address of its own."""

    def __init__(self, gateway: Gateway, host: str) -> None:
        self.gateway, self.host = gateway, host
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.setblocking(False)
        self.port: int = self.socket.getsockname()[1]

    def send(self, method: str, branch: str, to: str = "100", cseq: str = "") -> None:
        via = f"Via: SIP/2.0/UDP {self.host}:{self.port};branch=z9hG4bK{branch};rport\r\n"
        self.socket.sendto(
            (
                f"{method} sip:{to}@127.0.0.1 SIP/2.0\r\n{via}Max-Forwards: 70\r\n"
                f"From: <sip:a@{self.host}>;tag=t{branch}\r\nTo: <sip:{to}@127.0.0.1>\r\n"
                f"Call-ID: {branch}@{self.host}\r\nCSeq: 1 {cseq or method}\r\n"
                f"Contact: <sip:a@{self.host}:{self.port}>\r\nContent-Length: 0\r\n\r\n"
            ).encode(),
            self.gateway.sip,
        )

    async def finals(self, count: int, timeout: float = 5) -> list[str]:
        """That many final responses, each once."""
        found: dict[str, str] = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while len(found) < count:
                    text = (await asyncio.get_running_loop().sock_recv(self.socket, 65536)).decode()
                    if not text.startswith("SIP/2.0 1"):
                        branch = text.partition("branch=")[2].partition(";")[0].strip()
                        found.setdefault(branch, text)
        return list(found.values())

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def peers(shielded: Gateway) -> Any:
    """Makes peers, and closes them."""
    with contextlib.ExitStack() as stack:

        def make(host: str) -> Peer:
            peer = Peer(shielded, host)
            stack.callback(peer.close)
            return peer

        yield make


async def refusals(running: Gateway, **query: str) -> list[dict[str, Any]]:
    text = "&".join(f"{name}={value}" for name, value in query.items())
    return list((await running.get(f"/api/v1/refusals?limit=1000&{text}"))["items"])


def status(response: str) -> int:
    return int(response[8:11])


async def test_strangers_hear_nothing_and_rest_says_why(shielded: Gateway, peers: Any) -> None:
    before = await shielded.use()
    stranger = peers(STRANGER)
    for number, method in enumerate(("INVITE", "OPTIONS", "REGISTER", "BYE", "SUBSCRIBE", "NONSENSE")):
        stranger.send(method, f"stranger{number}")
    stranger.socket.sendto(b"INVITE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP a\r\n\r\n", shielded.sip)
    assert await stranger.finals(1, timeout=1) == []
    told = await refusals(shielded, source=STRANGER)
    assert {refusal["rule"] for refusal in told} <= {"unknown_source", "malformed"}
    invite = next(refusal for refusal in told if refusal["request"].startswith("INVITE sip:100"))
    assert (invite["status"], invite["trunk"], invite["port"]) == (None, None, stranger.port)
    assert invite["reason"] == f"no trunk allows {STRANGER}"
    after = await shielded.use()
    assert (after.legs, after.calls, after.transactions) == (before.legs, before.calls, before.transactions)
    assert await shielded.calls() == []


async def test_a_scan_is_cut_short_and_leaves_nothing(shielded: Gateway, peers: Any) -> None:
    scanner = peers("127.0.0.10")
    before = await shielded.use()
    for number in range(1000):
        scanner.send("REGISTER" if number % 2 else "OPTIONS", f"scan{number}")
        if number % 100 == 99:
            await asyncio.sleep(0.01)

    async def limited() -> list[dict[str, Any]]:
        return await refusals(shielded, source="127.0.0.10", rule="source_rate")

    told = await eventually(limited, "the limit of a source")
    assert told[0]["reason"] == "127.0.0.10, which belongs to no trunk, sends too fast"
    assert await scanner.finals(1, timeout=0.5) == []
    assert (await shielded.use()).transactions == before.transactions
    samples = await shielded.metrics()
    assert samples['engine_refused_total{rule="source_rate"}'] > 500


async def test_sipsak_finds_nobody(shielded: Gateway) -> None:
    # Asked for users of a registrar that has none: refused each time, and nothing stays behind.
    before = await shielded.use()
    scan = await asyncio.create_subprocess_exec(
        *("sipsak", "-U", "-C", "empty", "-x", "60", "-l", str(free_port())),
        *("-s", f"sip:1000@127.0.0.1:{shielded.sip_port}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(scan.communicate(), 20)
    assert b"SIP/2.0 405 Method Not Allowed" in said
    assert scan.returncode == 1
    after = await shielded.use()
    assert (after.legs, after.calls, after.transactions) == (before.legs, before.calls, before.transactions)


async def test_a_trunk_keeps_to_its_calls_a_second(shielded: Gateway, peers: Any) -> None:
    caller = peers(FAST)
    for number in range(30):
        caller.send("INVITE", f"burst{number}")
    answers = await caller.finals(30)
    statuses = [status(answer) for answer in answers]
    assert (len(answers), set(statuses)) == (30, {486, 503})
    assert 5 <= statuses.count(486) <= 8
    waits = {
        int(answer.partition("Retry-After: ")[2].partition("\r\n")[0])
        for answer in answers
        if status(answer) == 503
    }
    assert waits <= set(range(1, 6))
    assert len(waits) > 1
    told = await refusals(shielded, rule="trunk_rate")
    assert told[0]["reason"] == "trunk fast takes 5 calls a second"
    assert (told[0]["status"], told[0]["trunk"]) == (503, "fast")
    routed = await refusals(shielded, rule="route")
    assert routed[0]["reason"] == "rejected by route busy"


async def test_a_call_that_no_route_takes_says_so(shielded: Gateway, peers: Any) -> None:
    await asyncio.sleep(1)  # the trunk's bucket fills
    caller = peers(FAST)
    caller.send("INVITE", "unrouted", to="999")
    assert [status(answer) for answer in await caller.finals(1)] == [404]
    told = await refusals(shielded, rule="no_route")
    assert told[0]["reason"] == "no route takes 999 from trunk fast"
    call = (await shielded.calls())[0]
    assert (call["to"], call["reason"]) == ("999", told[0]["reason"])


async def test_a_trunk_keeps_to_its_calls_at_a_time(shielded: Gateway, peers: Any) -> None:
    caller = peers(SMALL)
    for number in range(3):
        caller.send("INVITE", f"small{number}")
    refused = await caller.finals(1)
    assert [status(answer) for answer in refused] == [503]
    told = await refusals(shielded, rule="trunk_calls")
    assert told[0]["reason"] == "trunk small takes 2 calls at a time"
    for number in range(3):
        caller.send("CANCEL", f"small{number}", cseq="CANCEL")

    numbers = itertools.count()

    async def room() -> bool:
        branch = f"again{next(numbers)}"
        caller.send("INVITE", branch)
        answers = await caller.finals(100, timeout=0.4)
        return not any(branch in answer and status(answer) == 503 for answer in answers)

    await eventually(room, "room for another call")
