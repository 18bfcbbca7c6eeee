//! The ringback tone: its sound, its cadence, and when it ends.

use crate::wire::{A, B, Bench, TICK, amplitude, heard};
use std::time::Duration;
use telephony_media::codec::{Codec, Decoder, MAX_PACKET_SAMPLES};
use telephony_media::ringback::Ringback;

/// What a phone hears while time passes.
fn listen(bench: &mut Bench, codec: Codec, duration: Duration) -> Vec<i16> {
    let mut decoder = Decoder::new(codec).expect("decoder");
    let mut samples = Vec::new();
    for packet in heard(&bench.advance(duration)) {
        let mut room = [0; MAX_PACKET_SAMPLES];
        let count = decoder.decode(&packet.payload, &mut room).expect("sound");
        samples.extend_from_slice(&room[..count]);
    }
    samples
}

#[test]
fn each_tone_has_its_frequencies_and_its_pause() {
    for (tone, frequencies, on, period) in
        [(Ringback::Eu, &[425.0][..], 1, 5), (Ringback::Us, &[440.0, 480.0][..], 2, 6)]
    {
        for codec in [Codec::Pcmu, Codec::Pcma, Codec::Opus] {
            let mut bench = Bench::new();
            bench.phone(A, 2, codec);
            bench.switch.ring_back(bench.now, A, Some(tone)).expect("ringing");
            let samples = listen(&mut bench, codec, Duration::from_secs(2 * period));
            let seconds: Vec<&[i16]> = samples.chunks(8_000).collect();
            assert!(seconds.len() as u64 >= 2 * period, "a frame each 20 ms: {}", samples.len());
            for (second, samples) in seconds.iter().enumerate().take(2 * period as usize) {
                let sounds = second as u64 % period < on;
                for &frequency in frequencies {
                    let level = amplitude(&samples[800..7_200], frequency);
                    assert_eq!(level > 3_000.0, sounds, "{tone:?} {codec:?} second {second}: {level}");
                }
            }
        }
    }
}

#[test]
fn it_ends_with_the_first_sound_of_the_other_side() {
    let mut bench = Bench::new();
    bench.phone(A, 2, Codec::Pcmu);
    let mut b = bench.phone(B, 3, Codec::Pcmu);
    bench.switch.ring_back(bench.now, A, Some(Ringback::Eu)).expect("ringing");
    bench.advance(TICK);
    bench.switch.bridge_early(A, B).expect("bridge");
    let tone = heard(&bench.advance(Duration::from_secs(2)));
    assert_eq!(tone.len(), 100, "early media was announced, none has come");
    let mut out = Vec::new();
    for _ in 0..10 {
        let packet = b.sound();
        out.extend(heard(&bench.rtp(&b, packet)));
        out.extend(heard(&bench.advance(TICK)));
    }
    assert_eq!(out.len(), 10, "only B's sound");
    let all: Vec<_> = tone.iter().chain(&out).collect();
    assert!(all.windows(2).all(|pair| pair[1].sequence == pair[0].sequence.wrapping_add(1)));
    assert!(all.windows(2).all(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp) < 16_000));
    assert!(out[0].marker && out[0].ssrc == tone[0].ssrc);
}

#[test]
fn it_ends_with_the_answer_and_on_demand() {
    let mut bench = Bench::new();
    bench.phone(A, 2, Codec::Pcmu);
    bench.phone(B, 3, Codec::Pcmu);
    bench.switch.ring_back(bench.now, A, Some(Ringback::Us)).expect("ringing");
    assert_eq!(heard(&bench.advance(Duration::from_secs(1))).len(), 51);
    bench.switch.ring_back(bench.now, A, None).expect("no ringing");
    assert!(heard(&bench.advance(Duration::from_secs(1))).is_empty());
    bench.switch.ring_back(bench.now, A, Some(Ringback::Us)).expect("ringing");
    bench.switch.bridge(bench.now, A, B).expect("bridge");
    assert!(heard(&bench.advance(Duration::from_secs(1))).is_empty());
}

#[test]
fn early_media_does_not_start_the_clock_of_silence() {
    let mut bench = Bench::with(Duration::from_secs(10), 16);
    bench.phone(A, 2, Codec::Pcmu);
    let mut b = bench.phone(B, 3, Codec::Pcmu);
    bench.switch.bridge_early(A, B).expect("bridge");
    let packet = b.sound();
    assert_eq!(heard(&bench.rtp(&b, packet)).len(), 1);
    bench.advance(Duration::from_secs(60));
    assert_eq!(bench.events.len(), 1, "a caller may be silent until it is answered: {:?}", bench.events);
    bench.switch.bridge(bench.now, A, B).expect("bridge");
    assert_eq!(bench.switch.stats().bridges, 1);
    bench.advance(Duration::from_secs(11));
    assert_eq!(bench.events.len(), 3);
}
