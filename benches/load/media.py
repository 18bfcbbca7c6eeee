"""CPU of the gateway per second of a running call: relayed PCMU, transcoded PCMU to Opus."""

import asyncio
import contextlib
import socket
import struct
import time
from pathlib import Path
from typing import Any

from benches.load.calls import THROUGH, start_sipp, stop
from benches.load.process import cpu_of
from tests.interop.gateway import Gateway, eventually, gateway
from tests.ports import free_port

OPUS_CALLEE = "a=rtpmap:111 opus/48000/2"
FRAME = 160


class Endpoint:
    """One UDP port that is the media of every call of one SIPp."""

    def __init__(self, payload_type: int, payload: bytes, step: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.port: int = self.socket.getsockname()[1]
        self.header = payload_type, step
        self.payload = payload
        self.targets: set[tuple[str, int]] = set()
        self.received = 0
        self.number = 0

    def send(self) -> None:
        """One packet to every call."""
        payload_type, step = self.header
        self.number = number = self.number + 1
        packet = struct.pack("!BBHII", 0x80, payload_type, number & 0xFFFF, number * step, 77) + self.payload
        for target in self.targets:
            with contextlib.suppress(BlockingIOError):
                self.socket.sendto(packet, target)

    def drain(self) -> None:
        """Take in what came."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.socket.recv(2048)
                self.received += 1


def ports_in_messages(log: Path) -> set[tuple[str, int]]:
    """The RTP ports that the gateway named to this SIPp."""
    ports, incoming = set(), False
    for line in log.read_text(errors="replace").splitlines():
        if "message received" in line:
            incoming = True
        elif "message sent" in line:
            incoming = False
        elif incoming and line.startswith("m=audio "):
            ports.add(("127.0.0.1", int(line.split()[1])))
    return ports


async def exchange(endpoints: list[Endpoint], seconds: float) -> None:
    """50 packets a second from both ends of every call."""
    start = time.monotonic()
    for number in range(int(seconds * 50)):
        await asyncio.sleep(max(0.0, start + number * 0.02 - time.monotonic()))
        for endpoint in endpoints:
            endpoint.send()
            endpoint.drain()


def opus_frame() -> bytes:
    """One 20 ms Opus packet of a tone, as a telephone leg would send it."""
    import av
    import numpy as np

    from tests.interop.tone import tone

    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.format, encoder.layout = 48000, "s16", "mono"
    samples = (tone(440, 1, rate=48000) * 32767).astype(np.int16)
    packets = []
    for at in range(0, samples.size - 960, 960):
        frame = av.AudioFrame.from_ndarray(samples[None, at : at + 960], format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48000, at
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets[len(packets) // 2]


async def measure(folder: Path, mode: str, calls: int, seconds: float) -> dict[str, Any]:
    """Hold `calls` calls of one kind for `seconds` and charge the CPU to the call-seconds."""
    callee = free_port()
    codec = {"relay": "PCMU", "transcode": "opus"}[mode]
    (folder / "gateway.toml").write_text(THROUGH.format(callee=callee, codecs=f'"{codec}"'))
    near = Endpoint(0, bytes(range(0x80, 0x80 + 80)) * 2, FRAME)
    far = near_like(near) if mode == "relay" else Endpoint(111, opus_frame(), 960)
    settings = {"GATEWAY_CONFIG": str(folder / "gateway.toml"), "LOG_LEVEL": "warning"}
    async with gateway(folder, **settings) as running:
        hold = int(seconds * 1000) + 60000
        answering = await start_callee(folder, callee, codec, far)
        limits = [
            "-r",
            "50",
            "-m",
            str(calls),
            "-timeout",
            "300",
            "-trace_msg",
            "-message_file",
            "messages.log",
        ]
        target = f"{running.sip[0]}:{running.sip[1]}"
        calling = await start_sipp(
            "uac_caller_ends", folder / "uac", free_port(), *limits, target, hold=hold, audio_port=near.port
        )
        try:
            await all_up(running, calls)
            near.targets = ports_in_messages(folder / "uac/messages.log")
            far.targets = ports_in_messages(folder / "uas/messages.log")
            await exchange([near, far], 1)
            before, near.received, far.received = cpu_of(running.process.pid), 0, 0
            await exchange([near, far], seconds)
            spent = cpu_of(running.process.pid) - before
        finally:
            await stop(calling)
            await stop(answering)
    expected = calls * seconds * 50
    return {
        "bench": f"call-second, {mode}",
        "calls": calls,
        "seconds": seconds,
        "cpu_us_per_call_second": round(spent.total * 1e6 / (calls * seconds), 1),
        "delivered_pct": round(100 * (near.received + far.received) / (2 * expected), 2),
    }


def near_like(near: Endpoint) -> Endpoint:
    """The other end of a relayed call."""
    return Endpoint(near.header[0], near.payload, near.header[1])


async def start_callee(folder: Path, port: int, codec: str, far: Endpoint) -> asyncio.subprocess.Process:
    """The answering SIPp, its SDP in the codec of the far trunk."""
    traces = ["-trace_msg", "-message_file", "messages.log"]
    scenario = "uas_gateway_ends" if codec == "PCMU" else "uas_opus"
    return await start_sipp(scenario, folder / "uas", port, *traces, audio_port=far.port)


async def all_up(running: Gateway, calls: int) -> None:
    """Wait until every call is answered and bridged."""

    async def up() -> bool:
        return (await running.metrics())["active_calls"] == calls

    await eventually(up, "all calls", 30)
    await asyncio.sleep(1)
