"""How far a call may still go, and whether it has been here before.

A back-to-back user agent begins a dialog of its own: Via, Call-ID and tags of the call that came in end
here, so neither RFC 3261 16.3 nor the branch of RFC 5393 4.2 sees a loop through it. What goes through it is
Max-Forwards, which RFC 7332 4 has it take over less one, and headers that nobody on the way understands,
which every proxy passes on as they stand (RFC 3261 16.6). So each forwarded INVITE carries, as RFC 5393 4.2.2
puts it into the branch, a hash of all that the decision where it goes depends on. A call that comes back to
be decided on the very same (a loop) is refused with 482; one that comes back with another number (a spiral: a
carrier that owns the number too) is not.
"""

import hashlib
import secrets
from typing import Final

from telephony_gateway.calls.events import Message

HEADER: Final = "X-Gateway-Passage"
MAX_PASSAGES: Final = 8
"""Of a call that comes back again and again the latest are enough: a loop repeats them."""
USUAL: Final = ("Max-Forwards", "69")
"""Of nearly all calls: they begin with 70 (RFC 3261 8.1.1.6)."""


SECRET: Final = secrets.token_hex(16)
"""Whoever does not know it cannot make a token; the engine does."""


def token(trunk: str, to: str, from_: str) -> str:
    """What the decision depends on, as the engine has it for the calls that it sends on by itself."""
    said = "\0".join((SECRET, trunk, to, from_)).encode("utf-8", "surrogatepass")
    return hashlib.sha256(said).hexdigest()[:16]


def passages(message: Message) -> list[str]:
    """The tokens of earlier passages, the latest last."""
    value = message.header(HEADER)
    if value is None:
        return []
    return [word.strip() for word in value[: 20 * MAX_PASSAGES].split(",")][-MAX_PASSAGES:]


def onward(earlier: list[str], mine: str) -> tuple[str, str]:
    """The header for the way on."""
    return HEADER, ",".join([*earlier, mine][-MAX_PASSAGES:])


def max_forwards(message: Message) -> tuple[str, str] | None:
    """Max-Forwards of the way on: what came, less one; a call with none left never gets here (483)."""
    value = message.header("Max-Forwards")
    if value == "70":
        return USUAL
    if value is None or not value.isdecimal():
        return None
    return "Max-Forwards", str(max(0, min(int(value), 255) - 1))
