"""Certificates of those who vouch: fetched from allowed hosts, checked up to an authority, kept for a while.

RFC 8226 for their contents, ATIS-1000074 for the fetching: HTTPS only, no redirects, bounds on size and time.
"""

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification

from telephony_gateway.errors import ConfigError
from telephony_gateway.stir.passport import Refused

TN_AUTH_LIST: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.26")
"""What the holder may vouch for (RFC 8226 9)."""
MAX_CHAIN: Final = 65_536
MAX_KEPT: Final = 256
MAX_AGE: Final = 24 * 3600.0
MIN_AGE: Final = 60.0
FAILURE_AGE: Final = 30.0
MAX_FETCHES: Final = 8

_PLAIN = re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]+)?/[A-Za-z0-9._~%!$&'()*+,;=:@/-]*", re.IGNORECASE)
"""No user, query or fragment."""

Fetch = Callable[[str], Awaitable[tuple[bytes, float]]]
"""The body at a URL, and for how many seconds it may be kept."""


class _Kept(NamedTuple):
    until: float
    found: ec.EllipticCurvePublicKey | Refused


class Certificates:
    """Public keys by URL. What many calls name is fetched once; a failure is kept briefly, too."""

    def __init__(
        self, *, allow: Sequence[str], authorities: Path, fetch: Fetch, clock: Callable[[], float] = time.time
    ) -> None:
        self._allow = [_host_pattern(host) for host in allow]
        self._store = _load_authorities(authorities)
        self._fetch = fetch
        self._clock = clock
        # Whoever calls names the URL: what leads nowhere must not crowd out what is needed.
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._failed: OrderedDict[str, _Kept] = OrderedDict()
        self._running: dict[str, asyncio.Task[_Kept]] = {}

    async def key(self, url: str) -> ec.EllipticCurvePublicKey:
        """The key that a URL's certificate holds; `Refused` says why there is none to trust."""
        kept = self._find(url) or await self._refresh(url)
        if isinstance(kept.found, Refused):
            # Afresh: the traceback of one that is raised again grows with every call.
            raise Refused(kept.found.status, kept.found.reason)
        return kept.found

    def _find(self, url: str) -> _Kept | None:
        for table in (self._kept, self._failed):
            if (kept := table.get(url)) is not None and kept.until > self._clock():
                table.move_to_end(url)
                return kept
        return None

    async def _refresh(self, url: str) -> _Kept:
        self._check_url(url)
        task = self._running.get(url)
        if task is None:
            if len(self._running) >= MAX_FETCHES:
                raise Refused(436, "too many certificates are being fetched")
            task = self._running[url] = asyncio.create_task(self._load(url), name="stir-certificate")
            task.add_done_callback(lambda _: self._running.pop(url, None))
        # Who stops waiting does not stop the others.
        return await asyncio.shield(task)

    def _check_url(self, url: str) -> None:
        """ATIS-1000074 5.3.1, and not a character that two readers of URLs may read in two ways."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port
        except ValueError:
            raise Refused(436, "where the certificate is said to be is no URL") from None
        if parts.scheme != "https" or port not in (None, 443, 8443):
            raise Refused(436, "the certificate is not offered by HTTPS on a usual port")
        if _PLAIN.fullmatch(url) is None:
            raise Refused(436, "the certificate's URL has more than a host, a port and a path")
        if not any(pattern.fullmatch(host) for pattern in self._allow):
            raise Refused(436, f"{host[:64]} is not among the allowed hosts of certificates")

    async def _load(self, url: str) -> _Kept:
        try:
            body, age = await self._fetch(url)
            kept = _Kept(self._clock() + min(max(age, MIN_AGE), MAX_AGE), self._check(body))
            self._failed.pop(url, None)
        except Refused as fault:
            kept = _Kept(self._clock() + FAILURE_AGE, fault)
        table = self._failed if isinstance(kept.found, Refused) else self._kept
        table[url] = kept
        table.move_to_end(url)
        while len(table) > MAX_KEPT:
            table.popitem(last=False)
        return kept

    def _check(self, body: bytes) -> ec.EllipticCurvePublicKey:
        try:
            leaf, *between = x509.load_pem_x509_certificates(body[:MAX_CHAIN])
        except ValueError:
            raise Refused(436, "what was fetched is no PEM certificate") from None
        try:
            leaf.extensions.get_extension_for_oid(TN_AUTH_LIST)
            key = leaf.public_key()
        except x509.ExtensionNotFound:
            raise Refused(437, "the certificate may vouch for no number (RFC 8226 9)") from None
        except (ValueError, x509.DuplicateExtension, UnsupportedAlgorithm) as error:
            raise Refused(437, f"the certificate cannot be read: {error}") from None
        self._verify(leaf, between)
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise Refused(437, "the certificate's key is not for ES256")
        return key

    def _verify(self, leaf: x509.Certificate, between: list[x509.Certificate]) -> None:
        """RFC 8226 5: the chain ends at an authority of ours. Holders have no name to check."""
        policy = (
            verification.PolicyBuilder()
            .store(self._store)
            .time(datetime.fromtimestamp(self._clock(), UTC))
            .extension_policies(
                ca_policy=verification.ExtensionPolicy.webpki_defaults_ca(),
                ee_policy=verification.ExtensionPolicy.permit_all(),
            )
        )
        try:
            policy.build_client_verifier().verify(leaf, between)
        except verification.VerificationError as error:
            raise Refused(437, f"the certificate is not trusted: {error}") from None


def _load_authorities(file: Path) -> verification.Store:
    try:
        return verification.Store(x509.load_pem_x509_certificates(file.read_bytes()))
    except OSError as error:
        raise ConfigError("GATEWAY_CONFIG", f"stir.ca_file {file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(
            "GATEWAY_CONFIG", f"stir.ca_file {file} holds no PEM certificates: {error}"
        ) from None


def _host_pattern(host: str) -> re.Pattern[str]:
    """`certs.example.com`, or `*.example.com` for any host below it."""
    host = host.lower()
    if host.startswith("*."):
        return re.compile(r"[a-z0-9.-]+\." + re.escape(host[2:]))
    return re.compile(re.escape(host))
