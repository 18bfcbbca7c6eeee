//! Being called: the INVITE, our responses to it, its CANCEL and its ACK (RFC 3261 13.3, 9.2).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::carry_out::Turn;
use super::headers::{ALLOW, BuilderExt, check_headers, check_value, supported};
use super::legs::{Invite, Leg, Unacked};
use super::refuse::Refusal;
use super::session::{Input, State};
use super::{Auth, Endpoint, LegKey, refresh, rel100};
use crate::dialog::{self, Dialog};
use crate::timer::TimerKind;
use crate::transaction::{Arrival, ServerKey};
use crate::write::host_port;
use crate::{Body, Builder, Cause, Ended, Error, Event, Flow, LegId, Message, Method, Name, Profile, Side};

impl Endpoint {
    /// An INVITE for a new call: 100 at once (17.2.1), the early dialog, the event.
    pub(super) fn new_call(
        &mut self,
        now: Instant,
        invite: &Message,
        arrival: Arrival,
        profile: &Arc<Profile>,
        user: Option<Arc<str>>,
    ) {
        if self.refusing.is_some() || self.is_full() {
            return self.overloaded(invite, arrival, profile);
        }
        let (tag, flow) = (self.ident.tag(), arrival.flow);
        if let Some(ground) = self.limited(now, profile) {
            return self.hold_back(invite, arrival, ground, profile);
        }
        let Some(mut dialog) = Dialog::uas(invite, &tag, flow, host_port(flow.local).into()) else {
            let refusal = Refusal::plain(400, "No usable Contact header field");
            return self.refuse(invite, arrival, &refusal, profile);
        };
        let replaces = match self.replaced_by(invite) {
            Ok(replaces) => replaces,
            Err(refusal) => return self.refuse(invite, arrival, &refusal, profile),
        };
        let id = (self.next_leg)();
        if self.legs.contains(id) {
            return self.overloaded(invite, arrival, profile);
        }
        let checked = refresh::check(invite, profile).and_then(|()| rel100::negotiate(invite, profile));
        let reliable = match checked {
            Ok(reliable) => reliable,
            Err(refusal) => return self.refuse(invite, arrival, &refusal, profile),
        };
        let server = self.servers.accept(invite, arrival, None);
        let key = self.legs.insert(Leg::new(id, State::Incoming, Invite::Received(server), profile));
        self.servers.set_user(server, key);
        dialog.auth = Auth::of(profile, flow.remote.ip());
        dialog.keeps_flow = profile.keeps_flow || user.is_some();
        let dialog = self.dialogs.insert(key, dialog);
        if let Some(leg) = self.legs.get_mut(key) {
            leg.dialogs.push(dialog);
        }
        if let Some(demanded) = reliable {
            self.begin_reliable(key, invite, demanded);
        }
        self.send_trying(now, server);
        if let Some(seconds) = invite.expires() {
            let after = Duration::from_secs(seconds.into());
            self.with_timers(now, key, |timers, io| timers.start_in(io, TimerKind::Expires, after));
        }
        self.events.push_back(Event::Incoming { leg: id, invite: invite.clone(), flow, user, replaces });
        self.ask_next_hop(dialog);
    }

    /// The profile of the registration that a call came by, for trunks that share an address.
    pub(super) fn registered_as(&self, invite: &Message, flow: Flow) -> Option<Arc<Profile>> {
        if self.registrations.is_empty() {
            return None;
        }
        self.registrations.called(invite.uri()?.user()?, flow.remote.ip()).cloned()
    }

    pub(super) fn send_trying(&mut self, now: Instant, server: ServerKey) {
        if let Some(Ok(trying)) = self.servers.reply(server, 100, "").map(Builder::build) {
            self.servers.respond(&mut self.io, now, server, 100, trying);
        }
    }

    /// What we advertise as Contact for an incoming leg, instead of the address its INVITE arrived at.
    pub fn set_contact(&mut self, leg: LegId, contact: String) {
        let dialog = self.legs.find(leg).ok().and_then(|key| self.legs.get(key)?.dialog());
        if let Some(dialog) = dialog.and_then(|key| self.dialogs.get_mut(key)) {
            dialog.contact = contact.into();
        }
    }

