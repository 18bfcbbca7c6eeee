"""Fetching over HTTPS, with every limit that a stranger's URL needs."""

import re
from typing import Final

import aiohttp

from telephony_gateway.stir.certificates import MAX_CHAIN
from telephony_gateway.stir.passport import Refused

TIMEOUT: Final = 3.0
_MAX_AGE = re.compile(r"max-age=(\d{1,9})")


class HttpsFetch:
    """One session for all fetches, opened when it is first needed."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, url: str) -> tuple[bytes, float]:
        """The body and its max-age; `Refused` for anything but a small 200."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=TIMEOUT), connector=aiohttp.TCPConnector(limit=8)
            )
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                if response.status != 200:
                    raise Refused(436, f"the certificate's host answered {response.status}")
                body = await _bounded(response)
                found = _MAX_AGE.search(response.headers.get("Cache-Control", ""))
                return body, float(found[1]) if found else 3600.0
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            raise Refused(436, f"the certificate was not fetched: {error!r:.200}") from None

    async def close(self) -> None:
        """Let go of connections."""
        if self._session is not None:
            await self._session.close()


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(8192):
        body += chunk
        if len(body) > MAX_CHAIN:
            raise Refused(436, "the certificate chain is too large")
    return bytes(body)
