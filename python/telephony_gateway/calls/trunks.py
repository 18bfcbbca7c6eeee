"""What a trunk is: a row of `[[trunks]]` in `gateway.toml` or of `/api/v1/trunks`, and what may be wrong.

Defaults are the plain behaviour. Secrets are never here: `password_env` names the variable that holds one.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from telephony_gateway.calls.tables import Table
from telephony_gateway.calls.uris import escape_user, is_diallable, parse_sip

CodecName = Literal["PCMU", "PCMA", "opus"]
Transport = Literal["udp", "tcp", "tls"]
Support = Literal["off", "supported", "require"]
ALL_CODECS: Final[tuple[CodecName, ...]] = ("PCMU", "PCMA", "opus")
REALM: Final = "telephony-gateway"
"""Whose passwords are asked for where no other realm is named; part of an HA1."""
SIP_URI: Final = "must be a sip: URI, as in sip:203.0.113.10:5060"
MAX_NETWORKS: Final = 1024
MIN_SE: Final = 90
"""RFC 4028 5: the smallest Min-SE."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Host = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
FilePath = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
Variable = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Digits = Annotated[str, msgspec.Meta(max_length=32)]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Found = Iterator[tuple[str, str]]

_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
"""IPv4 as IPv6 writes it (RFC 4291 2.5.5.2)."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*\.?")
_HEADER = re.compile(r"[A-Za-z0-9!%'`~_.+-]+\*?")
_OWN_TRANSPORT = re.compile(r";transport=([A-Za-z]+)", re.IGNORECASE)
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f\"\\]+")

OURS: Final = frozenset(
    {
        "via", "from", "to", "call-id", "cseq", "contact", "route", "record-route", "max-forwards",
        "content-length", "content-type", "authorization", "proxy-authorization", "www-authenticate",
        "proxy-authenticate", "require", "proxy-require", "supported", "session-expires", "min-se",
        "rseq", "rack", "replaces", "refer-to", "identity", "p-asserted-identity", "privacy",
    }
)  # fmt: skip
"""Headers that the gateway writes itself: no allow-list lets a peer's own through."""


class Tls(Table, frozen=True, kw_only=True):
    """How TLS towards this trunk proves itself; what is omitted comes from the gateway's settings."""

    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    verify: bool = True


class CallerId(Table, frozen=True, kw_only=True):
    """Who calls through this trunk seem to come from."""

    policy: Literal["pass", "replace", "anonymous"] = "pass"
    number: Word | None = None
    name: Word | None = None


class Rewriting(Table, frozen=True, kw_only=True):
    """How a dialled number is written anew: `strip` characters leave its front, `prepend` comes there."""

    strip: Annotated[int, msgspec.Meta(ge=0, le=32)] = 0
    prepend: Digits = ""


class Stir(Table, frozen=True, kw_only=True):
    """STIR/SHAKEN of calls through this trunk (RFC 8224)."""

    sign: bool = False
    attestation: Literal["A", "B", "C"] = "C"
    verify: Literal["off", "annotate", "require"] = "off"
    key_file: FilePath | None = None
    certificate_url: Annotated[str, msgspec.Meta(max_length=1024)] | None = None
    ca_file: FilePath | None = None
    allow: tuple[Host, ...] = ()


class Trunk(Table, frozen=True, kw_only=True):
    """A carrier or PBX: where its calls come from, where calls to it go, and how it wants to be spoken to."""

    name: Name
    addresses: tuple[str, ...] = ()
    uri: str | None = None
    codecs: tuple[CodecName, ...] = ALL_CODECS
    transport: Transport | None = None
    local: str | None = None
    advertise: Host | None = None
    tls: Tls | None = None
    username: Word | None = None
    password_env: Variable | None = None
    realm: Word | None = None
    register: bool = False
    registrar: str | None = None
    register_expires: Annotated[int, msgspec.Meta(ge=60, le=86_400)] = 3600
    contact_user: Word | None = None
    rewrite_contact: bool = False
    inbound_auth: bool = False
    reliable: Support = msgspec.field(name="100rel", default="supported")
    session_timer: Support = "supported"
    session_expires: Annotated[int, msgspec.Meta(ge=MIN_SE, le=86_400)] = 1800
    min_se: Annotated[int, msgspec.Meta(ge=MIN_SE, le=86_400)] = MIN_SE
    dtmf: Literal["rfc4733", "info"] = "rfc4733"
    transfer: Literal["handle", "pass", "refuse"] = "handle"
    replaces: tuple[Name, ...] = ()
    ringback: Literal["none", "eu", "us"] = "none"
    trusted: bool = False
    privacy: Literal["none", "id"] = "none"
    headers: tuple[Word, ...] = ()
    caller_id: CallerId = CallerId()
    strip: Annotated[int, msgspec.Meta(ge=0, le=32)] = 0
    prepend: Digits = ""
    incoming: Rewriting = Rewriting()
    ring_timeout: Annotated[float, msgspec.Meta(ge=1, le=600)] | None = None
    patience: Annotated[float, msgspec.Meta(ge=0.5, le=32)] | None = None
    max_cps: Annotated[float, msgspec.Meta(ge=0.1, le=10_000)] | None = None
    max_calls: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    probe: Annotated[float, msgspec.Meta(ge=5, le=3600)] | None = None
    stir: Stir = Stir()

    @property
    def networks(self) -> list[Network]:
        """`addresses`, parsed."""
        return [_as_seen(ipaddress.ip_network(address)) for address in self.addresses]

    @property
    def tone(self) -> str | None:
        """What who waits hears while the other side rings without sound of its own; None for nothing."""
        return None if self.ringback == "none" else self.ringback

    def dialled(self, number: str) -> str:
        """A number as this trunk wants it dialled."""
        return self.prepend + number[self.strip :]

    def received(self, number: str) -> str:
        """A number that this trunk sent, as routes and records see it."""
        return self.incoming.prepend + number[self.incoming.strip :]


