"""What a client of the REST API may send, and what it gets: types, bounds and the meaning of every field.

The bounds are enforced while decoding, and the OpenAPI document is made from the same types. Values of
`calls` go out as they are; `docs.FIELDS` says what their fields mean.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from telephony_gateway.calls.model import Direction, Session, SessionRole, Status
from telephony_gateway.calls.ports import CallQuery
from telephony_gateway.errors import Invalid

# `$` alone would let a trailing newline through in Python, and with it a second header line into SIP.
END = r"$(?!\n)"
NUMBER = r"[A-Za-z0-9+*#._-]{1,64}"
SIP_URI = r"[Ss][Ii][Pp][Ss]?:[!-~]{1,250}"
ADDRESS = rf"^({NUMBER}|{SIP_URI}){END}"

CLIENT_STATE_LIMIT = 4096
"""Bytes of `client_state` in UTF-8."""

Time = Annotated[datetime, Meta(tz=True, description="A time with its offset (RFC 3339).")]


class NewCallBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A call to make."""

    to: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=256,
            pattern=ADDRESS,
            description="Whom to call: a number or extension (E.164 with or without +), which needs `trunk`, "
            "or a sip: or sips: URI (RFC 3261, 19.1); sips: goes by TLS only (RFC 5630).",
            examples=["+74951234567", "sip:alice@203.0.113.7:5060"],
        ),
    ]
    from_: Annotated[
        Annotated[str, Meta(min_length=1, max_length=256, pattern=ADDRESS)] | None,
        Meta(
            description="The caller shown to the callee: a number, a name, a sip: or a sips: URI. "
            "Default: anonymous.",
            examples=["+74957654321"],
        ),
    ] = msgspec.field(default=None, name="from")
    trunk: Annotated[
        Annotated[str, Meta(min_length=1, max_length=64)] | None,
        Meta(description="The trunk of gateway.toml that carries the call; a number needs it, or `route`."),
    ] = None
    route: Annotated[
        Annotated[str, Meta(min_length=1, max_length=64)] | None,
        Meta(
            description="The route whose targets carry the call, as many of its trunks or phones as it takes "
            "until one answers."
        ),
    ] = None
    timeout: Annotated[
        float,
        Meta(
            ge=5,
            le=300,
            description="Seconds to wait for an answer; then the call is `no-answer`.",
            extra_json_schema={"x-unit": "s"},
        ),
    ] = 60.0
    client_state: Annotated[
        Annotated[str, Meta(max_length=CLIENT_STATE_LIMIT, pattern=r"^[^\x00]*$")] | None,
        Meta(description="The caller's own data, at most 4 KiB in UTF-8; kept with the call and given back."),
    ] = None
    headers: Annotated[
        dict[
            Annotated[str, Meta(min_length=1, max_length=64)],
            Annotated[str, Meta(min_length=1, max_length=256, pattern=rf"^[^\x00-\x1f\x7f]+{END}")],
        ],
        Meta(
            max_length=32,
            description="Headers for the INVITE: `X-` ones, and those that the trunk's `headers` name.",
            examples=[{"X-Campaign": "spring"}],
        ),
    ] = msgspec.field(default_factory=dict)


class StatusBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A status to bring a call to."""

    status: Annotated[
        Status,
        Meta(description="`completed` ends an answered call, `canceled` one that is not answered yet."),
    ]


class EndBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to end a call."""

    reason: Annotated[
        Annotated[str, Meta(min_length=1, max_length=200, pattern=rf"^[^\x00-\x1f\x7f]+{END}")] | None,
        Meta(description="Why, in plain words; kept as the call's `reason`."),
    ] = None


class TransferBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the far party of a call shall be connected to."""

    to: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=256,
            pattern=ADDRESS,
            description="Whom to call: a number, by `trunk` or the one of the call, or a sip: or sips: URI.",
            examples=["+74951234567"],
        ),
    ]
    trunk: Annotated[
        Annotated[str, Meta(min_length=1, max_length=64)] | None,
        Meta(description="The trunk that carries the new leg; a number goes by the call's own without it."),
    ] = None
    timeout: Annotated[
        float,
        Meta(
            ge=5,
            le=300,
            description="Seconds to wait for an answer; then the call goes on as it was.",
            extra_json_schema={"x-unit": "s"},
        ),
    ] = 60.0


class SessionBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A participant to let in."""

    role: Annotated[SessionRole, Meta(description="What the participant is in the call.")] = "agent"


class ListQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which calls to list."""

    status: Annotated[
        Annotated[list[Status], Meta(max_length=8)] | None,
        Meta(description="Only calls in one of these states; repeat the parameter or separate by commas."),
    ] = None
    direction: Annotated[Direction | None, Meta(description="Only calls of this direction.")] = None
    created_after: Annotated[
        Time | None, Meta(description="Only calls created at this time or later (RFC 3339).")
    ] = None
    created_before: Annotated[
        Time | None, Meta(description="Only calls created before this time (RFC 3339).")
    ] = None
    limit: Annotated[int, Meta(ge=1, le=200, description="Calls in one page.")] = 50
    cursor: Annotated[
        Annotated[str, Meta(min_length=1, max_length=512)] | None,
        Meta(description="`next_cursor` of the page before; opaque."),
    ] = None

    def to_query(self) -> CallQuery:
        """Make the manager's query of it."""
        return CallQuery(
            status=tuple(self.status or ()),
            direction=self.direction,
            created_after=_utc("created_after", self.created_after),
            created_before=_utc("created_before", self.created_before),
            limit=self.limit,
            cursor=self.cursor,
        )


def _utc(name: str, time: datetime | None) -> datetime | None:
    try:
        return time.astimezone(UTC) if time is not None else None
    except OverflowError:
        # 0001-01-01T00:00:00+14:00 has no UTC form.
        raise Invalid("the query does not fit", [(name, "this time cannot be expressed in UTC")]) from None


class SessionTicket(msgspec.Struct, frozen=True, kw_only=True):
    """One participant's ticket to a call. The token is shown here and never again."""

    id: Annotated[UUID, Meta(description="The participant's id in this call.")]
    call_id: Annotated[UUID, Meta(description="The call it opens.")]
    role: Annotated[SessionRole, Meta(description="What the participant is in the call.")]
    token: Annotated[str | None, Meta(description="To be sent in `join-call`; keep it secret.")]
    ws_url: Annotated[str, Meta(description="Where to connect (RFC 6455).")]
    ice_servers: Annotated[
        tuple[dict[str, Any], ...],
        Meta(description="For RTCPeerConnection: STUN and TURN servers (RFC 8445, RFC 8656)."),
    ]
    created_at: Annotated[datetime, Meta(tz=True, description="When it was made (RFC 3339, UTC).")]

    @classmethod
    def of(cls, session: Session) -> "SessionTicket":
        """Show what a client may see of a session."""
        return cls(
            id=session.id,
            call_id=session.call_id,
            role=session.role,
            token=session.token,
            ws_url=session.ws_url,
            ice_servers=session.ice_servers,
            created_at=session.created_at,
        )


class FieldProblem(msgspec.Struct, frozen=True, kw_only=True):
    """One value at fault."""

    path: Annotated[str, Meta(description="Where: a field of the body or the query, or a header.")]
    message: Annotated[str, Meta(description="What is wrong there.")]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request was refused (RFC 9457)."""

    type: Annotated[str, Meta(description="about:blank: `title` is the status phrase, `code` tells more.")]
    title: Annotated[str, Meta(description="The phrase of the HTTP status.")]
    status: Annotated[int, Meta(description="The HTTP status (RFC 9110, 15).")]
    detail: Annotated[str, Meta(description="What is wrong with this request, for people.")]
    code: Annotated[str, Meta(description="A stable word for programs, such as `call_not_found`.")]
    instance: Annotated[str, Meta(description="The path that was asked for.")]
    request_id: Annotated[str | None, Meta(description="Finds the request in the gateway's log.")] = None
    errors: Annotated[list[FieldProblem] | None, Meta(description="With 422: each value at fault.")] = None


class HealthBody(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway's health in brief."""

    status: Annotated[
        Literal["healthy", "unhealthy", "starting", "draining"],
        Meta(description="`draining`: it finishes its calls and takes no new ones."),
    ]
    version: Annotated[str, Meta(description="The gateway's version (semver.org).")]
    uptime: Annotated[float, Meta(description="Seconds since the start.", extra_json_schema={"x-unit": "s"})]


class ComponentBody(msgspec.Struct, frozen=True, kw_only=True):
    """The health of one component."""

    status: Annotated[Literal["up", "down"], Meta(description="Whether it answered.")]
    latency_ms: Annotated[
        float | None, Meta(description="Milliseconds until it answered.", extra_json_schema={"x-unit": "ms"})
    ] = None
    detail: Annotated[str | None, Meta(description="What is wrong with it.")] = None


class DetailedHealthBody(HealthBody, frozen=True, kw_only=True):
    """The gateway's health, component by component."""

    active_calls: Annotated[int, Meta(description="Calls that are not over.")]
    websockets: Annotated[int, Meta(description="Open WebSockets.")]
    components: Annotated[
        dict[str, ComponentBody],
        Meta(description="`engine`, `database` and `cache`; some add fields of their own."),
    ]


class SipQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to show a call's SIP messages."""

    format: Annotated[
        Literal["json", "text"], Meta(description="`text`: one plain text, for reading and for mail.")
    ] = "json"


class EventList(msgspec.Struct, frozen=True, kw_only=True):
    """A call's history."""

    items: Annotated[list[Any], Meta(description="The events in their order.")]
