"""What may not be read in a log or a trace: phone numbers and secrets.

Of a phone number stay the country's prefix and the last two digits; of a token, a key or a password stays
nothing. Works on any value, by the key it stands under and by what it looks like.
"""

import re
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any, Literal

MASK = "***"
_DEPTH = 6

# Names of keys whose whole value is a secret.
_SECRET_KEY = re.compile(
    r"(?i)token|secret|passw|authorization|api_?-?key|apikey|cookie|credential|private_key"
)
# Ids and measures: long runs of digits there are no phone numbers.
_PLAIN_KEYS = frozenset(
    {
        "call_id",
        "duration",
        "event",
        "id",
        "latency",
        "leg",
        "level",
        "logger",
        "pid",
        "request_id",
        "session_id",
        "sip_call_id",
        "timestamp",
        "version",
    }
)

_SECRETS = re.compile(
    r"""(?ix)
    (?P<scheme>\b(?:bearer|basic)\s+)[\w.~+/=-]+  # Authorization: Bearer ...
    | (?P<name>\b(?:access_token|token|api_?key|x-api-key|key|secret|password)["']?\s*[=:]\s*["']?)[^\s&"',;]+
    | (?P<user>\b[a-z][a-z0-9+.-]*://[^\s/:@]*:)[^\s/@]+(?=@)  # scheme://user:password@
    """
)
# Bare digits only where no letter, dot or dash touches them: not inside UUIDs, fractions, dates or addresses.
_PHONES = re.compile(
    r"""(?x)
    (?<![\w.])\+\d(?:[\d().\s-]{5,18})\d           # +7 (495) 123-45-67
    | (?<=[:/]) [\d][\d().-]{5,18}\d (?=@)         # sip:8-495-123-45-67@
    | (?<![\w.+-])\d{7,15}(?![\w-]|\.\d)           # 74951234567
    """
)
_DIGITS_RUN = re.compile(r"\d[\d().\s-]{5,}\d")
_TWO_DIGIT_COUNTRIES = (
    "20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 "
    "81 82 84 86 90 91 92 93 94 95 98"
)
_NATIONAL_LENGTH = 10


def mask_phone(number: str) -> str:
    """`+74951234567` becomes `+7********67`; a national number keeps its last two digits only."""
    digits = [character for character in number if character.isdigit()]
    international = number.startswith("+") or len(digits) > _NATIONAL_LENGTH
    shown = _country_length("".join(digits[:3])) if international else 0
    masked = "".join(digits[:shown]) + "*" * (len(digits) - shown - 2) + "".join(digits[-2:])
    return f"+{masked}" if number.startswith("+") else masked


def _country_length(start: str) -> int:
    """ITU-T E.164: zones 1 and 7 have one digit, some countries two, all others three."""
    if start[:1] in ("1", "7"):
        return 1
    return 2 if start[:2] in _TWO_DIGIT_COUNTRIES else 3


def mask_text(text: str) -> str:
    """The text with its phone numbers and secrets masked."""
    if "=" in text or ":" in text or " " in text:
        text = _SECRETS.sub(_without_secret, text)
    if _DIGITS_RUN.search(text) is None:
        return text
    return _PHONES.sub(lambda found: mask_phone(found[0]), text)


def _without_secret(found: re.Match[str]) -> str:
    return (found["scheme"] or found["name"] or found["user"]) + MASK


def mask_value(key: str, value: Any, depth: int = 0) -> Any:
    """The value that may be shown under that key."""
    kind = _kind_of(key)
    if kind == "plain" or value is None:
        return value
    if kind == "secret":
        return value if isinstance(value, bool | float) else MASK
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, int | float):
        return value
    return _mask_other(key, value, depth)


@lru_cache(maxsize=1024)
def _kind_of(key: str) -> Literal["plain", "secret", "any"]:
    if key in _PLAIN_KEYS:
        return "plain"
    return "secret" if _SECRET_KEY.search(key) else "any"


def _mask_other(key: str, value: Any, depth: int) -> Any:
    if depth >= _DEPTH:
        return MASK
    if isinstance(value, Mapping):
        return {name: mask_value(str(name), inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [mask_value(key, inner, depth + 1) for inner in value]
    if isinstance(value, bytes | bytearray):
        return mask_text(value.decode(errors="replace"))
    return mask_text(str(value))


def mask_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The structlog processor: the last before the renderer."""
    for key, value in event.items():
        if type(value) is str and key == "event":
            event[key] = mask_text(value)
        elif not key.startswith("_"):
            event[key] = mask_value(key, value)
    return event
