//! From digits to trains of telephone-event packets (RFC 4733 2.5.1), one packet per timer.

use super::{MAX_DIGITS, TelephoneEvent, event};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Updates while the key is down (RFC 4733 2.5.1.2).
const UPDATE: Duration = Duration::from_millis(50);
/// The end is said three times (RFC 4733 2.5.1.4), this far apart, so that one burst of loss does not take them all.
const END_SPACING: Duration = Duration::from_millis(20);
const ENDS: u8 = 3;
/// Silence between two digits; many receivers want 40 ms or more.
const GAP: Duration = Duration::from_millis(80);
/// What the first packet says: the sound that one packet stands for.
const FIRST: Duration = Duration::from_millis(20);
/// Nobody recognises shorter keys (ITU-T Q.24).
const SHORTEST: Duration = Duration::from_millis(40);
/// The level of a usual telephone's keys.
const VOLUME: u8 = 10;

/// One packet to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPacket {
    /// The first packet of a key: it carries the marker, and its timestamp is the stream's position now. All others
    /// of the key repeat that timestamp.
    pub first: bool,
    /// The very last packet of a key.
    pub last: bool,
    /// The payload.
    pub payload: TelephoneEvent,
}

#[derive(Debug, Clone, Copy)]
struct Train {
    event: u8,
    started: Instant,
    sent_first: bool,
    ends_left: u8,
}

/// The digits that wait and the one that is being sent.
#[derive(Debug, Default)]
pub struct DigitSender {
    waiting: VecDeque<(u8, Duration)>,
    train: Option<Train>,
    duration: Duration,
    next: Option<Instant>,
}

impl DigitSender {
    /// Queues digits; false if one of them is no key or there are too many.
    #[must_use]
    pub fn queue(&mut self, now: Instant, digits: &str, duration: Duration) -> bool {
        let events: Option<Vec<u8>> = digits.chars().map(event).collect();
        let Some(events) = events.filter(|events| self.waiting.len() + events.len() <= MAX_DIGITS) else {
            return false;
        };
        self.waiting.extend(events.into_iter().map(|event| (event, duration.max(SHORTEST))));
        if self.next.is_none() && !self.waiting.is_empty() {
            self.next = Some(now);
        }
        true
    }

    /// Whether a key is down or digits wait: the sound of the bridge is silent meanwhile.
    #[must_use]
    pub fn active(&self) -> bool {
        self.next.is_some()
    }

    /// Gives up what is being sent and what waits.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// When the next packet is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// The packet that is due now, on an event clock of `clock` Hz.
    pub fn poll(&mut self, now: Instant, clock: u32) -> Option<EventPacket> {
        let due = self.next.filter(|&at| at <= now)?;
        if self.train.is_none() {
            let Some((event, duration)) = self.waiting.pop_front() else {
                self.next = None;
                return None;
            };
            // A key may last no longer than the duration field can say on this clock.
            self.duration = duration.min(time(u16::MAX, clock));
            self.train = Some(Train { event, started: due, sent_first: false, ends_left: ENDS });
        }
        self.train_packet(due, clock)
    }

    fn train_packet(&mut self, due: Instant, clock: u32) -> Option<EventPacket> {
        let train = self.train.as_mut()?;
        let elapsed = due.saturating_duration_since(train.started);
        let end = elapsed >= self.duration;
        let first = !std::mem::replace(&mut train.sent_first, true);
        let lasted = if first { FIRST } else { elapsed.min(self.duration) };
        let payload =
            TelephoneEvent { event: train.event, end, volume: VOLUME, duration: units(lasted, clock) };
        if end {
            train.ends_left = train.ends_left.saturating_sub(1);
        }
        let last = train.ends_left == 0;
        let key_up = train.started + self.duration;
        self.next = Some(match (end, last) {
            (false, _) => (due + UPDATE).min(key_up),
            (true, false) => due + END_SPACING,
            (true, true) => (key_up + GAP).max(due),
        });
        if last {
            self.train = None;
        }
        Some(EventPacket { first, last, payload })
    }
}

fn units(duration: Duration, clock: u32) -> u16 {
    let units = duration.as_micros() * u128::from(clock) / 1_000_000;
    u16::try_from(units).unwrap_or(u16::MAX)
}

fn time(units: u16, clock: u32) -> Duration {
    Duration::from_micros(u64::from(units) * 1_000_000 / u64::from(clock.max(1)))
}
