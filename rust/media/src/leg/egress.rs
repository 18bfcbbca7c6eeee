//! Our own stream towards a leg's peer: one SSRC, one sequence and one clock for the leg's whole life, whatever
//! feeds it.

use crate::rtcp::SenderInfo;
use crate::rtp::{Fixed, PayloadType, Ssrc};
use std::time::{Duration, Instant};

/// What a fresh source is set apart from what was sent before it: one packet's sound.
const FRAME: Duration = Duration::from_millis(20);

/// How a relayed source's numbers become ours.
#[derive(Debug, Clone, Copy)]
struct Mapping {
    source: Ssrc,
    sequence: u16,
    timestamp: u32,
    last: u32,
}

/// The stream's numbers.
#[derive(Debug)]
pub(crate) struct Egress {
    pub(crate) ssrc: Ssrc,
    clock_rate: u32,
    next_sequence: u16,
    timestamp: u32,
    sent_at: Option<Instant>,
    mapping: Option<Mapping>,
    packets: u32,
    octets: u32,
    reported_packets: u32,
}

impl Egress {
    pub(crate) fn new(ssrc: Ssrc, sequence: u16, timestamp: u32) -> Self {
        Egress {
            ssrc,
            clock_rate: crate::rtp::TELEPHONE_CLOCK,
            next_sequence: sequence,
            timestamp,
            sent_at: None,
            mapping: None,
            packets: 0,
            octets: 0,
            reported_packets: 0,
        }
    }

    /// Whether any packet has left.
    pub(crate) fn has_sent(&self) -> bool {
        self.packets != 0
    }

    /// The negotiated codec's clock.
    pub(crate) fn set_clock_rate(&mut self, clock_rate: u32) {
        if self.clock_rate != clock_rate {
            self.clock_rate = clock_rate;
            self.mapping = None;
        }
    }

    pub(crate) fn clock_rate(&self) -> u32 {
        self.clock_rate
    }

    /// What fed the stream is gone or was interrupted: the next source is joined on anew.
    pub(crate) fn interrupt(&mut self) {
        self.mapping = None;
    }

    /// Where the stream stands now by the wall clock, never at or before what was sent.
    pub(crate) fn position(&self, now: Instant) -> u32 {
        let Some(sent_at) = self.sent_at else { return self.timestamp };
        let elapsed = now.saturating_duration_since(sent_at).max(FRAME);
        self.timestamp.wrapping_add(units(elapsed, self.clock_rate))
    }

    /// The numbers of a relayed packet, and whether the source is joined on with it.
    pub(crate) fn relay(
        &mut self,
        now: Instant,
        source: Ssrc,
        sequence: u16,
        timestamp: u32,
    ) -> (u16, u32, bool) {
        // A source may set its clock anew without a new SSRC; ten seconds of silence look alike and end alike.
        let leap = self.clock_rate.saturating_mul(10);
        let known = self.mapping.filter(|mapping| {
            mapping.source == source
                && timestamp.wrapping_sub(mapping.last).cast_signed().unsigned_abs() < leap
        });
        let joined = known.is_none();
        let mut mapping = known.unwrap_or_else(|| Mapping {
            source,
            sequence: self.next_sequence.wrapping_sub(sequence),
            timestamp: self.position(now).wrapping_sub(timestamp),
            last: timestamp,
        });
        mapping.last = timestamp;
        self.mapping = Some(mapping);
        let (sequence, timestamp) =
            (sequence.wrapping_add(mapping.sequence), timestamp.wrapping_add(mapping.timestamp));
        self.advance(now, sequence, timestamp);
        (sequence, timestamp, joined)
    }

    /// The next sequence number, for packets made here.
    pub(crate) fn next(&mut self, now: Instant, timestamp: u32) -> u16 {
        let sequence = self.next_sequence;
        self.advance(now, sequence, timestamp);
        sequence
    }

    /// The sequence number of a relayed packet whose timestamp is on another clock than the stream's.
    pub(crate) fn relay_sequence(&mut self, source: Ssrc, sequence: u16) -> u16 {
        let offset = self.mapping.filter(|mapping| mapping.source == source).map(|mapping| mapping.sequence);
        let sequence = offset.map_or(self.next_sequence, |offset| sequence.wrapping_add(offset));
        self.advance_sequence(sequence);
        sequence
    }

    /// A packet that repeats the timestamp, as a key's do (RFC 4733 2.5.1.2), does not move the clock.
    fn advance(&mut self, now: Instant, sequence: u16, timestamp: u32) {
        if self.advance_sequence(sequence) && (self.timestamp != timestamp || self.sent_at.is_none()) {
            self.timestamp = timestamp;
            self.sent_at = Some(now);
        }
    }

    /// Whether it is newer than all before it.
    fn advance_sequence(&mut self, sequence: u16) -> bool {
        let newer = sequence.wrapping_sub(self.next_sequence) < 1 << 15;
        if newer {
            self.next_sequence = sequence.wrapping_add(1);
        }
        newer
    }

    pub(crate) fn count(&mut self, octets: usize) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(u32::try_from(octets).unwrap_or(0));
    }

    /// The sender's part of a report, if something was sent since the last one (RFC 3550 6.4).
    pub(crate) fn report(&mut self, now: Instant, ntp: u64) -> Option<SenderInfo> {
        let sent_at = self.sent_at.filter(|_| self.packets != self.reported_packets)?;
        self.reported_packets = self.packets;
        let elapsed = units(now.saturating_duration_since(sent_at), self.clock_rate);
        let rtp_timestamp = self.timestamp.wrapping_add(elapsed);
        Some(SenderInfo { ntp, rtp_timestamp, packets: self.packets, octets: self.octets })
    }

    /// The header of a packet of this stream.
    pub(crate) fn header(&self, payload_type: u8, marker: bool, sequence: u16, timestamp: u32) -> Fixed {
        Fixed { marker, payload_type: PayloadType(payload_type), sequence, timestamp, ssrc: self.ssrc }
    }
}

/// A duration in units of a clock, modulo 2^32 like every timestamp. Every packet passes here: no 128-bit division.
pub(crate) fn units(duration: Duration, clock_rate: u32) -> u32 {
    let seconds = u32::try_from(duration.as_secs() & u64::from(u32::MAX)).unwrap_or(0);
    let part = u64::from(duration.subsec_nanos()) * u64::from(clock_rate) / 1_000_000_000;
    seconds.wrapping_mul(clock_rate).wrapping_add(u32::try_from(part).unwrap_or(0))
}
