//! Re-INVITE and UPDATE of our own (RFC 3261 14.1, RFC 3311 5.1), and the ACK that answers an offer (13.2.2.4).

use std::time::{Duration, Instant};

use super::carry_out::Turn;
use super::headers::{ALLOW, BuilderExt, check_value};
use super::legs::{Invite, Leg, Outgoing, Owed, Stage};
use super::session::{Input, State};
use super::{Endpoint, LegKey};
use crate::dialog::target_of;
use crate::timer::TimerKind;
use crate::transaction::{ClientKey, ClientSignal, Request, User, follow_up};
use crate::{Body, Cause, Ended, Error, Event, LegId, Message, Method, Name, Side};

/// How often a re-INVITE or UPDATE gives way to the peer's before it is given up.
const MAX_COLLISIONS: u8 = 5;

impl Endpoint {
    /// Changes the session by a re-INVITE or UPDATE; `None` asks the peer for its offer (re-INVITE), or only refreshes
    /// the target (UPDATE). [`Event::ReofferAnswered`] or [`Event::ReofferRefused`] follows, or the leg's end. Where
    /// the peer's own request is in the way, this one waits for its turn (14.1).
    ///
    /// # Errors
    /// When the leg has no session to change, an earlier one of the owner is open, or it cannot be written.
    pub fn reoffer(
        &mut self,
        now: Instant,
        leg: LegId,
        body: Option<Body>,
        method: Method,
    ) -> Result<(), Error> {
        if let Some(body) = &body {
            check_value(Name::ContentType, &body.content_type)?;
        }
        let key = self.legs.find(leg)?;
        let entry = self.legs.get_mut(key).ok_or(Error::UnknownLeg(leg))?;
        let dialog = entry.dialogs.last().and_then(|key| self.dialogs.get(*key));
        let settled = dialog.is_some_and(|dialog| dialog.settled);
        if !may_reoffer(entry, method, body.is_none() || settled) {
            return Err(Error::WrongState { command: "change its session so", state: entry.state.words() });
        }
        let wanted = Box::new(Outgoing::new(method, body, false));
        match &mut entry.outgoing {
            Some(open) if open.stage == Stage::Waiting => *open = wanted,
            Some(open) if open.refreshes => {
                open.next = Some(wanted);
                return Ok(());
            }
            Some(_) => return Err(Error::OfferPending(leg)),
            None => entry.outgoing = Some(wanted),
        }
        self.try_reoffer(now, key);
        Ok(())
    }

    /// Takes the owner's re-INVITE or UPDATE back: one that waits is forgotten and nothing follows; an open re-INVITE is
    /// cancelled, and its outcome follows (9.1). An open UPDATE is left alone.
    pub fn withdraw_reoffer(&mut self, now: Instant, leg: LegId) {
        let Ok(key) = self.legs.find(leg) else { return };
        let Some(open) = self.legs.get_mut(key).and_then(|leg| leg.outgoing.as_mut()) else { return };
        if open.refreshes {
            open.next = None;
            return;
        }
        match (open.stage, open.method) {
            (Stage::Waiting, _) => drop(self.take_outgoing(now, key)),
            (Stage::Sent(client), Method::Invite) => {
                open.stage = Stage::CancelHeld(client);
                self.clients.forgo_datagram(client);
                if self.clients.is_proceeding(client) {
                    self.cancel_outgoing(now, key);
                }
            }
            _ => {}
        }
    }

    /// Sends the ACK of a 2xx that made an offer, with our answer to it (13.2.2.4), or the PRACK of such a 1xx
    /// (RFC 3262 5); the first one first where several forks made offers.
    ///
    /// # Errors
    /// When none is due, or it cannot be written.
    pub fn acknowledge(&mut self, now: Instant, leg: LegId, body: Option<Body>) -> Result<(), Error> {
        if let Some(body) = &body {
            check_value(Name::ContentType, &body.content_type)?;
        }
        let key = self.legs.find(leg)?;
        let entry = self.legs.get(key).ok_or(Error::UnknownLeg(leg))?;
        if entry.owed.is_empty() {
            return Err(Error::WrongState { command: "acknowledge an offer", state: entry.state.words() });
        }
        self.settle_owed(now, key, body.as_ref());
        self.describe_session(key, body.as_ref());
        Ok(())
    }

