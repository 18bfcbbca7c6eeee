//! The registrar of our own phones (RFC 3261 10.3; RFC 3327, RFC 3608, RFC 5626).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Endpoint;
use super::refuse::Refusal;
use crate::header::NameAddr;
use crate::header::scan::without_headers;
use crate::transaction::{Arrival, ServerKey};
use crate::users::{Account, Binding, Users};
use crate::write::host_port;
use crate::{Builder, Connection, Flow, Message, Name, Notice, Profile, Scheme, Transport, Uri};

/// Seconds: the shortest that is granted, what is granted unasked, the longest (10.3 step 7).
const MIN_EXPIRES: u32 = 60;
const DEFAULT_EXPIRES: u32 = 3600;
const MAX_EXPIRES: u32 = 7200;
/// Hops of a Path that are kept (RFC 3327).
const MAX_PATH: usize = 8;
/// Contacts of one REGISTER that are looked at.
const MAX_CONTACTS: usize = 50;
/// The longest Contact URI that is kept.
const MAX_URI: usize = 512;
/// How often a phone is to ping its stream (RFC 5626 4.4.1).
const FLOW_TIMER: &str = "120";

/// One Contact of an address of record.
#[derive(Debug, Clone)]
struct Bound {
    token: u64,
    uri: Box<str>,
    /// `+sip.instance` and `reg-id` (RFC 5626 6).
    instance: Option<(Box<str>, u32)>,
    q: u16,
    until: Instant,
    call_id: Box<str>,
    cseq: u32,
    flow: Flow,
    path: Vec<Box<str>>,
    user_agent: Box<str>,
}

impl Bound {
    /// 19.1.4, unless the phone says which of its flows this is (RFC 5626 6).
    fn is_same(&self, other: &Self) -> bool {
        match (&self.instance, &other.instance) {
            (Some(one), Some(other)) => one == other,
            _ => match (Uri::parse(&self.uri), Uri::parse(&other.uri)) {
                (Ok(one), Ok(other)) => one == other,
                _ => self.uri == other.uri,
            },
        }
    }
}

/// All bindings.
#[derive(Debug, Default)]
pub(crate) struct Registrar {
    bound: HashMap<Arc<str>, Vec<Bound>>,
    /// Where they came from, and how many from each place.
    sources: HashMap<SocketAddr, usize>,
    tokens: u64,
    next: Option<Instant>,
    /// What phones are told instead of the address they reached.
    public: Option<String>,
}

