"""pjsua2 on both legs: reliable ringing, session timers, hold, and the digest of RFC 8760."""

import asyncio
import contextlib
import functools
import hashlib
import re
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.interop import digest
from tests.interop.gateway import Gateway, gateway
from tests.interop.peers import sipp
from tests.interop.pjsua_peer import Phone, phone
from tests.interop.script import Script, sdp
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

NEAR, STRICT, GUARDED, GUESSER = "127.0.0.2", "127.0.0.4", "127.0.0.5", "127.0.0.6"
PASSWORD = "wonderland"
PLAN = """
[[trunks]]
name = "near"
addresses = ["127.0.0.2/32"]

[[trunks]]
name = "strict"
addresses = ["127.0.0.4/32"]
100rel = "require"
min_se = 120

[[trunks]]
name = "guarded"
addresses = ["127.0.0.5/32", "127.0.0.6/32"]
inbound_auth = true
username = "pbx"
password_env = "PBX_PASSWORD"
realm = "pbx.example"

[[trunks]]
name = "plain"
uri = "sip:127.0.0.1:{callee}"

[[trunks]]
name = "reliable"
uri = "sip:127.0.0.1:{callee}"
100rel = "require"

[[trunks]]
name = "short"
uri = "sip:127.0.0.1:{callee}"
session_expires = 90

[[trunks]]
name = "long-lived"
uri = "sip:127.0.0.1:{keeper}"
session_expires = 90

[[users]]
name = "alice"
password_env = "ALICE_PASSWORD"

[[routes]]
name = "alice"
match = {{ user = "alice" }}
target = {{ trunk = "plain" }}

[[routes]]
name = "busy"
match = {{ to = "^busy$" }}
target = {{ reject = 486 }}
"""
ROUTE = '[[routes]]\nname = "to-{0}"\nmatch = {{ to = "^{0}$" }}\ntarget = {{ trunk = "{0}" }}\n'
HALF = 45
"""A session of 90 s is refreshed after half of it (RFC 4028 7.2, 7.4)."""


class Exchange:
    """A gateway, and the ports of the two callees it knows."""

    def __init__(self, running: Gateway, callee: int, keeper: int) -> None:
        self.gateway = running
        self.callee = callee
        self.keeper = keeper

    def uri(self, user: str) -> str:
        return f"sip:{user}@127.0.0.1:{self.gateway.sip_port}"

    async def ended(self) -> dict[str, Any]:
        """The newest call, once it is over."""
        return await self.gateway.ended((await self.gateway.calls())[0]["id"])


@dataclass
class KeptCall:
    """A call that runs while the other tests do: it must live through its refreshes."""

    caller: Phone
    callee: Phone
    number: int
    phones: contextlib.AsyncExitStack
    since: float = field(default_factory=time.monotonic)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def exchange(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Exchange]:
    folder, callee, keeper = tmp_path_factory.mktemp("softphones"), free_port(), free_port()
    trunks = ("plain", "reliable", "short", "long-lived")
    plan = folder / "gateway.toml"
    plan.write_text(PLAN.format(callee=callee, keeper=keeper) + "\n".join(map(ROUTE.format, trunks)))
    secrets = {"ALICE_PASSWORD": PASSWORD, "PBX_PASSWORD": PASSWORD}
    async with gateway(folder, GATEWAY_CONFIG=str(plan), **secrets) as running:
        yield Exchange(running, callee, keeper)


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def kept(exchange: Exchange, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KeptCall]:
    folder = tmp_path_factory.mktemp("kept")
    timers = {"timers": "require", "session_expires": 90}
    async with contextlib.AsyncExitStack() as phones:
        callee = phone(folder / "callee", port=exchange.keeper, auto=200, timers="require")
        caller = phone(folder / "caller", host=NEAR, **timers)
        anna, bob = await phones.enter_async_context(caller), await phones.enter_async_context(callee)
        number = await anna.call(exchange.uri("long-lived"))
        await anna.event("state", state="CONFIRMED")
        yield KeptCall(anna, bob, number, phones)


