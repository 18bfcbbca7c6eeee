//! Who is there? Challenges of ours, and what comes back (RFC 3261 22.1 to 22.4, RFC 7616, RFC 8760).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Endpoint;
use super::refuse::Refusal;
use crate::admission::Ground;
use crate::digest::{Algorithm, Fields, Hash, Nonces, Qop, Secret, Subject, Terms, Verdict, equal, response};
use crate::transaction::Arrival;
use crate::users::{Guard, Users};
use crate::{Builder, Message, Method, Name, Profile, Uri};

/// Wrong answers of one source within [`FAILURE_WINDOW`] after which it is not asked any more.
const MAX_FAILURES: u32 = 20;
const FAILURE_WINDOW: Duration = Duration::from_secs(60);
/// Sources whose failures are counted.
const MAX_SOURCES: usize = 4_096;

/// What is known of those who must say who they are.
#[derive(Debug)]
pub(crate) struct Doorman {
    nonces: Nonces,
    pub(crate) users: Option<Arc<Users>>,
    /// Wrong answers by source, since when.
    failures: HashMap<IpAddr, (u32, Instant)>,
    /// Stands in for users that are not there, so that their absence takes as long to tell as a wrong password.
    nobody: Secret,
}

/// What a request proves.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Proof {
    Right(Arc<str>),
    /// No credentials for our realm, or none that answer a challenge of ours.
    Missing,
    /// A challenge of ours answered wrongly.
    Wrong,
    /// Right, but for a nonce of ours that will not do any more.
    Stale,
}

/// Whom credentials are held against.
enum Known<'a> {
    Users(&'a Users),
    One(&'a Guard),
}

impl Known<'_> {
    fn realm(&self) -> &Arc<str> {
        match self {
            Self::Users(users) => &users.realm,
            Self::One(guard) => &guard.realm,
        }
    }

    fn find(&self, name: &str) -> Option<(&Arc<str>, &Secret)> {
        match self {
            Self::Users(users) => users.accounts.get_key_value(name).map(|(name, user)| (name, &user.secret)),
            Self::One(guard) => (*guard.username == *name).then_some((&guard.username, &guard.secret)),
        }
    }
}

/// Credentials as a request carries them.
struct Given<'a> {
    username: &'a str,
    nonce: &'a str,
    uri: &'a str,
    response: &'a str,
    algorithm: Algorithm,
    quality: Option<(&'a str, &'a str, Qop)>,
}

impl<'a> Given<'a> {
    fn read(fields: &Fields<'a>) -> Option<Self> {
        let algorithm = Algorithm::parse(fields.value("algorithm").unwrap_or("MD5"))?;
        let quality = match fields.value("qop") {
            Some(qop) => Some((fields.value("nc")?, fields.value("cnonce")?, Qop::parse(qop)?)),
            None => None,
        };
        Some(Self {
            username: fields.value("username")?,
            nonce: fields.value("nonce")?,
            uri: fields.value("uri")?,
            response: fields.value("response")?,
            algorithm,
            quality,
        })
    }
}

impl Doorman {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        let nobody = Secret::Password(crate::digest::hex(&key).into());
        Self { nonces: Nonces::new(key), users: None, failures: HashMap::new(), nobody }
    }

    /// Whether a source has guessed too often.
    fn is_shut(&self, now: Instant, source: IpAddr) -> bool {
        let guessed = self.failures.get(&network(source));
        guessed.is_some_and(|(count, since)| {
            *count >= MAX_FAILURES && now.saturating_duration_since(*since) < FAILURE_WINDOW
        })
    }

    fn note_failure(&mut self, now: Instant, source: IpAddr) {
        let source = network(source);
        let recent = |since: &Instant| now.saturating_duration_since(*since) < FAILURE_WINDOW;
        if self.failures.len() >= MAX_SOURCES && !self.failures.contains_key(&source) {
            self.failures.retain(|_, (_, since)| recent(since));
            if self.failures.len() >= MAX_SOURCES {
                self.failures.clear();
            }
        }
        let (count, since) = self.failures.entry(source).or_insert((0, now));
        if !recent(since) {
            (*count, *since) = (0, now);
        }
        *count = count.saturating_add(1);
    }

    fn prove(&mut self, now: Instant, source: IpAddr, request: &Message, known: &Known<'_>) -> Proof {
        let all = request.lines(Name::Authorization).flat_map(Fields::parse);
        let mut ours =
            all.filter(|fields| fields.is_digest() && fields.value("realm") == Some(known.realm()));
        let Some(fields) = ours.next() else { return Proof::Missing };
        let Some(given) = Given::read(&fields) else { return Proof::Missing };
        let found = known.find(given.username);
        let secret = found.map_or(&self.nobody, |(_, secret)| secret);
        let ha1 = secret.ha1(given.algorithm.hash, given.username, known.realm());
        let terms = Terms { algorithm: given.algorithm, nonce: given.nonce, quality: given.quality };
        let subject = Subject { method: request.method_str(), uri: given.uri, body: request.body() };
        let expected = response(ha1.as_deref().unwrap_or_default(), &terms, &subject);
        let right = equal(&expected, &given.response.to_ascii_lowercase())
            && ha1.is_some()
            && is_about(request, given.uri);
        let count = given.quality.map(|(count, ..)| u32::from_str_radix(count, 16).unwrap_or(0));
        match (found.filter(|_| right), self.nonces.judge(now, source, given.nonce, count, right)) {
            // Whoever never got a nonce of ours may have forged his source: that must shut nobody out. As it is not
            // counted, it is told nothing of the password either: `stale` is for nonces of ours (RFC 7616 3.3).
            (_, Verdict::Foreign) => Proof::Missing,
            (Some((name, _)), Verdict::Fresh) => Proof::Right(Arc::clone(name)),
            (Some(_), Verdict::Stale) => Proof::Stale,
            (None, Verdict::Fresh | Verdict::Stale) => Proof::Wrong,
        }
    }
}

