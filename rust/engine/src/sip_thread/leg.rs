//! What the SIP thread knows about a leg beside what the endpoint does.

use super::renew::Renewing;
use crate::command::Dial;
use crate::event::{Cause, Side};
use crate::message::MediaAddress;
use bytes::Bytes;
use smallvec::SmallVec;
use telephony_media::codec::Codec;
use telephony_sip::{Flow, Said};

/// The ways to a next hop, best first.
pub(super) type Flows = SmallVec<[Flow; 1]>;

/// A SIP leg.
pub(super) struct Leg {
    pub(super) state: State,
    /// Where its media lives; known once its flow is.
    pub(super) address: Option<MediaAddress>,
    /// Our codecs, best first.
    pub(super) codecs: Vec<Codec>,
    /// The codec that both sides agreed on.
    pub(super) codec: Option<Codec>,
    /// A worker was asked to make its media, and so is the one to report its end.
    pub(super) has_media: bool,
    /// Our side of the last offer and answer.
    pub(super) local_sdp: Option<String>,
    /// The last answer of the peer that went to the worker.
    pub(super) remote_answer: Option<Bytes>,
    /// We sent an offer in a 2xx; the ACK must bring the answer (RFC 3261 13.2.2.4).
    pub(super) awaits_late_answer: bool,
    /// Its part in a session that is being renewed.
    pub(super) renewing: Option<Renewing>,
    /// The first ACK was reported.
    pub(super) is_confirmed: bool,
    /// Why the leg ends, where the endpoint cannot know.
    pub(super) why: Option<(Side, Cause, String)>,
    /// What the peer said as it ended the leg.
    pub(super) said: Option<Box<Said>>,
}

/// How far a leg has come.
pub(super) enum State {
    /// Called: nobody has decided yet. `None`: the INVITE brought no offer.
    Incoming(Option<Bytes>),
    /// Called: a worker makes the answer.
    Negotiating(Pending),
    /// Called: the answer is there, a provisional response may have been sent.
    Ringing,
    /// Calling: the next hop's name is being looked up.
    Resolving(Box<Dial>),
    /// Calling: a worker makes the offer.
    Offering(Box<Dial>, Flows),
    /// Calling: the INVITE is out.
    Calling,
    /// Calling: answered; a worker takes the answer.
    Answering(Box<str>),
    /// Both: answered.
    Up,
}

/// Commands that wait for a leg's answer to be made.
#[derive(Default)]
pub(super) struct Pending {
    /// Ring: correlation and status.
    pub(super) ring: Option<(u64, u16)>,
    /// Answer: correlation.
    pub(super) answer: Option<u64>,
}

impl Pending {
    pub(super) fn correlations(&self) -> impl Iterator<Item = u64> + use<> {
        self.ring.map(|(correlation, _)| correlation).into_iter().chain(self.answer)
    }
}

impl Leg {
    pub(super) fn new(state: State, codecs: Vec<Codec>) -> Self {
        Self {
            state,
            address: None,
            codecs,
            codec: None,
            has_media: false,
            local_sdp: None,
            remote_answer: None,
            awaits_late_answer: false,
            renewing: None,
            is_confirmed: false,
            why: None,
            said: None,
        }
    }

    /// Whether its peer can be asked to renew the session.
    pub(super) fn is_free(&self) -> bool {
        matches!(self.state, State::Up) && self.renewing.is_none()
    }

    /// Whether the endpoint knows it.
    pub(super) fn is_signalled(&self) -> bool {
        !matches!(self.state, State::Resolving(_) | State::Offering(..))
    }
}
