"""The frames that the manager itself pushes to browsers; replies to requests are the WebSocket room's own."""

import msgspec

from telephony_gateway.calls.model import Call


class IncomingCall(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="incoming-call"):
    """A call rings; the first browser to join answers it."""

    call: Call


class CallState(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="call-state"):
    """A call that this browser rang for or takes part in has changed."""

    call: Call


class CallEnded(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="call-ended"):
    """A call that this browser rang for or took part in is over; the call names its cause."""

    call: Call


ServerFrame = IncomingCall | CallState | CallEnded
