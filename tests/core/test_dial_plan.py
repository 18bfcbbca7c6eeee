"""Calls that the engine sends on by the plain part of the plan go where Python would have sent them."""

import random
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import pytest

from telephony_gateway import _core
from telephony_gateway.calls import plain
from telephony_gateway.engine import _incoming
from tests.core.node import PATIENCE, Node
from tests.unit.calls.world import World, settle

Start = Callable[..., Node]
Kind = TypeVar("Kind")
TO = [
    "1000",
    "+4930123456",
    "0049301",
    "12a",
    "9#1",
    "7*",
    "%2B49",
    "1000;ext=2",
    "0",
    "9" * 64,
    "9" * 65,
    "o'x",
    "",
]
FROM = ["+4989", "anonymous", "200", "a#b", "%20", "", "x.y-z_"]
PATTERNS = [
    r"^\+49",
    r"^0+",
    r"\d{4}$",
    r"^1(?:0|2)",
    r"[^0]$",
    r"(?i)A",
    r"\D",
    r"(?:1|9)(?:\d|\*)",
    "",
    r"^\w+$",
]
EXTRA = ["", "Privacy: id\r\n", "X-Gateway-Passage: 1\r\n", "P-Asserted-Identity: <sip:1@a.example>\r\n"]


@dataclass
class Peer:
    """Calls, and is called."""

    gateway: tuple[str, int]
    sip: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    calls: int = 0

    def __post_init__(self) -> None:
        self.sip.bind(("127.0.0.1", 0))
        self.sip.settimeout(PATIENCE)

    @property
    def port(self) -> int:
        port: int = self.sip.getsockname()[1]
        return port

    def invite(self, to: str, from_: str, hops: str, extra: str) -> None:
        self.calls += 1
        body = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        body += "m=audio 9 RTP/AVP 8 0\r\n"
        caller = f"{from_}@" if from_ else ""
        contact = f"Contact: <sip:127.0.0.1:{self.port}>\r\nContent-Type: application/sdp\r\n"
        self.request("INVITE", to, caller, f"{hops}{extra}{contact}", body)

    def cancel(self, to: str) -> None:
        """Give the latest call up (RFC 3261 9.1)."""
        self.request("CANCEL", to, "9@")

    def request(self, method: str, to: str, caller: str, headers: str = "", body: str = "") -> None:
        at = "@" if to else ""
        text = (
            f"{method} sip:{to}{at}{self.gateway[0]}:{self.gateway[1]} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP 127.0.0.1:{self.port};branch=z9hG4bK{self.calls}\r\n"
            f'From: "Who \\"calls\\"" <sip:{caller}a.example>;tag=p\r\nTo: <sip:{to}{at}127.0.0.1>\r\n'
            f"Call-ID: {self.port}-{self.calls}\r\nCSeq: 1 {method}\r\n{headers}"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        )
        self.sip.sendto(text.encode(), self.gateway)

    def refuse(self, invite: str) -> None:
        kept = re.findall(r"^(?:Via|From|To|Call-ID|CSeq): .*\r\n", invite, re.MULTILINE)
        text = "".join(["SIP/2.0 486 Busy Here\r\n", *kept, "Content-Length: 0\r\n\r\n"])
        self.sip.sendto(text.replace("\r\nCall-ID", ";tag=c\r\nCall-ID").encode(), self.gateway)

    def expect(self, begin: str) -> str:
        while not (text := self.sip.recv(65535).decode()).startswith(begin):
            pass
        return text


def trunk(dice: random.Random, name: str, **fixed: Any) -> dict[str, Any]:
    """A trunk that may ask for something that is not plain."""
    odd: list[dict[str, Any]] = [
        {"trusted": True}, {"privacy": "id"}, {"max_calls": 3}, {"max_cps": 5}, {"headers": ["X-One"]},
        {"ringback": "eu"}, {"caller_id": {"policy": "replace", "number": "777"}},
    ]  # fmt: skip
    table = {
        "name": name,
        "codecs": dice.sample(["PCMU", "PCMA", "opus"], dice.randint(1, 3)),
        "strip": dice.choice([0, 0, 1, 3]),
        "prepend": dice.choice(["", "", "+", "00"]),
        "incoming": {"strip": dice.choice([0, 0, 2]), "prepend": dice.choice(["", "", "1"])},
        **({"ring_timeout": 7.0} if dice.random() < 0.3 else {}),
        **(dice.choice(odd) if dice.random() < 0.25 else {}),
    }
    # The door keeps the pace of who calls: that is not what is asked here.
    return {key: value for key, value in (table | fixed).items() if key != "max_cps" or name != "carrier"}


