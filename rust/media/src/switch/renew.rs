//! Renewed offers: what of one has to reach the bridged leg's peer, and taking both legs to the new state at once.

use super::{LegId, Switch};
use crate::codec::Codec;
use crate::error::Error;
use crate::leg::{Leg, put_first};
use crate::sdp::Direction;
use std::time::Instant;

/// What a leg's peer asks for that the bridged leg's peer does not know yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Renewal {
    /// The bridged leg.
    pub peer: Option<LegId>,
    /// What this leg's peer does from now on, if that is new (hold, resume).
    pub direction: Option<Direction>,
    /// The codec that has to take the place of one that is no more possible, unless it is the bridged leg's own.
    pub codec: Option<Codec>,
}

impl Renewal {
    /// Whether there is something to tell, and somebody to tell it to.
    #[must_use]
    pub fn is_news(&self) -> bool {
        self.peer.is_some() && (self.direction.is_some() || self.codec.is_some())
    }
}

impl Switch {
    /// What a renewed offer of the leg's peer would change for the bridged leg. Nothing is changed by asking.
    ///
    /// # Errors
    /// As for [`Switch::accept_offer`].
    pub fn review_offer(&self, id: LegId, offer: &str, codecs: &[Codec]) -> Result<Renewal, Error> {
        let leg = self.leg(id)?;
        let bridged = leg.peer.and_then(|peer| self.legs.get(peer));
        let codecs = prefer(codecs, bridged.and_then(Leg::codec));
        let (direction, codec) = leg.review(offer, &codecs, &self.local)?;
        let codec = Some(codec).filter(|_| leg.codec().is_some_and(|spoken| spoken != codec));
        Ok(renewal(bridged, direction, codec))
    }

    /// What the bridged leg's peer does not know of the answer that this leg's peer gave last.
    ///
    /// # Errors
    /// If there is no such leg.
    pub fn review_answer(&self, id: LegId) -> Result<Renewal, Error> {
        let leg = self.leg(id)?;
        Ok(renewal(leg.peer.and_then(|peer| self.legs.get(peer)), leg.stated(), None))
    }

    /// Takes the answer to our offer on `told` and then the offer of `asked` that was the reason for it; the answer
    /// to that. Should one of the two be no good, the leg that asked is as it was.
    ///
    /// # Errors
    /// As for [`Switch::accept_offer`] and [`Switch::accept_answer`].
    pub fn exchange(
        &mut self,
        now: Instant,
        (told, answer): (LegId, &str),
        (asked, offer): (LegId, &str),
        codecs: &[Codec],
    ) -> Result<String, Error> {
        self.review_offer(asked, offer, codecs)?;
        self.accept_answer(now, told, answer)?;
        self.heed(asked, told);
        let codecs = prefer(codecs, self.negotiated(told));
        self.accept_offer(now, asked, offer, &codecs)
    }

    /// From now on `leg` does for its peer no more than the peer of `other` does.
    pub fn heed(&mut self, leg: LegId, other: LegId) {
        let Some(stated) = self.leg(other).ok().map(Leg::stated) else { return };
        if let Some(leg) = self.table.slot(leg).and_then(|slot| self.legs.get_mut(slot)) {
            leg.set_wish(stated);
        }
    }

    /// Makes a renewed offer of a leg: it speaks for a bridged leg's peer that does `direction` from now on, and would
    /// rather have the codec `first` than the one that is spoken.
    ///
    /// # Errors
    /// If there is no such leg.
    pub fn renew_offer(
        &mut self,
        id: LegId,
        codecs: &[Codec],
        direction: Option<Direction>,
        first: Option<Codec>,
    ) -> Result<String, Error> {
        let slot = self.table.slot(id).ok_or(Error::UnknownLeg)?;
        let leg = self.legs.get_mut(slot).ok_or(Error::UnknownLeg)?;
        Ok(leg.create_offer(&self.local, codecs, direction, first))
    }

    /// Makes an offer of a leg that takes it back to what it was, as the bridged leg still is. Its version is a new one,
    /// since the peer knows a later description than the one that stands (RFC 3264 8).
    ///
    /// # Errors
    /// If there is no such leg.
    pub fn offer_back(&mut self, id: LegId, codecs: &[Codec], other: LegId) -> Result<String, Error> {
        let direction = self.leg(other).ok().map(Leg::stated);
        let slot = self.table.slot(id).ok_or(Error::UnknownLeg)?;
        let leg = self.legs.get_mut(slot).ok_or(Error::UnknownLeg)?;
        leg.renew_version();
        Ok(leg.create_offer(&self.local, codecs, direction, None))
    }

    /// Whether the leg's peer listens no more: it holds the call (RFC 3264 8.4).
    #[must_use]
    pub fn is_held(&self, id: LegId) -> bool {
        self.leg(id).is_ok_and(|leg| !leg.stated().receives())
    }

    fn leg(&self, id: LegId) -> Result<&Leg, Error> {
        self.table.slot(id).and_then(|slot| self.legs.get(slot)).ok_or(Error::UnknownLeg)
    }
}

fn renewal(bridged: Option<&Leg>, direction: Direction, codec: Option<Codec>) -> Renewal {
    let Some(bridged) = bridged else { return Renewal::default() };
    Renewal {
        peer: Some(bridged.id),
        direction: Some(direction).filter(|&direction| direction != bridged.wish()),
        codec: codec.filter(|&codec| bridged.codec() != Some(codec)),
    }
}

fn prefer(codecs: &[Codec], first: Option<Codec>) -> Vec<Codec> {
    first.map_or_else(|| codecs.to_vec(), |first| put_first(first, codecs))
}
