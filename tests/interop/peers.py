"""Real peers: SIPp for signalling, and an RTP endpoint that plays a tone and keeps what it hears."""

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from tests.interop.script import Script
from tests.interop.tone import PTIME_SAMPLES, Samples, tone, ulaw_decode, ulaw_encode
from tests.ports import free_port

SCENARIOS = Path(__file__).parent / "scenarios"
CALLEE = "74951234567"


class SippFailed(AssertionError):
    """SIPp did not see the messages its scenario names."""


@dataclass
class Sipp:
    """One SIPp process playing one scenario."""

    process: asyncio.subprocess.Process
    port: int
    folder: Path

    async def finished(self, timeout: float = 30) -> None:
        """Wait for its end; anything but success is a failure with SIPp's own words."""
        try:
            code = await asyncio.wait_for(self.process.wait(), timeout)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            code = -1
        if code != 0:
            logs = "\n".join(
                path.read_text(errors="replace")[-4000:] for path in sorted(self.folder.glob("*.log"))
            )
            raise SippFailed(f"SIPp ended with {code}\n{logs}")


def filled(text: str, *, headers: str = "", reason: str = "", **keys: int) -> str:
    """A scenario with its own words filled in; SIPp fills the rest."""
    text = text.replace("[headers]\n", headers).replace("[reason]\n", reason)
    for name, value in {"ring": 100, "hold": 500, "audio_port": 6000, **keys}.items():
        text = text.replace(f"[{name}]", str(value))
    return text


@contextlib.asynccontextmanager
async def sipp(
    scenario: str | Script,
    folder: Path,
    *,
    remote: tuple[str, int] | None = None,
    status: int = 486,
    calls: int = 1,
    port: int | None = None,
    host: str = "127.0.0.1",
    service: str = CALLEE,
    headers: str = "",
    reason: str = "",
    sockets: str = "u1",
    rate: int = 0,
    lasts: int = 60,
    **keys: int,
) -> AsyncIterator[Sipp]:
    """Start SIPp: a caller when `remote` is given, a callee otherwise. `keys` fill the scenario's
    [names]; `headers` and `reason` are whole lines for its [headers] and [reason]; `sockets`
    are SIPp's own words: u1 UDP, t1 TCP, tn one TCP connection per call. With a `rate` many calls are
    made, that many a second: statistics.csv is written then, and no log of messages."""
    port = port or free_port()
    folder = folder / f"sipp-{port}-{len(list(folder.iterdir()))}"
    folder.mkdir()
    text = scenario.text if isinstance(scenario, Script) else (SCENARIOS / f"{scenario}.xml").read_text()
    text = filled(text.replace("STATUS", str(status)), headers=headers, reason=reason, **keys)
    (folder / "scenario.xml").write_text(text)
    arguments = ["-sf", "scenario.xml", "-i", host, "-p", str(port), "-m", str(calls), "-nostdin"]
    arguments += ["-trace_err", "-error_file", "errors.log", "-s", service, "-t", sockets]
    arguments += ["-timeout", str(120 if rate else lasts), "-timeout_error", "-max_socket", "1000"]
    if rate:
        arguments += ["-r", str(rate), "-l", str(calls), "-trace_stat", "-stf", "statistics.csv"]
    else:
        arguments += ["-trace_msg", "-message_file", "messages.log"]
    if remote:
        arguments.append(f"{remote[0]}:{remote[1]}")
    process = await asyncio.create_subprocess_exec(
        "sipp", *arguments, cwd=folder, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    if not remote:
        await _bound(port)
    try:
        yield Sipp(process, port, folder)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _bound(port: int, timeout: float = 10) -> None:
    """Wait until somebody holds the UDP port: SIPp does not say when it listens."""
    deadline, held = time.monotonic() + timeout, f":{port:04X} "
    tables = [Path("/proc/net/udp"), Path("/proc/net/udp6")]
    while not any(held in table.read_text() for table in tables) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)


@dataclass
class Arrival:
    """One RTP packet as it came in."""

    at: float
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


@dataclass
class RtpPeer(asyncio.DatagramProtocol):
    """A telephone's media: sends a tone as PCMU every 20 ms, keeps every packet it gets."""

    frequency: float
    port: int
    remote: tuple[str, int] | None = None
    source: str = ""
    arrivals: list[Arrival] = field(default_factory=list)
    sent_at: dict[bytes, float] = field(default_factory=dict)
    started_at: float = 0.0
    transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        if len(data) < 12 or data[0] >> 6 != 2:
            return
        self.remote, self.source = self.remote or address, address[0]
        _, marked_type, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", data)
        payload = data[12 + 4 * (data[0] & 0x0F) :]
        self.arrivals.append(
            Arrival(time.monotonic(), marked_type & 0x7F, sequence, timestamp, ssrc, payload)
        )

    async def talk(self, seconds: float) -> None:
        """Send the tone at an even pace, to where the packets come from."""
        payloads = ulaw_encode(tone(self.frequency, seconds))
        start, self.started_at = time.monotonic(), time.time()
        for number, at in enumerate(range(0, len(payloads) - PTIME_SAMPLES + 1, PTIME_SAMPLES)):
            await asyncio.sleep(max(0.0, start + number * 0.02 - time.monotonic()))
            if self.remote is None or self.transport is None:
                continue
            payload = payloads[at : at + PTIME_SAMPLES]
            self.sent_at[payload] = time.monotonic()
            header = struct.pack(
                "!BBHII", 0x80, 0x80 if number == 0 else 0, number, number * 160, 0x1234_5678
            )
            self.transport.sendto(header + payload, self.remote)

    def audio(self) -> Samples:
        """What was heard, in the order of the timestamps, silence where packets are missing."""
        packets = [packet for packet in self.arrivals if packet.payload_type == 0]
        if not packets:
            return np.zeros(0)
        first = packets[0].timestamp
        placed = {(packet.timestamp - first) % 2**32: ulaw_decode(packet.payload) for packet in packets}
        placed = {offset: part for offset, part in placed.items() if offset < 2**31}
        heard = np.zeros(max(offset + part.size for offset, part in placed.items()))
        for offset, part in placed.items():
            heard[offset : offset + part.size] = part
        return heard

    def lost(self) -> tuple[int, int]:
        """(missing, expected) by sequence number, of the last source heard."""
        packets = [packet for packet in self.arrivals if packet.ssrc == self.arrivals[-1].ssrc]
        first = packets[0].sequence
        numbers = {(packet.sequence - first) % 65536 for packet in packets}
        expected = max(numbers) + 1
        return expected - len(numbers), expected

    def digits(self) -> list[int]:
        """RFC 4733 events heard, one entry per event (payload type 101 in our SDP)."""
        events = {
            packet.timestamp: packet.payload[0] for packet in self.arrivals if packet.payload_type == 101
        }
        return list(events.values())


@contextlib.asynccontextmanager
async def rtp_peer(frequency: float, *, host: str = "127.0.0.1") -> AsyncIterator[RtpPeer]:
    """An RTP endpoint on a free even loopback port."""
    peer = RtpPeer(frequency, free_port())
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: peer, local_addr=(host, peer.port)
    )
    try:
        yield peer
    finally:
        transport.close()
        await asyncio.sleep(0)
