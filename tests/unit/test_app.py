"""The root's own decisions; whole starts and stops are in tests/interop."""

import errno
from pathlib import Path

import pytest

from telephony_gateway import app
from telephony_gateway.config import Settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("environment", "from_host", "ws_url", "authentication"),
    [
        ({}, None, "ws://127.0.0.1:3000/ws", False),
        ({"SIP_HOST": "192.0.2.1", "HOST": "0.0.0.0"}, "192.0.2.1", "ws://localhost:3000/ws", False),
        (
            {"SIP_PUBLIC_ADDRESS": "203.0.113.5", "API_KEYS": "k"},
            "203.0.113.5",
            "ws://127.0.0.1:3000/ws",
            True,
        ),
        ({"SIP_HOST": "2001:db8::1", "HOST": "::1"}, "[2001:db8::1]", "ws://[::1]:3000/ws", False),
    ],
)
def test_the_policy_of_the_settings(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    from_host: str | None,
    ws_url: str,
    authentication: bool,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    policy = app._policy(Settings())
    assert (policy.from_host, policy.ws_url, policy.authentication) == (from_host, ws_url, authentication)


@pytest.mark.parametrize(
    ("number", "setting"),
    [(errno.EADDRINUSE, "PORT"), (errno.EACCES, "PORT"), (errno.EADDRNOTAVAIL, "HOST"), (-2, "HOST")],
)
def test_why_http_is_not_listening(number: int, setting: str) -> None:
    error = app._not_listening(Settings(), OSError(number, "words"))
    assert error.setting == setting
    assert "127.0.0.1:3000" in error.message


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "many"), ("GATEWAY_CONFIG", "nowhere.toml"), ("NODE_ENV", "production")]
)
def test_a_start_that_cannot_be_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert app.run() == app.START_FAILED
    said = capsys.readouterr().err
    assert said.startswith("telephony-gateway: ")
    assert said.count("\n") == 1
