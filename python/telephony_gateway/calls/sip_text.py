"""SIP messages as text for people: their start line in a few words, and what nobody may read masked.

Of Authorization, Proxy-Authorization and Authentication-Info nothing stays but who, where and how; of
Identity its parameters; of headers whose name speaks of a secret nothing. In a session description go the
keys of `a=crypto` and `k=` and the ICE password, in any URI the password, in an INFO the digits. Telephone
numbers stay: without them a ladder helps nobody.
"""

import re
from collections.abc import Callable

MASK = "***"
SHOWN = 200
"""Characters of a start line that a summary shows."""

_HEADER = re.compile(r"(?m)^(?P<name>[\w.!%*+`'~-]+)(?P<colon>[ \t]*:[ \t]*)(?P<value>.*(?:\n[ \t]+.*)*)")
_CREDENTIALS = {"authorization", "proxy-authorization", "authentication-info", "proxy-authentication-info"}
_IDENTITY = {"identity", "y"}
_SECRET_NAME = re.compile(r"(?i)token|secret|passw|api-?key|cookie|credential")
_SCHEME = re.compile(r"\s*([\w-]+)\s+(?![\s=])")
_PARAMETER = re.compile(r"([\w-]+)(\s*=\s*)(\"(?:[^\"\\]|\\.)*\"|[^\s,\"]+)")
_PLAIN_PARAMETERS = {
    "username", "realm", "uri", "nonce", "opaque", "algorithm", "qop", "nc", "nextnonce", "userhash",
}  # fmt: skip
_PASSWORD = re.compile(r"(?i)\b(sips?:[^\s:@<>\"]{1,256}):[^\s:@<>\"]*@")
_KEYS = re.compile(
    r"(?im)^(?:(a=crypto:\s*\S+\s+\S+)\s.*|(a=ice-pwd:).*|(k=[^:\r\n]*:).*|(a=key-mgmt:\s*\S+)\s.*)$"
)
_SIGNAL = re.compile(r"(?im)^(\s*(?:signal|digits?|dtmf|d)\s*=\s*)[^\r\n]*")
_DTMF = re.compile(r"(?im)^(?:content-type|c)[ \t]*:[ \t]*application/dtmf[ \t]*(?:;.*)?\r?$")
_HEAD_END = re.compile(r"\r?\n\r?\n")
"""Lines may end in either way, each in its own, as the parser reads them."""
_CSEQ = re.compile(r"(?im)^cseq[ \t]*:\s*\d+\s+(\S+)")


def summary(message: str) -> str:
    """`INVITE sip:bob@example.com`, `200 OK (INVITE)`."""
    line, _, rest = message.partition("\n")
    words = line.strip().split(" ")
    if not words[0].upper().startswith("SIP/"):
        shown = " ".join(words[:-1] if len(words) > 2 else words)
        return _cut(_without_passwords(shown))
    method = _CSEQ.search(_head(rest))
    answered = f" ({method[1]})" if method else ""
    return _cut(" ".join(words[1:]) + answered)


def masked(message: str) -> str:
    """The message without what is secret; all else as it was."""
    start, newline, rest = message.partition("\n")
    head = _head(rest)
    body = rest[len(head) :]
    is_info = start.startswith("INFO ")
    by_content = _DTMF.search(head) is not None
    head = _HEADER.sub(_masked_header, head)
    return _without_passwords(start + newline + head) + _masked_body(body, is_info=is_info, dtmf=by_content)


def _head(rest: str) -> str:
    if rest.startswith(("\r\n", "\n")):
        return ""
    end = _HEAD_END.search(rest)
    return rest[: end.start()] if end else rest


def _masked_header(found: re.Match[str]) -> str:
    name, value = found["name"].lower(), found["value"]
    mask: Callable[[str], str] | None = None
    if name in _CREDENTIALS:
        mask = _masked_credentials
    elif name in _IDENTITY:
        mask = _masked_identity
    elif _SECRET_NAME.search(name):
        mask = _nothing
    if mask is None:
        return found[0]
    end = "\r" if value.endswith("\r") else ""
    return found["name"] + found["colon"] + mask(value.rstrip("\r")) + end


def _nothing(_value: str) -> str:
    return MASK


def _masked_identity(value: str) -> str:
    # The token before the parameters (RFC 8224 4) is signed over numbers and could be played again.
    _, semicolon, parameters = value.partition(";")
    return MASK + semicolon + parameters


def _masked_credentials(value: str) -> str:
    scheme = _SCHEME.match(value)
    if scheme is not None and scheme[1].lower() != "digest":
        return f"{scheme[1]} {MASK}"
    start = scheme.end() if scheme else 0
    # What is no parameter is shown to nobody.
    parameters = [_masked_parameter(found) for found in _PARAMETER.finditer(value, start)]
    return value[:start] + (", ".join(parameters) or MASK)


def _masked_parameter(found: re.Match[str]) -> str:
    if found[1].lower() in _PLAIN_PARAMETERS:
        return found[0]
    quoted = found[3].startswith('"')
    return found[1] + found[2] + (f'"{MASK}"' if quoted else MASK)


def _masked_body(body: str, *, is_info: bool, dtmf: bool) -> str:
    if not is_info:
        return _without_passwords(_KEYS.sub(_without_key, body))
    if dtmf:
        return re.sub(r"[^\s]", "*", body)
    return _SIGNAL.sub(rf"\g<1>{MASK}", body)


def _without_key(found: re.Match[str]) -> str:
    kept = next(group for group in found.groups() if group is not None)
    separator = "" if kept.endswith(":") else " "
    return f"{kept}{separator}{MASK}" + ("\r" if found[0].endswith("\r") else "")


def _without_passwords(text: str) -> str:
    return _PASSWORD.sub(rf"\1:{MASK}@", text)


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
