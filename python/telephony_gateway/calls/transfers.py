"""Transfers: a telephone asks by REFER, or the API does, that its partner talks to somebody else.

By its trunk's `transfer` the gateway calls for the empty place itself, has the partner do it, or refuses.
Where a call may go is for the routes to say, as if the telephone that asks had called there. Until somebody
answers nobody leaves: when it fails, the two are together again.
"""

from telephony_gateway.calls.attended import Attended, transferred
from telephony_gateway.calls.closing import Closing
from telephony_gateway.calls.endings import ending_of
from telephony_gateway.calls.events import Ended, LegId, Refer, ReferAnswered, Referral
from telephony_gateway.calls.handing import Handing
from telephony_gateway.calls.journal import Journal
from telephony_gateway.calls.live import LiveCall, Order
from telephony_gateway.calls.model import LegSide
from telephony_gateway.calls.plan import DEVELOPMENT_ROUTE
from telephony_gateway.calls.ports import Engine
from telephony_gateway.calls.routing import Routing
from telephony_gateway.calls.seeking import Seeking
from telephony_gateway.calls.stages import Stage, way
from telephony_gateway.calls.transfer import (
    NewTransfer,
    Transfer,
    describe,
    may_name,
    party_of,
    refer_to,
    replaces_in,
    staying_with,
)
from telephony_gateway.calls.uris import parse_sip, user_of
from telephony_gateway.errors import (
    Conflict,
    Forbidden,
    GatewayError,
    Invalid,
    Overloaded,
    StoreUnavailable,
    WrongState,
)

MAX_TO = 256
MAX_REFERS = 32
"""In one call: each is a line of its history, and legs of its record."""
UNKNOWN = 408
"""Of a transfer whose outcome nobody told."""


