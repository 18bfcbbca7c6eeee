"""A caller of one INVITE at a time that the gateway refuses: it measures how soon 100 Trying is there.

The arrival is the kernel's time stamp (SO_TIMESTAMPNS), so that a late wake-up of the probe does not count.
"""

import socket
import struct
import time

SO_TIMESTAMPNS = 35
PAUSE = 0.02
PATIENCE = 1.0
INVITE = """INVITE sip:0000@{host}:{port} SIP/2.0\r
Via: SIP/2.0/UDP {me};branch=z9hG4bK{number};rport\r
Max-Forwards: 70\r
From: <sip:probe@{me}>;tag={number}\r
To: <sip:0000@{host}:{port}>{tag}\r
Call-ID: probe-{number}@{me}\r
CSeq: 1 {method}\r
Contact: <sip:probe@{me}>\r
Content-Length: 0\r
\r
"""


class Probe:
    """Sends INVITEs to a number that a route refuses."""

    def __init__(self, gateway: tuple[str, int]) -> None:
        self._gateway = gateway
        self.unanswered = 0

    def run(self, seconds: float) -> list[float]:
        """Probe for so long; the seconds from each INVITE to its 100."""
        waits: list[float] = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            probe.settimeout(PATIENCE)
            probe.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            until = time.monotonic() + seconds
            while not waits or time.monotonic() < until:
                try:
                    waits.append(self._once(probe, f"{time.monotonic_ns():x}"))
                except TimeoutError:
                    self.unanswered += 1
                time.sleep(PAUSE)
        return waits

    def _once(self, probe: socket.socket, number: str) -> float:
        sent = time.time_ns()
        probe.sendto(self._request(probe, number, "INVITE"), self._gateway)
        arrived: int | None = None
        while True:
            text, stamp = _receive(probe)
            if f"probe-{number}@" not in text:
                continue
            if text.startswith("SIP/2.0 100"):
                arrived = arrived or stamp
                continue
            tag = text.partition("\r\nTo:")[2].partition("\r\n")[0].partition(";tag=")[2]
            probe.sendto(self._request(probe, number, "ACK", f";tag={tag}"), self._gateway)
            return ((arrived or stamp) - sent) / 1e9

    def _request(self, probe: socket.socket, number: str, method: str, tag: str = "") -> bytes:
        host, port = self._gateway
        me = "{}:{}".format(*probe.getsockname())
        text = INVITE.format(host=host, port=port, me=me, number=number, method=method, tag=tag)
        return text.replace("INVITE sip", f"{method} sip", 1).encode()


def _receive(probe: socket.socket) -> tuple[str, int]:
    """A datagram and when it arrived, in nanoseconds of wall-clock time."""
    data, control, _, _ = probe.recvmsg(65535, 64)
    seconds, nanoseconds = struct.unpack("qq", control[0][2][:16])
    return data.decode(), seconds * 1_000_000_000 + nanoseconds
