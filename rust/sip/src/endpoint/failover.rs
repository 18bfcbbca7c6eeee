//! The next target: what our INVITE does when a place is silent, unreachable or unavailable (RFC 3263 4.3).
//!
//! Each try is a client transaction of its own, with a new branch and the next CSeq under the same Call-ID and From
//! tag (RFC 3261 8.1.3.5 does the same after a challenge). A target that rang a telephone has been reached; there is
//! no going on from it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slotmap::{Key, KeyData};

use super::carry_out::Turn;
use super::headers::BuilderExt;
use super::legs::Invite;
use super::receive::unreachable;
use super::session::{Input, State};
use super::uac::MAX_FORKS;
use super::{Auth, Endpoint, LegKey};
use crate::dialog::{Dialog, DialogKey};
use crate::timer::TimerKind;
use crate::transaction::{ClientKey, Request, User};
use crate::{Builder, Event, Failure, Flow, Message, Method, Name, Target};

/// What a copy of the INVITE does not take over: the endpoint writes it anew, and credentials were made for the
/// target before (RFC 3261 22.2).
const NOT_COPIED: [Name; 7] = [
    Name::Via,
    Name::Cseq,
    Name::Contact,
    Name::ContentLength,
    Name::ContentType,
    Name::Authorization,
    Name::ProxyAuthorization,
];

impl Endpoint {
    /// Starts the wait for the first word of a target that others may replace.
    pub(super) fn be_patient(&mut self, now: Instant, key: LegKey) {
        let Some(leg) =
            self.legs.get(key).filter(|leg| leg.tries.as_ref().is_some_and(|tries| tries.are_left()))
        else {
            return;
        };
        let patience = leg.profile.failover.patience;
        self.with_timers(now, key, |timers, io| timers.start_in(io, TimerKind::Patience, patience));
    }

    /// The target has said something, so it is there.
    pub(super) fn target_answered(&mut self, key: LegKey) {
        if let Some(leg) = self.legs.get_mut(key).filter(|leg| leg.tries.is_some()) {
            leg.timers.stop(&mut self.io.timers, TimerKind::Patience);
        }
    }

    /// A request has left by UDP instead of TCP: its target has the whole time from here.
    pub(super) fn fell_back(&mut self, now: Instant, user: User) {
        if let User::Invite(leg) = user {
            self.be_patient(now, leg);
        }
    }

    /// Not a word in time: the next target is tried, here or by the owner. Should the old one speak after all, it is
    /// sent away.
    pub(super) fn out_of_patience(&mut self, now: Instant, key: LegKey) {
        let Some(leg) = self.legs.get(key).filter(|leg| leg.state == State::Calling) else { return };
        let (Some(client), profile) = (leg.sent(), Arc::clone(&leg.profile)) else { return };
        if !self.fail_over(now, key, client, Failure::Silent) {
            self.drive(now, key, Input::Unreachable, Turn::ended(unreachable()));
        }
        self.clients.retire(&mut self.io, client, User::Former(key));
        self.clients.leave_profile(client, profile);
    }

    /// Tells of a failed target and sends the INVITE to the next. False if there is none, or if it is too late.
    pub(super) fn fail_over(
        &mut self,
        now: Instant,
        key: LegKey,
        client: ClientKey,
        failure: Failure,
    ) -> bool {
        let Some(flow) = self.leg_flow(key) else { return false };
        let Some(leg) = self.legs.get_mut(key) else { return false };
        if !matches!(leg.state, State::Calling | State::Proceeding) || leg.sent() != Some(client) {
            return false;
        }
        let profile = Arc::clone(&leg.profile.name);
        self.events.push_back(Event::TargetFailed { leg: leg.id, profile, flow, failure });
        if !leg.dialogs.is_empty() {
            return false;
        }
        while let Some((invite, target)) = self.next_try(key) {
            if self.invite_again(now, key, &invite, &target).is_some() {
                return true;
            }
        }
        false
    }

    fn next_try(&mut self, key: LegKey) -> Option<(Message, Target)> {
        let tries = self.legs.get_mut(key)?.tries.as_mut()?;
        let invite = Message::parse(tries.invite.clone(), &self.io.limits).ok()?;
        Some((invite, tries.others.next()?))
    }

