//! What the workers answer to the jobs of the SIP thread.

use super::SipThread;
use super::leg::{Asker, Pending, State};
use super::refusal::warning;
use crate::error::Code;
use crate::event::{Cause, Outcome, Side};
use crate::message::Purpose;
use crate::{EngineError, LegId};
use std::time::Instant;

impl SipThread {
    pub(super) fn on_media(
        &mut self,
        now: Instant,
        leg: LegId,
        purpose: Purpose,
        result: Result<Outcome, EngineError>,
    ) {
        let Some(entry) = self.legs.get_mut(&leg) else {
            // A browser's leg is none of this thread's; what its peer does may be news for a telephone all the same.
            if purpose == Purpose::Introduce {
                self.on_introduced(now, leg, result);
            }
            return;
        };
        // An exchange tells of the other leg.
        if let Some(outcome) = result.as_ref().ok().filter(|_| purpose != Purpose::Exchange) {
            entry.codec = outcome.codec.or(entry.codec);
        }
        match purpose {
            Purpose::Incoming => self.on_negotiated(now, leg, result),
            Purpose::Dial => self.on_offer(now, leg, result),
            Purpose::EarlyAnswer(status) => self.report_ringing(now, leg, status, result.ok()),
            Purpose::PrackAnswer => self.on_prack_answer(now, leg, result),
            Purpose::Answer => self.on_answer_taken(now, leg, result),
            Purpose::LateAnswer => self.on_late_answer(now, leg, result),
            Purpose::Reoffer => self.on_renewed(now, leg, result),
            Purpose::Introduce => self.on_introduced(now, leg, result),
            Purpose::Tell => self.on_told(now, leg, result),
            Purpose::Exchange => self.on_exchanged(now, leg, result),
            Purpose::Told => self.on_told_answer(now, leg, result),
            Purpose::Join => self.on_joined(now, leg, result),
        }
    }

    /// The answer to a caller's offer is made: do what was waiting for it.
    fn on_negotiated(&mut self, now: Instant, leg: LegId, result: Result<Outcome, EngineError>) {
        let Some(entry) = self.legs.get_mut(&leg) else { return };
        let State::Negotiating(pending) = std::mem::replace(&mut entry.state, State::Ringing) else { return };
        match result {
            Ok(outcome) => {
                entry.local_sdp = outcome.sdp;
                self.go_on(now, leg, &pending);
            }
            Err(error) => {
                for correlation in pending.correlations() {
                    self.done(correlation, leg, Err(error.clone()));
                }
                self.refuse_call(now, leg, &error);
            }
        }
    }

    fn go_on(&mut self, now: Instant, leg: LegId, pending: &Pending) {
        if let Some((asker, status)) = pending.ring {
            let result = self.send_provisional(now, leg, status);
            match asker {
                Asker::Command(correlation) => self.done(correlation, leg, result),
                Asker::Callee { leg, status } => self.rung(leg, status, result),
            }
        }
        match pending.answer {
            Some(Asker::Command(correlation)) => {
                let result = self.send_answer(now, leg);
                self.done(correlation, leg, result);
            }
            Some(Asker::Callee { leg: callee, .. }) => self.join(now, leg, callee),
            None => {}
        }
    }

    /// Refuses a caller whose media cannot be had: 488 with a Warning if it is the offer's fault (RFC 3261 21.4.26,
    /// 20.43), 503 if it is ours.
    fn refuse_call(&mut self, now: Instant, leg: LegId, error: &EngineError) {
        let (status, cause) = match error.code {
            Code::NotAcceptable => (488, Cause::NotAcceptable),
            Code::BadSdp => (400, Cause::NotAcceptable),
            Code::Internal => (500, Cause::Error),
            _ => (503, Cause::Error),
        };
        if let Some(entry) = self.legs.get_mut(&leg) {
            entry.why = Some((Side::System, cause, error.message.clone()));
        }
        let headers = warning(status, error);
        let _ = self.endpoint.reject(now, leg.sip(), status, None, &headers);
    }

    /// The PRACK was answered already, so an answer that is no use leaves nothing but to refuse the call, or to end it
    /// where it has been answered meanwhile (RFC 3262 5).
    fn on_prack_answer(&mut self, now: Instant, leg: LegId, result: Result<Outcome, EngineError>) {
        let Err(error) = result else { return };
        self.refuse_call(now, leg, &error);
        self.end_by(now, leg, Side::System, cause_of(&error), &error.message);
    }

    fn on_offer(&mut self, now: Instant, leg: LegId, result: Result<Outcome, EngineError>) {
        match result {
            Ok(outcome) => self.send_invite(now, leg, outcome.sdp.unwrap_or_default()),
            Err(error) => self.end_by(now, leg, Side::System, Cause::Error, &error.message),
        }
    }

    fn on_answer_taken(&mut self, now: Instant, leg: LegId, result: Result<Outcome, EngineError>) {
        match result {
            Ok(_) => self.report_answer(now, leg),
            Err(error) => self.end_by(now, leg, Side::System, cause_of(&error), &error.message),
        }
    }

    /// A dialled leg is answered and its media agreed on: passes it on to the caller, or tells of it.
    pub(super) fn report_answer(&mut self, now: Instant, leg: LegId) {
        let Some(entry) = self.legs.get_mut(&leg).filter(|entry| entry.codec.is_some()) else { return };
        if matches!(std::mem::replace(&mut entry.state, State::Up), State::Answering)
            && !self.pass_answer(now, leg)
        {
            match self.legs.get(&leg).and_then(|entry| entry.link) {
                // That tells of the answer.
                Some(_) => self.unlink(leg),
                None => self.tell_answer(leg, None),
            }
        }
    }

    fn on_late_answer(&mut self, now: Instant, leg: LegId, result: Result<Outcome, EngineError>) {
        match result {
            Ok(outcome) => {
                self.report_confirmed(leg);
                self.report_hold(leg, outcome.held);
                self.pass_on(now, leg, outcome.news);
            }
            // An answer that says nothing has changed nothing: the session goes on as it was. One that agrees to what
            // was never offered cannot be refused, for nothing follows an ACK: the call is over, as where the offer in a
            // 2xx is no good (RFC 3261 13.2.2.4, 14.2).
            Err(error) if error.code != Code::NotAcceptable && self.is_confirmed(leg) => {}
            Err(error) => self.end_by(now, leg, Side::System, cause_of(&error), &error.message),
        }
    }

    fn is_confirmed(&self, leg: LegId) -> bool {
        self.legs.get(&leg).is_some_and(|entry| entry.is_confirmed)
    }
}

fn cause_of(error: &EngineError) -> Cause {
    match error.code {
        Code::NotAcceptable | Code::BadSdp | Code::WrongState => Cause::NotAcceptable,
        _ => Cause::Error,
    }
}
