//! What the SIP thread knows about a leg beside what the endpoint does.

use super::renew::Renewing;
use crate::LegId;
use crate::command::Dial;
use crate::event::{Cause, Side};
use crate::message::MediaAddress;
use bytes::Bytes;
use smallvec::SmallVec;
use std::time::Instant;
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
    /// The peer's answers in provisional responses.
    pub(super) answers: Answers,
    /// We sent an offer in a 2xx; the ACK must bring the answer (RFC 3261 13.2.2.4).
    pub(super) awaits_late_answer: bool,
    /// Its part in a session that is being renewed.
    pub(super) renewing: Option<Renewing>,
    /// The first ACK was reported.
    pub(super) is_confirmed: bool,
    /// The other leg of its call, as long as what happens here is passed on there without asking.
    pub(super) link: Option<Link>,
    /// Why the leg ends, where the endpoint cannot know.
    pub(super) why: Option<(Side, Cause, String)>,
    /// What the peer said as it ended the leg.
    pub(super) said: Option<Box<Said>>,
}

/// The answers of the forks of our INVITE, by To tag: the 2xx says which of them counts (RFC 3261 13.2.2.4). The last is
/// in use.
#[derive(Default)]
pub(super) struct Answers(SmallVec<[(Box<str>, Bytes); 1]>);

/// More forks than this with early media are no call.
const MAX_ANSWERS: usize = 16;

impl Answers {
    pub(super) fn note(&mut self, tag: &str, answer: &Bytes) {
        self.0.retain(|(known, _)| **known != *tag);
        if self.0.len() >= MAX_ANSWERS {
            self.0.remove(0);
        }
        self.0.push((tag.into(), answer.clone()));
    }

    /// The fork has made an offer of its own since (UPDATE), so that it is the one to be heard.
    pub(super) fn prefer(&mut self, tag: &str) {
        if let Some(answer) =
            self.0.iter().find(|(known, _)| **known == *tag).map(|(_, answer)| answer.clone())
        {
            self.note(tag, &answer);
        }
    }

    /// The answer of a fork. Some callees answer under another tag than they ring with: the one in use then.
    pub(super) fn of(&self, tag: &str) -> Option<Bytes> {
        let own = self.0.iter().find(|(known, _)| **known == *tag);
        own.or(self.0.last()).map(|(_, answer)| answer.clone())
    }

    pub(super) fn is_in_use(&self, answer: &Bytes) -> bool {
        self.0.last().is_some_and(|(_, last)| last == answer)
    }
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
    Answering,
    /// Both: answered.
    Up,
}

/// One leg's end of what binds two legs of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) other: LegId,
    pub(super) part: Part,
}

/// Who a leg of a call is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    Caller,
    Callee(Progress),
}

/// How far a callee has come, beyond what was told of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// It answered, and the caller is about to be answered.
    pub(super) answered: bool,
    /// Since when it rings, and by which status; the caller rings too.
    pub(super) rang: Option<(Instant, u16)>,
}

/// What waits for a leg's answer to be made.
#[derive(Default)]
pub(super) struct Pending {
    /// To send a provisional response of this status.
    pub(super) ring: Option<(Asker, u16)>,
    /// To send the 200.
    pub(super) answer: Option<Asker>,
}

/// Who wants a caller to be rung or answered.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asker {
    /// A command, by its correlation.
    Command(u64),
    /// The leg that was dialled for it, by a response of this status.
    Callee { leg: LegId, status: u16 },
}

impl Pending {
    pub(super) fn correlations(&self) -> impl Iterator<Item = u64> + use<> {
        let askers = self.ring.map(|(asker, _)| asker).into_iter().chain(self.answer);
        askers.filter_map(|asker| match asker {
            Asker::Command(correlation) => Some(correlation),
            Asker::Callee { .. } => None,
        })
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
            answers: Answers::default(),
            awaits_late_answer: false,
            renewing: None,
            is_confirmed: false,
            link: None,
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
