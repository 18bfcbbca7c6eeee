//! Being asked to call somebody else: REFER, and the notices of what comes of it (RFC 3515, 4488, 6665).
//!
//! A notice leaves only when the one before was answered, so that they arrive in order. A leg that is hung up says its
//! BYE after the last of them: who asked for a transfer learns how it went before the call is gone.

use std::time::{Duration, Instant};

use super::headers::{ALLOW, BuilderExt, check_value};
use super::referrals::{Notice, Role, Subscription, Telling, Then, sipfrag};
use super::session::State;
use super::{Endpoint, LegKey};
use crate::dialog::{self, DialogKey, target_of};
use crate::timer::TimerKind;
use crate::transaction::{ClientKey, ClientSignal, Request, ServerKey, User};
use crate::{Error, Event, LegId, Message, Method, Name, ReferTo, Referred, Replaces, StatusCode};

/// How long what a peer asked for may take; then its subscription ends without an outcome (RFC 6665 4.1.2.4).
pub(super) const LIFETIME: Duration = Duration::from_secs(300);
/// The longest Referred-By that is passed on.
const MAX_REFERRED_BY: usize = 1024;

impl Endpoint {
    /// REFER in a dialog: the application decides.
    pub(super) fn referred(
        &mut self,
        now: Instant,
        dialog: DialogKey,
        key: LegKey,
        server: ServerKey,
        request: &Message,
    ) {
        let Some(leg) = self.legs.get(key).filter(|leg| !leg.reported) else {
            return self.reply(now, server, 481, |builder| builder);
        };
        let (id, number) = (leg.id, request.cseq_number());
        let talks = matches!(leg.state, State::Accepted | State::Confirmed);
        if !talks || !self.referrals.has_room(id, number) {
            return self.reply(now, server, 491, |builder| builder);
        }
        match self.read_refer(request) {
            Ok(referred) => {
                self.refresh_target(dialog, target_of(request));
                let role = Role::Asked { server, subscribes: wants_notices(request) };
                self.referrals.insert(id, number, dialog, role);
                let answer_by = TimerKind::Reoffer.interval(&self.io.values, false).unwrap_or_default();
                self.referrals.schedule(id, number, now.checked_add(answer_by));
                self.servers.pending(&mut self.io, now, server);
                self.events.push_back(Event::Refer { leg: id, id: number, referred: Box::new(referred) });
            }
            Err((status, reason)) => self.reply_because(now, server, status, reason),
        }
    }

    /// 2.4.2: one Refer-To that can be called.
    fn read_refer(&self, request: &Message) -> Result<Referred, (u16, &'static str)> {
        let refer_to = ReferTo::of(request).map_err(|fault| (400, fault.what()))?;
        if !refer_to.is_callable {
            return Err((603, "Unsupported URI scheme in Refer-To"));
        }
        if refer_to.method != "INVITE" {
            return Err((603, "Only INVITE is sent by request"));
        }
        let replaces = match refer_to.header("Replaces") {
            Some(value) => {
                let named = Replaces::parse(value).map_err(|fault| (400, fault.what()))?;
                self.leg_named(&named).map(|leg| (leg, named.early_only))
            }
            None => None,
        };
        let referred_by = request.header(Name::ReferredBy).filter(|value| value.len() <= MAX_REFERRED_BY);
        let referred_by = referred_by.unwrap_or_default().to_owned();
        Ok(Referred { refer_to, referred_by, replaces })
    }

    /// Answers with a reason phrase of our own.
    fn reply_because(&mut self, now: Instant, server: ServerKey, status: u16, reason: &str) {
        if let Some(builder) = self.servers.reply(server, status, reason) {
            self.finish_reply(now, server, status, builder);
        }
    }

    /// Takes a REFER up: 202, and the first notice follows at once (2.4.4), unless the peer wants none (RFC 4488 4).
    ///
    /// # Errors
    /// When no such REFER waits for an answer.
    pub fn accept_refer(&mut self, now: Instant, leg: LegId, id: u32) -> Result<(), Error> {
        let (server, subscribes) = self.asked(leg, id)?;
        let contact = self.referrals.dialog(leg).and_then(|dialog| self.dialogs.get(dialog));
        let contact = contact.map(|dialog| dialog.contact.to_string()).unwrap_or_default();
        self.reply(now, server, 202, |builder| {
            let builder = builder.contact(&contact).safe(Name::Allow, ALLOW);
            if subscribes { builder } else { builder.safe(Name::ReferSub, "false") }
        });
        if !subscribes {
            self.finish_referral(now, leg, id);
            return Ok(());
        }
        let is_named = self.referrals.dialog(leg).is_some_and(|dialog| self.is_referred_again(dialog));
        if let Some(role) = self.referrals.get_mut(leg, id) {
            *role = Role::Telling(Telling { is_named, ..Telling::default() });
        }
        self.referrals.schedule(leg, id, now.checked_add(LIFETIME));
        self.tell_progress(now, leg, id, 100, "", Subscription::Active);
        Ok(())
    }

