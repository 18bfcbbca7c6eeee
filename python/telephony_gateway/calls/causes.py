"""Causes of two worlds: SIP statuses, Q.850 values, and the Reason header that carries both (RFC 3398, 3326).

What a peer says is passed on as it stands; a mapping stands in only where a peer said nothing.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from telephony_gateway.calls.model import HangupCause

NORMAL_UNSPECIFIED: Final = 31

# RFC 3398 8.2.6.1; 603 and 6xx as their nearest of 4xx, what is not there is "normal, unspecified".
Q850_BY_STATUS: Final[Mapping[int, int]] = {
    400: 41, 401: 21, 402: 21, 403: 21, 404: 1, 405: 63, 406: 79, 407: 21, 408: 102, 410: 22, 413: 127,
    414: 127, 415: 79, 416: 127, 420: 127, 421: 127, 423: 127, 480: 18, 481: 41, 482: 25, 483: 25, 484: 28,
    485: 1, 486: 17, 500: 41, 501: 79, 502: 38, 503: 41, 504: 102, 505: 127, 513: 127, 600: 17, 603: 21,
    604: 1, 607: 21, 608: 21,
}  # fmt: skip

# RFC 3398 7.2.4.1.
STATUS_BY_Q850: Final[Mapping[int, int]] = {
    1: 404, 2: 404, 3: 404, 17: 486, 18: 408, 19: 480, 20: 480, 21: 403, 22: 410, 23: 410, 26: 404, 27: 502,
    28: 484, 29: 501, 31: 480, 34: 503, 38: 503, 41: 503, 42: 503, 47: 503, 55: 403, 57: 403, 58: 503,
    65: 488, 70: 488, 79: 501, 87: 403, 88: 503, 102: 504, 111: 500, 127: 500,
}  # fmt: skip

# What a Q.850 value says where the SIP status says nothing (Q.850 2.2.7).
CAUSE_BY_Q850: Final[Mapping[int, HangupCause]] = {
    1: "not_found", 2: "not_found", 3: "not_found", 17: "user_busy", 18: "timeout", 19: "timeout",
    20: "timeout", 21: "call_rejected", 22: "not_found", 28: "not_found", 102: "timeout",
}  # fmt: skip

_VALUE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_CAUSE = re.compile(r";\s*cause\s*=\s*(\d{1,3})\s*(?:;|$)", re.IGNORECASE)


def q850_of(reasons: str) -> int | None:
    """The Q.850 value that Reason values name, if one does."""
    return next((cause for protocol, cause in _causes(reasons) if protocol == "q.850" and cause < 128), None)


def q850_of_status(status: int) -> int:
    """What a final response other than 2xx means in Q.850."""
    return Q850_BY_STATUS.get(status, NORMAL_UNSPECIFIED)


def _causes(reasons: str) -> Iterator[tuple[str, int]]:
    for value in _VALUE.findall(reasons):
        # Only the syntax counts: a quoted text may hold anything.
        bare = _QUOTED.sub('""', value)
        if found := _CAUSE.search(bare):
            yield bare.partition(";")[0].strip().lower(), int(found[1])
