//! Asking a peer to call somebody else, and hearing what comes of it (RFC 3515 2.1, 2.4.4, RFC 6665 4.1.3).

use std::time::{Duration, Instant};

use super::headers::{ALLOW, BuilderExt};
use super::referrals::{Asking, OURS, Role, read_sipfrag};
use super::session::State;
use super::{Endpoint, LegKey};
use crate::dialog::DialogKey;
use crate::header::{NameAddr, Params};
use crate::timer::TimerKind;
use crate::transaction::{ClientKey, ClientSignal, Request, ServerKey, User};
use crate::{Error, Event, LegId, Message, Method, Name, StatusCode};

/// The longest that a peer's notices are waited for, whatever it grants itself.
const PATIENCE: Duration = Duration::from_secs(600);

impl Endpoint {
    /// Asks the peer of a leg to call `target`, a URI with anything that Refer-To may hold. [`Event::ReferAnswered`]
    /// follows, and [`Event::Referral`] until the last one; or the leg's end.
    ///
    /// # Errors
    /// When the leg does not talk, an earlier REFER of ours is open, or it cannot be written.
    pub fn refer(
        &mut self,
        now: Instant,
        leg: LegId,
        target: &str,
        referred_by: Option<&str>,
    ) -> Result<(), Error> {
        let refer_to = format!("<{target}>");
        NameAddr::parse(&refer_to)?;
        let key = self.legs.find(leg)?;
        let entry = self.legs.get(key).ok_or(Error::UnknownLeg(leg))?;
        let wrong = |state| Error::WrongState { command: "refer its peer", state };
        if entry.state != State::Confirmed {
            return Err(wrong(entry.state.words()));
        }
        if !self.referrals.has_room(leg, OURS) {
            return Err(wrong("referring it already"));
        }
        let dialog = entry.dialog().ok_or(Error::UnknownLeg(leg))?;
        let asking = self.send_refer(now, leg, dialog, &refer_to, referred_by)?;
        self.referrals.insert(leg, OURS, dialog, Role::Asking(asking));
        Ok(())
    }

    fn send_refer(
        &mut self,
        now: Instant,
        leg: LegId,
        key: DialogKey,
        refer_to: &str,
        referred_by: Option<&str>,
    ) -> Result<Asking, Error> {
        let branch = self.ident.branch();
        let dialog = self.dialogs.get_mut(key).ok_or(Error::UnknownLeg(leg))?;
        let (builder, flow) = dialog.request(Method::Refer, &branch, None);
        let bytes = builder
            .contact(&dialog.contact)
            .safe(Name::Allow, ALLOW)
            .header(Name::ReferTo, refer_to)
            .maybe(Name::ReferredBy, referred_by)
            .header(Name::UserAgent, &self.user_agent)
            .build()?;
        let cseq = dialog.local_cseq();
        let request = Request { method: Method::Refer, branch, bytes, flow, user: User::Refer(leg) };
        let client = Some(self.clients.send(&mut self.io, now, request));
        Ok(Asking { client, cseq, is_over: false })
    }

    /// A challenged REFER was sent again.
    pub(super) fn replace_refer(&mut self, leg: LegId, client: ClientKey, number: u32) {
        if let Some(asking) = self.referrals.asking(leg) {
            (asking.client, asking.cseq) = (Some(client), number);
        }
    }

    /// What the peer says to our REFER.
    pub(super) fn refer_outcome(
        &mut self,
        now: Instant,
        leg: LegId,
        key: ClientKey,
        signal: ClientSignal,
        response: Option<&Message>,
    ) {
        let status = match signal {
            ClientSignal::Response => response.and_then(Message::status),
            // RFC 3261 8.1.3.1.
            ClientSignal::Timeout => Some(StatusCode(408)),
            ClientSignal::TransportError => Some(StatusCode(503)),
        };
        let open = self.referrals.asking(leg).filter(|asking| asking.client == Some(key));
        let (Some(status), Some(asking)) = (status.filter(|status| status.is_final()), open) else { return };
        asking.client = None;
        self.events.push_back(Event::ReferAnswered { leg, status: status.0 });
        if !status.is_success() {
            return self.finish_referral(now, leg, OURS);
        }
        // RFC 4488 4: a peer may tell nothing.
        let silent = response.and_then(|response| response.header(Name::ReferSub));
        if silent.is_some_and(|value| value.trim().eq_ignore_ascii_case("false")) {
            return self.referral_unheard(now, leg);
        }
        // RFC 6665 4.1.2.4, timer N.
        self.await_notice(now, leg, TimerKind::F.interval(&self.io.values, false).unwrap_or_default());
    }