    /// Whether the dialog has seen a REFER before this one.
    fn is_referred_again(&mut self, dialog: DialogKey) -> bool {
        let dialog = self.dialogs.get_mut(dialog);
        dialog.is_some_and(|dialog| std::mem::replace(&mut dialog.was_referred, true))
    }

    /// Turns a REFER down, 300 to 699.
    ///
    /// # Errors
    /// When no such REFER waits for an answer, or the status is none for this.
    pub fn refuse_refer(&mut self, now: Instant, leg: LegId, id: u32, status: u16) -> Result<(), Error> {
        if !(300..700).contains(&status) {
            return Err(Error::Status(status));
        }
        let (server, _) = self.asked(leg, id)?;
        self.reply(now, server, status, |builder| builder);
        self.finish_referral(now, leg, id);
        Ok(())
    }

    /// Tells the peer that sent a REFER how far it has come: a status as the one who was called gave it; from 200 on it is
    /// the last. Nothing happens if the peer wants to hear nothing, or no more. The leg may be gone.
    ///
    /// # Errors
    /// When the status is none, or the reason holds control characters.
    pub fn notify_refer(
        &mut self,
        now: Instant,
        leg: LegId,
        id: u32,
        status: u16,
        reason: &str,
    ) -> Result<(), Error> {
        if !(100..700).contains(&status) {
            return Err(Error::Status(status));
        }
        check_value(Name::Reason, reason)?;
        let state = if status < 200 { Subscription::Active } else { Subscription::Finished };
        self.tell_progress(now, leg, id, status, reason, state);
        Ok(())
    }

    fn asked(&mut self, leg: LegId, id: u32) -> Result<(ServerKey, bool), Error> {
        match self.referrals.get_mut(leg, id) {
            Some(Role::Asked { server, subscribes }) => Ok((*server, *subscribes)),
            _ => Err(Error::WrongState { command: "answer a REFER", state: "not asked to" }),
        }
    }

    fn tell_progress(
        &mut self,
        now: Instant,
        leg: LegId,
        id: u32,
        status: u16,
        reason: &str,
        state: Subscription,
    ) {
        let Some(telling) = self.referrals.telling(leg, id).filter(|telling| !telling.is_over) else {
            return;
        };
        telling.push(Notice { status, reason: reason.into(), state });
        self.send_notice(now, leg, id);
    }

    /// Sends the notice that waits longest, unless one is out.
    pub(super) fn send_notice(&mut self, now: Instant, leg: LegId, id: u32) {
        let Some(telling) = self.referrals.telling(leg, id).filter(|telling| telling.open.is_none()) else {
            return;
        };
        let (next, is_named) = (telling.waiting.pop_front(), telling.is_named);
        let Some(notice) = next else { return };
        let Some(client) = self.notify(now, leg, id, &notice, is_named) else {
            return self.finish_referral(now, leg, id);
        };
        if let Some(telling) = self.referrals.telling(leg, id) {
            telling.open = Some(client);
        }
    }

    /// NOTIFY in the dialog of the REFER (2.4.5).
    fn notify(
        &mut self,
        now: Instant,
        leg: LegId,
        id: u32,
        notice: &Notice,
        is_named: bool,
    ) -> Option<ClientKey> {
        let branch = self.ident.branch();
        let left = self.referrals.deadline(leg, id).unwrap_or(now).saturating_duration_since(now).as_secs();
        let dialog = self.dialogs.get_mut(self.referrals.dialog(leg)?)?;
        let body = sipfrag(notice.status, &notice.reason);
        let (builder, flow) = dialog.request(Method::Notify, &branch, Some(&body));
        let event = if is_named { format!("refer;id={id}") } else { "refer".to_owned() };
        let state = match notice.state {
            Subscription::Active => format!("active;expires={left}"),
            Subscription::Finished => "terminated;reason=noresource".to_owned(),
            Subscription::TimedOut => "terminated;reason=timeout".to_owned(),
        };
        let builder = builder
            .contact(&dialog.contact)
            .safe(Name::Event, &event)
            .safe(Name::SubscriptionState, &state)
            .header(Name::UserAgent, &self.user_agent);
        let built = builder.maybe_body(Some(&body)).build();
        let Ok(bytes) = built else {
            self.io.stats.dropped.unbuildable += 1;
            return None;
        };
        let user = User::Notify(leg, id);
        let request = Request { method: Method::Notify, branch, bytes, flow, user };
        Some(self.clients.send(&mut self.io, now, request))
    }

