"""A transfer while it runs: who leaves, who stays, and who is called for the empty place (RFC 3515)."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import quote

import msgspec

from telephony_gateway.calls.attempts import Failure
from telephony_gateway.calls.events import LegId, Refer
from telephony_gateway.calls.live import LiveCall, Order
from telephony_gateway.calls.model import Ending
from telephony_gateway.calls.routing import NOBODY, Destination, Party
from telephony_gateway.calls.stages import Stage
from telephony_gateway.calls.trunks import Trunk
from telephony_gateway.calls.uris import user_of

Kind = Literal["blind", "attended"]

TALKING: Final = ("answered", "connected")
"""States of a leg whose peer is there."""


class NewTransfer(msgspec.Struct, frozen=True, kw_only=True):
    """A transfer that the API asks for."""

    to: str
    trunk: str | None = None
    timeout: float = 60.0


@dataclass(slots=True, eq=False)
class Transfer:
    """One transfer of one call."""

    leaving: LegId
    staying: LegId
    to: str
    kind: Kind = "blind"
    number: int | None = None
    """Of the REFER that asked for it; None: the API did."""
    passed: bool = False
    """The staying side was asked to call by itself."""
    order: Order = field(default_factory=Order)
    headers: list[tuple[str, str]] = field(default_factory=list)
    waiting: deque[Stage] = field(default_factory=deque)
    ringing: dict[LegId, Destination] = field(default_factory=dict)
    mine: set[LegId] = field(default_factory=set)
    taken: set[LegId] = field(default_factory=set)
    """Legs that rang for another call before."""
    best: Failure | None = None
    tried: set[str] = field(default_factory=set)
    redirects: int = 0
    parted: bool = False
    """The staying side hears the one who is called, or a tone, and not who leaves."""
    answering: bool = False
    gone: Ending | None = None
    """How the leaving side hung up before the outcome was known: so the call ends if nobody answers."""
    asked: LegId | None = None
    """A leg that answered at another media worker: its telephone is asked to replace it by one at this."""
    elsewhere: bool = False
    """Another call takes the side that stays: its telephone replaces this leg, and may end it first."""
    outcome: Callable[[int, str], None] | None = None
    """Takes the statuses of a transfer that another call's REFER asked for."""
    stage: int = 0
    facts: dict[str, object] = field(default_factory=dict)
    """What the history says of it."""


def staying_with(live: LiveCall, leg: LegId) -> LegId | None:
    """The leg that is left if this one leaves; None if the two do not talk."""
    if live.far is not None and _talks(live, live.far):
        other = {live.anchor: live.far, live.far: live.anchor}.get(leg)
    else:
        browser = live.participant.leg if live.participant and live.participant.bridged else None
        other = {live.anchor: browser, browser: live.anchor}.get(leg)
    return other if other is not None and _talks(live, other) else None


def rings_for(live: LiveCall, caller: LegId) -> dict[LegId, Destination]:
    """The telephones that ring for the one who called, and whom nobody has answered yet."""
    waits = live.call.direction == "inbound" and not live.call.answered and not live.answering
    if not waits or live.call.over or caller != live.anchor:
        return {}
    if live.hunt is not None:
        return dict(live.hunt.ringing)
    far, destination = live.far, live.destination
    if far is None or destination is None or far not in live.legs:
        return {}
    return {far: destination}


def _talks(live: LiveCall, number: LegId) -> bool:
    leg = live.legs.get(number)
    if leg is None:
        return False
    return leg.kind == "webrtc" or number == live.anchor or leg.state in TALKING


def party_of(live: LiveCall, leg: LegId) -> Party:
    """Who a telephone of the call is: what it may do is what it might if it called."""
    far = live.destination.party if live.destination is not None else NOBODY
    party = live.party if leg == live.anchor else far
    if party.number is not None:
        return party
    known = live.legs.get(leg)
    number = live.call.from_ if known is not None and known.side == "caller" else live.call.to
    return msgspec.structs.replace(party, number=user_of(number) or number)


def may_name(party: Party, owner: Party, trunks: Mapping[str, Trunk]) -> bool:
    """Whether what is the owner's may be replaced by the party: his own, or that of a trunk it answers for
    (RFC 3891 3).
    """
    if party.trunk is None or owner.trunk is None:
        return False
    if (party.trunk, party.user) == (owner.trunk, owner.user):
        return True
    return party.trunk in trunks and owner.trunk in trunks[party.trunk].replaces


def take_place(live: LiveCall, transfer: Transfer, leg: LegId, destination: Destination) -> None:
    """The new leg is in the call what the leaving one was."""
    if destination.number is None:
        destination = msgspec.structs.replace(destination, number=user_of(transfer.to) or transfer.to)
    if live.anchor == transfer.leaving:
        live.anchor, live.party = leg, destination.party
    else:
        live.far = leg
        live.destination = destination


def describe(live: LiveCall, transfer: Transfer) -> None:
    """Note for the history whom the transfer is about, while both are there."""
    leaving = live.legs.get(transfer.leaving)
    transfer.facts = {
        "leg_id": str(leaving.id) if leaving is not None else None,
        "side": leaving.side if leaving is not None else None,
        "to": transfer.to,
        "kind": transfer.kind,
    }


def refer_to(event: Refer) -> str:
    """Refer-To as it came: the URI with its headers."""
    if not event.headers:
        return event.uri
    pairs = (f"{quote(name, safe=_PLAIN)}={quote(value, safe=_PLAIN)}" for name, value in event.headers)
    return f"{event.uri}?{'&'.join(pairs)}"


def replaces_in(event: Refer) -> str | None:
    """The Replaces that Refer-To brings along (RFC 3891)."""
    return next((value for name, value in event.headers if name.lower() == "replaces"), None)


_PLAIN: Final = "-_.!~*'()"
"""What RFC 3261 25.1 calls `mark`."""
