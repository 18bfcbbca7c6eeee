"""gzip for what is worth it.

It must be a middleware: `enable_compression` called while a response is being prepared silently does nothing.
"""

from aiohttp import web
from aiohttp.typedefs import Handler

THRESHOLD = 1024
"""Bytes; below it the gzip header and the work cost more than they save."""

COMPRESSIBLE = frozenset(
    {
        "application/javascript",
        "application/json",
        "application/manifest+json",
        "application/openapi+json",
        "application/problem+json",
        "image/svg+xml",
        "text/css",
        "text/html",
        "text/javascript",
        "text/plain",
    }
)


@web.middleware
async def compress(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Compress a complete body over the threshold; streams, WebSockets and ranges stay as they are."""
    response = await handler(request)
    if not isinstance(response, web.Response) or response.content_type not in COMPRESSIBLE:
        return response
    response.headers.add("Vary", "Accept-Encoding")
    if _worth_it(response) and accepts_gzip(request.headers.get("Accept-Encoding", "")):
        response.enable_compression(web.ContentCoding.gzip)
        _weaken_etag(response)
    return response


def _worth_it(response: web.Response) -> bool:
    body = response.body
    return (
        isinstance(body, bytes | bytearray)
        and len(body) > THRESHOLD
        and response.status not in (204, 206, 304)
        and "Content-Encoding" not in response.headers
    )


def _weaken_etag(response: web.Response) -> None:
    # The gzip bytes are another representation: a strong validator may not cover both (RFC 9110, 8.8.1).
    if (etag := response.headers.get("ETag")) and not etag.startswith("W/"):
        response.headers["ETag"] = f"W/{etag}"


def accepts_gzip(header: str) -> bool:
    """Read Accept-Encoding (RFC 9110, 12.5.3): gzip, or `*` where it is not named, weighing above 0."""
    weights: dict[str, bool] = {}
    for item in header.split(","):
        coding, _, parameters = item.partition(";")
        weights[coding.strip().lower()] = _positive(parameters)
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", False)))


def _positive(parameters: str) -> bool:
    name, _, value = parameters.strip().partition("=")
    if name.strip().lower() != "q":
        return True
    try:
        return float(value) > 0
    except ValueError:
        return False
