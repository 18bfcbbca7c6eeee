"""The little that call control needs to know of SIP URIs (RFC 3261 19.1); the Rust core parses the rest."""

import functools
import re
from urllib.parse import unquote

import msgspec

MAX_URI = 256
MAX_USER = 64

_SIP = re.compile(
    r"(?P<scheme>sips?):(?:(?P<user>[^@\s<>\";?:]+(?:;[^@\s<>\"?:]*)?)(?::[^@\s<>\"]*)?@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(?P<port>\d{1,5}))?(?P<rest>[;?][^\s<>\"]*)?",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PLAIN = re.compile(r"[A-Za-z0-9\-_.!~*'()&=+$,/]*")
_DIALLABLE = re.compile(r"[A-Za-z0-9+*#._-]+")


class SipUri(msgspec.Struct, frozen=True, kw_only=True):
    """The user and host part of a `sip:` or `sips:` URI."""

    user: str
    host: str
    port: int | None = None
    secure: bool = False
    """`sips:`: TLS all the way."""

    @property
    def scheme(self) -> str:
        """`sip` or `sips`."""
        return "sips" if self.secure else "sip"

    @property
    def effective_port(self) -> int:
        """The port, or that of the scheme (RFC 3261 19.1.2)."""
        return self.port or (5061 if self.secure else 5060)

    @property
    def bare_host(self) -> str:
        """The host without the brackets of an IPv6 address, in lower case."""
        return self.host.strip("[]").lower()

    @property
    def host_port(self) -> str:
        """As it stands after the `@`."""
        return self.host if self.port is None else f"{self.host}:{self.port}"


@functools.lru_cache(256)
def parse_sip(uri: str) -> SipUri | None:
    """The parts of a `sip:` or `sips:` URI, or None if it is not one that can be dialled."""
    found = _SIP.fullmatch(uri) if len(uri) <= MAX_URI else None
    if found is None or int(found["port"] or 0) > 65535 or _CONTROL.search(uri):
        return None
    user = unquote((found["user"] or "").partition(";")[0])
    port = int(found["port"]) if found["port"] else None
    return SipUri(user=user, host=found["host"], port=port, secure=found["scheme"].lower() == "sips")


def user_of(uri: str) -> str:
    """The number or name in a `sip:`, `sips:` or `tel:` URI (RFC 3966), cut to a bounded length."""
    scheme, _, rest = uri.partition(":")
    if scheme.lower() == "tel":
        return unquote(rest.partition(";")[0])[:MAX_USER]
    if "@" not in rest:
        return ""
    user = rest.rpartition("@")[0].partition(";")[0].partition(":")[0]
    return unquote(user)[:MAX_USER]


def is_diallable(number: str) -> bool:
    """Whether it may stand as the user part of a number to dial."""
    return len(number) <= MAX_USER and _DIALLABLE.fullmatch(number) is not None


def escape_user(user: str) -> str:
    """As a SIP user part: `#` is not allowed there unescaped (RFC 3261 25.1)."""
    if _PLAIN.fullmatch(user):
        return user
    return "".join(c if _PLAIN.fullmatch(c) else _percent(c) for c in user)


def _percent(character: str) -> str:
    return "".join(f"%{octet:02X}" for octet in character.encode())
