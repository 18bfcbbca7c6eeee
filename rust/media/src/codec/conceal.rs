//! Concealment of lost G.711 packets: the last pitch period goes on, and fades (after the idea of G.711 Appendix I).

/// Enough for the longest pitch period twice.
const HISTORY: usize = 320;
/// 8000 / 40 = 200 Hz; higher voices repeat at a multiple of their period just as well.
const SHORTEST_PERIOD: usize = 40;
/// 50 Hz.
const LONGEST_PERIOD: usize = 160;
/// After 40 ms there is silence.
const FADE: usize = 320;

/// The last sound of one stream.
#[derive(Debug)]
pub(crate) struct Concealer {
    history: [i16; HISTORY],
    period: usize,
    concealed: usize,
}

impl Default for Concealer {
    fn default() -> Self {
        Concealer { history: [0; HISTORY], period: 0, concealed: 0 }
    }
}

impl Concealer {
    /// These samples arrived.
    pub(crate) fn remember(&mut self, samples: &[i16]) {
        self.concealed = 0;
        let fresh = samples.len().min(HISTORY);
        self.history.copy_within(fresh.., 0);
        let (_, newest) = samples.split_at(samples.len() - fresh);
        if let Some(tail) = self.history.get_mut(HISTORY - fresh..) {
            tail.copy_from_slice(newest);
        }
    }

    /// Makes up samples for those that are lost.
    pub(crate) fn conceal(&mut self, samples: &mut [i16]) {
        if self.concealed == 0 {
            self.period = self.pitch_period();
        }
        let start = HISTORY - self.period;
        for sample in samples {
            let at = start + self.concealed % self.period;
            let gain = FADE.saturating_sub(self.concealed);
            let old = self.history.get(at).copied().unwrap_or(0);
            *sample = scaled(old, gain);
            self.concealed += 1;
        }
    }

    /// The lag at which the last 20 ms look most like what was before them.
    fn pitch_period(&self) -> usize {
        let score = |lag: &usize| {
            let (mut product, mut energy) = (0i64, 1i64);
            let recent = self.history.iter().skip(HISTORY - LONGEST_PERIOD);
            let before = self.history.iter().skip(HISTORY - LONGEST_PERIOD - lag);
            for (&new, &old) in recent.zip(before) {
                product += i64::from(new) * i64::from(old);
                energy += i64::from(old) * i64::from(old);
            }
            // Correlation over energy, as integers; negative correlation is never chosen.
            i128::from(product.max(0)).pow(2) / i128::from(energy)
        };
        (SHORTEST_PERIOD..=LONGEST_PERIOD).max_by_key(score).unwrap_or(LONGEST_PERIOD)
    }
}

fn scaled(sample: i16, gain: usize) -> i16 {
    let gain = i32::try_from(gain).unwrap_or(0);
    let fade = i32::try_from(FADE).unwrap_or(1);
    i16::try_from(i32::from(sample) * gain / fade).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_periodic_sound_goes_on_and_fades() {
        // 100 Hz: 80 samples.
        let sound = |at: usize| if at % 80 < 40 { 8_000 } else { -8_000 };
        let mut concealer = Concealer::default();
        concealer.remember(&(0..320).map(sound).collect::<Vec<i16>>());
        let mut made = [0i16; 400];
        concealer.conceal(&mut made);
        assert!(made[..160].iter().enumerate().all(|(at, &sample)| (sample > 0) == (sound(at) > 0)));
        assert!(made[150].abs() < 4_500);
        assert!(made[320..].iter().all(|&sample| sample == 0));
    }

    #[test]
    fn silence_stays_silence() {
        let mut made = [1i16; 160];
        Concealer::default().conceal(&mut made);
        assert_eq!(made, [0; 160]);
    }
}
