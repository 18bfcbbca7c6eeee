//! What an endpoint tells its owner, and what it is told.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::{Failure, Flow, Key, Message, Profile, ReferTo, Target};

/// One leg of a call, named by the owner of the endpoint. Opaque here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegId(pub u64);

/// Something happened to a leg.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// An INVITE asks for a new call; 100 Trying has left already.
    Incoming {
        /// The new leg.
        leg: LegId,
        /// The request.
        invite: Message,
        /// Where it came from and arrived at.
        flow: Flow,
        /// The user of ours that it has proved to come from; `None` for a trunk's.
        user: Option<Arc<str>>,
        /// The leg whose place it is to take (RFC 3891); `None` for a plain call.
        replaces: Option<LegId>,
    },
    /// A provisional response to our INVITE, any but 100. A reliable one has its PRACK, unless we offered nothing and
    /// it does: then the PRACK waits for `acknowledge`.
    Progress {
        /// The leg.
        leg: LegId,
        /// The response.
        response: Message,
        /// Its dialog's session was agreed on before it, reliably: a description in it means nothing (RFC 3261 13.2.1).
        settled: bool,
    },
    /// A 2xx to our INVITE. Its ACK has been sent, unless we offered nothing and it does: then the ACK waits for
    /// `acknowledge`.
    Answered {
        /// The leg.
        leg: LegId,
        /// The response.
        response: Message,
        /// As for `Progress`.
        settled: bool,
    },
    /// The ACK to our 2xx; for a re-INVITE it is reported only when it carries a body (an answer to our offer).
    Confirmed {
        /// The leg.
        leg: LegId,
        /// The request.
        ack: Message,
    },
    /// A PRACK with the answer to the offer of our provisional response.
    Acknowledged {
        /// The leg.
        leg: LegId,
        /// The request; answered 200 already.
        prack: Message,
    },
    /// A re-INVITE, or an UPDATE or PRACK with an offer. Answer with `answer_reoffer` or `reject_reoffer`.
    Reoffer {
        /// The leg.
        leg: LegId,
        /// The request.
        request: Message,
    },
    /// The peer's re-INVITE, UPDATE or PRACK waits for us no more: it was cancelled, or nobody answered it in time. Its
    /// session is as it was (RFC 3261 14.1).
    ReofferLapsed {
        /// The leg.
        leg: LegId,
    },
    /// A 2xx to our re-INVITE or UPDATE. Where we offered nothing and it does, the ACK waits for `acknowledge`.
    ReofferAnswered {
        /// The leg.
        leg: LegId,
        /// The response.
        response: Message,
    },
    /// Our re-INVITE or UPDATE came to nothing; the session is as it was (RFC 3261 14.1).
    ReofferRefused {
        /// The leg.
        leg: LegId,
        /// The final status; 408 or 503 of our own where none came (8.1.3.1), 491 where both sides kept colliding.
        status: u16,
        /// The response, if there was one.
        response: Option<Message>,
    },
    /// The peer pressed a key, by INFO; answered 200 already.
    Key {
        /// The leg.
        leg: LegId,
        /// Which, and how long.
        key: Key,
    },
    /// A REFER: the peer wants its partner to call somebody else. Answer with `accept_refer` or `refuse_refer`.
    Refer {
        /// The leg.
        leg: LegId,
        /// Names it among others of the leg: its CSeq number.
        id: u32,
        /// What the peer wants.
        referred: Box<Referred>,
    },
    /// The final answer to our REFER, or 408 or 503 of our own where none came (8.1.3.1).
    ReferAnswered {
        /// The leg.
        leg: LegId,
        /// From 300 on, nothing more follows.
        status: u16,
    },
    /// What has become of what our REFER asked for.
    Referral {
        /// The leg.
        leg: LegId,
        /// As the peer got it from the one it called; `None` if it never said.
        status: Option<u16>,
        /// The reason phrase beside it.
        reason: String,
        /// Nothing more follows.
        last: bool,
    },
    /// The next hop of a leg's dialog is a name, or TLS is wanted on the way there and was not spoken so far; say where
    /// it leads by `next_hop_found`, or let the dialog's flow do.
    NextHop {
        /// The leg.
        leg: LegId,
        /// The dialog, as the endpoint numbers it.
        dialog: u64,
        /// The next hop: the first Route or the remote target.
        uri: String,
    },
    /// Where our INVITE went is no use now. The next target is being tried, or the leg ends.
    TargetFailed {
        /// The leg.
        leg: LegId,
        /// The name of its profile.
        profile: Arc<str>,
        /// The way it was tried.
        flow: Flow,
        /// Why.
        failure: Failure,
    },
    /// What the message that ends the leg says beside; `Ended` follows at once. Most messages say nothing.
    Said {
        /// The leg.
        leg: LegId,
        /// What it says.
        said: Box<Said>,
    },
    /// The leg is over, or being torn down by its own machinery. Exactly once per leg, and nothing follows.
    Ended {
        /// The leg.
        leg: LegId,
        /// How.
        ended: Ended,
    },
}

