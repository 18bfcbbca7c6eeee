//! G.711: mu-law, A-law, and the way from one to the other, by tables made at compile time.

/// Samples to mu-law octets; stops at the shorter of the two.
pub fn encode_ulaw(samples: &[i16], octets: &mut [u8]) {
    for (octet, &sample) in octets.iter_mut().zip(samples) {
        *octet = linear_to_ulaw(sample);
    }
}

/// Samples to A-law octets; stops at the shorter of the two.
pub fn encode_alaw(samples: &[i16], octets: &mut [u8]) {
    for (octet, &sample) in octets.iter_mut().zip(samples) {
        *octet = linear_to_alaw(sample);
    }
}

/// Mu-law octets to samples; stops at the shorter of the two.
pub fn decode_ulaw(octets: &[u8], samples: &mut [i16]) {
    decode(&ULAW_TO_LINEAR, octets, samples);
}

/// A-law octets to samples; stops at the shorter of the two.
pub fn decode_alaw(octets: &[u8], samples: &mut [i16]) {
    decode(&ALAW_TO_LINEAR, octets, samples);
}

/// Mu-law to A-law in place.
pub fn ulaw_to_alaw(octets: &mut [u8]) {
    translate(&ULAW_TO_ALAW, octets);
}

/// A-law to mu-law in place.
pub fn alaw_to_ulaw(octets: &mut [u8]) {
    translate(&ALAW_TO_ULAW, octets);
}

fn decode(table: &[i16; 256], octets: &[u8], samples: &mut [i16]) {
    for (sample, &octet) in samples.iter_mut().zip(octets) {
        *sample = table.get(usize::from(octet)).copied().unwrap_or(0);
    }
}

fn translate(table: &[u8; 256], octets: &mut [u8]) {
    for octet in octets {
        *octet = table.get(usize::from(*octet)).copied().unwrap_or(0);
    }
}

static ULAW_TO_LINEAR: [i16; 256] = linear_table(true);
static ALAW_TO_LINEAR: [i16; 256] = linear_table(false);
static ULAW_TO_ALAW: [u8; 256] = law_table(true);
static ALAW_TO_ULAW: [u8; 256] = law_table(false);

/// What mu-law adds to a magnitude before its logarithm.
const ULAW_BIAS: u32 = 0x84;
/// The largest magnitude that mu-law can say.
const ULAW_CLIP: u32 = 32_635;

const fn linear_to_ulaw(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let mut magnitude = sample.unsigned_abs() as u32;
    if magnitude > ULAW_CLIP {
        magnitude = ULAW_CLIP;
    }
    magnitude += ULAW_BIAS;
    let exponent = 24 - magnitude.leading_zeros();
    let mantissa = (magnitude >> (exponent + 3)) & 0x0f;
    !(sign | low_octet(exponent << 4 | mantissa))
}

const fn linear_to_alaw(sample: i16) -> u8 {
    // Negative values are complemented, not negated: zero and minus one share no code (G.711 table 1a).
    let (sign, magnitude) = if sample < 0 { (0, !sample) } else { (0x80, sample) };
    let magnitude = magnitude.unsigned_abs() as u32 >> 4;
    let code = if magnitude < 16 {
        magnitude
    } else {
        let exponent = 28 - magnitude.leading_zeros();
        exponent << 4 | ((magnitude >> (exponent - 1)) & 0x0f)
    };
    (sign | low_octet(code)) ^ 0x55
}

const fn ulaw_to_linear(octet: u8) -> i16 {
    let code = !octet as u32;
    let exponent = (code >> 4) & 7;
    let magnitude = ((((code & 0x0f) << 3) + ULAW_BIAS) << exponent) - ULAW_BIAS;
    signed(magnitude, code & 0x80 != 0)
}

const fn alaw_to_linear(octet: u8) -> i16 {
    let code = (octet ^ 0x55) as u32;
    let exponent = (code >> 4) & 7;
    let step = (code & 0x0f) << 4;
    let magnitude = if exponent == 0 { step + 8 } else { (step + 0x108) << (exponent - 1) };
    signed(magnitude, code & 0x80 == 0)
}

const fn low_octet(value: u32) -> u8 {
    value.to_le_bytes()[0]
}

const fn signed(magnitude: u32, negative: bool) -> i16 {
    let [low, high, ..] = magnitude.to_le_bytes();
    let value = i16::from_le_bytes([low, high]);
    if negative { -value } else { value }
}

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler, which would stop at a bad index")]
const fn linear_table(ulaw: bool) -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0u8;
    loop {
        table[code as usize] = if ulaw { ulaw_to_linear(code) } else { alaw_to_linear(code) };
        if code == u8::MAX {
            return table;
        }
        code += 1;
    }
}

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler, which would stop at a bad index")]
const fn law_table(from_ulaw: bool) -> [u8; 256] {
    let mut table = [0; 256];
    let mut code = 0u8;
    loop {
        table[code as usize] = if from_ulaw {
            linear_to_alaw(ulaw_to_linear(code))
        } else {
            linear_to_ulaw(alaw_to_linear(code))
        };
        if code == u8::MAX {
            return table;
        }
        code += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_way_through_samples() {
        for code in 0..=255u8 {
            assert_eq!(linear_to_alaw(alaw_to_linear(code)), code, "A-law {code}");
            // Mu-law has two zeros; the negative one comes back as the positive.
            let expected = if code == 0x7f { 0xff } else { code };
            assert_eq!(linear_to_ulaw(ulaw_to_linear(code)), expected, "mu-law {code}");
        }
    }

    #[test]
    fn known_values() {
        assert_eq!(ulaw_to_linear(0x00), -32_124);
        assert_eq!(ulaw_to_linear(0x80), 32_124);
        assert_eq!(ulaw_to_linear(0xff), 0);
        assert_eq!(alaw_to_linear(0xd5), 8);
        assert_eq!(alaw_to_linear(0x55), -8);
        assert_eq!(alaw_to_linear(0xaa), 32_256);
        assert_eq!(linear_to_ulaw(i16::MIN), 0x00);
        assert_eq!(linear_to_alaw(i16::MIN), 0x2a);
        assert_eq!(linear_to_alaw(0), 0xd5);
    }

    #[test]
    fn error_of_one_way_is_within_half_a_step() {
        for sample in (i16::MIN..=i16::MAX).step_by(7) {
            let back = i32::from(ulaw_to_linear(linear_to_ulaw(sample)));
            assert!((back - i32::from(sample)).abs() <= 4 + i32::from(sample).abs() / 16);
            let back = i32::from(alaw_to_linear(linear_to_alaw(sample)));
            assert!((back - i32::from(sample)).abs() <= 9 + i32::from(sample).abs() / 16);
        }
    }
}
