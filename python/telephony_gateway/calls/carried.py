"""Headers that go through: from an INVITE to the API and to the far side, by allow-lists of trunks."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from telephony_gateway.calls.events import Message
from telephony_gateway.calls.trunks import OURS
from telephony_gateway.errors import FieldError

MAX_HEADERS: Final = 32
MAX_NAME: Final = 64
MAX_VALUE: Final = 256

# What frames, routes, authenticates or describes a message is each leg's own, whatever a list names.
_NEVER: Final = OURS | {
    "i", "f", "t", "v", "m", "l", "c", "e", "k", "s", "r", "b", "x", "u", "o", "a", "j", "d", "y", "n",
    "accept", "accept-contact", "accept-encoding", "accept-language", "allow", "allow-events", "date",
    "authentication-info", "content-disposition", "content-encoding", "content-language", "diversion",
    "event", "expires", "history-info", "identity-info", "info-package", "join", "mime-version",
    "min-expires", "p-preferred-identity", "path", "reason", "recv-info", "refer-sub", "referred-by",
    "reject-contact", "remote-party-id", "request-disposition", "retry-after", "security-client",
    "security-server", "security-verify", "server", "service-route", "sip-etag", "sip-if-match",
    "subscription-state", "target-dialog", "timestamp", "unsupported", "user-agent", "warning",
    "x-gateway-passage", "max-breadth",
}  # fmt: skip
_TOKEN = re.compile(r"[A-Za-z0-9!%'`~_.+-]+")
_VALUE = re.compile(r"[^\x00-\x1f\x7f]+")


def carried(message: Message, patterns: Sequence[str]) -> dict[str, str]:
    """The headers of an INVITE that a list names, as many and as long as may be; equal names on one line."""
    found: dict[str, str] = {}
    if not patterns:
        return found
    for name, value in message.headers():
        if not value or not allowed(name, patterns):
            continue
        known = next((k for k in found if k.lower() == name.lower()), None)
        line = value if known is None else f"{found[known]}, {value}"
        if len(line.encode()) <= MAX_VALUE and (known is not None or len(found) < MAX_HEADERS):
            found[known or name] = line
    return found


def allowed(name: str, patterns: Iterable[str]) -> bool:
    """Whether a list names the header: whole, or by its beginning and `*`."""
    lower = name.lower()
    return lower not in _NEVER and len(name) <= MAX_NAME and any(_fits(lower, p.lower()) for p in patterns)


def settable(name: str, patterns: Iterable[str] = ()) -> bool:
    """Whether whoever makes a call may set the header: `X-`, or what the trunk's list names."""
    return allowed(name, ["x-*", *patterns])


def faults(headers: Mapping[str, str]) -> Iterator[FieldError]:
    """What is wrong with headers for a call to be made; which of them the trunk takes is asked later."""
    if len(headers) > MAX_HEADERS:
        yield "headers", f"must be at most {MAX_HEADERS}"
    if len({name.lower() for name in headers}) < len(headers):
        yield "headers", "has a name twice"
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or len(name) > MAX_NAME:
            yield f"headers.{name[:MAX_NAME]}", f"must be a header name of up to {MAX_NAME} characters"
        if not _VALUE.fullmatch(value) or len(value.encode()) > MAX_VALUE:
            yield f"headers.{name[:MAX_NAME]}", f"must be 1 to {MAX_VALUE} bytes without control characters"


def _fits(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
