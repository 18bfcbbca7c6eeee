"""The page and its files, from the package folder `web/`: read once, revalidated by ETag."""

import hashlib
import mimetypes
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath

from aiohttp import ETag, web

from telephony_gateway.api.headers import PAGE_POLICY

CONTENT_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".webmanifest": "application/manifest+json",
}
"""Said here: a system's MIME table may call a module text/plain, and nosniff would then stop the page."""

PRIVATE = frozenset({".py", ".pyc", ".ts"})
"""Kept beside the page for the tools, not for visitors."""

TEXTUAL = frozenset({"application/json", "application/manifest+json", "image/svg+xml"})


@dataclass(frozen=True)
class Asset:
    """One file as it is served."""

    body: bytes
    content_type: str
    etag: str

    @classmethod
    def of(cls, name: str, body: bytes) -> "Asset":
        """Work out type and validator."""
        suffix = PurePosixPath(name).suffix.lower()
        guessed = mimetypes.guess_type(name)[0] or "application/octet-stream"
        digest = hashlib.sha256(body).hexdigest()[:32]
        return cls(body=body, content_type=CONTENT_TYPES.get(suffix, guessed), etag=digest)


class Pages:
    """All files of the page by their name; what is not in the table does not exist, so no path can escape."""

    def __init__(self, root: Traversable | None = None) -> None:
        folder = root if root is not None else files("telephony_gateway") / "web"
        self._assets = {
            name: Asset.of(name, item.read_bytes())
            for name, item in _walk(folder, "")
            if PurePosixPath(name).suffix not in PRIVATE
        }

    async def index(self, request: web.Request) -> web.Response:
        """`GET /`: the softphone."""
        return self._serve(request, "index.html")

    async def asset(self, request: web.Request) -> web.Response:
        """`GET /assets/...`: its files."""
        return self._serve(request, f"assets/{request.match_info['name']}")

    def _serve(self, request: web.Request, name: str) -> web.Response:
        asset = self._assets.get(name)
        if asset is None:
            raise web.HTTPNotFound
        response = web.Response()
        response.etag = asset.etag
        # Names carry no version: keep a copy, but ask whether it is still good.
        response.headers["Cache-Control"] = "no-cache"
        if asset.content_type == "text/html":
            # With a 304 too: its headers replace those of the browser's copy (RFC 9111, 3.2).
            response.headers["Content-Security-Policy"] = PAGE_POLICY
        if _fresh(request, asset):
            response.set_status(304)
            return response
        response.body = asset.body
        response.content_type = asset.content_type
        if asset.content_type.startswith("text/") or asset.content_type in TEXTUAL:
            response.charset = "utf-8"
        return response


def _fresh(request: web.Request, asset: Asset) -> bool:
    # Weak comparison (RFC 9110, 13.1.2): the gzip form carries the same tag, weakened.
    tags: tuple[ETag, ...] = request.if_none_match or ()
    return any(tag.value in (asset.etag, "*") for tag in tags)


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, Traversable]]:
    if not folder.is_dir():
        return []
    found: list[tuple[str, Traversable]] = []
    for item in folder.iterdir():
        name = f"{prefix}{item.name}"
        if item.is_dir():
            found.extend(_walk(item, f"{name}/"))
        else:
            found.append((name, item))
    return found