@contextlib.asynccontextmanager
async def pair(
    exchange: Exchange, folder: Path, caller: dict[str, Any], callee: dict[str, Any]
) -> AsyncIterator[tuple[Phone, Phone]]:
    """A caller of trunk `near` and the callee of most routes."""
    async with (
        phone(folder / "callee", port=exchange.callee, **callee) as bob,
        phone(folder / "caller", **{"host": NEAR, **caller}) as anna,
    ):
        yield anna, bob


async def leave(exchange: Exchange, anna: Phone, call: int, bob: Phone) -> None:
    await anna.hang_up(call)
    await bob.event("state", state="DISCONNECTED")
    assert (await exchange.ended())["status"] == "completed"


def header(message: str, name: str) -> str:
    found = re.search(rf"^{name}:\s*(.*?)\r?$", message, re.MULTILINE | re.IGNORECASE)
    return found[1] if found else ""


@pytest.mark.parametrize("trunk", ["plain", "reliable"])
async def test_both_legs_ring_reliably(exchange: Exchange, tmp_path: Path, trunk: str) -> None:
    """RFC 3262: who requires it gets RSeq and sends PRACK, in the role of caller and of callee."""
    required = {"reliable": "require"}
    async with pair(exchange, tmp_path, required, required) as (anna, bob):
        call = await anna.call(exchange.uri(trunk))
        incoming = (await bob.event("incoming"))["call"]
        await bob.answer(incoming, 180)
        await anna.event("state", call=call, state="EARLY")
        await bob.answer(incoming, 183)
        await bob.answer(incoming)
        await anna.event("state", call=call, state="CONFIRMED")
        await bob.event("state", call=incoming, state="CONFIRMED")
        await leave(exchange, anna, call, bob)
    for caller_side, callee_side in ((anna.received, anna.sent), (bob.sent, bob.received)):
        ringing = [message for code in (180, 183) for message in caller_side(f"SIP/2.0 {code}")]
        assert ringing
        assert all("100rel" in header(message, "Require") for message in ringing)
        acknowledged = {header(message, "RAck").split()[0] for message in callee_side("PRACK")}
        assert acknowledged == {header(message, "RSeq") for message in ringing}
    assert ("100rel" in header(bob.received("INVITE")[0], "Require")) == (trunk == "reliable")
    assert len(anna.received("SIP/2.0 180")) == 1, "acknowledged in time, it is not sent again"


async def test_who_cannot_ring_reliably_is_told(exchange: Exchange, tmp_path: Path) -> None:
    """RFC 3262 3: 421 to a caller that does not support what its trunk requires."""
    caller = Script("caller").ask("INVITE", sdp(6000)).told(100, optional=True)
    caller.told(421, has=["Require: 100rel"]).ask("ACK")
    async with sipp(caller, tmp_path, remote=exchange.gateway.sip, host=STRICT) as anna:
        await anna.finished()


async def test_a_caller_mends_too_short_a_session(exchange: Exchange, tmp_path: Path) -> None:
    """RFC 4028 6: 422 with Min-SE, and the caller asks again."""
    short = {"host": STRICT, "reliable": "supported", "timers": "require", "session_expires": 90}
    async with pair(exchange, tmp_path, short, {"auto": 200}) as (anna, bob):
        call = await anna.call(exchange.uri("plain"))
        await anna.event("state", call=call, state="CONFIRMED")
        await leave(exchange, anna, call, bob)
    (refusal,) = anna.received("SIP/2.0 422")
    assert header(refusal, "Min-SE") == "120"
    first, second = anna.sent("INVITE")
    assert header(first, "Session-Expires").startswith("90")
    assert header(second, "Session-Expires").startswith("120")
    answer = next(message for message in anna.received("SIP/2.0 200") if "Session-Expires" in message)
    assert header(answer, "Session-Expires").startswith("120")


