//! Nanoseconds to protect and to check a 20 ms G.711 packet (172 bytes), one line of JSON for each profile.
//!
//! `cargo run --release -p telephony-benches --bin srtp -- [rounds]`; each round is 20,000 packets, the best counts.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a measurement reads the clock and prints"
)]

use std::time::Instant;
use telephony_media::srtp::{Context, MAX_OVERHEAD, Profile, SrtpError};

const PACKET: usize = 172;
const PACKETS: u16 = 20_000;

fn packet(sequence: u16) -> [u8; PACKET + MAX_OVERHEAD] {
    let mut packet = [0x55; PACKET + MAX_OVERHEAD];
    let [high, low] = sequence.to_be_bytes();
    let header = [0x80, 0, high, low, 0, 0, 0, 0, 0, 0, 0, 7];
    packet.iter_mut().zip(header).for_each(|(byte, value)| *byte = value);
    packet
}

/// Nanoseconds per packet: (protect, check), the best of all rounds.
fn measure(profile: Profile, rounds: u32) -> Result<(u128, u128), SrtpError> {
    let (key, salt) = (vec![1; profile.key_len()], vec![2; profile.salt_len()]);
    let mut best = (u128::MAX, u128::MAX);
    for _ in 0..rounds {
        let mut out = Context::new(profile, &key, &salt)?;
        let mut into = Context::new(profile, &key, &salt)?;
        let mut packets: Vec<_> = (0..PACKETS).map(packet).collect();
        let start = Instant::now();
        let mut length = 0;
        for packet in &mut packets {
            length = out.protect_rtp(packet, PACKET)?;
        }
        let protected = Instant::now();
        for packet in &mut packets {
            into.unprotect_rtp(packet.get_mut(..length).ok_or(SrtpError::BufferTooSmall)?)?;
        }
        let (protect, check) = (protected - start, protected.elapsed());
        best.0 = best.0.min(protect.as_nanos() / u128::from(PACKETS));
        best.1 = best.1.min(check.as_nanos() / u128::from(PACKETS));
    }
    Ok(best)
}

fn main() -> Result<(), SrtpError> {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(20);
    for profile in [Profile::Aes128CmSha1_80, Profile::AeadAes128Gcm, Profile::AeadAes256Gcm] {
        let (protect, check) = measure(profile, rounds)?;
        println!(
            r#"{{"figure": "media.srtp.{profile:?}", "unit": "ns/packet", "protect": {protect}, "unprotect": {check}}}"#
        );
    }
    Ok(())
}
