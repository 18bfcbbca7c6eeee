"""Who the far side is told is calling (RFC 3323, 3325, 5876), and which way the call came (RFC 5806, 7044).

A trust domain is the trunks marked `trusted`: identity that they assert is believed and passed on among them;
from anybody else it is dropped, and to anybody else it goes only as far as the caller's Privacy lets it.
"""

from typing import Final

import msgspec

from telephony_gateway.calls.events import Message
from telephony_gateway.calls.trunks import Trunk
from telephony_gateway.calls.uris import escape_user

Headers = list[tuple[str, str]]

ANONYMOUS_URI: Final = "sip:anonymous@anonymous.invalid"
"""RFC 3323 4.1.1.3."""
ANONYMOUS_NAME: Final = "Anonymous"
MAX_VALUE: Final = 1024
"""Characters of identity that are passed on in one header; more is no identity."""

# What asks that the caller's name and number are hidden. `header` and `session` a B2BUA does anyway: Via,
# Contact and the session description are its own (RFC 3323 5.1, 5.2), so `critical` is kept as well.
_HIDING: Final = frozenset({"id", "user", "header"})


class Caller(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who calls, as far as it is known."""

    user: str
    display: str = ""
    uri: str = ""
    """From as it is to stand; "" makes it of the user and the host that is called."""
    asserted: str = ""
    """P-Asserted-Identity of a trusted trunk, its values on one line; of others it is not read."""
    privacy: frozenset[str] = frozenset()


class Shown(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who is said to call: From, and the headers beside it."""

    uri: str
    display: str = ""
    headers: Headers = []


def is_plain(trunk: Trunk | None) -> bool:
    """Whether the trunk asks for nothing that a From does not say."""
    return trunk is None or not (
        trunk.trusted or trunk.privacy != "none" or trunk.caller_id.policy != "pass" or trunk.headers
    )


def privacy_of(message: Message) -> frozenset[str]:
    """The priv-values of Privacy (RFC 3323 4.2); some peers part them by commas."""
    value = message.header("Privacy")
    if value is None:
        return frozenset()
    return frozenset(word.strip().lower() for word in value[:MAX_VALUE].replace(",", ";").split(";"))


def caller_of(message: Message, user: str, display: str, source: Trunk | None) -> Caller | None:
    """Who calls by this INVITE; None where its From says all there is."""
    privacy, asserted = privacy_of(message), asserted_by(message, source)
    if not privacy and not asserted:
        return None
    return Caller(user=user, display=display, asserted=asserted, privacy=privacy)


def asserted_by(message: Message, source: Trunk | None) -> str:
    """P-Asserted-Identity, if its sender may be believed (RFC 3325 5)."""
    return joined(message, "P-Asserted-Identity") if source is not None and source.trusted else ""


def shown(caller: Caller, target: Trunk | None, host: str) -> Shown:
    """What the far side of this trunk is told; `host` stands in From beside the number."""
    trunk = target or _NOBODY
    policy = trunk.caller_id
    user, display, asserted = caller.user, caller.display, caller.asserted
    uri = caller.uri
    if policy.policy == "replace" and policy.number is not None:
        user, display, uri = policy.number, policy.name or "", ""
        # The operator answers for his own number.
        asserted = f"<sip:{escape_user(user)}@{host}>"
    asked = trunk.privacy == "id" or policy.policy == "anonymous"
    hidden = bool(caller.privacy & _HIDING) and "none" not in caller.privacy
    if asked or (hidden and not trunk.trusted):
        uri, display = ANONYMOUS_URI, ANONYMOUS_NAME
    uri = uri or f"sip:{escape_user(user or 'anonymous')}@{host}"
    return Shown(uri=uri, display=display, headers=_headers(trunk, caller, asserted, asked, hidden))


def _headers(trunk: Trunk, caller: Caller, asserted: str, asked: bool, hidden: bool) -> Headers:
    headers: Headers = []
    # RFC 3325 7: out of the trust domain it goes only if the caller said that it may.
    if asserted and (trunk.trusted or ("none" in caller.privacy and not asked)):
        headers.append(("P-Asserted-Identity", asserted))
    # RFC 3323 5: what was done for the caller here is not asked for again; `critical` goes with what is left.
    wanted = caller.privacy - {""} if trunk.trusted else frozenset[str]()
    wanted = wanted - {"none"} | {"id"} if asked else wanted
    if wanted:
        headers.append(("Privacy", ";".join(sorted(wanted))))
    return headers


def way_here(
    message: Message, source: Trunk | None, target: Trunk | None, dialled: str, uri: str, reason: str
) -> Headers:
    """Diversion and History-Info: those of a trusted trunk go on among trusted ones, and to one that names
    them in its `headers`; such a trunk also reads of this forward.
    """
    if target is None:
        return []
    wanted = {name.lower() for name in target.headers}
    believed = source is not None and source.trusted
    headers: Headers = []
    for name in ("Diversion", "History-Info"):
        named = name.lower() in wanted
        values = joined(message, name) if believed and (named or target.trusted) else ""
        if named and name == "Diversion":
            # RFC 5806 5.3: the latest comes first.
            values = ", ".join(filter(None, [f"<{dialled}>;reason={reason};counter=1", values]))
        elif named:
            values = _history(values, dialled, uri)
        if values and len(values) <= MAX_VALUE:
            headers.append((name, values))
    return headers


def _history(values: str, dialled: str, uri: str) -> str:
    """RFC 7044 9.2 and 10.3: the entry that was dialled, if it is not there yet, and where it goes now."""
    if not values:
        values = f"<{dialled}>;index=1"
    index = values.rpartition(";index=")[2].partition(";")[0].partition(",")[0].strip() or "1"
    return f"{values}, <{uri}>;index={index}.1;mp={index}"


def joined(message: Message, name: str) -> str:
    """All values of a header on one line; "" if it is not there, or longer than any that makes sense."""
    if message.header(name) is None:
        return ""
    lines = [value for found, value in message.headers() if found.lower() == name.lower()]
    value = ", ".join(lines)
    return value if len(value) <= MAX_VALUE else ""


_NOBODY: Final = Trunk(name="nobody")
