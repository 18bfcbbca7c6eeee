//! A seeded stream of random numbers: SSRCs, first sequence numbers, ICE credentials and report times come from it.
//!
//! SHA-256 in counter mode: whoever sees some of its output (SSRCs are public) cannot tell the rest.

use sha2::{Digest, Sha256};

/// The generator.
#[derive(Debug)]
pub(crate) struct Rng {
    seed: [u8; 32],
    counter: u64,
}

impl Rng {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Rng { seed, counter: 0 }
    }

    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        self.counter += 1;
        Sha256::new().chain_update(self.seed).chain_update(self.counter.to_le_bytes()).finalize().into()
    }

    pub(crate) fn u64(&mut self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    pub(crate) fn u32(&mut self) -> u32 {
        let [a, b, c, d, ..] = self.bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    pub(crate) fn u16(&mut self) -> u16 {
        let [a, b, ..] = self.bytes();
        u16::from_le_bytes([a, b])
    }
}
