//! Packets that would come back: peers may name our own ports, and so join our legs to each other.
//!
//! A call that goes out and comes in again without a media relay between does so rightly, and its sound leaves at the
//! far ends. A ring of legs has no end: a packet in it would go round for ever, as fast as we can send.

use super::Switch;
use crate::leg::Leg;

/// Longer chains of our own legs are taken for rings.
const LONGEST: usize = 16;

impl Switch {
    /// A leg's remote address or bridge has changed: it sends nothing if that would come back to it.
    pub(super) fn watch_circle(&mut self, slot: usize) {
        let circles = self.circles(slot).is_some();
        if let Some(rtp) = self.legs.get_mut(slot).and_then(|leg| leg.transport.rtp()) {
            rtp.set_circles(circles);
        }
    }

    /// Follows a packet that leaves by `slot`; `Some` if it leaves by it again.
    fn circles(&self, slot: usize) -> Option<()> {
        let mut leaves = slot;
        for _ in 0..LONGEST {
            let enters = self.owner_of_remote(self.legs.get(leaves)?)?;
            leaves = enters.peer?;
            if leaves == slot {
                return Some(());
            }
        }
        Some(())
    }

    /// The leg of ours whose port another leg's peer has named.
    fn owner_of_remote(&self, leg: &Leg) -> Option<&Leg> {
        let (local, remote) = leg.transport.addresses()?;
        // Hardly a peer ever has our own address, so the search costs nothing.
        if local.ip() != remote.ip() {
            return None;
        }
        self.legs.iter().map(|(_, leg)| leg).find(|leg| leg.transport.local() == Some(remote))
    }
}
