"""Next hops by name over real sockets: RFC 3263 lookups, failover, blacklist and probes."""

import json
import select
import time
from collections.abc import Callable

from telephony_gateway import _core
from tests.core.node import Node
from tests.interop.dns import Zone, carrier, name_server, silent_port
from tests.ports import free_port

Start = Callable[..., Node]
URI = "sip:bob@carrier.test"


def call(caller: Node, callee: Node, uri: str = URI, **options: object) -> tuple[int, float]:
    """Call by name, be answered and hang up: the port dialled and the seconds until the INVITE arrived."""
    began = time.monotonic()
    leg = caller.dial(uri, **options)
    incoming = callee.wait(_core.Incoming)
    took = time.monotonic() - began
    callee.carried_out(callee.engine.ring(incoming.leg, codecs=["PCMU"]))
    callee.carried_out(callee.engine.answer(incoming.leg))
    caller.wait(_core.Answered, lambda event: event.leg == leg)
    callee.wait(_core.Confirmed)
    caller.engine.hangup(leg)
    caller.ended(leg)
    assert callee.ended(incoming.leg).cause == "bye"
    return incoming.local[1], took


def targets(node: Node) -> dict[int, str]:
    """State by port."""
    return {report.address[1]: report.state for report in node.engine.targets()}


def eventually(node: Node, states: dict[int, str], timeout: float = 10) -> float:
    """The seconds until the targets are so."""
    began = time.monotonic()
    while targets(node) != states:
        assert time.monotonic() - began < timeout, (targets(node), states)
        if select.select([node.engine.fileno()], [], [], 0.05)[0]:
            node.seen += node.engine.poll_events()
    return time.monotonic() - began


def test_srv_leads_past_dead_and_silent_targets(start: Start) -> None:
    callee, dead = start(), free_port()
    with silent_port() as silent:
        ports = [dead, silent.getsockname()[1], callee.engine.sip_address[1]]
        with name_server(Zone(*carrier(ports))) as zone:
            caller = start(dns_servers=zone.server)
            port, took = call(caller, callee)
            assert port == ports[2]
            assert 3.5 < took < 6  # the silent one has four seconds, the dead one none
            assert silent.recv(4096).startswith(b"INVITE sip:bob@carrier.test SIP/2.0")
            call(caller, callee)
            assert zone.asked["carrier.test", "NAPTR"] == zone.asked["_sip._udp.carrier.test", "SRV"] == 1
            # Two failures each: both stand behind now, and the next call loses no time.
            eventually(caller, {ports[0]: "down", ports[1]: "down"})
            _, took = call(caller, callee)
            assert took < 1


def test_an_answer_is_asked_for_again_when_its_time_is_over(start: Start) -> None:
    callee = start()
    with name_server(Zone(*carrier([callee.engine.sip_address[1]], ttl=1))) as zone:
        caller = start(dns_servers=zone.server)
        call(caller, callee)
        call(caller, callee)
        assert zone.asked["_sip._udp.carrier.test", "SRV"] == 1
        time.sleep(1.1)
        call(caller, callee)
        time.sleep(0.3)
        assert zone.asked["_sip._udp.carrier.test", "SRV"] == 2


def test_a_name_without_records_is_an_end_in_plain_words(start: Start) -> None:
    with name_server(Zone("other.test 60 A 127.0.0.1")) as zone:
        caller = start(dns_servers=zone.server)
        for _ in range(2):
            ended = caller.ended(caller.dial("sip:bob@nowhere.test"))
            assert (ended.cause, ended.by) == ("unreachable", "system")
            assert "nowhere.test has no address" in ended.reason
        assert zone.asked["nowhere.test", "A"] == 1


