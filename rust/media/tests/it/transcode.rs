//! PCMU and Opus bridged: tones, frame lengths, loss, pauses.

use crate::wire::{A, Bench, Heard, TICK, amplitude, heard, tone};
use std::time::Duration;
use telephony_media::codec::{Codec, Decoder, Encoder, FRAME, MAX_PACKET_SAMPLES};

/// 1,000 Hz at -9 dBm0 or so.
const FREQUENCY: f64 = 1_000.0;
const LEVEL: f64 = 8_000.0;

fn decode(codec: Codec, packets: &[Heard]) -> Vec<i16> {
    let mut decoder = Decoder::new(codec).expect("decoder");
    let mut samples = Vec::new();
    let mut room = [0; MAX_PACKET_SAMPLES];
    for packet in packets {
        let count = decoder.decode(&packet.payload, &mut room).expect("payload");
        samples.extend_from_slice(&room[..count]);
    }
    samples
}

fn g711_payload(samples: &[i16]) -> Vec<u8> {
    let mut payload = vec![0; samples.len()];
    telephony_media::codec::g711::encode_ulaw(samples, &mut payload);
    payload
}

fn assert_tone(samples: &[i16]) {
    let steady = &samples[2_000..];
    let (level, beside) = (amplitude(steady, FREQUENCY), amplitude(steady, 1_300.0));
    assert!((LEVEL * 0.85..LEVEL * 1.15).contains(&level), "level {level}");
    assert!(beside < LEVEL * 0.03, "beside {beside}");
}

#[test]
fn pcmu_becomes_opus_and_keeps_its_tone() {
    for packet_samples in [80, 160, 240, 320, 480] {
        let (mut bench, mut a, _b) = Bench::bridged(Codec::Pcmu, Codec::Opus);
        let mut out = Vec::new();
        for index in 0..16_000 / packet_samples {
            let payload = g711_payload(&tone(FREQUENCY, LEVEL, index * packet_samples, packet_samples));
            let packet = a.packet(packet_samples, &payload);
            out.extend(heard(&bench.rtp(&a, packet)));
            bench.advance(TICK);
        }
        assert_eq!(out.len(), 16_000 / packet_samples * packet_samples / FRAME, "one frame per packet");
        assert!(out.windows(2).all(|pair| pair[1].sequence == pair[0].sequence.wrapping_add(1)));
        assert!(out.windows(2).all(|pair| pair[1].timestamp == pair[0].timestamp.wrapping_add(960)));
        assert!(out[0].marker && out[1..].iter().all(|packet| !packet.marker));
        assert_eq!(out[0].payload_type, 111);
        assert_tone(&decode(Codec::Opus, &out));
    }
}

#[test]
fn opus_becomes_pcmu_and_keeps_its_tone() {
    let (mut bench, mut a, _b) = Bench::bridged(Codec::Opus, Codec::Pcmu);
    let mut encoder = Encoder::new(Codec::Opus).expect("encoder");
    let mut out = Vec::new();
    for index in 0..100 {
        let frame: [i16; FRAME] = tone(FREQUENCY, LEVEL, index * FRAME, FRAME).try_into().expect("frame");
        let mut payload = [0; 400];
        let length = encoder.encode(&frame, &mut payload).expect("encode");
        let packet = a.packet(FRAME, &payload[..length]);
        out.extend(heard(&bench.rtp(&a, packet)));
        bench.advance(TICK);
    }
    assert_eq!(out.len(), 100);
    assert!(out.windows(2).all(|pair| pair[1].timestamp == pair[0].timestamp.wrapping_add(160)));
    assert!(out.iter().all(|packet| packet.payload.len() == FRAME && packet.payload_type == 0));
    assert_tone(&decode(Codec::Pcmu, &out));
    assert_eq!(bench.switch.stats().transcoded, 100);
}

