//! Two legs of one call: what the callee does is done to the caller at once, and who hangs up takes the other along.
//!
//! A plain call needs one decision, where to send it. All that follows is the same each time, so the thread passes it
//! on by itself, and tells of it when there is something else to tell: nobody waits for Python, and Python wakes once
//! for what would have woken it six times. Whatever is not plain (sound before the answer, a refusal, a transfer, a
//! command for the caller's leg) ends the link, and from there on the user of the engine decides again.

use super::SipThread;
use super::leg::{Asker, Link, Part, Pending, Progress, State};
use crate::command::Caller;
use crate::event::{Event, Outcome, PassedOn};
use crate::message::{MediaJob, Purpose};
use crate::{EngineError, LegId};
use std::time::{Duration, Instant};
use telephony_media::codec::Codec;

/// What a caller hears while the callee rings without sound of its own.
const RINGING: u16 = 180;
/// How long it is kept back that a callee rings, for many an answer follows at once and tells of it too.
const COMPANY: Duration = Duration::from_millis(50);

impl SipThread {
    /// The callee's leg was dialled for the caller's, if that still waits for a decision.
    pub(super) fn link(&mut self, caller: Caller, callee: LegId) {
        let waits = |state: &State| matches!(state, State::Incoming(_));
        let Some(entry) = self.legs.get_mut(&caller.leg).filter(|entry| waits(&entry.state)) else { return };
        if entry.link.is_none() {
            entry.codecs = caller.codecs;
            entry.link = Some(Link { other: callee, part: Part::Caller });
            let link = Link { other: caller.leg, part: Part::Callee(Progress::default()) };
            self.legs.entry(callee).and_modify(|entry| entry.link = Some(link));
        }
    }

    /// Nothing is passed on between this leg and its other one any more. An answer that is on its way from one to the
    /// other is told of as it stands: the caller is yet to be answered.
    pub(super) fn unlink(&mut self, leg: LegId) {
        let Some(link) = self.legs.get_mut(&leg).and_then(|entry| entry.link.take()) else { return };
        let other = self.legs.get_mut(&link.other).and_then(|entry| entry.link.take());
        for (leg, link) in [(leg, Some(link)), (link.other, other)] {
            self.tell_rang(leg, link);
            if let Some(Link { part: Part::Callee(Progress { answered: true, .. }), .. }) = link {
                self.tell_answer(leg, None);
            }
        }
    }

    /// A leg is gone, which had this link.
    pub(super) fn part(&mut self, leg: LegId, link: Option<Link>) {
        let Some(Link { other, .. }) = link else { return };
        let others = self.legs.get_mut(&other).and_then(|entry| entry.link.take());
        self.tell_rang(leg, link);
        self.tell_rang(other, others);
    }

    /// The callee rings, and so shall the caller; `false` if that is not for this thread to do.
    pub(super) fn pass_ringing(&mut self, now: Instant, callee: LegId, status: u16) -> bool {
        let Some(caller) = self.caller_of(callee) else { return false };
        match self.legs.get(&caller).map(|entry| (&entry.state, entry.codecs.clone())) {
            Some((State::Incoming(_), codecs)) => {
                let ring = Some((Asker::Callee { leg: callee, status }, RINGING));
                self.negotiate(now, caller, codecs, Pending { ring, answer: None }).is_ok()
            }
            // Another 180: the caller rings already.
            Some((State::Negotiating(_) | State::Ringing, _)) => true,
            _ => false,
        }
    }

    /// The caller rings because the callee does.
    pub(super) fn rung(&mut self, callee: LegId, status: u16, result: Result<Outcome, EngineError>) {
        if !self.legs.contains_key(&callee) {
            return;
        }
        let at = Instant::now();
        let passed_on = match result {
            Ok(Outcome { codec, .. }) => Some(PassedOn { codec }),
            Err(_) => None,
        };
        match self.progress(callee) {
            Some(progress) if passed_on.is_some() => {
                progress.rang = Some((at, status));
                self.rings.push_back((at + COMPANY, callee));
            }
            _ => {
                self.unlink(callee);
                self.events.send(Event::Ringing { leg: callee, status, codec: None, passed_on, at });
            }
        }
    }

    /// When it is to be told next that a callee rings.
    pub(super) fn next_ring(&self) -> Option<Instant> {
        self.rings.front().map(|(due, _)| *due)
    }

    /// Tells which callees ring, if they have not answered meanwhile.
    pub(super) fn tell_rings(&mut self, now: Instant) {
        while self.next_ring().is_some_and(|due| due <= now) {
            let Some((_, callee)) = self.rings.pop_front() else { return };
            let link = self.legs.get(&callee).and_then(|entry| entry.link);
            self.tell_rang(callee, link);
            if let Some(progress) = self.progress(callee) {
                progress.rang = None;
            }
        }
    }

    /// Tells that a callee rings, with this link to its caller, unless that was told.
    fn tell_rang(&mut self, leg: LegId, link: Option<Link>) {
        if let Some(Link { other, part: Part::Callee(Progress { rang: Some((at, status)), .. }) }) = link {
            let codec = self.legs.get(&other).and_then(|entry| entry.codec);
            let passed_on = Some(PassedOn { codec });
            self.events.send(Event::Ringing { leg, status, codec: None, passed_on, at });
        }
    }

