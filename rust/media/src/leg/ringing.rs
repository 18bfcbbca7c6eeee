//! The ringback tone towards this leg's peer: frames at an even pace, until its real sound comes.

use super::Leg;
use crate::Error;
use crate::codec::{Codec, Encoder, FRAME, MAX_FRAME_BYTES, SAMPLE_RATE};
use crate::ringback::Ringback;
use crate::switch::Output;
use std::time::{Duration, Instant};

/// One frame's sound.
const PACE: Duration = Duration::from_millis(20);
/// A thread that was held up for longer than this leaves the missed frames out.
const LATE: Duration = Duration::from_millis(200);

/// A tone that is being played.
#[derive(Debug)]
pub(super) struct Ringing {
    tone: Ringback,
    codec: Codec,
    encoder: Encoder,
    /// The sample of the cadence that comes next, and when.
    sample: u32,
    next: Instant,
    timestamp: Option<u32>,
}

impl Ringing {
    pub(super) fn poll_timeout(&self) -> Instant {
        self.next
    }
}

impl Leg {
    /// Begins the tone, or ends it.
    pub(crate) fn ring_back(&mut self, now: Instant, tone: Option<Ringback>) -> Result<(), Error> {
        let Some(tone) = tone else {
            self.stop_ringing();
            return Ok(());
        };
        let codec = self.codec().ok_or(Error::WrongState("no codec is agreed on yet"))?;
        let encoder = Encoder::new(codec)?;
        let ringing = Ringing { tone, codec, encoder, sample: 0, next: now, timestamp: None };
        self.ringing = Some(Box::new(ringing));
        Ok(())
    }

    /// The tone is over: what comes now is joined on anew.
    pub(super) fn stop_ringing(&mut self) {
        if self.ringing.take().is_some() {
            self.interrupt();
        }
    }

    pub(super) fn send_due_ringing(&mut self, now: Instant, out: &mut Output) {
        // Taken out for the while, as the leg sends what it makes.
        let Some(mut ringing) = self.ringing.take() else { return };
        if now.saturating_duration_since(ringing.next) > LATE {
            (ringing.next, ringing.timestamp) = (now, None);
        }
        while ringing.next <= now {
            self.send_ringing(now, &mut ringing, out);
            ringing.next += PACE;
        }
        // Another codec was agreed on under way; the tone ends sooner than it would sound wrong.
        if self.codec() == Some(ringing.codec) {
            self.ringing = Some(ringing);
        }
    }

    fn send_ringing(&mut self, now: Instant, ringing: &mut Ringing, out: &mut Output) {
        let (frame, next) = ringing.tone.frame(ringing.sample);
        let mut payload = [0; MAX_FRAME_BYTES];
        ringing.sample = next;
        let Ok(length) = ringing.encoder.encode(&frame, &mut payload) else { return };
        let known = self.negotiated().filter(|known| known.codec == ringing.codec && self.may_send());
        let Some(payload_type) = known.map(|known| known.send_payload_type) else { return };
        if !self.transport.ready() {
            return;
        }
        let timestamp = ringing.timestamp.unwrap_or_else(|| self.egress.position(now));
        let units =
            ringing.codec.clock_rate() / SAMPLE_RATE.unsigned_abs() * u32::try_from(FRAME).unwrap_or(0);
        let marker = ringing.timestamp.is_none();
        ringing.timestamp = Some(timestamp.wrapping_add(units));
        let sequence = self.egress.next(now, timestamp);
        let header = self.egress.header(payload_type, marker, sequence, timestamp);
        self.send_rtp(header, payload.get(..length).unwrap_or_default(), None, out);
    }
}
