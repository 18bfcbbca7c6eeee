//! What the engine can be told to do, and the checks that need no thread.

use crate::error::Code;
use crate::{EngineError, Kind, LegId};
use std::time::Duration;
use telephony_media::codec::Codec;
use telephony_media::ringback::Ringback;
use telephony_sip::Uri;

/// One command. Each returns at once and is answered by an [`crate::Event::Done`].
#[derive(Debug, Clone)]
pub enum Command {
    /// Call somebody. Once taken, exactly one `Ended` follows, whatever happens.
    Dial(Box<Dial>),
    /// Negotiate the caller's offer and send a provisional response.
    Ring {
        /// The calling leg.
        leg: LegId,
        /// Our codecs, best first.
        codecs: Vec<Codec>,
        /// 180, or 183 to send the SDP answer early.
        status: u16,
    },
    /// Send 200 with the SDP answer.
    Answer {
        /// The calling leg.
        leg: LegId,
    },
    /// Refuse the caller.
    Reject {
        /// The calling leg.
        leg: LegId,
        /// 300 to 699.
        status: u16,
        /// A reason phrase other than the registered one.
        reason: Option<String>,
        /// Further headers.
        headers: Vec<(String, String)>,
    },
    /// CANCEL, BYE, refuse or close, as the leg's state demands; harmless on a leg that is gone.
    Hangup {
        /// The leg.
        leg: LegId,
        /// Words, or a whole Reason value (RFC 3326).
        reason: Option<String>,
    },
    /// Take a browser's offer and answer it.
    AcceptOffer {
        /// The WebRTC leg, which begins to exist.
        leg: LegId,
        /// The offer.
        sdp: String,
        /// Our codecs, best first.
        codecs: Vec<Codec>,
    },
    /// Make an offer to a browser.
    CreateOffer {
        /// The WebRTC leg, which begins to exist.
        leg: LegId,
        /// Our codecs, best first.
        codecs: Vec<Codec>,
    },
    /// Take a browser's answer to our offer.
    AcceptAnswer {
        /// The WebRTC leg.
        leg: LegId,
        /// The answer.
        sdp: String,
    },
    /// Take a trickled ICE candidate of a browser; `None` says that it was the last.
    AddCandidate {
        /// The WebRTC leg.
        leg: LegId,
        /// The value of `a=candidate`.
        candidate: Option<String>,
    },
    /// Let two legs of one worker hear each other.
    Bridge {
        /// One leg.
        first: LegId,
        /// The other.
        second: LegId,
    },
    /// Let two legs hear each other before their call is answered: early media.
    Preview {
        /// One leg.
        first: LegId,
        /// The other.
        second: LegId,
    },
    /// Play a ringback tone to a leg's peer until sound of the bridged leg comes or the call is answered.
    RingBack {
        /// The leg.
        leg: LegId,
        /// Which; `None` ends it.
        tone: Option<Ringback>,
    },
    /// Pass nothing on any more between the two legs of a call, of which this is one: what happens is only told.
    Unlink {
        /// The leg.
        leg: LegId,
    },
    /// End the bridge of a leg.
    Unbridge {
        /// The leg.
        leg: LegId,
    },
    /// Tell the peers of two legs that were bridged anew what each does: a hold of whoever was there before is over.
    Introduce {
        /// One leg.
        first: LegId,
        /// The other.
        second: LegId,
    },
    /// Ask a leg's peer to call somebody else (RFC 3515); `ReferAnswered` and `Referral` follow.
    Refer {
        /// The leg.
        leg: LegId,
        /// The URI of Refer-To; empty for that of the leg to be replaced.
        target: String,
        /// The leg whose place the peer is to take at that leg's own peer (RFC 3891), and whether only before that is
        /// answered.
        replaces: Option<(LegId, bool)>,
        /// Referred-By, as it is to stand (RFC 3892).
        referred_by: Option<String>,
    },
    /// Take up what a leg's peer asks for by REFER.
    AcceptRefer {
        /// The leg.
        leg: LegId,
        /// As [`crate::Event::Refer`] named it.
        id: u32,
    },
    /// Turn it down.
    RefuseRefer {
        /// The leg.
        leg: LegId,
        /// As [`crate::Event::Refer`] named it.
        id: u32,
        /// 300 to 699.
        status: u16,
    },
    /// Tell how far it has come; the leg may be gone, and its peer may not want to know.
    NotifyRefer {
        /// The leg.
        leg: LegId,
        /// As [`crate::Event::Refer`] named it.
        id: u32,
        /// As the one who was called gave it; from 200 on it is the last.
        status: u16,
        /// The phrase beside it; empty for the registered one.
        reason: String,
    },
    /// Send digits to the leg's peer as RFC 4733 events.
    SendDigits {
        /// The leg.
        leg: LegId,
        /// `0-9 * # A-D`.
        digits: String,
        /// Of each digit.
        duration: Duration,
    },
}

