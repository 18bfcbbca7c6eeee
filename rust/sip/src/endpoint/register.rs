//! REGISTER of ours (RFC 3261 10.2): wanted, sent, taken back; and its flow kept alive (RFC 5626 4.4.1). What comes of
//! one is in `outcome`, what stands in one in `wire`.

mod entry;
mod outcome;
mod wire;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slotmap::{SlotMap, new_key_type};

use super::{Auth, Endpoint};
use crate::transaction::{ClientKey, Request, User};
use crate::{Flow, Method, Notice, Profile, Registration, Target, Transport};
use entry::{Entry, State};

new_key_type! {
    /// One registration of ours.
    pub(crate) struct RegistrationKey;
}

/// All registrations of ours.
#[derive(Debug, Default)]
pub(crate) struct Registrations {
    all: SlotMap<RegistrationKey, Entry>,
    /// The earliest of all that is due.
    next: Option<Instant>,
}

impl Registrations {
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Who answers challenges to a REGISTER.
    pub(crate) fn auth_mut(&mut self, key: RegistrationKey) -> Option<&mut Auth> {
        self.all.get_mut(key)?.auth.as_deref_mut()
    }

    /// A challenged REGISTER was sent again.
    pub(crate) fn replace(&mut self, now: Instant, key: RegistrationKey, client: ClientKey, number: u32) {
        if let Some(entry) = self.all.get_mut(key) {
            entry.cseq = number;
            entry.sent(now, client);
        }
        self.plan();
    }

    /// Whose call it is: the user of the Request-URI is the one registered, the source one of the registrar's.
    pub(crate) fn called(&self, user: &str, source: IpAddr) -> Option<&Arc<Profile>> {
        let source = source.to_canonical();
        let meant = |entry: &&Entry| {
            let from = |target: &Target| target.flow.remote.ip().to_canonical() == source;
            entry.state == State::Registered
                && entry.wanted.contact_user == user
                && entry.wanted.targets.iter().any(from)
        };
        self.all.values().find(meant).map(|entry| &entry.wanted.profile)
    }

