//! Keys: sent as telephone-events (RFC 4733) or, to peers that want it so, by signalling, and carried across the bridge
//! between the two.

use super::{LegId, Switch};
use crate::dtmf::Digit;
use crate::error::Error;
use crate::stats::DropReason;
use std::time::{Duration, Instant};

impl Switch {
    /// The keys of this leg go by signalling: telephone-event is neither offered nor taken, and [`crate::Event::Key`] tells of
    /// each key for its peer.
    pub fn signal_keys(&mut self, id: LegId) {
        if let Some(leg) = self.table.slot(id).and_then(|slot| self.legs.get_mut(slot)) {
            leg.signals_keys = true;
        }
    }

    /// Sends digits (`0-9 * # A-D`) towards the leg's peer, each `duration` long: as RFC 4733 events, while the sound of
    /// the bridge is silent, or as [`crate::Event::Key`].
    ///
    /// # Errors
    /// If there is no such leg, its peer takes no telephone-events, or the digits are none.
    pub fn send_digits(
        &mut self,
        now: Instant,
        id: LegId,
        digits: &str,
        duration: Duration,
    ) -> Result<(), Error> {
        let slot = self.table.slot(id).ok_or(Error::UnknownLeg)?;
        let leg = self.legs.get_mut(slot).ok_or(Error::UnknownLeg)?;
        leg.press(now, digits, duration, &mut self.out)?;
        self.settle(now, slot);
        Ok(())
    }

    /// A leg's peer pressed a key and said so by signalling: it is told and goes across the bridge.
    pub fn pressed(&mut self, now: Instant, id: LegId, digit: char, duration: Duration) {
        let Some(slot) = self.table.slot(id) else { return };
        let Some(leg) = self.legs.get_mut(slot) else { return };
        leg.pressed(Digit { key: digit, duration }, &mut self.out);
        let Some(peer) = leg.peer else { return };
        // A peer with signalled keys gets this one as any other.
        let Some(other) = self.legs.get_mut(peer).filter(|other| !other.signals_keys) else { return };
        if other.press(now, digit.encode_utf8(&mut [0; 4]), duration, &mut self.out).is_err() {
            other.drop_packet(DropReason::DtmfUnsupported, &mut self.out);
        }
        self.settle(now, peer);
    }

    /// A key of this leg's peer goes to the bridged leg's by signalling, if that is its way.
    pub(super) fn carry_key(&mut self, id: LegId, digit: char, duration: Duration) {
        let peer = self.table.slot(id).and_then(|slot| self.legs.get(slot)?.peer);
        let Some(peer) = peer.and_then(|peer| self.legs.get_mut(peer)) else { return };
        if peer.signals_keys {
            peer.signal(digit, duration, &mut self.out);
        }
    }
}
