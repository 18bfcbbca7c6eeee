//! From telephone-event packets to digits: each key once, however often its packets are repeated or lost.

use super::{TelephoneEvent, key};
use std::time::{Duration, Instant};

/// A key whose end packets are all lost is over when its updates have stopped for so long.
const SILENCE: Duration = Duration::from_millis(300);

/// A key that was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digit {
    /// `0-9 * # A-D`.
    pub key: char,
    /// How long it was down.
    pub duration: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Pressed {
    event: u8,
    timestamp: u32,
    /// Units of the segments before this one (RFC 4733 2.5.1.3).
    earlier: u64,
    duration: u16,
    clock: u32,
    heard: Instant,
    over: bool,
}

/// Follows the events of one stream.
#[derive(Debug, Default)]
pub struct DigitReceiver {
    current: Option<Pressed>,
    /// The stream's clock began anew: an earlier timestamp no longer tells a late packet.
    new_clock: bool,
}

impl DigitReceiver {
    /// The source is another one, or has begun its numbers anew. A key that it goes on with is still the same key:
    /// some phones send keys and sound from two sources in turn.
    pub fn restart(&mut self) {
        self.new_clock = true;
    }

    /// Takes one event packet; `clock` is that of its payload type. Digits that it completes come out, at most two:
    /// one whose end was lost, and its own.
    pub fn handle(
        &mut self,
        now: Instant,
        timestamp: u32,
        clock: u32,
        packet: TelephoneEvent,
    ) -> [Option<Digit>; 2] {
        let mut unfinished = None;
        match &mut self.current {
            Some(pressed) if pressed.timestamp == timestamp => pressed.update(now, packet),
            Some(pressed) if pressed.continues(timestamp, packet) => {
                pressed.next_segment(now, timestamp, packet)
            }
            Some(pressed) if !self.new_clock && timestamp.wrapping_sub(pressed.timestamp) > u32::MAX / 2 => {
                return [None, None];
            }
            _ => {
                self.new_clock = false;
                unfinished = self.finish();
                self.current = Some(Pressed::new(now, timestamp, clock, packet));
            }
        }
        [unfinished, if packet.end { self.finish() } else { None }]
    }

    /// When [`DigitReceiver::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.current.filter(|pressed| !pressed.over).map(|pressed| pressed.heard + SILENCE)
    }

    /// Ends a key whose packets stopped without an end.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Digit> {
        self.poll_timeout().filter(|&at| at <= now).and_then(|_| self.finish())
    }

    fn finish(&mut self) -> Option<Digit> {
        let pressed = self.current.as_mut().filter(|pressed| !pressed.over)?;
        pressed.over = true;
        let units = pressed.earlier + u64::from(pressed.duration);
        let duration = Duration::from_micros(units * 1_000_000 / u64::from(pressed.clock.max(1)));
        key(pressed.event).map(|key| Digit { key, duration })
    }
}

impl Pressed {
    fn new(now: Instant, timestamp: u32, clock: u32, packet: TelephoneEvent) -> Self {
        let TelephoneEvent { event, duration, .. } = packet;
        Pressed { event, timestamp, earlier: 0, duration, clock, heard: now, over: false }
    }

    fn update(&mut self, now: Instant, packet: TelephoneEvent) {
        self.duration = self.duration.max(packet.duration);
        self.heard = now;
    }

    /// A key held longer than the field can say goes on in a new segment, which starts where the last one ended.
    fn continues(&self, timestamp: u32, packet: TelephoneEvent) -> bool {
        !self.over
            && packet.event == self.event
            && self.duration == u16::MAX
            && timestamp == self.timestamp.wrapping_add(u32::from(u16::MAX))
    }

    fn next_segment(&mut self, now: Instant, timestamp: u32, packet: TelephoneEvent) {
        self.earlier += u64::from(self.duration);
        self.timestamp = timestamp;
        self.duration = packet.duration;
        self.heard = now;
    }
}