    fn invite_again(&mut self, now: Instant, key: LegKey, invite: &Message, target: &Target) -> Option<()> {
        let cseq = self.legs.get(key)?.draft.as_ref()?.local_cseq().wrapping_add(1);
        let branch = self.ident.branch();
        let Ok(bytes) = copy_of(invite, target, cseq, &branch).build() else {
            self.io.stats.dropped.unbuildable += 1;
            return None;
        };
        let sent = Message::parse(bytes.clone(), &self.io.limits).ok()?;
        let draft = Dialog::draft_of(&sent, None, target.flow)?;
        let request =
            Request { method: Method::Invite, branch, bytes, flow: target.flow, user: User::Invite(key) };
        let client = self.clients.send(&mut self.io, now, request);
        let leg = self.legs.get_mut(key)?;
        leg.auth = Auth::of(&leg.profile, target.flow.remote.ip());
        (leg.state, leg.invite, leg.draft) = (State::Calling, Invite::Sent(client), Some(Box::new(draft)));
        self.be_patient(now, key);
        Some(())
    }

    /// A response to an INVITE that the leg has gone on from: it is cancelled, or acknowledged and left (9.1,
    /// 13.2.2.4).
    pub(super) fn former_response(
        &mut self,
        now: Instant,
        leg: LegKey,
        client: ClientKey,
        response: &Message,
    ) {
        let Some(status) = response.status() else { return };
        if status.is_provisional() {
            self.cancel_former(now, client);
        } else if status.is_success() {
            let tag = response.to_tag().unwrap_or_default();
            let known = self.clients.acknowledge_again(&mut self.io, client, tag);
            if !known && self.clients.forks(client) < MAX_FORKS {
                self.acknowledge_former(now, leg, client, response);
            }
        }
    }

    /// The CANCEL of the INVITE's own branch is sent once; what it is answered with does not matter.
    fn cancel_former(&mut self, now: Instant, client: ClientKey) {
        let Some((invite, _)) = self.clients.sent(&self.io, client) else { return };
        if invite.branch().is_some_and(|branch| !self.clients.is_cancelled(branch)) {
            self.send_cancel_of(now, client, None);
            self.clients.limit(&mut self.io, now, client);
        }
    }

    fn acknowledge_former(&mut self, now: Instant, leg: LegKey, client: ClientKey, response: &Message) {
        let draft = self.draft(leg, client);
        let Some(dialog) = draft.and_then(|draft| draft.met(response)) else { return };
        let dialog = self.dialogs.insert(leg, dialog);
        self.send_ack(client, dialog, response.cseq_number(), None);
        self.send_bye(now, dialog, None);
    }

    /// Asks where the next hop of a dialog is, ahead of the request that will need it (RFC 3263 4 for 12.2.1.1).
    pub(super) fn ask_next_hop(&mut self, key: DialogKey) {
        let Some(dialog) = self.dialogs.get_mut(key) else { return };
        let Some(uri) = dialog.unasked() else { return };
        if let Some(leg) = self.legs.get(dialog.leg).filter(|leg| !leg.reported) {
            self.events.push_back(Event::NextHop { leg: leg.id, dialog: key.data().as_ffi(), uri });
        }
    }

    /// Where the next hop of a dialog leads, best first; a dialog that is over is left alone.
    pub fn next_hop_found(&mut self, dialog: u64, uri: &str, places: &[Flow]) {
        if let Some(dialog) = self.dialogs.get_mut(KeyData::from_ffi(dialog).into()) {
            dialog.found(uri, places);
        }
    }

    /// The way the messages of a leg go: that of its dialog, or of its INVITE.
    pub(super) fn leg_flow(&self, key: LegKey) -> Option<Flow> {
        let leg = self.legs.get(key)?;
        let dialog = leg.dialog().and_then(|key| self.dialogs.get(key)).or(leg.draft.as_deref())?;
        Some(dialog.flow)
    }
}

/// The INVITE for another target: its own way, branch, Contact and number, the rest as it was.
fn copy_of(invite: &Message, target: &Target, cseq: u32, branch: &str) -> Builder {
    let start = Builder::request(Method::Invite, invite.request_uri().unwrap_or_default())
        .via(target.flow.transport, &target.contact, branch)
        .contact(&target.contact)
        .cseq(cseq, Method::Invite);
    let copied = |name: &str| !NOT_COPIED.contains(&Name::from_token(name.as_bytes()));
    let all = invite.headers().filter(|(name, _)| copied(name));
    let builder = all.fold(start, |builder, (name, value)| builder.header_named(name, value));
    match invite.content_type() {
        Some(content_type) => builder.body(content_type, invite.body()),
        None => builder,
    }
}

/// What a 503 says of its target (21.5.4, 20.33).
pub(super) fn unavailable(response: &Message) -> Failure {
    let value = response.header(Name::RetryAfter).unwrap_or_default();
    let seconds = value.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok());
    Failure::Unavailable { retry_after: seconds.map(Duration::from_secs) }
}
