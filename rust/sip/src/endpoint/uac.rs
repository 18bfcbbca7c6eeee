//! Calling out: INVITE, its responses and forks, CANCEL, BYE (RFC 3261 13.2, 9.1, 15.1.1).

use std::time::Instant;

use super::carry_out::Turn;
use super::failover::unavailable;
use super::headers::{ALLOW, BuilderExt, check_headers, check_value, wrote};
use super::legs::{Invite, Leg, Owed, Tries};
use super::session::{Input, State};
use super::{Auth, Endpoint, LegKey};
use crate::dialog::{self, Dialog, DialogKey, Draft};
use crate::header::NameAddr;
use crate::timer::TimerKind;
use crate::transaction::{ClientKey, Request, User};
use crate::{
    Body, Builder, Cause, Dial, Ended, Error, Event, LegId, Message, Method, Name, Side, Transmit, Uri,
};

/// How many forks of one INVITE are followed; a proxy that forks more widely than this is no proxy.
pub(super) const MAX_FORKS: usize = 16;

impl Endpoint {
    /// Calls somebody: INVITE leaves, and the leg's events follow.
    ///
    /// # Errors
    /// When the leg exists, the tables are full, or the INVITE cannot be written.
    pub fn dial(&mut self, now: Instant, leg: LegId, dial: Dial) -> Result<(), Error> {
        if self.legs.contains(leg) {
            return Err(Error::DuplicateLeg(leg));
        }
        if self.is_full() {
            return Err(Error::Full);
        }
        if self.is_trunk_full(&dial.profile) {
            return Err(Error::TrunkFull(dial.profile.admission.max_calls.unwrap_or_default()));
        }
        check_dial(&dial)?;
        let (branch, call_id, tag) = (self.ident.branch(), self.ident.call_id(), self.ident.tag());
        let draft = Draft {
            flow: dial.flow,
            contact: &dial.contact,
            call_id: &call_id,
            tag: &tag,
            from: &[&dial.from, ";tag=", &tag].concat(),
            request_uri: &dial.request_uri,
            cseq: 1,
        };
        let bytes = self.write_invite(&dial, &draft, &branch).build()?;
        // The leg is filed first, since the transaction names it; the real key of the INVITE follows at once.
        let key = self.legs.insert(Leg::new(
            leg,
            State::Calling,
            Invite::Sent(ClientKey::default()),
            &dial.profile,
        ));
        let tries = Tries::new(&bytes, dial.others, dial.elsewhere);
        let request =
            Request { method: Method::Invite, branch, bytes, flow: dial.flow, user: User::Invite(key) };
        let client = self.clients.send(&mut self.io, now, request);
        if let Some(leg) = self.legs.get_mut(key) {
            leg.invite = Invite::Sent(client);
            leg.draft = Some(Box::new(Dialog::draft(&draft)));
            leg.expects_offer = dial.body.is_none();
            leg.auth = Auth::of(&dial.profile, dial.flow.remote.ip());
            leg.tries = tries;
        }
        self.be_patient(now, key);
        self.with_timers(now, key, |timers, io| timers.start_in(io, TimerKind::NoAnswer, dial.timeout));
        Ok(())
    }

    fn write_invite(&self, dial: &Dial, draft: &Draft<'_>, branch: &str) -> Builder {
        let own = |name, value| (!wrote(&dial.headers, name)).then_some(value);
        Builder::request(Method::Invite, &dial.request_uri)
            .via(dial.flow.transport, &dial.contact, branch)
            .maybe(Name::MaxForwards, own(Name::MaxForwards, "70"))
            .routed(self.preloaded(dial))
            .header(Name::From, draft.from)
            .header(Name::To, &dial.to)
            .safe(Name::CallId, draft.call_id)
            .safe(Name::Cseq, "1 INVITE")
            .contact(&dial.contact)
            .maybe(Name::Allow, own(Name::Allow, ALLOW))
            .maybe(Name::UserAgent, own(Name::UserAgent, &self.user_agent))
            .extensions(&dial.profile)
            .headers(&dial.headers)
            .maybe_body(dial.body.as_ref())
    }

    /// The route that the registrar of a trunk gave for calls by it (RFC 3608 6.1).
    fn preloaded(&self, dial: &Dial) -> &[Box<str>] {
        if self.registrations.is_empty() || wrote(&dial.headers, Name::Route) {
            return &[];
        }
        self.registrations.service_route(&dial.profile.name)
    }