    /// The route that calls by a registered trunk have to take (RFC 3608 6.1).
    pub(crate) fn service_route(&self, name: &str) -> &[Box<str>] {
        let found = self.all.values().find(|entry| &*entry.wanted.name == name);
        found.filter(|entry| entry.state == State::Registered).map_or(&[], |entry| &entry.routes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn named(&self, name: &str) -> Option<RegistrationKey> {
        let named = |(_, entry): &(_, &Entry)| &*entry.wanted.name == name && entry.state != State::Leaving;
        self.all.iter().find(named).map(|(key, _)| key)
    }

    fn plan(&mut self) {
        self.next = self.all.values().filter_map(Entry::due).min();
    }
}

impl Endpoint {
    /// Registers with a peer and stays so until [`Self::unregister`]. The same again only renews the addresses to
    /// try, none of which leaves those that are known; anything else of the same name replaces what was there.
    pub fn register(&mut self, now: Instant, wanted: Registration) {
        match self.registrations.named(&wanted.name) {
            Some(key) => self.register_otherwise(now, key, wanted),
            None => self.register_first(now, wanted),
        }
        self.registrations.plan();
    }

    fn register_first(&mut self, now: Instant, wanted: Registration) {
        let entry = Entry::new(wanted, self.ident.call_id(), self.ident.tag());
        let key = self.registrations.all.insert(entry);
        self.send_register(now, key);
    }

    /// The same binding goes on under its Call-ID and CSeq, and stands until it is made anew; any other is taken back.
    fn register_otherwise(&mut self, now: Instant, key: RegistrationKey, mut wanted: Registration) {
        let Some(entry) = self.registrations.all.get_mut(key) else { return };
        if wanted.targets.is_empty() && wanted.registrar == entry.wanted.registrar {
            wanted.targets.clone_from(&entry.wanted.targets);
        }
        if !entry.is_bound_as(&wanted) {
            self.leave_registrar(now, key);
            return self.register_first(now, wanted);
        }
        if entry.take_over(wanted) {
            self.send_register(now, key);
        }
    }

    /// Takes a registration back (10.2.2). [`Notice::Unregistered`] follows.
    pub fn unregister(&mut self, now: Instant, name: &str) {
        if let Some(key) = self.registrations.named(name) {
            self.leave_registrar(now, key);
            self.registrations.plan();
        }
    }

    /// Whether any registration of ours is there, or being taken back.
    #[must_use]
    pub fn has_registrations(&self) -> bool {
        !self.registrations.is_empty()
    }

    /// The next thing to know that belongs to no leg.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    fn leave_registrar(&mut self, now: Instant, key: RegistrationKey) {
        let Some(entry) = self.registrations.all.get_mut(key) else { return };
        let known = entry.state == State::Registered || entry.open.is_some();
        entry.state = State::Leaving;
        entry.keep_alive = None;
        match known {
            true => self.send_register(now, key),
            false => self.forget_registration(key),
        }
    }

    fn forget_registration(&mut self, key: RegistrationKey) {
        if let Some(entry) = self.registrations.all.remove(key) {
            // One that another of the same name has replaced was not taken back.
            if self.registrations.named(&entry.wanted.name).is_none() {
                self.notices.push_back(Notice::Unregistered { name: entry.wanted.name });
            }
        }
    }

    /// A refresh, a try or a keep-alive is due, or a wait is over.
    pub(super) fn registrations_due(&mut self, now: Instant) {
        if self.registrations.next.is_none_or(|next| next > now) {
            return;
        }
        let due = |(_, entry): &(_, &Entry)| entry.due().is_some_and(|due| due <= now);
        let keys: Vec<_> = self.registrations.all.iter().filter(due).map(|(key, _)| key).collect();
        for key in keys {
            self.registration_due(now, key);
        }
        self.registrations.plan();
    }

    fn registration_due(&mut self, now: Instant, key: RegistrationKey) {
        let Some(entry) = self.registrations.all.get(key) else { return };
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(entry.until()) {
            self.registration_over(now, key);
        } else if is_due(entry.patience) {
            self.registrar_silent(now, key);
        } else if is_due(entry.next) {
            self.send_register(now, key);
        } else {
            self.keep_flow_alive(now, key);
        }
    }

    /// Two line ends: a ping on a stream, and what keeps a NAT's door open to datagrams (RFC 5626 3.5.1, 4.4.1). They
    /// go where the binding is, whichever server a REGISTER is on its way to.
    fn keep_flow_alive(&mut self, now: Instant, key: RegistrationKey) {
        let flow = self.registrations.all.get(key).and_then(|entry| Some(entry.granted.as_ref()?.flow));
        let next = flow.map(|flow| {
            self.io.send_keep_alive(flow);
            now + self.keep_alive_pause(flow.transport)
        });
        if let Some(entry) = self.registrations.all.get_mut(key) {
            entry.keep_alive = next;
        }
    }

    /// RFC 5626 4.4.1: at most 120 s on streams, at most 30 s over UDP, and 80 to 100 % of that.
    fn keep_alive_pause(&mut self, transport: Transport) -> Duration {
        let range = if transport.is_reliable() { 95..=120 } else { 24..=29 };
        Duration::from_secs(self.ident.within(&range).into())
    }

    fn send_register(&mut self, now: Instant, key: RegistrationKey) {
        let branch = self.ident.branch();
        let Some(entry) = self.registrations.all.get_mut(key) else { return };
        (entry.next, entry.open) = (None, None);
        let Some(flow) = entry.aim() else {
            return self.registrar_failed(now, key, None, "it has no address");
        };
        entry.cseq = entry.cseq.wrapping_add(1) & 0x7fff_ffff;
        let built = wire::register(entry, flow, &branch, &self.user_agent).build();
        let Ok(bytes) = built else {
            self.io.stats.dropped.unbuildable += 1;
            return self.registrar_failed(now, key, None, "REGISTER cannot be written");
        };
        let user = User::Register(key);
        let client = self.clients.send(
            &mut self.io,
            now,
            Request { method: Method::Register, branch, bytes, flow, user },
        );
        if let Some(entry) = self.registrations.all.get_mut(key) {
            entry.sent(now, client);
        }
    }

    /// A stream to a registrar is gone, and with it the flow that calls come by.
    pub(super) fn registrar_flow_lost(&mut self, now: Instant, flow: Flow) {
        if !flow.transport.is_reliable() || self.registrations.is_empty() {
            return;
        }
        let lost = |entry: &&mut Entry| {
            let own = entry.granted.as_ref().map(|granted| granted.flow);
            entry.state == State::Registered
                && entry.open.is_none()
                && own.is_some_and(|own| own.remote == flow.remote && own.transport == flow.transport)
        };
        for entry in self.registrations.all.values_mut().filter(lost) {
            let (good, half) = (entry.stood(now), self.ident.within(&entry::HALF));
            entry.make_anew(now, good, half);
            entry.since = None;
        }
        self.registrations.plan();
    }
}
