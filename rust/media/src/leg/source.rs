//! What arrives from one synchronisation source: sequence, loss and jitter (RFC 3550 A.1, A.3, A.8).

use crate::rtcp::ReportBlock;
use crate::rtp::Ssrc;
use std::time::Duration;

/// A forward jump up to this is loss (RFC 3550 A.1).
const MAX_DROPOUT: u16 = 3_000;
/// A packet this much older may still be late; the duplicate window is as wide.
const MAX_MISORDER: u16 = 64;

/// What a packet's sequence number says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The next packets of the source: so many before it are missing.
    Next { missing: u16 },
    /// It was overtaken.
    Late,
    /// It was here before, or is too old to tell.
    Duplicate,
    /// A wild jump; the next packet will tell whether the source has restarted.
    Jump,
    /// The source has restarted its sequence, without changing its SSRC.
    Restart,
}

/// The state of one source. There is no probation: the source latch or SRTP has vouched for the packet already.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) ssrc: Ssrc,
    highest: u16,
    cycles: u32,
    base: u32,
    /// The number that would confirm a restart.
    restart: Option<u16>,
    /// Bit n: the packet n before the highest has been seen.
    seen: u64,
    received: u32,
    /// What the last report said was expected and received.
    reported: (u32, u32),
    /// Arrival time minus timestamp, in timestamp units.
    transit: Option<u32>,
    /// Sixteen times the jitter, as in RFC 3550 A.8.
    jitter: u32,
}

impl Source {
    pub(crate) fn new(ssrc: Ssrc, sequence: u16) -> Self {
        Source {
            ssrc,
            highest: sequence,
            cycles: 0,
            base: u32::from(sequence),
            restart: None,
            seen: 1,
            received: 1,
            reported: (0, 0),
            transit: None,
            jitter: 0,
        }
    }

    /// RFC 3550 A.1, with a window that tells late packets from repeated ones.
    pub(crate) fn arrive(&mut self, sequence: u16) -> Arrival {
        let ahead = sequence.wrapping_sub(self.highest);
        let behind = self.highest.wrapping_sub(sequence);
        if behind < MAX_MISORDER {
            return self.look_back(behind);
        }
        if ahead < MAX_DROPOUT {
            return self.advance(sequence, ahead);
        }
        if self.restart == Some(sequence) {
            self.begin_again(sequence);
            return Arrival::Restart;
        }
        self.restart = Some(sequence.wrapping_add(1));
        Arrival::Jump
    }

    /// Whether a packet could be the next after a pause: its number is ahead, and its clock has gone on as time has.
    pub(crate) fn continues(&self, sequence: u16, arrival: u32, timestamp: u32, clock_rate: u32) -> bool {
        let ahead = sequence.wrapping_sub(self.highest);
        let drift =
            self.transit.map(|before| arrival.wrapping_sub(timestamp).wrapping_sub(before).cast_signed());
        // While no packet came through, the source's clock went on: what is off by more than a second is another's.
        (1..MAX_DROPOUT).contains(&ahead) && drift.is_some_and(|drift| drift.unsigned_abs() <= clock_rate)
    }

    fn look_back(&mut self, behind: u16) -> Arrival {
        let bit = 1u64 << behind;
        if self.seen & bit != 0 {
            return Arrival::Duplicate;
        }
        self.seen |= bit;
        self.received = self.received.wrapping_add(1);
        Arrival::Late
    }

    fn advance(&mut self, sequence: u16, ahead: u16) -> Arrival {
        if sequence < self.highest {
            self.cycles = self.cycles.wrapping_add(1 << 16);
        }
        self.highest = sequence;
        self.seen = self.seen.checked_shl(u32::from(ahead)).unwrap_or(0) | 1;
        self.received = self.received.wrapping_add(1);
        self.restart = None;
        Arrival::Next { missing: ahead - 1 }
    }