def tables(dice: random.Random, port: int) -> dict[str, Any]:
    trunks = [trunk(dice, "carrier", addresses=["127.0.0.1/32"], uri=None)]
    trunks += [trunk(dice, f"t{n}", uri=f"sip:127.0.0.1:{port}") for n in range(3)]
    routes = []
    for number in range(dice.randint(1, 5)):
        match = {key: dice.choice(PATTERNS) for key in ("to", "from") if dice.random() < 0.4}
        if dice.random() < 0.3:
            match["trunk"] = dice.choice(["carrier", "t0"])
        odd = [{"reject": 486}, {"browser": "all"}, {"uri": f"sip:x@127.0.0.1:{port}"}]
        target = {"trunk": f"t{dice.randint(0, 2)}"} if dice.random() < 0.8 else dice.choice(odd)
        timeout = {"ring_timeout": 20.0} if dice.random() < 0.3 else {}
        routes.append({"name": f"r{number}", "match": match, "target": target, **timeout})
    return {"trunks": trunks, "routes": routes}


@pytest.fixture
def peer_of(start: Start) -> Iterator[Callable[[Node], Peer]]:
    peers: list[Peer] = []

    def peer_of(node: Node) -> Peer:
        peers.append(Peer(node.engine.sip_address))
        return peers[-1]

    yield peer_of
    for peer in peers:
        peer.sip.close()


def soon(node: Node, kind: type[Kind], when: Callable[[Any], bool] = lambda event: True) -> Kind:
    """As `wait`, without the leisure in which the engine tells of what is in no hurry."""
    until = time.monotonic() + PATIENCE
    while not any(isinstance(event, kind) and when(event) for event in node.seen):
        assert time.monotonic() < until, f"no {kind.__name__}"
        node.seen += node.engine.poll_events()
        time.sleep(0.0005)
    return node.wait(kind, when)


def ended(node: Node, leg: int) -> _core.Ended:
    return soon(node, _core.Ended, lambda ended: ended.leg == leg)


def set_plan(node: Node, world: World) -> None:
    node.engine.set_trunks(world.routing.engine_document)
    node.engine.set_dial_plan(plain.document(world.routing, world.policy))


async def as_python_does(world: World, event: Any) -> dict[str, Any]:
    """How Python dials for the same INVITE."""
    world.engine.commands.clear()
    world.engine.alive.add(event.leg)
    world.manager.handle(msgspec.structs.replace(event, forwarded=None))
    await settle()
    ((_, how),) = world.engine.of("dial")
    found: dict[str, Any] = how
    return found


def said(invite: str, name: str) -> str | None:
    found = re.search(rf"^{name}: (.*)\r$", invite, re.MULTILINE)
    return found[1] if found else None


async def check(node: Node, peer: Peer, world: World, told: _core.Incoming) -> None:
    event = _incoming(told)
    assert event.forwarded is not None
    how = await as_python_does(world, event)
    *_, call = world.store.calls.values()
    forwarded = event.forwarded
    assert (forwarded.route, forwarded.to, forwarded.from_) == (call.route, call.to, call.from_)
    invite = peer.expect("INVITE ")
    assert invite.startswith(f"INVITE {how['uri']} SIP/2.0\r\n")
    shown = said(invite, "From") or ""
    assert f"<{how['from_uri']}>" in shown
    assert shown.startswith('"Who \\"calls\\""')
    assert how["from_display"] == 'Who "calls"'
    wanted = dict(how["headers"])
    assert said(invite, "X-Gateway-Passage") == wanted["X-Gateway-Passage"]
    assert said(invite, "Max-Forwards") == wanted.get("Max-Forwards", "70")
    offered = re.findall(r"^a=rtpmap:\d+ (\w+)/", invite, re.MULTILINE)
    assert [name for name in offered if name != "telephone-event"] == how["codecs"]
    peer.refuse(invite)
    assert ended(node, forwarded.leg).status == 486
    node.engine.reject(event.leg, 486)
    assert ended(node, event.leg).by == "local"


