"""What the fields of the call's own types mean, for the OpenAPI document.

`calls` knows nothing of documents, so its types carry no descriptions; a test keeps this table complete.
"""

from typing import Any

from telephony_gateway.api.plan_docs import FIELDS as PLAN_FIELDS

Json = dict[str, Any]

FIELDS: dict[str, dict[str, str]] = {
    "Call": {
        "id": "Our id of the call (UUIDv7, RFC 9562); not the SIP Call-ID.",
        "direction": "`inbound`: someone called the gateway; `outbound`: it was asked to call.",
        "status": "queued, ringing, in-progress; or its end: completed, busy, failed, no-answer, canceled.",
        "from": "The caller: the user part of the From URI (RFC 3261, 20.20), or what was asked for.",
        "from_name": "The display name that the caller gave (RFC 3261, 20.20), at most 128 characters.",
        "to": "The callee: the user part of the Request-URI (RFC 3261, 8.1.1.1), or what was asked for.",
        "trunk": "The trunk of gateway.toml that carries the call.",
        "route": "The route of gateway.toml that an inbound call took.",
        "sip_call_id": "The Call-ID header of the carrier's leg (RFC 3261, 20.8).",
        "client_state": "What the maker of the call gave to be kept with it.",
        "timeout": "Seconds to wait for an answer.",
        "created_at": "When the call began.",
        "ringing_at": "When the callee began to ring (180, RFC 3261, 21.1.2).",
        "answered_at": "When the callee answered (200, RFC 3261, 21.2.1).",
        "ended_at": "When the call ended.",
        "duration": "Seconds from answer to end; 0 for a call that was not answered or goes on.",
        "hangup_cause": "Why it ended, in the words telephony uses (ITU-T Q.850).",
        "hangup_source": "Who ended it.",
        "sip_response_code": "The SIP status that ended it (RFC 3261, 21), if one did.",
        "q850_cause": "Why it ended in the numbers of Q.850: the peer's own (RFC 3326, RFC 6432), or what "
        "its SIP status means (RFC 3398).",
        "reason": "Why it ended, in plain words.",
        "headers": "Headers of the caller's INVITE that its trunk's `headers` name, or those that the call "
        "was made with.",
        "verification": "Whether somebody vouches for the caller's number (RFC 8224); null unless "
        "its trunk's `stir.verify` asks.",
        "sequence": "The number of the call's latest event; they count from 1 without a gap.",
        "legs": "The sides of the call: carriers, browsers, streams.",
    },
    "Verification": {
        "verstat": "The verdict, in the words of 3GPP TS 24.229, 7.2A.20.",
        "attestation": "How sure the one who vouches is: A, B or C (RFC 8588, 4).",
        "origid": "Where the call began, for who vouches to trace it (RFC 8588, 5).",
        "status": "The refusal that would fit: 403, 428, 436, 437 or 438 (RFC 8224, 6.2.2).",
        "reason": "What is wrong, in plain words.",
    },
    "Leg": {
        "id": "The leg's id (UUIDv7, RFC 9562).",
        "kind": "`sip`: a carrier or phone; `webrtc`: a browser; `stream`: a voice bot.",
        "side": "Whose side it is on.",
        "state": "How far it has come.",
        "codec": "The codec it speaks (RFC 3551, RFC 7587), once negotiated.",
        "held": "Whether its peer holds the call (RFC 3264, 8.4).",
        "session_id": "The participant behind a browser's leg.",
        "stats": "Its media counters, once it has ended.",
    },
    "LegStats": {
        "codec": "The codec it spoke.",
        "packets_received": "RTP packets received (RFC 3550).",
        "packets_sent": "RTP packets sent (RFC 3550).",
        "bytes_received": "RTP payload bytes received.",
        "bytes_sent": "RTP payload bytes sent.",
        "packets_lost": "RTP packets that never came (RFC 3550, A.3).",
        "jitter": "Seconds of interarrival jitter (RFC 3550, A.8).",
        "round_trip": "Seconds there and back, from RTCP reports (RFC 3550, 6.4.1).",
    },
    "CallEvent": {
        "call_id": "The call it belongs to.",
        "sequence": "Its number in the call's history, from 1, without a gap.",
        "type": "What happened. Exactly one event of a call is terminal.",
        "at": "When it happened.",
        "data": "What else there is to say; depends on the type.",
    },
    "CallPage": {
        "items": "The calls of this page, newest first.",
        "next_cursor": "Give it as `cursor` for the next page; null on the last one.",
    },
    "Ladder": {
        "items": "The messages in the order they passed. Masked: credentials (RFC 7616, 3.4), PASSporTs "
        "(RFC 8224, 4), passwords in URIs, keys in session descriptions (RFC 4568, RFC 8839), "
        "digits in INFO.",
        "truncated": "There were more than the node still has (SIP_LADDER_MEMORY).",
    },
    "SipMessage": {
        "at": "When it passed.",
        "direction": "`in`: the gateway received it; `out`: it sent it.",
        "leg": "The `id` of the call's leg.",
        "transport": "How: udp, tcp or tls (RFC 3261, 18).",
        "local": "The gateway's address.",
        "remote": "The peer's address.",
        "summary": "Method and Request-URI, or status, phrase and the method answered.",
        "message": "All of it, masked.",
        "retransmissions": "When the same passed again (RFC 3261, 17.1).",
    },
    "Registration": {
        "trunk": "The trunk that registers.",
        "state": "`registered`: calls can come by it; `failed`: they cannot, and it is tried again.",
        "registrar": "The address that granted it.",
        "expires": "Seconds it was granted for (RFC 3261, 10.2.4); it is renewed in time.",
        "status": "What the registrar answered, if it failed and there was an answer.",
        "reason": "Why it failed.",
        "retry": "Seconds from then to the next try (RFC 5626, 4.5).",
        "changed_at": "Since when it is so.",
    },
    "RegistrationList": {"items": "One for each trunk with `register` that has been answered, by name."},
    "Phone": {
        "uri": "Its Contact (RFC 3261, 20.10).",
        "q": "Its preference, from 0 to 1; equal ones ring at once.",
        "source": "Where it registered from; calls to it take the same way.",
        "transport": "How.",
        "user_agent": "What it calls itself.",
        "expires_at": "Until when, unless it registers again.",
    },
    "UserPhones": {
        "name": "The user's name: the user part of his address, and of his digest.",
        "display": "His name for people.",
        "max_contacts": "How many phones may be registered at once.",
        "bindings": "Those that are.",
    },
    "IncomingCall": {"call": "The call that rings; the first browser to join answers it."},
    "CallState": {"call": "The call as it is now."},
    "CallEnded": {"call": "The call as it ended; it names its cause."},
    **PLAN_FIELDS,
}

UNITS = dict.fromkeys(
    ("timeout", "ring_timeout", "probe", "duration", "jitter", "round_trip", "expires", "retry"), "s"
)


def document(components: Json) -> Json:
    """Add descriptions, units and time formats to the schemas of `calls`, and of every frame's `type`."""
    for name, schema in components.items():
        for field, prop in schema.get("properties", {}).items():
            _describe(prop, field, FIELDS.get(name, {}).get(field))
    return components


def _describe(prop: Json, field: str, text: str | None) -> None:
    if text is not None:
        prop["description"] = text
    elif field == "type" and "description" not in prop:
        prop["description"] = "What kind of frame it is."
    if field in UNITS:
        prop["x-unit"] = UNITS[field]
    if field == "at" or field.endswith("_at"):
        _mark_time(prop)


def _mark_time(prop: Json) -> None:
    for option in (prop, *prop.get("anyOf", [])):
        if option.get("type") == "string":
            option["format"] = "date-time"