def engine_row(trunk: Trunk, environ: Mapping[str, str]) -> dict[str, Any]:
    """What the engine has to know of a trunk; the keys are those of `Trunk` in `rust/engine/src/trunk.rs`.
    Secrets come from the environment here, and only here.
    """
    row: dict[str, Any] = {
        "name": trunk.name,
        "addresses": [str(network) for network in trunk.networks],
        "uri": trunk.uri,
        "max_cps": trunk.max_cps,
        "max_calls": trunk.max_calls,
        "100rel": trunk.reliable,
        "session_timer": trunk.session_timer,
        "session_expires": trunk.session_expires,
        "min_se": trunk.min_se,
        **_way(trunk),
    }
    if trunk.dtmf != "rfc4733":
        row["dtmf"] = trunk.dtmf
    row |= {key: value for key in ("probe", "patience") if (value := getattr(trunk, key)) is not None}
    if trunk.username is not None and trunk.password_env is not None:
        row["credentials"] = {
            "username": trunk.username,
            "password": environ.get(trunk.password_env, ""),
            "realm": trunk.realm or _host(trunk.uri or trunk.registrar) or REALM,
        }
    if trunk.inbound_auth:
        row["guard"] = row["credentials"]
    if trunk.register:
        row["register"] = _registration(trunk)
    return row


def _way(trunk: Trunk) -> dict[str, Any]:
    """What is said of the way to a trunk."""
    named = {
        "transport": trunk.transport,
        "local": trunk.local,
        "advertise": trunk.advertise,
        "tls": msgspec.to_builtins(trunk.tls) if trunk.tls else None,
    }
    return {key: value for key, value in named.items() if value is not None}


def _registration(trunk: Trunk) -> dict[str, Any]:
    """What is registered, and where (RFC 3261 10.2): the address of record is the account's."""
    scheme, _, rest = (trunk.registrar or trunk.uri or "").partition(":")
    domain = _host(trunk.uri or trunk.registrar)
    user = trunk.username or trunk.contact_user or ""
    return {
        "registrar": f"{scheme.lower()}:{rest.rpartition('@')[2]}",
        "aor": f"sip:{escape_user(user)}@{domain}",
        "contact_user": escape_user(trunk.contact_user or user),
        "expires": trunk.register_expires,
        "rewrite": trunk.rewrite_contact,
    }


def _host(uri: str | None) -> str:
    """The host of a URI: the realm and domain of a carrier that names no other."""
    parsed = parse_sip(uri or "")
    return "" if parsed is None else parsed.host


def named_transport(trunk: Trunk) -> str | None:
    """The transport that its URI asks for (RFC 3261 19.1.1)."""
    named = _OWN_TRANSPORT.search(trunk.uri or "")
    return named[1].lower() if named else None


def faults_of(trunk: Trunk, environ: Mapping[str, str] | None) -> Found:
    """What is wrong in a trunk by itself, as field and fix; without an environment no secret is missed."""
    yield from name_faults(trunk.name)
    yield from _address_faults(trunk)
    yield from _transport_faults(trunk)
    yield from _credential_faults(trunk)
    yield from secret_faults("password_env", trunk.password_env, environ)
    yield from _session_faults(trunk)
    yield from _identity_faults(trunk)
    yield from _stir_faults(trunk.stir)


def name_faults(name: str) -> Found:
    """A name stands in paths of the API, in records and in SIP user parts."""
    if not NAME.fullmatch(name):
        yield "name", "must be letters, digits, `.`, `_`, `+` or `-`, and begin with a letter or digit"


def secret_faults(field: str, variable: str | None, environ: Mapping[str, str] | None) -> Found:
    """A variable that holds a secret must be there."""
    if variable is None:
        return
    if not _VARIABLE.fullmatch(variable):
        yield field, "must be the name of an environment variable, as in CARRIER_A_PASSWORD (not the secret)"
    elif environ is not None and not environ.get(variable):
        # Who writes the secret itself here must not read it in logs.
        shown = variable if variable.isupper() else "a variable"
        yield field, f"names {shown}, which the environment does not have: set it to the secret"


