"""Inbound calls that a route sends on to a trunk or a SIP URI: two dialogs, joined (a B2BUA, RFC 7092)."""

from collections.abc import Sequence

from telephony_gateway.calls.bridging import Bridging
from telephony_gateway.calls.closing import Closing
from telephony_gateway.calls.endings import rejection
from telephony_gateway.calls.events import Answered, Incoming, LegId
from telephony_gateway.calls.journal import Journal
from telephony_gateway.calls.legs import Legs
from telephony_gateway.calls.live import LiveCall
from telephony_gateway.calls.model import Ending
from telephony_gateway.calls.policy import Policy
from telephony_gateway.calls.ports import Engine
from telephony_gateway.calls.routing import Destination, Routing, Target
from telephony_gateway.calls.tasks import Tasks
from telephony_gateway.calls.uris import escape_user, parse_sip, user_of
from telephony_gateway.errors import GatewayError, NotAcceptable

GRACE = 5.0
"""The engine's own INVITE timeout comes first; ours only makes sure."""

NO_ANSWER = Ending(
    status="no-answer", cause="timeout", source="system", sip_response_code=480, reason="nobody answered"
)


class Forwarding:
    """Dials the far side and maps what it says to the caller."""

    def __init__(
        self,
        *,
        engine: Engine,
        journal: Journal,
        legs: Legs,
        closing: Closing,
        tasks: Tasks,
        bridging: Bridging,
        routing: Routing,
        policy: Policy,
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._legs = legs
        self._closing = closing
        self._tasks = tasks
        self._bridging = bridging
        self._routing = routing
        self._policy = policy

    def forward(self, live: LiveCall, event: Incoming, target: Target) -> None:
        """Send the call on."""
        try:
            destination = self._routing.forward(target, live.call.to)
        except GatewayError as error:
            self._closing.finish(live, rejection(404, error.message))
            return
        if _is_ours(destination, event):
            self._closing.finish(live, rejection(482, "the route leads back to this gateway"))
            return
        self._tasks.later(live, live.call.timeout + GRACE, lambda: self._closing.finish(live, NO_ANSWER))
        live.far = self._legs.far(live)
        try:
            self._dial(live, live.far, event, destination)
        except GatewayError:
            self._legs.drop(live, live.far)
            raise

    def ringing(self, live: LiveCall) -> None:
        """The far side rings: so does the caller's leg."""
        self._tasks.spawn(live, lambda: self._ring(live))

    def answered(self, live: LiveCall, event: Answered) -> None:
        """The far side answered."""
        live.far_codec = event.codec
        self._legs.update(live, event.leg, "answered", event.codec, followed=True)
        self._tasks.spawn(live, lambda: self._connect(live, event.leg))

    def _dial(self, live: LiveCall, far: LegId, event: Incoming, destination: Destination) -> None:
        host = self._policy.from_host or destination.host
        self._engine.dial(
            far,
            uri=destination.uri,
            from_uri=f"sip:{escape_user(user_of(event.from_uri) or 'anonymous')}@{host}",
            from_display=event.from_display,
            next_hop=destination.next_hop,
            trunk=destination.trunk or "",
            codecs=_in_order(event.codecs, destination.codecs),
            timeout=live.call.timeout,
        )

    async def _ring(self, live: LiveCall) -> bool:
        async with live.lock:
            if live.codec is None:
                wanted = [live.far_codec] if live.far_codec else []
                try:
                    codec = await self._engine.ring(live.anchor, codecs=_in_order(wanted, live.codecs))
                except NotAcceptable:
                    return False  # 488 has left; the leg's `Ended` ends the call
                live.codec = codec
                self._legs.update(live, live.anchor, "ringing", codec, followed=True)
                self._journal.apply(live, "ring")
        return True

    async def _connect(self, live: LiveCall, far: LegId) -> None:
        if await self._ring(live):
            await self._bridging.connect_far(live, far)


def _in_order(first: Sequence[str], allowed: Sequence[str]) -> list[str]:
    """The allowed codecs, those that the other side speaks first: then no transcoding is needed."""
    return [c for c in first if c in allowed] + [c for c in allowed if c not in first]


def _is_ours(destination: Destination, event: Incoming) -> bool:
    hop = parse_sip(destination.next_hop or destination.uri)
    return hop is not None and (hop.bare_host, hop.port or 5060) == (event.local[0], event.local[1])
