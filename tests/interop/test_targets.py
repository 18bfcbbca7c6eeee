"""Next hops by name with SIPp on both sides: every way a target can fail, in one call."""

from pathlib import Path

import pytest

from tests.interop.dns import Zone, carrier, name_server, silent_port
from tests.interop.gateway import gateway
from tests.interop.peers import sipp
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

PLAN = """
[[trunks]]
name = "office"
addresses = ["127.0.0.1/32"]

[[trunks]]
name = "carrier"
uri = "sip:carrier.test"

[[routes]]
name = "out"
target = { trunk = "carrier" }
"""


async def test_a_call_goes_past_dead_silent_and_unavailable_targets(tmp_path: Path) -> None:
    plan = tmp_path / "gateway.toml"
    plan.write_text(PLAN)
    zone = Zone()
    with silent_port() as silent, name_server(zone):
        async with (
            sipp("uas_unavailable", tmp_path) as unavailable,
            sipp("uas_gateway_ends", tmp_path) as callee,
        ):
            dead, mute = free_port(), silent.getsockname()[1]
            zone.lines = carrier([dead, mute, unavailable.port, callee.port])
            async with gateway(
                tmp_path, GATEWAY_CONFIG=str(plan), DNS_SERVERS=zone.server, NODE_ENV="test"
            ) as running:
                async with sipp("uac_caller_ends", tmp_path, remote=running.sip, hold=200) as caller:
                    await caller.finished()
                await unavailable.finished()
                await callee.finished()
                invite = silent.recv(65_535).decode()
                health = await running.get("/health/detailed")
                metrics = await running.metrics()
    assert invite.startswith("INVITE sip:")
    assert "CSeq: 2 INVITE" in invite
    told = {target["address"]: target for target in health["components"]["engine"]["targets"]}
    # It named a time, which is kept from the first.
    assert told[f"127.0.0.1:{unavailable.port}"]["state"] == "down"
    assert told[f"127.0.0.1:{mute}"]["trunk"] == "carrier"
    up = f'trunk_target_up{{address="127.0.0.1:{dead}",transport="udp",trunk="carrier"}}'
    assert metrics[up] == 1  # one failure is forgiven
    assert zone.asked["_sip._udp.carrier.test", "SRV"] == 1