    /// Sends the leg's re-INVITE or UPDATE, or puts it off while the peer's is in the way (14.1).
    pub(super) fn try_reoffer(&mut self, now: Instant, key: LegKey) {
        let Some(leg) = self.legs.get(key) else { return };
        if leg.reoffer.is_some() || leg.unacked.is_some() || !leg.owed.is_empty() {
            return self.put_off(now, key);
        }
        if self.send_reoffer(now, key).is_none() {
            self.io.stats.dropped.unbuildable += 1;
            self.end_reoffer(now, key, 500, None);
        }
    }

    fn send_reoffer(&mut self, now: Instant, key: LegKey) -> Option<()> {
        let branch = self.ident.branch();
        let leg = self.legs.get_mut(key)?;
        let outgoing = leg.outgoing.as_mut()?;
        let method = outgoing.method;
        let dialog = self.dialogs.get_mut(*leg.dialogs.last()?)?;
        let (builder, flow) = dialog.request(method, &branch, outgoing.body.as_ref());
        let builder = builder
            .contact(&dialog.contact)
            .safe(Name::Allow, ALLOW)
            .safe(Name::UserAgent, &self.user_agent)
            .maybe_body(outgoing.body.as_ref());
        let bytes = self.request_session(key, builder).build().ok()?;
        let outgoing = self.legs.get_mut(key)?.outgoing.as_mut()?;
        let request = Request { method, branch, bytes, flow, user: User::Reoffer(key) };
        outgoing.stage = Stage::Sent(self.clients.send(&mut self.io, now, request));
        Some(())
    }

    /// 14.1: whoever chose the Call-ID waits 2.1 to 4 seconds, the other side up to 2, in steps of 10 ms.
    fn put_off(&mut self, now: Instant, key: LegKey) {
        let Some(leg) = self.legs.get_mut(key) else { return };
        let steps = match leg.invite {
            Invite::Sent(_) => 210..=400,
            Invite::Received(_) => 0..=200,
        };
        let Some(outgoing) = leg.outgoing.as_mut() else { return };
        outgoing.stage = Stage::Waiting;
        outgoing.collisions = outgoing.collisions.saturating_add(1);
        let after = Duration::from_millis(u64::from(self.ident.within(&steps)).saturating_mul(10));
        self.with_timers(now, key, |timers, io| {
            timers.stop(io, TimerKind::ReofferHang);
            timers.start_in(io, TimerKind::ReofferRetry, after);
        });
    }

    /// The back-off is over.
    pub(super) fn retry_reoffer(&mut self, now: Instant, key: LegKey) {
        let Some(outgoing) = self.legs.get(key).and_then(|leg| leg.outgoing.as_ref()) else { return };
        match outgoing.collisions > MAX_COLLISIONS {
            true => self.end_reoffer(now, key, 491, None),
            false => self.try_reoffer(now, key),
        }
    }

    /// What has come of a re-INVITE or UPDATE of ours.
    pub(super) fn reoffer_outcome(
        &mut self,
        now: Instant,
        leg: LegKey,
        key: ClientKey,
        signal: ClientSignal,
        response: Option<&Message>,
    ) {
        match (signal, response) {
            (ClientSignal::Response, Some(response)) => self.reoffer_response(now, leg, key, response),
            (ClientSignal::Response, None) => {}
            (ClientSignal::Timeout, _) => self.reoffer_failed(now, leg, key, 408, None),
            (ClientSignal::TransportError, _) => self.reoffer_failed(now, leg, key, 503, None),
        }
    }

