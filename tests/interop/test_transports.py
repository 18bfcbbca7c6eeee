"""SIP over TCP and TLS with real peers, both ways: SIPp, pjsua2, and Kamailio in between."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.interop.certificates import Authority
from tests.interop.gateway import Gateway, gateway
from tests.interop.kamailio import PASSWORD, REALM, kamailio
from tests.interop.peers import rtp_peer, sipp
from tests.interop.pjsua_peer import phone
from tests.interop.webrtc_peer import webrtc_peer
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("sockets", ["t1", "tn"])
async def test_sipp_calls_over_tcp(running: Gateway, tmp_path: Path, sockets: str) -> None:
    async with rtp_peer(440) as caller_media, webrtc_peer(running) as browser:
        async with sipp(
            "uac_caller_ends", tmp_path, remote=running.sip, sockets=sockets, audio_port=caller_media.port
        ) as caller:
            call = (await browser.frame("incoming-call"))["call"]
            await browser.talk(call["id"], 440)
            await caller.finished()
        assert (await running.ended(call["id"]))["hangup_source"] == "caller"


async def test_the_gateway_ends_a_call_that_came_over_tcp(running: Gateway, tmp_path: Path) -> None:
    async with rtp_peer(440) as caller_media, webrtc_peer(running) as browser:
        async with sipp(
            "uac_gateway_ends", tmp_path, remote=running.sip, sockets="t1", audio_port=caller_media.port
        ) as caller:
            call = (await browser.frame("incoming-call"))["call"]
            await browser.talk(call["id"], 440)
            await running.post(f"/api/v1/calls/{call['id']}/end", {})
            await caller.finished()


async def test_sipp_is_called_over_tcp(running: Gateway, tmp_path: Path) -> None:
    async with (
        rtp_peer(440) as media,
        sipp("uas_callee_ends", tmp_path, sockets="t1", audio_port=media.port, hold=300) as callee,
    ):
        new = {"to": f"sip:bob@127.0.0.1:{callee.port};transport=tcp"}
        call = await running.post("/api/v1/calls", new, status=201)
        await callee.finished()
        assert (await running.ended(call["id"]))["hangup_source"] == "callee"


@contextlib.asynccontextmanager
async def secured(
    folder: Path, authority: Authority, callee: str, more: str = "", *, mutual: bool = False
) -> AsyncIterator[tuple[Gateway, int]]:
    """A gateway with TLS both ways; calls in go to `callee`. Mutual: clients prove themselves too."""
    own, port = authority.sign("127.0.0.1", file="gateway"), free_port()
    config = folder / "gateway.toml"
    proof = f', cert_file = "{own.certificate}", key_file = "{own.key}"' if mutual else ""
    config.write_text(
        f'[[trunks]]\nname = "secure"\naddresses = ["127.0.0.0/8"]\nuri = "{callee}"\n{more}'
        f'tls = {{ ca_file = "{authority.file}"{proof} }}\n'
        '[[routes]]\nname = "through"\ntarget = { trunk = "secure" }\n'
    )
    settings = {
        "SIP_TLS_PORT": str(port),
        "SIP_TLS_CERTIFICATE": str(own.certificate),
        "SIP_TLS_KEY": str(own.key),
        "GATEWAY_CONFIG": str(config),
        "HOP_PASSWORD": PASSWORD,
        **({"SIP_TLS_CLIENT_CA": str(authority.file)} if mutual else {}),
    }
    async with gateway(folder, **settings) as running:
        yield running, port


async def test_two_softphones_talk_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    mine = authority.sign("127.0.0.1", file="callee")
    tls = {"transport": "tls", "authority": authority.file}
    async with (
        phone(tmp_path / "callee", certificate=mine.certificate, key=mine.key, **tls) as callee,
        secured(tmp_path, authority, callee.uri(transport="tls")) as (running, port),
        phone(tmp_path / "caller", **tls) as caller,
    ):
        call = await caller.call(f"sip:100@127.0.0.1:{port};transport=tls")
        incoming = (await callee.event("incoming"))["call"]
        await callee.answer(incoming)
        await caller.event("state", call=call, state="CONFIRMED")
        await callee.event("state", call=incoming, state="CONFIRMED")
        health = await running.get("/health/detailed")
        assert "tls" in str(health)
        await asyncio.sleep(0.3)
        await callee.hang_up(incoming)
        await caller.event("state", call=call, state="DISCONNECTED")


async def test_everybody_proves_himself_for_a_call(tmp_path: Path) -> None:
    """Mutual TLS on both sides of the gateway: the caller's certificate to us, ours to Kamailio."""
    authority = Authority(tmp_path / "ca")
    hop, mine = authority.sign("127.0.0.1", file="hop"), authority.sign("caller.example.com", file="caller")
    tls = {"transport": "tls", "authority": authority.file}
    async with (
        phone(tmp_path / "callee", auto=200) as callee,
        kamailio(
            tmp_path,
            target=callee.uri(),
            certified=hop,
            authority=authority.file,
            require_certificate=True,
        ) as proxy,
        secured(tmp_path, authority, proxy.tls, mutual=True) as (_, port),
        phone(tmp_path / "caller", certificate=mine.certificate, key=mine.key, **tls) as caller,
        phone(tmp_path / "nobody", **tls) as nobody,
    ):
        call = await caller.call(f"sip:100@127.0.0.1:{port};transport=tls")
        incoming = (await callee.event("incoming"))["call"]
        await caller.event("state", call=call, state="CONFIRMED")
        await callee.hang_up(incoming)
        await caller.event("state", call=call, state="DISCONNECTED")
        refused = await nobody.call(f"sip:100@127.0.0.1:{port};transport=tls")
        ended = await nobody.event("state", call=refused, state="DISCONNECTED")
        assert ended["code"] >= 400, ended


