"""Every failure is a problem, and never 500 for a user's mistake."""

import asyncio
import gzip
import json
from typing import Any

import pytest

from telephony_gateway import errors
from telephony_gateway.api import requests
from telephony_gateway.api.middleware.errors import status_of
from tests.unit.api.world import UNKNOWN, World

JSON = {"Content-Type": "application/json"}
HEAD = b"POST /api/v1/calls HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
NEW = json.dumps({"to": "sip:bob@127.0.0.1"})


async def exchange(gateway: World, data: bytes, timeout: float = 5) -> tuple[int, bytes]:
    """Send bytes as they are and read until the gateway closes or has answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        writer.write(data)
        async with asyncio.timeout(timeout):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
            body = await reader.readexactly(length)
    finally:
        writer.close()
    return int(head.split()[1]), body


async def test_unknown_addresses_and_methods(gateway: World) -> None:
    problem = await gateway.json("GET", "/api/v2/calls", 404)
    assert (problem["code"], problem["type"], problem["title"]) == ("not_found", "about:blank", "Not Found")
    async with gateway.http.delete("/api/v1/calls") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "GET,HEAD,POST"
        assert (await response.json(content_type=None))["code"] == "method_not_allowed"
    await gateway.json("PROPFIND", "/api/v1/calls", 405)


async def test_a_problem_names_its_request(gateway: World) -> None:
    async with gateway.http.get("/nowhere", headers={"X-Request-ID": "crm-17"}) as response:
        assert response.headers["X-Request-ID"] == "crm-17"
        assert (await response.json(content_type=None))["request_id"] == "crm-17"
    for harmful in ("a b", "x" * 65, "\u00e9"):
        async with gateway.http.get("/nowhere", headers={"X-Request-ID": harmful}) as response:
            assert response.headers["X-Request-ID"] not in ("", harmful)


@pytest.mark.parametrize("body", [b"{", b"", b"\xff\xfe", b'{"to": "\xff"}', b"{'to': 1}", b'{"to": NaN}'])
async def test_malformed_json_is_400(gateway: World, body: bytes) -> None:
    problem = await gateway.json("POST", "/api/v1/calls", 400, data=body, headers=JSON)
    assert problem["code"] == "malformed_json"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "; ="},
        JSON | {"Content-Encoding": "br"},
    ],
)
async def test_another_content_type_is_415(gateway: World, headers: dict[str, str]) -> None:
    problem = await gateway.json("POST", "/api/v1/calls", 415, data=NEW.encode(), headers=headers)
    assert problem["code"] == "unsupported_media_type"


async def test_a_compressed_body_is_never_inflated(gateway: World) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    headers = JSON | {"Content-Encoding": "gzip"}
    await gateway.json("POST", "/api/v1/calls", 415, data=bomb, headers=headers)


async def test_a_large_body_is_413_and_the_connection_closes(gateway: World) -> None:
    large = b'{"to": "' + b"x" * requests.BODY_LIMIT + b'"}'
    async with gateway.http.post("/api/v1/calls", data=large, headers=JSON) as response:
        assert response.status == 413
        assert response.headers["Connection"] == "close"
        assert (await response.json(content_type=None))["code"] == "body_too_large"


async def test_a_large_chunked_body_is_413_too(gateway: World) -> None:
    async def chunks() -> Any:
        for _ in range(20):
            yield b"x" * 8192

    await gateway.json("POST", "/api/v1/calls", 413, data=chunks(), headers=JSON)


async def test_a_dripped_body_is_408(gateway: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "BODY_TIMEOUT", 0.2)
    status, body = await exchange(gateway, HEAD + b"Content-Length: 99\r\n\r\n{")
    assert (status, json.loads(body)["code"]) == (408, "request_timeout")


async def test_a_wrongly_framed_body_is_400(gateway: World) -> None:
    status, body = await exchange(gateway, HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nno\r\n")
    assert (status, json.loads(body)["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/9\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 9000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
        (b"GET /health HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100 + b"\r\n", 431),
        (b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ],
)
async def test_what_is_no_http_is_a_problem_and_counted(gateway: World, data: bytes, status: int) -> None:
    got, body = await exchange(gateway, data)
    assert got == status, body
    problem = json.loads(body)
    assert problem["status"] == status
    assert b"yyyy" not in body
    assert b"\r\n" not in body
    assert gateway.counts.requests[-1] == ("OTHER", "unmatched", status)
    assert (await gateway.json("GET", "/health", 200))["status"] == "healthy"


async def test_expectations(gateway: World) -> None:
    request = b"POST /api/v1/calls HTTP/1.1\r\nHost: a\r\nExpect: a miracle\r\nContent-Length: 2\r\n\r\n{}"
    status, body = await exchange(gateway, request)
    assert (status, json.loads(body)["code"]) == (417, "expectation_failed")
    headers = JSON | {"Expect": "100-continue"}
    await gateway.json("POST", "/api/v1/calls", 201, data=NEW.encode(), headers=headers)


async def test_our_own_fault_is_500_without_its_inside(gateway: World) -> None:
    gateway.store.fault = RuntimeError("the secret inside")
    async with gateway.http.get(f"/api/v1/calls/{UNKNOWN}") as response:
        assert response.status == 500
        body = await response.text()
    assert json.loads(body)["code"] == "internal"
    assert "secret" not in body


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.Unauthorized("x"), 401),
        (errors.Forbidden("x"), 403),
        (errors.CallNotFound("x"), 404),
        (errors.SessionNotFound(), 404),
        (errors.TrunkNotFound("x"), 422),
        (errors.WrongState("x"), 409),
        (errors.Conflict("x"), 409),
        (errors.Invalid("x"), 422),
        (errors.NotAcceptable("x"), 422),
        (errors.RateLimited("x"), 429),
        (errors.Overloaded("x"), 503),
        (errors.StoreUnavailable("x"), 503),
        (errors.EngineFailure("x"), 500),
        (errors.GatewayError("x"), 500),
    ],
)
def test_every_error_has_its_status(error: errors.GatewayError, status: int) -> None:
    assert status_of(error) == status


def test_no_error_is_forgotten() -> None:
    """A new error below GatewayError must be thought of here: 500 is for our own faults only."""
    ours = {errors.GatewayError, errors.ConfigError, errors.EngineFailure}
    found = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    kinds = {kind for kind in found if issubclass(kind, errors.GatewayError)}
    blank = {kind for kind in kinds if status_of(kind.__new__(kind)) == 500}
    assert blank == ours
