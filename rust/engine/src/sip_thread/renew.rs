//! Sessions that are renewed by re-INVITE or UPDATE (RFC 3261 14, RFC 3311): hold, resume, other codecs, other ports.
//!
//! What concerns only the leg itself is answered at once. What the bridged leg's telephone must know goes there first,
//! as an offer of ours, and the answer decides: both legs change, or neither does.

use super::SipThread;
use super::leg::{Leg, State};
use super::offer::{self, Description, SDP};
use super::refusal::{refused_by_other, warning};
use crate::error::Code;
use crate::event::{Cause, Event, Outcome, Side};
use crate::message::{MediaJob, Purpose};
use crate::{EngineError, LegId};
use std::time::Instant;
use telephony_media::Renewal;
use telephony_sip::{Message, Method};

/// How a leg takes part in a renewal that is under way.
#[derive(Debug)]
pub(super) enum Renewing {
    /// Its peer's offer is looked at.
    Asked { offer: String },
    /// Its peer's offer waits for what the peer of `other` says to ours.
    Waiting { offer: String, other: LegId, may_stand_alone: bool },
    /// Our offer is on its way to its peer, because of what the peer of `other` has changed.
    Telling { other: LegId },
    /// The same to take that back: the answer of its peer was no use.
    Reverting { other: LegId },
}

impl SipThread {
    /// A new offer of the peer (hold, resume, another address), or none: then ours is wanted (RFC 3261 14.2).
    pub(super) fn on_reoffer(&mut self, now: Instant, leg: LegId, request: &Message) {
        let Some(entry) = self.legs.get_mut(&leg) else { return };
        if entry.renewing.is_some() {
            // The other leg's peer came first; ours has to wait for its turn (14.2).
            let _ = self.endpoint.reject_reoffer(now, leg.sip(), 491, &[]);
            return;
        }
        let (Some(address), codecs) = (entry.address, entry.codecs.clone()) else { return };
        match Description::of(request) {
            Description::Sdp(offer) => {
                // An offer that we made for an earlier re-INVITE died with it (CANCEL): its ACK brings no answer.
                entry.awaits_late_answer = false;
                entry.answers.prefer(request.from_tag().unwrap_or_default());
                let offer = offer::text(&offer);
                entry.renewing = Some(Renewing::Asked { offer: offer.clone() });
                self.ask_worker(now, leg, Purpose::Reoffer, MediaJob::Renew { offer, codecs, ask: true });
            }
            Description::None => {
                entry.awaits_late_answer = true;
                self.ask_worker(now, leg, Purpose::Reoffer, MediaJob::Offer { address, codecs });
            }
            Description::Other => {
                let accept = [("Accept".to_owned(), SDP.to_owned())];
                let _ = self.endpoint.reject_reoffer(now, leg.sip(), 415, &accept);
            }
        }
    }

    /// The worker has looked at a renewed offer, and answered it if nobody has to be asked.
    pub(super) fn on_renewed(&mut self, now: Instant, leg: LegId, result: Result<Outcome, EngineError>) {
        match result {
            Ok(Outcome { news: Some(news), .. }) => self.ask_other(now, leg, news),
            result => self.answer_renewal(now, leg, result),
        }
    }

    /// The peer waits for no answer any more, and must not find its session changed (RFC 3261 14.1, RFC 6141 2). What its
    /// offer waits for goes on; that is told the other side again should it agree.
    pub(super) fn on_reoffer_lapsed(&mut self, leg: LegId) {
        let Some(entry) = self.legs.get_mut(&leg) else { return };
        // The ACK of a refusal brings no answer.
        entry.awaits_late_answer = false;
        if matches!(entry.renewing, Some(Renewing::Waiting { .. })) {
            entry.renewing = None;
        }
    }

    /// Answers a re-INVITE or UPDATE; if its offer is no good, the call stays as it was (RFC 3261 14.2).
    fn answer_renewal(&mut self, now: Instant, leg: LegId, result: Result<Outcome, EngineError>) {
        let Some(entry) = self.legs.get_mut(&leg) else { return };
        entry.renewing = None;
        match result {
            Ok(outcome) => {
                entry.local_sdp.clone_from(&outcome.sdp);
                // The peer may have taken its request back meanwhile (CANCEL): then there is nothing to answer.
                let _ = self.endpoint.answer_reoffer(now, leg.sip(), outcome.sdp.map(offer::body));
                self.report_hold(leg, outcome.held);
            }
            Err(error) => {
                entry.awaits_late_answer = false;
                let status = if error.code == Code::QueueFull { 503 } else { 488 };
                self.refuse_renewal(now, leg, status, &warning(status, &error));
            }
        }
    }

