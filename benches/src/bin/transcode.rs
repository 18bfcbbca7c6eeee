//! What one transcoded packet of 20 ms costs, Opus to PCMU and PCMU to Opus.
//!
//! `cargo run --release -p telephony-benches --bin transcode -- [case] [packets]`; cases: opus-pcmu, pcmu-opus.
//! One JSON line a case. The sound is a mix of tones and noise that comes and goes, so that the encoder has work.
#![allow(dead_code, clippy::disallowed_methods, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout, clippy::cast_possible_truncation, reason = "a measuring tool")]

#[path = "../../../rust/media/tests/it/wire.rs"]
mod wire;

use std::time::{Duration, Instant};
use telephony_media::Component;
use telephony_media::codec::{Codec, Encoder, FRAME, MAX_FRAME_BYTES};
use wire::{Bench, TICK, tone};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let chosen = arguments.next();
    let packets = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(20_000);
    for (case, from, to) in [("opus-pcmu", Codec::Opus, Codec::Pcmu), ("pcmu-opus", Codec::Pcmu, Codec::Opus)]
    {
        if chosen.as_deref().is_none_or(|chosen| chosen == case || chosen == "all") {
            measure(case, from, to, packets);
        }
    }
}

fn measure(case: &str, from: Codec, to: Codec, packets: usize) {
    let payloads = sound(from);
    let (mut bench, mut phone, _) = Bench::bridged(from, to);
    let (mut spent, mut sent) = (Duration::ZERO, 0);
    for index in 0..packets {
        let mut datagram = phone.packet(FRAME, &payloads[index % payloads.len()]);
        let begin = Instant::now();
        bench.switch.handle_rtp(bench.now, phone.id, Component::Rtp, phone.address, &mut datagram);
        sent += bench.switch.transmits().count();
        bench.switch.clear_transmits();
        spent += begin.elapsed();
        bench.now += TICK;
    }
    assert_eq!(sent, packets);
    let each = spent.as_nanos() as f64 / packets as f64;
    println!(r#"{{"figure": "media.transcode.{case}", "unit": "ns/packet", "value": {each:.0}}}"#);
}

/// Ten seconds, encoded.
fn sound(codec: Codec) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(codec).expect("encoder");
    let mut noise = 1u32;
    (0..500)
        .map(|index| {
            let pitch = 110.0 + f64::from(index % 40);
            let parts = [1.0, 2.0, 3.0, 5.0]
                .map(|part| tone(pitch * part, 3_000.0 / part, index as usize * FRAME, FRAME));
            let mut frame = [0i16; FRAME];
            for (at, sample) in frame.iter_mut().enumerate() {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let loud = i16::from(index % 50 < 35);
                *sample = loud * parts.iter().map(|part| part[at]).sum::<i16>() + (noise >> 24) as i16;
            }
            let mut payload = [0; MAX_FRAME_BYTES];
            let length = encoder.encode(&frame, &mut payload).expect("frame");
            payload[..length].to_vec()
        })
        .collect()
}
