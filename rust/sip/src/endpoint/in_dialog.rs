//! Requests inside a dialog: BYE, re-INVITE, UPDATE, INFO, OPTIONS and whose rooms REFER and NOTIFY are (RFC 3261 12.2.2, 14.2, 15.1.2; RFC 3311; RFC 6086).

use std::sync::Arc;
use std::time::Instant;

use super::headers::{ALLOW, BuilderExt, check_headers};
use super::legs::{Leg, Reoffer, Unacked};
use super::options::capabilities;
use super::refuse::{Refusal, check_body, check_extensions, check_method};
use super::session::{Input, State};
use super::{Endpoint, LegKey};
use crate::dialog::{self, DialogKey, target_of};
use crate::timer::TimerKind;
use crate::transaction::{Arrival, ServerKey};
use crate::{Body, Builder, Cause, Error, Event, Flow, LegId, Message, Method, Name, Profile};

/// What becomes of an offer that arrives now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The application decides.
    Ask,
    /// 500 with Retry-After: the peer's own earlier request is still open (14.2).
    Busy,
    /// 491: ours is (14.2).
    Glare,
}

impl Endpoint {
    /// A request with a To tag that is no retransmission.
    pub(super) fn in_dialog(&mut self, now: Instant, request: &Message, arrival: Arrival, profile: &Profile) {
        if let Err(refusal) = check_method(request) {
            return self.refuse(request, arrival, &refusal, profile);
        }
        let Some(key) = self.dialogs.of_request(request) else {
            return self.refuse(request, arrival, &Refusal::plain(481, ""), profile);
        };
        if request.has(Name::Require) {
            let leg = self.dialogs.get(key).and_then(|dialog| self.legs.get(dialog.leg));
            let spoken = leg.map(|leg| Arc::clone(&leg.profile)).unwrap_or_default();
            if let Err(refusal) = check_extensions(request, &spoken) {
                return self.refuse(request, arrival, &refusal, profile);
            }
        }
        // A peer in a dialog is never shed, but it cannot fill the memory either.
        if self.servers.len() >= self.max_transactions.saturating_mul(2) {
            return self.overloaded(request, arrival, profile);
        }
        self.known_dialog(now, key, request, arrival, profile);
    }

    fn known_dialog(
        &mut self,
        now: Instant,
        key: DialogKey,
        request: &Message,
        arrival: Arrival,
        profile: &Profile,
    ) {
        let number = request.cseq_number();
        let Some(dialog) = self.dialogs.get_mut(key) else { return };
        let (leg, closing) = (dialog.leg, dialog.state == dialog::State::Closing);
        let in_order = dialog.in_order(number);
        let server = self.servers.accept(request, arrival, Some(leg));
        match request.method() {
            // 12.2.2: the CSeq has gone backwards.
            _ if !in_order => self.reply(now, server, 500, |builder| builder),
            Some(Method::Bye) => self.bye(now, key, leg, server, request),
            // A subscription outlives the call (RFC 5057 5.2).
            Some(Method::Subscribe) => self.subscribed(now, key, server, request),
            _ if closing => self.reply(now, server, 481, |builder| builder),
            Some(Method::Invite | Method::Update) if self.is_too_brief(leg, request) => {
                let min = self.legs.get(leg).map_or(90, |leg| leg.profile.session.min).to_string();
                self.reply(now, server, 422, |builder| builder.safe(Name::MinSe, &min));
            }
            Some(Method::Invite | Method::Update) => {
                let flow = self.is_peers(key, arrival.flow, profile).then_some(arrival.flow);
                match request.method() {
                    Some(Method::Update) => self.update(now, key, leg, server, request, flow),
                    _ => self.reinvite(now, key, leg, server, request, flow),
                }
            }
            Some(Method::Prack) => self.prack(now, key, leg, server, request),
            Some(Method::Refer) => self.referred(now, key, leg, server, request),
            Some(Method::Notify) => self.notified(now, key, leg, server, request),
            Some(Method::Info) => self.info(now, leg, server, request),
            Some(Method::Options) => {
                let profile = self.legs.get(leg).map(|leg| Arc::clone(&leg.profile)).unwrap_or_default();
                self.reply(now, server, 200, |builder| capabilities(builder, &profile));
            }
            _ => self.reply(now, server, 405, |builder| builder.header(Name::Allow, ALLOW)),
        }
    }

