"""Headers that every answer carries, stamped when it is sent so that refusals and upgrades have them too."""

from aiohttp import web

from telephony_gateway.api.context import RATE_HEADERS, REQUEST_ID
from telephony_gateway.api.middleware.origins import Origins

# The page's own modules and sockets, its microphone and the sound it plays; nothing else, from nowhere else.
PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "media-src 'self' blob: mediastream:",
        "connect-src 'self' ws: wss:",
        "manifest-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
API_POLICY = "default-src 'none'; frame-ancestors 'none'"

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # A softphone without a microphone is a picture: allowed for this origin, everything else is off.
    "Permissions-Policy": "microphone=(self), autoplay=(self), camera=(), display-capture=(), "
    "geolocation=(), midi=(), payment=(), serial=(), usb=()",
}

SERVER = "telephony-gateway"
"""Instead of the versions of Python and aiohttp, which help only those who look for holes."""

STRICT_TRANSPORT = "max-age=31536000"
"""Production only: TLS ends at a proxy, and over plain HTTP browsers ignore it (RFC 6797, 8.1)."""


class ResponseHeaders:
    """The signal handler that stamps them."""

    def __init__(self, origins: Origins, *, production: bool) -> None:
        self._origins = origins
        self._production = production

    async def stamp(self, request: web.Request, response: web.StreamResponse) -> None:
        """Complete the headers of one answer; what a handler set itself stays."""
        headers = response.headers
        headers["Server"] = SERVER
        for name, value in ALWAYS.items():
            headers.setdefault(name, value)
        headers.setdefault("Content-Security-Policy", API_POLICY)
        headers.setdefault("Cache-Control", "no-store")
        if self._production:
            headers.setdefault("Strict-Transport-Security", STRICT_TRANSPORT)
        if request_id := request.get(REQUEST_ID):
            headers["X-Request-ID"] = request_id
        headers.update(request.get(RATE_HEADERS) or {})
        self._origins.stamp(request, response)
