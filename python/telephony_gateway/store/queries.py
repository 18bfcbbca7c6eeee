"""The SQL of the store, and the way of values between rows and `calls.model`.

Records travel as JSON: msgspec encodes a batch of calls in one go, PostgreSQL unpacks it
(`jsonb_to_recordset`). Measured against arrays (`unnest`) and `executemany`, this leaves the event loop
with the least work per call, at equal work in all.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from telephony_gateway.calls.model import Call, CallEvent, Leg, Session, Verification
from telephony_gateway.calls.ports import CallQuery
from telephony_gateway.errors import Invalid

_TYPES = {
    "id": "uuid",
    "direction": "text",
    "status": "text",
    '"from"': "text",
    "from_name": "text",
    '"to"': "text",
    "trunk": "text",
    "route": "text",
    "sip_call_id": "text",
    "client_state": "text",
    "timeout": "float8",
    "created_at": "timestamptz",
    "ringing_at": "timestamptz",
    "answered_at": "timestamptz",
    "ended_at": "timestamptz",
    "duration": "float8",
    "hangup_cause": "text",
    "hangup_source": "text",
    "sip_response_code": "integer",
    "q850_cause": "integer",
    "reason": "text",
    "headers": "jsonb",
    "verification": "jsonb",
    "sequence": "integer",
    "legs": "jsonb",
}
_FIXED = {
    "id",
    "direction",
    '"from"',
    "from_name",
    "headers",
    '"to"',
    "client_state",
    "timeout",
    "created_at",
}
_COLUMNS = ", ".join(_TYPES)
_CHANGES = ", ".join(f"{name} = excluded.{name}" for name in _TYPES if name not in _FIXED)
_RECORD = ", ".join(f"{name} {kind}" for name, kind in _TYPES.items())

# One statement, so one transaction and one round trip: the events and the state that they lead to are there
# together or not at all. Saying it again changes nothing (a retry after a lost connection), and an older
# state never overwrites a newer one.
WRITE = f"""
WITH log AS (
    INSERT INTO call_events (call_id, sequence, type, at, data)
    SELECT * FROM jsonb_to_recordset($1::jsonb)
        AS x (call_id uuid, sequence integer, type text, at timestamptz, data jsonb)
    ON CONFLICT DO NOTHING
), tickets AS (
    INSERT INTO sessions (id, call_id, role, token_hash, ws_url, created_at, joined_at, left_at)
    SELECT * FROM jsonb_to_recordset($3::jsonb)
        AS x (id uuid, call_id uuid, role text, token_hash text, ws_url text, created_at timestamptz,
            joined_at timestamptz, left_at timestamptz)
    ON CONFLICT (id) DO UPDATE SET joined_at = excluded.joined_at, left_at = excluded.left_at
)
INSERT INTO calls ({_COLUMNS}) SELECT * FROM jsonb_to_recordset($2::jsonb) AS x ({_RECORD})
ON CONFLICT (id) DO UPDATE SET {_CHANGES} WHERE calls.sequence <= excluded.sequence
"""  # noqa: S608
FIND_CALL = f"SELECT {_COLUMNS} FROM calls WHERE id = $1"  # noqa: S608
FIND_OPEN = f"SELECT {_COLUMNS} FROM calls WHERE status = ANY($1::text[])"  # noqa: S608
EVENTS = "SELECT call_id, sequence, type, at, data FROM call_events WHERE call_id = $1 ORDER BY sequence"

_STATUSES = ("queued", "ringing", "in-progress", "completed", "busy", "failed", "no-answer", "canceled")
_DIRECTIONS = ("inbound", "outbound")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encoder = msgspec.json.Encoder()
_written = bytearray(64 * 1024)
"""What was encoded last: kept, because a text that grows anew in the heap each time leaves gaps there. Of the
one thread that writes.
"""
_legs = msgspec.json.Decoder(tuple[Leg, ...])
_headers = msgspec.json.Decoder(dict[str, str])
_verification = msgspec.json.Decoder(Verification)
_data = msgspec.json.Decoder(dict[str, Any])


def encode_rows(values: Sequence[msgspec.Struct]) -> str:
    """Values as one JSON array. U+0000, which text in PostgreSQL cannot hold, becomes the replacement
    character.
    """
    _encoder.encode_into(values, _written)
    text = _written.decode()
    return _without_nul(text) if "\\u0000" in text else text


def _without_nul(text: str) -> str:
    # An escaped backslash before `u0000` is a backslash, not this escape: keep such pairs whole.
    return "\\\\".join(part.replace("\\u0000", "\\ufffd") for part in text.split("\\\\"))


def without_token(session: Session) -> Session:
    """The session as it may be kept."""
    return msgspec.structs.replace(session, token=None) if session.token is not None else session


def call_of(row: Any) -> Call:
    """A row of FIND_CALL, FIND_OPEN or a page."""
    verdict = row["verification"]
    decoded = {
        "legs": _legs.decode(row["legs"]),
        "headers": _headers.decode(row["headers"]),
        "verification": _verification.decode(verdict) if verdict is not None else None,
    }
    return msgspec.convert({**row, **decoded}, Call)


def event_of(row: Any) -> CallEvent:
    """A row of EVENTS."""
    return CallEvent(**{**row, "data": _data.decode(row["data"])})


def page_query(query: CallQuery) -> tuple[str, list[Any]]:
    """The SQL and its arguments for a page and one row more, newest first."""
    arguments: list[Any] = []
    conditions = list(_conditions(query, arguments))
    arguments.append(query.limit + 1)
    tail = f"ORDER BY created_at DESC, id DESC LIMIT ${len(arguments)}"
    if not query.status and query.direction is None:
        return f"SELECT {_COLUMNS} FROM calls {_where(conditions)} {tail}", arguments  # noqa: S608
    # Each pair of status and direction is a run of calls_by_status in the right order: take the head of
    # each and merge.
    arguments += [
        list(query.status or _STATUSES),
        [query.direction] if query.direction else list(_DIRECTIONS),
    ]
    count = len(arguments)
    pairs = f"unnest(${count - 1}::text[]) AS s (status), unnest(${count}::text[]) AS d (direction)"
    where = _where([*conditions, "status = s.status", "direction = d.direction"])
    heads = f"SELECT * FROM calls {where} {tail}"  # noqa: S608
    merged = f"SELECT page.* FROM {pairs}, LATERAL ({heads}) AS page"  # noqa: S608
    return f"SELECT {_COLUMNS} FROM ({merged}) AS pages {tail}", arguments  # noqa: S608


def _where(conditions: Sequence[str]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def _conditions(query: CallQuery, arguments: list[Any]) -> Iterable[str]:
    if query.created_after is not None:
        arguments.append(query.created_after)
        yield f"created_at >= ${len(arguments)}::timestamptz"
    if query.created_before is not None:
        arguments.append(query.created_before)
        yield f"created_at < ${len(arguments)}::timestamptz"
    if query.cursor is not None:
        arguments.extend(decode_cursor(query.cursor))
        yield f"(created_at, id) < (${len(arguments) - 1}::timestamptz, ${len(arguments)}::uuid)"


def encode_cursor(last: Call) -> str:
    """Where the next page begins: after this call."""
    microseconds = (last.created_at - _EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(microseconds.to_bytes(8) + last.id.bytes).decode()


def decode_cursor(cursor: str) -> tuple[datetime, UUID]:
    """The place that a cursor names; `Invalid` if it is not one of ours."""
    try:
        raw = base64.b64decode(cursor, altchars=b"-_", validate=True)
        if len(raw) == 24:
            return _EPOCH + timedelta(microseconds=int.from_bytes(raw[:8])), UUID(bytes=raw[8:])
    except (binascii.Error, ValueError, OverflowError):
        pass
    raise Invalid(
        "the cursor is not one of a page of calls", [("cursor", "must be the next_cursor of a page")]
    )