    /// Whether a request in a dialog came from where its peer may be: the machine it was at, another of the same trunk,
    /// or where a phone has registered since.
    fn is_peers(&self, key: DialogKey, flow: Flow, profile: &Profile) -> bool {
        let Some(dialog) = self.dialogs.get(key) else { return false };
        let trunk = self.legs.get(dialog.leg).map(|leg| &*leg.profile.name).filter(|name| !name.is_empty());
        flow.remote.ip() == dialog.flow.remote.ip()
            || trunk == Some(&*profile.name)
            || (dialog.keeps_flow && self.registrar.is_bound(flow))
    }

    /// Answers a request in a dialog; the To tag is the request's own.
    pub(super) fn reply(
        &mut self,
        now: Instant,
        server: ServerKey,
        status: u16,
        add: impl FnOnce(Builder) -> Builder,
    ) {
        let Some(builder) = self.servers.reply(server, status, "") else { return };
        self.finish_reply(now, server, status, add(builder));
    }

    pub(super) fn finish_reply(&mut self, now: Instant, server: ServerKey, status: u16, builder: Builder) {
        match builder.safe(Name::Server, &self.user_agent).build() {
            Ok(bytes) => self.servers.respond(&mut self.io, now, server, status, bytes),
            Err(_) => {
                self.io.stats.dropped.unbuildable += 1;
                self.servers.abandon(&mut self.io, server);
            }
        }
    }

    /// BYE: 200, also when ours crosses it (15.1.2).
    fn bye(&mut self, now: Instant, dialog: DialogKey, key: LegKey, server: ServerKey, request: &Message) {
        self.reply(now, server, 200, |builder| builder);
        let Some(leg) = self.legs.get_mut(key) else { return };
        if !leg.dialogs.contains(&dialog) {
            return;
        }
        let early = matches!(leg.state, State::Proceeding | State::Cancelling);
        if early && self.drop_fork(key, dialog) {
            return;
        }
        self.end_by_peer(now, key, Input::Bye, Cause::Bye, request);
    }

    /// One early dialog of several is one fork that left; the others ring on. False if it is the only one.
    pub(super) fn drop_fork(&mut self, key: LegKey, dialog: DialogKey) -> bool {
        let Some(leg) = self.legs.get_mut(key).filter(|leg| leg.dialogs.len() > 1) else { return false };
        leg.dialogs.retain(|other| *other != dialog);
        leg.owed.retain(|owed| owed.dialog != dialog);
        self.dialogs.remove(dialog);
        true
    }

    /// A re-INVITE is never a new call (14.2).
    fn reinvite(
        &mut self,
        now: Instant,
        dialog: DialogKey,
        key: LegKey,
        server: ServerKey,
        request: &Message,
        flow: Option<Flow>,
    ) {
        if check_body(request).is_err() {
            return self
                .reply(now, server, 415, |builder| builder.header(Name::Accept, super::headers::ACCEPT));
        }
        match self.legs.get(key).map(judge_invite) {
            None => self.reply(now, server, 481, |builder| builder),
            Some(Verdict::Busy) => self.retry_later(now, server),
            Some(Verdict::Glare) => self.reply(now, server, 491, |builder| builder),
            Some(Verdict::Ask) => {
                self.send_trying(now, server);
                self.ask(now, dialog, key, server, request, flow);
            }
        }
    }

    /// UPDATE with an offer is the application's, without one it only refreshes the target (RFC 3311 5.2).
    fn update(
        &mut self,
        now: Instant,
        dialog: DialogKey,
        key: LegKey,
        server: ServerKey,
        request: &Message,
        flow: Option<Flow>,
    ) {
        if check_body(request).is_err() {
            return self
                .reply(now, server, 415, |builder| builder.header(Name::Accept, super::headers::ACCEPT));
        }
        if request.body().is_empty() {
            self.refresh_flow(dialog, flow);
            self.refresh_target(dialog, target_of(request));
            return self.accept_update(now, dialog, key, server);
        }
        let settled = self.dialogs.get(dialog).is_some_and(|dialog| dialog.settled);
        match self.legs.get(key).map(|leg| judge_update(leg, settled)) {
            None => self.reply(now, server, 481, |builder| builder),
            Some(Verdict::Busy) => self.retry_later(now, server),
            Some(Verdict::Glare) => self.reply(now, server, 491, |builder| builder),
            Some(Verdict::Ask) => {
                self.servers.pending(&mut self.io, now, server);
                self.ask(now, dialog, key, server, request, flow);
            }
        }
    }

