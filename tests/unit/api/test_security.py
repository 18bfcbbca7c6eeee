"""Keys, origins, headers: what a browser and a stranger may do."""

import asyncio
from typing import Any

import aiohttp
import pytest

from telephony_gateway.api.auth import Keys
from telephony_gateway.api.middleware.origins import same_origin
from telephony_gateway.api.pages import Pages
from tests.unit.api.world import KEY, UNKNOWN, World, world

FOREIGN = "https://evil.example"
KNOWN = "https://crm.example"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": "Bearer"},
        {"X-API-Key": ""},
        {"X-API-Key": KEY + "x"},
        {"X-API-Key": KEY[:-1]},
        {"X-API-Key": "x" * 5000},
        {"X-API-Key": "\u00e9"},
    ],
)
async def test_without_a_key_the_api_is_closed(guarded: World, headers: dict[str, str]) -> None:
    for method, path in [
        ("GET", "/api/v1/calls"),
        ("POST", "/api/v1/calls"),
        ("GET", f"/api/v1/calls/{UNKNOWN}"),
        ("GET", "/api/v1/openapi.json"),
        ("GET", "/api/v1/nowhere"),
        ("DELETE", "/api/v1/calls"),
        ("GET", "/metrics"),
        ("GET", "/health/detailed"),
    ]:
        async with guarded.http.request(method, path, headers=headers) as response:
            assert response.status == 401, path
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
            assert (await response.json(content_type=None))["code"] == "unauthorized"
    assert guarded.engine.commands == []


@pytest.mark.parametrize(
    "headers", [{"Authorization": f"Bearer {KEY}"}, {"X-API-Key": KEY}, {"authorization": f"bearer  {KEY} "}]
)
async def test_with_a_key_it_is_open(guarded: World, headers: dict[str, str]) -> None:
    for path in ("/api/v1/calls", "/api/v1/openapi.json", "/metrics", "/health/detailed"):
        async with guarded.http.get(path, headers=headers) as response:
            assert response.status == 200, path


async def test_probes_and_the_page_need_no_key(guarded: World) -> None:
    for path in ("/health", "/health/live", "/health/ready", "/", "/assets/style.css"):
        async with guarded.http.get(path) as response:
            assert response.status == 200, path


async def test_a_key_in_the_query_is_no_key(guarded: World) -> None:
    await guarded.json("GET", f"/api/v1/calls?api_key={KEY}", 401)


async def test_development_needs_none(gateway: World) -> None:
    await gateway.json("GET", "/api/v1/calls", 200)
    async with gateway.http.get("/metrics") as response:
        assert response.status == 200


def test_every_key_is_compared() -> None:
    keys = Keys(["a", "b", ""])
    assert [keys.match(key) for key in ("a", "b", "c", "")] == [True, True, False, False]
    assert not Keys([]).required


async def test_security_headers_on_every_answer(guarded: World) -> None:
    for path in ("/", "/assets/style.css", "/health", "/api/v1/calls", "/nowhere"):
        async with guarded.http.get(path) as response:
            headers = response.headers
            assert headers["X-Content-Type-Options"] == "nosniff", path
            assert headers["X-Frame-Options"] == "DENY"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert "microphone=(self)" in headers["Permissions-Policy"]
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
            assert headers["Server"] == "telephony-gateway"
            assert headers["Strict-Transport-Security"]
    async with guarded.http.get("/") as response:
        policy = response.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "connect-src 'self' ws: wss:;" in policy
    assert "unsafe" not in policy


async def test_answers_of_the_api_are_not_stored(gateway: World) -> None:
    async with gateway.http.get("/api/v1/calls") as response:
        assert response.headers["Cache-Control"] == "no-store"
        assert "Strict-Transport-Security" not in response.headers


async def test_the_default_lets_every_origin_in(gateway: World) -> None:
    async with gateway.http.get("/api/v1/calls", headers={"Origin": FOREIGN}) as response:
        assert response.status == 200
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in response.headers


async def test_a_foreign_origin_is_refused(guarded: World) -> None:
    for origin in (FOREIGN, "null", "https://crm.example.evil.example", "http://crm.example", "garbage"):
        headers = {"Origin": origin, "X-API-Key": KEY}
        async with guarded.http.get("/api/v1/calls", headers=headers) as response:
            assert response.status == 403, origin
            assert "Access-Control-Allow-Origin" not in response.headers
            assert "Origin" in response.headers.getall("Vary")


