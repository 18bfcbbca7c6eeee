"""Why calls were refused: what the engine refused at its door, and what call control refused after it.

The latest of both are kept; a refusal says which rule was tested, what was seen and what was sent.
"""

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import msgspec

KEPT: Final = 1000


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """One of them; `status` is None for what was dropped without an answer."""

    at: datetime
    rule: str
    status: int | None
    source: str
    port: int
    trunk: str | None
    request: str
    reason: str


class Refusals:
    """Both lists as one."""

    def __init__(self, engine: Callable[[], Sequence[Refusal]]) -> None:
        self._engine = engine
        self._own: deque[Refusal] = deque(maxlen=KEPT)

    def note(self, refusal: Refusal) -> None:
        """Keep a refusal of call control."""
        self._own.append(refusal)

    def latest(
        self, *, source: str | None = None, rule: str | None = None, limit: int = 100
    ) -> list[Refusal]:
        """The newest first; only those of an address, or by a rule, where one is named."""
        found = [
            refusal
            for refusal in (*self._own, *self._engine())
            if source in (None, refusal.source) and rule in (None, refusal.rule)
        ]
        found.sort(key=lambda refusal: refusal.at, reverse=True)
        return found[:limit]