async def test_a_callee_wants_a_longer_session(exchange: Exchange, tmp_path: Path) -> None:
    """RFC 4028 7.3: the gateway mends its own INVITE."""
    longer = {"timers": "require", "min_se": 300, "session_expires": 600, "auto": 200}
    async with pair(exchange, tmp_path, {}, longer) as (anna, bob):
        call = await anna.call(exchange.uri("short"))
        await anna.event("state", call=call, state="CONFIRMED")
        await leave(exchange, anna, call, bob)
    first, second = bob.received("INVITE")
    assert header(first, "Session-Expires").startswith("90")
    assert header(second, "Session-Expires").startswith("300")
    assert header(second, "Min-SE") == "300"
    assert header(first, "Call-ID") == header(second, "Call-ID")
    assert len(bob.sent("SIP/2.0 422")) == 1


@pytest.mark.parametrize("holder", ["caller", "callee"])
@pytest.mark.parametrize("update", [False, True], ids=["re-INVITE", "UPDATE"])
async def test_hold_and_resume_reach_the_other_softphone(
    exchange: Exchange, tmp_path: Path, holder: str, update: bool
) -> None:
    async with pair(exchange, tmp_path, {}, {}) as (anna, bob):
        call = await anna.call(exchange.uri("plain"))
        incoming = (await bob.event("incoming"))["call"]
        await bob.answer(incoming)
        ends = [(anna, call), (bob, incoming)]
        for end, number in ends:
            await end.event("state", call=number, state="CONFIRMED")
            await end.event("media", call=number, status="active")
        (holds, own), (held, other) = ends if holder == "caller" else reversed(ends)
        await holds.hold(own)
        await held.event("media", call=other, status="remote-hold")
        await holds.event("media", call=own, status="local-hold")
        await holds.resume(own, update=update)
        await held.event("media", call=other, status="active")
        await holds.event("media", call=own, status="active")
        await leave(exchange, anna, call, bob)
    newest = (await exchange.gateway.calls())[0]["id"]
    events = (await exchange.gateway.get(f"/api/v1/calls/{newest}/events"))["items"]
    sides = [(event["type"], event["data"]["side"]) for event in events if "side" in event["data"]]
    assert sides == [("call.held", holder), ("call.resumed", holder)]


async def test_a_softphone_proves_itself_by_sha_256(exchange: Exchange, tmp_path: Path) -> None:
    """RFC 8760 2.3: the better algorithm is offered first, and used; with the next nonce count each time."""
    account = {"user": "alice", "username": "alice", "password": PASSWORD, "host": "127.0.0.1"}
    registrar = f"sip:127.0.0.1:{exchange.gateway.sip_port}"
    async with pair(exchange, tmp_path, {**account, "registrar": registrar}, {"auto": 200}) as (anna, bob):
        await anna.event("registered", code=200)
        call = await anna.call(exchange.uri("100"))
        await anna.event("state", call=call, state="CONFIRMED")
        await leave(exchange, anna, call, bob)
    offered = re.findall(r"algorithm=([\w-]+)", anna.received("SIP/2.0 401")[0])
    assert offered == ["SHA-256", "SHA-512-256", "MD5"]
    for method in ("REGISTER", "INVITE"):
        proof = header(anna.sent(method)[-1], "Authorization")
        assert "algorithm=SHA-256" in proof
        assert re.search(r'response="[0-9a-f]{64}"', proof)


async def refusals(exchange: Exchange, source: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await exchange.gateway.get(f"/api/v1/refusals?source={source}"))["items"]
    return items


HASHED = hashlib.md5(f"pbx:pbx.example:{PASSWORD}".encode(), usedforsecurity=False).hexdigest()
"""What a telephone keeps that knows MD5 only (RFC 7616 3.4.2)."""