def test_name_servers_that_are_silent_end_the_call_in_time(start: Start) -> None:
    with silent_port() as silent:
        caller = start(dns_servers=f"127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        ended = caller.ended(caller.dial("sip:bob@carrier.test"))
        assert ended.cause == "unreachable"
        assert time.monotonic() - began < 6


def test_weights_share_the_calls(start: Start) -> None:
    callees = [start(), start()]
    heavy, light = (callee.engine.sip_address[1] for callee in callees)
    zone = Zone(
        f"_sip._udp.carrier.test 300 SRV 1 75 {heavy} one.carrier.test",
        f"_sip._udp.carrier.test 300 SRV 1 25 {light} one.carrier.test",
        "one.carrier.test 300 A 127.0.0.1",
    )
    with name_server(zone):
        caller = start(dns_servers=zone.server)
        counts = [0, 0]

        def refuse() -> None:
            for index, callee in enumerate(callees):
                for event in callee.engine.poll_events():
                    if isinstance(event, _core.Incoming):
                        callee.engine.reject(event.leg, 486)
                        counts[index] += 1

        legs = []
        for _ in range(60):
            legs.append(caller.dial(URI))
            refuse()  # at once: an engine whose events wait too long refuses new calls itself
        until = time.monotonic() + 10
        while sum(counts) < len(legs) and time.monotonic() < until:
            refuse()
            time.sleep(0.005)
        assert [caller.ended(leg).status for leg in legs] == [486] * len(legs)
        # 45 are expected; 33 and 57 are more than three standard deviations away.
        assert 33 <= counts[0] <= 57, counts
    assert zone.asked["_sip._udp.carrier.test", "SRV"] == 1


SDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 6000 RTP/AVP 0\r\n"


def reply(request: str, status: str, *, contact: str = "", body: str = "") -> bytes:
    """A response to a request."""
    kept = [line for line in request.split("\r\n") if line.startswith(("Via:", "From:", "Call-ID:", "CSeq:"))]
    to = next(line for line in request.split("\r\n") if line.startswith("To:"))
    lines = [f"SIP/2.0 {status}", *kept, to if ";tag=" in to else f"{to};tag=peer"]
    lines += [f"Contact: <{contact}>"] if contact else []
    lines += ["Content-Type: application/sdp"] if body else []
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body]).encode()


def test_a_contact_by_name_is_looked_up_before_it_is_needed(start: Start) -> None:
    with (
        silent_port() as peer,
        silent_port() as moved,
        name_server(Zone("phone.test 300 A 127.0.0.1")) as zone,
    ):
        for phone in (peer, moved):
            phone.settimeout(5)
        caller = start(dns_servers=zone.server)
        leg = caller.dial(f"sip:bob@127.0.0.1:{peer.getsockname()[1]}")
        invite, gateway = peer.recvfrom(65_535)
        contact = f"sip:bob@phone.test:{moved.getsockname()[1]}"
        peer.sendto(reply(invite.decode(), "180 Ringing", contact=contact), gateway)
        caller.wait(_core.Ringing)
        until = time.monotonic() + 5
        while zone.asked["phone.test", "A"] == 0:
            assert time.monotonic() < until
            time.sleep(0.01)
        time.sleep(0.1)
        peer.sendto(reply(invite.decode(), "200 OK", contact=contact, body=SDP), gateway)
        assert moved.recv(65_535).startswith(f"ACK {contact} SIP/2.0".encode())
        caller.wait(_core.Answered, lambda event: event.leg == leg)
        caller.engine.hangup(leg)
        bye = moved.recv(65_535)
        assert bye.startswith(f"BYE {contact} SIP/2.0".encode())
        moved.sendto(reply(bye.decode(), "200 OK"), gateway)
        caller.ended(leg)


def test_probes_find_a_target_dead_and_alive_again(start: Start) -> None:
    port = free_port()
    caller = start()
    trunk = {"name": "carrier", "addresses": [], "uri": f"sip:127.0.0.1:{port}", "probe": 1}
    caller.engine.set_trunks(json.dumps([trunk]).encode())
    eventually(caller, {port: "down"})
    report = caller.engine.targets()[0]
    assert (report.trunk, report.last_rtt, report.failures >= 2) == ("carrier", None, True)
    start(sip_port=port)
    took = eventually(caller, {port: "up"})
    assert took > 0.5  # one good probe is not enough
    assert caller.engine.targets()[0].last_rtt is not None