    fn progress(&mut self, callee: LegId) -> Option<&mut Progress> {
        match self.legs.get_mut(&callee)?.link.as_mut()? {
            Link { part: Part::Callee(progress), .. } => Some(progress),
            Link { part: Part::Caller, .. } => None,
        }
    }

    /// The callee answered, and so shall the caller be, once they can hear each other; `false` if that is not for this
    /// thread to do.
    pub(super) fn pass_answer(&mut self, now: Instant, callee: LegId) -> bool {
        let Some(caller) = self.caller_of(callee) else { return false };
        if let Some(progress) = self.progress(callee) {
            progress.answered = true;
        }
        let spoken = self.legs.get(&callee).and_then(|entry| entry.codec);
        let asker = Asker::Callee { leg: callee, status: 200 };
        match self.legs.get_mut(&caller).map(|entry| (&mut entry.state, &entry.codecs)) {
            Some((State::Ringing, _)) => {
                self.join(now, caller, callee);
                true
            }
            Some((State::Negotiating(pending), _)) if pending.answer.is_none() => {
                pending.answer = Some(asker);
                true
            }
            Some((State::Incoming(_), codecs)) => {
                let codecs = in_order(spoken, codecs);
                let answer = Some(asker);
                self.negotiate(now, caller, codecs, Pending { ring: None, answer }).is_ok()
            }
            _ => false,
        }
    }

    /// Lets the two hear each other; [`SipThread::on_joined`] goes on.
    pub(super) fn join(&mut self, now: Instant, caller: LegId, callee: LegId) {
        self.ask_worker(now, caller, Purpose::Join, MediaJob::Join { other: callee });
    }

    /// They hear each other: the 200 goes to the caller.
    pub(super) fn on_joined(&mut self, now: Instant, caller: LegId, result: Result<Outcome, EngineError>) {
        let Some(Link { other: callee, part: Part::Caller }) =
            self.legs.get(&caller).and_then(|leg| leg.link)
        else {
            return;
        };
        match result.and_then(|_| self.send_answer(now, caller)) {
            Ok(Outcome { codec, .. }) => {
                self.tell_answer(callee, Some(PassedOn { codec }));
            }
            // It has been cancelled, or the media cannot be joined: not for this thread to judge.
            Err(_) => self.unlink(caller),
        }
    }

    /// Tells that a dialled leg is answered; at leisure if nothing is left to do.
    pub(super) fn tell_answer(&mut self, leg: LegId, passed_on: Option<PassedOn>) {
        let codec = self.legs.get(&leg).and_then(|entry| entry.codec);
        let call_id = self.endpoint.call_id(leg.sip()).map(Box::from);
        let (Some(codec), Some(sip_call_id)) = (codec, call_id) else { return };
        let (at, progress) = (Instant::now(), self.progress(leg).map(std::mem::take));
        let rang = progress.and_then(|progress| progress.rang).map(|(at, _)| at);
        if rang.is_some() {
            self.rings.retain(|(_, callee)| *callee != leg);
        }
        let event = Event::Answered { leg, codec, sip_call_id, rang, passed_on, at };
        match passed_on {
            Some(_) => self.events.send_quietly(at, event),
            None => self.events.send(event),
        }
    }

    /// One side of a call that both have answered hung up: the other is hung up on in the same words (RFC 3326).
    /// Whether it was.
    pub(super) fn pass_bye(&mut self, now: Instant, leg: LegId) -> bool {
        let is_up = |leg: LegId| self.legs.get(&leg).filter(|entry| matches!(entry.state, State::Up));
        let Some(entry) = is_up(leg) else { return false };
        let Some(other) = entry.link.map(|link| link.other).filter(|other| is_up(*other).is_some()) else {
            return false;
        };
        let reasons = entry.said.as_ref().map(|said| said.reasons.clone()).unwrap_or_default();
        self.hang_up(now, other, Some(reasons.as_str()).filter(|reasons| !reasons.is_empty()));
        true
    }

    fn caller_of(&self, callee: LegId) -> Option<LegId> {
        let link = self.legs.get(&callee)?.link?;
        matches!(link.part, Part::Callee(_)).then_some(link.other)
    }
}

/// The codecs, the one that the other side speaks first: then nothing is transcoded.
fn in_order(first: Option<Codec>, codecs: &[Codec]) -> Vec<Codec> {
    let first = first.filter(|first| codecs.contains(first));
    first.into_iter().chain(codecs.iter().copied().filter(|codec| Some(*codec) != first)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_callee_speaks_comes_first_if_the_caller_may_speak_it() {
        let codecs = [Codec::Opus, Codec::Pcmu];
        assert_eq!(in_order(Some(Codec::Pcmu), &codecs), [Codec::Pcmu, Codec::Opus]);
        assert_eq!(in_order(Some(Codec::Pcma), &codecs), codecs);
        assert_eq!(in_order(None, &codecs), codecs);
    }
}
