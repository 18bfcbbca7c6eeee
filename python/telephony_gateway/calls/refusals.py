"""Why calls were refused: what the engine refused at its door, and what call control refused after it.

The latest of both are kept; a refusal says which rule was tested, what was seen and what was sent.
"""

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import msgspec

from telephony_gateway.calls.events import Incoming
from telephony_gateway.calls.model import Ending
from telephony_gateway.errors import GatewayError, LoopDetected, Overloaded, RateLimited

KEPT: Final = 1000
MAX_REQUEST: Final = 128


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

    def turned_away(
        self, at: datetime, event: Incoming, ending: Ending, error: GatewayError | None = None
    ) -> None:
        """Keep why a call that came in was not sent on: a limit or a loop, else its route."""
        ours = isinstance(error, Overloaded | RateLimited | LoopDetected)
        rule = error.code if error is not None and ours else "route"
        self.refused(at, event, status=ending.sip_response_code, rule=rule, reason=ending.reason or "")

    def refused(self, at: datetime, event: Incoming, *, status: int | None, rule: str, reason: str) -> None:
        """Keep why a call that came in was refused."""
        self.note(
            Refusal(
                at=at,
                rule=rule,
                status=status,
                source=event.source[0],
                port=event.source[1],
                trunk=event.trunk or None,
                request=f"INVITE {event.request_uri}"[:MAX_REQUEST],
                reason=reason,
            )
        )

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
