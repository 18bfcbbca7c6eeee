"""Two engines call each other from Python; sound goes through as real UDP."""

import json
import re
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from telephony_gateway import _core
from tests.core.node import PATIENCE, Node

Start = Callable[..., Node]


def connect(caller: Node, callee: Node) -> tuple[int, int]:
    out = caller.dial(callee.uri, from_display="Alice", headers=[("X-Test", "yes")])
    incoming = callee.wait(_core.Incoming)
    assert callee.carried_out(callee.engine.ring(incoming.leg, codecs=["PCMA", "PCMU"])) == "PCMA"
    assert caller.wait(_core.Ringing).status == 180
    callee.carried_out(callee.engine.answer(incoming.leg))
    assert caller.wait(_core.Answered).codec == "PCMA"
    callee.wait(_core.Confirmed)
    return out, incoming.leg


def test_a_call_from_setup_to_end(start: Start) -> None:
    caller, callee = start(), start()
    out = caller.dial(callee.uri, from_display="Alice", headers=[("X-Test", "yes")])
    incoming = callee.wait(_core.Incoming)
    assert incoming.codecs == ["PCMU", "PCMA"]
    assert (incoming.from_uri, incoming.from_display) == ("sip:alice@example.com", "Alice")
    assert (incoming.request_uri, incoming.to_uri) == (callee.uri, callee.uri)
    assert (incoming.source, incoming.local) == (caller.engine.sip_address, callee.engine.sip_address)
    assert (incoming.header("x-TEST"), incoming.header("no")) == ("yes", None)
    assert ("X-Test", "yes") in incoming.headers()
    assert incoming.header("call-id") == incoming.header("i") == incoming.sip_call_id
    callee.engine.answer(incoming.leg)
    answered = caller.wait(_core.Answered)
    assert (answered.leg, answered.sip_call_id) == (out, incoming.sip_call_id)
    callee.engine.hangup(incoming.leg, "enough")
    mine, theirs = callee.ended(incoming.leg), caller.ended(out)
    assert (mine.by, mine.cause, theirs.by, theirs.cause) == ("local", "bye", "remote", "bye")
    assert theirs.reason == "enough"
    assert mine.stats is not None
    assert (mine.stats.codec, mine.stats.jitter) == ("PCMU", 0.0)


def test_busy_cancel_and_nobody_there(start: Start) -> None:
    caller, callee = start(), start()
    out = caller.dial(callee.uri)
    leg = callee.wait(_core.Incoming).leg
    callee.engine.reject(leg, 486, headers=[("X-Why", "lunch")])
    ended = caller.ended(out)
    assert (ended.by, ended.cause, ended.status) == ("remote", "rejected", 486)
    assert callee.ended(leg).cause == "rejected"

    out = caller.dial(callee.uri)
    leg = callee.wait(_core.Incoming).leg
    caller.engine.hangup(out)
    assert (caller.ended(out).cause, callee.ended(leg).cause) == ("cancel", "cancel")

    out = caller.dial(callee.uri, timeout=0.2)
    leg = callee.wait(_core.Incoming).leg
    assert caller.ended(out).cause == "timeout"
    assert callee.ended(leg).by == "remote"

    out = caller.dial("sip:nobody@no-such-host.invalid")
    ended = caller.ended(out)
    assert (ended.cause, ended.by, ended.stats) == ("unreachable", "system", None)


class Phone:
    """A bare phone: SIP text and RTP, by hand."""

    def __init__(self, gateway: tuple[str, int]) -> None:
        self.gateway = gateway
        self.sip, self.rtp = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for each in (self.sip, self.rtp):
            each.bind(("127.0.0.1", 0))
            each.settimeout(PATIENCE)

    def close(self) -> None:
        self.sip.close()
        self.rtp.close()

    def request(self, method: str, number: int, tag: str = "", body: str = "") -> None:
        host, port = self.sip.getsockname()
        content = "Content-Type: application/sdp\r\n" if body else ""
        text = (
            f"{method} sip:gateway@{self.gateway[0]}:{self.gateway[1]} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{port}{method}{number}\r\nMax-Forwards: 70\r\n"
            f"From: <sip:phone@{host}>;tag=p\r\nTo: <sip:gateway@{self.gateway[0]}>{tag}\r\n"
            f"Call-ID: {port}\r\n"
            f"CSeq: {number} {method}\r\nContact: <sip:phone@{host}:{port}>\r\n{content}"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        )
        self.sip.sendto(text.encode(), self.gateway)

    def expect(self, begin: str) -> str:
        while True:
            text = self.sip.recv(65535).decode()
            if text.startswith(begin):
                return text

    def call(self, node: Node) -> int:
        body = (
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            f"m=audio {self.rtp.getsockname()[1]} RTP/AVP 0\r\n"
        )
        self.request("INVITE", 1, body=body)
        leg = node.wait(_core.Incoming).leg
        node.engine.answer(leg)
        ok = self.expect("SIP/2.0 200")
        self.tag = re.search(r"^To: .*(;tag=\S+)\r$", ok, re.MULTILINE).group(1)  # type: ignore[union-attr]
        self.media = ("127.0.0.1", int(re.search(r"^m=audio (\d+)", ok, re.MULTILINE).group(1)))  # type: ignore[union-attr]
        self.request("ACK", 1, self.tag)
        node.wait(_core.Confirmed)
        return leg

    def packet(self, sequence: int, sound: int) -> bytes:
        header = (
            b"\x80\x00" + sequence.to_bytes(2, "big") + (sequence * 160).to_bytes(4, "big") + b"\0\0\0\x07"
        )
        return header + bytes([sound]) * 160


