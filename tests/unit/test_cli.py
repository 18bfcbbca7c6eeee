"""The command line: quick help, a configuration check, one line for a fault."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from telephony_gateway import __version__
from telephony_gateway.cli import cli
from telephony_gateway.config import Settings

HEAVY = (
    "aiohttp",
    "asyncpg",
    "pydantic",
    "structlog",
    "uvloop",
    "telephony_gateway._core",
    "telephony_gateway.app",
)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def invoke(*args: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, args)
    return result.exit_code, result.output


def test_version() -> None:
    assert invoke("version") == (0, f"{__version__}\n")


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['telephony-gateway', '--help']\n"
        "from telephony_gateway.cli import main\n"
        "try:\n    main()\n"
        f"finally:\n    print([name for name in {HEAVY} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "serve" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_check_config() -> None:
    code, output = invoke("check-config")
    assert code == 0
    assert "trunks: development" in output


def test_check_config_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("gateway.toml").write_text(
        '[[routes]]\nname = "sales"\nmatch = { to = "(" }\ntarget = { reject = 404 }\n'
    )
    code, output = invoke("check-config", "gateway.toml")
    assert code == 2
    assert "route 'sales': match.to" in output
    monkeypatch.setenv("GATEWAY_CONFIG", "gateway.toml")
    assert invoke("check-config")[0] == 2


def test_a_fault_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "many")
    code, output = invoke("check-config")
    assert code == 2
    assert output.startswith("telephony-gateway: PORT: ")
    assert output.count("\n") == 1


def test_production_without_trunks_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_ENV", "production")
    monkeypatch.setenv("API_KEYS", "key")
    assert "no call is accepted" in invoke("check-config")[1]


GOOD = '[[trunks]]\nname = "a"\nuri = "sip:192.0.2.1"\nusername = "u"\npassword_env = "A_PASSWORD"\n'


def test_check_lists_everything_at_once() -> None:
    Path("gateway.toml").write_text(
        '[[trunks]]\nname = "a"\nadresses = []\ndtmf = "x"\n'
        '[[routes]]\nname = "r"\ntarget = { trunk = "b" }\n'
    )
    code, output = invoke("check", "gateway.toml")
    assert code == 1
    assert [line.rpartition(": ")[0] for line in output.splitlines()] == [
        "trunk 'a': adresses: is no key of this table",
        "trunk 'a': dtmf",
        "route 'r': target.trunk",
    ]


def test_check_of_a_good_file_says_what_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("gateway.toml").write_text(GOOD)
    code, output = invoke("check", "gateway.toml")
    assert code == 0
    assert "note: trunk 'a': password_env: names A_PASSWORD" in output
    assert output.splitlines()[-1] == "gateway.toml: good: 1 trunk, 0 routes, 0 users"
    monkeypatch.setenv("A_PASSWORD", "secret")
    assert "note" not in invoke("check", "gateway.toml")[1]
    Path("gateway.toml").write_text("[[trunks")
    assert invoke("check", "gateway.toml")[0] == 1
    assert invoke("check", "absent.toml")[0] == 1


def test_apply_says_why_it_failed() -> None:
    Path("gateway.toml").write_text(GOOD)
    code, output = invoke("apply", "gateway.toml", "--url", "http://127.0.0.1:9")
    assert code == 1
    assert "does not answer as a gateway" in output
    assert "--url: must begin" in invoke("apply", "gateway.toml", "--url", "file:///etc/passwd")[1]