def _address_faults(trunk: Trunk) -> Found:
    if len(trunk.addresses) > MAX_NETWORKS:
        yield "addresses", f"must be at most {MAX_NETWORKS}"
    for address in trunk.addresses:
        if (fault := _network_fault(address)) is not None:
            yield "addresses", f"has {address!r}: {fault}"
    for field, uri in (("uri", trunk.uri), ("registrar", trunk.registrar)):
        if uri is not None and (parse_sip(uri) is None or "?" in uri):
            yield field, SIP_URI
    if not trunk.codecs or len(set(trunk.codecs)) < len(trunk.codecs):
        yield "codecs", f"must name at least one of {', '.join(ALL_CODECS)}, each once"


def _network_fault(address: str) -> str | None:
    try:
        network = ipaddress.ip_network(address)
    except ValueError as error:
        return str(error)
    if "%" in address:
        # Nobody sees the zone of a peer (RFC 4007 11): no call would ever come from there.
        return "leave out the zone, from % on"
    if _MAPPED.prefixlen > network.prefixlen > 80 and network.overlaps(_MAPPED):
        return "write IPv4 networks as such, as in 203.0.113.0/24"
    return None


def _as_seen(network: Network) -> Network:
    """As the addresses of peers are told: those of IPv4 are never mapped."""
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        base = int(network.network_address) & 0xFFFF_FFFF
        return ipaddress.IPv4Network((base, network.prefixlen - _MAPPED.prefixlen))
    return network


def _transport_faults(trunk: Trunk) -> Found:
    named = named_transport(trunk)
    if named and trunk.transport and named != trunk.transport:
        yield "transport", f"is {trunk.transport}, but uri says transport={named}: leave one of them out"
    if trunk.local is not None and not _is_address(trunk.local):
        yield "local", "must be an IP address of this machine"
    if trunk.advertise is not None and not (_is_address(trunk.advertise) or _HOST.fullmatch(trunk.advertise)):
        yield "advertise", "must be an IP address or a host name"
    if trunk.tls is not None and (trunk.tls.cert_file is None) != (trunk.tls.key_file is None):
        yield "tls", "must have both cert_file and key_file, or neither"
    if trunk.probe is not None and trunk.uri is None:
        yield "probe", "needs a uri to send OPTIONS to"


def _credential_faults(trunk: Trunk) -> Found:
    if (trunk.username is None) != (trunk.password_env is None):
        missing = "password_env" if trunk.password_env is None else "username"
        yield missing, "is missing: username and password_env go together"
    for field, value in (("username", trunk.username), ("realm", trunk.realm)):
        if value is not None and not _PRINTABLE.fullmatch(value):
            yield field, "must be printable, without quotes and backslashes"
    if trunk.contact_user is not None and not is_diallable(trunk.contact_user):
        yield "contact_user", "must be a number or name of up to 64 characters"
    if trunk.register and trunk.uri is None and trunk.registrar is None:
        yield "register", "needs a registrar or a uri"
    if trunk.register and trunk.username is None and trunk.contact_user is None:
        yield "register", "needs a username or a contact_user to register"
    if trunk.inbound_auth and trunk.username is None:
        yield "inbound_auth", "needs a username and a password_env to ask for"


def _session_faults(trunk: Trunk) -> Found:
    if trunk.session_expires < trunk.min_se:
        yield "session_expires", f"must be at least min_se, {trunk.min_se} (RFC 4028 5)"
    for field, digits in (("prepend", trunk.prepend), ("incoming.prepend", trunk.incoming.prepend)):
        if digits and not is_diallable(digits):
            yield field, "must be digits, `+`, `*`, `#` or letters"


def _identity_faults(trunk: Trunk) -> Found:
    for pattern in trunk.headers:
        if not _HEADER.fullmatch(pattern):
            yield "headers", f"has {pattern!r}: must be a header's name, or its beginning and `*`"
        elif pattern.lower() in OURS:
            yield "headers", f"has {pattern!r}, which the gateway writes itself"
    caller = trunk.caller_id
    if caller.policy == "replace" and caller.number is None:
        yield "caller_id", "needs a number to replace the caller's with"
    if caller.number is not None and not is_diallable(caller.number):
        yield "caller_id.number", "must be a number of up to 64 characters"
    if caller.name is not None and not _PRINTABLE.fullmatch(caller.name):
        yield "caller_id.name", "must be printable, without quotes and backslashes"


def _stir_faults(stir: Stir) -> Found:
    if stir.sign and (stir.key_file is None or stir.certificate_url is None):
        yield "stir.sign", "needs key_file and certificate_url"
    if stir.verify != "off" and (stir.ca_file is None or not stir.allow):
        yield "stir.verify", "needs ca_file and allow, the hosts that certificates may be fetched from"
    if stir.certificate_url is not None and not stir.certificate_url.startswith("https://"):
        yield "stir.certificate_url", "must be an https: URL (RFC 8226)"
    for host in stir.allow:
        if not _HOST.fullmatch(host.removeprefix("*.")):
            yield "stir.allow", f"has {host!r}, which is no host name, nor `*.` and one"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
