"""Garbage on every door: nothing crashes, nothing leaks, every refusal says why."""

import asyncio
import random
import socket
from pathlib import Path

import pytest

from tests.interop.gateway import Gateway, eventually
from tests.interop.peers import sipp
from tests.interop.webrtc_peer import webrtc_peer
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio {port} RTP/AVP {codec}\r\n"
)


def request(
    method: str, gateway: Gateway, port: int, *, body: str = "", branch: str = "1", extra: str = ""
) -> bytes:
    """A sound request, to be broken by the caller."""
    kind = "Content-Type: application/sdp\r\n" if body else ""
    return (
        f"{method} sip:100@127.0.0.1:{gateway.sip_port} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{branch};rport\r\nMax-Forwards: 70\r\n"
        f"From: <sip:a@127.0.0.1:{port}>;tag=t{branch}\r\nTo: <sip:100@127.0.0.1>\r\nCall-ID: c{branch}@x\r\n"
        f"CSeq: 1 {method}\r\nContact: <sip:a@127.0.0.1:{port}>\r\n{extra}{kind}"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


class RawSip:
    """A UDP socket that says exactly what it is told."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.port: int = self.socket.getsockname()[1]

    def __enter__(self) -> "RawSip":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, message: bytes) -> None:
        self.socket.sendto(message, self.gateway.sip)

    async def final(self, timeout: float = 3) -> str:
        """The next final response."""
        loop = asyncio.get_running_loop()
        while True:
            answer = (await asyncio.wait_for(loop.sock_recv(self.socket, 65536), timeout)).decode()
            if not answer.startswith("SIP/2.0 1"):
                return answer


async def alive(gateway: Gateway) -> None:
    """It still answers OPTIONS and HTTP."""
    with RawSip(gateway) as probe:
        probe.send(request("OPTIONS", gateway, probe.port, branch=f"alive{probe.port}"))
        assert (await probe.final()).startswith("SIP/2.0 200")
    assert (await gateway.get("/health"))["status"]


async def test_random_truncated_and_oversized_datagrams(running: Gateway) -> None:
    dice = random.Random(7)
    sound = request("INVITE", running, 5060, body=SDP.format(port=6000, codec=0))
    with RawSip(running) as peer:
        for number in range(300):
            peer.send(dice.randbytes(dice.randrange(1, 1400)))
            broken = bytearray(sound[: dice.randrange(1, len(sound))])
            broken[dice.randrange(len(broken))] = dice.randrange(256)
            peer.send(bytes(broken).replace(b"z9hG4bK1", b"z9hG4bKr%d" % number))
            if number % 50 == 0:
                await asyncio.sleep(0.01)
        peer.send(b"INVITE sip:a SIP/2.0\r\n" + b"X: " + b"y" * 60000 + b"\r\n\r\n")
        peer.send(b"\r\n" * 1000)
    await alive(running)

    async def counted() -> bool:
        return sum(count for name, count in (await running.metrics()).items() if "engine_drops" in name) > 0

    await eventually(counted, "drops in the metrics")
    # Whatever of it was sound enough to be an INVITE is over by now or rejected; hang the rest up.
    for call in await running.calls():
        if call["status"] in ("queued", "ringing"):
            await running.post(f"/api/v1/calls/{call['id']}/end", {})


async def test_random_packets_on_the_media_ports(running: Gateway) -> None:
    dice = random.Random(8)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for address in (await running.get("/health/detailed"))["components"]["engine"]["webrtc_addresses"]:
            for _ in range(500):
                peer.sendto(dice.randbytes(dice.randrange(0, 1500)), ("127.0.0.1", address[1]))
    await alive(running)


async def test_no_common_codec_is_488_with_a_warning(running: Gateway) -> None:
    async with webrtc_peer(running):
        with RawSip(running) as peer:
            body = SDP.format(port=6000, codec=18) + "a=rtpmap:18 G729/8000\r\n"
            peer.send(request("INVITE", running, peer.port, body=body, branch="codec"))
            answer = await peer.final()
            peer.send(request("ACK", running, peer.port, branch="codec"))
    assert answer.startswith("SIP/2.0 488")
    assert "Warning: 305" in answer or "Warning: 304" in answer


async def test_broken_sdp_is_refused(running: Gateway) -> None:
    async with webrtc_peer(running):
        with RawSip(running) as peer:
            peer.send(request("INVITE", running, peer.port, body="v=0\r\nm=audio x\r\n", branch="sdp"))
            answer = await peer.final()
            peer.send(request("ACK", running, peer.port, branch="sdp"))
    assert answer.split()[1] in {"400", "488"}


async def test_in_dialog_requests_without_a_dialog_get_481(running: Gateway) -> None:
    with RawSip(running) as peer:
        peer.send(
            request("BYE", running, peer.port, branch="nodialog").replace(
                b"127.0.0.1>\r\nCall", b"127.0.0.1>;tag=x\r\nCall"
            )
        )
        assert (await peer.final()).startswith("SIP/2.0 481")


async def test_a_call_without_hops_left_is_483(running: Gateway) -> None:
    """RFC 3261 16.3: a gateway calls on, so it ends here; OPTIONS is for the gateway itself (11)."""
    with RawSip(running) as peer:
        for method, status in (("INVITE", "483"), ("OPTIONS", "200")):
            sound = request(method, running, peer.port, branch=f"hops{method}")
            peer.send(sound.replace(b"Max-Forwards: 70", b"Max-Forwards: 0"))
            assert (await peer.final()).startswith(f"SIP/2.0 {status}")


async def test_an_unusable_browser_offer_leaves_the_call_ringing(running: Gateway, tmp_path: Path) -> None:
    async with webrtc_peer(running) as browser:
        async with sipp("uac_gateway_ends", tmp_path, remote=running.sip, audio_port=free_port()) as caller:
            call = (await browser.frame("incoming-call"))["call"]
            await browser.request("joined-call", type="join-call", call_id=call["id"])
            for sdp in ("", "v=0", SDP.format(port=9, codec=0), "m=" * 9000):
                refused = await browser.request("error", type="offer", call_id=call["id"], sdp=sdp)
                assert refused["code"] in {"not_acceptable", "invalid"}, refused
            assert (await running.get(f"/api/v1/calls/{call['id']}"))["status"] == "ringing"
            await browser.talk(call["id"], 440)
            await running.post(f"/api/v1/calls/{call['id']}/end", {})
            await caller.finished()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("{", "invalid"),
        ("[]", "invalid"),
        ('"text"', "invalid"),
        ('{"type":"sing"}', "unknown_type"),
        ('{"type":"join-call"}', "invalid"),
        ('{"type":"join-call","call_id":"x"}', "invalid"),
        ('{"type":"join-call","call_id":"0190163d-8694-739b-aea5-966c26f8ad90"}', "call_not_found"),
    ],
)
async def test_a_wrong_frame_gets_an_error_and_the_socket_stays(
    running: Gateway, frame: str, code: str
) -> None:
    async with webrtc_peer(running) as browser:
        await browser.socket.send_str(frame)
        assert (await browser.frame("error"))["code"] == code
        await browser.request("registered", type="register", browser="sales")


async def test_wrong_rest_bodies_are_the_users_mistake(running: Gateway) -> None:
    url = running.url + "/api/v1/calls"
    for body, status in [
        (b"{", 400),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"to": 7}', 422),
        (b'{"to": "sip:a@127.0.0.1", "timeout": -1}', 422),
        (b'{"to": "sip:a\\r\\nX: y@127.0.0.1"}', 422),
        (b'{"to": "123", "trunk": "nowhere"}', 422),
        (b'{"to": "sip:a@127.0.0.1", "surprise": 1}', 422),
    ]:
        async with running.session.post(
            url, data=body, headers={"content-type": "application/json"}
        ) as response:
            problem = await response.json()
            assert (response.status, response.content_type) == (status, "application/problem+json"), (
                body,
                problem,
            )
    async with running.session.get(
        running.url + "/api/v1/calls/0190163d-8694-739b-aea5-966c26f8ad90"
    ) as response:
        assert response.status == 404