    /// Sends a provisional response, 101 to 199, and repeats it every minute (13.3.1.1). Where the peer wants it so, it
    /// is sent reliably (RFC 3262), and after those sent before.
    ///
    /// # Errors
    /// When the leg is not one that waits for our answer, or the response cannot be written.
    pub fn provisional(
        &mut self,
        now: Instant,
        leg: LegId,
        status: u16,
        body: Option<Body>,
    ) -> Result<(), Error> {
        if !(101..200).contains(&status) {
            return Err(Error::Status(status));
        }
        let (key, server) = self.incoming(leg, "send a provisional response")?;
        if self.provisional_reliably(now, key, server, status, body.as_ref())? {
            return Ok(());
        }
        let builder = self.dialog_response(key, server, status, "").ok_or(Error::UnknownLeg(leg))?;
        let bytes = builder.maybe_body(body.as_ref()).build()?;
        self.servers.respond(&mut self.io, now, server, status, bytes);
        self.start_timer(now, key, TimerKind::Refresh);
        Ok(())
    }

    /// Answers an incoming leg with 200, sent again until its ACK arrives. While a description waits for its PRACK, the
    /// 200 waits too (RFC 3262 3).
    ///
    /// # Errors
    /// When the leg is not one that waits for our answer, or the response cannot be written.
    pub fn answer(&mut self, now: Instant, leg: LegId, body: Option<Body>) -> Result<(), Error> {
        let (key, server) = self.incoming(leg, "answer")?;
        if let Some(body) = &body {
            check_value(Name::ContentType, &body.content_type)?;
        }
        let described = body.clone();
        let Some(body) = self.hold_answer(now, key, body) else { return Ok(()) };
        let builder = self.dialog_response(key, server, 200, "").ok_or(Error::UnknownLeg(leg))?;
        let builder = self.answer_session(now, key, server, builder, described.as_ref());
        let bytes = builder.maybe_body(body.as_ref()).build()?;
        let settled = self.dialog_settled(key);
        let unacked = self.servers.request(server).map(|invite| Unacked {
            server,
            cseq: invite.cseq_number(),
            late_offer: invite.body().is_empty() && !settled,
        });
        if let Some(leg) = self.legs.get_mut(key) {
            leg.unacked = unacked;
        }
        self.drive(now, key, Input::Answer, Turn { response: Some((200, bytes)), ..Turn::default() });
        Ok(())
    }

    /// Turns an incoming leg down with a final response, 300 to 699.
    ///
    /// # Errors
    /// When the leg is not one that waits for our answer, or the response cannot be written.
    pub fn reject(
        &mut self,
        now: Instant,
        leg: LegId,
        status: u16,
        reason: Option<&str>,
        headers: &[(String, String)],
    ) -> Result<(), Error> {
        if !(300..700).contains(&status) {
            return Err(Error::Status(status));
        }
        check_headers(headers, &[])?;
        let (key, server) = self.incoming(leg, "reject")?;
        let phrase = reason.unwrap_or_default();
        let builder = self.final_response(key, server, status, phrase).ok_or(Error::UnknownLeg(leg))?;
        let bytes = builder.headers(headers).build()?;
        let phrase = reason.map_or_else(|| crate::StatusCode(status).reason().to_owned(), str::to_owned);
        let ended = Ended { by: Side::Local, cause: Cause::Rejected, status: Some(status), reason: phrase };
        self.drive(
            now,
            key,
            Input::Reject,
            Turn { response: Some((status, bytes)), ended: Some(ended), message: None },
        );
        Ok(())
    }

    /// Whether offer and answer have been exchanged before the INVITE's final response.
    pub(super) fn dialog_settled(&self, key: LegKey) -> bool {
        let dialog = self.legs.get(key).and_then(Leg::dialog).and_then(|key| self.dialogs.get(key));
        dialog.is_some_and(|dialog| dialog.settled)
    }

    /// A leg whose INVITE waits for us, with its transaction.
    fn incoming(&self, id: LegId, command: &'static str) -> Result<(LegKey, ServerKey), Error> {
        let key = self.legs.find(id)?;
        let leg = self.legs.get(key).ok_or(Error::UnknownLeg(id))?;
        match (leg.state, leg.invite) {
            (State::Incoming, Invite::Received(_)) if Self::is_held(leg) => {
                Err(Error::WrongState { command, state: "answered and waiting for PRACK" })
            }
            (State::Incoming, Invite::Received(server)) => Ok((key, server)),
            _ => Err(Error::WrongState { command, state: leg.state.words() }),
        }
    }