/// A source as its failures are counted: whoever has one IPv6 address has all of its /64.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// 22.4: the digest is about this request and not about another one.
fn is_about(request: &Message, uri: &str) -> bool {
    let same = |given: Uri<'_>| {
        request.uri().is_some_and(|own| {
            own.host().map(|host| host.to_string()) == given.host().map(|host| host.to_string())
                && own.user() == given.user()
        })
    };
    request.request_uri() == Some(uri) || Uri::parse(uri).is_ok_and(same)
}

impl Endpoint {
    /// Who may register, and is asked who he is when he calls from no trunk's address. `None` has no phones. Replaces
    /// those before; the bindings of a user who is still there stand, those of the others end.
    pub fn set_users(&mut self, now: Instant, users: Option<Users>) {
        self.doorman.users = users.map(Arc::new);
        self.drop_strangers(now);
    }

    /// Whether a stranger's request may say who sends it: that of a user's phone, wherever it is.
    pub(super) fn may_introduce(&self, request: &Message, profile: &Profile) -> bool {
        let begins = matches!(request.method(), Some(Method::Register | Method::Invite));
        begins && profile.phones && self.doorman.users.is_some() && request.to_tag().is_none()
    }

    /// The user that an INVITE proves to come from; nobody where nobody is asked. `Err` has been answered.
    pub(super) fn admitted(
        &mut self,
        now: Instant,
        request: &Message,
        arrival: Arrival,
        profile: &Profile,
    ) -> Result<Option<Arc<str>>, ()> {
        if let Some(guard) = &profile.guard {
            return self.authenticated(now, request, arrival, profile, &Known::One(guard)).map(|_| None);
        }
        let Some(users) = self.doorman.users.clone() else { return Ok(None) };
        let caller = request.from().ok().and_then(|from| Some(from.uri.user_unescaped()?.into_owned()));
        let named = caller.as_deref().is_some_and(|caller| users.accounts.contains_key(caller));
        // Addresses of a trunk are its own; only where phones may sit too does the caller's name tell.
        if !profile.phones || (!profile.name.is_empty() && !named) {
            return Ok(None);
        }
        let user = self.authenticated(now, request, arrival, profile, &Known::Users(&users))?;
        if caller.as_deref() != Some(&*user) {
            self.refuse(request, arrival, &Refusal::plain(403, "From is somebody else"), profile);
            return Err(());
        }
        Ok(Some(user))
    }

    /// The user that a REGISTER proves to come from. `Err` has been answered.
    pub(super) fn registering(
        &mut self,
        now: Instant,
        request: &Message,
        arrival: Arrival,
        profile: &Profile,
        users: &Users,
    ) -> Result<Arc<str>, ()> {
        self.authenticated(now, request, arrival, profile, &Known::Users(users))
    }

    fn authenticated(
        &mut self,
        now: Instant,
        request: &Message,
        arrival: Arrival,
        profile: &Profile,
        known: &Known<'_>,
    ) -> Result<Arc<str>, ()> {
        let source = arrival.flow.remote.ip();
        if self.doorman.is_shut(now, source) {
            self.refuse(request, arrival, &Refusal::plain(403, "Too many wrong passwords"), profile);
            return Err(());
        }
        let stale = match self.doorman.prove(now, source, request, known) {
            Proof::Right(user) => return Ok(user),
            Proof::Missing => false,
            Proof::Stale => true,
            Proof::Wrong => {
                self.io.stats.wrong_credentials += 1;
                self.doorman.note_failure(now, source);
                self.note(Ground::Credentials, Some(401), request, arrival.flow, profile, "");
                false
            }
        };
        let nonce = self.doorman.nonces.make(now, source);
        let hashes = offered(request, known);
        let realm = Arc::clone(known.realm());
        self.io.stats.refused += 1;
        self.respond_stateless(request, arrival, 401, "", |builder| {
            hashes.iter().fold(builder, |builder, hash| challenge(builder, *hash, &realm, &nonce, stale))
        });
        Err(())
    }
}

/// The preferred algorithm first (RFC 8760 2.3): SHA-256, which each phone knows that knows more than MD5, for some read
/// no further than the first. One that the caller's account has no key for is not offered.
fn offered(request: &Message, known: &Known<'_>) -> Vec<Hash> {
    let all = [Hash::Sha256, Hash::Sha512_256, Hash::Md5];
    let name = request.from().ok().and_then(|from| Some(from.uri.user_unescaped()?.into_owned()));
    let secret = name.and_then(|name| known.find(&name)).map(|(_, secret)| secret);
    all.into_iter().filter(|hash| secret.is_none_or(|secret| secret.serves(*hash))).collect()
}

fn challenge(builder: Builder, hash: Hash, realm: &str, nonce: &str, stale: bool) -> Builder {
    let algorithm = Algorithm { hash, session: false }.name();
    let stale = if stale { ", stale=true" } else { "" };
    let value =
        format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={algorithm}, qop=\"auth\"{stale}");
    builder.header(Name::WwwAuthenticate, value)
}
