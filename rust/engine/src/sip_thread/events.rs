//! Events of the endpoint.

use super::commands::is_secure;
use super::leg::{Leg, State};
use super::offer::{self, Description, SDP};
use super::{Ended, SipThread};
use crate::LegId;
use crate::event::{Cause, Event, Incoming, Outcome, Side};
use crate::message::Purpose;
use std::sync::Arc;
use std::time::Instant;
use telephony_sip::header::unquote;
use telephony_sip::{Event as SipEvent, Flow, Key, Message, Params};

/// The user of ours that a call comes from, and the leg that it replaces.
type Whose = (Option<Arc<str>>, Option<LegId>);

impl SipThread {
    pub(super) fn on_sip_event(&mut self, now: Instant, event: SipEvent) {
        match event {
            SipEvent::Incoming { leg, invite, flow, user, replaces } => {
                let whose = (user, replaces.map(LegId::from));
                self.on_incoming(now, leg.into(), invite, flow, whose);
            }
            SipEvent::Progress { leg, response, settled } => {
                self.on_progress(now, leg.into(), &response, settled);
            }
            SipEvent::Answered { leg, response, settled } => {
                self.on_answered(now, leg.into(), &response, settled);
            }
            SipEvent::Confirmed { leg, ack } => self.on_confirmed(now, leg.into(), &ack),
            SipEvent::Acknowledged { leg, prack } => self.on_acknowledged(now, leg.into(), &prack),
            SipEvent::Reoffer { leg, request } => self.on_reoffer(now, leg.into(), &request),
            SipEvent::ReofferLapsed { leg } => self.on_reoffer_lapsed(leg.into()),
            SipEvent::NextHop { leg, dialog, uri } => self.locate_next_hop(now, leg.into(), dialog, &uri),
            SipEvent::TargetFailed { profile, flow, failure, .. } => {
                self.health.failed(now, (flow.transport, flow.remote), &profile, failure);
            }
            SipEvent::ReofferAnswered { leg, response } => {
                self.on_reoffer_answered(now, leg.into(), &response);
            }
            SipEvent::ReofferRefused { leg, status, response } => {
                self.on_reoffer_refused(now, leg.into(), status, response.as_ref());
            }
            SipEvent::Refer { leg, id, referred } => self.on_refer(leg.into(), id, *referred),
            SipEvent::ReferAnswered { leg, status } => {
                self.events.send(Event::ReferAnswered { leg: leg.into(), status });
            }
            SipEvent::Referral { leg, status, reason, last } => {
                self.on_referral(leg.into(), status, reason, last);
            }
            SipEvent::Said { leg, said } => {
                if let Some(entry) = self.legs.get_mut(&leg.into()) {
                    entry.said = Some(said);
                }
            }
            SipEvent::Key { leg, key } => self.on_key(leg.into(), key),
            SipEvent::Ended { leg, ended } => self.on_ended(now, leg.into(), ended),
            _ => {}
        }
    }

    fn on_incoming(
        &mut self,
        now: Instant,
        leg: LegId,
        invite: Message,
        flow: Flow,
        (user, replaces): Whose,
    ) {
        let (offer, codecs) = match Description::of(&invite) {
            Description::None => (None, Vec::new()),
            Description::Sdp(offer) => {
                let codecs = offer::codecs(&offer::text(&offer));
                (Some(offer), codecs)
            }
            Description::Other => return self.refuse_body(now, leg),
        };
        let mut entry = Leg::new(State::Incoming(offer), Vec::new());
        let trunk = self.endpoint.profile(leg.sip()).map(|profile| Arc::clone(&profile.name));
        // Who cancels in the same breath has left the endpoint already.
        let trunk = trunk.unwrap_or_else(|| Arc::clone(&self.trunks.profile_of(flow.remote.ip()).name));
        let path = self.trunks.path(&trunk);
        entry.address = Some(self.media_address(flow, path));
        let contact = self.contact(flow, path, invite.request_uri().is_some_and(is_secure));
        self.legs.insert(leg, entry);
        replaces.into_iter().for_each(|leg| self.unlink(leg));
        self.ladder.open(leg, invite.call_id());
        self.endpoint.set_contact(leg.sip(), contact);
        let (source, local, forwarded) = (flow.remote, flow.local, None);
        let incoming = Incoming { leg, source, local, trunk, codecs, user, replaces, forwarded, invite };
        self.forward(now, incoming);
    }

    /// 415 says which body would do (RFC 3261 21.4.13); nobody needs to decide that. The leg was never reported.
    fn refuse_body(&mut self, now: Instant, leg: LegId) {
        let accept = [("Accept".to_owned(), SDP.to_owned())];
        let _ = self.endpoint.reject(now, leg.sip(), 415, None, &accept);
    }

    fn on_progress(&mut self, now: Instant, leg: LegId, response: &Message, settled: bool) {
        self.target_answered(now, leg);
        let Some(entry) = self.legs.get_mut(&leg) else { return };
        let status = response.status().map_or(180, |status| status.0);
        match Description::of(response) {
            Description::Sdp(answer) if !settled && !entry.answers.is_in_use(&answer) => {
                entry.answers.note(response.to_tag().unwrap_or_default(), &answer);
                self.apply_answer(now, leg, Purpose::EarlyAnswer(status), &answer);
            }
            Description::Sdp(_) => {
                let codec = entry.codec;
                self.report_ringing(now, leg, status, Some(Outcome { codec, ..Outcome::default() }));
            }
            _ => self.report_ringing(now, leg, status, None),
        }
    }