@pytest.mark.parametrize("seed", range(12))
async def test_the_engine_decides_as_python_does(
    start: Start, peer_of: Callable[[Node], Peer], seed: int
) -> None:
    dice, node = random.Random(seed), start()
    peer, callee = peer_of(node), peer_of(node)
    world = World(tables(dice, callee.port))
    set_plan(node, world)
    for _ in range(12):
        hops = dice.choice(["Max-Forwards: 70\r\n", "Max-Forwards: 9\r\n", ""])
        extra = dice.choice(EXTRA) if dice.random() < 0.2 else ""
        peer.invite(dice.choice(TO), dice.choice(FROM) if dice.random() < 0.3 else "+4989", hops, extra)
        told = soon(node, _core.Incoming)
        if told.forwarded is not None:
            await check(node, callee, world, told)
        else:
            node.engine.reject(told.leg, 404)
            ended(node, told.leg)


def plain_world(port: int) -> World:
    trunks = [
        {"name": "carrier", "addresses": ["127.0.0.1/32"]},
        {"name": "away", "uri": f"sip:127.0.0.1:{port}"},
    ]
    routes = [{"name": "out", "match": {"to": r"^\d+$"}, "target": {"trunk": "away"}}]
    return World({"trunks": trunks, "routes": routes})


def test_a_plain_call_goes_on_at_once_and_is_told_of_at_leisure(
    start: Start, peer_of: Callable[[Node], Peer]
) -> None:
    node = start()
    peer, callee = peer_of(node), peer_of(node)
    set_plan(node, plain_world(callee.port))
    peer.invite("123", "9", "Max-Forwards: 70\r\n", "")
    assert callee.expect("INVITE ").startswith(f"INVITE sip:123@127.0.0.1:{callee.port} ")
    told = soon(node, _core.Incoming)
    assert told.forwarded is not None
    assert told.forwarded[1:4] == ("out", "123", "9")
    assert 0 <= told.forwarded[4] < PATIENCE
    assert told.forwarded[0] != told.leg


@pytest.mark.parametrize("why", ["asked", "trunks", "full", "privacy", "loop"])
def test_whoever_is_not_plain_is_asked_about(start: Start, peer_of: Callable[[Node], Peer], why: str) -> None:
    node = start()
    peer, callee = peer_of(node), peer_of(node)
    world = plain_world(node.engine.sip_address[1] if why == "loop" else callee.port)
    if why == "full":
        world.policy = msgspec.structs.replace(world.policy, max_calls=0)
    set_plan(node, world)
    if why == "asked":
        node.engine.ask_always(True)
    elif why == "trunks":
        node.engine.set_trunks(world.routing.engine_document)
    peer.invite("123", "9", "", "Privacy: id\r\n" if why == "privacy" else "")
    assert soon(node, _core.Incoming).forwarded is None
    if why == "asked":
        node.engine.ask_always(False)
        peer.invite("124", "9", "", "")
        assert soon(node, _core.Incoming).forwarded is not None


def test_a_caller_who_gives_up_at_once_leaves_nobody_behind(
    start: Start, peer_of: Callable[[Node], Peer]
) -> None:
    node = start()
    peer, callee = peer_of(node), peer_of(node)
    set_plan(node, plain_world(callee.port))
    for _ in range(20):
        peer.invite("123", "9", "", "")
        peer.cancel("123")
        told = soon(node, _core.Incoming)
        assert told.forwarded is not None
        assert ended(node, told.leg).cause == "cancel"
        node.engine.hangup(told.forwarded[0])
        assert ended(node, told.forwarded[0]).by in ("local", "system")


def test_a_call_to_nowhere_ends_by_its_far_leg(start: Start, peer_of: Callable[[Node], Peer]) -> None:
    node = start(rtp_port_range=(44000, 44001))
    peer = peer_of(node)
    set_plan(node, plain_world(peer.port))
    peer.invite("123", "9", "", "")
    told = soon(node, _core.Incoming)
    assert told.forwarded is not None
    # One pair of ports is not enough for two legs: nobody is called, or nobody can be heard.
    node.engine.hangup(told.forwarded[0])
    assert ended(node, told.forwarded[0]).leg == told.forwarded[0]


def test_a_document_that_is_none_is_refused(start: Start) -> None:
    node = start()
    for document in (
        b"",
        b"[]",
        b'{"secret": "", "max_legs": 1, "sources": {}, "routes": [{"name": "x"}], "y": 1}',
    ):
        with pytest.raises(_core.EngineError, match="dial plan"):
            node.engine.set_dial_plan(document)
