//! The tone a caller hears while the called side rings and sends no sound of its own (ITU-T E.180).

use crate::codec::{FRAME, SAMPLE_RATE};
use std::f64::consts::TAU;

/// Which country's tone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ringback {
    /// 425 Hz, 1 s on and 4 s off (ETSI TR 101 041).
    Eu,
    /// 440 and 480 Hz, 2 s on and 4 s off (ANSI T1.401).
    Us,
}

impl Ringback {
    /// Every tone.
    pub const ALL: [Self; 2] = [Self::Eu, Self::Us];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eu => "eu",
            Self::Us => "us",
        }
    }

    /// The tone of a word.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tone| tone.name() == name)
    }

    const fn frequencies(self) -> &'static [f64] {
        match self {
            Self::Eu => &[425.0],
            Self::Us => &[440.0, 480.0],
        }
    }

    /// Samples of sound, and of sound and silence.
    const fn cadence(self) -> (u32, u32) {
        const SECOND: u32 = SAMPLE_RATE.unsigned_abs();
        match self {
            Self::Eu => (SECOND, 5 * SECOND),
            Self::Us => (2 * SECOND, 6 * SECOND),
        }
    }

    /// The frame that begins at sample `start` of the tone, and where the next one begins.
    #[must_use]
    pub fn frame(self, start: u32) -> ([i16; FRAME], u32) {
        let (sound, period) = self.cadence();
        let mut frame = [0; FRAME];
        for (sample, at) in frame.iter_mut().zip(start..sound) {
            *sample = self.sample(at);
        }
        let next = start + u32::try_from(FRAME).unwrap_or(0);
        (frame, if next < period { next } else { 0 })
    }

    /// All frequencies together reach -10 dBm0 (E.180 section 3), give or take.
    #[allow(clippy::cast_possible_truncation, reason = "the sum of the amplitudes is far below i16::MAX")]
    fn sample(self, at: u32) -> i16 {
        const AMPLITUDE: f64 = 10_000.0;
        let wave = |frequency: &f64| (TAU * frequency * f64::from(at) / f64::from(SAMPLE_RATE)).sin();
        let count = f64::from(u32::try_from(self.frequencies().len()).unwrap_or(1));
        (self.frequencies().iter().map(wave).sum::<f64>() * AMPLITUDE / count) as i16
    }
}
