//! Tags, branches, Call-IDs and jitter: everything unguessable comes from one seeded stream, so that a test with a
//! fixed seed sees the same call twice.

use std::ops::RangeInclusive;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::header::Via;

/// 32 letters that are tokens everywhere (RFC 3261 25.1), five bits each.
const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The endpoint's source of identifiers.
#[derive(Debug)]
pub(crate) struct Ident(ChaCha8Rng);

impl Ident {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha8Rng::from_seed(seed))
    }

    /// A From or To tag; RFC 3261 19.3 asks for 32 random bits, this has 64.
    pub(crate) fn tag(&mut self) -> String {
        letters(String::with_capacity(13), self.0.next_u64(), 13)
    }

    /// A branch (8.1.1.7), unguessable so that nobody off the path can answer our requests.
    pub(crate) fn branch(&mut self) -> String {
        let mut text = String::with_capacity(Via::MAGIC_COOKIE.len() + 24);
        text.push_str(Via::MAGIC_COOKIE);
        self.long(text)
    }

    /// A Call-ID (8.1.1.4), without a host that would tell our address.
    pub(crate) fn call_id(&mut self) -> String {
        self.long(String::with_capacity(24))
    }

    /// A number of seconds for Retry-After, so that refused peers do not come back all at once.
    pub(crate) fn within(&mut self, range: &RangeInclusive<u32>) -> u32 {
        let span = u64::from(range.end().saturating_sub(*range.start())) + 1;
        let offset = (u64::from(self.0.next_u32()) * span) >> 32;
        range.start().saturating_add(u32::try_from(offset).unwrap_or(0))
    }

    /// A key for keyed hashes.
    pub(crate) fn key(&mut self) -> [u8; 16] {
        let mut key = [0; 16];
        self.0.fill_bytes(&mut key);
        key
    }

    /// A longer one.
    pub(crate) fn long_key(&mut self) -> [u8; 32] {
        let mut key = [0; 32];
        self.0.fill_bytes(&mut key);
        key
    }

    fn long(&mut self, text: String) -> String {
        let text = letters(text, self.0.next_u64(), 12);
        letters(text, self.0.next_u64(), 12)
    }
}

/// Appends `count` letters, five bits of `bits` each; thirteen use them up.
pub(crate) fn letters(mut text: String, mut bits: u64, count: usize) -> String {
    text.extend((0..count).map(|_| {
        let letter = LETTERS.get((bits & 31) as usize).copied().unwrap_or(b'a');
        bits >>= 5;
        char::from(letter)
    }));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_identifiers_and_another_others() {
        let all = |seed| {
            let mut ident = Ident::new([seed; 32]);
            [ident.tag(), ident.branch(), ident.call_id()]
        };
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
        assert!(all(1)[1].starts_with("z9hG4bK") && all(1)[1].len() > 20);
    }

    #[test]
    fn jitter_stays_within_its_range_and_reaches_both_ends() {
        let mut ident = Ident::new([3; 32]);
        let drawn: Vec<u32> = (0..200).map(|_| ident.within(&(2..=5))).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&2), Some(&5)));
        assert_eq!(ident.within(&(7..=7)), 7);
    }
}