    /// The Call-ID of a leg, for records of the call.
    #[must_use]
    pub fn call_id(&self, leg: LegId) -> Option<&str> {
        let leg = self.legs.get(self.legs.find(leg).ok()?)?;
        let dialog = leg.dialog().and_then(|key| self.dialogs.get(key)).or(leg.draft.as_deref())?;
        Some(dialog.call_id())
    }

    /// Ends a leg, whatever its state: CANCEL, BYE or a final response. `reason` is the value of a Reason header
    /// (RFC 3326). [`Event::Ended`] follows at once; what the protocol still has to do goes on behind it. A leg that
    /// has ended already is left alone.
    ///
    /// # Errors
    /// When `reason` holds control characters.
    pub fn hangup(&mut self, now: Instant, leg: LegId, reason: Option<&str>) -> Result<(), Error> {
        check_value(Name::Reason, reason.unwrap_or_default())?;
        let Ok(key) = self.legs.find(leg) else { return Ok(()) };
        let Some(leg) = self.legs.get_mut(key) else { return Ok(()) };
        leg.reason = reason.map(Into::into);
        let ended = hung_up(leg.state, reason);
        let response = match leg.state {
            State::Incoming => self.temporarily_unavailable(key),
            _ => None,
        };
        self.drive(now, key, Input::Hangup, Turn { response, ended: Some(ended), message: None });
        Ok(())
    }

    /// A response to the INVITE of a leg, which may be gone.
    pub(super) fn invite_response(&mut self, now: Instant, leg: LegKey, key: ClientKey, response: &Message) {
        let Some(status) = response.status() else { return };
        self.target_answered(leg);
        if status.0 == 503 && self.fail_over(now, leg, key, unavailable(response)) {
            return;
        }
        if status.0 == 422 && self.ask_longer(now, leg, key, response) {
            return;
        }
        let turn = Turn { message: Some(response), ..Turn::default() };
        if status.is_provisional() {
            self.drive(now, leg, Input::Provisional, turn);
        } else if status.is_success() {
            self.invite_success(now, leg, key, response);
        } else {
            self.drive(now, leg, Input::Failure, Turn { ended: Some(rejected(status.0, response)), ..turn });
        }
    }

    /// 13.2.2.4: every 2xx gets its ACK, a retransmitted one the same again; the first one wins.
    fn invite_success(&mut self, now: Instant, leg: LegKey, key: ClientKey, response: &Message) {
        let tag = response.to_tag().unwrap_or_default();
        if self.owes_ack(leg, key, tag) || self.clients.acknowledge_again(&mut self.io, key, tag) {
            self.io.stats.retransmissions_in += 1;
        } else if self.clients.forks(key) >= MAX_FORKS {
            self.io.stats.dropped.too_many_forks += 1;
        } else if self.legs.get(leg).is_some() {
            let turn = Turn { message: Some(response), ..Turn::default() };
            self.drive(now, leg, Input::Success, turn);
        } else {
            self.acknowledge_and_leave(now, leg, key, response);
        }
    }

    /// A provisional response other than 100, with the early dialog it makes (12.1.2).
    pub(super) fn progress(&mut self, now: Instant, key: LegKey, response: Option<&Message>) {
        let Some(response) =
            response.filter(|response| response.status().is_some_and(|status| status.0 > 100))
        else {
            return;
        };
        let client = self.legs.get(key).and_then(Leg::sent);
        let mut settled = false;
        if let (Some(client), Some(_)) = (client, response.to_tag()) {
            let dialog = self.leg_dialog(key, client, response);
            settled = dialog.and_then(|dialog| self.dialogs.get(dialog)).is_some_and(|dialog| dialog.settled);
            if response.has(Name::RSeq)
                && !dialog.is_some_and(|dialog| self.take_reliable(now, key, dialog, response))
            {
                return;
            }
        }
        self.tell(key, Some(response), |leg, response| Event::Progress { leg, response, settled });
    }

