//! What the engine tells: decisions to take, progress, ends, and the answers to commands.

use crate::{EngineError, LegId};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use telephony_media::Renewal;
use telephony_media::codec::Codec;
use telephony_media::stats::LegStats;
use telephony_sip::{Message, Name, Said};

/// Something happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A new INVITE; 100 Trying has left already.
    Incoming(Box<Incoming>),
    /// A provisional response to our INVITE.
    Ringing {
        /// The dialled leg.
        leg: LegId,
        /// 101 to 199.
        status: u16,
        /// The codec of early media, if its response described some.
        codec: Option<Codec>,
        /// What was done for it to the leg that this one was dialled for.
        passed_on: Option<PassedOn>,
        /// When.
        at: Instant,
    },
    /// A dialled leg was answered: ACK has left, its media is negotiated.
    Answered {
        /// The dialled leg.
        leg: LegId,
        /// What both sides agreed on.
        codec: Codec,
        /// The Call-ID header.
        sip_call_id: Box<str>,
        /// Since when it rang, if no `Ringing` told, and the leg that it was dialled for rang with it.
        rang: Option<Instant>,
        /// What was done for it to the leg that this one was dialled for: the two hear each other, the 200 has left.
        passed_on: Option<PassedOn>,
        /// When.
        at: Instant,
    },
    /// The caller's ACK to our 200 arrived. Not told while what happens is passed on between two legs.
    Confirmed {
        /// The calling leg.
        leg: LegId,
    },
    /// Media flows: ICE and DTLS are up (WebRTC), or the first RTP packet came (SIP).
    Connected {
        /// The leg.
        leg: LegId,
    },
    /// One RFC 4733 digit received from the leg's peer.
    Digit {
        /// The leg.
        leg: LegId,
        /// `0-9 * # A-D`.
        digit: char,
        /// How long it was pressed.
        duration: Duration,
    },
    /// A SIP leg's peer holds the call, or takes it up again.
    Held {
        /// The leg.
        leg: LegId,
        /// Whether it listens no more.
        held: bool,
    },
    /// A leg's peer asks for its partner to call somebody else. Answer by `AcceptRefer` or `RefuseRefer`.
    Refer(Box<Refer>),
    /// The final answer of a leg's peer to a REFER of ours.
    ReferAnswered {
        /// The leg.
        leg: LegId,
        /// 2xx: `Referral` follows.
        status: u16,
    },
    /// What has become of what a REFER of ours asked for.
    Referral {
        /// The leg.
        leg: LegId,
        /// As the peer got it; `None` if it never said.
        status: Option<u16>,
        /// The phrase beside it.
        reason: String,
        /// Nothing more follows.
        last: bool,
    },
    /// The leg is gone; exactly once per leg, nothing follows it.
    Ended(Box<Ended>),
    /// What became of a trunk's registration.
    Registration(Box<Registration>),
    /// What a user's phones are now.
    Bindings(Box<Bindings>),
    /// The trunks of which no target is well now, all of them, each with the time until the first is tried again in its
    /// turn. Told anew when there are others.
    TrunksDown(Vec<(Arc<str>, Duration)>),
    /// The answer to one command.
    Done(Box<Done>),
}

/// What a callee did was done to the caller as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassedOn {
    /// What the caller speaks; `None` while the answer to our offer is to come.
    pub codec: Option<Codec>,
}

/// The phones of a user that are registered here.
#[derive(Debug, Clone)]
pub struct Bindings {
    /// Whose.
    pub user: Arc<str>,
    /// The preferred ones first.
    pub bindings: Vec<telephony_sip::users::Binding>,
}

/// What became of a trunk's registration at its carrier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Whose.
    pub trunk: Arc<str>,
    /// What.
    pub state: RegistrationState,
}

/// Whether calls can come by a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistrationState {
    /// They can.
    Registered {
        /// As granted; it is renewed in time.
        expires: Duration,
        /// Who granted it.
        registrar: SocketAddr,
    },
    /// They cannot; it is tried again.
    Failed {
        /// What the registrar answered, if it did.
        status: Option<u16>,
        /// Plain words.
        reason: String,
        /// Until the next try.
        retry: Duration,
    },
    /// It was taken back.
    Gone,
}

/// A call that was sent on by a plain route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// The leg that was dialled for it; what becomes of it is passed on as [`crate::Dial::caller`] says.
    pub leg: LegId,
    /// The route.
    pub route: Arc<str>,
    /// The number that was called, and the one that calls, as routes see them.
    pub to: String,
    /// See there.
    pub from: String,
    /// When.
    pub at: Instant,
}

/// A new INVITE.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The calling leg.
    pub leg: LegId,
    /// Where the INVITE came from.
    pub source: SocketAddr,
    /// The address of ours that it came to.
    pub local: SocketAddr,
    /// The trunk it came by, by its address or by our registration; empty for none.
    pub trunk: Arc<str>,
    /// The user of ours whose phone it came from, proved by his password.
    pub user: Option<Arc<str>>,
    /// The leg whose place it is to take (RFC 3891).
    pub replaces: Option<LegId>,
    /// Encoding names of the offer, in its order; empty for a late offer.
    pub codecs: Vec<String>,
    /// Where it went already, by [`crate::Engine::set_dial_plan`]; `None` if that is yet to be decided.
    pub forwarded: Option<Forwarded>,
    pub(crate) invite: Message,
}

