"""The rate limit of REST, and of upgrades."""

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request

from telephony_gateway.api.middleware.rate import RateLimit, client_of
from tests.unit.api.world import World, world


async def test_too_many_requests_are_429(no_leak: None) -> None:
    async with world(RATE_LIMIT="5/hour") as gateway:
        for left in (4, 3, 2, 1, 0):
            async with gateway.http.get("/api/v1/calls") as response:
                assert response.status == 200
                assert response.headers["RateLimit-Limit"] == "5"
                assert response.headers["RateLimit-Policy"] == "5;w=3600"
                assert response.headers["RateLimit-Remaining"] == str(left)
                assert 0 <= int(response.headers["RateLimit-Reset"]) <= 3600
        async with gateway.http.post("/api/v1/calls", json={"to": "sip:a@127.0.0.1"}) as response:
            assert response.status == 429
            assert 1 <= int(response.headers["Retry-After"]) <= 3600
            assert (await response.json(content_type=None))["code"] == "rate_limited"
        assert gateway.engine.commands == []
        await gateway.json("GET", "/nowhere", 429)
        await still_open(gateway)


async def still_open(gateway: World) -> None:
    """Probes, scrapers and the page are not counted; upgrades are."""
    for path in ("/health", "/health/live", "/health/ready", "/metrics", "/"):
        async with gateway.http.get(path) as response:
            assert response.status == 200, path
            assert "RateLimit-Limit" not in response.headers
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with gateway.socket():
            pass
    assert refused.value.status == 429


async def test_wrong_keys_are_counted(no_leak: None) -> None:
    async with world(RATE_LIMIT="3/hour", API_KEYS="secret") as gateway:
        for _ in range(3):
            await gateway.json("GET", "/api/v1/calls", 401, headers={"X-API-Key": "guess"})
        await gateway.json("GET", "/api/v1/calls", 429, headers={"X-API-Key": "secret"})


async def test_a_shared_counter_that_is_down_stops_nobody() -> None:
    limit = RateLimit("2/hour", "redis://127.0.0.1:1/0")
    try:
        outcomes = [(await limit.hit("1.2.3.4"))[0] for _ in range(3)]
    finally:
        await limit.close()
    assert outcomes == [True, True, False], "this node counts for itself meanwhile"


@pytest.mark.parametrize(
    ("remote", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::"),
        (None, "unknown"),
    ],
)
def test_a_client_is_an_address_or_a_subscribers_network(remote: str | None, client: str) -> None:
    assert client_of(make_mocked_request("GET", "/").clone(remote=remote or "")) == client or remote is None
