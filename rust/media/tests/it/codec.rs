//! Codecs by themselves: the way there and back.

use crate::wire::{amplitude, tone};
use proptest::prelude::*;
use telephony_media::codec::{
    Codec, CodecError, Decoder, Encoder, FRAME, MAX_FRAME_BYTES, MAX_PACKET_SAMPLES, g711,
};

#[test]
fn every_codec_carries_a_tone() {
    for codec in Codec::ALL {
        let mut encoder = Encoder::new(codec).expect("encoder");
        let mut decoder = Decoder::new(codec).expect("decoder");
        let mut heard = Vec::new();
        let mut longest = 0;
        for index in 0..100 {
            let frame: [i16; FRAME] = tone(440.0, 10_000.0, index * FRAME, FRAME).try_into().expect("frame");
            let mut payload = [0; MAX_FRAME_BYTES];
            let length = encoder.encode(&frame, &mut payload).expect("encode");
            longest = longest.max(length);
            let mut samples = [0; MAX_PACKET_SAMPLES];
            assert_eq!(decoder.decode(&payload[..length], &mut samples), Ok(FRAME));
            heard.extend_from_slice(&samples[..FRAME]);
        }
        let level = amplitude(&heard[4_000..], 440.0);
        assert!((8_500.0..11_500.0).contains(&level), "{codec:?}: {level}");
        assert!(longest <= 160, "{codec:?}: {longest}");
    }
}

#[test]
fn translation_equals_the_way_through_samples() {
    let octets: Vec<u8> = (0..=255).collect();
    let (mut samples, mut through, mut direct) = ([0; 256], [0; 256], octets.clone());
    g711::decode_ulaw(&octets, &mut samples);
    g711::encode_alaw(&samples, &mut through);
    g711::ulaw_to_alaw(&mut direct);
    assert_eq!(direct, through);
    let mut direct = octets.clone();
    g711::decode_alaw(&octets, &mut samples);
    g711::encode_ulaw(&samples, &mut through);
    g711::alaw_to_ulaw(&mut direct);
    assert_eq!(direct, through);
}

#[test]
fn payloads_that_do_not_fit_are_errors() {
    let mut samples = [0; 100];
    let mut decoder = Decoder::new(Codec::Pcmu).expect("decoder");
    assert_eq!(decoder.decode(&[0; 101], &mut samples), Err(CodecError::Payload));
    let mut encoder = Encoder::new(Codec::Pcma).expect("encoder");
    assert_eq!(encoder.encode(&[0; FRAME], &mut [0; 100]), Err(CodecError::Frame));
}

proptest! {
    #[test]
    fn any_payload_is_safe_to_decode(payload in prop::collection::vec(any::<u8>(), 0..300), lost: bool) {
        for codec in Codec::ALL {
            let mut decoder = Decoder::new(codec).expect("decoder");
            let mut samples = [0; MAX_PACKET_SAMPLES];
            if let Ok(count) = decoder.decode(&payload, &mut samples) {
                prop_assert!(count <= MAX_PACKET_SAMPLES);
            }
            let _ = decoder.conceal(lost.then_some(&payload), &mut samples[..FRAME]);
        }
    }
}