    fn begin_again(&mut self, sequence: u16) {
        let jitter = self.jitter;
        *self = Source { jitter, ..Source::new(self.ssrc, sequence) };
    }

    /// RFC 3550 A.8; `arrival` is the time in timestamp units.
    pub(crate) fn clock(&mut self, arrival: u32, timestamp: u32) {
        let transit = arrival.wrapping_sub(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let difference = transit.wrapping_sub(before).cast_signed().unsigned_abs();
            // A jump of the source's clock is no jitter of the network.
            if difference < 1 << 20 {
                self.jitter = self.jitter + difference - ((self.jitter + 8) >> 4);
            }
        }
    }

    /// Its timestamps go on by another clock: the next is compared with none before (RFC 7160 section 3.2).
    pub(crate) fn forget_clock(&mut self) {
        self.transit = None;
    }

    fn extended_highest(&self) -> u32 {
        self.cycles.wrapping_add(u32::from(self.highest))
    }

    fn expected(&self) -> u32 {
        self.extended_highest().wrapping_sub(self.base).wrapping_add(1)
    }

    /// RFC 3550 A.3.
    pub(crate) fn lost(&self) -> u32 {
        self.expected().saturating_sub(self.received)
    }

    pub(crate) fn jitter(&self, clock_rate: u32) -> Duration {
        Duration::from_micros(u64::from(self.jitter >> 4) * 1_000_000 / u64::from(clock_rate.max(1)))
    }

    /// A report block and the start of the next interval; the caller adds what it knows of sender reports.
    pub(crate) fn report(&mut self) -> ReportBlock {
        let expected = self.expected();
        let received = self.received;
        let (expected_before, received_before) = std::mem::replace(&mut self.reported, (expected, received));
        let expected_now = expected.wrapping_sub(expected_before);
        let lost_now = expected_now.saturating_sub(received.wrapping_sub(received_before));
        let fraction = (u64::from(lost_now) << 8).checked_div(u64::from(expected_now)).unwrap_or(0);
        ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            cumulative_lost: i32::try_from(self.lost()).unwrap_or(i32::MAX).min(0x7f_ffff),
            extended_highest: self.extended_highest(),
            jitter: self.jitter >> 4,
            last_sender_report: 0,
            delay: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_loss_over_a_wrap() {
        let mut source = Source::new(Ssrc(1), 65_533);
        for sequence in [65_534, 65_535, 2, 3] {
            source.arrive(sequence);
        }
        assert_eq!(source.lost(), 2);
        let block = source.report();
        assert_eq!((block.extended_highest, block.cumulative_lost), (65_539, 2));
        assert_eq!(block.fraction_lost, 73, "2 of 7");
        source.arrive(4);
        assert_eq!(source.report().fraction_lost, 0, "only this interval counts");
    }

    #[test]
    fn tells_late_repeated_and_restarted_apart() {
        let mut source = Source::new(Ssrc(1), 100);
        assert_eq!(source.arrive(102), Arrival::Next { missing: 1 });
        assert_eq!(source.arrive(101), Arrival::Late);
        assert_eq!(source.arrive(101), Arrival::Duplicate);
        assert_eq!(source.arrive(20_000), Arrival::Jump);
        assert_eq!(source.arrive(103), Arrival::Next { missing: 0 });
        assert_eq!(source.arrive(30_000), Arrival::Jump);
        assert_eq!(source.arrive(30_001), Arrival::Restart);
        assert_eq!(source.arrive(30_002), Arrival::Next { missing: 0 });
    }

    #[test]
    fn jitter_follows_the_formula() {
        let mut source = Source::new(Ssrc(1), 0);
        for step in 0..1_000u32 {
            let late = if step % 2 == 0 { 0 } else { 80 };
            source.clock(step * 160 + late, step * 160);
        }
        let jitter = source.jitter(8_000);
        assert!((9_000..=10_000).contains(&jitter.as_micros()), "{jitter:?}: near 80 units, 10 ms");
    }
}