    /// Tells of a provisional response, and of the early media that it brought.
    pub(super) fn report_ringing(&mut self, now: Instant, leg: LegId, status: u16, early: Option<Outcome>) {
        let codec = early.and_then(|outcome| outcome.codec);
        if codec.is_none() && self.pass_ringing(now, leg, status) {
            return;
        }
        self.unlink(leg);
        // A callee can ring without end, so this does not wait where the ends of calls do.
        if !self.events.is_clogged() {
            self.events.send(Event::Ringing { leg, status, codec, passed_on: None, at: now });
        }
    }

    fn on_answered(&mut self, now: Instant, leg: LegId, response: &Message, settled: bool) {
        self.target_answered(now, leg);
        let Some(entry) = self.legs.get_mut(&leg) else { return };
        entry.state = State::Answering;
        let answer = match Description::of(response) {
            Description::Sdp(answer) if !settled => Some(answer),
            // The answer was in a provisional response already.
            _ => entry.answers.of(response.to_tag().unwrap_or_default()),
        };
        match answer {
            Some(answer) if entry.answers.is_in_use(&answer) && entry.codec.is_some() => {
                self.report_answer(now, leg);
            }
            Some(answer) => self.apply_answer(now, leg, Purpose::Answer, &answer),
            None => self.end_by(
                now,
                leg,
                Side::System,
                Cause::NotAcceptable,
                "the 200 brought no session description",
            ),
        }
    }

    fn on_confirmed(&mut self, now: Instant, leg: LegId, ack: &Message) {
        let Some(entry) = self.legs.get_mut(&leg) else { return };
        if !std::mem::take(&mut entry.awaits_late_answer) {
            return self.report_confirmed(leg);
        }
        match Description::of(ack) {
            Description::Sdp(answer) => self.apply_answer(now, leg, Purpose::LateAnswer, &answer),
            // Our offer to renew the session was not taken up: it goes on as it was.
            _ if entry.is_confirmed => {}
            _ => self.end_by(
                now,
                leg,
                Side::System,
                Cause::NotAcceptable,
                "the ACK brought no answer to our offer",
            ),
        }
    }

    /// The answer to the offer in our provisional response; the ACK will bring none.
    fn on_acknowledged(&mut self, now: Instant, leg: LegId, prack: &Message) {
        let Some(entry) = self.legs.get_mut(&leg) else { return };
        if let Description::Sdp(answer) = Description::of(prack) {
            entry.awaits_late_answer = false;
            self.apply_answer(now, leg, Purpose::PrackAnswer, &answer);
        }
    }

    /// Tells of the first ACK; those of re-INVITEs are of no interest.
    pub(super) fn report_confirmed(&mut self, leg: LegId) {
        let Some(entry) = self.legs.get_mut(&leg) else { return };
        if !std::mem::replace(&mut entry.is_confirmed, true) && entry.link.is_none() {
            // Nobody waits for it with a call: it may come with the leg's next news.
            self.events.send_quietly(Instant::now(), Event::Confirmed { leg });
        }
    }

    /// A key by INFO goes where those in RTP go: to the application and across the bridge.
    fn on_key(&mut self, leg: LegId, key: Key) {
        if self.legs.get(&leg).is_some_and(|entry| entry.has_media)
            && let Some(worker) = self.workers.get_mut(leg.worker())
        {
            worker.pressed(leg, key);
        }
    }

    fn on_ended(&mut self, now: Instant, leg: LegId, ended: telephony_sip::Ended) {
        let (by, cause) = (side(ended.by), cause(ended.cause));
        let passed_on = by == Side::Remote && cause == Cause::Bye && self.pass_bye(now, leg);
        self.end(Ended {
            leg,
            by,
            cause,
            status: ended.status,
            reason: plain_words(&ended.reason),
            said: None,
            stats: None,
            passed_on,
            at: now,
        });
    }
}

/// The text of a Reason value (RFC 3326) without the syntax around it; a reason phrase stays as it is.
fn plain_words(reason: &str) -> String {
    let params = reason.find(';').and_then(|start| Params::parse(reason.get(start..)?).ok());
    let text = params.and_then(|params| params.value("text"));
    // `value` strips the quotes and leaves the escapes, which mean something only inside quotes.
    text.map_or_else(|| reason.to_owned(), |text| unquote(&format!("\"{text}\"")).into_owned())
}

fn side(side: telephony_sip::Side) -> Side {
    match side {
        telephony_sip::Side::Local => Side::Local,
        telephony_sip::Side::Remote => Side::Remote,
        _ => Side::System,
    }
}

fn cause(cause: telephony_sip::Cause) -> Cause {
    use telephony_sip::Cause as Sip;
    match cause {
        Sip::Bye => Cause::Bye,
        Sip::Cancel => Cause::Cancel,
        Sip::Rejected => Cause::Rejected,
        Sip::Timeout => Cause::Timeout,
        Sip::NoAck => Cause::NoAck,
        Sip::TransportError => Cause::TransportError,
        Sip::Unreachable | Sip::Lost => Cause::Unreachable,
        _ => Cause::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::plain_words;

    #[test]
    fn reasons_lose_their_syntax() {
        assert_eq!(
            plain_words("SIP;cause=200;text=\"Call \\\"completed\\\" elsewhere\""),
            "Call \"completed\" elsewhere"
        );
        assert_eq!(plain_words("Q.850;cause=16"), "Q.850;cause=16");
        assert_eq!(plain_words("Busy Here"), "Busy Here");
    }
}
