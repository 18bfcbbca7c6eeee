"""The plain part of the plan, which the engine carries out by itself.

A call from one trunk to another takes one decision. Where only numbers go into that, it need not be made anew
for each call: what stands here says it for all of them, the engine sends such a call on in the moment it
comes, and `inbound` hears of it at leisure. Whatever asks for more (a browser, several places, a limit, an
identity to be shown, hidden, signed or judged) is no part of this, and `inbound` decides.
"""

import ipaddress
from typing import Any

import msgspec

from telephony_gateway.calls import caller, passage
from telephony_gateway.calls.patterns import everywhere
from telephony_gateway.calls.plan import Route
from telephony_gateway.calls.policy import Policy
from telephony_gateway.calls.routing import Routing
from telephony_gateway.calls.trunks import Trunk
from telephony_gateway.calls.uris import SipUri, parse_sip

Row = dict[str, Any]


def document(routing: Routing, policy: Policy) -> bytes:
    """The dial plan of the engine, as `rust/engine/src/dial_plan.rs` reads it."""
    return msgspec.json.encode(
        {
            "secret": passage.SECRET,
            "max_legs": policy.max_calls,
            "sources": {trunk.name: _source(trunk) for trunk in routing.trunks.values() if _is_source(trunk)},
            # Who calls from a trunk is no user, so routes for users are not for him.
            "routes": [_route(route, routing, policy) for route in routing.routes if not route.match.user],
        }
    )


def _is_source(trunk: Trunk) -> bool:
    return trunk.stir.verify == "off" and trunk.tone is None and trunk.max_calls is None


def _source(trunk: Trunk) -> Row:
    return {
        "strip": trunk.incoming.strip,
        "prepend": trunk.incoming.prepend,
        "codecs": trunk.codecs,
    }


def _route(route: Route, routing: Routing, policy: Policy) -> Row:
    """A route; one that the engine cannot follow may take any call, and has no way."""
    match, patterns = route.match, {}
    for field, pattern in (("to", route.match.to), ("from", route.match.from_)):
        patterns[field] = known = everywhere(pattern) if pattern is not None else None
        if pattern is not None and known is None:
            return {"name": route.name, "trunk": match.trunk, "to": None, "from": None, "way": None}
    target = routing.trunks.get(route.target.trunk or "")
    way = _way(route, target, policy) if target is not None else None
    return {"name": route.name, "trunk": match.trunk, **patterns, "way": way}


def _way(route: Route, trunk: Trunk, policy: Policy) -> Row | None:
    known = parse_sip(trunk.uri) if trunk.uri is not None else None
    limited = trunk.max_calls is not None or trunk.max_cps is not None
    if known is None or limited or trunk.stir.sign or not caller.is_plain(trunk):
        return None
    timeout = route.ring_timeout or policy.ring_timeout
    return {
        "trunk": trunk.name,
        "scheme": known.scheme,
        "host": known.host_port,
        "next_hop": trunk.uri,
        "address": _address(known),
        "from_host": policy.from_host or known.host,
        "strip": trunk.strip,
        "prepend": trunk.prepend,
        "codecs": trunk.codecs,
        "timeout": min(timeout, trunk.ring_timeout or timeout),
    }


def _address(uri: SipUri) -> str | None:
    """Where it leads, if it says so itself: calls that came in there would come in again."""
    try:
        address = ipaddress.ip_address(uri.bare_host)
    except ValueError:
        return None
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"{host}:{uri.effective_port}"
