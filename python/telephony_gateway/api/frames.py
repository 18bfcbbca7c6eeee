"""The JSON text frames of `/ws`: what a client may say and what it is answered.

Frames that the manager pushes by itself (`incoming-call`, `call-state`, `call-ended`) are in
`calls/frames.py`. Unknown fields of a client's frame are ignored: newer clients may talk to older gateways.
"""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from telephony_gateway.api.requests import field_error
from telephony_gateway.api.schemas import END
from telephony_gateway.calls.frames import CallEnded, CallState, IncomingCall
from telephony_gateway.calls.model import Call
from telephony_gateway.errors import FieldError, GatewayError, Invalid

MAX_SDP = 64 * 1024
"""Characters; a browser's offer with many candidates has some 10 KiB."""

RequestId = Annotated[str, Meta(max_length=128)] | int
CallId = Annotated[UUID, Meta(description="The call's `id`, not its SIP Call-ID.")]
Sdp = Annotated[
    str,
    Meta(min_length=1, max_length=MAX_SDP, description="Session description (RFC 8866, JSEP RFC 9429)."),
]


class FrameError(GatewayError):
    """The frame itself is at fault, before it meant anything."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.word = code


class ClientFrame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every frame of a client has."""

    request_id: Annotated[
        RequestId | None, Meta(description="The client's own id of this request; its reply carries the same.")
    ] = None


class Authenticate(ClientFrame, frozen=True, kw_only=True, tag="authenticate"):
    """Show an API key: browsers cannot set headers on a WebSocket. Answer: `authenticated`."""

    api_key: Annotated[str, Meta(min_length=1, max_length=512, description="One of API_KEYS.")]


class Register(ClientFrame, frozen=True, kw_only=True, tag="register"):
    """Take calls that a route sends to this browser target. Answer: `registered`."""

    browser: Annotated[
        str,
        Meta(pattern=rf"^[A-Za-z0-9._-]{{1,64}}{END}", description="As in `target = { browser = NAME }`."),
    ]


class JoinCall(ClientFrame, frozen=True, kw_only=True, tag="join-call"):
    """Take part in a call; the first to join a ringing call answers it. Answer: `joined-call`."""

    call_id: CallId
    token: Annotated[
        Annotated[str, Meta(max_length=256)] | None,
        Meta(description="The `token` of a session, where no API key was shown."),
    ] = None
    offer: Annotated[
        bool, Meta(description="Have the gateway offer: an `offer` follows, to be met by an `answer`.")
    ] = False


class LeaveCall(ClientFrame, frozen=True, kw_only=True, tag="leave-call"):
    """Leave a call without ending it for others."""

    call_id: CallId


class Offer(ClientFrame, frozen=True, kw_only=True, tag="offer"):
    """The browser's SDP offer. Answer: `answer`."""

    call_id: CallId
    sdp: Sdp


class Answer(ClientFrame, frozen=True, kw_only=True, tag="answer"):
    """The browser's SDP answer to an `offer` of the gateway."""

    call_id: CallId
    sdp: Sdp


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """An ICE candidate as `RTCIceCandidate.toJSON()` writes it."""

    candidate: Annotated[
        str, Meta(max_length=1024, description="candidate-attribute (RFC 8839, 5.1); empty ends them.")
    ]
    sdp_mid: Annotated[
        Annotated[str, Meta(max_length=64)] | None, Meta(description="The `mid` it belongs to (RFC 5888).")
    ] = msgspec.field(default=None, name="sdpMid")
    sdp_m_line_index: Annotated[
        Annotated[int, Meta(ge=0, le=255)] | None, Meta(description="The media section, counted from 0.")
    ] = msgspec.field(default=None, name="sdpMLineIndex")


class IceCandidate(ClientFrame, frozen=True, kw_only=True, tag="ice-candidate"):
    """One trickled candidate (RFC 8838); null ends them."""

    call_id: CallId
    candidate: Annotated[Candidate | None, Meta(description="The candidate, or null: there are no more.")]


class Dtmf(ClientFrame, frozen=True, kw_only=True, tag="dtmf"):
    """Send digits to the other side of the call."""

    call_id: CallId
    digits: Annotated[
        str, Meta(pattern=rf"^[0-9A-D*#]{{1,32}}{END}", description="Telephone events 0-15 (RFC 4733, 3.2).")
    ]


