"""Several addresses of our own, of both families, and what each trunk's peer is told of them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.interop.exchange import gateway_port
from tests.interop.gateway import Gateway, gateway
from tests.interop.peers import rtp_peer, sipp
from tests.interop.script import Script, sdp
from tests.interop.tone import seconds_of_tone
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

FROM_CALLER, FROM_CALLEE = 1000.0, 700.0
OLD, NEW = "127.0.0.1", "::1"
PLAN = """
[[trunks]]
name = "neighbours"
addresses = ["127.0.0.1", "::1"]

[[trunks]]
name = "behind-nat"
addresses = ["127.0.0.3"]
uri = "sip:127.0.0.1:{port}"
advertise = "198.51.100.7"

[[trunks]]
name = "second"
uri = "sip:127.0.0.1:{port}"
local = "127.0.0.2"

[[trunks]]
name = "six"
uri = "sip:[::1]:{port}"

[[trunks]]
name = "four"
uri = "sip:127.0.0.1:{port}"

"""
ROUTE = '[[routes]]\nname = "{name}"\nmatch = {{ to = "^{number}$" }}\ntarget = {{ trunk = "{name}" }}\n'
NUMBERS = {"behind-nat": 1, "second": 2, "six": 6, "four": 4}


class Home:
    """A gateway on three addresses, and the port where its callees are."""

    def __init__(self, running: Gateway, port: int) -> None:
        self.gateway, self.port = running, port

    def sip(self, host: str) -> tuple[str, int]:
        return (f"[{host}]" if ":" in host else host, self.gateway.sip_port)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def home(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Home]:
    folder, port = tmp_path_factory.mktemp("addresses"), free_port()
    routes = "".join(ROUTE.format(name=name, number=number) for name, number in NUMBERS.items())
    plan = folder / "gateway.toml"
    plan.write_text(PLAN.format(port=port) + routes)
    hosts = "127.0.0.1,127.0.0.2,127.0.0.3,::1"
    async with gateway(folder, GATEWAY_CONFIG=str(plan), SIP_HOST=hosts) as running:
        before = await running.use()
        yield Home(running, port)
        await running.settled(before)


def said(host: str, port: int) -> str:
    """A session description whose media is at this address."""
    text = sdp(port, address=host).replace("[local_ip]", host)
    return text.replace("IN IP4", "IN IP6") if ":" in host else text


def names(host: str) -> list[str]:
    """What a message with a session says of our address."""
    family, written = ("IP6", rf"\[{host}\]") if ":" in host else ("IP4", host)
    named = f"IN {family} {host}[^0-9a-f.:]"
    return [f"Contact: <sip:{written}:[0-9]+[>;]", f"c={named}", f"o=- [0-9 ]+ {named}"]


@pytest.mark.parametrize(("near", "far"), [(NEW, NEW), (OLD, NEW), (NEW, OLD)], ids=["6-6", "4-6", "6-4"])
async def test_a_call_over_ipv6(home: Home, tmp_path: Path, near: str, far: str) -> None:
    """Each leg speaks its own family, in its messages and its media (RFC 3261 19.1.1, RFC 4566 5.7)."""
    number = NUMBERS["six" if far == NEW else "four"]
    async with rtp_peer(FROM_CALLER, host=near) as anna, rtp_peer(FROM_CALLEE, host=far) as bob:
        via = rf"Via: SIP/2.0/UDP {'[[]::1]' if far == NEW else far}:[0-9]+;"
        callee = Script("callee").invited(has=[via, *names(far)]).answer("180 Ringing")
        callee.answer("200 OK", said(far, bob.port)).asked("ACK").left()
        caller = Script("caller").ask("INVITE", said(near, anna.port)).told(100, optional=True)
        caller.told(180, optional=True).told(200, has=names(near)).ask("ACK").pause(2500).leaves()
        async with sipp(callee, tmp_path, port=home.port, host=far) as called:
            remote = home.sip(near)
            async with sipp(caller, tmp_path, remote=remote, host=near, service=str(number)) as calling:
                anna.remote = (near, await gateway_port(calling))
                bob.remote = (far, await gateway_port(called))
                await asyncio.gather(anna.talk(1.5), bob.talk(1.5))
                await calling.finished()
                await called.finished()
        assert seconds_of_tone(anna.audio(), FROM_CALLEE) > 1
        assert seconds_of_tone(bob.audio(), FROM_CALLER) > 1
    call = (await home.gateway.calls())[0]
    assert (await home.gateway.ended(call["id"]))["status"] == "completed"


async def test_the_address_of_the_socket_in_use_is_named(home: Home, tmp_path: Path) -> None:
    """A trunk with `local` is called from there; a caller is answered from where it called."""
    second = [r"Via: SIP/2.0/UDP 127\.0\.0\.2:[0-9]+;", *names(r"127\.0\.0\.2")]
    async with rtp_peer(FROM_CALLER) as anna, rtp_peer(FROM_CALLEE) as bob:
        callee = (
            Script("callee").invited(has=second).answer("200 OK", said(OLD, bob.port)).asked("ACK").left()
        )
        caller = Script("caller").ask("INVITE", said(OLD, anna.port)).told(100, optional=True)
        caller.told(180, optional=True).told(200, has=names(r"127\.0\.0\.3")).ask("ACK").pause(1500).leaves()
        async with sipp(callee, tmp_path, port=home.port) as called:
            async with sipp(caller, tmp_path, remote=home.sip("127.0.0.3"), service="2") as calling:
                anna.remote = ("127.0.0.3", await gateway_port(calling))
                bob.remote = ("127.0.0.2", await gateway_port(called))
                await asyncio.gather(anna.talk(1), bob.talk(1))
                await calling.finished()
                await called.finished()
        assert seconds_of_tone(anna.audio(), FROM_CALLEE) > 0.6
        assert seconds_of_tone(bob.audio(), FROM_CALLER) > 0.6
        assert {anna.source, bob.source} == {"127.0.0.3", "127.0.0.2"}, "RTP leaves from where it was told of"


@pytest.mark.parametrize("side", ["caller", "callee"])
async def test_what_a_trunk_advertises_is_all_its_peer_sees(home: Home, tmp_path: Path, side: str) -> None:
    advertised = names(r"198\.51\.100\.7")
    callee, caller = Script("callee"), Script("caller")
    if side == "callee":
        callee.invited(has=[r"Via: SIP/2.0/UDP 198\.51\.100\.7:[0-9]+;rport", *advertised], lacks=["IP4 127"])
        caller.calls(sdp(6000))
        here, service = OLD, NUMBERS["behind-nat"]
    else:
        callee.invited(has=names(r"127\.0\.0\.1"), lacks=["198.51"])
        caller.ask("INVITE", sdp(6000)).told(100, optional=True).told(180, optional=True)
        caller.told(200, has=advertised, lacks=["IP4 127.0.0.1"]).ask("ACK")
        here, service = "127.0.0.3", NUMBERS["four"]
    callee.answer("200 OK", sdp(6000)).asked("ACK").left()
    async with sipp(callee, tmp_path, port=home.port) as called:
        remote = home.sip(OLD)
        async with sipp(
            caller.pause(100).leaves(), tmp_path, remote=remote, host=here, service=str(service)
        ) as calling:
            await calling.finished()
            await called.finished()
