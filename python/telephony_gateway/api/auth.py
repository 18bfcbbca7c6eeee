"""API keys: compared as digests in constant time, never kept or logged in clear."""

import hashlib
import hmac
from collections.abc import Iterable

from multidict import CIMultiDictProxy

from telephony_gateway.errors import Unauthorized

MAX_KEY = 512
"""Characters; nobody's key is longer, and hashing what a stranger sends should cost little."""


class Keys:
    """The configured keys. With none configured (development only) every caller is trusted."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys if key]

    @property
    def required(self) -> bool:
        """Whether callers must show a key."""
        return bool(self._digests)

    def match(self, key: str) -> bool:
        """Compare with every key, whatever the outcome of the first ones: time must not tell which fits."""
        if len(key) > MAX_KEY:
            return False
        digest = _digest(key)
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches)

    def check(self, headers: CIMultiDictProxy[str]) -> None:
        """Refuse a request without a valid key."""
        if not self.required:
            return
        key = presented(headers)
        if key is None:
            raise Unauthorized("an API key is needed: Authorization: Bearer KEY, or X-API-Key: KEY")
        if not self.match(key):
            raise Unauthorized("this API key is not known")


def presented(headers: CIMultiDictProxy[str]) -> str | None:
    """Find the key (RFC 6750, 2.1, or X-API-Key); never in the query string, which gets logged."""
    scheme, _, credentials = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    return headers.get("X-API-Key")


def _digest(key: str) -> bytes:
    # surrogateescape: header bytes that are no UTF-8 arrive as surrogates and must not raise here.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