    fn refuse_renewal(&mut self, now: Instant, leg: LegId, status: u16, headers: &[(String, String)]) {
        if let Some(entry) = self.legs.get_mut(&leg) {
            entry.renewing = None;
        }
        let _ = self.endpoint.reject_reoffer(now, leg.sip(), status, headers);
    }

    pub(super) fn report_hold(&mut self, leg: LegId, held: Option<bool>) {
        if let Some(held) = held {
            self.events.send(Event::Held { leg, held });
        }
    }

    /// Has the bridged leg's peer asked whether it agrees to what this leg's peer wants.
    fn ask_other(&mut self, now: Instant, leg: LegId, news: Renewal) {
        if !self.endpoint.is_asked(leg.sip()) {
            // It was taken back while it was looked at.
            return self.finish_renewal(leg);
        }
        let other = news.peer.map(LegId::from).and_then(|other| Some((other, self.legs.get(&other)?)));
        let Some((other, known)) = other.filter(|(_, known)| matches!(known.state, State::Up)) else {
            return self.renew_alone(now, leg);
        };
        let can_speak = news.codec.is_none_or(|codec| known.codecs.contains(&codec));
        if known.renewing.is_some() {
            return self.refuse_renewal(now, leg, 491, &[]);
        }
        // Sound can always be transcoded: only a change of direction needs the other side's consent.
        let may_stand_alone = news.direction.is_none();
        if may_stand_alone && !can_speak {
            return self.renew_alone(now, leg);
        }
        if let Some(entry) = self.legs.get_mut(&leg)
            && let Some(Renewing::Asked { offer }) = entry.renewing.take()
        {
            entry.renewing = Some(Renewing::Waiting { offer, other, may_stand_alone });
            self.tell_other(now, leg, other, Renewal { codec: news.codec.filter(|_| can_speak), ..news });
        }
    }

    /// Answers a renewed offer without asking anybody.
    fn renew_alone(&mut self, now: Instant, leg: LegId) {
        let Some(entry) = self.legs.get_mut(&leg) else { return };
        let (Some(Renewing::Asked { offer } | Renewing::Waiting { offer, .. }), codecs) =
            (entry.renewing.take(), entry.codecs.clone())
        else {
            return;
        };
        entry.renewing = Some(Renewing::Asked { offer: offer.clone() });
        self.ask_worker(now, leg, Purpose::Reoffer, MediaJob::Renew { offer, codecs, ask: false });
    }

    /// Makes the offer to `other` that tells what the peer of `leg` has changed.
    pub(super) fn tell_other(&mut self, now: Instant, leg: LegId, other: LegId, news: Renewal) {
        let Some(entry) = self.legs.get_mut(&other) else { return };
        entry.renewing = Some(Renewing::Telling { other: leg });
        let codecs = entry.codecs.clone();
        self.ask_worker(now, other, Purpose::Tell, MediaJob::Tell { codecs, news });
    }

    /// News that nobody waits for: its sender has its answer, or gave it in an ACK.
    pub(super) fn pass_on(&mut self, now: Instant, leg: LegId, news: Option<Renewal>) {
        let Some((news, other)) = news.and_then(|news| Some((news, LegId::from(news.peer?)))) else { return };
        let free = self.legs.get(&other).is_some_and(|other| other.is_free());
        if free && self.legs.get(&leg).is_some_and(|leg| leg.renewing.is_none()) {
            self.tell_other(now, leg, other, news);
        }
    }

    /// Our offer is made: it leaves in a re-INVITE.
    pub(super) fn on_told(&mut self, now: Instant, leg: LegId, result: Result<Outcome, EngineError>) {
        let sent = match result {
            Ok(outcome) => {
                let body = outcome.sdp.map(offer::body);
                self.endpoint.reoffer(now, leg.sip(), body, Method::Invite).map_err(|_| 491)
            }
            Err(error) => Err(if error.code == Code::QueueFull { 503 } else { 500 }),
        };
        if let Err(status) = sent {
            self.on_reoffer_refused(now, leg, status, None);
        }
    }

    /// The peer has answered our offer. Where the one that caused it still waits, both legs change now.
    pub(super) fn on_reoffer_answered(&mut self, now: Instant, leg: LegId, response: &Message) {
        let Some((other, reverts)) = self.told_for(leg) else { return };
        let Description::Sdp(answer) = Description::of(response) else {
            return self.on_reoffer_refused(now, leg, 500, None);
        };
        let (answer, waits) = (offer::text(&answer), !reverts && self.endpoint.is_asked(other.sip()));
        let job = match self.legs.get(&other) {
            Some(entry) if waits => match &entry.renewing {
                Some(Renewing::Waiting { offer, other: told, .. }) if *told == leg => {
                    let (offer, codecs) = (offer.clone(), entry.codecs.clone());
                    Some(MediaJob::Exchange { answer: answer.clone(), asked: other, offer, codecs })
                }
                _ => None,
            },
            _ => None,
        };
        match job {
            Some(job) => self.ask_worker(now, leg, Purpose::Exchange, job),
            None => self.ask_worker(now, leg, Purpose::Told, MediaJob::Told { answer, other }),
        }
    }

