"""gzip for what is over 1 KiB, for whoever can read it."""

import gzip
import json

import pytest

from telephony_gateway.api.middleware.compress import accepts_gzip
from tests.unit.api.world import UNKNOWN, World

OPENAPI = "/api/v1/openapi.json"


async def test_a_large_answer_is_compressed(gateway: World) -> None:
    async with gateway.http.get(
        OPENAPI, headers={"Accept-Encoding": "gzip, br"}, auto_decompress=False
    ) as response:
        raw = await response.read()
        assert response.headers["Content-Encoding"] == "gzip"
        assert "Accept-Encoding" in response.headers.getall("Vary")
        assert int(response.headers["Content-Length"]) == len(raw)
    assert json.loads(gzip.decompress(raw))["openapi"] == "3.1.0"


@pytest.mark.parametrize("accept", ["identity", "br", "gzip;q=0", ""])
async def test_not_for_those_who_cannot_read_it(gateway: World, accept: str) -> None:
    async with gateway.http.get(OPENAPI, headers={"Accept-Encoding": accept}) as response:
        assert "Content-Encoding" not in response.headers
        assert "Accept-Encoding" in response.headers.getall("Vary")


async def test_not_for_small_answers_or_metrics(gateway: World) -> None:
    for path in ("/health", f"/api/v1/calls/{UNKNOWN}", "/metrics"):
        async with gateway.http.get(path, headers={"Accept-Encoding": "gzip"}) as response:
            if path == "/metrics":
                assert len(await response.read()) > 1024
                assert response.headers["Content-Encoding"] == "gzip"
            else:
                assert "Content-Encoding" not in response.headers, path


async def test_a_compressed_file_keeps_its_validator(gateway: World) -> None:
    headers = {"Accept-Encoding": "gzip"}
    async with gateway.http.get("/assets/gateway.js", headers=headers) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        tag = response.headers["ETag"]
        assert tag.startswith('W/"')
    async with gateway.http.get("/assets/gateway.js", headers=headers | {"If-None-Match": tag}) as response:
        assert response.status == 304
        assert await response.read() == b""


async def test_head_tells_and_sends_nothing(gateway: World) -> None:
    async with gateway.http.head(OPENAPI, headers={"Accept-Encoding": "identity"}) as response:
        assert response.status == 200
        assert int(response.headers["Content-Length"]) > 1024
        assert await response.read() == b""


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", True),
        ("GZIP;q=0.5", True),
        ("x-gzip", True),
        ("*", True),
        ("deflate, *;q=0.1", True),
        ("gzip;q=0, *", False),
        ("gzip; q=0.000", False),
        ("gzip;q=nonsense", False),
        ("br", False),
        ("", False),
    ],
)
def test_accept_encoding(header: str, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted
