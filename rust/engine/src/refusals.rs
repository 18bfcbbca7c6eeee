//! What was refused, and why: the latest in a ring, all of them counted by their rule.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;
use telephony_sip::{Ground, Refused};

/// Refusals kept.
const KEPT: usize = 1000;

/// A refusal and its time.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// When.
    pub at: SystemTime,
    /// What, whom and why.
    pub what: Refused,
}

#[derive(Debug, Default)]
struct Kept {
    latest: VecDeque<Refusal>,
    counts: BTreeMap<&'static str, u64>,
}

/// Written by the SIP thread, read by whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<Kept>);

impl Refusals {
    /// Keeps a refusal; the clock is only read for one that is kept.
    pub(crate) fn note(&self, what: Refused) {
        let at = SystemTime::now();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *kept.counts.entry(what.ground.as_str()).or_default() += 1;
        if kept.latest.len() >= KEPT {
            kept.latest.pop_front();
        }
        kept.latest.push_back(Refusal { at, what });
    }

    /// Counts another of the same kind.
    pub(crate) fn count(&self, ground: Ground) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *kept.counts.entry(ground.as_str()).or_default() += 1;
    }

    /// The newest first.
    pub(crate) fn latest(&self, limit: usize) -> Vec<Refusal> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.latest.iter().rev().take(limit).cloned().collect()
    }

    /// All there were, by rule.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).counts.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telephony_sip::Profile;

    #[test]
    fn the_latest_are_kept_and_all_are_counted() {
        let (refusals, profile) = (Refusals::default(), Profile::default());
        for port in 1..=1500_u16 {
            let source = ([192, 0, 2, 1], port).into();
            refusals.note(Refused::new(Ground::TrunkRate, Some(503), source, &profile));
        }
        refusals.count(Ground::SourceRate);
        assert_eq!(refusals.counts(), BTreeMap::from([("source_rate", 1), ("trunk_rate", 1500)]));
        let latest = refusals.latest(usize::MAX);
        assert_eq!(latest.len(), KEPT);
        assert_eq!(latest.first().map(|refusal| refusal.what.source.port()), Some(1500));
        assert_eq!(refusals.latest(3).len(), 3);
    }
}
