//! A worker's part in renewed sessions of SIP legs: what of them the other leg's peer must know (RFC 3264 8).

use super::Worker;
use crate::event::Outcome;
use crate::{EngineError, Kind, LegId};
use std::time::Instant;
use telephony_media::Renewal;
use telephony_media::codec::Codec;

type Result<T = Outcome> = std::result::Result<T, EngineError>;

impl Worker {
    /// Answers a renewed offer, or says whom to ask before.
    pub(super) fn renew(&mut self, leg: LegId, offer: &str, codecs: &[Codec], ask: bool) -> Result {
        let news = self.switch.review_offer(leg.media(), offer, codecs)?;
        if let Some(news) = for_telephones(news).filter(|_| ask) {
            return Ok(Outcome { news: Some(news), ..Outcome::default() });
        }
        self.watching_hold(leg, |worker| {
            let sdp = worker.switch.accept_offer(Instant::now(), leg.media(), offer, codecs)?;
            Ok(worker.described(leg, sdp))
        })
    }

    /// Takes an answer that came in a response, or in an ACK, which may tell something new.
    pub(super) fn accept_late(&mut self, leg: LegId, answer: &str) -> Result {
        self.watching_hold(leg, |worker| {
            let outcome = worker.accept_answer(leg, answer)?;
            let news = for_telephones(worker.switch.review_answer(leg.media())?);
            Ok(Outcome { news, ..outcome })
        })
    }

    /// What the peer of the bridged leg has to be told of what this one's does.
    pub(super) fn review(&mut self, leg: LegId) -> Result {
        let news = for_telephones(self.switch.review_answer(leg.media())?);
        Ok(Outcome { news, ..Outcome::default() })
    }

    /// The told leg's peer has agreed: both legs change, and the one that asked gets its answer.
    pub(super) fn exchange(
        &mut self,
        (told, answer): (LegId, &str),
        (asked, offer): (LegId, &str),
        codecs: &[Codec],
    ) -> Result {
        let (told, asked_media) = ((told.media(), answer), (asked.media(), offer));
        let sdp = self.switch.exchange(Instant::now(), told, asked_media, codecs)?;
        Ok(self.described(asked, sdp))
    }

    /// The told leg's peer has answered, and nobody waits for it.
    pub(super) fn told(&mut self, leg: LegId, answer: &str, other: LegId) -> Result {
        let outcome = self.accept_answer(leg, answer)?;
        self.switch.heed(other.media(), leg.media());
        let news = self.switch.review_answer(other.media()).ok().and_then(for_telephones);
        Ok(Outcome { news, ..outcome })
    }

    /// Does work that may put a leg's peer on hold, and notes if it did.
    pub(super) fn watching_hold(&mut self, leg: LegId, work: impl FnOnce(&mut Self) -> Result) -> Result {
        let before = self.switch.is_held(leg.media());
        let outcome = work(self)?;
        let after = self.switch.is_held(leg.media());
        Ok(Outcome { held: (before != after).then_some(after), ..outcome })
    }

    pub(super) fn described(&self, leg: LegId, sdp: String) -> Outcome {
        Outcome { sdp: Some(sdp), codec: self.switch.negotiated(leg.media()), ..Outcome::default() }
    }
}

/// News for a telephone; a browser is told by its own signalling.
fn for_telephones(news: Renewal) -> Option<Renewal> {
    let telephone = news.peer.is_some_and(|peer| LegId::from(peer).kind() == Kind::Sip);
    Some(news).filter(|news| news.is_news() && telephone)
}
