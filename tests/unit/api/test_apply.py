"""`telephony-gateway apply` against a gateway: it shows what changed, says what is wrong, and uses keys."""

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

from telephony_gateway.cli import cli
from tests.unit.api.world import KEY, World, world

PLAN = """
[[trunks]]
name = "carrier"
uri = "sip:203.0.113.10"
%s
[[routes]]
name = "out"
target = { trunk = "carrier" }
"""


async def run(gateway: World, path: Path, *options: str) -> tuple[int, list[str]]:
    arguments = ["apply", str(path), "--url", gateway.url, *options]
    result = await asyncio.to_thread(CliRunner().invoke, cli, arguments)
    return result.exit_code, result.output.splitlines()


async def test_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(PLAN % "")
    async with world(API_KEYS=f"{KEY},another") as gateway:
        monkeypatch.delenv("API_KEYS", raising=False)
        code, lines = await run(gateway, path)
        assert (code, lines[0].partition(":")[0]) == (1, "telephony-gateway")
        assert "401" in lines[0]
        monkeypatch.setenv("GATEWAY_KEY", f"{KEY},another")
        dry = await run(gateway, path, "--api-key-env", "GATEWAY_KEY", "--dry-run")
        assert dry == (0, ["+ trunk carrier", "+ route out", "nothing was changed: --dry-run"])
        monkeypatch.setenv("API_KEYS", KEY)
        assert await run(gateway, path) == (0, ["+ trunk carrier", "+ route out", "applied"])
        assert await run(gateway, path) == (0, ["nothing to change"])
        path.write_text(PLAN % "max_cps = 5")
        assert await run(gateway, path) == (0, ["~ trunk carrier", "applied"])
        path.write_text(PLAN % 'username = "u"\npassword_env = "NOT_THERE"')
        code, lines = await run(gateway, path)
        assert code == 1
        assert lines[1].startswith("trunk 'carrier': password_env: names NOT_THERE")
        path.write_text("")
        assert await run(gateway, path) == (0, ["- trunk carrier", "- route out", "applied"])
