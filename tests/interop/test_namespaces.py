"""A softphone in a network of its own, reached as it is or behind a NAT that rewrites its addresses."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from tests.interop.baresip import TONE, baresip
from tests.interop.exchange import gateway_port
from tests.interop.gateway import gateway
from tests.interop.namespaces import network
from tests.interop.peers import rtp_peer, sipp
from tests.interop.script import Script, sdp
from tests.interop.tone import seconds_of_tone
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

FROM_CALLER, FROM_CALLEE = 1000.0, 700.0
PLAN = """
[[trunks]]
name = "home"
addresses = ["{home}"]

[[trunks]]
name = "far"
uri = "sip:127.0.0.1:{port}"

[[routes]]
name = "out"
match = {{ trunk = "home" }}
target = {{ trunk = "far" }}
"""


@pytest.mark.parametrize("nat", [False, True], ids=["plain", "behind a NAT"])
async def test_baresip_calls_and_is_hung_up_on(tmp_path: Path, nat: bool) -> None:
    """Behind the NAT its Via, Contact and session description lead nowhere from here: responses go by rport,
    our BYE to where its INVITE came from, RTP to where its own comes from (RFC 3581, RFC 4961)."""
    plan, port = tmp_path / "gateway.toml", free_port()
    async with network(nat=nat) as net, rtp_peer(FROM_CALLEE) as bob:
        plan.write_text(PLAN.format(home=net.seen_as, port=port))
        hosts = f"{net.gateway},127.0.0.1"
        async with gateway(tmp_path, GATEWAY_CONFIG=str(plan), SIP_HOST=hosts) as running:
            before = await running.use()
            callee = Script("callee").called(sdp(bob.port)).pause(3000).leaves()
            async with sipp(callee, tmp_path, port=port) as called:
                target = f"{net.gateway}:{running.sip_port}"
                account = f"<sip:alice@{target}>;regint=0;audio_codecs=PCMU/8000/1"
                async with baresip(net, tmp_path / "baresip", account, f"d sip:100@{target}") as phone:
                    bob.remote = ("127.0.0.1", await gateway_port(called))
                    await bob.talk(2)
                    await called.finished()
                    await phone.said("BYE sip:")
                    await asyncio.sleep(0.3)
                heard, rate = phone.heard()
            assert seconds_of_tone(bob.audio(), TONE) > 1
            assert seconds_of_tone(heard, FROM_CALLEE, rate=rate) > 1
            call = (await running.calls())[0]
            ended = await running.ended(call["id"])
            assert (ended["status"], ended["hangup_source"]) == ("completed", "callee")
            await running.settled(before)


PHONES = """
[[users]]
name = "alice"
ha1_env = "ALICE_HA1"

[[trunks]]
name = "neighbours"
addresses = ["127.0.0.1"]

[[routes]]
name = "to-alice"
match = { trunk = "neighbours" }
target = { user = "alice" }
"""


async def test_baresip_is_called_where_it_registered_from(tmp_path: Path) -> None:
    """Behind a NAT. baresip gives up at a challenge for SHA-256, even beside one for MD5; an account with an
    MD5 hash only is asked for no other (RFC 8760 2.3)."""
    plan = tmp_path / "gateway.toml"
    plan.write_text(PHONES)
    secret = hashlib.md5(b"alice:telephony-gateway:wonderland", usedforsecurity=False).hexdigest()
    async with network(nat=True) as net:
        own = {"SIP_HOST": f"{net.gateway},127.0.0.1", "ALICE_HA1": secret, "GATEWAY_CONFIG": str(plan)}
        async with gateway(tmp_path, **own) as running, rtp_peer(FROM_CALLER) as anna:
            account = (
                f"<sip:alice@{net.gateway}:{running.sip_port}>;auth_pass=wonderland;answermode=auto"
                ";regint=600;audio_codecs=PCMU/8000/1"
            )
            async with baresip(net, tmp_path / "baresip", account) as phone:
                await phone.said("SIP/2.0 200 OK")
                [binding] = (await running.get("/api/v1/users/alice"))["bindings"]
                assert net.seen_as in str(binding)
                assert net.peer in str(binding)
                caller = Script("caller").calls(sdp(anna.port)).pause(2500).leaves()
                async with sipp(caller, tmp_path, remote=running.sip) as calling:
                    anna.remote = ("127.0.0.1", await gateway_port(calling))
                    await anna.talk(2)
                    await calling.finished()
                await phone.said("BYE sip:")
            heard, rate = phone.heard()
            assert seconds_of_tone(anna.audio(), TONE) > 1
            assert seconds_of_tone(heard, FROM_CALLER, rate=rate) > 1
            call = (await running.calls())[0]
            assert (await running.ended(call["id"]))["status"] == "completed"