@pytest.mark.parametrize("algorithm", ["SHA-256", "MD5"])
async def test_a_guarded_trunk_asks_a_softphone_for_its_password(
    exchange: Exchange, tmp_path: Path, algorithm: str
) -> None:
    secret = {"password": PASSWORD} if algorithm == "SHA-256" else {"hashed_password": HASHED}
    account = {"host": GUARDED, "username": "pbx", "realm": "pbx.example", **secret}
    async with pair(exchange, tmp_path, account, {"auto": 200}) as (anna, bob):
        call = await anna.call(exchange.uri("plain"))
        await anna.event("state", call=call, state="CONFIRMED")
        await leave(exchange, anna, call, bob)
    assert f"algorithm={algorithm}" in header(anna.sent("INVITE")[1], "Authorization")
    assert "Authorization" not in bob.log.read_text()
    assert (await exchange.gateway.calls())[0]["trunk"] == "guarded"


async def test_a_wrong_password_makes_no_call_and_rest_says_why(exchange: Exchange, tmp_path: Path) -> None:
    before = await exchange.gateway.calls()
    async with phone(tmp_path, host=GUARDED, username="pbx", password="wrong") as anna:
        await anna.call(exchange.uri("plain"))
        assert (await anna.event("state", state="DISCONNECTED"))["code"] == 401
    assert await exchange.gateway.calls() == before
    refusal = (await refusals(exchange, GUARDED))[0]
    assert (refusal["rule"], refusal["status"], refusal["trunk"]) == ("credentials", 401, "guarded")
    assert "password" in refusal["reason"]


class Guest:
    """Asks for a call with credentials of its own making (RFC 7616 3.4)."""

    def __init__(self, exchange: Exchange, host: str) -> None:
        self._uri, self._to = exchange.uri("busy"), exchange.gateway.sip
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self._socket.settimeout(5)
        self._host, self._port = self._socket.getsockname()
        self._number = 0

    def invite(self, authorization: str = "") -> str:
        """The final answer; it is acknowledged."""
        self._number += 1
        answer = self._ask(f"INVITE {self._uri}", "INVITE", authorization)
        while answer.startswith("SIP/2.0 1"):
            answer = self._socket.recv(65536).decode()
        self._send(f"ACK {self._uri}", "ACK", "", header(answer, "To"))
        return answer

    def proof(
        self,
        challenge: str,
        *,
        count: int,
        password: str = PASSWORD,
        nonce: str = "",
        algorithm: str = "SHA-256",
    ) -> str:
        """`qop=auth`."""
        given = {
            "username": "pbx",
            "realm": "pbx.example",
            "nonce": nonce or re.findall(r'nonce="(\w+)"', challenge)[0],
            "uri": self._uri,
            "algorithm": algorithm,
            "qop": "auth",
            "nc": f"{count:08x}",
            "cnonce": "c",
        }
        given["response"] = digest.response(given, password, "INVITE")
        bare = {"algorithm", "qop", "nc"}
        listed = [f"{name}={value}" if name in bare else f'{name}="{value}"' for name, value in given.items()]
        return f"Authorization: Digest {', '.join(listed)}\r\n"

    def _ask(self, line: str, method: str, extra: str) -> str:
        self._send(line, method, extra, f"<{self._uri}>")
        return self._socket.recv(65536).decode()

    def _send(self, line: str, method: str, extra: str, to: str) -> None:
        number, here = self._number, f"{self._host}:{self._port}"
        text = (
            f"{line} SIP/2.0\r\nVia: SIP/2.0/UDP {here};rport;branch=z9hG4bK{here}-{number}\r\n"
            f"From: <sip:pbx@pbx.example>;tag=f\r\nTo: {to}\r\nCall-ID: {here}-{number}\r\n"
            f"CSeq: 1 {method}\r\nMax-Forwards: 70\r\nContact: <sip:pbx@{here}>\r\n{extra}\r\n"
        )
        self._socket.sendto(text.encode(), self._to)

    def close(self) -> None:
        self._socket.close()