class Transfers:
    """Decides what becomes of a REFER, and follows it."""

    def __init__(
        self,
        *,
        engine: Engine,
        journal: Journal,
        closing: Closing,
        routing: Routing,
        seeking: Seeking,
        attended: Attended,
        handing: Handing,
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._closing = closing
        self._routing = routing
        self._seeking = seeking
        self._attended = attended
        self._handing = handing

    def requested(self, live: LiveCall, event: Refer) -> None:
        """A REFER came in for one of the call's legs."""
        staying = staying_with(live, event.leg)
        if live.transfer is not None or live.call.status != "in-progress":
            self._engine.refuse_refer(event.leg, event.id, 491)
            return
        if live.refers >= MAX_REFERS:
            self._engine.refuse_refer(event.leg, event.id, 403)
            return
        live.refers += 1
        attended = replaces_in(event) is not None
        transfer = Transfer(
            leaving=event.leg,
            staying=event.leg if staying is None else staying,
            to=event.uri[:MAX_TO],
            kind="attended" if attended else "blind",
            number=event.id,
        )
        describe(live, transfer)
        referred_by = event.referred_by or None
        self._journal.apply(live, "refer", transfer.facts | {"referred_by": referred_by})
        mode = self._way(live, event.leg)
        if staying is None or mode == "refuse":
            reason = "nobody is there to be transferred" if staying is None else "the trunk refuses transfers"
            self._refuse(live, transfer, 480 if staying is None else 403, reason)
        elif event.replaces is not None and not self._is_own(live, event.leg, event.replaces):
            self._refuse(live, transfer, 403, "Replaces names a call of somebody else")
        elif mode == "pass" and _is_telephone(live, staying) and not self._is_early(event):
            if self._way(live, staying) == "refuse":
                self._refuse(live, transfer, 403, "the other side's trunk refuses transfers")
            else:
                self._pass(live, transfer, event)
        elif event.replaces is not None:
            transfer.order = _order(live, staying)
            if (other := self._attended.at_browsers(event.replaces)) is not None:
                self._ring_again(live, transfer, event, other)
            else:
                self._attended.transfer(live, transfer, event.replaces, early_only=event.early_only)
        else:
            self._handle(live, transfer, event)

    def by_request(self, live: LiveCall, new: NewTransfer, key: str | None) -> None:
        """The API has the far party of a call talk to somebody else. The same key again changes nothing."""
        if key is not None and (kept := live.requests.get(key)) is not None:
            if kept != new:
                raise Conflict("the idempotency key was used before with another body")
            return
        if live.call.status != "in-progress" or live.transfer is not None:
            raise WrongState("the call is in no state to be transferred")
        leaving = staying_with(live, live.anchor)
        if leaving is None:
            raise WrongState("nobody is there to be transferred")
        is_number = parse_sip(new.to) is None
        trunk = new.trunk or (self._trunk_name(live, live.anchor) if is_number else None)
        stages = (Stage(destinations=(self._routing.destination(new.to, trunk),), timeout=new.timeout),)
        transfer = Transfer(leaving=leaving, staying=live.anchor, to=new.to, order=_order(live, live.anchor))
        # From here on who stays is decided here; if the engine cannot be told, nothing has begun.
        self._engine.unlink(live.anchor)
        if key is not None:
            live.requests[key] = new
        describe(live, transfer)
        self._journal.apply(live, "refer", transfer.facts | {"referred_by": None})
        self._seeking.begin(live, transfer, stages)

    def answered(self, live: LiveCall, event: ReferAnswered) -> None:
        """The staying side says whether it calls."""
        transfer = _passed(live, event.leg)
        if transfer is None or transfer.number is None:
            return
        if event.status < 300:
            self._engine.accept_refer(transfer.leaving, transfer.number)
        else:
            self._refuse(live, transfer, event.status, "the other side refused the transfer")

    def told(self, live: LiveCall, event: Referral) -> None:
        """The staying side says how far it has come."""
        transfer = _passed(live, event.leg)
        if transfer is None or transfer.number is None:
            return
        status = event.status if event.status is not None else UNKNOWN if event.last else None
        if status is None or status == 100:
            return  # that it is being tried was told with the answer to the REFER
        self._engine.notify_refer(transfer.leaving, transfer.number, status, event.reason)
        if not event.last:
            return
        live.transfer = None
        if status < 300:
            self._journal.apply(live, "transfer", transfer.facts | {"new_leg_id": None})
            return
        self._fail(live, transfer, status, event.reason or "the outcome was never told")

    def ended(self, live: LiveCall, event: Ended, side: LegSide) -> bool:
        """A leg of this side ended. Whether that is the transfer's affair, and the call goes on."""
        transfer = live.transfer
        if transfer is None:
            return False
        if transfer.passed:
            if event.leg in (transfer.leaving, transfer.staying):
                live.transfer = None
                self._fail(live, transfer, UNKNOWN, "the call ended before the outcome was told")
            return False
        if event.leg == transfer.leaving:
            # It has done its part; many a telephone hangs up as soon as its REFER is taken up.
            transfer.gone = ending_of(event, side, answered=True)
            return True
        if event.leg == transfer.staying and transfer.elsewhere:
            transfer.gone = ending_of(event, side, answered=True)
            return True
        return self._seeking.ended(live, transfer, event)

    def _is_own(self, live: LiveCall, leg: LegId, named: LegId) -> bool:
        owner = self._attended.owner(named)
        return owner is None or may_name(party_of(live, leg), owner, self._routing.trunks)

    def _is_early(self, event: Refer) -> bool:
        named = event.replaces
        return named is not None and (
            self._attended.rings(named) or self._attended.at_browsers(named) is not None
        )

    def _way(self, live: LiveCall, leg: LegId) -> str:
        trunk = self._routing.trunks.get(party_of(live, leg).trunk or "")
        return trunk.transfer if trunk is not None else "handle"

    def _trunk_name(self, live: LiveCall, leg: LegId) -> str | None:
        name = party_of(live, leg).trunk
        return name if name in self._routing.trunks else None

    def _handle(self, live: LiveCall, transfer: Transfer, event: Refer) -> None:
        transfer.order = _order(live, transfer.staying)
        try:
            stages, other = self._allowed(live, transfer, event)
        except GatewayError as error:
            kinds = ((Forbidden, 403), (Overloaded, 503), (StoreUnavailable, 503))
            status = next((status for kind, status in kinds if isinstance(error, kind)), 404)
            self._refuse(live, transfer, status, error.message)
            return
        if other is not None:
            self._engine.accept_refer(event.leg, event.id)
            self._handing.ring(live, transfer, other)
            return
        if event.referred_by:
            transfer.headers.append(("Referred-By", event.referred_by))
        if (replaces := replaces_in(event)) is not None:
            # A dialog between others: whoever is called knows it (RFC 3891 4).
            transfer.headers += [("Replaces", replaces), ("Require", "replaces")]
        self._engine.accept_refer(event.leg, event.id)
        self._seeking.begin(live, transfer, stages)

    def _ring_again(self, live: LiveCall, transfer: Transfer, event: Refer, other: LiveCall) -> None:
        """The browsers that ring for the one who asks ring for the one who stays."""
        route = self._routing.route_named(other.call.route or "")
        names = other.target.browser if other.target is not None else None
        if route is None or names is None or not _is_telephone(live, transfer.staying):
            self._refuse(live, transfer, 488, "two browsers cannot be joined")
            return
        try:
            again = self._handing.prepare(live, transfer, route, other.call.to, names)
        except GatewayError as error:
            self._refuse(live, transfer, 503, error.message)
            return
        self._engine.accept_refer(event.leg, event.id)
        self._closing.finish(other, transferred("caller"))
        self._handing.ring(live, transfer, again)

    def _allowed(
        self, live: LiveCall, transfer: Transfer, event: Refer
    ) -> tuple[tuple[Stage, ...], LiveCall | None]:
        """Where a call of the leg's trunk to the wanted place goes by the routes, or the call that is to ring
        for it at browsers; `Forbidden` if nowhere.
        """
        asks = party_of(live, event.leg)
        name, from_ = asks.trunk or "", asks.number or ""
        trunk = self._routing.trunks.get(name)
        wanted = event.uri[4:].partition(";")[0] if event.uri[:4].lower() == "tel:" else user_of(event.uri)
        number = trunk.received(wanted) if trunk is not None else wanted
        route = self._routing.route(trunk=name, to=number, from_=from_, user=asks.user)
        if route is None or route is DEVELOPMENT_ROUTE:
            if self._routing.development:
                return (Stage(destinations=(self._routing.destination(event.uri),)),), None
            raise Forbidden(f"no route takes {number} from trunk {name}")
        if route.target.reject is not None:
            raise Forbidden(f"rejected by route {route.name}")
        found = way(self._routing, route.target, number)
        stages = tuple(stage for stage in found.stages if stage.destinations)
        if stages:
            return stages, None
        names = next((stage.browser for stage in found.stages if stage.browser is not None), None)
        if names is not None and _is_telephone(live, transfer.staying):
            return (), self._handing.prepare(live, transfer, route, number, names)
        raise (
            found.refused[0]
            if found.refused
            else Invalid(f"route {route.name} leads to nobody who can be called", [("to", "leads nowhere")])
        )

    def _pass(self, live: LiveCall, transfer: Transfer, event: Refer) -> None:
        transfer.passed = True
        partner = self._attended.partner(event.replaces) if event.replaces is not None else None
        try:
            self._engine.refer(
                transfer.staying,
                "" if partner is not None else refer_to(event),
                replaces=partner,
                early_only=event.early_only,
                referred_by=event.referred_by or None,
            )
        except GatewayError as error:
            self._refuse(live, transfer, 480, error.message)
            return
        live.transfer = transfer
        if event.replaces is not None and partner is None:
            self._attended.await_replacement(event.replaces, live, transfer)

    def _refuse(self, live: LiveCall, transfer: Transfer, status: int, reason: str) -> None:
        live.transfer = None
        if transfer.number is not None:
            self._engine.refuse_refer(transfer.leaving, transfer.number, status)
        self._fail(live, transfer, status, reason)

    def _fail(self, live: LiveCall, transfer: Transfer, status: int, reason: str) -> None:
        said = {"sip_response_code": status, "reason": reason}
        self._journal.apply(live, "refer-fail", transfer.facts | said)


def _passed(live: LiveCall, leg: LegId) -> Transfer | None:
    transfer = live.transfer
    return transfer if transfer is not None and transfer.passed and transfer.staying == leg else None


def _is_telephone(live: LiveCall, leg: LegId) -> bool:
    known = live.legs.get(leg)
    return known is not None and known.kind == "sip"


def _order(live: LiveCall, staying: LegId) -> Order:
    """Who is said to call: the one who stays."""
    known = live.legs.get(staying)
    is_caller = known is None or known.side == "caller"
    from_ = live.call.from_ if is_caller else live.call.to
    return Order(from_=from_ or None, caller=live.caller if is_caller else None, vouched=False)