    /// The first 2xx: its dialog is the leg's, the early ones of other forks are forgotten.
    pub(super) fn confirm(&mut self, now: Instant, key: LegKey, response: Option<&Message>) {
        let Some((client, response)) = self.legs.get(key).and_then(Leg::sent).zip(response) else { return };
        self.with_timers(now, key, |timers, io| timers.stop(io, TimerKind::NoAnswer));
        let Some(dialog) = self.leg_dialog(key, client, response) else { return };
        if let Some(leg) = self.legs.get_mut(key) {
            let others = std::mem::take(&mut leg.dialogs);
            leg.dialogs.push(dialog);
            leg.owed.retain(|owed| owed.dialog == dialog);
            others.into_iter().filter(|other| *other != dialog).for_each(|other| self.dialogs.remove(other));
        }
        let asked = self.legs.get(key).is_some_and(|leg| leg.expects_offer);
        let settled = self.dialogs.get(dialog).is_some_and(|dialog| dialog.settled);
        let owed = Owed { client, dialog, cseq: response.cseq_number(), rseq: None };
        self.session_answered(now, key, Some(client), None, response);
        match asked && !settled && !response.body().is_empty() {
            true => self.owe(now, key, owed),
            false => self.send_ack(client, dialog, owed.cseq, None),
        }
    }

    /// A 2xx that came too late, for a leg that still exists.
    pub(super) fn unwanted_success(&mut self, now: Instant, key: LegKey, response: Option<&Message>) {
        if let Some((client, response)) = self.legs.get(key).and_then(Leg::sent).zip(response) {
            self.acknowledge_and_leave(now, key, client, response);
        }
    }

    fn acknowledge_and_leave(&mut self, now: Instant, leg: LegKey, client: ClientKey, response: &Message) {
        let known = self.dialogs.of_response(response);
        let Some(dialog) = self.response_dialog(leg, client, known, response) else { return };
        self.send_ack(client, dialog, response.cseq_number(), None);
        let reason = self.legs.get(leg).and_then(|leg| leg.reason.clone());
        self.send_bye(now, dialog, reason.as_deref());
    }

    /// The dialog of a response, filed with its leg. `None` when the leg has as many as it may.
    fn leg_dialog(&mut self, key: LegKey, client: ClientKey, response: &Message) -> Option<DialogKey> {
        let known = self.dialogs.of_response(response);
        let full = self.legs.get(key)?.dialogs.len() >= MAX_FORKS;
        let provisional = response.status().is_some_and(|status| status.is_provisional());
        if known.is_none() && full && provisional {
            self.io.stats.dropped.too_many_forks += 1;
            return None;
        }
        let dialog = self.response_dialog(key, client, known, response)?;
        let leg = self.legs.get_mut(key)?;
        if !leg.dialogs.contains(&dialog) {
            leg.dialogs.push(dialog);
        }
        Some(dialog)
    }

    /// The dialog of a response to an INVITE of ours, made if it is new, brought up to date if it is not.
    fn response_dialog(
        &mut self,
        leg: LegKey,
        client: ClientKey,
        known: Option<DialogKey>,
        response: &Message,
    ) -> Option<DialogKey> {
        let key = match known {
            Some(key) => {
                self.dialogs.get_mut(key)?.learn(response);
                key
            }
            None => {
                let dialog = self.draft(leg, client)?.met(response)?;
                self.dialogs.insert(leg, dialog)
            }
        };
        let dialog = self.dialogs.get_mut(key)?;
        dialog.flow.connection =
            self.clients.connection(client, dialog.flow.transport).or(dialog.flow.connection);
        if response.status().is_some_and(|status| status.is_success()) && dialog.state == dialog::State::Early
        {
            dialog.state = dialog::State::Confirmed;
        }
        self.ask_next_hop(key);
        Some(key)
    }

    /// A dialog without its remote half: kept since the INVITE for the first response, read from the INVITE for forks.
    pub(super) fn draft(&mut self, leg: LegKey, client: ClientKey) -> Option<Dialog> {
        let Some(leg) = self.legs.get_mut(leg).filter(|leg| leg.sent() == Some(client)) else {
            return self.draft_of(client);
        };
        let (auth, keeps_flow) = (leg.auth.clone(), leg.profile.keeps_flow);
        let mut dialog = match leg.draft.take() {
            Some(draft) => *draft,
            None => self.draft_of(client)?,
        };
        (dialog.auth, dialog.keeps_flow) = (auth, keeps_flow);
        Some(dialog)
    }

