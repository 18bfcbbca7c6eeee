//! RTCP of one leg: when reports are due, what they say, and what the peer's say (RFC 3550 6).

use super::egress::{Egress, units};
use super::source::Source;
use crate::rng::Rng;
use crate::rtcp::{self, Packet, ReportBlock, RtcpError};
use crate::rtp::Ssrc;
use std::time::{Duration, Instant};

/// The mean interval between reports; each is drawn from half to one and a half of it (RFC 3550 6.2, 6.3.1).
const INTERVAL: Duration = Duration::from_secs(5);

/// The state of RTCP.
#[derive(Debug)]
pub(crate) struct Control {
    /// NTP times count from here: RFC 3550 4 allows time since the session began where there is no wall clock.
    epoch: Instant,
    cname: String,
    due: Option<Instant>,
    has_spoken: bool,
    /// The peer's last sender report: the middle of its NTP time, and when it came.
    sender_report: Option<(u32, Instant)>,
    pub(crate) round_trip: Option<Duration>,
    /// Packets of ours that the peer misses.
    pub(crate) lost_remote: u64,
}

impl Control {
    pub(crate) fn new(now: Instant, rng: &mut Rng) -> Self {
        // RFC 7022 4.2: 96 random bits make a short-term persistent CNAME.
        let cname = format!("{:016x}{:08x}", rng.u64(), rng.u32());
        Control {
            epoch: now,
            cname,
            due: None,
            has_spoken: false,
            sender_report: None,
            round_trip: None,
            lost_remote: 0,
        }
    }

    /// Whether any report has left.
    pub(crate) fn has_spoken(&self) -> bool {
        self.has_spoken
    }

    pub(crate) fn cname(&self) -> &str {
        &self.cname
    }

    /// Reports begin; the first comes after half the interval (RFC 3550 6.2).
    pub(crate) fn start(&mut self, now: Instant, rng: &mut Rng) {
        if self.due.is_none() {
            self.due = Some(now + spread(INTERVAL / 2, rng));
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Whether a report is due; if so, the next one is scheduled.
    pub(crate) fn take_due(&mut self, now: Instant, rng: &mut Rng) -> bool {
        let due = self.due.is_some_and(|due| due <= now);
        if due {
            self.due = Some(now + spread(INTERVAL, rng));
        }
        due
    }

    /// Reads the peer's compound; `ours` is the SSRC its blocks should speak about.
    pub(crate) fn handle(&mut self, now: Instant, datagram: &[u8], ours: Ssrc) -> Result<(), RtcpError> {
        for packet in rtcp::parse(datagram)? {
            match packet {
                Packet::SenderReport { info, blocks, .. } => {
                    self.sender_report = Some((middle(info.ntp), now));
                    blocks.filter(|block| block.ssrc == ours).for_each(|block| self.heed(now, block));
                }
                Packet::ReceiverReport { blocks, .. } => {
                    blocks.filter(|block| block.ssrc == ours).for_each(|block| self.heed(now, block));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// RFC 3550 6.4.1: the round trip is now, less when our report was made, less how long the peer held it.
    fn heed(&mut self, now: Instant, block: ReportBlock) {
        self.lost_remote = u64::try_from(block.cumulative_lost).unwrap_or(0);
        if block.last_sender_report == 0 {
            return;
        }
        let units = middle(self.ntp(now)).wrapping_sub(block.last_sender_report).wrapping_sub(block.delay);
        // A negative trip is a peer that counts wrongly.
        if units < 1 << 31 {
            self.round_trip = Some(Duration::from_micros((u64::from(units) * 1_000_000) >> 16));
        }
    }

    /// Appends a whole compound: report, CNAME, and BYE where the leg ends.
    pub(crate) fn write(
        &mut self,
        now: Instant,
        out: &mut Vec<u8>,
        egress: &mut Egress,
        source: Option<&mut Source>,
        goodbye: bool,
    ) {
        self.has_spoken = true;
        let info = egress.report(now, self.ntp(now));
        let block = source.map(|source| self.about_sender_report(now, source.report()));
        rtcp::write_report(out, egress.ssrc, info.as_ref(), block.as_ref());
        rtcp::write_cname(out, egress.ssrc, &self.cname);
        if goodbye {
            rtcp::write_goodbye(out, egress.ssrc);
        }
    }

    fn about_sender_report(&self, now: Instant, block: ReportBlock) -> ReportBlock {
        let Some((last_sender_report, came)) = self.sender_report else { return block };
        let delay = now.saturating_duration_since(came).as_micros() * 65_536 / 1_000_000;
        ReportBlock { last_sender_report, delay: u32::try_from(delay).unwrap_or(u32::MAX), ..block }
    }

    /// The peer's stream is another one: its old sender report says nothing about it.
    pub(crate) fn forget_sender_report(&mut self) {
        self.sender_report = None;
    }

    /// The leg's age on a clock of so many Hz, modulo 2^32.
    pub(crate) fn units(&self, now: Instant, clock_rate: u32) -> u32 {
        units(now.saturating_duration_since(self.epoch), clock_rate)
    }

    fn ntp(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.epoch);
        let fraction = (u64::from(elapsed.subsec_nanos()) << 32) / 1_000_000_000;
        (elapsed.as_secs() << 32) | fraction
    }
}

fn middle(ntp: u64) -> u32 {
    u32::try_from((ntp >> 16) & u64::from(u32::MAX)).unwrap_or(0)
}

fn spread(mean: Duration, rng: &mut Rng) -> Duration {
    mean / 2 + mean.mul_f64(f64::from(rng.u16()) / f64::from(u16::MAX))
}
