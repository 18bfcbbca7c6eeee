"""The Rust engine: SIP and media threads behind one event queue.

Every command returns at once. Commands that have a result answer with a `Done` event that carries the
`correlation` the command returned. All durations are seconds (float), all addresses `(host, port)`.
"""

from typing import Literal, Self, final

LegId = int
Codec = Literal["PCMU", "PCMA", "opus"]

class EngineError(Exception):
    """The engine could not start or refused a command: `code` is a stable word, the message says the fix.

    Codes: address_in_use, address_unavailable, permission, invalid, no_ports, exhausted, unknown_leg,
    wrong_state, not_acceptable, bad_sdp, queue_full, stopped, internal.
    """

    code: str
    setting: str | None
    """The setting to change ("SIP_PORT"), where one is at fault."""

@final
class Incoming:
    """A new INVITE; 100 Trying has left already."""

    leg: LegId
    sip_call_id: str
    request_uri: str
    from_uri: str
    from_display: str
    to_uri: str
    source: tuple[str, int]
    local: tuple[str, int]
    trunk: str  # by its address or by our registration; empty for none
    user: str | None  # of ours, whose phone it came from, proved by his password
    replaces: LegId | None  # the leg whose place it is to take (RFC 3891)
    codecs: list[str]  # codecs the SDP offer names, in its order; empty for a late offer
    # by `set_dial_plan`: the leg dialled already, the route, the numbers called and calling, seconds ago
    forwarded: tuple[LegId, str, str, str, float] | None
    def header(self, name: str) -> str | None: ...
    def headers(self) -> list[tuple[str, str]]: ...

@final
class Ringing:
    """A provisional response (180, 183...) to our INVITE."""

    leg: LegId
    status: int
    codec: str | None  # of early media, if the response described some
    passed_on: str | None  # the caller rings too: its codec, "" while its answer is to come
    age: float  # how long ago

@final
class Answered:
    """A dialled leg was answered: ACK has left, its media is negotiated."""

    leg: LegId
    codec: str
    sip_call_id: str
    rang: float | None  # how long ago it and the caller began to ring, if no `Ringing` told
    passed_on: str | None  # the caller is answered too, and both hear each other: its codec, or ""
    age: float

@final
class Confirmed:
    """The caller's ACK to our 200 arrived. Not told while what happens is passed on between two legs."""

    leg: LegId

@final
class Connected:
    """Media flows: ICE and DTLS are up (WebRTC), or the first RTP packet came (SIP)."""

    leg: LegId

@final
class Digit:
    """One RFC 4733 digit received from the leg's peer."""

    leg: LegId
    digit: str
    duration: float

@final
class Held:
    """A SIP leg's peer holds the call, or takes it up again."""

    leg: LegId
    held: bool

@final
class Refer:
    """A leg's peer asks for its partner to call somebody else (RFC 3515).

    Answer by `accept_refer` and `notify_refer`, or by `refuse_refer`.
    """

    leg: LegId
    id: int
    uri: str  # Refer-To without its headers
    headers: list[tuple[str, str]]  # those, escapes resolved
    referred_by: str  # as it stood; empty without one
    replaces: LegId | None  # the leg of ours that a Replaces among the headers names
    early_only: bool  # and that is to be replaced only while it is early (RFC 3891 3)

@final
class ReferAnswered:
    """The final answer of a leg's peer to `refer`; `Referral` follows a 2xx."""

    leg: LegId
    status: int

@final
class Referral:
    """What has become of what `refer` asked for, in the words of the one who was called."""

    leg: LegId
    status: int | None  # None: it was never said
    reason: str
    last: bool