    fn reoffer_response(&mut self, now: Instant, leg: LegKey, key: ClientKey, response: &Message) {
        let Some(status) = response.status() else { return };
        if status.is_provisional() {
            self.reoffer_heard(now, leg, key);
        } else if !status.is_success() {
            self.reoffer_failed(now, leg, key, status.0, Some(response));
        } else if response.cseq_method() == Some(Method::Invite) {
            self.reinvite_success(now, leg, key, response);
        } else {
            self.reoffer_accepted(now, leg, key, response);
        }
    }

    /// Nothing bounds an INVITE that has been heard of but the leg (17.1.1.2).
    fn reoffer_heard(&mut self, now: Instant, leg: LegKey, key: ClientKey) {
        match self.open_stage(leg, key) {
            Some(Stage::Sent(_)) => {
                let runs = self.legs.get(leg).is_some_and(|leg| leg.timers.runs(TimerKind::ReofferHang));
                if !runs && self.clients.is_proceeding(key) {
                    self.start_timer(now, leg, TimerKind::ReofferHang);
                }
            }
            Some(Stage::CancelHeld(_)) => self.cancel_outgoing(now, leg),
            Some(Stage::Waiting | Stage::Cancelled(_)) => {}
            // The leg is gone.
            None => self.clients.limit(&mut self.io, now, key),
        }
    }

    /// Every 2xx gets its ACK, a retransmitted one the same again (13.2.2.4).
    fn reinvite_success(&mut self, now: Instant, leg: LegKey, key: ClientKey, response: &Message) {
        let tag = response.to_tag().unwrap_or_default();
        if self.owes_ack(leg, key, tag) || self.clients.acknowledge_again(&mut self.io, key, tag) {
            self.io.stats.retransmissions_in += 1;
            return;
        }
        let Some(dialog) = self.dialogs.of_response(response) else {
            return self.acknowledge_belated(key, response);
        };
        self.refresh_target(dialog, target_of(response));
        let owed = Owed { client: key, dialog, cseq: response.cseq_number(), rseq: None };
        let outgoing = self.legs.get(leg).and_then(|leg| leg.outgoing.as_ref());
        let asked = outgoing.is_some_and(|open| open.client() == Some(key) && open.body.is_none());
        match asked && !response.body().is_empty() {
            true => self.owe(now, leg, owed),
            false => self.send_ack(key, dialog, owed.cseq, None),
        }
        self.reoffer_accepted(now, leg, key, response);
    }

    /// A BYE crossed the 2xx, which is repeated until its ACK all the same (RFC 5407 3.2.3).
    fn acknowledge_belated(&mut self, key: ClientKey, response: &Message) {
        let Some(dialog) = self.draft_of(key).and_then(|draft| draft.met(response)) else { return };
        let dialog = self.dialogs.insert(LegKey::default(), dialog);
        self.send_ack(key, dialog, response.cseq_number(), None);
        self.dialogs.remove(dialog);
    }

    fn reoffer_accepted(&mut self, now: Instant, leg: LegKey, key: ClientKey, response: &Message) {
        if self.open_stage(leg, key).is_none() {
            return;
        }
        if let Some(dialog) = self.dialogs.of_response(response) {
            self.refresh_target(dialog, target_of(response));
        }
        let Some(outgoing) = self.take_outgoing(now, leg) else { return };
        self.session_answered(now, leg, None, outgoing.body, response);
        if !outgoing.refreshes {
            self.tell(leg, Some(response), |leg, response| Event::ReofferAnswered { leg, response });
        }
        self.follow_with(now, leg, outgoing.next);
    }

    /// What the application wanted while the session timer's request was under way.
    fn follow_with(&mut self, now: Instant, key: LegKey, next: Option<Box<Outgoing>>) {
        let Some(leg) = self.legs.get_mut(key).filter(|_| next.is_some()) else { return };
        leg.outgoing = next;
        self.try_reoffer(now, key);
    }

