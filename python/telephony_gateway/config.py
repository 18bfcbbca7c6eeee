"""Every setting of the gateway, read once at the start from the environment and `.env`.

The order of the fields is the order of `env.example`; a test keeps the two equal. `load_settings` turns any
fault into one `ConfigError` that names the setting and its fix. `load_tables` reads `gateway.toml`;
`calls/routing.py` knows what its tables mean.
"""

import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from telephony_gateway.errors import ConfigError

Environment = Literal["development", "production", "test"]
LogLevel = Literal["debug", "info", "warning", "error"]

MAX_GATEWAY_CONFIG = 1 << 20
_RATE = re.compile(r"[1-9]\d{0,8}/(second|minute|hour)")
_SERVER_PORT = re.compile(r"^(\[.*\]|[^:]*):\d{1,5}$")
_PORT_RANGE = re.compile(r"(\d{1,5})-(\d{1,5})")


def _comma_list(value: object) -> object:
    if isinstance(value, str):
        return tuple(part for part in (piece.strip() for piece in value.split(",")) if part)
    return value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _port_range(value: object) -> object:
    if not isinstance(value, str):
        return value
    found = _PORT_RANGE.fullmatch(value.strip())
    if found is None:
        raise ValueError("must be two ports, as in 20000-29999")
    return int(found[1]), int(found[2])


def _usable_range(value: tuple[int, int]) -> tuple[int, int]:
    first, last = value
    if not 1024 <= first < last <= 65535:
        raise ValueError("must be two ports between 1024 and 65535, the lower first, as in 20000-29999")
    return value


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("must be an IP address") from None


def _addresses(value: str) -> str:
    parts = [_address(part.strip()) for part in value.split(",")]
    if len(set(parts)) < len(parts):
        raise ValueError("must name each address once")
    return ",".join(parts)


def _public_address(value: str) -> str:
    address = _address(value)
    if ipaddress.ip_address(address).is_unspecified:
        raise ValueError("must be an address that peers can reach")
    return address


def _name_servers(value: tuple[str, ...]) -> tuple[str, ...]:
    for server in value:
        try:
            ipaddress.ip_address(_SERVER_PORT.sub(r"\1", server).strip("[]"))
        except ValueError:
            raise ValueError(
                "must be IP addresses, each with or without :port, separated by commas"
            ) from None
    return value


def _rate(value: str) -> str:
    if _RATE.fullmatch(value) is None:
        raise ValueError("must be a count and a unit, as in 600/minute (second, minute or hour)")
    return value


def _scheme(*schemes: str) -> AfterValidator:
    def check(value: str) -> str:
        if not value.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValueError(f"must be a URL that begins with {' or '.join(f'{s}://' for s in schemes)}")
        return value

    return AfterValidator(check)


def _ice_servers(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        servers = json.loads(value)
    except ValueError:
        raise ValueError('must be a JSON list, as in [{"urls": "stun:stun.example.com"}]') from None
    if not isinstance(servers, list) or not all(isinstance(s, dict) and "urls" in s for s in servers):
        raise ValueError('must be a JSON list of objects with "urls"')
    return tuple(servers)


def _default_host(validated: dict[str, Any]) -> str:
    # Development needs no keys, so it must not be reachable from elsewhere.
    return "0.0.0.0" if validated.get("node_env") == "production" else "127.0.0.1"


Port = Annotated[int, Field(ge=0, le=65535)]
CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_list)]
SecretList = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_comma_list)]