impl Registrar {
    pub(crate) fn new(public: Option<String>) -> Self {
        Self { public, ..Self::default() }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Whether a phone has registered this way.
    pub(super) fn is_bound(&self, flow: Flow) -> bool {
        self.bound.values().flatten().any(|bound| bound.flow == flow)
    }

    /// RFC 3608 6.3: what the phone sends later shall come here, too, and by the same transport.
    fn service_route(&self, flow: Flow) -> String {
        let there = match self.public.as_deref() {
            Some(host) => format!("{host}:{}", flow.local.port()),
            None => host_port(flow.local),
        };
        format!("<sip:{there}{};lr>", flow.transport.uri_parameter())
    }

    /// Whether a phone is registered from there.
    pub(crate) fn is_source(&self, remote: SocketAddr) -> bool {
        self.sources.contains_key(&remote)
    }

    /// What a user's bindings are from now on.
    fn put(&mut self, user: &Arc<str>, bound: Vec<Bound>) {
        for one in &bound {
            *self.sources.entry(one.flow.remote).or_default() += 1;
        }
        let former = match bound.is_empty() {
            true => self.bound.remove(user),
            false => self.bound.insert(Arc::clone(user), bound),
        };
        for one in former.into_iter().flatten() {
            if let Entry::Occupied(mut count) = self.sources.entry(one.flow.remote) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }

    fn plan(&mut self) {
        self.next = self.bound.values().flatten().map(|bound| bound.until).min();
    }
}

/// A way to a phone: the flow it registered by, and the route in between.
#[derive(Debug, Clone)]
pub struct Way {
    /// Its Contact.
    pub uri: Box<str>,
    /// The flow its REGISTER came by: behind a NAT nothing else leads there.
    pub flow: Flow,
    /// Its Path, for Route (RFC 3327 5.3).
    pub path: Vec<Box<str>>,
}

impl Endpoint {
    /// The way to a phone by the token of its binding.
    #[must_use]
    pub fn way(&self, token: u64) -> Option<Way> {
        let bound = self.registrar.bound.values().flatten().find(|bound| bound.token == token)?;
        Some(Way { uri: bound.uri.clone(), flow: bound.flow, path: bound.path.clone() })
    }

    /// A stream is gone, and with it the way to the phones behind it (RFC 5626 5.3).
    pub fn handle_closed(&mut self, now: Instant, connection: Connection) {
        let gone = |bound: &Bound| bound.flow.connection == Some(connection);
        self.drop_bindings(now, gone);
    }

    /// Bindings of users who are no more.
    pub(super) fn drop_strangers(&mut self, now: Instant) {
        let users = self.doorman.users.clone();
        let known = |user: &Arc<str>| users.as_ref().is_some_and(|users| users.accounts.contains_key(user));
        let gone: Vec<_> = self.registrar.bound.keys().filter(|user| !known(user)).cloned().collect();
        for user in gone {
            self.registrar.put(&user, Vec::new());
            self.tell_bindings(now, &user);
        }
        self.registrar.plan();
    }

    /// Bindings that nobody renewed.
    pub(super) fn registrar_due(&mut self, now: Instant) {
        if self.registrar.next.is_some_and(|next| next <= now) {
            self.drop_bindings(now, |bound| bound.until <= now);
        }
    }

    fn drop_bindings(&mut self, now: Instant, gone: impl Fn(&Bound) -> bool) {
        let hit = |(user, all): (&Arc<str>, &Vec<Bound>)| all.iter().any(&gone).then(|| Arc::clone(user));
        let users: Vec<_> = self.registrar.bound.iter().filter_map(hit).collect();
        for user in users {
            let mut left = self.registrar.bound.get(&user).cloned().unwrap_or_default();
            left.retain(|bound| !gone(bound));
            self.registrar.put(&user, left);
            self.tell_bindings(now, &user);
        }
        self.registrar.plan();
    }

    /// A REGISTER: the steps of 10.3. Where there are no phones it is a method like any other that is not known.
    pub(super) fn on_register(
        &mut self,
        now: Instant,
        request: &Message,
        arrival: Arrival,
        profile: &Profile,
    ) {
        let Some(users) = self.doorman.users.clone() else {
            return self.refuse(
                request,
                arrival,
                &Refusal::with(405, Name::Allow, super::headers::ALLOW),
                profile,
            );
        };
        let Ok(user) = self.registering(now, request, arrival, profile, &users) else { return };
        if self.is_full() {
            return self.overloaded(request, arrival, profile);
        }
        // From here on a lost answer is repeated, since the same credentials would do no second time (8.2.7).
        let server = self.servers.accept(request, arrival, None);
        match self.bind(now, request, arrival, &user, &users) {
            Ok(()) => self.answer_register(now, request, arrival, server, &user),
            Err(refusal) => self.refuse_statefully(now, request, arrival, server, &refusal, profile),
        }
    }

    /// Does what the REGISTER of a user wants done.
    fn bind(
        &mut self,
        now: Instant,
        request: &Message,
        arrival: Arrival,
        user: &Arc<str>,
        users: &Users,
    ) -> Result<(), Refusal> {
        let of = request.to().ok().and_then(|to| Some(to.uri.user_unescaped()?.into_owned()));
        let account = users.accounts.get(user).filter(|_| of.as_deref() == Some(&**user));
        let account = account.ok_or_else(|| Refusal::plain(403, "To is somebody else"))?;
        if let Some(bound) = self.rebound(now, request, arrival, user, account)? {
            self.registrar.put(user, bound);
            self.registrar.plan();
            self.tell_bindings(now, user);
        }
        Ok(())
    }

    /// The bindings as a REGISTER wants them, all or nothing; `None` only asks.
    fn rebound(
        &mut self,
        now: Instant,
        request: &Message,
        arrival: Arrival,
        user: &Arc<str>,
        account: &Account,
    ) -> Result<Option<Vec<Bound>>, Refusal> {
        let mut bound = self.registrar.bound.get(user).cloned().unwrap_or_default();
        bound.retain(|one| one.until > now);
        let wanted: Vec<&str> = request.values(Name::Contact).take(MAX_CONTACTS).collect();
        if wanted.is_empty() {
            return Ok(None);
        }
        if wanted.contains(&"*") {
            check_star(request, &wanted)?;
            bound.iter().try_for_each(|one| check_order(request, one))?;
            return Ok(Some(Vec::new()));
        }
        if wants_outbound(request) && lacks_outbound(request) {
            return Err(Refusal::plain(439, "First Hop Lacks Outbound Support"));
        }
        for value in wanted {
            let (expires, mut new) = self.contact(now, request, arrival, value)?;
            let known = bound.iter().position(|one| one.is_same(&new));
            if let Some(known) = known {
                let former = bound.remove(known);
                check_order(request, &former)?;
                // The flow keeps its token while it is the same one.
                if former.flow == new.flow {
                    new.token = former.token;
                }
            }
            if expires > 0 {
                bound.push(new);
            }
        }
        while bound.len() > account.max_contacts {
            let stale = stale(request, arrival, &bound);
            let stale = stale.ok_or_else(|| Refusal::plain(403, "Too many contacts"))?;
            bound.remove(stale);
        }
        bound.sort_by_key(|one| std::cmp::Reverse(one.q));
        Ok(Some(bound))
    }

    /// One Contact, and for how many seconds.
    fn contact(
        &mut self,
        now: Instant,
        request: &Message,
        arrival: Arrival,
        value: &str,
    ) -> Result<(u32, Bound), Refusal> {
        let fault = || Refusal::plain(400, "Malformed Contact header field");
        let contact = NameAddr::parse(value).map_err(|_| fault())?;
        let sip = matches!(contact.uri.scheme(), Scheme::Sip | Scheme::Sips);
        if !sip || contact.uri.as_str().len() > MAX_URI {
            return Err(fault());
        }
        if contact.uri.scheme() == Scheme::Sips && !is_secure(request, arrival.flow) {
            return Err(Refusal::plain(400, "A sips: Contact is registered with a sips: URI over TLS"));
        }
        let asked = match contact.params.value("expires") {
            // 10.2.1.1: a malformed one is the default.
            Some(text) => text.parse().unwrap_or(DEFAULT_EXPIRES),
            None => request.expires().unwrap_or(DEFAULT_EXPIRES),
        };
        if (1..MIN_EXPIRES).contains(&asked) {
            return Err(Refusal::with(423, Name::MinExpires, MIN_EXPIRES.to_string()));
        }
        let expires = asked.min(MAX_EXPIRES);
        let instance = instance(&contact).filter(|_| !lacks_outbound(request));
        self.registrar.tokens += 1;
        let bound = Bound {
            token: self.registrar.tokens,
            uri: without_headers(contact.uri.as_str()).into(),
            instance,
            q: contact.params.value("q").and_then(thousandths).unwrap_or(1000),
            until: now + Duration::from_secs(expires.into()),
            call_id: request.call_id().into(),
            cseq: request.cseq_number(),
            flow: arrival.flow,
            path: request.values(Name::Path).take(MAX_PATH).map(Into::into).collect(),
            user_agent: request.header(Name::UserAgent).unwrap_or_default().chars().take(128).collect(),
        };
        Ok((expires, bound))
    }

    /// 200 with all that is bound (10.3 step 8).
    fn answer_register(
        &mut self,
        now: Instant,
        request: &Message,
        arrival: Arrival,
        server: ServerKey,
        user: &Arc<str>,
    ) {
        let bound = self.registrar.bound.get(user).cloned().unwrap_or_default();
        let outbound = wants_outbound(request) && !lacks_outbound(request);
        let service = self.registrar.service_route(arrival.flow);
        let tag = self.prints.tag(request);
        self.reply(now, server, 200, |builder| {
            let builder = bound.iter().fold(builder.to_tag(&tag), |builder, one| written(builder, one, now));
            let builder = builder.copy(Name::Path, request).header(Name::ServiceRoute, service);
            let builder = builder.header(Name::Supported, "path, outbound");
            match outbound {
                // RFC 5626 6: this phone knows then that its flow is kept.
                true => builder.header(Name::Require, "outbound").header_named("Flow-Timer", FLOW_TIMER),
                false => builder,
            }
        });
    }

    fn tell_bindings(&mut self, now: Instant, user: &Arc<str>) {
        let bound = self.registrar.bound.get(user).map(Vec::as_slice).unwrap_or_default();
        let bindings = bound.iter().map(|one| one.told(now)).collect();
        self.notices.push_back(Notice::Bindings { user: Arc::clone(user), bindings });
    }
}

impl Bound {
    fn told(&self, now: Instant) -> Binding {
        Binding {
            token: self.token,
            uri: self.uri.clone(),
            q: self.q,
            expires: self.until.saturating_duration_since(now),
            source: self.flow.remote,
            transport: self.flow.transport,
            user_agent: self.user_agent.clone(),
        }
    }
}

fn written(builder: Builder, bound: &Bound, now: Instant) -> Builder {
    let expires = bound.until.saturating_duration_since(now).as_secs();
    let mut value = format!("<{}>;expires={expires};q={}.{:03}", bound.uri, bound.q / 1000, bound.q % 1000);
    if let Some((instance, number)) = &bound.instance {
        value.push_str(&format!(";+sip.instance=\"{instance}\";reg-id={number}"));
    }
    builder.header(Name::Contact, value)
}

/// What a phone without an instance left behind when it began anew on another port: of the bindings from the same
/// machine with the same user and the same User-Agent the one that was renewed longest ago.
fn stale(request: &Message, arrival: Arrival, bound: &[Bound]) -> Option<usize> {
    let new = |one: &Bound| *one.call_id == *request.call_id() && one.cseq == request.cseq_number();
    let user = |one: &Bound| Some(Uri::parse(&one.uri).ok()?.user_unescaped()?.into_owned());
    let same = |one: &Bound, other: &Bound| {
        let plain = one.instance.is_none() && other.instance.is_none() && !one.user_agent.is_empty();
        plain && one.user_agent == other.user_agent && user(one) == user(other)
    };
    let source = arrival.flow.remote.ip();
    let left = |one: &Bound| {
        let here = one.flow.remote.ip() == source && !new(one);
        here && bound.iter().any(|other| new(other) && same(one, other))
    };
    let all = bound.iter().enumerate().filter(|(_, one)| left(one));
    all.min_by_key(|(_, one)| one.until).map(|(at, _)| at)
}

/// 10.3 step 6: all at once, and nothing else.
fn check_star(request: &Message, wanted: &[&str]) -> Result<(), Refusal> {
    match wanted.len() == 1 && request.expires() == Some(0) {
        true => Ok(()),
        false => Err(Refusal::plain(400, "Contact * needs Expires 0")),
    }
}

/// 10.3 step 7: an old REGISTER that comes late changes nothing.
fn check_order(request: &Message, bound: &Bound) -> Result<(), Refusal> {
    match *bound.call_id == *request.call_id() && request.cseq_number() <= bound.cseq {
        true => Err(Refusal::plain(500, "CSeq out of order")),
        false => Ok(()),
    }
}

/// RFC 5626 6: whether the phone asks for its flow to be kept, and says which one it is.
fn wants_outbound(register: &Message) -> bool {
    register.supported().any(|tag| tag.eq_ignore_ascii_case("outbound"))
        && register.contacts().any(|contact| instance(&contact).is_some())
}

/// RFC 5626 6: whether a proxy in between keeps no flows, since it put no `ob` into Path: then `reg-id` tells nothing.
fn lacks_outbound(register: &Message) -> bool {
    let keeps = |value: &str| NameAddr::parse(value).is_ok_and(|path| path.uri.params().has("ob"));
    register.has_more_vias() && !register.values(Name::Path).any(keeps)
}

fn instance(contact: &NameAddr<'_>) -> Option<(Box<str>, u32)> {
    let id = contact.params.value("+sip.instance").filter(|id| id.len() <= 256)?;
    let number = contact.params.value("reg-id")?.parse().ok()?;
    Some((id.into(), number))
}

/// A qvalue in thousandths (25.1): `0`, `0.5`, `1.000`.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part = format!("{part:0<3}");
    let part: u16 = part.get(..3).filter(|_| part.len() == 3)?.parse().ok()?;
    match whole {
        "0" => Some(part),
        "1" if part == 0 => Some(1000),
        _ => None,
    }
}

/// Whether nothing on the way of a REGISTER is open: then a `sips:` Contact may be bound (RFC 5630 5.2).
fn is_secure(register: &Message, flow: Flow) -> bool {
    let sips = |uri: &Uri<'_>| uri.scheme() == Scheme::Sips;
    let path = |value: &str| NameAddr::parse(value).is_ok_and(|path| sips(&path.uri));
    flow.transport == Transport::Tls
        && register.uri().as_ref().is_some_and(sips)
        && register.values(Name::Path).all(path)
}

#[cfg(test)]
mod tests {
    use super::thousandths;

    #[test]
    fn preferences_are_read() {
        for (text, value) in [
            ("0", Some(0)),
            ("0.5", Some(500)),
            ("1.000", Some(1000)),
            ("1.1", None),
            ("0.1234", None),
            ("x", None),
        ] {
            assert_eq!(thousandths(text), value, "{text}");
        }
    }
}
