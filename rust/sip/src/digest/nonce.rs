//! The server's nonces (RFC 7616 5.4, 5.5): made without state, and remembered only once they have been used well.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::hex;

/// How long a nonce may be used.
const LIFETIME: Duration = Duration::from_secs(300);
/// Nonces in use that are remembered; past that the oldest are called stale before their time.
const MAX_USED: usize = 16_384;
/// Values of `nc` that may overtake each other.
const WINDOW: u32 = 64;

/// What a nonce is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Ours, in time, not used so before.
    Fresh,
    /// Ours once, or used before: whoever knows the password shall try a new one.
    Stale,
    /// Never ours, or made for somebody else.
    Foreign,
}

/// When a nonce was made and which of them it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Stamp {
    second: u32,
    number: u32,
}

/// The counts seen of a nonce: the highest, and one bit for each of those below it.
#[derive(Debug, Clone, Copy)]
struct Counts {
    highest: u32,
    seen: u64,
}

/// Makes and checks nonces.
#[derive(Debug)]
pub(crate) struct Nonces {
    key: [u8; 32],
    epoch: Option<Instant>,
    made: u32,
    used: HashMap<Stamp, Counts>,
    /// The nonces in use, in the order of their first use.
    order: VecDeque<Stamp>,
    /// Nonces of this second and before are stale unless they are in use.
    floor: Option<u32>,
}

impl Nonces {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self { key, epoch: None, made: 0, used: HashMap::new(), order: VecDeque::new(), floor: None }
    }

    /// A new nonce, good for one source address.
    pub(crate) fn make(&mut self, now: Instant, source: IpAddr) -> String {
        self.made = self.made.wrapping_add(1);
        let stamp = Stamp { second: self.second(now), number: self.made };
        self.written(stamp, source)
    }

    /// Judges the nonce of a request, for one whose response was right notes its count. `None` is RFC 2069, where
    /// nothing but the nonce itself guards against replay: it is good once.
    pub(crate) fn judge(
        &mut self,
        now: Instant,
        source: IpAddr,
        nonce: &str,
        count: Option<u32>,
        right: bool,
    ) -> Verdict {
        let Some(stamp) = read(nonce).filter(|stamp| equal(&self.written(*stamp, source), nonce)) else {
            return Verdict::Foreign;
        };
        let age = self.second(now).saturating_sub(stamp.second);
        let old = u64::from(age) > LIFETIME.as_secs();
        let forgotten = self.floor.is_some_and(|floor| stamp.second <= floor);
        if old || (forgotten && !self.used.contains_key(&stamp)) {
            return Verdict::Stale;
        }
        if right { self.note(now, stamp, count.unwrap_or(u32::MAX)) } else { Verdict::Fresh }
    }

    fn note(&mut self, now: Instant, stamp: Stamp, count: u32) -> Verdict {
        if let Some(counts) = self.used.get_mut(&stamp) {
            return if counts.take(count) { Verdict::Fresh } else { Verdict::Stale };
        }
        self.make_room(now);
        self.used.insert(stamp, Counts { highest: count, seen: 1 });
        self.order.push_back(stamp);
        Verdict::Fresh
    }

    fn make_room(&mut self, now: Instant) {
        let second = self.second(now);
        while let Some(oldest) = self.order.front().copied() {
            let alive = u64::from(second.saturating_sub(oldest.second)) <= LIFETIME.as_secs();
            if alive && self.order.len() < MAX_USED {
                return;
            }
            if alive {
                self.floor = self.floor.max(Some(oldest.second));
            }
            self.used.remove(&oldest);
            self.order.pop_front();
        }
    }

    fn second(&mut self, now: Instant) -> u32 {
        let epoch = *self.epoch.get_or_insert(now);
        u32::try_from(now.saturating_duration_since(epoch).as_secs()).unwrap_or(u32::MAX)
    }

    /// The stamp and a keyed hash of it; the key at both ends leaves nothing to extend.
    fn written(&self, stamp: Stamp, source: IpAddr) -> String {
        let Stamp { second, number } = stamp;
        let head = format!("{second:08x}{number:08x}");
        let hash = Sha256::new()
            .chain_update(self.key)
            .chain_update(format!("{head} {source}"))
            .chain_update(self.key)
            .finalize();
        head + hash.get(..16).map(hex).unwrap_or_default().as_str()
    }
}