    fn await_notice(&mut self, now: Instant, leg: LegId, wait: Duration) {
        self.referrals.schedule(leg, OURS, now.checked_add(wait.min(PATIENCE)));
    }

    /// The peer tells nothing, or no more: what became of the REFER stays unknown, unless it has been told.
    pub(super) fn referral_unheard(&mut self, now: Instant, leg: LegId) {
        let unknown = self.referrals.asking(leg).is_some_and(|asking| !asking.is_over);
        self.finish_referral(now, leg, OURS);
        if unknown {
            self.events.push_back(Event::Referral { leg, status: None, reason: String::new(), last: true });
        }
    }

    /// NOTIFY in a dialog: only about a REFER of ours.
    pub(super) fn notified(
        &mut self,
        now: Instant,
        dialog: DialogKey,
        key: LegKey,
        server: ServerKey,
        request: &Message,
    ) {
        let (package, params) = split(request.header(Name::Event).unwrap_or_default());
        if !package.eq_ignore_ascii_case("refer") {
            return self.reply(now, server, 489, |builder| builder.safe(Name::AllowEvents, "refer"));
        }
        let leg = self.legs.get(key).map(|leg| leg.id).filter(|_| self.is_leg_dialog(key, dialog));
        let named = Params::parse(params).ok().and_then(|params| params.value("id"));
        let asking = leg.and_then(|leg| self.referrals.asking(leg));
        let ours = |asking: &&mut Asking| named.is_none_or(|id| id.parse() == Ok(asking.cseq));
        let (Some(leg), Some(asking)) = (leg, asking.filter(ours)) else {
            return self.reply(now, server, 481, |builder| builder);
        };
        // A notice may overtake the 2xx to the REFER, and says as much (RFC 3515 2.4.4).
        let first = asking.client.take().is_some();
        self.reply(now, server, 200, |builder| builder);
        if first {
            self.events.push_back(Event::ReferAnswered { leg, status: 202 });
        }
        self.take_notice(now, leg, request);
    }

    fn is_leg_dialog(&self, key: LegKey, dialog: DialogKey) -> bool {
        self.legs.get(key).is_some_and(|leg| leg.dialogs.contains(&dialog) && !leg.reported)
    }

    fn take_notice(&mut self, now: Instant, leg: LegId, request: &Message) {
        let (state, params) = split(request.header(Name::SubscriptionState).unwrap_or_default());
        let terminated = state.eq_ignore_ascii_case("terminated");
        let told = read_sipfrag(request.body());
        let is_outcome = told.as_ref().is_some_and(|(status, _)| *status >= 200);
        let Some(asking) = self.referrals.asking(leg) else { return };
        let known = asking.is_over;
        asking.is_over |= is_outcome || terminated;
        if terminated {
            self.finish_referral(now, leg, OURS);
        } else {
            // RFC 6665 4.1.2.1: as long as the peer says; the last notice follows the outcome at once.
            let expires = Params::parse(params).ok().and_then(|params| params.value("expires")?.parse().ok());
            let wait = expires.filter(|_| !is_outcome).map_or(PATIENCE, Duration::from_secs);
            self.await_notice(now, leg, if is_outcome { Duration::from_secs(32) } else { wait });
        }
        if !known && (told.is_some() || terminated) {
            let (status, reason) =
                told.map_or((None, String::new()), |(status, reason)| (Some(status), reason));
            self.events.push_back(Event::Referral { leg, status, reason, last: is_outcome || terminated });
        }
    }
}

/// A token and the parameters behind it.
pub(super) fn split(value: &str) -> (&str, &str) {
    let (token, params) = value.split_at(value.find(';').unwrap_or(value.len()));
    (token.trim(), params)
}
