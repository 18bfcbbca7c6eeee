"""Who vouches for a caller's number: signatures on calls out, verdicts on calls in (STIR/SHAKEN, RFC 8224).

A verdict is awaited beside the call, which rings meanwhile, unless its trunk says `verify = "require"`.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from telephony_gateway.calls.closing import Closing
from telephony_gateway.calls.endings import rejection
from telephony_gateway.calls.events import Incoming
from telephony_gateway.calls.journal import Journal
from telephony_gateway.calls.live import LiveCall
from telephony_gateway.calls.model import Verification
from telephony_gateway.calls.ports import Voucher
from telephony_gateway.calls.tasks import Tasks
from telephony_gateway.calls.trunks import Stir, Trunk
from telephony_gateway.calls.uris import user_of

PASSED = "TN-Validation-Passed"
IDENTITY = frozenset({"identity", "y"})
"""The header, and its compact form (RFC 8224 4)."""


class NobodyVouches:
    """Where no voucher is there: no call is signed or judged."""

    def configure(self, trunks: Mapping[str, Stir]) -> None:
        """Nothing to take."""

    def sign(self, trunk: str, caller: str, callee: str) -> str | None:
        """No signature."""
        return None

    async def verify(
        self, trunk: str, identities: Sequence[str], caller: str, callees: Sequence[str]
    ) -> Verification | None:
        """No verdict."""
        return None


class Vouching:
    """Judges calls that come in."""

    def __init__(self, *, voucher: Voucher, journal: Journal, closing: Closing, tasks: Tasks) -> None:
        self._voucher = voucher
        self._journal = journal
        self._closing = closing
        self._tasks = tasks

    def judge(self, live: LiveCall, event: Incoming, trunk: Trunk, go_on: Callable[[], None]) -> None:
        """Let the call go on: at once, or only if somebody vouches for its caller."""
        if trunk.stir.verify == "off":
            go_on()
            return
        required = trunk.stir.verify == "require"
        self._tasks.spawn(live, lambda: self._verify(live, event, trunk, go_on if required else None))
        if not required:
            go_on()

    async def _verify(
        self, live: LiveCall, event: Incoming, trunk: Trunk, go_on: Callable[[], None] | None
    ) -> None:
        identities = [value for name, value in event.message.headers() if name.lower() in IDENTITY]
        callees = [user_of(event.to_uri), user_of(event.request_uri)]
        verdict = await self._voucher.verify(trunk.name, identities, _caller(event), callees)
        if verdict is None or live.call.over:
            return
        self._journal.amend(live, verification=verdict)
        self._journal.apply(live, "verify", msgspec.structs.asdict(verdict))
        if go_on is None:
            return
        if verdict.verstat == PASSED:
            go_on()
        else:
            reason = verdict.reason or "nobody vouches for the caller"
            self._closing.finish(live, rejection(verdict.status or 428, reason))


def _caller(event: Incoming) -> str:
    """The number that is vouched for: P-Asserted-Identity stands before From (RFC 8224 6.1, RFC 8588 6)."""
    asserted = event.message.header("P-Asserted-Identity")
    uri = asserted.partition("<")[2].partition(">")[0] if asserted else ""
    return user_of(uri) or user_of(event.from_uri)
