"""Who vouches for a caller's number: signatures on calls out, verdicts on calls in (STIR/SHAKEN, RFC 8224).

A verdict is awaited beside the call, which rings meanwhile, unless its trunk says `verify = "require"`.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from telephony_gateway.calls.caller import asserted_by
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
_ASSERTED = re.compile(
    r'(?P<bare>(?:sips?|tel):[^\s<>",;]+)|(?:"(?:[^"\\]|\\.)*"\s*|[^"<]*)<(?P<uri>[^>]*)>', re.IGNORECASE
)
"""The first value: an addr-spec, or a name-addr (RFC 3325 9.1). No token of a name has a colon."""


class NobodyVouches:
    """Where no voucher is there: no call is signed or judged."""

    def configure(self, trunks: Mapping[str, Stir], *, anew: bool = False) -> None:
        """Nothing to take."""

    def check(self, trunk: str, stir: Stir) -> None:
        """Nothing to read."""

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

    def judge(
        self,
        live: LiveCall,
        event: Incoming,
        trunk: Trunk,
        go_on: Callable[[], None],
        refused: Callable[[int, str], None],
    ) -> None:
        """Let the call go on: at once, or only if somebody vouches for its caller."""
        if trunk.stir.verify == "off":
            go_on()
        elif trunk.stir.verify == "annotate":
            self._tasks.spawn(live, lambda: self._annotate(live, event, trunk))
            go_on()
        else:
            self._tasks.spawn(live, lambda: self._require(live, event, trunk, go_on, refused))

    async def _require(
        self,
        live: LiveCall,
        event: Incoming,
        trunk: Trunk,
        go_on: Callable[[], None],
        refused: Callable[[int, str], None],
    ) -> None:
        wrong = _objection(await self._annotate(live, event, trunk))
        if live.call.over:
            return
        if wrong is None:
            go_on()
            return
        refused(*wrong)
        self._closing.finish(live, rejection(*wrong))

    async def objection(self, event: Incoming, trunk: Trunk) -> tuple[int, str] | None:
        """The status and reason to refuse somebody with who comes to a call that runs. Nothing is noted: the
        verdict of that call is its caller's.
        """
        return _objection(await self._verdict(event, trunk)) if trunk.stir.verify == "require" else None

    async def _annotate(self, live: LiveCall, event: Incoming, trunk: Trunk) -> Verification | None:
        """The verdict, noted with the call; None if it comes too late, or nobody judges any more."""
        verdict = await self._verdict(event, trunk)
        if verdict is None or live.call.over:
            return None
        self._journal.amend(live, verification=verdict)
        self._journal.apply(live, "verify", msgspec.structs.asdict(verdict))
        return verdict

    async def _verdict(self, event: Incoming, trunk: Trunk) -> Verification | None:
        identities = [value for name, value in event.message.headers() if name.lower() in IDENTITY]
        callees = [user_of(event.to_uri), user_of(event.request_uri)]
        return await self._voucher.verify(trunk.name, identities, _caller(event, trunk), callees)


def _objection(verdict: Verification | None) -> tuple[int, str] | None:
    if verdict is not None and verdict.verstat == PASSED:
        return None
    status, reason = 428, "nobody vouches for the caller"
    if verdict is not None:
        status, reason = verdict.status or status, verdict.reason or reason
    return status, reason


def _caller(event: Incoming, trunk: Trunk) -> str:
    """The number that is vouched for: P-Asserted-Identity stands before From (RFC 8224 6.1, RFC 8588 6).

    Where it is not believed (RFC 3325 5), a verdict on it would adorn whatever From says.
    """
    found = _ASSERTED.match(asserted_by(event.message, trunk).strip())
    uri = (found["bare"] or found["uri"]) if found else ""
    return user_of(uri) or user_of(event.from_uri)
