"""A browser made of aiortc: joins a call over /ws, plays a tone, keeps what it hears."""

import asyncio
import contextlib
import fractions
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import aioice.ice
import numpy as np
import pytest
from aiortc import RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame

from tests.interop.gateway import Gateway
from tests.interop.tone import Samples, tone

PLAYED_RATE = 48000


class ToneTrack(MediaStreamTrack):
    """A microphone that hears a tone: 20 ms frames at an even pace."""

    kind = "audio"

    def __init__(self, frequency: float, seconds: float = 60) -> None:
        super().__init__()
        self._samples = (tone(frequency, seconds, rate=PLAYED_RATE) * 32767).astype(np.int16)
        self._start: float | None = None
        self._number = 0

    async def recv(self) -> AudioFrame:
        """The next frame, when its time has come."""
        self._start = self._start or time.monotonic()
        await asyncio.sleep(max(0.0, self._start + self._number * 0.02 - time.monotonic()))
        at = self._number * 960 % (self._samples.size - 960)
        frame = AudioFrame.from_ndarray(self._samples[None, at : at + 960], format="s16", layout="mono")
        frame.sample_rate, frame.pts = PLAYED_RATE, self._number * 960
        frame.time_base = fractions.Fraction(1, PLAYED_RATE)
        self._number += 1
        return frame


class WebRtcPeer:
    """One socket, at most one conversation."""

    def __init__(self, gateway: Gateway, socket: aiohttp.ClientWebSocketResponse, codec: str) -> None:
        self.gateway = gateway
        self.socket = socket
        self.codec = codec
        self.frames: list[dict[str, Any]] = []
        self.heard: list[Samples] = []
        self.heard_rate = 48000
        self.arrived_at: dict[bytes, float] = {}
        self.sent_at: dict[bytes, float] = {}
        self.connection: RTCPeerConnection | None = None
        self._requests = itertools.count(1)
        self._news = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = [asyncio.create_task(self._receive())]

    async def _receive(self) -> None:
        async for message in self.socket:
            async with self._news:
                self.frames.append(message.json())
                self._news.notify_all()

    async def frame(self, kind: str, timeout: float = 10, **fields: Any) -> dict[str, Any]:
        """Wait for a frame of this type with these fields (an earlier one counts too)."""

        def find() -> dict[str, Any] | None:
            wanted = {"type": kind, **fields}.items()
            return next((frame for frame in self.frames if wanted <= frame.items()), None)

        async with self._news:
            try:
                await asyncio.wait_for(self._news.wait_for(find), timeout)
            except TimeoutError:
                raise AssertionError(f"no {kind} {fields}; frames: {self.frames}") from None
            found = find()
            assert found is not None
            return found

    async def send(self, **frame: Any) -> None:
        """Send a frame as it is."""
        await self.socket.send_json(frame)

    async def request(self, reply: str, **frame: Any) -> dict[str, Any]:
        """Send a frame and wait for the reply that echoes its request_id."""
        number = str(next(self._requests))
        await self.send(**frame, request_id=number)
        return await self.frame(reply, request_id=number)

    async def talk(self, call_id: str, frequency: float, **ticket: str) -> None:
        """Join, offer, apply the answer: the microphone plays the tone from then on."""
        await self.request("joined-call", type="join-call", call_id=call_id, **ticket)
        connection = self.connection = RTCPeerConnection()
        connection.on("track", self._listen)
        transceiver = connection.addTransceiver(ToneTrack(frequency), direction="sendrecv")
        known = RTCRtpSender.getCapabilities("audio").codecs
        transceiver.setCodecPreferences(
            [one for one in known if one.mimeType.lower() == f"audio/{self.codec}"]
        )
        await connection.setLocalDescription(await connection.createOffer())
        answer = await self.request(
            "answer", type="offer", call_id=call_id, sdp=connection.localDescription.sdp
        )
        self._watch(transceiver.receiver, transceiver.sender.transport)
        await connection.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))

    def _watch(self, receiver: Any, transport: Any) -> None:
        """Stamp each RTP payload outside aiortc's own buffers: after encoding, before the jitter buffer."""
        handle, send = receiver._handle_rtp_packet, transport._send_rtp

        async def arrived(packet: Any, arrival_time_ms: int) -> None:
            self.arrived_at.setdefault(bytes(packet.payload), time.monotonic())
            await handle(packet, arrival_time_ms=arrival_time_ms)

        async def sent(packet: bytes) -> None:
            self.sent_at[packet[-160:]] = time.monotonic()
            await send(packet)

        receiver._handle_rtp_packet, transport._send_rtp = arrived, sent

    def _listen(self, track: MediaStreamTrack) -> None:
        self._tasks.append(asyncio.create_task(self._hear(track)))

    async def _hear(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                assert isinstance(frame, AudioFrame)
                self.heard_rate = frame.sample_rate
                samples = frame.to_ndarray().astype(np.float64).reshape(-1, len(frame.layout.channels))
                self.heard.append(samples.mean(axis=1) / 32768)

    def audio(self) -> Samples:
        """All that was heard, at `heard_rate`."""
        return np.concatenate(self.heard) if self.heard else np.zeros(0)

    async def close(self) -> None:
        """Close what is open."""
        if self.connection:
            await self.connection.close()
        await self.socket.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def webrtc_peer(gateway: Gateway, codec: str = "PCMU") -> AsyncIterator[WebRtcPeer]:
    """A connected socket whose conversation will speak one codec."""
    with pytest.MonkeyPatch.context() as patch:
        # aioice leaves loopback out of its host candidates; here there is nothing else.
        patch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
        async with gateway.session.ws_connect(gateway.url + "/ws") as socket:
            peer = WebRtcPeer(gateway, socket, codec.lower())
            try:
                yield peer
            finally:
                await peer.close()