    /// What a NOTIFY of ours has come to: the next one leaves, or there is nobody to tell any more.
    pub(super) fn notify_outcome(
        &mut self,
        now: Instant,
        leg: LegId,
        id: u32,
        signal: ClientSignal,
        response: Option<&Message>,
    ) {
        let status = response.and_then(Message::status);
        if signal == ClientSignal::Response && status.is_none_or(StatusCode::is_provisional) {
            return;
        }
        let Some(telling) = self.referrals.telling(leg, id) else { return };
        telling.open = None;
        let told_all = telling.is_over && telling.waiting.is_empty();
        // RFC 6665 4.2.2 and RFC 5057 5.1: no answer, and what says that the subscription is not there.
        let is_deaf = signal != ClientSignal::Response
            || status.is_some_and(|status| {
                matches!(status.0, 404 | 405 | 408 | 410 | 416 | 480..=485 | 489 | 501 | 604)
            });
        match told_all || is_deaf {
            true => self.finish_referral(now, leg, id),
            false => self.send_notice(now, leg, id),
        }
    }

    /// A challenged NOTIFY was sent again.
    pub(super) fn replace_notify(&mut self, leg: LegId, id: u32, client: ClientKey) {
        if let Some(telling) = self.referrals.telling(leg, id) {
            telling.open = Some(client);
        }
    }

    /// Forgets a referral. The last one of a leg that is over lets its dialog go.
    pub(super) fn finish_referral(&mut self, now: Instant, leg: LegId, id: u32) {
        match self.referrals.remove(leg, id) {
            Some((dialog, Then::Leave(reason))) => self.send_bye(now, dialog, reason.as_deref()),
            Some((dialog, Then::Forget)) => self.dialogs.remove(dialog),
            Some((_, Then::Stay)) | None => {}
        }
    }

    /// What nobody has answered or finished in its time.
    pub(super) fn referrals_due(&mut self, now: Instant) {
        while let Some((leg, id)) = self.referrals.pop_due(now) {
            match self.referrals.get_mut(leg, id) {
                Some(Role::Asked { server, .. }) => {
                    let server = *server;
                    self.reply(now, server, 504, |builder| builder);
                    self.finish_referral(now, leg, id);
                }
                Some(Role::Telling(_)) => {
                    self.tell_progress(now, leg, id, 408, "", Subscription::TimedOut);
                }
                Some(Role::Asking(_)) => self.referral_unheard(now, leg),
                None => {}
            }
        }
    }

    /// A leg is being hung up from here; whether its BYE waits until its peer knows how its transfer went.
    pub(super) fn leaves_later(
        &mut self,
        now: Instant,
        leg: LegId,
        dialog: DialogKey,
        reason: Option<&str>,
    ) -> bool {
        !self.referrals.is_empty()
            && self.referrals.dialog(leg) == Some(dialog)
            && self.end_referrals(now, leg, Then::Leave(reason.map(Into::into)))
    }

    /// A leg is forgotten: what its peer has still to be told goes on without it.
    pub(super) fn forget_referrals(&mut self, now: Instant, leg: LegId) {
        if !self.referrals.is_empty() && !self.referrals.awaits_end(leg) {
            self.end_referrals(now, leg, Then::Forget);
        }
    }

    /// Ends what can end at once, and keeps the dialog for the rest; whether there is any.
    fn end_referrals(&mut self, now: Instant, leg: LegId, then: Then) -> bool {
        for id in self.referrals.numbers(leg) {
            match self.referrals.get_mut(leg, id) {
                Some(Role::Asked { server, .. }) => {
                    let server = *server;
                    self.reply(now, server, 487, |builder| builder);
                    self.finish_referral(now, leg, id);
                }
                Some(Role::Asking(_)) => self.finish_referral(now, leg, id),
                // Nobody follows what the peer has asked for once we hang up; when it does, somebody may.
                Some(Role::Telling(_)) if matches!(then, Then::Leave(_)) => {
                    self.tell_progress(now, leg, id, 487, "", Subscription::Finished);
                }
                Some(Role::Telling(_)) | None => {}
            }
        }
        let Some(dialog) = self.referrals.dialog(leg) else { return false };
        if let Some(dialog) = self.dialogs.get_mut(dialog) {
            dialog.state = dialog::State::Closing;
        }
        self.referrals.finally(leg, then)
    }
}

/// RFC 4488 4: `Refer-Sub: false` asks for no subscription.
fn wants_notices(refer: &Message) -> bool {
    let value = refer.header(Name::ReferSub).and_then(|value| value.split(';').next());
    !value.is_some_and(|value| value.trim().eq_ignore_ascii_case("false"))
}
