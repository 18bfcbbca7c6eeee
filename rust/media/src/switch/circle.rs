//! Packets that would come back: peers may name our own ports, and so join our legs to each other.
//!
//! A call that goes out and comes in again without a media relay between does so rightly, and its sound leaves at the
//! far ends. A ring of legs has no end: a packet in it would go round for ever, as fast as we can send. The ring may lead
//! over several switches: all look at the same [`crate::OwnPorts`].

use super::Switch;

impl Switch {
    /// A leg's remote address or bridge has changed: it sends nothing if that would come back to it.
    pub(super) fn watch_circle(&mut self, slot: usize) {
        if let Some(enters) = self.enters_by(slot) {
            let named = self.legs.get(slot).and_then(|leg| leg.transport.named());
            self.out.own.lead(enters, named.and_then(|named| self.out.own.port_at(named)));
        }
        self.look(slot);
        self.look_again();
    }

    /// The bridge of this leg ends: what enters by its port leaves nowhere.
    pub(super) fn unwatch_circle(&mut self, slot: usize) {
        if let Some(enters) = self.enters_by(slot) {
            self.out.own.lead(enters, None);
        }
    }

    /// A leg that is cut sends again, if its ring has been broken in another switch.
    pub(super) fn look_at_cut(&mut self, slot: usize) {
        if self.cut.contains(&slot) {
            self.look(slot);
        }
    }

    /// Legs that were cut send again, if their ring is broken.
    pub(super) fn look_again(&mut self) {
        if !self.cut.is_empty() {
            self.cut.clone().into_iter().for_each(|slot| self.look(slot));
        }
    }

    fn look(&mut self, slot: usize) {
        let circles = self.enters_by(slot).is_some_and(|enters| self.out.own.comes_back(enters));
        if let Some(rtp) = self.legs.get_mut(slot).and_then(|leg| leg.transport.rtp()) {
            rtp.set_circles(circles);
        }
        self.cut.retain(|&cut| cut != slot);
        if circles {
            self.cut.push(slot);
        }
    }

    /// The port by which a packet has entered that leaves by this leg: that of the bridged one.
    fn enters_by(&self, slot: usize) -> Option<u16> {
        let peer = self.legs.get(slot)?.peer?;
        self.legs.get(peer)?.transport.local().map(|local| local.port())
    }
}
