"""The page and its files."""

import pytest

from tests.unit.api.world import World


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html"),
        ("/assets/softphone.js", "text/javascript"),
        ("/assets/style.css", "text/css"),
        ("/assets/icon.svg", "image/svg+xml"),
        ("/assets/vendor/preact.js", "text/javascript"),
    ],
)
async def test_files_have_their_types_and_validators(gateway: World, path: str, content_type: str) -> None:
    async with gateway.http.get(path, headers={"Accept-Encoding": "identity"}) as response:
        assert (response.status, response.content_type) == (200, content_type)
        assert response.charset == "utf-8"
        assert response.headers["Cache-Control"] == "no-cache"
        tag = response.headers["ETag"]
        policy = response.headers["Content-Security-Policy"]
    for known in (tag, "*", f'"other", W/{tag}'):
        async with gateway.http.get(path, headers={"If-None-Match": known}) as response:
            assert response.status == 304
            assert response.headers["ETag"].removeprefix("W/") == tag
            # Its headers replace those of the browser's copy (RFC 9111, 3.2): a stricter one blanks the page.
            assert response.headers["Content-Security-Policy"] == policy
    async with gateway.http.get(path, headers={"If-None-Match": '"other"'}) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/assets/",
        "/assets/nothing.js",
        "/assets/../index.html",
        "/assets/%2e%2e/index.html",
        "/assets/..%2f..%2fconfig.py",
        "/assets/%2fetc%2fpasswd",
        "/assets/vendor/preact.d.ts",
        "/__init__.py",
        "/index.html",
    ],
)
async def test_nothing_else_is_there(gateway: World, path: str) -> None:
    from yarl import URL

    async with gateway.http.get(URL(gateway.url + path, encoded=True)) as response:
        assert response.status == 404, path
        assert response.content_type == "application/problem+json"
