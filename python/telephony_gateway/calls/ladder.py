"""The ladder of a call: its SIP messages in order, masked for whoever may see calls.

The engine knows legs by number and keeps their messages as they passed; which legs were a call's is kept
here, with the call while it runs, and after that as long as the engine can still know them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from telephony_gateway.calls.events import LegId
from telephony_gateway.calls.sip_text import masked, summary

CALLS_PER_MIB = 256
"""Calls that are over are remembered for each MiB of messages: one of two legs says some 8 KiB."""

Numbers = Sequence[tuple[LegId, UUID]]
"""The engine's numbers of a call's SIP legs, with our ids."""


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it passed."""

    at: datetime
    leg: LegId
    sent: bool
    transport: str
    local: str
    remote: str
    message: bytes


class Rungs(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine knows of some legs, in order; `truncated`: there was more."""

    messages: Sequence[Rung] = ()
    truncated: bool = False


class SipMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a call."""

    at: datetime
    direction: Literal["in", "out"]
    leg: UUID
    transport: str
    local: str
    remote: str
    summary: str
    message: str
    retransmissions: tuple[datetime, ...] = ()


class Ladder(msgspec.Struct, frozen=True, kw_only=True):
    """A call's SIP messages."""

    items: tuple[SipMessage, ...]
    truncated: bool = False


class PastLegs:
    """The legs of calls that are over: the latest of them. They are put down for every call and seldom asked
    for, so they are a queue, whose room stays the same, and not a table, which is made anew as calls go by.
    """

    def __init__(self, memory: int) -> None:
        self._kept: deque[tuple[int, Numbers]] = deque(maxlen=memory * CALLS_PER_MIB)

    def keep(self, call_id: UUID, numbers: Numbers) -> None:
        """Remember a call's legs."""
        if numbers:
            self._kept.append((call_id.int, numbers))

    def of(self, call_id: UUID) -> Numbers | None:
        """Its legs, if they are still remembered."""
        wanted = call_id.int
        return next((numbers for known, numbers in reversed(self._kept) if known == wanted), None)


def ladder(numbers: Numbers, read: Callable[[Sequence[LegId]], Rungs]) -> Ladder:
    """Ask the engine, and make of what it knows something for people."""
    ids = dict(numbers)
    rungs = read(list(ids))
    return Ladder(items=tuple(_folded(rungs.messages, ids)), truncated=rungs.truncated)


def _folded(rungs: Iterable[Rung], ids: dict[LegId, UUID]) -> list[SipMessage]:
    """The same message on the same way once more is a retransmission of the first."""
    first: dict[tuple[object, ...], list[Rung]] = {}
    for rung in rungs:
        key = (rung.sent, rung.leg, rung.transport, rung.local, rung.remote, rung.message)
        first.setdefault(key, []).append(rung)
    return [_shown(same[0], same[1:], ids) for same in first.values()]


def _shown(rung: Rung, again: Sequence[Rung], ids: dict[LegId, UUID]) -> SipMessage:
    text = rung.message.decode(errors="replace")
    return SipMessage(
        at=rung.at,
        direction="out" if rung.sent else "in",
        leg=ids[rung.leg],
        transport=rung.transport,
        local=rung.local,
        remote=rung.remote,
        summary=summary(text),
        message=masked(text),
        retransmissions=tuple(repeated.at for repeated in again),
    )


def as_text(told: Ladder) -> str:
    """The ladder as one text: a line for each message, and the message."""
    parts = [_paragraph(item) for item in told.items]
    if told.truncated:
        parts.insert(0, "(there was more than is still kept)\n")
    return "\n".join(parts)


def _paragraph(item: SipMessage) -> str:
    arrow = "->" if item.direction == "out" else "<-"
    again = f", again {len(item.retransmissions)} times" if item.retransmissions else ""
    head = f"{item.at.isoformat()} {item.local} {arrow} {item.remote} {item.transport} leg {item.leg}{again}"
    return f"--- {head}\n{item.message.replace(chr(13), '').rstrip()}\n"