    /// Begins a response that makes, or belongs to, the leg's dialog: tag, Record-Route and Contact (12.1.1).
    pub(super) fn dialog_response(
        &self,
        key: LegKey,
        server: ServerKey,
        status: u16,
        reason: &str,
    ) -> Option<Builder> {
        let leg = self.legs.get(key)?;
        let dialog = self.dialogs.get(leg.dialog()?)?;
        Some(
            self.final_response(key, server, status, reason)?
                .copy(Name::RecordRoute, self.servers.request(server)?)
                .contact(&dialog.contact)
                .safe(Name::Allow, ALLOW)
                .safe(Name::Supported, supported(&leg.profile)),
        )
    }

    /// Begins a response of the leg that makes no dialog.
    pub(super) fn final_response(
        &self,
        key: LegKey,
        server: ServerKey,
        status: u16,
        reason: &str,
    ) -> Option<Builder> {
        let dialog = self.dialogs.get(self.legs.get(key)?.dialog()?)?;
        let builder = self.servers.reply(server, status, reason)?.to_tag(dialog.local_tag());
        Some(builder.safe(Name::Server, &self.user_agent))
    }

    /// The refusal of a leg hung up before it was answered, with the Reason given.
    pub(super) fn temporarily_unavailable(&self, key: LegKey) -> Option<(u16, Bytes)> {
        let leg = self.legs.get(key)?;
        let builder = self.final_response(key, leg.received()?, 480, "")?;
        Some((480, builder.maybe(Name::Reason, leg.reason.as_deref()).build().ok()?))
    }

    /// A plain refusal of the leg's INVITE.
    fn refusal(&self, key: LegKey, status: u16) -> Option<(u16, Bytes)> {
        let server = self.legs.get(key)?.received()?;
        Some((status, self.final_response(key, server, status, "")?.build().ok()?))
    }

    /// CANCEL: answered itself, and the INVITE it aims at answered 487 unless that has been answered (9.2).
    pub(super) fn cancel(&mut self, now: Instant, cancel: &Message, arrival: Arrival, profile: &Profile) {
        let Some(aim) = self.servers.cancelled_by(cancel) else {
            return self.refuse(cancel, arrival, &Refusal::plain(481, ""), profile);
        };
        let leg = self.servers.user(aim);
        self.answer_cancel(now, cancel, arrival, leg);
        let Some(key) = leg else { return };
        if self.legs.get(key).is_some_and(|leg| leg.invite == Invite::Received(aim)) {
            self.end_by_peer(now, key, Input::Cancel, Cause::Cancel, cancel);
        } else {
            self.cancel_reoffer(now, key, aim);
        }
    }

    /// 200 to a CANCEL, with the To tag the INVITE's responses have (9.2).
    fn answer_cancel(&mut self, now: Instant, cancel: &Message, arrival: Arrival, leg: Option<LegKey>) {
        let dialog = leg.and_then(|key| self.dialogs.get(self.legs.get(key)?.dialog()?));
        let tag = dialog.map_or_else(|| self.prints.tag(cancel), |dialog| dialog.local_tag().to_owned());
        let server = self.servers.accept(cancel, arrival, None);
        let reply = self.servers.reply(server, 200, "").map(|builder| builder.to_tag(&tag).build());
        if let Some(Ok(bytes)) = reply {
            self.servers.respond(&mut self.io, now, server, 200, bytes);
        }
    }

    /// CANCEL or BYE of the peer: a pending INVITE is answered 487 (9.2, 15.1.2), the leg ends.
    pub(super) fn end_by_peer(
        &mut self,
        now: Instant,
        key: LegKey,
        input: Input,
        cause: Cause,
        request: &Message,
    ) {
        let reason = request.header(Name::Reason).unwrap_or_default().to_owned();
        let response = match self.legs.get(key).map(|leg| leg.state) {
            Some(State::Incoming) => self.refusal(key, 487),
            _ => None,
        };
        let status = response.as_ref().map(|(status, _)| *status);
        let ended = Ended { by: Side::Remote, cause, status, reason };
        self.drive(now, key, input, Turn { response, ended: Some(ended), message: Some(request) });
    }