@pytest.fixture
def phone(start: Start) -> Iterator[Callable[[Node], Phone]]:
    """Makes phones that are closed after the test."""
    made: list[Phone] = []

    def phone(node: Node) -> Phone:
        made.append(Phone(node.engine.sip_address))
        return made[-1]

    yield phone
    for each in made:
        each.close()


def test_sound_goes_through_a_bridge(start: Start, phone: Callable[[Node], Phone]) -> None:
    node = start()
    first, second = phone(node), phone(node)
    legs = [each.call(node) for each in (first, second)]
    node.carried_out(node.engine.bridge(*legs))
    for speaker, listener, sound in ((first, second, 0x11), (second, first, 0x22)):
        listener.rtp.settimeout(0.02)
        for sequence in range(200):
            speaker.rtp.sendto(speaker.packet(sequence, sound), speaker.media)
            try:
                heard = listener.rtp.recv(2048)
            except TimeoutError:
                continue
            if heard[1] & 0x7F == 0:
                assert heard[12:] == bytes([sound]) * 160
                break
        else:
            pytest.fail("no sound")
    node.wait(_core.Connected, lambda event: event.leg == legs[0])
    stats = node.engine.leg_stats(legs[0])
    assert stats is not None
    assert stats.packets_received > 0
    assert stats.bytes_sent >= 160
    first.request("BYE", 2, first.tag)
    first.expect("SIP/2.0 200")
    assert node.ended(legs[0]).by == "remote"
    node.engine.hangup(legs[1])
    assert node.ended(legs[1]).by == "local"
    until = time.monotonic() + 5
    while node.engine.stats().ports_in_use and time.monotonic() < until:
        time.sleep(0.05)
    assert (node.engine.stats().ports_in_use, node.engine.stats().legs) == (0, 0)


def test_stop_hangs_up_what_is_left(start: Start) -> None:
    caller, callee = start(), start()
    out, inbound = connect(caller, callee)
    caller.engine.stop(5.0)
    assert caller.ended(out).by == "system"
    assert callee.ended(inbound).cause == "bye"


def test_new_calls_are_refused_while_draining(start: Start) -> None:
    caller, callee = start(), start()
    callee.engine.refuse_new(True)
    assert caller.ended(caller.dial(callee.uri)).status == 503
    callee.engine.refuse_new(False)
    caller.dial(callee.uri)
    callee.wait(_core.Incoming)


def test_a_flood_of_events_comes_in_batches(start: Start) -> None:
    node = start()
    correlations = [node.engine.unbridge(node.engine.new_webrtc_leg()) for _ in range(1000)]
    batches: list[int] = []
    seen: set[int] = set()
    until = time.monotonic() + PATIENCE
    while len(seen) < 1000 and time.monotonic() < until:
        batch = node.engine.poll_events(100)
        batches.append(len(batch))
        seen |= {event.correlation for event in batch if isinstance(event, _core.Done)}
    assert seen == set(correlations)
    assert max(batches) <= 100


def test_a_call_beyond_the_limit_of_its_trunk_ends_with_our_own_503(start: Start) -> None:
    caller, callee = start(), start()
    caller.engine.set_trunks(json.dumps([{"name": "small", "max_calls": 1}]).encode())
    caller.dial(callee.uri, trunk="small")
    callee.wait(_core.Incoming)
    ended = caller.ended(caller.dial(callee.uri, trunk="small"))
    assert (ended.by, ended.status, ended.reason) == ("system", 503, "the trunk takes 1 calls at a time")


@pytest.mark.parametrize(
    ("uri", "next_hop", "why"),
    [
        ("sip:alice@127.0.0.1", "flow:4711", "the phone is registered no more"),
        ("sips:bob@127.0.0.1", "sip:127.0.0.1:5060", "a sips: URI is called by TLS only"),
    ],
)
def test_a_call_that_leads_nowhere_ends_at_once(start: Start, uri: str, next_hop: str, why: str) -> None:
    node = start()
    leg = node.engine.new_sip_leg()
    command = node.engine.dial(
        leg, uri=uri, from_uri="sip:alice@example.com", next_hop=next_hop, codecs=["PCMU"]
    )
    assert node.run(command).error is not None
    ended = node.ended(leg)
    assert (ended.by, ended.cause) == ("system", "unreachable")
    assert ended.reason.startswith(why)
