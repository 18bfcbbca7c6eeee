"""Settings: defaults, faults that name themselves, and env.example kept equal."""

import re
from pathlib import Path

import pytest

from telephony_gateway.calls.routing import Routing
from telephony_gateway.config import MAX_GATEWAY_CONFIG, Settings, load_settings, load_tables
from telephony_gateway.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
NAMES = [name.upper() for name in Settings.model_fields]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*NAMES, "ENVIRONMENT"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_development_needs_nothing_and_stays_at_home() -> None:
    settings = load_settings()
    assert settings.node_env == "development"
    assert (settings.host, settings.port) == ("127.0.0.1", 3000)
    assert (settings.sip_host, settings.sip_port) == ("0.0.0.0", 5060)
    assert settings.rtp_port_range == (20000, 29999)
    assert settings.cors_origins == ("*",)
    assert settings.api_keys == ()
    assert settings.postgres_url is None
    assert settings.development


def test_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "Production")
    with pytest.raises(ConfigError, match=r"^API_KEYS: .*production"):
        load_settings()
    monkeypatch.setenv("API_KEYS", " alpha , beta ,")
    settings = load_settings()
    assert settings.host == "0.0.0.0"
    assert [key.get_secret_value() for key in settings.api_keys] == ["alpha", "beta"]
    assert "alpha" not in repr(settings)


def test_the_environment_comes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("PORT=4000\nSIP_PORT=5070\nPOSTGRES_URL=\nUNKNOWN=1\n")
    monkeypatch.setenv("PORT", "5000")
    settings = load_settings()
    assert (settings.port, settings.sip_port, settings.postgres_url) == (5000, 5070, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NODE_ENV", "staging"),
        ("PORT", "many"),
        ("PORT", "65536"),
        ("POSTGRES_URL", "mysql://localhost"),
        ("REDIS_URL", "localhost:6379"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317"),
        ("LOG_LEVEL", "loud"),
        ("SIP_HOST", "example.com"),
        ("SIP_PUBLIC_ADDRESS", "0.0.0.0"),
        ("SIP_PUBLIC_ADDRESS", "not an address"),
        ("RTP_PORT_RANGE", "30000"),
        ("RTP_PORT_RANGE", "30000-20000"),
        ("RTP_PORT_RANGE", "80-90"),
        ("WEBRTC_PORT", "-1"),
        ("MEDIA_WORKERS", "0"),
        ("SHUTDOWN_TIMEOUT", "-1"),
        ("SHUTDOWN_TIMEOUT", "nan"),
        ("RATE_LIMIT", "fast"),
        ("ICE_SERVERS", "stun:x"),
        ("ICE_SERVERS", '["stun:x"]'),
        ("MAX_CALLS", "0"),
    ],
)
def test_a_wrong_value_names_its_setting(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert caught.value.setting == name
    assert caught.value.message.startswith(f"{name}: ")
    assert "\n" not in caught.value.message


def test_secrets_stay_out_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_URL", "mysql://user:secret@host")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert "secret" not in caught.value.message


def test_env_example_has_every_setting_in_order() -> None:
    example = (ROOT / "env.example").read_text()
    assert re.findall(r"^([A-Z_]+)=", example, re.MULTILINE) == NAMES


def test_env_example_explains_every_setting() -> None:
    blocks = (ROOT / "env.example").read_text().strip().split("\n\n")[1:]
    assert len(blocks) == len(NAMES)
    for block in blocks:
        assert re.fullmatch(r"(# .+\n)+[A-Z_]+=.+", block), block


def test_env_example_is_a_good_env(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text((ROOT / "env.example").read_text())
    settings = load_settings()
    assert settings.production
    assert settings.postgres_url == "postgresql://postgres:postgres@localhost:5432/sales_voice"


def test_gateway_toml(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('[[trunks]]\nname = "a"\naddresses = ["203.0.113.0/24"]\n')
    routing = Routing.from_tables(load_tables(path), development=False)
    assert list(routing.trunks) == ["a"]


@pytest.mark.parametrize("content", [b"[[trunks", b"\xff", b"#" * (MAX_GATEWAY_CONFIG + 1), None])
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "gateway.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"gateway\.toml") as caught:
        load_tables(path)
    assert caught.value.setting == "GATEWAY_CONFIG"


def test_several_addresses_and_tls_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIP_HOST", "192.0.2.1, 2001:db8::1")
    assert load_settings(_env_file=None).sip_host == "192.0.2.1,2001:db8::1"
    monkeypatch.setenv("SIP_HOST", "192.0.2.1,192.0.2.1")
    with pytest.raises(ConfigError, match="SIP_HOST"):
        load_settings(_env_file=None)
    monkeypatch.setenv("SIP_HOST", "192.0.2.1")
    monkeypatch.setenv("SIP_TLS_CERTIFICATE", "cert.pem")
    with pytest.raises(ConfigError, match="SIP_TLS_KEY"):
        load_settings(_env_file=None)
    monkeypatch.delenv("SIP_TLS_CERTIFICATE")
    monkeypatch.setenv("SIP_TLS_CLIENT_CA", "ca.pem")
    with pytest.raises(ConfigError, match="SIP_TLS_CLIENT_CA"):
        load_settings(_env_file=None)
