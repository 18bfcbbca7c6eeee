"""A name server on loopback that says what the test wrote, and counts what it was asked."""

import contextlib
import ipaddress
import socket
import socketserver
import struct
import threading
from collections import Counter
from collections.abc import Iterator

TYPES = {"A": 1, "SOA": 6, "AAAA": 28, "SRV": 33, "NAPTR": 35}
NAMES = {number: name for name, number in TYPES.items()}
NXDOMAIN = 3


class Zone:
    """Records as lines, `name ttl TYPE data`, and the queries so far."""

    def __init__(self, *lines: str, negative_ttl: int = 300) -> None:
        self.lines = list(lines)
        self.negative_ttl = negative_ttl
        self.asked: Counter[tuple[str, str]] = Counter()
        self.port = 0

    @property
    def server(self) -> str:
        """As `DNS_SERVERS` wants it."""
        return f"127.0.0.1:{self.port}"

    def answer(self, query: bytes) -> bytes:
        """The response to a query of one question."""
        name, end = _read_name(query, 12)
        kind, _ = struct.unpack_from("!HH", query, end)
        self.asked[name, NAMES.get(kind, str(kind))] += 1
        records = [line.split() for line in self.lines]
        known = [words for words in records if words[0] == name]
        found = [words for words in known if TYPES[words[2]] == kind]
        code = 0 if known else NXDOMAIN
        # QR and AA; RD as asked.
        flags = 0x8400 | (query[2] & 1) << 8 | code
        header = query[:2] + struct.pack("!HHHHH", flags, 1, len(found), 0 if found else 1, 0)
        body = b"".join(_record(words) for words in found) or self._soa(name)
        return header + query[12 : end + 4] + body

    def _soa(self, name: str) -> bytes:
        data = (
            _name("ns.test") + _name("admin.test") + struct.pack("!IIIII", 1, 60, 60, 60, self.negative_ttl)
        )
        return _name(name) + struct.pack("!HHIH", TYPES["SOA"], 1, self.negative_ttl, len(data)) + data


def _read_name(message: bytes, at: int) -> tuple[str, int]:
    labels = []
    while length := message[at]:
        labels.append(message[at + 1 : at + 1 + length].decode().lower())
        at += length + 1
    return ".".join(labels), at + 1


def _name(name: str) -> bytes:
    labels = [label.encode() for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def _data(kind: str, words: list[str]) -> bytes:
    match kind:
        case "SRV":
            return struct.pack("!HHH", *map(int, words[:3])) + _name(words[3])
        case "NAPTR":
            order, preference, flags, service, replacement = words
            texts = _text(flags) + _text(service) + _text("")
            return struct.pack("!HH", int(order), int(preference)) + texts + _name(replacement)
        case _:
            return ipaddress.ip_address(words[0]).packed


def _record(words: list[str]) -> bytes:
    name, ttl, kind, *rest = words
    data = _data(kind, rest)
    return _name(name) + struct.pack("!HHIH", TYPES[kind], 1, int(ttl), len(data)) + data


@contextlib.contextmanager
def name_server(zone: Zone) -> Iterator[Zone]:
    """Serve a zone by UDP."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            query, udp = self.request
            udp.sendto(zone.answer(query), self.client_address)

    with socketserver.UDPServer(("127.0.0.1", 0), Handler) as server:
        zone.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield zone
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def silent_port() -> Iterator[socket.socket]:
    """A UDP port where somebody listens and never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener


def carrier(ports: list[int], *, ttl: int = 300) -> list[str]:
    """`carrier.test` with one SRV record a port, in the order of the ports."""
    servers = [
        f"_sip._udp.carrier.test {ttl} SRV {priority} 0 {port} one.carrier.test"
        for priority, port in enumerate(ports, 1)
    ]
    return [
        f"carrier.test {ttl} NAPTR 10 10 s SIP+D2U _sip._udp.carrier.test",
        *servers,
        f"one.carrier.test {ttl} A 127.0.0.1",
    ]