@final
class Ended:
    """The leg is gone; exactly once per leg, nothing follows it."""

    leg: LegId
    by: Literal["local", "remote", "system"]
    cause: Literal[
        "bye",
        "cancel",
        "rejected",
        "timeout",
        "no_ack",
        "transport_error",
        "unreachable",
        "not_acceptable",
        "media_timeout",
        "ice_failed",
        "dtls_failed",
        "closed",
        "error",
    ]
    status: int | None  # the SIP status that ended it, if any
    reason: str  # plain words
    reasons: str  # the values of the peer's Reason headers (RFC 3326), or ""
    contacts: list[str]  # where a 3xx says the callee is, the likeliest first
    stats: LegStats | None
    passed_on: bool  # the leg that it was dialled for, or that for it, was hung up on in the same words
    age: float

@final
class Registration:
    """What became of a trunk's registration at its carrier."""

    trunk: str
    state: Literal["registered", "failed", "gone"]
    expires: float | None  # as granted
    registrar: tuple[str, int] | None
    status: int | None  # what the registrar answered, if it failed and did
    reason: str
    retry: float | None  # until the next try

@final
class Binding:
    """One phone of a user, as it can be called now: its `next_hop` is `flow:` and the token."""

    token: int
    uri: str  # its Contact: the Request-URI of calls to it
    q: float  # its preference
    expires: float
    source: tuple[str, int]
    transport: Literal["udp", "tcp", "tls"]
    user_agent: str

@final
class Bindings:
    """The phones of a user that are registered here, the preferred ones first."""

    user: str
    bindings: list[Binding]

@final
class TrunksDown:
    """The trunks of which no target is well now, all of them; told anew when there are others."""

    trunks: dict[str, float]  # seconds until the first target is tried in its turn

@final
class Done:
    """The answer to one command."""

    correlation: int
    leg: LegId
    error: EngineError | None
    sdp: str | None  # accept_offer, create_offer
    codec: str | None

Event = (
    Incoming
    | Ringing
    | Answered
    | Confirmed
    | Connected
    | Digit
    | Held
    | Refer
    | ReferAnswered
    | Referral
    | Ended
    | Registration
    | Bindings
    | TrunksDown
    | Done
)

@final
class LegStats:
    """Media counters of one leg."""

    codec: str | None
    packets_received: int
    packets_sent: int
    bytes_received: int
    bytes_sent: int
    packets_lost: int
    jitter: float
    round_trip: float | None

@final
class EngineStats:
    """Counters since the start; `drops` maps `plane.reason` ("sip.malformed", "srtp.auth") to counts."""

    sip_messages_received: int
    sip_messages_sent: int
    sip_retransmissions: int
    sip_transactions: int
    sip_dialogs: int
    sip_connections: int
    sip_connections_opened: int
    forwarded: int  # calls that went on by `set_dial_plan`
    rtp_packets_received: int
    rtp_packets_sent: int
    legs: int
    ports_free: int
    ports_in_use: int
    event_queue_depth: int
    event_queue_capacity: int
    refused_overload: int
    refused: dict[str, int]  # rule to how many
    drops: dict[str, int]

@final
class TargetReport:
    """How one target is that failed or is probed."""

    trunk: str
    transport: str
    address: tuple[str, int]
    state: Literal["up", "down", "trial"]
    last_rtt: float | None
    failures: int  # in a row

@final
class Rung:
    """One SIP message of a leg."""

    @property
    def at(self) -> float: ...  # seconds since 1970
    @property
    def leg(self) -> LegId: ...
    @property
    def sent(self) -> bool: ...  # or received
    @property
    def transport(self) -> str: ...  # "udp", "tcp", "tls"
    @property
    def local(self) -> tuple[str, int]: ...
    @property
    def remote(self) -> tuple[str, int]: ...
    @property
    def message(self) -> bytes: ...

@final
class Refusal:
    """Something that was refused, or dropped without an answer (then `status` is None)."""

    at: float  # seconds since 1970
    rule: str
    status: int | None
    source: tuple[str, int]
    trunk: str  # "" without one
    request: str  # the start line, as far as it was read
    reason: str  # plain words

