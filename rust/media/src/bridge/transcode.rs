//! From one codec to another: decode, cut into 20 ms frames, encode.
//!
//! The peer's packets may hold 10 to 120 ms; ours always hold one frame. Timestamps follow the source's clock, so a
//! pause there is a pause here, and the two clocks never drift apart.

use crate::codec::{Codec, CodecError, Decoder, Encoder, FRAME, MAX_FRAME_BYTES, MAX_PACKET_SAMPLES};
use crate::rtp::TELEPHONE_CLOCK;

/// More lost packets in a row than this leave a gap.
const MAX_CONCEALED: u16 = 2;

/// A packet of the source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet<'a> {
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    /// Packets lost just before this one.
    pub(crate) missing: u16,
    pub(crate) payload: &'a [u8],
}

/// A frame to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) timestamp: u32,
    /// The first after a pause.
    pub(crate) marker: bool,
    pub(crate) payload: &'a [u8],
}

/// One direction between two codecs.
#[derive(Debug)]
pub(crate) struct Transcoder {
    decoder: Decoder,
    encoder: Encoder,
    /// Timestamp units of one 8 kHz sample at the source and towards the other side.
    source_units: u32,
    our_units: u32,
    /// The timestamp that the source's next sample will have; none before the first packet.
    expected: Option<u32>,
    /// Our timestamp of the first pending sample.
    timestamp: u32,
    marker: bool,
    pending: [i16; FRAME + MAX_PACKET_SAMPLES],
    filled: usize,
}

impl Transcoder {
    pub(crate) fn new(from: Codec, to: Codec) -> Result<Self, CodecError> {
        Ok(Transcoder {
            decoder: Decoder::new(from)?,
            encoder: Encoder::new(to)?,
            source_units: from.clock_rate() / TELEPHONE_CLOCK,
            our_units: to.clock_rate() / TELEPHONE_CLOCK,
            expected: None,
            timestamp: 0,
            marker: true,
            pending: [0; FRAME + MAX_PACKET_SAMPLES],
            filled: 0,
        })
    }

    /// Forgets where the source was.
    pub(crate) fn interrupt(&mut self) {
        self.expected = None;
    }

    /// Takes a packet and hands out the frames that are full; `position` is where our stream stands now.
    pub(crate) fn push(
        &mut self,
        packet: Packet<'_>,
        position: u32,
        sink: &mut impl FnMut(Frame<'_>),
    ) -> Result<(), CodecError> {
        let leap = TELEPHONE_CLOCK * self.source_units * 10;
        let ahead = self.expected.map(|expected| packet.timestamp.wrapping_sub(expected).cast_signed());
        match ahead {
            Some(0) => self.marker |= packet.marker,
            Some(ahead) if ahead.unsigned_abs() < leap => {
                let Ok(ahead) = u32::try_from(ahead) else { return Ok(()) };
                self.fill_gap(packet, ahead / self.source_units, sink);
            }
            _ => self.join(position),
        }
        let room = self.pending.get_mut(self.filled..).unwrap_or_default();
        let samples = self.decoder.decode(packet.payload, room)?;
        self.filled += samples;
        self.expected = Some(packet.timestamp.wrapping_add(length(samples, self.source_units)));
        self.drain(sink)
    }

    fn join(&mut self, position: u32) {
        self.timestamp = position;
        self.filled = 0;
        self.marker = true;
    }

    /// The source's clock is ahead of its sound: lost packets are concealed, a pause is kept.
    fn fill_gap(&mut self, packet: Packet<'_>, samples: u32, sink: &mut impl FnMut(Frame<'_>)) {
        let gap = usize::try_from(samples).unwrap_or(usize::MAX);
        if (1..=MAX_CONCEALED).contains(&packet.missing) && self.conceal(packet, gap, sink).is_ok() {
            return;
        }
        if gap >= FRAME {
            self.pad(sink);
            self.timestamp = self.timestamp.wrapping_add(length(gap, self.our_units));
            self.marker = true;
        } else {
            // Less than a frame is no pause; silence keeps the frames whole.
            self.extend_silence(gap);
            let _ = self.drain(sink);
        }
    }

    /// Lost packets held sound of equal length; the last of them may be in the redundancy of this one.
    fn conceal(
        &mut self,
        packet: Packet<'_>,
        gap: usize,
        sink: &mut impl FnMut(Frame<'_>),
    ) -> Result<(), CodecError> {
        let each = gap / usize::from(packet.missing);
        if each > MAX_PACKET_SAMPLES || !each.is_multiple_of(FRAME / 8) {
            return Err(CodecError::Frame);
        }
        for index in 1..=packet.missing {
            let next = (index == packet.missing).then_some(packet.payload);
            let room = self.pending.get_mut(self.filled..self.filled + each).ok_or(CodecError::Frame)?;
            self.filled += self.decoder.conceal(next, room)?;
            self.drain(sink)?;
        }
        Ok(())
    }

    /// Fills the begun frame with silence and sends it, and leaves the clock where its sound ended.
    fn pad(&mut self, sink: &mut impl FnMut(Frame<'_>)) {
        let begun = self.filled;
        if begun == 0 {
            return;
        }
        let after = self.timestamp.wrapping_add(length(begun, self.our_units));
        self.extend_silence(FRAME - begun);
        // What cannot be encoded is left out: a pause begins here anyway.
        let _ = self.drain(sink);
        self.timestamp = after;
        self.filled = 0;
    }

    fn extend_silence(&mut self, samples: usize) {
        let end = self.filled + samples;
        if let Some(silence) = self.pending.get_mut(self.filled..end) {
            silence.fill(0);
            self.filled = end;
        }
    }

    fn drain(&mut self, sink: &mut impl FnMut(Frame<'_>)) -> Result<(), CodecError> {
        let mut payload = [0; MAX_FRAME_BYTES];
        while self.filled >= FRAME {
            let Some(frame) = self.pending.first_chunk() else { break };
            let encoded = self.encoder.encode(frame, &mut payload);
            let timestamp = self.timestamp;
            self.timestamp = timestamp.wrapping_add(length(FRAME, self.our_units));
            self.pending.copy_within(FRAME..self.filled, 0);
            self.filled -= FRAME;
            let payload = payload.get(..encoded?).unwrap_or_default();
            sink(Frame { timestamp, marker: std::mem::take(&mut self.marker), payload });
        }
        Ok(())
    }
}

/// Samples as timestamp units.
fn length(samples: usize, units: u32) -> u32 {
    u32::try_from(samples).unwrap_or(0).wrapping_mul(units)
}
