"""Registrations both ways: the gateway at a carrier's registrar, and phones at the gateway."""

import asyncio
import itertools
import json
import socket
from pathlib import Path

import pytest

from tests.interop.certificates import Authority
from tests.interop.dns import Zone, name_server
from tests.interop.gateway import Gateway, eventually, gateway
from tests.interop.peers import sipp
from tests.interop.pjsua_peer import phone
from tests.interop.registrar import Registrar, registrar
from tests.interop.script import Script, sdp
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

PLAN = """
[[users]]
name = "alice"
password_env = "ALICE_PASSWORD"

[[routes]]
name = "to-alice"
match = { to = "^74951234567$" }
target = { user = "alice" }

[[routes]]
name = "from-alice"
match = { user = "alice" }
target = { reject = 486 }

[[routes]]
name = "anybody"
target = { reject = 404 }
"""


def plan(folder: Path, text: str) -> str:
    """A gateway.toml."""
    path = folder / "gateway.toml"
    path.write_text(text)
    return str(path)


async def test_a_trunk_registers_is_refreshed_and_leaves(tmp_path: Path) -> None:
    async with sipp("uas_registrar", tmp_path) as registrar:
        text = f"""
        [[trunks]]
        name = "carrier"
        uri = "sip:127.0.0.1:{registrar.port}"
        username = "alice"
        password_env = "CARRIER_PASSWORD"
        realm = "carrier.example"
        register = true
        register_expires = 600
        contact_user = "gw-7"
        """
        config = plan(tmp_path, text)
        async with gateway(tmp_path, GATEWAY_CONFIG=config, CARRIER_PASSWORD="wonderland") as running:

            async def registered() -> bool:
                items = (await running.get("/api/v1/registrations"))["items"]
                return bool(items) and items[0]["state"] == "registered"

            await eventually(registered, "registration")
            (item,) = (await running.get("/api/v1/registrations"))["items"]
            assert (item["trunk"], item["expires"]) == ("carrier", 4)
            assert item["registrar"] == f"127.0.0.1:{registrar.port}"
            assert (await running.metrics())['registration_up{trunk="carrier"}'] == 1
            await asyncio.sleep(4)  # the refresh is due after 85 to 90 % of what was granted
            assert await registered()
        await registrar.finished()
        assert "wonderland" not in (tmp_path / "gateway.log").read_text()


# Our Contact is one of several; then the only one of our user, as a NAT has it; then all is well.
GRANTS = (
    "Contact: <sip:other@192.0.2.7>;expires=600, <{own}>;expires=2\nExpires: 600",
    "Contact: <sip:gw-7@192.0.2.8:4711>;expires=2\nExpires: 600",
    "Contact: <{own}>;expires=600",
)


async def test_a_trunk_registers_over_streams_and_stays_while_its_name_is_away(tmp_path: Path) -> None:
    """RFC 3261 19.1.1, 10.2.4: `transport` once, and the refresh comes by what our Contact was granted."""
    authority = Authority(tmp_path / "ca")
    certified = authority.sign("127.0.0.1", file="registrar")
    zone = Zone("registrar.test 1 A 127.0.0.1")
    async with registrar(*GRANTS) as tcp, registrar(*GRANTS, certified=certified) as tls:
        text = f"""
        [[trunks]]
        name = "tcp"
        uri = "sip:registrar.test:{tcp.port};transport=tcp"
        register = true
        contact_user = "gw-7"

        [[trunks]]
        name = "tls"
        uri = "sip:127.0.0.1:{tls.port};transport=tls"
        tls = {{ ca_file = "{authority.file}" }}
        register = true
        contact_user = "gw-7"
        """
        own = authority.sign("127.0.0.1", file="gateway")
        settings = {
            "GATEWAY_CONFIG": plan(tmp_path, text),
            "SIP_TLS_PORT": str(free_port()),
            "SIP_TLS_CERTIFICATE": str(own.certificate),
            "SIP_TLS_KEY": str(own.key),
        }
        with name_server(zone):
            async with gateway(tmp_path, **settings, DNS_SERVERS=zone.server) as running:

                async def refreshed() -> bool:
                    return len(tcp.asked) == len(tls.asked) == len(GRANTS)

                await eventually(refreshed, "both refreshes")
                await stay_without_their_name(running, zone, tcp)
                assert len(tls.asked) == len(GRANTS)
    for peer, port in ((tcp, running.sip_port), (tls, settings["SIP_TLS_PORT"])):
        name = "tcp" if peer is tcp else "tls"
        contact = f"<sip:gw-7@127.0.0.1:{port};transport={name}>;expires="
        *made, left = peer.asked
        assert all(one.header("Contact").startswith(contact) for one in made), made[0].text
        pauses = [after.at - before.at for before, after in itertools.pairwise(made)]
        assert all(1.5 < pause < 2 for pause in pauses), pauses
        assert (len(made), left.header("Expires")) == (len(GRANTS), "0")


