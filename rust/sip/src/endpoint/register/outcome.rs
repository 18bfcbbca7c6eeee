//! What comes of a REGISTER: made, kept, moved to the next server, given up (RFC 3261 10.2.4, RFC 5626 4.5).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entry::{Granted, HALF, MAX_WAIT, State};
use super::wire::{granted_for, seen_as};
use super::{Endpoint, RegistrationKey};
use crate::transaction::{ClientKey, ClientSignal};
use crate::{Message, Name, Notice};

/// A registrar that wants longer registrations than this is not believed.
const MAX_EXPIRES: u32 = 7 * 86_400;
/// Service-Route values that are kept (RFC 3608).
const MAX_ROUTES: usize = 8;

impl Endpoint {
    /// What has come of a REGISTER.
    pub(in crate::endpoint) fn register_outcome(
        &mut self,
        now: Instant,
        key: RegistrationKey,
        client: ClientKey,
        signal: ClientSignal,
        response: Option<&Message>,
    ) {
        let status = response.and_then(Message::status).map(|status| status.0);
        let Some(entry) = self.registrations.all.get_mut(key) else { return };
        if entry.open != Some(client) {
            return;
        }
        entry.patience = None;
        if status.is_some_and(|status| status < 200) {
            return self.registrations.plan();
        }
        entry.open = None;
        if entry.state == State::Leaving {
            self.forget_registration(key);
        } else {
            match (signal, response, status) {
                (ClientSignal::Response, Some(response), Some(200..300)) => self.granted(now, key, response),
                (ClientSignal::Response, Some(response), Some(423)) => self.too_brief(now, key, response),
                (ClientSignal::Response, Some(response), _) => {
                    self.registrar_failed(now, key, Some(response), response.reason());
                }
                (ClientSignal::TransportError, ..) => {
                    let why = self.breakage.clone();
                    self.registrar_failed(now, key, None, &why);
                }
                _ => self.registrar_failed(now, key, None, "No response"),
            }
        }
        self.registrations.plan();
    }

    /// 10.2.4: the registrar decides for how long; the refresh comes after 85 to 90 % of that.
    fn granted(&mut self, now: Instant, key: RegistrationKey, response: &Message) {
        let (share, half) = (self.ident.within(&(850..=900)), self.ident.within(&HALF));
        let Some(entry) = self.registrations.all.get_mut(key) else { return };
        let Some(flow) = entry.target.as_ref().map(|target| target.flow) else { return };
        let expires = Duration::from_secs(granted_for(entry, response).clamp(1, MAX_EXPIRES).into());
        let granted = Granted { flow, expires, until: now + expires };
        let former = entry.granted.replace(granted);
        entry.state = State::Registered;
        (entry.former, entry.lengthened) = (None, false);
        entry.tried.clear();
        entry.next = Some(now + expires.saturating_mul(share) / 1000);
        entry.routes = response.values(Name::ServiceRoute).take(MAX_ROUTES).map(Into::into).collect();
        let is_moved = former.is_none_or(|former| former.flow != flow);
        if is_moved || entry.since.is_none() {
            entry.since = Some(now);
        }
        let seen = seen_as(response, flow.transport);
        if let Some(seen) = seen.filter(|seen| entry.wanted.rewrite && *seen != entry.contact) {
            entry.rewrite(now, seen, half);
        }
        if is_moved || former.is_some_and(|former| former.expires != expires) {
            let name = Arc::clone(&entry.wanted.name);
            self.notices.push_back(Notice::Registered { name, expires, registrar: flow.remote });
        }
        if is_moved {
            let pause = self.keep_alive_pause(flow.transport);
            if let Some(entry) = self.registrations.all.get_mut(key) {
                entry.keep_alive = Some(now + pause);
            }
        }
    }

    /// 10.2.8: longer, as the registrar says, and at once; but only once.
    fn too_brief(&mut self, now: Instant, key: RegistrationKey, response: &Message) {
        let least = response.number(Name::MinExpires).filter(|least| *least <= MAX_EXPIRES);
        let entry = self.registrations.all.get_mut(key);
        match (entry, least) {
            (Some(entry), Some(least)) if !entry.lengthened && least > entry.expires => {
                (entry.expires, entry.lengthened) = (least, true);
                self.send_register(now, key);
            }
            _ => self.registrar_failed(now, key, Some(response), "Interval Too Brief"),
        }
    }

    /// Not a word in time, and others are left. What it may still say is not waited for.
    pub(super) fn registrar_silent(&mut self, now: Instant, key: RegistrationKey) {
        let Some(entry) = self.registrations.all.get_mut(key) else { return };
        entry.patience = None;
        if let Some(client) = entry.open.take() {
            self.clients.abandon(&mut self.io, client);
            self.registrar_failed(now, key, None, "No response");
        }
    }

    /// The next server at once where another may do better; when all have failed, later and later (RFC 5626 4.5).
    pub(super) fn registrar_failed(
        &mut self,
        now: Instant,
        key: RegistrationKey,
        response: Option<&Message>,
        reason: &str,
    ) {
        let half = self.ident.within(&HALF);
        let Some(entry) = self.registrations.all.get_mut(key) else { return };
        if entry.state == State::Leaving {
            return self.forget_registration(key);
        }
        let status = response.and_then(Message::status).map(|status| status.0);
        let elsewhere = status.is_none_or(|status| (500..600).contains(&status));
        if elsewhere && entry.has_others() {
            entry.tried.extend(entry.target.as_ref().map(|target| target.flow));
            return self.send_register(now, key);
        }
        let asked = response.and_then(|response| response.number(Name::RetryAfter));
        let asked = Duration::from_secs(asked.unwrap_or_default().into()).min(MAX_WAIT);
        let retry = entry.back_off(now, half).max(asked);
        entry.tried.clear();
        (entry.target, entry.since, entry.next) = (None, None, Some(now + retry));
        self.registration_lost(key, status, reason, retry);
    }

    /// What was granted is over before anybody granted more; a REGISTER is still on its way.
    pub(super) fn registration_over(&mut self, now: Instant, key: RegistrationKey) {
        let next = self.registrations.all.get(key).and_then(|entry| entry.next);
        let retry = next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now));
        self.registration_lost(key, None, "it was not renewed in time", retry);
    }

    fn registration_lost(
        &mut self,
        key: RegistrationKey,
        status: Option<u16>,
        reason: &str,
        retry: Duration,
    ) {
        let Some(entry) = self.registrations.all.get_mut(key) else { return };
        (entry.state, entry.granted, entry.keep_alive) = (State::Trying, None, None);
        let (name, reason) = (Arc::clone(&entry.wanted.name), reason.to_owned());
        self.notices.push_back(Notice::RegistrationFailed { name, status, reason, retry });
    }
}