impl Counts {
    fn take(&mut self, count: u32) -> bool {
        let ahead = count.saturating_sub(self.highest);
        if ahead > 0 {
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = count;
            return true;
        }
        let behind = self.highest.saturating_sub(count);
        let bit = 1_u64.checked_shl(behind).filter(|_| behind < WINDOW).unwrap_or(0);
        let fresh = bit != 0 && self.seen & bit == 0;
        self.seen |= bit;
        fresh
    }
}

/// Whether two texts are equal, in a time that tells nothing of where they differ.
pub(crate) fn equal(one: &str, other: &str) -> bool {
    let differing = one.bytes().zip(other.bytes()).fold(0, |differing, (a, b)| differing | (a ^ b));
    one.len() == other.len() && differing == 0
}

fn read(nonce: &str) -> Option<Stamp> {
    let number = |range| u32::from_str_radix(nonce.get(range)?, 16).ok();
    Some(Stamp { second: number(0..8)?, number: number(8..16)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    fn nonces() -> (Nonces, Instant, IpAddr) {
        (Nonces::new([1; 32]), Instant::now(), "192.0.2.1".parse().unwrap())
    }

    #[test]
    fn a_nonce_is_good_for_its_source_and_its_time() {
        let (mut nonces, now, source) = nonces();
        let nonce = nonces.make(now, source);
        let other = "192.0.2.2".parse().unwrap();
        let (early, late) = (now + Duration::from_secs(300), now + Duration::from_secs(301));
        assert_eq!(nonces.judge(now, other, &nonce, Some(1), true), Verdict::Foreign);
        assert_eq!(nonces.judge(early, source, &nonce, Some(1), true), Verdict::Fresh);
        assert_eq!(nonces.judge(late, source, &nonce, Some(2), true), Verdict::Stale);
        assert_eq!(nonces.judge(now, source, &nonce.replace('0', "1"), Some(1), true), Verdict::Foreign);
        for garbage in ["", "x", "0000000000000000", "\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}"]
        {
            assert_eq!(nonces.judge(now, source, garbage, Some(1), true), Verdict::Foreign);
        }
        assert_ne!(nonces.make(now, source), nonces.make(now, source));
    }

    #[test]
    fn counts_may_overtake_each_other_but_never_return() {
        let (mut nonces, now, source) = nonces();
        let nonce = nonces.make(now, source);
        let mut judge = |count| nonces.judge(now, source, &nonce, Some(count), true) == Verdict::Fresh;
        let taken = [1, 1, 3, 2, 2, 100, 37, 36, 37, 101].map(&mut judge);
        assert_eq!(taken, [true, false, true, true, false, true, true, false, false, true]);
    }

    #[test]
    fn without_counts_a_nonce_is_good_once() {
        let (mut nonces, now, source) = nonces();
        let nonce = nonces.make(now, source);
        assert_eq!(nonces.judge(now, source, &nonce, None, true), Verdict::Fresh);
        assert_eq!(nonces.judge(now, source, &nonce, None, true), Verdict::Stale);
    }

    #[test]
    fn a_full_memory_forgets_no_replay() {
        let (mut nonces, now, source) = nonces();
        let first = nonces.make(now, source);
        assert_eq!(nonces.judge(now, source, &first, Some(1), true), Verdict::Fresh);
        for _ in 0..MAX_USED {
            let nonce = nonces.make(now + Duration::from_secs(1), source);
            assert_eq!(
                nonces.judge(now + Duration::from_secs(1), source, &nonce, Some(1), true),
                Verdict::Fresh
            );
        }
        assert_eq!(nonces.used.len(), MAX_USED);
        assert_eq!(nonces.judge(now, source, &first, Some(1), true), Verdict::Stale);
    }

    #[test]
    fn texts_are_equal_or_not() {
        assert!(equal("abc", "abc") && equal("", ""));
        assert!(!equal("abc", "abd") && !equal("abc", "ab") && !equal("", "a"));
    }
}