async def test_a_call_by_a_registration_is_that_trunks(tmp_path: Path) -> None:
    """Trunks may share an address: whom the caller asks for tells them apart, in what is answered too."""
    caller = Script("caller").ask("INVITE", sdp(6000)).told(100, optional=True).told(180, optional=True)
    caller.told(200, has=["c=IN IP4 203.0.113.9", r"sip:[^>]*203\.0\.113\.9"]).ask("ACK").leaves()
    callee = Script("callee").invited().answer("200 OK", sdp(6002)).asked("ACK").left()
    async with registrar("Contact: <{own}>;expires=600") as server, sipp(callee, tmp_path) as bob:
        text = f"""
        [[trunks]]
        name = "neighbour"
        addresses = ["127.0.0.1"]

        [[trunks]]
        name = "carrier"
        uri = "sip:127.0.0.1:{server.port};transport=tcp"
        register = true
        contact_user = "gw-7"
        advertise = "203.0.113.9"

        [[routes]]
        name = "through"
        match = {{ trunk = "carrier" }}
        target = {{ uri = "sip:bob@127.0.0.1:{bob.port}" }}
        """
        async with gateway(tmp_path, GATEWAY_CONFIG=plan(tmp_path, text)) as running:

            async def registered() -> bool:
                return bool(server.asked)

            await eventually(registered, "registration")
            async with sipp(caller, tmp_path, remote=running.sip, service="gw-7") as anna:
                await anna.finished()
            await bob.finished()


async def test_a_registrar_that_no_trunk_names_may_be_busy(tmp_path: Path) -> None:
    """Its calls come from there: it is held to no stranger's pace, whatever becomes of the other trunks."""
    async with registrar("Contact: <{own}>;expires=600") as server:
        text = f"""
        [[trunks]]
        name = "carrier"
        uri = "sip:127.0.0.1:{server.port};transport=tcp"
        register = true
        contact_user = "gw-7"
        """
        key = "k" * 40
        settings = {"GATEWAY_CONFIG": plan(tmp_path, text), "NODE_ENV": "production", "API_KEYS": key}
        async with gateway(tmp_path, **settings, HOST="127.0.0.1") as running:
            running.session.headers["Authorization"] = f"Bearer {key}"

            async def registered() -> bool:
                return bool(server.asked)

            await eventually(registered, "registration")
            await running.post("/api/v1/trunks", {"name": "other", "uri": "sip:192.0.2.9"}, status=201)
            await _send(running, 400)
            cut_short = (await running.metrics()).get('engine_refused_total{rule="source_rate"}', 0)
            assert cut_short == 0


async def _send(running: Gateway, messages: int) -> None:
    """More at once than a stranger may."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(messages):
            head = f"OPTIONS sip:x@127.0.0.1 SIP/2.0\r\nCall-ID: {number}\r\n\r\n"
            sender.sendto(head.encode(), running.sip)
            if number % 50 == 49:
                await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)


async def stay_without_their_name(running: Gateway, zone: Zone, registrar: Registrar) -> None:
    """Another trunk is made while the registrar's name leads nowhere: the registrations stay as they are."""
    zone.lines = []
    before = zone.asked["registrar.test", "A"]
    await running.post("/api/v1/trunks", {"name": "other", "uri": "sip:127.0.0.1:9"}, status=201)

    async def asked() -> bool:
        return zone.asked["registrar.test", "A"] > before

    await eventually(asked, "lookup of the registrar")
    await asyncio.sleep(0.2)
    items = (await running.get("/api/v1/registrations"))["items"]
    assert [item["state"] for item in items] == ["registered", "registered"], items
    assert len(registrar.asked) == len(GRANTS)


@pytest.mark.parametrize("transport", ["udp"])
async def test_a_phone_registers_is_called_and_calls(tmp_path: Path, transport: str) -> None:
    config = plan(tmp_path, PLAN)
    async with gateway(tmp_path, GATEWAY_CONFIG=config, ALICE_PASSWORD="wonderland") as running:
        where = f"sip:127.0.0.1:{running.sip_port};transport={transport}"
        account = {"user": "alice", "username": "alice", "registrar": where, "transport": transport}
        async with phone(tmp_path / "phone", **account, password="wonderland", auto=200) as alice:
            await alice.event("registered", code=200)
            user = await running.get("/api/v1/users/alice")
            (binding,) = user["bindings"]
            assert binding["uri"].startswith("sip:alice@127.0.0.1")
            await is_called(running, alice, tmp_path)
            await alice.call(f"sip:555@127.0.0.1:{running.sip_port};transport={transport}")
            await alice.event("state", state="DISCONNECTED", code=486)
            call = (await running.calls())[0]
            assert (call["trunk"], call["route"], call["from"]) == ("phones", "from-alice", "alice")

        async def gone() -> bool:
            return not (await running.get("/api/v1/users/alice"))["bindings"]

        await eventually(gone, "end of the registration")
        async with phone(tmp_path / "stranger", **account, password="wrong") as stranger:
            await stranger.event("registered", code=401)
        assert await gone()


async def is_called(running: Gateway, alice: object, folder: Path) -> None:
    """A caller of a trunk reaches the phone by its route, and hangs up."""
    async with sipp("uac_caller_ends", folder, remote=running.sip, hold=300) as caller:
        await caller.finished()
    (call,) = [call for call in await running.calls() if call["route"] == "to-alice"]
    ended = await running.ended(call["id"])
    assert (ended["status"], ended["hangup_source"]) == ("completed", "caller"), json.dumps(ended)