    /// 500 with a random Retry-After of up to ten seconds (14.2).
    pub(super) fn retry_later(&mut self, now: Instant, server: ServerKey) {
        let seconds = self.ident.within(&(0..=10)).to_string();
        self.reply(now, server, 500, |builder| builder.header(Name::RetryAfter, seconds));
    }

    /// Hands a re-INVITE or UPDATE to the application, which has [`TimerKind::Reoffer`] to answer.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        dialog: DialogKey,
        key: LegKey,
        server: ServerKey,
        request: &Message,
        flow: Option<Flow>,
    ) {
        let Some(leg) = self.legs.get_mut(key) else { return };
        let method = request.method().unwrap_or(Method::Invite);
        leg.reoffer = Some(Box::new(Reoffer {
            dialog,
            server,
            method,
            cseq: request.cseq_number(),
            late_offer: request.body().is_empty(),
            target: target_of(request).filter(|_| method != Method::Prack).map(Into::into),
            flow,
        }));
        self.start_timer(now, key, TimerKind::Reoffer);
        self.tell(key, Some(request), |leg, request| Event::Reoffer { leg, request });
    }

    /// Accepts the pending re-INVITE or UPDATE with 200.
    ///
    /// # Errors
    /// When there is none, or the response cannot be written; it then stays pending.
    pub fn answer_reoffer(&mut self, now: Instant, leg: LegId, body: Option<Body>) -> Result<(), Error> {
        let (key, server, method) = self.pending(leg, "answer a reoffer")?;
        let mut builder = self.dialog_response(key, server, 200, "").ok_or(Error::UnknownLeg(leg))?;
        if method != Method::Prack {
            builder = self.answer_session(now, key, server, builder, body.as_ref());
        }
        let bytes = builder.maybe_body(body.as_ref()).build()?;
        let Some(reoffer) = self.take_reoffer(now, key) else { return Ok(()) };
        self.refresh_flow(reoffer.dialog, reoffer.flow);
        self.refresh_target(reoffer.dialog, reoffer.target.as_deref());
        self.servers.respond(&mut self.io, now, server, 200, bytes);
        if method == Method::Invite {
            let unacked = Unacked { server, cseq: reoffer.cseq, late_offer: reoffer.late_offer };
            if let Some(leg) = self.legs.get_mut(key) {
                leg.unacked = Some(unacked);
            }
            self.await_ack(now, key);
        }
        if method == Method::Prack {
            self.after_prack(now, key);
        }
        Ok(())
    }

    /// Refuses the pending re-INVITE or UPDATE, 300 to 699; the session stays as it was (14.1).
    ///
    /// # Errors
    /// When there is none, or the response cannot be written; it then stays pending.
    pub fn reject_reoffer(
        &mut self,
        now: Instant,
        leg: LegId,
        status: u16,
        headers: &[(String, String)],
    ) -> Result<(), Error> {
        if !(300..700).contains(&status) {
            return Err(Error::Status(status));
        }
        check_headers(headers, &[])?;
        let (key, server, method) = self.pending(leg, "reject a reoffer")?;
        let builder = self.final_response(key, server, status, "").ok_or(Error::UnknownLeg(leg))?;
        let bytes = builder.headers(headers).build()?;
        self.take_reoffer(now, key);
        self.servers.respond(&mut self.io, now, server, status, bytes);
        if method == Method::Prack {
            self.after_prack(now, key);
        }
        Ok(())
    }

    /// Whether a re-INVITE or UPDATE of the peer still waits for our answer.
    #[must_use]
    pub fn is_asked(&self, leg: LegId) -> bool {
        self.pending(leg, "answer a reoffer").is_ok()
    }

    fn pending(&self, id: LegId, command: &'static str) -> Result<(LegKey, ServerKey, Method), Error> {
        let key = self.legs.find(id)?;
        let leg = self.legs.get(key).ok_or(Error::UnknownLeg(id))?;
        match &leg.reoffer {
            Some(reoffer) => Ok((key, reoffer.server, reoffer.method)),
            None => Err(Error::WrongState { command, state: leg.state.words() }),
        }
    }

    fn take_reoffer(&mut self, now: Instant, key: LegKey) -> Option<Box<Reoffer>> {
        self.with_timers(now, key, |timers, io| timers.stop(io, TimerKind::Reoffer));
        self.legs.get_mut(key)?.reoffer.take()
    }

    /// The application said nothing: 504 to UPDATE (RFC 3311 5.2), 500 to a re-INVITE.
    pub(super) fn reoffer_unanswered(&mut self, now: Instant, key: LegKey) {
        if let Some(reoffer) = self.take_reoffer(now, key) {
            let status = if reoffer.method == Method::Update { 504 } else { 500 };
            self.reply(now, reoffer.server, status, |builder| builder);
            self.tell_lapsed(key);
            self.after_prack(now, key);
        }
    }

    fn tell_lapsed(&mut self, key: LegKey) {
        if let Some(leg) = self.legs.get(key).filter(|leg| !leg.reported) {
            self.events.push_back(Event::ReofferLapsed { leg: leg.id });
        }
    }

    /// 15.1.2: what is pending when the dialog ends is answered 487.
    pub(super) fn drop_reoffer(&mut self, now: Instant, key: LegKey) {
        if let Some(reoffer) = self.take_reoffer(now, key) {
            self.reply(now, reoffer.server, 487, |builder| builder);
        }
    }

    /// CANCEL of a re-INVITE: only that ends (9.2).
    pub(super) fn cancel_reoffer(&mut self, now: Instant, key: LegKey, aim: ServerKey) {
        let pending = self.legs.get(key).and_then(|leg| leg.reoffer.as_ref());
        if pending.is_some_and(|reoffer| reoffer.server == aim) {
            self.drop_reoffer(now, key);
            self.tell_lapsed(key);
        }
    }

    fn refresh_flow(&mut self, dialog: DialogKey, flow: Option<Flow>) {
        if let Some((dialog, flow)) = self.dialogs.get_mut(dialog).zip(flow) {
            dialog.refresh_flow(flow);
        }
    }

    pub(super) fn refresh_target(&mut self, dialog: DialogKey, target: Option<&str>) {
        if let Some(dialog) = self.dialogs.get_mut(dialog) {
            dialog.refresh_target(target);
        }
        self.ask_next_hop(dialog);
    }

    fn accept_update(&mut self, now: Instant, dialog: DialogKey, key: LegKey, server: ServerKey) {
        let Some(contact) = self.dialogs.get(dialog).map(|dialog| dialog.contact.clone()) else { return };
        let Some(builder) = self.servers.reply(server, 200, "") else { return };
        let builder = builder.contact(&contact).header(Name::Allow, ALLOW);
        let builder = self.answer_session(now, key, server, builder, None);
        self.finish_reply(now, server, 200, builder);
    }
}

