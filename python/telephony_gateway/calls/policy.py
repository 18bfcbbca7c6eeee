"""The numbers and names that call control is told at the start."""

from datetime import timedelta
from typing import Any

import msgspec

from telephony_gateway.calls.routing import ALL_CODECS


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and addresses. Times are seconds."""

    max_calls: int = 10_000
    ring_timeout: float = 60.0
    unattended_timeout: float = 60.0
    """How long an answered outbound call may wait for its browser."""
    linger: float = 1.0
    """How long a call that is over stays at hand; then the cache has it. What stays longer is cold then."""
    leg_farewell: float = 35.0
    """How long to wait for the last leg of a call that is over: 64*T1 and a little (RFC 3261 17.1.1.2)."""
    ladder_memory: int = 32
    """MiB that the engine may keep of calls' SIP messages; 0: none."""
    max_notes: int = 1_000
    """Events of digits and holds kept per call; the tones and changes themselves always pass."""
    codecs: tuple[str, ...] = ALL_CODECS
    from_host: str | None = None
    """The host in our From; None: the host that is dialled."""
    ws_url: str = "ws://localhost:3000/ws"
    ice_servers: tuple[dict[str, Any], ...] = ()
    authentication: bool = False
    """Whether a browser needs a key or a token to join a call."""
    session_ttl: timedelta = timedelta(hours=1)
    idempotency_ttl: timedelta = timedelta(hours=24)
