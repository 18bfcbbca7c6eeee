//! Which leg a datagram is for: by leg id, by authenticated source address, by ICE user name fragment.

use super::LegId;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;

/// A browser checks from each of its networks and relays, and a NAT may show each of our addresses another port; more
/// than this are an attack or a fault.
const MAX_SOURCES: usize = 32;

/// The maps, all to slots.
#[derive(Debug, Default)]
pub(crate) struct Table {
    ids: HashMap<LegId, usize, BuildHasherDefault<IdHasher>>,
    sources: HashMap<SocketAddr, usize>,
    ufrags: HashMap<String, usize>,
    /// What a slot has in the other maps.
    held: HashMap<usize, Held, BuildHasherDefault<IdHasher>>,
}

#[derive(Debug, Default)]
struct Held {
    sources: Vec<SocketAddr>,
    ufrag: Option<String>,
}

impl Table {
    pub(crate) fn slot(&self, id: LegId) -> Option<usize> {
        self.ids.get(&id).copied()
    }

    pub(crate) fn by_source(&self, source: SocketAddr) -> Option<usize> {
        self.sources.get(&source).copied()
    }

    pub(crate) fn by_ufrag(&self, ufrag: &str) -> Option<usize> {
        self.ufrags.get(ufrag).copied()
    }

    pub(crate) fn add(&mut self, id: LegId, slot: usize) {
        self.ids.insert(id, slot);
    }

    /// The leg's ICE agent answers to this name from now on, and to no other.
    pub(crate) fn name(&mut self, slot: usize, ufrag: &str) {
        let held = self.held.entry(slot).or_default();
        if held.ufrag.as_deref() == Some(ufrag) {
            return;
        }
        if let Some(before) = held.ufrag.replace(ufrag.to_owned()) {
            self.ufrags.remove(&before);
        }
        self.ufrags.insert(ufrag.to_owned(), slot);
    }

    /// The leg's ICE agent has authenticated this address. An address that another leg had is this one's now: the
    /// newest check is the truth.
    pub(crate) fn learn(&mut self, slot: usize, source: SocketAddr) {
        if self.by_source(source) == Some(slot) {
            return;
        }
        let held = self.held.entry(slot).or_default();
        // It was ours before another leg had it: listed twice, the older entry's end would be the newer one's.
        held.sources.retain(|known| *known != source);
        if held.sources.len() >= MAX_SOURCES {
            let oldest = held.sources.remove(0);
            forget(&mut self.sources, oldest, slot);
        }
        held.sources.push(source);
        self.sources.insert(source, slot);
    }

    pub(crate) fn remove(&mut self, id: LegId, slot: usize) {
        self.ids.remove(&id);
        let Some(held) = self.held.remove(&slot) else { return };
        if let Some(ufrag) = held.ufrag {
            self.ufrags.remove(&ufrag);
        }
        for source in held.sources {
            forget(&mut self.sources, source, slot);
        }
    }
}

fn forget(sources: &mut HashMap<SocketAddr, usize>, source: SocketAddr, slot: usize) {
    if sources.get(&source) == Some(&slot) {
        sources.remove(&source);
    }
}

/// A quick hash for numbers that we give out ourselves: nobody outside can choose them to collide.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        // Fibonacci hashing: the multiplier is 2^64 over the golden ratio; the table looks at high and low bits.
        let mixed = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Table {
        fn len(&self) -> usize {
            self.ids.len() + self.sources.len() + self.ufrags.len() + self.held.len()
        }
    }

    #[test]
    fn a_leg_that_goes_leaves_no_entry_behind() {
        let mut table = Table::default();
        for slot in 0..3 {
            table.add(LegId(7 + slot as u64), slot);
            table.name(slot, &format!("first{slot}"));
            table.name(slot, &format!("second{slot}"));
            for port in 0..50 {
                table.learn(slot, SocketAddr::from(([10, 0, 0, 1], port)));
            }
        }
        assert_eq!(table.by_ufrag("first1"), None);
        assert_eq!(table.by_ufrag("second1"), Some(1));
        assert_eq!(
            table.by_source(SocketAddr::from(([10, 0, 0, 1], 49))),
            Some(2),
            "the newest check is the truth"
        );
        for slot in 0..3 {
            table.remove(LegId(7 + slot as u64), slot);
        }
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn an_address_that_comes_back_is_not_forgotten_with_its_first_visit() {
        let mut table = Table::default();
        let of = |port| SocketAddr::from(([10, 0, 0, 1], port));
        table.learn(0, of(1));
        (2..=32).for_each(|port| table.learn(0, of(port)));
        table.learn(1, of(1));
        table.learn(0, of(1));
        table.learn(0, of(99));
        assert_eq!(table.by_source(of(1)), Some(0));
    }
}