AnyClientFrame = Authenticate | Register | JoinCall | LeaveCall | Offer | Answer | IceCandidate | Dtmf


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every answer to a client has."""

    request_id: Annotated[
        RequestId | UnsetType, Meta(description="That of the request, where it had one.")
    ] = UNSET


class Authenticated(Reply, frozen=True, kw_only=True, tag="authenticated"):
    """The key is good: calls will be shown on this socket."""


class Registered(Reply, frozen=True, kw_only=True, tag="registered"):
    """The name is taken."""

    browser: Annotated[str, Meta(description="The name of the `register` frame.")]


class JoinedCall(Reply, frozen=True, kw_only=True, tag="joined-call"):
    """The client takes part in the call; its `offer` comes next."""

    call_id: Annotated[UUID, Meta(description="The call's id.")]
    session_id: Annotated[UUID, Meta(description="The participant's id in this call.")]
    ice_servers: Annotated[
        tuple[dict[str, Any], ...], Meta(description="STUN and TURN servers (RFC 8445, RFC 8656).")
    ]
    call: Annotated[Call, Meta(description="The call as it is now.")]


class LeftCall(Reply, frozen=True, kw_only=True, tag="left-call"):
    """The client has left; sent only where the `leave-call` had a request_id."""

    call_id: Annotated[UUID, Meta(description="The call's id.")]


class AnswerReply(Reply, frozen=True, kw_only=True, tag="answer"):
    """The gateway's SDP answer; it is ICE-lite and has all its candidates."""

    call_id: Annotated[UUID, Meta(description="The call's id.")]
    sdp: Annotated[str, Meta(description="Session description (RFC 8866).")]


class OfferPush(Reply, frozen=True, kw_only=True, tag="offer"):
    """The gateway's SDP offer, where `join-call` asked for one."""

    call_id: Annotated[UUID, Meta(description="The call's id.")]
    sdp: Annotated[str, Meta(description="Session description (RFC 8866).")]


class ErrorReply(Reply, frozen=True, kw_only=True, tag="error"):
    """A frame could not be obeyed; the socket stays open."""

    code: Annotated[str, Meta(description="A stable word, as in the REST problems.")]
    message: Annotated[str, Meta(description="What is wrong, for people.")]
    errors: Annotated[
        list[dict[str, str]] | UnsetType, Meta(description="Which field, and what is wrong there.")
    ] = UNSET
    retry_after: Annotated[
        float | UnsetType,
        Meta(description="Seconds to wait, where waiting helps.", extra_json_schema={"x-unit": "s"}),
    ] = UNSET


AnyServerFrame = (
    Authenticated
    | Registered
    | JoinedCall
    | LeftCall
    | OfferPush
    | AnswerReply
    | ErrorReply
    | IncomingCall
    | CallState
    | CallEnded
)


class _Envelope(msgspec.Struct, frozen=True):
    type: Any = None
    request_id: Any = None


_decoder: msgspec.json.Decoder[AnyClientFrame] = msgspec.json.Decoder(AnyClientFrame)
_envelopes = msgspec.json.Decoder(_Envelope)
_encoder = msgspec.json.Encoder()
_KNOWN = frozenset(kind.__struct_config__.tag for kind in AnyClientFrame.__args__)


def decode(text: str) -> AnyClientFrame:
    """Read one frame; `FrameError` or `Invalid` says what is wrong with it."""
    try:
        frame: AnyClientFrame = _decoder.decode(text)
        return frame
    except msgspec.ValidationError as error:
        raise _fault(text, field_error(error)) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Invalid(f"the frame is no JSON: {error}") from None


def _fault(text: str, error: FieldError) -> GatewayError:
    kind = _envelope(text).type
    if isinstance(kind, str) and kind not in _KNOWN:
        return FrameError("unknown_type", f"no frame has the type {kind[:64]!r}")
    return Invalid(f"the frame does not fit: {error[0]}: {error[1]}", [error])


def request_id_of(text: str) -> RequestId | UnsetType:
    """Find the request_id of a frame that could not be read, so that its error finds the way back."""
    given = _envelope(text).request_id
    if isinstance(given, str) and len(given) <= 128:
        return given
    return given if isinstance(given, int) and not isinstance(given, bool) else UNSET


def _envelope(text: str) -> _Envelope:
    try:
        return _envelopes.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return _Envelope()


def encode(frame: AnyServerFrame) -> str:
    """Write one frame."""
    return _encoder.encode(frame).decode()


def error_reply(error: GatewayError, request_id: RequestId | UnsetType = UNSET) -> ErrorReply:
    """Say an error in a frame."""
    errors = error.errors if isinstance(error, Invalid) else []
    return ErrorReply(
        request_id=request_id,
        code=error.word if isinstance(error, FrameError) else error.code,
        message=error.message,
        errors=[{"path": path, "message": message} for path, message in errors] or UNSET,
        retry_after=error.retry_after if error.retry_after is not None else UNSET,
    )
