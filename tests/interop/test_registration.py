"""Registrations both ways: the gateway at a carrier's registrar, and phones at the gateway."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.interop.gateway import Gateway, eventually, gateway
from tests.interop.peers import sipp
from tests.interop.pjsua_peer import phone

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