/// May this leg take a re-INVITE now (14.2)?
fn judge_invite(leg: &Leg) -> Verdict {
    match leg.state {
        State::Incoming => Verdict::Busy,
        State::Confirmed if leg.reoffer.is_some() => Verdict::Busy,
        State::Confirmed if leg.offers() => Verdict::Glare,
        // The peer has our 2xx, since it goes on, but its ACK is still under way (RFC 5407 3.1.4).
        State::Confirmed if leg.unacked.is_some() => Verdict::Glare,
        State::Confirmed => Verdict::Ask,
        _ => Verdict::Glare,
    }
}

/// May this leg take an UPDATE with an offer now (RFC 3311 5.2)? `settled`: the INVITE's offer has been answered early.
fn judge_update(leg: &Leg, settled: bool) -> Verdict {
    let our_offer_open = leg.unacked.is_some_and(|unacked| unacked.late_offer);
    match leg.state {
        _ if leg.reoffer.is_some() => Verdict::Busy,
        _ if leg.offers() => Verdict::Glare,
        State::Incoming if !settled => Verdict::Busy,
        State::Incoming => Verdict::Ask,
        State::Proceeding if settled => Verdict::Ask,
        State::Confirmed | State::Accepted if !our_offer_open => Verdict::Ask,
        _ => Verdict::Glare,
    }
}
