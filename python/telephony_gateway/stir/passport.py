"""PASSporTs (RFC 8225) of the shaken kind (RFC 8588) and the Identity header that carries them (RFC 8224)."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal
from urllib.parse import unquote

import msgspec

Attestation = Literal["A", "B", "C"]

MAX_HEADER: Final = 4096
"""Far above what carriers send: some 600 bytes."""
_BASE64 = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_PARAM = re.compile(r"\s*;\s*([A-Za-z0-9.!%*_+`'~-]+)\s*=\s*(\"[^\"]*\"|<[^>]*>|[^\s;\"<>]+)")
_SEPARATORS = re.compile(r"[\s().\-]")
_NUMBER = re.compile(r"\+?[0-9*#A-Da-d]+")


class Refused(Exception):
    """An Identity header that does not hold, with the status that says so (RFC 8224 6.2.2)."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Origin(msgspec.Struct, frozen=True):
    """Who calls: a telephone number or a URI (RFC 8225 5.2.1)."""

    tn: str | None = None
    uri: str | None = None


class Destination(msgspec.Struct, frozen=True):
    """Who is called."""

    tn: tuple[str, ...] = ()
    uri: tuple[str, ...] = ()


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a shaken PASSporT says (RFC 8588 5)."""

    attest: Attestation
    dest: Destination
    iat: int
    orig: Origin
    origid: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class JoseHeader(msgspec.Struct, frozen=True, kw_only=True):
    """How it is signed (RFC 8225 4)."""

    alg: Literal["ES256"]
    ppt: Literal["shaken"]
    typ: Literal["passport"]
    x5u: str


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The Identity header, taken apart: the token still has to be verified."""

    token: str
    info: str
    header: JoseHeader


def number_of(user: str) -> str | None:
    """The canonical form of a telephone number (RFC 8224 8.3), or None for what is no number."""
    plain = _SEPARATORS.sub("", unquote(user).partition(";")[0])
    if not _NUMBER.fullmatch(plain):
        return None
    return plain.removeprefix("+").upper()


def write_identity(token: str, info: str) -> str:
    """The value of an Identity header (RFC 8224 4, RFC 8588 6)."""
    return f"{token};info=<{info}>;alg=ES256;ppt=shaken"


def read_identity(value: str) -> Identity:
    """Take an Identity header apart; its parameters and its token must agree (RFC 8224 4.1, 6.2)."""
    if len(value) > MAX_HEADER:
        raise Refused(438, "the Identity header is too long")
    token, _, rest = value.partition(";")
    params = {name.lower(): _bare(text) for name, text in _PARAM.findall(";" + rest)}
    token = token.strip()
    if not _BASE64.fullmatch(token):
        raise Refused(438, "the Identity header holds no full-form PASSporT")
    if params.get("ppt", "shaken") != "shaken" or params.get("alg", "ES256") != "ES256":
        raise Refused(437, "only ES256 PASSporTs of the kind shaken are understood")
    info = params.get("info", "")
    header = _decoded(token.partition(".")[0], JoseHeader)
    if header.x5u != info:
        raise Refused(436, "info of the Identity header and x5u of its PASSporT differ")
    return Identity(token=token, info=info, header=header)


def read_claims(payload: Any) -> Claims:
    """The verified payload, in its shape."""
    try:
        return msgspec.convert(payload, Claims)
    except msgspec.ValidationError as error:
        raise Refused(438, f"the PASSporT is malformed: {error}") from None


def check_claims(claims: Claims, caller: str, callees: Sequence[str], now: float, freshness: float) -> None:
    """Whether a PASSporT speaks of this call and of now (RFC 8224 6.2.1, 6.2.2)."""
    if abs(now - claims.iat) > freshness:
        raise Refused(403, f"stale: the PASSporT is {now - claims.iat:.0f} s old")
    caller_number = number_of(caller)
    if caller_number is None or claims.orig.tn is None or number_of(claims.orig.tn) != caller_number:
        raise Refused(438, "the PASSporT vouches for another caller")
    vouched = {number_of(number) for number in claims.dest.tn}
    if not vouched & {number for callee in callees if (number := number_of(callee))}:
        raise Refused(438, "the PASSporT was made for another callee")


def _bare(text: str) -> str:
    return text[1:-1] if text[:1] in ('"', "<") else text


def _decoded(part: str, shape: type[JoseHeader]) -> JoseHeader:
    import base64

    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        return msgspec.json.decode(raw, type=shape)
    except (ValueError, msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Refused(437, f"the PASSporT's header is not understood: {error}") from None
