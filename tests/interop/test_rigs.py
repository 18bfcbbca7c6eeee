"""The rigs that other tests stand on: pjsua2 and Kamailio, with each other."""

import asyncio
from pathlib import Path

import pytest

from tests.interop.certificates import Authority
from tests.interop.kamailio import kamailio
from tests.interop.pjsua_peer import phone

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_two_softphones_talk_through_kamailio(tmp_path: Path, transport: str) -> None:
    authority = Authority(tmp_path / "ca")
    hop = authority.sign("127.0.0.1", file="hop")
    tls = {"authority": authority.file} if transport == "tls" else {}
    async with phone(tmp_path / "callee") as callee:
        async with (
            kamailio(tmp_path, target=callee.uri(), certified=hop, authority=authority.file) as proxy,
            phone(tmp_path / "caller", transport=transport, **tls) as caller,
        ):
            call = await caller.call(getattr(proxy, transport))
            incoming = await callee.event("incoming")
            await callee.answer(incoming["call"])
            await caller.event("state", call=call, state="CONFIRMED")
            await caller.event("media", status="active")
            await asyncio.sleep(0.1)
            await caller.hang_up(call)
            assert (await callee.event("state", state="DISCONNECTED"))["code"] == 200
            assert "Record-Route" in callee.log.read_text()