#[test]
fn two_lost_packets_are_concealed_and_more_leave_a_gap() {
    for (codec, lost) in [
        (Codec::Pcmu, 1),
        (Codec::Pcmu, 2),
        (Codec::Pcmu, 5),
        (Codec::Opus, 1),
        (Codec::Opus, 2),
        (Codec::Opus, 5),
    ] {
        let other = if codec == Codec::Opus { Codec::Pcmu } else { Codec::Opus };
        let (mut bench, mut a, _b) = Bench::bridged(codec, other);
        let mut encoder = Encoder::new(codec).expect("encoder");
        let mut out = Vec::new();
        for index in 0..60usize {
            let frame: [i16; FRAME] = tone(FREQUENCY, LEVEL, index * FRAME, FRAME).try_into().expect("frame");
            let mut payload = [0; 400];
            let length = encoder.encode(&frame, &mut payload).expect("encode");
            let packet = a.packet(FRAME, &payload[..length]);
            if !(30..30 + lost).contains(&index) {
                out.extend(heard(&bench.rtp(&a, packet)));
            }
            bench.advance(TICK);
        }
        let concealed = if lost <= 2 { lost } else { 0 };
        assert_eq!(out.len(), 60 - lost + concealed, "{codec:?} {lost}");
        assert!(out.windows(2).all(|pair| pair[1].sequence == pair[0].sequence.wrapping_add(1)));
        let step = other.clock_rate() / 50;
        let length = out[out.len() - 1].timestamp.wrapping_sub(out[0].timestamp);
        assert_eq!(length, 59 * step, "no time is lost");
        assert_eq!(out.iter().filter(|packet| packet.marker).count(), if lost <= 2 { 1 } else { 2 });
        if lost <= 2 {
            let samples = decode(other, &out);
            let hole = &samples[30 * FRAME..(30 + lost) * FRAME];
            assert!(
                amplitude(hole, FREQUENCY) > LEVEL * 0.3,
                "{codec:?} {lost}: {}",
                amplitude(hole, FREQUENCY)
            );
        }
    }
}

#[test]
fn a_pause_stays_a_pause() {
    let (mut bench, mut a, _b) = Bench::bridged(Codec::Pcmu, Codec::Opus);
    let mut out = Vec::new();
    for index in 0..20 {
        if index == 10 {
            // 400 ms without packets, as with voice activity detection: the sequence goes on, the clock too.
            a.timestamp = a.timestamp.wrapping_add(3_200);
            bench.advance(Duration::from_millis(400));
        }
        let packet = a.sound();
        out.extend(heard(&bench.rtp(&a, packet)));
        bench.advance(TICK);
    }
    assert_eq!(out.len(), 20);
    assert_eq!(out[10].timestamp.wrapping_sub(out[9].timestamp), 960 + 3_200 * 6);
    assert_eq!(out[10].sequence, out[9].sequence.wrapping_add(1));
    assert!(out[10].marker);
}

#[test]
fn overtaken_packets_are_left_out_and_broken_ones_counted() {
    let (mut bench, mut a, _b) = Bench::bridged(Codec::Opus, Codec::Pcmu);
    let mut encoder = Encoder::new(Codec::Opus).expect("encoder");
    let mut payload = [0; 400];
    let length = encoder.encode(&[0; FRAME], &mut payload).expect("encode");
    let packets: Vec<_> = (0..5).map(|_| a.packet(FRAME, &payload[..length])).collect();
    let count: usize = [0, 2, 1, 3].map(|index| bench.rtp(&a, packets[index].clone()).len()).iter().sum();
    assert_eq!(count, 4, "the second was concealed before it came");
    let packet = a.packet(FRAME, &[0xff; 3]);
    assert!(bench.rtp(&a, packet).is_empty());
    let packet = a.packet(FRAME, &[]);
    assert!(bench.rtp(&a, packet).is_empty());
    assert_eq!(bench.dropped("codec.decode"), 2);
}

#[test]
fn hostile_streams_are_survived() {
    for (from, to) in [(Codec::Opus, Codec::Pcmu), (Codec::Pcmu, Codec::Opus), (Codec::Pcmu, Codec::Pcma)] {
        let (mut bench, mut a, _b) = Bench::bridged(from, to);
        let mut state = 1_u64;
        let mut random = |below: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) as u32) % below
        };
        for round in 0..6_000_u32 {
            match random(8) {
                0 => a.sequence = a.sequence.wrapping_add(random(4) as u16),
                1 => a.timestamp = a.timestamp.wrapping_add(random(3_000)),
                2 => a.timestamp = a.timestamp.wrapping_sub(random(480_001)),
                3 if round % 50 == 0 => a.timestamp = random(u32::MAX),
                4 if round % 40 == 0 => a.sequence = random(65_536) as u16,
                5 if round % 60 == 0 => a.ssrc = random(u32::MAX),
                _ => {}
            }
            // Opus: every way to pack frames (RFC 6716 3.2), 2.5 to 120 ms and beyond.
            let mut payload: Vec<u8> = (0..random(1_300)).map(|_| random(256) as u8).collect();
            if let (Some(second), 1) = (payload.get_mut(1), random(3)) {
                *second = random(64) as u8;
            }
            let samples = random(1_000) as usize;
            let packet = a.packet(samples, &payload);
            bench.rtp(&a, packet);
            bench.advance(Duration::from_millis(u64::from(random(60))));
        }
        assert!(bench.stats(A).packets_in > 1_000);
    }
}