/// A call to somebody.
#[derive(Debug, Clone)]
pub struct Dial {
    /// A new SIP leg.
    pub leg: LegId,
    /// The Request-URI.
    pub uri: String,
    /// The URI of From.
    pub from_uri: String,
    /// The display name of From; may be empty.
    pub from_display: String,
    /// A SIP URI, `host:port` or `flow:` and the token of a phone's binding to send to, in place of the Request-URI's host.
    pub next_hop: Option<String>,
    /// The trunk it is sent by, as [`crate::Engine::set_trunks`] named it; empty for none.
    pub trunk: String,
    /// Our codecs, best first.
    pub codecs: Vec<Codec>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// Until a final response; then CANCEL.
    pub timeout: Duration,
    /// Whether other places wait for the call should this one be silent: then it gets its trunk's patience only.
    pub elsewhere: bool,
    /// The leg whose place the new one is to take at that leg's own peer (RFC 3891), which is called whatever `uri`
    /// and `next_hop` say.
    pub replaces: Option<LegId>,
    /// The calling leg that it is dialled for, if all that the callee does is to be done to the caller at once.
    pub caller: Option<Caller>,
}

/// A calling leg that waits for what becomes of a call out.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Which.
    pub leg: LegId,
    /// Our codecs towards it, best first.
    pub codecs: Vec<Codec>,
}

impl Command {
    /// The leg that the command is about.
    #[must_use]
    pub fn leg(&self) -> LegId {
        match self {
            Self::Dial(dial) => dial.leg,
            Self::Ring { leg, .. }
            | Self::Answer { leg }
            | Self::Reject { leg, .. }
            | Self::Hangup { leg, .. }
            | Self::AcceptOffer { leg, .. }
            | Self::CreateOffer { leg, .. }
            | Self::AcceptAnswer { leg, .. }
            | Self::AddCandidate { leg, .. }
            | Self::Bridge { first: leg, .. }
            | Self::Preview { first: leg, .. }
            | Self::RingBack { leg, .. }
            | Self::Introduce { first: leg, .. }
            | Self::Refer { leg, .. }
            | Self::AcceptRefer { leg, .. }
            | Self::RefuseRefer { leg, .. }
            | Self::NotifyRefer { leg, .. }
            | Self::Unbridge { leg }
            | Self::Unlink { leg }
            | Self::SendDigits { leg, .. } => *leg,
        }
    }

    /// Whether the SIP thread carries it out; a media worker does otherwise.
    pub(crate) fn is_signalling(&self) -> bool {
        match self {
            Self::Dial(_)
            | Self::Ring { .. }
            | Self::Answer { .. }
            | Self::Reject { .. }
            | Self::Introduce { .. }
            | Self::Unlink { .. }
            | Self::Refer { .. }
            | Self::AcceptRefer { .. }
            | Self::RefuseRefer { .. }
            | Self::NotifyRefer { .. } => true,
            Self::Hangup { leg, .. } => leg.kind() == Kind::Sip,
            _ => false,
        }
    }

