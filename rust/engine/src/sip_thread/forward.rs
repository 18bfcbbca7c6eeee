//! Calls that go on by the plain part of the dial plan, in the moment they come.

use super::SipThread;
use crate::LegId;
use crate::command::Dial;
use crate::event::{Cause, Ended, Event, Incoming, Side};
use crate::guard::guard;
use crate::leg::Kind;
use std::sync::Arc;
use std::time::Instant;

impl SipThread {
    /// Has the call sent on if the plan says where without a question, and tells of it at leisure; else asks.
    pub(super) fn forward(&mut self, now: Instant, mut incoming: Incoming) {
        let leg = || self.allocator.next(Kind::Sip, Some(incoming.leg));
        let decided = self.may_forward().then(|| self.dial_plan.decide(&incoming, leg)).flatten();
        let Some((forwarded, dial)) = decided else {
            return self.events.send(Event::Incoming(Box::new(incoming)));
        };
        self.stats.forwarded.add(1);
        self.forwards.push((incoming.leg, dial));
        incoming.forwarded = Some(forwarded);
        self.events.send_quietly(now, Event::Incoming(Box::new(incoming)));
    }

    /// Dials for the calls of this round, now that each INVITE of it has its 100 Trying.
    pub(super) fn send_on(&mut self, now: Instant) {
        let mut forwards = std::mem::take(&mut self.forwards);
        forwards.drain(..).for_each(|(caller, dial)| self.dial_for(now, caller, dial));
        self.forwards = forwards;
    }

    fn dial_for(&mut self, now: Instant, caller: LegId, dial: Box<Dial>) {
        let leg = dial.leg;
        if !self.legs.contains_key(&caller) {
            let ended = Ended::new(leg, Side::System, Cause::Cancel, "the caller is gone".to_owned());
            return self.events.send(Event::Ended(Box::new(ended)));
        }
        let stats = Arc::clone(&self.stats);
        let why = match guard(&stats.losses, || self.dial(now, dial)) {
            Some(Ok(_)) => return,
            Some(Err(error)) => error.to_string(),
            None => "a fault in the gateway".to_owned(),
        };
        match self.legs.contains_key(&leg) {
            true => self.end_by(now, leg, Side::System, Cause::Error, &why),
            false => {
                let ended = Ended::new(leg, Side::System, Cause::Unreachable, why);
                self.events.send(Event::Ended(Box::new(ended)));
            }
        }
    }

    /// Whether calls may go on that nobody was asked about: not while the records of earlier ones do not get through.
    fn may_forward(&self) -> bool {
        let mailbox = self.events.mailbox();
        let behind = self.events.is_clogged() || mailbox.len() > mailbox.capacity() / 4;
        !(self.asks_always || behind || self.stop_at.is_some()) && self.dial_plan.has_room(self.legs.len())
    }
}
