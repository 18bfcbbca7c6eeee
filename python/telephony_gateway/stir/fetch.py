"""Fetching over HTTPS, with every limit that a stranger's URL needs."""

import ipaddress
import re
import socket
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from telephony_gateway.stir.certificates import MAX_CHAIN
from telephony_gateway.stir.passport import Refused

TIMEOUT: Final = 3.0
_MAX_AGE = re.compile(r"max-age=(\d{1,9})")


class PublicResolver(AbstractResolver):
    """Names lead to public addresses only: a name that is allowed must not open what is behind our own doors
    (DNS rebinding). An address that `allow` names itself is not looked up.
    """

    def __init__(self, resolver: AbstractResolver | None = None) -> None:
        self._resolver = resolver or aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name; `OSError` when none of them is public."""
        found = await self._resolver.resolve(host, port, family)
        public = [one for one in found if ipaddress.ip_address(one["host"].partition("%")[0]).is_global]
        if not public:
            raise OSError(f"{host} has no public address")
        return public

    async def close(self) -> None:
        """Let go of the resolver behind."""
        await self._resolver.close()


class HttpsFetch:
    """One session for all fetches, opened when it is first needed."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, url: str) -> tuple[bytes, float]:
        """The body and its max-age; `Refused` for anything but a small 200."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=8, resolver=PublicResolver())
            timeout = aiohttp.ClientTimeout(total=TIMEOUT)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                if response.status != 200:
                    raise Refused(436, f"the certificate's host answered {response.status}")
                body = await _bounded(response)
                found = _MAX_AGE.search(response.headers.get("Cache-Control", ""))
                return body, float(found[1]) if found else 3600.0
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
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
