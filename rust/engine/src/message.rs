//! What the SIP thread, the media workers, the resolver and the caller of the engine say to each other.

use crate::command::Command;
use crate::dial_plan::DialPlan;
use crate::event::{Cause, Ended, Outcome};
use crate::resolve::{Answer, Question};
use crate::trunk::Trunks;
use crate::{EngineError, LegId};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;
use telephony_media::Renewal;
use telephony_media::codec::Codec;
use telephony_media::stats::LegStats;
use telephony_sip::Key;
use telephony_sip::users::Users;

/// Mail for the SIP thread.
pub(crate) enum ToSip {
    /// A command of the engine's user.
    Command(u64, Command),
    /// A worker has done a [`MediaJob`].
    Media { leg: LegId, purpose: Purpose, result: Result<Outcome, EngineError> },
    /// A SIP leg's media ended by itself.
    MediaEnded { leg: LegId, cause: Cause, reason: String },
    /// A key for a SIP leg's peer, who takes them by INFO.
    Key(LegId, Key),
    /// The resolver found where a name leads, or why nowhere.
    Resolved { question: Question, result: Result<Answer, String> },
    /// The trunks from now on; legs keep the profile they began with.
    Trunks(Arc<Trunks>),
    /// Whose phones may register from now on.
    Users(Option<Users>),
    /// Which calls go where without a question, from now on.
    DialPlan(Box<DialPlan>),
    /// Whether to ask about each call, whatever the plan says.
    AskAlways(bool),
    /// Whether to refuse new calls because the user says so.
    RefuseNew(bool),
    /// Hang up all legs; end once they are gone, at this time at the latest.
    Stop(Instant),
}

/// Mail for a media worker.
pub(crate) enum ToWorker {
    /// A command of the engine's user.
    Command(u64, Command),
    /// Work on the media of a SIP leg; answered by [`ToSip::Media`] with the same purpose.
    Job { leg: LegId, purpose: Purpose, job: MediaJob },
    /// The signalling of a SIP leg is over: free its media and report the end.
    End(Box<Ended>),
    /// A SIP leg's peer pressed a key by INFO.
    Pressed(LegId, Key),
    /// The counters of one leg.
    Stats(LegId, SyncSender<Option<LegStats>>),
    /// End all legs, and then the thread.
    Stop,
}

/// Why the SIP thread asked a worker for something; it comes back with the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The answer (or our offer, if the INVITE had none) for an incoming call.
    Incoming,
    /// The offer for our INVITE.
    Dial,
    /// An answer in a provisional response of this status.
    EarlyAnswer(u16),
    /// An answer in a PRACK, to the offer in our reliable provisional response.
    PrackAnswer,
    /// The answer in the 2xx to our INVITE.
    Answer,
    /// The answer in an ACK, to the offer in our 2xx.
    LateAnswer,
    /// The answer (or our offer, if there was none) to a re-INVITE or UPDATE.
    Reoffer,
    /// Whether the peer of the leg that this one is bridged to anew has something to be told.
    Introduce,
    /// Our offer to a peer, because the bridged leg's has renewed its own.
    Tell,
    /// The peer's answer to that, and with it ours to the bridged leg's peer.
    Exchange,
    /// The peer's answer to that, where nobody waits for it any more.
    Told,
    /// To let a caller hear the callee that answered; then it is answered.
    Join,
}

/// Work on a SIP leg's media.
pub(crate) enum MediaJob {
    /// Make an offer; make the leg first if it is not there.
    Offer { address: MediaAddress, codecs: Vec<Codec> },
    /// Answer the peer's offer; make the leg first if it is not there.
    AcceptOffer { address: MediaAddress, offer: String, codecs: Vec<Codec> },
    /// Take the peer's answer.
    AcceptAnswer { answer: String },
    /// Answer a renewed offer, unless the bridged leg is a SIP leg whose peer must be asked first (or is not `asked`).
    Renew { offer: String, codecs: Vec<Codec>, ask: bool },
    /// Look what the peer of the bridged leg does not know of what this one's does.
    Review,
    /// Make an offer that tells the peer what the bridged leg's has changed.
    Tell { codecs: Vec<Codec>, news: Renewal },
    /// Take the peer's answer to that, and then the offer of the leg that has renewed its own, with its codecs.
    Exchange { answer: String, asked: LegId, offer: String, codecs: Vec<Codec> },
    /// Take the peer's answer to that; what the other leg's peer has changed meanwhile is news again.
    Told { answer: String, other: LegId },
    /// Make an offer that takes back what the peer was told, whose answer was no use; `other` is as it was.
    Revert { codecs: Vec<Codec>, other: LegId },
    /// Let the leg and another one hear each other.
    Join { other: LegId },
}

/// Where a leg's RTP lives, and what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MediaAddress {
    /// The address to bind.
    pub(crate) bind: IpAddr,
    /// The address of this machine that the signalling goes by: a packet for it comes in, too, where `bind` is any.
    pub(crate) local: IpAddr,
    /// The address to write into the session description.
    pub(crate) advertise: IpAddr,
    /// Keys go by signalling instead (INFO).
    pub(crate) signals_keys: bool,
}
