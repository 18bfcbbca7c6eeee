"""Digest by Python's own hashes (RFC 7616 3.4, RFC 8760): what the gateway's answers are checked against."""

import hashlib
import re

ALGORITHMS = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}


def hashed(algorithm: str, *parts: str) -> str:
    """H of some parts with colons between them."""
    joined = ":".join(parts).encode()
    return hashlib.new(ALGORITHMS[algorithm], joined, usedforsecurity=False).hexdigest()


def fields(credentials: str) -> dict[str, str]:
    """The parameters of one challenge, or of one set of credentials."""
    return {
        name: quoted or bare
        for name, quoted, bare in re.findall(r'(\w+)=(?:"([^"]*)"|([^,\s]+))', credentials)
    }


def response(given: dict[str, str], password: str, method: str, body: str = "") -> str:
    """What `response` must be, whatever the other parameters are."""
    algorithm = given.get("algorithm", "MD5")
    ha1 = hashed(algorithm, given["username"], given["realm"], password)
    protected = [hashed(algorithm, body)] if given.get("qop") == "auth-int" else []
    ha2 = hashed(algorithm, method, given["uri"], *protected)
    counted = [given[name] for name in ("nc", "cnonce", "qop")] if "qop" in given else []
    return hashed(algorithm, ha1, given["nonce"], *counted, ha2)
