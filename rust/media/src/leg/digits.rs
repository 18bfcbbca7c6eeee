//! The keys of one leg: those its peer presses, and those we press for it.

use super::{Kind, Leg, Received};
use crate::Error;
use crate::dtmf::{self, Digit};
use crate::switch::{Event, Output};
use std::time::{Duration, Instant};

impl Leg {
    /// Reports the keys that a received packet completes.
    pub(crate) fn note_digit(&mut self, now: Instant, received: &Received, out: &mut Output) {
        let Kind::Event(event, clock) = received.kind else { return };
        for digit in self.digits_in.handle(now, received.timestamp, clock, event).into_iter().flatten() {
            self.report_digit(digit, out);
        }
    }

    pub(super) fn finish_silent_digit(&mut self, now: Instant, out: &mut Output) {
        if let Some(digit) = self.digits_in.handle_timeout(now) {
            self.report_digit(digit, out);
        }
    }

    /// The peer pressed a key and said so by signalling.
    pub(crate) fn pressed(&mut self, digit: Digit, out: &mut Output) {
        self.report_digit(digit, out);
    }

    fn report_digit(&mut self, digit: Digit, out: &mut Output) {
        self.stats.digits_in += 1;
        out.events.push_back(Event::Digit { leg: self.id, digit: digit.key, duration: digit.duration });
    }

    /// Presses keys towards the peer, one after the other.
    pub(crate) fn press(
        &mut self,
        now: Instant,
        digits: &str,
        duration: Duration,
        out: &mut Output,
    ) -> Result<(), Error> {
        if self.signals_keys {
            return self.signal_all(digits, duration, out);
        }
        if self.telephone_event().is_none() {
            return Err(Error::NoTelephoneEvents);
        }
        if !self.may_send() {
            return Err(Error::WrongState("the peer is on hold"));
        }
        if self.digits_out.queue(now, digits, duration) { Ok(()) } else { Err(Error::BadDigits) }
    }

    fn signal_all(&mut self, digits: &str, duration: Duration, out: &mut Output) -> Result<(), Error> {
        if digits.len() > dtmf::MAX_DIGITS || !digits.chars().all(|digit| dtmf::event(digit).is_some()) {
            return Err(Error::BadDigits);
        }
        digits.chars().for_each(|digit| self.signal(digit, duration, out));
        Ok(())
    }

    /// One key for the peer, by signalling.
    pub(crate) fn signal(&mut self, digit: char, duration: Duration, out: &mut Output) {
        self.stats.digits_out += 1;
        out.events.push_back(Event::Key { leg: self.id, digit: digit.to_ascii_uppercase(), duration });
    }

    pub(super) fn send_due_digits(&mut self, now: Instant, out: &mut Output) {
        let Some(event) = self.telephone_event() else { return };
        let was_active = self.digits_out.active();
        while let Some(packet) = self.digits_out.poll(now, event.clock_rate) {
            if packet.first {
                self.key_timestamp = self.egress.position(now);
                self.stats.digits_out += 1;
            }
            let timestamp = self.key_timestamp;
            let sequence = self.egress.next(now, timestamp);
            let header = self.egress.header(event.send_payload_type, packet.first, sequence, timestamp);
            self.send_rtp(header, &packet.payload.to_bytes(), None, out);
        }
        if was_active && !self.digits_out.active() {
            self.interrupt();
        }
    }
}