    /// Expires of the INVITE has run out (13.3.1).
    pub(super) fn expired(&mut self, now: Instant, key: LegKey) {
        let response = self.refusal(key, 487);
        let turn = Turn { response, ..Turn::ended(super::timeout(Some(487))) };
        self.drive(now, key, Input::Expired, turn);
    }

    /// The 2xx has just left: repeat it until the ACK, give up after 64*T1 (13.3.1.4).
    pub(super) fn await_ack(&mut self, now: Instant, key: LegKey) {
        let dialog = self.legs.get(key).and_then(Leg::dialog);
        if let Some(dialog) = dialog.and_then(|key| self.dialogs.get_mut(key)) {
            dialog.state = dialog::State::Confirmed;
        }
        self.with_timers(now, key, |timers, io| {
            timers.stop(io, TimerKind::Refresh);
            timers.stop(io, TimerKind::Expires);
            timers.start(io, TimerKind::Resend2xx);
            timers.start(io, TimerKind::AckWait);
        });
    }

    pub(super) fn resend_success(&mut self, now: Instant, key: LegKey, last: Duration) {
        let Some(unacked) = self.legs.get(key).and_then(|leg| leg.unacked) else { return };
        self.servers.repeat(&mut self.io, now, unacked.server, 200);
        self.with_timers(now, key, |timers, io| timers.escalate(io, TimerKind::Resend2xx, last));
    }

    pub(super) fn resend_provisional(&mut self, now: Instant, key: LegKey) {
        let leg = self.legs.get(key).filter(|leg| leg.state == State::Incoming);
        let Some(server) = leg.and_then(Leg::received) else { return };
        if self.refresh_reliable(now, key, server) {
            return;
        }
        self.servers.repeat(&mut self.io, now, server, 180);
        self.start_timer(now, key, TimerKind::Refresh);
    }

    /// The ACK of a 2xx, found by its dialog (13.3.1.4); one for a 2xx acknowledged already is a repetition.
    pub(super) fn success_ack(&mut self, now: Instant, ack: &Message) {
        let dialog = self.dialogs.of_request(ack).and_then(|key| self.dialogs.get(key));
        let Some(key) = dialog.map(|dialog| dialog.leg).filter(|key| self.legs.get(*key).is_some()) else {
            self.io.stats.dropped.stray_ack += 1;
            return;
        };
        let number = ack.cseq_number();
        let Some(leg) = self.legs.get_mut(key) else { return };
        let Some(unacked) = leg.unacked.take_if(|unacked| unacked.cseq == number) else {
            self.io.stats.retransmissions_in += 1;
            return;
        };
        let first = leg.state != State::Confirmed;
        self.servers.forget_success(unacked.server);
        self.with_timers(now, key, |timers, io| {
            timers.stop(io, TimerKind::Resend2xx);
            timers.stop(io, TimerKind::AckWait);
        });
        let message = (first || !ack.body().is_empty()).then_some(ack);
        self.drive(now, key, Input::Ack, Turn { message, ..Turn::default() });
    }

    /// Our responses do not get through: a call that waits for us is given up. The transaction of an INVITE stays for
    /// its copies (RFC 6026 figure 7), so a re-INVITE can still be answered.
    pub(super) fn response_undeliverable(&mut self, now: Instant, key: LegKey, server: ServerKey) {
        let Some(leg) = self.legs.get_mut(key) else { return };
        if leg.invite == Invite::Received(server) {
            let response = self.refusal(key, 500);
            let turn = Turn { response, ..Turn::ended(super::undeliverable(&self.breakage)) };
            self.drive(now, key, Input::TransportError, turn);
        } else if leg
            .reoffer
            .as_ref()
            .is_some_and(|open| open.server == server && open.method != Method::Invite)
        {
            leg.reoffer = None;
            self.with_timers(now, key, |timers, io| timers.stop(io, TimerKind::Reoffer));
            self.after_prack(now, key);
        }
    }
}
