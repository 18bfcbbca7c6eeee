"""Following a callee to where he says that he is (RFC 3261 8.1.3.4)."""

from collections.abc import Collection, Sequence
from typing import Final

from telephony_gateway.calls.routing import Destination, Routing
from telephony_gateway.calls.uris import parse_sip, user_of
from telephony_gateway.errors import GatewayError

MAX_REDIRECTS: Final = 5
"""3xx followed in one call: more is a loop, or a prank."""


def places(
    routing: Routing, contacts: Sequence[str], before: Destination, tried: Collection[str]
) -> list[Destination]:
    """Where the Contacts of a 3xx lead that came from the place `before`, best first."""
    found = [_place(routing, contact, before) for contact in contacts if _as_secure(contact, before)]
    return list(dict.fromkeys(place for place in found if place and place.uri not in tried))


def _place(routing: Routing, contact: str, before: Destination) -> Destination | None:
    """Only where whoever says it may call, and with nothing but a place in it: no header fields (19.1.5)."""
    if parse_sip(contact) is None:
        return None
    try:
        place = routing.destination(contact)
    except GatewayError:
        return None
    return place if _may_lead(routing, place, before) else None


def _may_lead(routing: Routing, place: Destination, before: Destination) -> bool:
    """Within its own trunk a telephone may lead; to another as far as routes let it call there: a 302 spends
    no trunk's money that an INVITE could not, as with a REFER. A `uri` of a route is the plan's own word.
    """
    asks = before.party
    if routing.development or asks.trunk is None or asks.trunk == place.trunk or place.host == before.host:
        return True
    number = user_of(place.uri)
    route = routing.route(trunk=asks.trunk or "", to=number, from_=asks.number or "", user=asks.user)
    return route is not None and route.target.reject is None


def _as_secure(contact: str, before: Destination) -> bool:
    """Nobody is there to be told that what was to be secret would not be."""
    return not before.uri.lower().startswith("sips:") or contact.lower().startswith("sips:")