impl Incoming {
    /// The Call-ID header.
    #[must_use]
    pub fn sip_call_id(&self) -> &str {
        self.invite.call_id()
    }

    /// The Request-URI.
    #[must_use]
    pub fn request_uri(&self) -> &str {
        self.invite.request_uri().unwrap_or_default()
    }

    /// The URI of From.
    #[must_use]
    pub fn from_uri(&self) -> &str {
        self.invite.from().map(|from| from.uri.as_str()).unwrap_or_default()
    }

    /// The display name of From; empty without one.
    #[must_use]
    pub fn from_display(&self) -> String {
        self.invite.from().map(|from| from.display().into_owned()).unwrap_or_default()
    }

    /// The URI of To.
    #[must_use]
    pub fn to_uri(&self) -> &str {
        self.invite.to().map(|to| to.uri.as_str()).unwrap_or_default()
    }

    /// The first value of a header, by its long or compact name in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.invite.header_named(name)
    }

    /// All headers in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.invite.headers()
    }

    /// The User-Agent header, for logs.
    #[must_use]
    pub fn user_agent(&self) -> Option<&str> {
        self.invite.header(Name::UserAgent)
    }
}

/// What a REFER asks for (RFC 3515).
#[derive(Debug, Clone)]
pub struct Refer {
    /// The leg whose peer asks.
    pub leg: LegId,
    /// Names the request among others of the leg.
    pub id: u32,
    /// Whom to call: Refer-To without its headers.
    pub uri: String,
    /// The headers that Refer-To brings along, escapes resolved.
    pub headers: Vec<(String, String)>,
    /// Referred-By as it stood; empty without one.
    pub referred_by: String,
    /// The leg of ours that the Replaces among those headers names: an attended transfer. Whether it may be replaced
    /// only while it is early.
    pub replaces: Option<(LegId, bool)>,
}

/// Who ended a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A command of ours.
    Local,
    /// The leg's peer.
    Remote,
    /// The gateway itself: a timer, a fault, the network.
    System,
}

impl Side {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
            Self::System => "system",
        }
    }
}

/// How a leg ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// BYE, or its like on a WebRTC leg.
    Bye,
    /// CANCEL, or given up before an answer.
    Cancel,
    /// A final response of 300 or more.
    Rejected,
    /// No answer in time.
    Timeout,
    /// The caller never sent the ACK to our 200.
    NoAck,
    /// The network said that the peer cannot be reached.
    TransportError,
    /// The peer never said anything, or its name has no address.
    Unreachable,
    /// No common codec, or a session description that cannot be used.
    NotAcceptable,
    /// No media for too long.
    MediaTimeout,
    /// ICE found no path.
    IceFailed,
    /// The DTLS handshake failed.
    DtlsFailed,
    /// The peer closed the DTLS association.
    Closed,
    /// A fault of ours, or no ports left.
    Error,
}

impl Cause {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bye => "bye",
            Self::Cancel => "cancel",
            Self::Rejected => "rejected",
            Self::Timeout => "timeout",
            Self::NoAck => "no_ack",
            Self::TransportError => "transport_error",
            Self::Unreachable => "unreachable",
            Self::NotAcceptable => "not_acceptable",
            Self::MediaTimeout => "media_timeout",
            Self::IceFailed => "ice_failed",
            Self::DtlsFailed => "dtls_failed",
            Self::Closed => "closed",
            Self::Error => "error",
        }
    }
}

/// The end of a leg.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The leg that is gone.
    pub leg: LegId,
    /// Who ended it.
    pub by: Side,
    /// How.
    pub cause: Cause,
    /// The SIP status that ended it, if any.
    pub status: Option<u16>,
    /// Plain words.
    pub reason: String,
    /// What the peer's message said for whoever stands behind the leg: Reason values, contacts of a 3xx.
    pub said: Option<Box<Said>>,
    /// What its media did; `None` if it never had any.
    pub stats: Option<LegStats>,
    /// The other leg of its call was hung up on in the same words.
    pub passed_on: bool,
    /// When.
    pub at: Instant,
}

impl Ended {
    pub(crate) fn new(leg: LegId, by: Side, cause: Cause, reason: impl Into<String>) -> Self {
        Self {
            leg,
            by,
            cause,
            status: None,
            reason: reason.into(),
            said: None,
            stats: None,
            passed_on: false,
            at: Instant::now(),
        }
    }
}

/// The answer to one command.
#[derive(Debug, Clone)]
pub struct Done {
    /// What the command returned.
    pub correlation: u64,
    /// The leg it was about.
    pub leg: LegId,
    /// What came of it.
    pub result: Result<Outcome, EngineError>,
}

/// What a command that went well has to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The offer or answer that was made.
    pub sdp: Option<String>,
    /// The codec, once one is agreed on.
    pub codec: Option<Codec>,
    /// What the bridged leg's peer has to be told.
    pub(crate) news: Option<Renewal>,
    /// Whether the leg's peer holds the call, if that is new.
    pub(crate) held: Option<bool>,
}
