//! Leg ids: who is meant, on which worker, of which kind.

use crate::stats::Gauge;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One side of a call: bits 0..7 name the media worker, bit 7 the kind, the rest is a counter. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegId(u64);

/// What a leg speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// SIP signalling, plain RTP.
    Sip,
    /// A browser: ICE, DTLS-SRTP; signalled by Python.
    WebRtc,
}

/// Workers that fit the id.
pub(crate) const MAX_WORKERS: usize = 1 << WORKER_BITS;
const WORKER_BITS: u32 = 7;
const KIND_BIT: u64 = 1 << WORKER_BITS;

impl LegId {
    /// The id that `raw` says; whether such a leg exists shows when a command names it.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The number for other languages.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// What the leg speaks.
    #[must_use]
    pub const fn kind(self) -> Kind {
        if self.0 & KIND_BIT == 0 { Kind::Sip } else { Kind::WebRtc }
    }

    /// The index of the media worker that carries the leg.
    #[must_use]
    pub const fn worker(self) -> usize {
        (self.0 & (KIND_BIT - 1)) as usize
    }

    pub(crate) const fn sip(self) -> telephony_sip::LegId {
        telephony_sip::LegId(self.0)
    }

    pub(crate) const fn media(self) -> telephony_media::LegId {
        telephony_media::LegId(self.0)
    }
}

impl From<telephony_sip::LegId> for LegId {
    fn from(id: telephony_sip::LegId) -> Self {
        Self(id.0)
    }
}

impl From<telephony_media::LegId> for LegId {
    fn from(id: telephony_media::LegId) -> Self {
        Self(id.0)
    }
}

/// Gives out ids; shared by the SIP thread and every caller of [`crate::Engine::next_leg`].
pub(crate) struct Allocator {
    counter: AtomicU64,
    /// Legs on each worker now.
    loads: Vec<Arc<Gauge>>,
}

impl Allocator {
    pub(crate) fn new(loads: Vec<Arc<Gauge>>) -> Self {
        Self { counter: AtomicU64::new(1), loads }
    }

    /// A new id on the worker of `beside`, so that the two can be bridged, or on the least loaded one.
    pub(crate) fn next(&self, kind: Kind, beside: Option<LegId>) -> LegId {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let worker = beside.map_or_else(|| self.least_loaded(number), LegId::worker) as u64;
        let kind = if kind == Kind::WebRtc { KIND_BIT } else { 0 };
        LegId(number << (WORKER_BITS + 1) | kind | worker)
    }

    /// Loads lag behind the ids given out, so equal ones are taken in turn, from `start` on.
    fn least_loaded(&self, start: u64) -> usize {
        let count = self.loads.len().max(1);
        let start = usize::try_from(start % count as u64).unwrap_or(0);
        let order = (0..count).map(|step| (start + step) % count);
        order.min_by_key(|&worker| self.loads.get(worker).map(|load| load.read())).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_worker_and_kind() {
        let allocator = Allocator::new((0..3).map(|_| Arc::default()).collect());
        let first = allocator.next(Kind::Sip, None);
        let beside = allocator.next(Kind::WebRtc, Some(first));
        assert_ne!(first, beside);
        assert_eq!((first.kind(), beside.kind()), (Kind::Sip, Kind::WebRtc));
        assert_eq!(first.worker(), beside.worker());
        assert_eq!(LegId::from_raw(beside.raw()), beside);
    }

    #[test]
    fn legs_go_to_the_least_loaded_worker_and_round_robin_among_equals() {
        let loads: Vec<Arc<Gauge>> = (0..3).map(|_| Arc::default()).collect();
        let allocator = Allocator::new(loads.clone());
        let mut workers: Vec<_> = (0..3).map(|_| allocator.next(Kind::Sip, None).worker()).collect();
        workers.sort_unstable();
        assert_eq!(workers, [0, 1, 2]);
        loads[0].set(5);
        loads[2].set(4);
        assert!((0..4).all(|_| allocator.next(Kind::Sip, None).worker() == 1));
    }
}