@final
class Engine:
    """Owns the sockets and threads. Constructing it binds and starts; `stop` ends it."""

    def __new__(
        cls,
        *,
        sip_host: str,  # or several, separated by commas
        sip_port: int,  # UDP and TCP
        sip_tls_port: int = 5061,
        sip_tls_files: tuple[str, str, str | None] | None = None,  # certificate, key, clients' authority
        sip_public_address: str | None = None,
        rtp_port_range: tuple[int, int] = (20000, 29999),
        webrtc_host: str | None = None,  # None: as sip_host
        webrtc_port: int = 40000,  # worker i listens on webrtc_port + i; 0: any
        media_workers: int = 1,
        user_agent: str = "telephony-gateway",
        media_timeout: float = 60.0,
        event_capacity: int = 8192,
        dns_servers: str = "",  # ip[:port],...; empty: the system's
        unknown_sources: str = "take",  # or "drop", "refuse": requests from addresses of no trunk
        ladder_memory: int = 33554432,  # bytes of SIP messages kept for `ladder`; 0: none
    ) -> Self: ...
    @property
    def sip_address(self) -> tuple[str, int]: ...
    @property
    def sip_listeners(self) -> list[tuple[str, str, int]]: ...
    @property
    def webrtc_addresses(self) -> list[tuple[str, int]]: ...
    def fileno(self) -> int:
        """The eventfd that turns readable when events wait."""
    def poll_events(self, limit: int = 256) -> list[Event]: ...
    def new_sip_leg(self, beside: LegId | None = None) -> LegId: ...
    def new_webrtc_leg(self, beside: LegId | None = None) -> LegId: ...
    def dial(
        self,
        leg: LegId,
        *,
        uri: str,  # Request-URI
        from_uri: str,
        from_display: str = "",
        next_hop: str | None = None,  # sip: URI or host:port to send to; None: the Request-URI's host
        trunk: str = "",  # as `set_trunks` named it
        codecs: list[str],
        headers: list[tuple[str, str]] = [],
        timeout: float = 60.0,
        elsewhere: bool = False,  # other places wait: a silent last target gets its trunk's patience only
        replaces: LegId | None = None,  # at whose peer to take its place (RFC 3891), whatever `uri` says
        caller: LegId | None = None,  # the leg it is dialled for, if what happens is to be passed on
        caller_codecs: list[str] = [],  # towards that one
    ) -> int | None:
        """Send an INVITE. Once the command is taken, exactly one `Ended` follows, whatever happens.

        None, here and below: done already, no `Done` follows; what it leads to is told by events.

        Between the leg and its `caller` is passed on at once what is plain: the callee rings without sound,
        it answers, one of the two hangs up after that. The events come later, and say so. Sound before the
        answer, a REFER, an INVITE with Replaces or a command for the caller's leg ends that, as `unlink`.
        """
    def ring(self, leg: LegId, *, codecs: list[str], status: int = 180) -> str | int:
        """Negotiate the offer, send the provisional; 488 and Ended(not_acceptable) if nothing is common.

        Done already: the codec ("" while the caller is yet to answer); a number: its `Done` follows.
        """
    def answer(self, leg: LegId) -> int | None:
        """Send 200 with the SDP answer (rings first, silently, if ring was not called)."""
    def reject(
        self, leg: LegId, status: int, reason: str | None = None, headers: list[tuple[str, str]] = []
    ) -> int | None: ...
    def hangup(self, leg: LegId, reason: str | None = None) -> int | None:
        """CANCEL, BYE or close, as the leg's state demands; harmless on a leg that is gone."""
    def accept_offer(self, leg: LegId, sdp: str, codecs: list[str]) -> int: ...
    def create_offer(self, leg: LegId, codecs: list[str]) -> int: ...
    def accept_answer(self, leg: LegId, sdp: str) -> int: ...
    def add_candidate(self, leg: LegId, candidate: str | None) -> int: ...
    def bridge(self, first: LegId, second: LegId) -> int | None:
        """Join two legs' media."""
    def preview(self, first: LegId, second: LegId) -> int:
        """Let two legs hear each other before their call is answered: early media."""
    def ring_back(self, leg: LegId, tone: str | None) -> int:
        """Play a ringback tone ("eu", "us") until sound or the answer comes; None ends it."""
    def unlink(self, leg: LegId) -> int | None:
        """Pass nothing on any more between the leg and its caller, or its callee."""
    def unbridge(self, leg: LegId) -> int: ...
    def send_digits(self, leg: LegId, digits: str, duration: float = 0.1) -> int: ...
    def introduce(self, first: LegId, second: LegId) -> int:
        """Tell the peers of two legs that were bridged anew what each does.

        A hold of who was there before is over.
        """

    def refer(
        self,
        leg: LegId,
        target: str = "",
        *,
        replaces: LegId | None = None,
        early_only: bool = False,
        referred_by: str | None = None,
    ) -> int:
        """Ask a leg's peer to call `target`, or to take the place of another leg at that leg's peer."""

    def accept_refer(self, leg: LegId, number: int) -> int: ...
    def refuse_refer(self, leg: LegId, number: int, status: int) -> int: ...
    def notify_refer(self, leg: LegId, number: int, status: int, reason: str = "") -> int:
        """Tell how far a transfer has come; from 200 on it is the last word."""

    def leg_stats(self, leg: LegId) -> LegStats | None: ...
    def stats(self) -> EngineStats: ...
    def targets(self) -> list[TargetReport]: ...
    def set_trunks(self, document: bytes) -> None:
        """Replace the trunks by a JSON list of objects; legs keep the profile they began with.

        Keys: name; addresses (networks), which count last if `last`; max_cps, max_calls; uri; probe,
        patience (seconds); credentials (username, password, realm); register (registrar, aor, contact_user,
        expires, rewrite); guard (as credentials: what its calls must prove); phones (whether users' phones
        may sit at its addresses); dtmf ("rfc4733" or "info"); transport, local, advertise, tls. An unknown
        key is refused.
        """
    def check_trunks(self, document: bytes) -> None:
        """Fail as `set_trunks` would, and change nothing."""
    def set_users(self, document: bytes) -> None:
        """Replace the users whose phones may register, by a JSON object.

        Keys: realm; users (name, password or ha1, max_contacts). An unknown key is refused.
        """
    def refusals(self, limit: int = 1000) -> list[Refusal]:
        """What was refused or dropped at the door, the newest first."""
    def ladder(self, legs: list[LegId]) -> tuple[list[Rung], bool]:
        """The SIP messages of these legs in their order, running or over; and whether there were more."""
    def set_dial_plan(self, document: bytes) -> None:
        """Replace the part of the dial plan by which calls go on unasked, told of by `Incoming.forwarded`.

        A JSON object, made of the trunks that were set last; setting others makes it void. Keys: secret, for
        `X-Gateway-Passage`; max_legs, from which on each call is asked about; sources, the trunks whose calls
        may go on, by name: strip, prepend, codecs; routes in their order: name, trunk, to, from (patterns
        that the numbers are searched for), way. The first route that takes a call decides: one without a way
        asks. Keys of a way: trunk, scheme, host, next_hop, address (ip:port, for who calls there is asked
        about), from_host, strip, prepend, codecs, timeout (seconds). EngineError(invalid) on a document that
        is none.
        """
    def ask_always(self, ask: bool) -> None:
        """Ask about each call, whatever the dial plan says."""
    def refuse_new(self, refuse: bool) -> None:
        """New INVITEs get 503 with Retry-After (draining)."""
    def stop(self, timeout: float = 5.0) -> None:
        """BYE or CANCEL what is left, wait for the threads; idempotent."""
