//! What the workers answer to the jobs of the SIP thread.

use super::leg::{Pending, State};
use super::{SipThread, offer};
use crate::error::Code;
use crate::event::{Cause, Event, Outcome, Side};
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
        let Some(entry) = self.legs.get_mut(&leg) else { return };
        if let Ok(outcome) = &result {
            entry.codec = outcome.codec.or(entry.codec);
        }
        match purpose {
            Purpose::Incoming => self.on_negotiated(now, leg, result),
            Purpose::Dial => self.on_offer(now, leg, result),
            Purpose::EarlyAnswer => {}
            Purpose::Answer => self.on_answer_taken(now, leg, result),
            Purpose::LateAnswer => self.on_late_answer(now, leg, result),
            Purpose::Reoffer => self.on_reoffer_answered(now, leg, result),
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
        if let Some((correlation, status)) = pending.ring {
            let result = self.send_provisional(now, leg, status);
            self.done(correlation, leg, result);
        }
        if let Some(correlation) = pending.answer {
            let result = self.send_answer(now, leg);
            self.done(correlation, leg, result);
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
        let headers = warning(status, &error.message);
        let _ = self.endpoint.reject(now, leg.sip(), status, None, &headers);
    }

    fn on_offer(&mut self, now: Instant, leg: LegId, result: Result<Outcome, EngineError>) {
        match result {
            Ok(outcome) => self.send_invite(now, leg, outcome.sdp.unwrap_or_default()),
            Err(error) => self.end_by(now, leg, Side::System, Cause::Error, &error.message),
        }
    }

    fn on_answer_taken(&mut self, now: Instant, leg: LegId, result: Result<Outcome, EngineError>) {
        match result {
            Ok(_) => self.report_answer(leg),
            Err(error) => self.end_by(now, leg, Side::System, cause_of(&error), &error.message),
        }
    }

    /// Tells that a dialled leg is answered and its media agreed on.
    pub(super) fn report_answer(&mut self, leg: LegId) {
        let Some(entry) = self.legs.get_mut(&leg) else { return };
        let Some(codec) = entry.codec else { return };
        if let State::Answering(sip_call_id) = std::mem::replace(&mut entry.state, State::Up) {
            self.events.send(Event::Answered { leg, codec, sip_call_id });
        }
    }

    fn on_late_answer(&mut self, now: Instant, leg: LegId, result: Result<Outcome, EngineError>) {
        match result {
            Ok(_) => self.report_confirmed(leg),
            Err(error) => self.end_by(now, leg, Side::System, cause_of(&error), &error.message),
        }
    }

    /// Answers a re-INVITE or UPDATE; if its offer is no good, the call stays as it was (RFC 3261 14.2).
    fn on_reoffer_answered(&mut self, now: Instant, leg: LegId, result: Result<Outcome, EngineError>) {
        let Some(entry) = self.legs.get_mut(&leg) else { return };
        let sent = match result {
            Ok(outcome) => {
                entry.local_sdp.clone_from(&outcome.sdp);
                self.endpoint.answer_reoffer(now, leg.sip(), outcome.sdp.map(offer::body))
            }
            Err(error) => {
                entry.awaits_late_answer = false;
                let status = if error.code == Code::QueueFull { 503 } else { 488 };
                self.endpoint.reject_reoffer(now, leg.sip(), status, &warning(status, &error.message))
            }
        };
        // The peer took its request back meanwhile (CANCEL), so there is nothing to answer.
        let _ = sent;
    }
}

/// The headers of a refusal: 305 is "incompatible media format" (RFC 3261 20.43), and whoever meets a full gateway
/// may try again soon.
fn warning(status: u16, message: &str) -> Vec<(String, String)> {
    let text: String = message.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).collect();
    match status {
        488 => vec![("Warning".into(), format!("305 gateway \"{text}\""))],
        503 => vec![("Retry-After".into(), "5".into())],
        _ => Vec::new(),
    }
}

fn cause_of(error: &EngineError) -> Cause {
    match error.code {
        Code::NotAcceptable | Code::BadSdp | Code::WrongState => Cause::NotAcceptable,
        _ => Cause::Error,
    }
}