    /// Whether events of the leg tell what it leads to, its end at the latest: of signalling commands.
    pub(crate) fn is_told(&self) -> bool {
        !matches!(self, Self::Ring { .. } | Self::Answer { .. })
    }

    /// Refuses what can be seen to be wrong before any thread is troubled.
    pub(crate) fn check(&self, workers: usize) -> Result<(), EngineError> {
        if self.leg().worker() >= workers {
            return Err(EngineError::unknown_leg());
        }
        self.check_kind()?;
        match self {
            Self::Dial(dial) => dial.check(),
            Self::Ring { codecs, status, .. } => check_codecs(codecs).and(check_status(*status, 101..=199)),
            Self::Reject { status, .. } | Self::RefuseRefer { status, .. } => {
                check_status(*status, 300..=699)
            }
            Self::NotifyRefer { status, .. } => check_status(*status, 100..=699),
            Self::AcceptOffer { codecs, .. } | Self::CreateOffer { codecs, .. } => check_codecs(codecs),
            Self::Bridge { first, second } | Self::Preview { first, second } => check_bridge(*first, *second),
            _ => Ok(()),
        }
    }

    fn check_kind(&self) -> Result<(), EngineError> {
        let (wanted, name) = match self {
            Self::Dial(_)
            | Self::Ring { .. }
            | Self::Answer { .. }
            | Self::Reject { .. }
            | Self::Refer { .. } => (Kind::Sip, "SIP"),
            Self::AcceptOffer { .. }
            | Self::CreateOffer { .. }
            | Self::AcceptAnswer { .. }
            | Self::AddCandidate { .. } => (Kind::WebRtc, "WebRTC"),
            _ => return Ok(()),
        };
        match self.leg().kind() == wanted {
            true => Ok(()),
            false => Err(EngineError::wrong_state(&format!("this command is for {name} legs"))),
        }
    }
}

impl Dial {
    /// The token of the phone that is called, if it is one that registered here.
    pub(crate) fn phone(&self) -> Option<u64> {
        self.next_hop.as_deref()?.strip_prefix("flow:")?.parse().ok()
    }

    fn check(&self) -> Result<(), EngineError> {
        check_codecs(&self.codecs)?;
        if let Some(caller) = &self.caller {
            check_codecs(&caller.codecs)?;
            check_bridge(caller.leg, self.leg)?;
        }
        for (what, uri) in [("uri", &self.uri), ("from_uri", &self.from_uri)] {
            let fault = |why: &str| EngineError::new(Code::Invalid, format!("{what} {uri:?}: {why}"));
            Uri::parse(uri).map_err(|error| fault(error.what()))?;
        }
        match self.phone() {
            Some(_) => Ok(()),
            None => crate::resolve::Target::parse(self.next_hop.as_deref().unwrap_or(&self.uri)).map(drop),
        }
    }
}

fn check_codecs(codecs: &[Codec]) -> Result<(), EngineError> {
    match codecs {
        [] => Err(EngineError::new(Code::Invalid, "name at least one codec")),
        _ => Ok(()),
    }
}

fn check_status(status: u16, range: std::ops::RangeInclusive<u16>) -> Result<(), EngineError> {
    if range.contains(&status) {
        return Ok(());
    }
    let message = format!("status {status} is not one of {} to {}", range.start(), range.end());
    Err(EngineError::new(Code::Invalid, message))
}

fn check_bridge(first: LegId, second: LegId) -> Result<(), EngineError> {
    if first == second {
        return Err(EngineError::new(Code::Invalid, "a leg cannot be bridged to itself"));
    }
    if first.worker() != second.worker() {
        return Err(EngineError::wrong_state("the legs are on two workers; make one `beside` the other"));
    }
    Ok(())
}
