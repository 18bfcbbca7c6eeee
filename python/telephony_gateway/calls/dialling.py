"""Sending an INVITE of a call to a place: who is said to call, what goes along, how far it may still go."""

from collections.abc import Sequence

from telephony_gateway.calls import caller, passage
from telephony_gateway.calls.caller import Caller, Headers, Shown
from telephony_gateway.calls.carried import carried, settable
from telephony_gateway.calls.events import Incoming, LegId
from telephony_gateway.calls.limits import Limits
from telephony_gateway.calls.live import LiveCall, Order
from telephony_gateway.calls.policy import Policy
from telephony_gateway.calls.ports import Engine, Voucher
from telephony_gateway.calls.routing import Destination, Routing, Trunk
from telephony_gateway.calls.uris import escape_user, parse_sip, user_of
from telephony_gateway.errors import Invalid, LoopDetected

MAX_ADDRESSES = 256
API_CALLER = "gateway"
"""Who calls where the API names nobody."""


class Dialler:
    """Dials legs of calls that came in (`live.request` is the INVITE) and of those that were ordered."""

    def __init__(
        self, *, engine: Engine, routing: Routing, policy: Policy, voucher: Voucher, limits: Limits
    ) -> None:
        self._engine = engine
        self._routing = routing
        self._policy = policy
        self._voucher = voucher
        self._limits = limits
        self._addresses: set[tuple[str, int]] = set()

    def heard_at(self, address: tuple[str, int]) -> None:
        """Calls come in at this address of ours: we listen at several, perhaps."""
        if len(self._addresses) < MAX_ADDRESSES:
            self._addresses.add(address)

    def check(self, destination: Destination) -> None:
        """`TrunkCalls` or `TrunkRate` unless the trunk of the place takes another call now."""
        if destination.trunk and (trunk := self._routing.trunks.get(destination.trunk)) is not None:
            self._limits.check(trunk)

    def check_onward(self, destination: Destination) -> None:
        """The same for a call that came in: `LoopDetected` where it would come in again."""
        hop = parse_sip(destination.next_hop or destination.uri)
        if hop is not None and (hop.bare_host, hop.effective_port) in self._addresses:
            raise LoopDetected("the route leads back to this gateway")
        self.check(destination)

    def dial(
        self,
        live: LiveCall,
        leg: LegId,
        destination: Destination,
        timeout: float,
        *,
        elsewhere: bool = False,
        order: Order | None = None,
        extra: Headers | None = None,
        passes_on: bool = False,
    ) -> None:
        """Send the INVITE; events of the leg follow. Where `elsewhere` other places wait, a trunk that says
        nothing is soon left (RFC 3263 4.3); a phone may have to wake up first. `order` stands in for what
        the call itself asks for. With `passes_on` the engine does to the caller what the callee does.
        """
        target = self._routing.trunks.get(destination.trunk) if destination.trunk else None
        host = self._policy.from_host or destination.host
        request, codecs = order or live.request, destination.codecs
        if isinstance(request, Incoming):
            said, headers = self._forwarded(live, request, target, destination, host)
            ordered = in_order(request.codecs, codecs)
        else:
            said, headers = _ordered(request or Order(), target, host)
            ordered = list(codecs)
        if extra:
            headers = [*headers, *extra]
        if target is not None:
            self._limits.dialled(target, leg)
            timeout = min(timeout, target.ring_timeout or timeout)
        if target is not None and target.stir.sign:
            callee = user_of(destination.uri)
            if identity := self._voucher.sign(target.name, user_of(said.uri), callee):
                headers = [*headers, ("Identity", identity)]
        self._engine.dial(
            leg,
            uri=destination.uri,
            from_uri=said.uri,
            from_display=said.display,
            next_hop=destination.next_hop,
            trunk=destination.trunk or "",
            codecs=ordered,
            headers=headers,
            timeout=timeout,
            elsewhere=elsewhere and target is not None,
            caller=live.anchor if passes_on else None,
            caller_codecs=live.codecs if passes_on else (),
        )

    def _forwarded(
        self, live: LiveCall, event: Incoming, target: Trunk | None, destination: Destination, host: str
    ) -> tuple[Shown, Headers]:
        call, message = live.call, event.message
        mine = passage.token(call.trunk or "", call.to, call.from_)
        headers = [passage.onward(passage.passages(message), mine)]
        if (hops := passage.max_forwards(message)) is not None:
            headers.append(hops)
        privacy = caller.privacy_of(message)
        user = user_of(event.from_uri)
        if not privacy and caller.is_plain(target):
            uri = f"sip:{escape_user(user or 'anonymous')}@{host}"
            return Shown(uri=uri, display=call.from_name or ""), headers
        source = self._routing.trunks.get(call.trunk or "")
        who = Caller(
            user=user,
            display=call.from_name or "",
            asserted=caller.asserted_by(message, source),
            privacy=privacy,
        )
        said = caller.shown(who, target, host)
        reason = "deflection" if live.hunt is not None and live.hunt.redirects else "unconditional"
        headers += said.headers
        headers += caller.way_here(message, source, target, event.request_uri, destination.uri, reason)
        headers += carried(message, target.headers if target is not None else ()).items()
        return said, headers


def said_by(order: Order, target: Trunk | None, host: str) -> Shown:
    """Who is said to call for this order."""
    if order.caller is not None:
        return caller.shown(order.caller, target, host)
    uri = order.from_ if order.from_ and parse_sip(order.from_) else ""
    user = user_of(uri) if uri else order.from_ or API_CALLER
    if caller.is_plain(target):
        return Shown(uri=uri or f"sip:{escape_user(user)}@{host}")
    # The operator's own back end answers for the number it names.
    asserted = f"<{uri or f'sip:{escape_user(user)}@{host}'}>" if order.from_ and order.vouched else ""
    return caller.shown(Caller(user=user, uri=uri, asserted=asserted), target, host)


def _ordered(order: Order, target: Trunk | None, host: str) -> tuple[Shown, Headers]:
    headers: Headers = []
    for name, value in order.headers.items():
        if not settable(name, target.headers if target is not None else ()):
            raise Invalid("the call does not fit", [(f"headers.{name}", "is no header that the trunk takes")])
        headers.append((name, value))
    said = said_by(order, target, host)
    return said, headers + said.headers


def in_order(first: Sequence[str], allowed: Sequence[str]) -> list[str]:
    """The allowed codecs, those that the other side speaks first: then no transcoding is needed."""
    return [c for c in first if c in allowed] + [c for c in allowed if c not in first]
