//! REGISTER of ours (RFC 3261 10.2): made, kept, moved to the next server, given up; and its flow kept alive
//! (RFC 5626 4.4.1, 4.5).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slotmap::{SlotMap, new_key_type};

use super::headers::ALLOW;
use super::{Auth, Endpoint};
use crate::transaction::{ClientKey, ClientSignal, Request, User};
use crate::write::host_port;
use crate::{Builder, Flow, Message, Method, Name, NameAddr, Notice, Profile, Registration, Transport};

new_key_type! {
    /// One registration of ours.
    pub(crate) struct RegistrationKey;
}

/// RFC 5626 4.5: the first wait after all servers failed is drawn from the upper half of twice this.
const BASE_WAIT: Duration = Duration::from_secs(30);
/// RFC 5626 4.5: no wait is longer.
const MAX_WAIT: Duration = Duration::from_secs(1800);
/// A registrar that wants longer registrations than this is not believed.
const MAX_EXPIRES: u32 = 7 * 86_400;
/// Service-Route values that are kept (RFC 3608).
const MAX_ROUTES: usize = 8;

/// How far a registration has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not made yet, or lost.
    Trying,
    Registered,
    /// Being taken back.
    Leaving,
}

/// One registration at work.
#[derive(Debug)]
struct Entry {
    wanted: Registration,
    state: State,
    call_id: String,
    tag: String,
    cseq: u32,
    auth: Option<Box<Auth>>,
    /// `host:port` in use, and the one before it that is to be removed.
    contact: String,
    former: Option<String>,
    expires: u32,
    /// Which of the targets is in use, and how many have failed one after the other.
    target: usize,
    failed: usize,
    /// Rounds over all targets that failed.
    rounds: u32,
    open: Option<ClientKey>,
    /// 423 was obeyed, so that a second one counts as a refusal.
    lengthened: bool,
    next: Option<Instant>,
    keep_alive: Option<Instant>,
    routes: Vec<Box<str>>,
}

impl Entry {
    fn flow(&self) -> Option<Flow> {
        self.wanted.targets.get(self.target).or(self.wanted.targets.first()).copied()
    }

    fn due(&self) -> Option<Instant> {
        [self.next, self.keep_alive].into_iter().flatten().min()
    }

    fn contact_value(&self, host_port: &str, transport: Transport, expires: u32) -> String {
        let transport = match transport {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
            Transport::Tls => ";transport=tls",
        };
        format!("<sip:{}@{host_port}{transport}>;expires={expires}", self.wanted.contact_user)
    }
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
    pub(crate) fn replace(&mut self, key: RegistrationKey, client: ClientKey, number: u32) {
        if let Some(entry) = self.all.get_mut(key) {
            (entry.open, entry.cseq) = (Some(client), number);
        }
    }