    fn reoffer_failed(
        &mut self,
        now: Instant,
        leg: LegKey,
        key: ClientKey,
        status: u16,
        response: Option<&Message>,
    ) {
        match (self.open_stage(leg, key), status) {
            (None, _) => {}
            (Some(Stage::Sent(_)), 491) => self.put_off(now, leg),
            (Some(_), 422) if self.raise_interval(leg, response) => self.try_reoffer(now, leg),
            (Some(_), 408 | 481) => self.dialog_lost(now, leg, status, response),
            (Some(_), _) => self.end_reoffer(now, leg, status, response),
        }
    }

    /// 12.2.1.2: the peer has no such dialog any more, or is gone.
    pub(super) fn dialog_lost(&mut self, now: Instant, leg: LegKey, status: u16, response: Option<&Message>) {
        let reason = response.map_or("No response", Message::reason).to_owned();
        let by = if response.is_some() { Side::Remote } else { Side::System };
        let ended = Ended { by, cause: Cause::Lost, status: Some(status), reason };
        self.lose(now, leg, ended);
    }

    /// Ends a leg that cannot go on.
    pub(super) fn lose(&mut self, now: Instant, key: LegKey, ended: Ended) {
        let response = match self.legs.get(key).map(|leg| leg.state) {
            Some(State::Incoming) => self.temporarily_unavailable(key),
            _ => None,
        };
        self.drive(now, key, Input::Lost, Turn { response, ended: Some(ended), message: None });
    }

    /// The session stays as it was (14.1).
    fn end_reoffer(&mut self, now: Instant, key: LegKey, status: u16, response: Option<&Message>) {
        let Some(outgoing) = self.take_outgoing(now, key) else { return };
        if outgoing.refreshes {
            self.follow_with(now, key, outgoing.next);
            return self.refresh_refused(now, key, status, response.is_some());
        }
        if let Some(leg) = self.legs.get(key).filter(|leg| !leg.reported) {
            let response = response.cloned();
            self.events.push_back(Event::ReofferRefused { leg: leg.id, status, response });
        }
    }

    /// 64*T1 have passed since a re-INVITE was heard of, or since its CANCEL (9.1).
    pub(super) fn reoffer_hangs(&mut self, now: Instant, key: LegKey) {
        match self.legs.get(key).and_then(|leg| Some(leg.outgoing.as_ref()?.stage)) {
            Some(Stage::Sent(client)) => {
                if let Some(open) = self.legs.get_mut(key).and_then(|leg| leg.outgoing.as_mut()) {
                    open.stage = Stage::CancelHeld(client);
                }
                self.cancel_outgoing(now, key);
            }
            Some(Stage::Cancelled(client)) => {
                self.clients.abandon(&mut self.io, client);
                self.end_reoffer(now, key, 408, None);
            }
            _ => {}
        }
    }

    fn cancel_outgoing(&mut self, now: Instant, key: LegKey) {
        let Some(open) = self.legs.get_mut(key).and_then(|leg| leg.outgoing.as_mut()) else { return };
        let Stage::CancelHeld(client) = open.stage else { return };
        open.stage = Stage::Cancelled(client);
        self.send_cancel_of(now, client, None);
        self.start_timer(now, key, TimerKind::ReofferHang);
    }

    /// CANCEL of an INVITE of ours: the same Request-URI, To, From, Call-ID, branch and Route (9.1).
    pub(super) fn send_cancel_of(&mut self, now: Instant, client: ClientKey, reason: Option<&str>) {
        let Some((invite, flow)) = self.clients.sent(&self.io, client) else { return };
        let built = follow_up(&invite, Method::Cancel, None)
            .maybe(Name::Reason, reason)
            .safe(Name::UserAgent, &self.user_agent)
            .build();
        let (Ok(bytes), Some(branch)) = (built, invite.branch().map(str::to_owned)) else {
            self.io.stats.dropped.unbuildable += 1;
            return;
        };
        let request = Request { method: Method::Cancel, branch, bytes, flow, user: User::Cancel };
        self.clients.send(&mut self.io, now, request);
    }

