"""Calls that go on by a plain route: the engine sends them on, records say all, a change counts at once."""

from pathlib import Path
from typing import Any

import pytest

from tests.interop.gateway import Gateway, gateway
from tests.interop.peers import sipp
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONFIG = """
[[trunks]]
name = "callers"
addresses = ["127.0.0.1"]
incoming = { strip = 1, prepend = "+7" }
"""
FORWARDED = "engine_calls_forwarded_total"


async def made(running: Gateway, path: str, table: dict[str, Any]) -> dict[str, Any]:
    """A row of the plan, new or in place of the one before."""
    url = f"{running.url}/api/v1/{path}/{table['name']}"
    async with running.session.put(url, json=table) as response:
        assert response.status in (200, 201), await response.text()
        row: dict[str, Any] = await response.json()
        return row


async def call(running: Gateway, folder: Path, port: int) -> dict[str, Any]:
    """A call from end to end, and its record."""
    folder.mkdir()
    async with (
        sipp("uas_gateway_ends", folder, port=port, ring=50) as callee,
        sipp("uac_caller_ends", folder, remote=running.sip, hold=100) as caller,
    ):
        await caller.finished()
        await callee.finished()
    newest = (await running.calls())[0]
    return await running.ended(newest["id"])


async def test_plain_calls_are_sent_on_unasked_until_the_plan_asks_for_more(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(CONFIG)
    port = free_port()
    away = {"name": "away", "uri": f"sip:127.0.0.1:{port}", "strip": 2}
    async with gateway(tmp_path, GATEWAY_CONFIG=str(tmp_path / "gateway.toml")) as running:
        await made(running, "trunks", away)
        await made(
            running, "routes", {"name": "out", "match": {"to": r"^\+7\d+$"}, "target": {"trunk": "away"}}
        )
        ended = await call(running, tmp_path / "plain", port)
        assert (await running.metrics())[FORWARDED] == 1
        await made(running, "trunks", {**away, "max_calls": 5})
        asked = await call(running, tmp_path / "limited", port)
        assert (await running.metrics())[FORWARDED] == 1
        await made(running, "trunks", away)
        await call(running, tmp_path / "again", port)
        assert (await running.metrics())[FORWARDED] == 2
        told = [await running.get(f"/api/v1/calls/{one['id']}/events") for one in (ended, asked)]
    assert (ended["status"], ended["trunk"], ended["route"]) == ("completed", "callers", "out")
    assert ended["created_at"] < ended["ringing_at"] < ended["answered_at"] < ended["ended_at"]
    # Nobody can tell from its record who decided.
    unlike = {"id", "sip_call_id", "created_at", "ringing_at", "answered_at", "ended_at", "duration", "legs"}
    assert {key: value for key, value in ended.items() if key not in unlike} == {
        key: value for key, value in asked.items() if key not in unlike
    }
    plain, limited = ([(event["type"], event["data"].keys()) for event in one["items"]] for one in told)
    assert plain == limited
    assert [leg["side"] for leg in ended["legs"]] == [leg["side"] for leg in asked["legs"]]