class Settings(BaseSettings):
    """The settings, each named as its environment variable in lower case."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    node_env: Annotated[Environment, BeforeValidator(_lower)] = Field(
        "development", validation_alias=AliasChoices("NODE_ENV", "ENVIRONMENT")
    )
    host: str = Field(default_factory=_default_host)
    port: Port = 3000
    postgres_url: Annotated[str, _scheme("postgresql", "postgres")] | None = Field(None, repr=False)
    redis_url: Annotated[str, _scheme("redis", "rediss", "unix")] | None = Field(None, repr=False)
    otel_exporter_otlp_endpoint: Annotated[str, _scheme("http", "https")] | None = None
    log_level: Annotated[LogLevel, BeforeValidator(_lower)] = "info"
    cors_origins: CommaList = ("*",)
    api_keys: SecretList = ()
    data_dir: Path = Path(".data")
    gateway_config: Path | None = None
    sip_host: Annotated[str, AfterValidator(_addresses)] = "0.0.0.0"
    sip_port: Port = 5060
    sip_tls_port: Port = 5061
    sip_tls_certificate: Path | None = None
    sip_tls_key: Path | None = None
    sip_tls_client_ca: Path | None = None
    sip_public_address: Annotated[str, AfterValidator(_public_address)] | None = None
    dns_servers: Annotated[CommaList, AfterValidator(_name_servers)] = ()
    rtp_port_range: Annotated[
        tuple[int, int], NoDecode, BeforeValidator(_port_range), AfterValidator(_usable_range)
    ] = (20000, 29999)
    webrtc_port: Port = 40000
    media_workers: int = Field(1, ge=1, le=128)
    sip_unknown_sources: Annotated[Literal["drop", "refuse"], BeforeValidator(_lower)] | None = None
    sip_ladder_memory: int = Field(32, ge=0, le=4096)
    shutdown_timeout: float = Field(30.0, ge=0, le=86400)
    rate_limit: Annotated[str, AfterValidator(_rate)] = "600/minute"
    pg_bin_dir: Path | None = None
    ice_servers: Annotated[tuple[dict[str, Any], ...], NoDecode, BeforeValidator(_ice_servers)] = ()
    max_calls: int = Field(10_000, ge=1, le=1_000_000)

    @property
    def production(self) -> bool:
        """Whether only what is named is accepted."""
        return self.node_env == "production"

    @property
    def unknown_sources(self) -> str:
        """What becomes of SIP requests from addresses of no trunk."""
        return self.sip_unknown_sources or ("drop" if self.production else "take")

    @property
    def development(self) -> bool:
        """Whether the built-in trunk and route are there."""
        return self.node_env != "production"


def load_settings(**overrides: Any) -> Settings:
    """Read the environment and `.env`; `ConfigError` names the first setting at fault."""
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        raise _config_error(error) from None
    except SettingsError as error:
        raise ConfigError("the environment", str(error)) from None
    except UnicodeDecodeError:
        raise ConfigError(".env", "is not UTF-8 text") from None
    _check_production(settings)
    _check_tls(settings)
    return settings


def environment() -> Mapping[str, str]:
    """The environment, and `.env` behind it: where secrets of trunks and users are. Read anew each time."""
    try:
        written = dotenv_values(".env")
    except UnicodeDecodeError:
        raise ConfigError(".env", "is not UTF-8 text") from None
    return {name: value for name, value in written.items() if value is not None} | os.environ


def load_tables(path: Path) -> dict[str, Any]:
    """The tables of `gateway.toml`, as they stand; `ConfigError` says where the file is at fault."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_GATEWAY_CONFIG + 1)
        if len(text) > MAX_GATEWAY_CONFIG:
            raise ConfigError("GATEWAY_CONFIG", f"{path} is larger than {MAX_GATEWAY_CONFIG} bytes")
        return tomllib.loads(text.decode())
    except OSError as error:
        raise ConfigError("GATEWAY_CONFIG", f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("GATEWAY_CONFIG", f"{path} is not TOML: {error}") from None


def _check_production(settings: Settings) -> None:
    if settings.production and not settings.api_keys:
        raise ConfigError(
            "API_KEYS",
            "is required in production: set one or more keys, separated by commas (or NODE_ENV=development)",
        )


def _check_tls(settings: Settings) -> None:
    if (settings.sip_tls_certificate is None) != (settings.sip_tls_key is None):
        missing = "SIP_TLS_KEY" if settings.sip_tls_key is None else "SIP_TLS_CERTIFICATE"
        raise ConfigError(missing, "is missing: a certificate and its key go together")
    if settings.sip_tls_client_ca is not None and settings.sip_tls_certificate is None:
        raise ConfigError("SIP_TLS_CLIENT_CA", "needs SIP_TLS_CERTIFICATE and SIP_TLS_KEY")


def _config_error(error: ValidationError) -> ConfigError:
    first = error.errors(include_url=False, include_input=False)[0]
    setting = str(first["loc"][0]).upper() if first["loc"] else "the environment"
    return ConfigError(setting, first["msg"].removeprefix("Value error, "))