impl Event {
    /// The leg concerned.
    #[must_use]
    pub fn leg(&self) -> LegId {
        match self {
            Self::Incoming { leg, .. }
            | Self::Progress { leg, .. }
            | Self::Answered { leg, .. }
            | Self::Confirmed { leg, .. }
            | Self::Acknowledged { leg, .. }
            | Self::Reoffer { leg, .. }
            | Self::ReofferLapsed { leg }
            | Self::ReofferAnswered { leg, .. }
            | Self::ReofferRefused { leg, .. }
            | Self::Key { leg, .. }
            | Self::Refer { leg, .. }
            | Self::ReferAnswered { leg, .. }
            | Self::Referral { leg, .. }
            | Self::NextHop { leg, .. }
            | Self::TargetFailed { leg, .. }
            | Self::Said { leg, .. }
            | Self::Ended { leg, .. } => *leg,
        }
    }
}

/// How a leg ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Who ended it.
    pub by: Side,
    /// By what.
    pub cause: Cause,
    /// The final status sent or received instead of a 2xx, if there was one.
    pub status: Option<u16>,
    /// The reason phrase of that response, or the text of the Reason header of BYE or CANCEL (RFC 3326).
    pub reason: String,
}

/// What the message that ended a leg says for whoever stands behind the leg.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// The values of Reason as they stood, on one line (RFC 3326; in a response RFC 6432). Empty without one.
    pub reasons: String,
    /// Where a 3xx says that the callee is, the likeliest first (`q`: RFC 3261 20.10).
    pub contacts: Vec<String>,
}

/// What a REFER asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referred {
    /// Where to call, and what to say there.
    pub refer_to: ReferTo,
    /// Who asks, as the value of Referred-By stands (RFC 3892); empty without one.
    pub referred_by: String,
    /// The leg of ours whose dialog the Replaces in Refer-To names (RFC 3891): an attended transfer. Whether it may be
    /// replaced only while it is early (3).
    pub replaces: Option<(LegId, bool)>,
}

/// Who ended a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The owner of this endpoint, by command.
    Local,
    /// The peer.
    Remote,
    /// Neither: a timer or the network.
    System,
}

/// What ended a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// BYE, either way.
    Bye,
    /// CANCEL, either way.
    Cancel,
    /// A final response other than 2xx, either way.
    Rejected,
    /// Nobody answered in time: the timeout of the dial command, or Expires of a received INVITE.
    Timeout,
    /// Our 2xx was never acknowledged (RFC 3261 13.3.1.4).
    NoAck,
    /// The network refused our messages.
    TransportError,
    /// The peer never said anything (timer B).
    Unreachable,
    /// The peer no longer knows the dialog: 481, 408 or nothing to a request within it (RFC 3261 12.2.1.2).
    Lost,
    /// An offer of the peer was never answered by the owner.
    NoAnswer,
}

/// A body with its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Content-Type, such as `application/sdp`.
    pub content_type: String,
    /// The bytes.
    pub bytes: Bytes,
}

/// An outgoing call.
#[derive(Debug, Clone)]
pub struct Dial {
    /// From which of our addresses to which next hop.
    pub flow: Flow,
    /// `host:port` for Contact and the sent-by of Via.
    pub contact: String,
    /// Where to go when that fails, best first; each is tried once (RFC 3263 4.3).
    pub others: Vec<Target>,
    /// Whether the owner knows yet other places: then the last of these, too, gets its patience only.
    pub elsewhere: bool,
    /// Whom to call.
    pub request_uri: String,
    /// From, a name-addr without tag.
    pub from: String,
    /// To, a name-addr without tag.
    pub to: String,
    /// Further headers; those the endpoint itself owns are refused.
    pub headers: Vec<(String, String)>,
    /// The offer, usually.
    pub body: Option<Body>,
    /// How long to wait for a final response before CANCEL.
    pub timeout: Duration,
    /// How the peer wants to be spoken to.
    pub profile: Arc<Profile>,
}
