"""Ids of calls, legs and sessions: UUIDv7 (RFC 9562 5.7) whose random part names their owner.

    48 bits Unix milliseconds | version 7 | 12 counter | variant | 20 node | 24 start epoch | 18 random

A process that finds a call of its own node with another epoch knows that the call's owner died. The counter
makes ids of one millisecond ascend (RFC 9562 6.2, method 1); when it runs over, the next millisecond is
borrowed.
"""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, SafeUUID

from telephony_gateway.calls.ports import Clock

_NODE_BITS, _EPOCH_BITS, _RANDOM_BITS, _COUNTER_BITS = 20, 24, 18, 12


@dataclass(frozen=True, slots=True)
class Owner:
    """Who made an id: a digest of the node's name, and when its process started (seconds, 24 bits)."""

    node: int
    epoch: int

    @classmethod
    def of(cls, name: str, started: datetime) -> "Owner":
        """The owner that a process with this name and start is."""
        digest = hashlib.blake2b(name.encode(), digest_size=4).digest()
        node = int.from_bytes(digest) >> (32 - _NODE_BITS)
        return cls(node=node, epoch=int(started.timestamp()) & ((1 << _EPOCH_BITS) - 1))

    @classmethod
    def from_id(cls, value: UUID) -> "Owner":
        """The owner that an id names."""
        bits = value.int >> _RANDOM_BITS
        return cls(
            node=(bits >> _EPOCH_BITS) & ((1 << _NODE_BITS) - 1),
            epoch=bits & ((1 << _EPOCH_BITS) - 1),
        )


class RandomBits:
    """Random bits of the operating system, fetched a page at a time: a system call for each id costs more
    than the id.
    """

    def __init__(self, page: int = 4096) -> None:
        self._page = page
        self._bytes = b""
        self._at = 0

    def __call__(self, count: int) -> int:
        """An integer of `count` bits."""
        size = (count + 7) // 8
        if self._at + size > len(self._bytes):
            self._bytes, self._at = secrets.token_bytes(max(self._page, size)), 0
        self._at += size
        return int.from_bytes(self._bytes[self._at - size : self._at]) >> (size * 8 - count)


class IdSource:
    """Makes ids that ascend and never repeat within the process."""

    def __init__(self, owner: Owner, clock: Clock, random_bits: Callable[[int], int] | None = None) -> None:
        self.owner = owner
        self._fixed = 0x7 << 76 | 0b10 << 62
        self._fixed |= owner.node << (_EPOCH_BITS + _RANDOM_BITS) | owner.epoch << _RANDOM_BITS
        self._clock = clock
        self._random_bits = random_bits or RandomBits()
        self._millisecond = 0
        self._counter = 0

    def new(self) -> UUID:
        """The next id."""
        self._advance(int(self._clock.now().timestamp() * 1000))
        value = (self._millisecond & ((1 << 48) - 1)) << 80 | self._counter << 64 | self._fixed
        return _uuid(value | self._random_bits(_RANDOM_BITS))

    def _advance(self, millisecond: int) -> None:
        if millisecond > self._millisecond:
            # Half of the counter's room is random, so that ids of one millisecond are not a plain count.
            self._millisecond, self._counter = millisecond, self._random_bits(_COUNTER_BITS - 1)
        elif self._counter + 1 < 1 << _COUNTER_BITS:
            self._counter += 1
        else:
            self._millisecond, self._counter = self._millisecond + 1, 0


def _uuid(value: int) -> UUID:
    """`UUID(int=value)`, without a look at what else it might be made of: that takes longer than the rest."""
    made = object.__new__(UUID)
    object.__setattr__(made, "int", value)
    object.__setattr__(made, "is_safe", SafeUUID.unknown)
    return made
