"""The one tree of errors: every fault that a caller of the gateway may see has a stable word here.

This file knows nothing of HTTP or WebSocket; `api/middleware.py` alone translates. Only `engine.py` turns the
extension's `EngineError` into one of these.
"""

from collections.abc import Sequence
from typing import ClassVar

FieldError = tuple[str, str]
"""Where a value is wrong (a path such as `match.to`) and what is wrong with it."""


class GatewayError(Exception):
    """A fault with a stable, machine-readable word (`code`) and a message that says what to do."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class ConfigError(GatewayError):
    """The gateway cannot start as it is configured: names the setting at fault and the way to mend it."""

    code = "config"

    def __init__(self, setting: str, fix: str) -> None:
        super().__init__(f"{setting}: {fix}")
        self.setting = setting
        self.fix = fix


class NotFound(GatewayError):
    """Nothing has that name or id."""

    code = "not_found"


class CallNotFound(NotFound):
    """No call has that id."""

    code = "call_not_found"

    def __init__(self, call_id: object) -> None:
        super().__init__(f"no call has the id {call_id}")


class SessionNotFound(NotFound):
    """No such participant's ticket, or it is spent."""

    code = "session_not_found"

    def __init__(self, message: str = "no such session") -> None:
        super().__init__(message)


class TrunkNotFound(NotFound):
    """No trunk has that name."""

    code = "trunk_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"no trunk is named {name!r}")


class WrongState(GatewayError):
    """The call is not in a state that allows it."""

    code = "wrong_state"


class Conflict(GatewayError):
    """The idempotency key was used before with another body."""

    code = "idempotency_conflict"


class Invalid(GatewayError):
    """A value does not fit; `errors` lists each path and what is wrong there."""

    code = "invalid"

    def __init__(self, message: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(message)
        self.errors = list(errors)


class NotAcceptable(GatewayError):
    """An SDP offer or answer has nothing that the gateway can use."""

    code = "not_acceptable"


class Unauthorized(GatewayError):
    """No key, or a wrong one."""

    code = "unauthorized"


class Forbidden(GatewayError):
    """Known, but not allowed."""

    code = "forbidden"


class RateLimited(GatewayError):
    """Too many requests; `retry_after` says when to come back."""

    code = "rate_limited"


class Overloaded(GatewayError):
    """No room for more at the moment, or shutting down."""

    code = "overloaded"


class TrunkCalls(Overloaded):
    """The trunk has as many calls as it takes (`max_calls`)."""

    code = "trunk_calls"

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message, retry_after=retry_after)


class TrunkRate(RateLimited):
    """The trunk gets as many new calls a second as it takes (`max_cps`)."""

    code = "trunk_rate"

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message, retry_after=retry_after)


class LoopDetected(Forbidden):
    """The call would come back to this gateway."""

    code = "loop"


class StoreUnavailable(GatewayError):
    """The database does not answer, or too much waits for it."""

    code = "store_unavailable"


class CacheUnavailable(GatewayError):
    """The shared cache does not answer."""

    code = "cache_unavailable"


class EngineFailure(GatewayError):
    """The engine refused a command; `reason` keeps its word (for example `unknown_leg`)."""

    code = "engine_failure"

    def __init__(self, message: str, *, reason: str = "error") -> None:
        super().__init__(message)
        self.reason = reason


class VersionMismatch(GatewayError):
    """The resource has changed since it was read (RFC 9110 13.1.1)."""

    code = "version_mismatch"