    /// The stage of the leg's request, if that is the transaction's.
    fn open_stage(&self, leg: LegKey, key: ClientKey) -> Option<Stage> {
        let outgoing = self.legs.get(leg)?.outgoing.as_ref()?;
        (outgoing.client() == Some(key)).then_some(outgoing.stage)
    }

    fn take_outgoing(&mut self, now: Instant, key: LegKey) -> Option<Box<Outgoing>> {
        self.with_timers(now, key, |timers, io| {
            timers.stop(io, TimerKind::ReofferRetry);
            timers.stop(io, TimerKind::ReofferHang);
        });
        self.legs.get_mut(key)?.outgoing.take()
    }

    /// The leg is over: an open re-INVITE waits a last while for the response that its ACK belongs to.
    pub(super) fn drop_outgoing(&mut self, now: Instant, key: LegKey) {
        let Some(outgoing) = self.legs.get_mut(key).and_then(|leg| leg.outgoing.take()) else { return };
        if let (Method::Invite, Some(client)) = (outgoing.method, outgoing.client()) {
            self.clients.forgo_datagram(client);
            self.clients.limit(&mut self.io, now, client);
        }
    }

    pub(super) fn owe(&mut self, now: Instant, key: LegKey, owed: Owed) {
        if let Some(leg) = self.legs.get_mut(key) {
            leg.owed.push(owed);
        }
        self.start_timer(now, key, TimerKind::OwedAnswer);
    }

    /// Whether this 2xx is one whose ACK waits for the application.
    pub(super) fn owes_ack(&self, leg: LegKey, client: ClientKey, tag: &str) -> bool {
        let of_tag = |key| self.dialogs.get(key).is_some_and(|dialog| dialog.remote_tag() == tag);
        let same = |owed: &Owed| owed.client == client && owed.rseq.is_none() && of_tag(owed.dialog);
        self.legs.get(leg).is_some_and(|leg| leg.owed.iter().any(same))
    }

    /// Sends the ACK or PRACK that waits longest.
    fn settle_owed(&mut self, now: Instant, key: LegKey, body: Option<&Body>) {
        let Some(leg) = self.legs.get_mut(key).filter(|leg| !leg.owed.is_empty()) else { return };
        let owed = leg.owed.remove(0);
        if leg.owed.is_empty() {
            self.with_timers(now, key, |timers, io| timers.stop(io, TimerKind::OwedAnswer));
        }
        match owed.rseq {
            Some(_) => self.send_prack(now, owed, body),
            None => self.send_ack(owed.client, owed.dialog, owed.cseq, body),
        }
    }

    /// Sends the ACKs that wait, before a BYE.
    pub(super) fn settle_acks(&mut self, now: Instant, key: LegKey) {
        while self.legs.get(key).is_some_and(|leg| !leg.owed.is_empty()) {
            self.settle_owed(now, key, None);
        }
    }

    /// The application never answered the peer's offer: 13.2.2.4 leaves ACK and BYE.
    pub(super) fn offer_unanswered(&mut self, now: Instant, key: LegKey) {
        let reason = "No answer to an offer".to_owned();
        let ended = Ended { by: Side::System, cause: Cause::NoAnswer, status: None, reason };
        self.lose(now, key, ended);
    }
}

/// Whether a leg has a session that a request of this method may change. RFC 3311 5.1: in an early dialog an UPDATE
/// without an offer at any time, one with an offer not before the INVITE's own has been answered.
fn may_reoffer(leg: &Leg, method: Method, early: bool) -> bool {
    match (leg.state, method) {
        (State::Confirmed, Method::Invite | Method::Update) => true,
        (State::Proceeding | State::Incoming, Method::Update) => early && !leg.dialogs.is_empty(),
        _ => false,
    }
}