async def test_a_known_origin_may_call(guarded: World) -> None:
    headers = {"Origin": KNOWN, "X-API-Key": KEY}
    async with guarded.http.get("/api/v1/calls", headers=headers) as response:
        assert response.status == 200
        assert response.headers["Access-Control-Allow-Origin"] == KNOWN
        assert "RateLimit-Remaining" in response.headers["Access-Control-Expose-Headers"]
        assert response.headers.getall("Vary") == ["Accept-Encoding", "Origin"]


async def test_the_own_page_may_call(guarded: World) -> None:
    headers = {"Origin": guarded.url, "X-API-Key": KEY}
    async with guarded.http.get("/api/v1/calls", headers=headers) as response:
        assert response.status == 200


async def test_preflights_need_no_key(guarded: World) -> None:
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    async with guarded.http.options("/api/v1/calls", headers=ask | {"Origin": KNOWN}) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == KNOWN
        assert "PATCH" in response.headers["Access-Control-Allow-Methods"]
        allowed = response.headers["Access-Control-Allow-Headers"]
        assert {"Authorization", "Idempotency-Key", "X-API-Key"} <= set(allowed.split(", "))
    async with guarded.http.options("/api/v1/calls", headers=ask | {"Origin": FOREIGN}) as response:
        assert response.status == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [(None, 101), (KNOWN, 101), ("own", 101), (FOREIGN, 403), ("null", 403), ("file://", 403)],
)
async def test_the_socket_checks_the_same_origins(guarded: World, origin: str | None, status: int) -> None:
    headers = {} if origin is None else {"Origin": guarded.url if origin == "own" else origin}
    if status == 101:
        async with guarded.socket(headers=headers):
            return
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with guarded.socket(headers=headers):
            pass
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("http://localhost:3000", "localhost:3000", True),
        ("https://gw.example", "gw.example", True),
        ("https://gw.example", "gw.example:443", True),
        ("https://gw.example:443", "GW.example", True),
        ("http://gw.example:80", "gw.example", True),
        ("http://[::1]:3000", "[::1]:3000", True),
        ("http://localhost:3001", "localhost:3000", False),
        ("http://evil.example", "gw.example", False),
        ("null", "null", False),
        ("http://", "", False),
        ("http://[", "[", False),
        ("javascript://gw.example", "gw.example", False),
    ],
)
def test_same_origin(origin: str, host: str, same: bool) -> None:
    assert same_origin(origin, host) is same


async def test_the_log_line_of_a_request(gateway: World, capsys: Any) -> None:
    seen: list[dict[str, Any]] = []

    def keep(_logger: Any, _name: str, event: dict[str, Any]) -> str:
        seen.append(event)
        return ""

    import structlog

    structlog.configure(processors=[structlog.contextvars.merge_contextvars, keep])
    async with gateway.http.get("/api/v1/calls?limit=1", headers={"X-Request-ID": "r1"}):
        pass
    await asyncio.sleep(0)
    line = next(event for event in seen if event["event"] == "http_request")
    assert (line["method"], line["path"], line["status"]) == ("GET", "/api/v1/calls", 200)
    assert (line["request_id"], line["route"], line["remote"]) == ("r1", "/api/v1/calls", "127.0.0.1")
    assert "limit" not in str(line)


async def test_metrics_name_routes_and_not_paths(gateway: World) -> None:
    await gateway.json("GET", f"/api/v1/calls/{UNKNOWN}", 404)
    await gateway.json("GET", "/some/scanner.php", 404)
    await gateway.json("PROPFIND", "/", 405)
    assert gateway.counts.requests == [
        ("GET", "/api/v1/calls/{call_id}", 404),
        ("GET", "unmatched", 404),
        ("OTHER", "unmatched", 405),
    ]


async def test_keys_apply_wherever_they_are_set() -> None:
    async with world(API_KEYS=KEY) as gateway:
        await gateway.json("GET", "/api/v1/calls", 401)


def test_the_pages_know_no_way_out() -> None:
    names = set(Pages()._assets)
    assert "index.html" in names
    assert not [name for name in names if ".." in name or name.endswith((".py", ".ts"))]