    /// The same of an INVITE whose leg has gone on to another target or is gone, and has left its profile.
    pub(super) fn draft_of(&self, client: ClientKey) -> Option<Dialog> {
        let (invite, flow) = self.clients.sent(&self.io, client)?;
        let mut dialog = Dialog::draft_of(&invite, self.clients.request_uri(client), flow)?;
        if let Some(profile) = self.clients.profile(client) {
            dialog.auth = Auth::of(profile, flow.remote.ip());
            dialog.keeps_flow = profile.keeps_flow;
        }
        Some(dialog)
    }

    /// The ACK of a 2xx, along the dialog (13.2.2.4).
    pub(super) fn send_ack(
        &mut self,
        client: ClientKey,
        dialog: DialogKey,
        number: u32,
        body: Option<&Body>,
    ) {
        let branch = self.ident.branch();
        let Some(dialog) = self.dialogs.get(dialog) else { return };
        let (builder, flow) = dialog.ack(number, &branch);
        match builder.safe(Name::UserAgent, &self.user_agent).maybe_body(body).build() {
            Ok(payload) => {
                let tag = dialog.remote_tag();
                self.clients.acknowledge(&mut self.io, client, tag, Transmit { flow, payload });
            }
            Err(_) => self.io.stats.dropped.unbuildable += 1,
        }
    }

    /// CANCEL of the leg's INVITE (9.1).
    pub(super) fn send_cancel(&mut self, now: Instant, key: LegKey) {
        let Some(leg) = self.legs.get(key) else { return };
        let (Some(client), reason) = (leg.sent(), leg.reason.clone()) else { return };
        self.send_cancel_of(now, client, reason.as_deref());
        self.with_timers(now, key, |timers, io| timers.stop(io, TimerKind::NoAnswer));
        self.start_timer(now, key, TimerKind::CancelWait);
    }

    /// BYE in the leg's dialog.
    pub(super) fn leave(&mut self, now: Instant, key: LegKey) {
        self.settle_acks(now, key);
        let Some((id, dialog, reason)) =
            self.legs.get(key).and_then(|leg| Some((leg.id, leg.dialog()?, leg.reason.clone())))
        else {
            return;
        };
        if !self.leaves_later(now, id, dialog, reason.as_deref()) {
            self.send_bye(now, dialog, reason.as_deref());
        }
    }

    /// BYE in a dialog (15.1.1), which then only waits for the answer.
    pub(super) fn send_bye(&mut self, now: Instant, key: DialogKey, reason: Option<&str>) {
        let branch = self.ident.branch();
        let Some(dialog) = self.dialogs.get_mut(key) else { return };
        dialog.state = dialog::State::Closing;
        let (builder, flow) = dialog.request(Method::Bye, &branch, None);
        match builder.safe(Name::UserAgent, &self.user_agent).maybe(Name::Reason, reason).build() {
            Ok(bytes) => {
                let request = Request { method: Method::Bye, branch, bytes, flow, user: User::Bye(key) };
                self.clients.send(&mut self.io, now, request);
            }
            Err(_) => {
                self.io.stats.dropped.unbuildable += 1;
                self.dialogs.remove(key);
            }
        }
    }
}

/// Refuses what could not be written, or would not be understood, before anything is filed.
fn check_dial(dial: &Dial) -> Result<(), Error> {
    check_headers(&dial.headers, &[Name::Contact])?;
    Uri::parse(&dial.request_uri)?;
    NameAddr::parse(&dial.from)?;
    NameAddr::parse(&dial.to)?;
    Ok(())
}

/// How a leg ends that is hung up here.
fn hung_up(state: State, reason: Option<&str>) -> Ended {
    let (cause, status) = match state {
        State::Calling | State::Proceeding => (Cause::Cancel, None),
        State::Incoming => (Cause::Rejected, Some(480)),
        _ => (Cause::Bye, None),
    };
    Ended { by: Side::Local, cause, status, reason: reason.unwrap_or_default().to_owned() }
}

/// How a leg ends that the peer turned down.
fn rejected(status: u16, response: &Message) -> Ended {
    Ended {
        by: Side::Remote,
        cause: Cause::Rejected,
        status: Some(status),
        reason: response.reason().to_owned(),
    }
}