    /// Whose call it is: the user of the Request-URI is the one registered, the source one of the registrar's.
    pub(crate) fn called(&self, user: &str, source: IpAddr) -> Option<&Arc<Profile>> {
        let source = source.to_canonical();
        let meant = |entry: &&Entry| {
            let from = |flow: &Flow| flow.remote.ip().to_canonical() == source;
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
    /// try; anything else of the same name replaces what was there.
    pub fn register(&mut self, now: Instant, wanted: Registration) {
        let mut former = None;
        if let Some(key) = self.registrations.named(&wanted.name) {
            if let Some(entry) = self.registrations.all.get_mut(key) {
                let targets = std::mem::take(&mut entry.wanted.targets);
                if entry.wanted == (Registration { targets: Vec::new(), ..wanted.clone() }) {
                    entry.wanted.targets = wanted.targets;
                    return;
                }
                entry.wanted.targets = targets;
            }
            former = self.supersede(now, key, &wanted);
        }
        let (call_id, tag, cseq) = former.unwrap_or_else(|| (self.ident.call_id(), self.ident.tag(), 0));
        let entry = Entry {
            state: State::Trying,
            call_id,
            tag,
            cseq,
            auth: None,
            contact: wanted.contact.clone(),
            former: None,
            expires: wanted.expires,
            target: 0,
            failed: 0,
            rounds: 0,
            open: None,
            lengthened: false,
            next: None,
            keep_alive: None,
            routes: Vec::new(),
            wanted,
        };
        let key = self.registrations.all.insert(entry);
        self.send_register(now, key);
        self.registrations.plan();
    }

    /// What another registration of the same name takes over: the same binding goes on under its Call-ID and CSeq, any
    /// other is taken back.
    fn supersede(
        &mut self,
        now: Instant,
        key: RegistrationKey,
        wanted: &Registration,
    ) -> Option<(String, String, u32)> {
        let entry = self.registrations.all.get(key)?;
        let of = |one: &Registration| {
            [&one.registrar, &one.aor, &one.contact, &one.contact_user].map(String::clone)
        };
        if of(&entry.wanted) != of(wanted) {
            self.leave_registrar(now, key);
            return None;
        }
        let entry = self.registrations.all.remove(key)?;
        Some((entry.call_id, entry.tag, entry.cseq))
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

    /// A refresh, a try or a keep-alive is due.
    pub(super) fn registrations_due(&mut self, now: Instant) {
        if self.registrations.next.is_none_or(|next| next > now) {
            return;
        }
        let due = |(_, entry): &(_, &Entry)| entry.due().is_some_and(|due| due <= now);
        let keys: Vec<_> = self.registrations.all.iter().filter(due).map(|(key, _)| key).collect();
        for key in keys {
            let Some(entry) = self.registrations.all.get(key) else { continue };
            match entry.next.is_some_and(|next| next <= now) {
                true => self.send_register(now, key),
                false => self.keep_flow_alive(now, key),
            }
        }
        self.registrations.plan();
    }

    /// Two line ends: a ping on a stream, and what keeps a NAT's door open to datagrams (RFC 5626 3.5.1, 4.4.1).
    fn keep_flow_alive(&mut self, now: Instant, key: RegistrationKey) {
        let Some(flow) = self.registrations.all.get(key).and_then(Entry::flow) else { return };
        self.io.send_keep_alive(flow);
        let next = now + self.keep_alive_pause(flow.transport);
        if let Some(entry) = self.registrations.all.get_mut(key) {
            entry.keep_alive = Some(next);
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
        let Some(flow) = entry.flow() else {
            return self.registrar_failed(now, key, None, "it has no address");
        };
        entry.cseq = entry.cseq.wrapping_add(1) & 0x7fff_ffff;
        let built = register(entry, flow, &branch, &self.user_agent).build();
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
            entry.open = Some(client);
        }
    }

    /// What has come of a REGISTER.
    pub(super) fn register_outcome(
        &mut self,
        now: Instant,
        key: RegistrationKey,
        client: ClientKey,
        signal: ClientSignal,
        response: Option<&Message>,
    ) {
        let status = response.and_then(Message::status).map(|status| status.0);
        let Some(entry) = self.registrations.all.get_mut(key) else { return };
        if entry.open != Some(client) || status.is_some_and(|status| status < 200) {
            return;
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
        let share = self.ident.within(&(850..=900));
        let Some((entry, flow)) =
            self.registrations.all.get_mut(key).and_then(|entry| entry.flow().map(|flow| (entry, flow)))
        else {
            return;
        };
        let expires = granted_for(entry, response).clamp(1, MAX_EXPIRES);
        let expires = Duration::from_secs(expires.into());
        let first = std::mem::replace(&mut entry.state, State::Registered) != State::Registered;
        (entry.failed, entry.rounds, entry.former, entry.lengthened) = (0, 0, None, false);
        entry.next = Some(now + expires.saturating_mul(share) / 1000);
        entry.routes = response.values(Name::ServiceRoute).take(MAX_ROUTES).map(Into::into).collect();
        let seen = seen_as(response).filter(|seen| entry.wanted.rewrite && *seen != entry.contact);
        if let Some(seen) = seen {
            entry.former = Some(std::mem::replace(&mut entry.contact, seen));
            // The binding just made leads nowhere: it is replaced at once.
            entry.next = Some(now);
        }
        let name = Arc::clone(&entry.wanted.name);
        if first {
            let pause = self.keep_alive_pause(flow.transport);
            if let Some(entry) = self.registrations.all.get_mut(key) {
                entry.keep_alive = Some(now + pause);
            }
            self.notices.push_back(Notice::Registered { name, expires, registrar: flow.remote });
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

    /// The next server at once where another may do better; when all have failed, later and later (RFC 5626 4.5).
    fn registrar_failed(
        &mut self,
        now: Instant,
        key: RegistrationKey,
        response: Option<&Message>,
        reason: &str,
    ) {
        let half = self.ident.within(&(500..=1000));
        let Some(entry) = self.registrations.all.get_mut(key) else { return };
        if entry.state == State::Leaving {
            return self.forget_registration(key);
        }
        let status = response.and_then(Message::status).map(|status| status.0);
        let elsewhere = status.is_none_or(|status| (500..600).contains(&status));
        entry.failed += 1;
        if elsewhere && entry.failed < entry.wanted.targets.len() {
            entry.target = (entry.target + 1) % entry.wanted.targets.len();
            return self.send_register(now, key);
        }
        (entry.failed, entry.target) = (0, 0);
        entry.rounds = entry.rounds.saturating_add(1);
        let factor = 2_u32.saturating_pow(entry.rounds.min(16));
        let longest = BASE_WAIT.saturating_mul(factor).min(MAX_WAIT);
        let asked = response.and_then(|response| response.number(Name::RetryAfter));
        let asked = Duration::from_secs(asked.unwrap_or_default().into()).min(MAX_WAIT);
        let retry = (longest.saturating_mul(half) / 1000).max(asked);
        entry.next = Some(now + retry);
        (entry.state, entry.keep_alive) = (State::Trying, None);
        let (name, reason) = (Arc::clone(&entry.wanted.name), reason.to_owned());
        self.notices.push_back(Notice::RegistrationFailed { name, status, reason, retry });
    }

    /// A stream to a registrar is gone, and with it the flow that calls come by (RFC 5626 4.5): a new one at once.
    pub(super) fn registrar_flow_lost(&mut self, now: Instant, flow: Flow) {
        if !flow.transport.is_reliable() || self.registrations.is_empty() {
            return;
        }
        let lost = |entry: &Entry| {
            let own = entry.flow();
            entry.state == State::Registered
                && entry.open.is_none()
                && own.is_some_and(|own| own.remote == flow.remote && own.transport == flow.transport)
        };
        for entry in self.registrations.all.values_mut().filter(|entry| lost(entry)) {
            entry.next = Some(now);
        }
        self.registrations.plan();
    }
}

fn register(entry: &mut Entry, flow: Flow, branch: &str, user_agent: &str) -> Builder {
    let expires = if entry.state == State::Leaving { 0 } else { entry.expires };
    let (aor, registrar) = (&entry.wanted.aor, &entry.wanted.registrar);
    let mut builder = Builder::request(Method::Register, registrar)
        .via(flow.transport, &entry.contact, branch)
        .header(Name::MaxForwards, "70")
        .header(Name::From, format!("<{aor}>;tag={}", entry.tag))
        .header(Name::To, format!("<{aor}>"))
        .header(Name::CallId, &entry.call_id)
        .cseq(entry.cseq, Method::Register)
        .header(Name::Contact, entry.contact_value(&entry.contact, flow.transport, expires));
    if let Some(former) = &entry.former {
        builder = builder.header(Name::Contact, entry.contact_value(former, flow.transport, 0));
    }
    let builder = builder
        .header(Name::Expires, expires.to_string())
        // RFC 3327 5.1: proxies on the way may ask to be called through.
        .header(Name::Supported, "path")
        .header(Name::Allow, ALLOW)
        .header(Name::UserAgent, user_agent);
    let home = flow.remote.ip();
    let profile = &entry.wanted.profile;
    let auth = entry.auth.take().map(|auth| auth.at(home)).or_else(|| Auth::of(profile, home));
    let Some(mut auth) = auth else { return builder };
    let builder = auth.unasked(builder, Method::Register, registrar, &[]);
    entry.auth = Some(auth);
    builder
}

/// What our own contact got, which may stand among others' (10.2.4).
fn granted_for(entry: &Entry, response: &Message) -> u32 {
    let (host, port) = entry.contact.rsplit_once(':').unwrap_or((&entry.contact, "5060"));
    let port = port.parse().unwrap_or(5060);
    let own = |contact: &NameAddr<'_>| {
        contact.uri.user() == Some(&*entry.wanted.contact_user)
            && contact.uri.host().is_some_and(|found| found.to_string().eq_ignore_ascii_case(host))
            && contact.uri.port().unwrap_or(5060) == port
    };
    let param =
        response.contacts().find(own).and_then(|contact| contact.params.value("expires")?.parse().ok());
    param.or(response.expires()).unwrap_or(entry.expires)
}

/// `host:port` that the registrar saw us at (RFC 3581 4).
fn seen_as(response: &Message) -> Option<String> {
    let via = response.top_via().ok()?;
    let address = via.received().or_else(|| via.host.ip())?;
    Some(host_port(std::net::SocketAddr::new(address, via.rport()?)).to_string())
}