async def test_each_algorithm_that_is_offered_will_do(exchange: Exchange) -> None:
    """RFC 8760 2.3."""
    with contextlib.closing(Guest(exchange, GUARDED)) as guest:
        challenge = await asyncio.to_thread(guest.invite)
        offered = re.findall(r"algorithm=([\w-]+)", challenge)
        assert offered == ["SHA-256", "SHA-512-256", "MD5"]
        for count, algorithm in enumerate(offered, 1):
            proof = guest.proof(challenge, count=count, algorithm=algorithm)
            assert (await asyncio.to_thread(guest.invite, proof)).startswith("SIP/2.0 486"), algorithm


async def test_credentials_count_once_and_an_old_nonce_is_stale(exchange: Exchange) -> None:
    """RFC 7616 3.3, 5.4: who knows the password but uses a nonce of ours too often is told `stale`."""
    with contextlib.closing(Guest(exchange, GUARDED)) as guest:
        ask = functools.partial(asyncio.to_thread, guest.invite)
        challenge = await ask()
        assert "stale" not in challenge
        first = guest.proof(challenge, count=1)
        assert (await ask(first)).startswith("SIP/2.0 486")
        replayed = await ask(first)
        assert replayed.startswith("SIP/2.0 401")
        assert "stale=true" in replayed
        assert (await ask(guest.proof(challenge, count=2))).startswith("SIP/2.0 486")
        assert "stale=true" in await ask(guest.proof(challenge, count=2)), "nc counts up"
        assert (await ask(guest.proof(replayed, count=1))).startswith("SIP/2.0 486"), "a new nonce, from 1"
        before_restart = await ask(guest.proof(challenge, count=1, nonce="0" * 16 + "f" * 32))
        assert before_restart.startswith("SIP/2.0 401")
        assert "stale" not in before_restart, "whoever invents nonces is not told that the password is right"
        assert (await ask(guest.proof(before_restart, count=1))).startswith("SIP/2.0 486"), "asked anew"
        wrong = await ask(guest.proof(challenge, count=3, password="wrong"))
        assert wrong.startswith("SIP/2.0 401")
        assert "stale" not in wrong


async def test_who_guesses_passwords_is_not_listened_to_any_more(exchange: Exchange) -> None:
    with contextlib.closing(Guest(exchange, GUESSER)) as guest:
        ask = functools.partial(asyncio.to_thread, guest.invite)
        challenge = await ask()
        for count in range(20):
            answer = await ask(guest.proof(challenge, count=count + 1, password=f"guess{count}"))
            assert answer.startswith("SIP/2.0 401")
        shut = await ask(guest.proof(challenge, count=21))
        assert shut.startswith("SIP/2.0 503 Too many wrong passwords"), "right or not"
        assert 50 <= int(re.findall(r"Retry-After: (\d+)", shut)[0]) <= 71
    rules = [refusal["rule"] for refusal in await refusals(exchange, GUESSER)]
    assert rules.count("credentials") >= 20


async def test_a_call_outlives_its_session_because_both_sides_refresh_it(kept: KeptCall) -> None:
    """The caller refreshes its leg, the gateway that of the callee. The last test here, for it waits."""
    await asyncio.sleep(max(kept.since + HALF + 1.5 - time.monotonic(), 0))
    await kept.caller.hang_up(kept.number)
    assert (await kept.callee.event("state", state="DISCONNECTED"))["code"] == 200
    await kept.phones.aclose()  # pjsua writes the rest of its log
    for refreshes, answers in (
        (kept.caller.sent("UPDATE"), kept.caller.received("SIP/2.0 200")),
        (kept.callee.received("UPDATE"), kept.callee.sent("SIP/2.0 200")),
    ):
        (refresh,) = refreshes
        assert header(refresh, "Session-Expires") == "90;refresher=uac"
        agreed = [
            header(answer, "Session-Expires") for answer in answers if "UPDATE" in header(answer, "CSeq")
        ]
        assert agreed == ["90;refresher=uac"]