@pytest.mark.parametrize("transport", ["udp", "tls"])
async def test_kamailio_stays_in_the_path(tmp_path: Path, transport: str) -> None:
    """Record-Route: every later request takes the same hop, whichever side it comes from."""
    authority = Authority(tmp_path / "ca")
    hop = authority.sign("127.0.0.1", file="hop")
    async with phone(tmp_path / "callee") as callee:
        async with (
            kamailio(tmp_path, target=callee.uri(), certified=hop, authority=authority.file) as proxy,
            secured(tmp_path, authority, getattr(proxy, transport)) as (running, _),
            phone(tmp_path / "caller") as caller,
        ):
            for ends in ("caller", "callee"):
                call = await caller.call(f"sip:100@127.0.0.1:{running.sip_port}")
                incoming = (await callee.event("incoming"))["call"]
                await callee.answer(incoming)
                await caller.event("state", call=call, state="CONFIRMED")
                await callee.event("state", call=incoming, state="CONFIRMED")
                await asyncio.sleep(0.2)
                ending, number = (caller, call) if ends == "caller" else (callee, incoming)
                await ending.hang_up(number)
                for side, own in ((caller, call), (callee, incoming)):
                    ended = await side.event("state", call=own, state="DISCONNECTED")
                    assert ended["code"] == 200, ended


@pytest.mark.parametrize(("transport", "algorithm"), [("udp", "MD5"), ("tls", "SHA-256")])
async def test_kamailio_asks_for_the_password_all_along_the_call(
    tmp_path: Path, transport: str, algorithm: str
) -> None:
    """RFC 3261 22.3: INVITE, re-INVITE, UPDATE and BYE are challenged by the hop, and go on proved."""
    authority = Authority(tmp_path / "ca")
    hop = authority.sign("127.0.0.1", file="hop")
    async with phone(tmp_path / "callee", auto=200) as callee:
        target = kamailio(
            tmp_path, target=callee.uri(), certified=hop, authority=authority.file, algorithm=algorithm
        )
        async with target as proxy:
            account = f'username = "gw"\npassword_env = "HOP_PASSWORD"\nrealm = "{REALM}"\n'
            async with (
                secured(tmp_path, authority, getattr(proxy, transport), account) as (running, _),
                phone(tmp_path / "caller") as caller,
            ):
                call = await caller.call(f"sip:100@127.0.0.1:{running.sip_port}")
                await caller.event("state", call=call, state="CONFIRMED")
                await caller.hold(call)
                await callee.event("media", status="remote-hold")
                await caller.event("media", status="local-hold")
                await caller.resume(call, update=True)
                await callee.event("media", status="active")
                await caller.hang_up(call)
                assert (await callee.event("state", state="DISCONNECTED"))["code"] == 200
                assert PASSWORD not in running.log.read_text()
    proved = [message for method in ("INVITE", "BYE") for message in callee.received(method)]
    counts = [re.findall(r"^X-Proved:.*nc=(\w+)", message, re.MULTILINE) for message in proved]
    assert len(proved) >= 3
    assert all(counts), proved
    assert all(f"algorithm={algorithm}" in message for message in proved)