    /// For whom a leg's peer is being told something, and whether that takes back what it was told before.
    fn told_for(&self, leg: LegId) -> Option<(LegId, bool)> {
        match self.legs.get(&leg)?.renewing {
            Some(Renewing::Telling { other }) => Some((other, false)),
            Some(Renewing::Reverting { other }) => Some((other, true)),
            _ => None,
        }
    }

    /// The peer has agreed to our offer, and to something that is no use: it is offered what it had, since a call that
    /// cannot change stays as it was on both its legs (RFC 3261 14.1, RFC 6141 2).
    fn revert(&mut self, now: Instant, leg: LegId, other: LegId) {
        let Some(entry) = self.legs.get_mut(&leg) else { return };
        entry.renewing = Some(Renewing::Reverting { other });
        let codecs = entry.codecs.clone();
        self.ask_worker(now, leg, Purpose::Tell, MediaJob::Revert { codecs, other });
    }

    /// Both legs have changed, or the one that asked is as it was.
    pub(super) fn on_exchanged(&mut self, now: Instant, leg: LegId, result: Result<Outcome, EngineError>) {
        let Some((other, _)) = self.told_for(leg) else { return };
        self.finish_renewal(leg);
        if let (Some(entry), Ok(outcome)) = (self.legs.get_mut(&other), &result) {
            entry.codec = outcome.codec.or(entry.codec);
        }
        let failed = result.is_err();
        self.answer_renewal(now, other, result);
        if failed {
            self.revert(now, leg, other);
        }
    }

    /// The peer knows now; what has changed meanwhile is told as well.
    pub(super) fn on_told_answer(&mut self, now: Instant, leg: LegId, result: Result<Outcome, EngineError>) {
        let Some((other, reverts)) = self.told_for(leg) else { return };
        self.finish_renewal(leg);
        let tells = |entry: &&mut Leg| {
            matches!(entry.renewing, Some(Renewing::Telling { .. } | Renewing::Reverting { .. }))
        };
        if let Some(entry) = self.legs.get_mut(&other).filter(|entry| !reverts && !tells(entry)) {
            entry.renewing = None;
        }
        match result {
            Ok(outcome) => self.pass_on(now, other, outcome.news),
            Err(error) if reverts => self.cannot_revert(now, leg, &error.message),
            Err(_) => self.revert(now, leg, other),
        }
    }

    /// What the peer believes of its session and what is true are two things: there is no going on.
    fn cannot_revert(&mut self, now: Instant, leg: LegId, why: &str) {
        let reason = format!("the session could not be taken back to what it was: {why}");
        self.end_by(now, leg, Side::System, Cause::NotAcceptable, &reason);
    }

    fn finish_renewal(&mut self, leg: LegId) {
        if let Some(entry) = self.legs.get_mut(&leg) {
            entry.renewing = None;
        }
    }

    /// The peer does not want what we offer: it stays as it was, and so does the leg that asked for it.
    pub(super) fn on_reoffer_refused(
        &mut self,
        now: Instant,
        leg: LegId,
        status: u16,
        response: Option<&Message>,
    ) {
        let Some((other, reverts)) = self.told_for(leg) else { return };
        self.finish_renewal(leg);
        if reverts {
            return self.cannot_revert(now, leg, &format!("{status}"));
        }
        let Some(Renewing::Waiting { may_stand_alone, other: told, .. }) =
            self.legs.get(&other).and_then(|entry| entry.renewing.as_ref())
        else {
            return;
        };
        match (*told == leg, *may_stand_alone) {
            (false, _) => {}
            (true, true) => self.renew_alone(now, other),
            (true, false) => {
                let (status, headers) = refused_by_other(status, response);
                self.refuse_renewal(now, other, status, &headers);
            }
        }
    }

    /// A leg is gone: whoever waits for it waits no more.
    pub(super) fn give_up_renewal(&mut self, now: Instant, renewing: Option<Renewing>) {
        match renewing {
            Some(Renewing::Telling { other }) => {
                let waits = self.legs.get(&other).and_then(|entry| entry.renewing.as_ref());
                if matches!(waits, Some(Renewing::Waiting { .. })) {
                    let (status, headers) = refused_by_other(500, None);
                    self.refuse_renewal(now, other, status, &headers);
                }
            }
            // Our offer to its peer stays open; its answer finds nobody waiting.
            Some(Renewing::Waiting { .. } | Renewing::Asked { .. } | Renewing::Reverting { .. }) | None => {}
        }
    }
}
