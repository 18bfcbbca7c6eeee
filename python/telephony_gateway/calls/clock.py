"""The system's clock. Tests put a virtual one in its place."""

from datetime import UTC, datetime


class SystemClock:
    """Wall-clock time, UTC."""

    def now(self) -> datetime:
        """The time, UTC."""
        return datetime.now(UTC)
