//! Who is there? Challenges of ours, and what comes back (RFC 3261 22.1 to 22.4, RFC 7616, RFC 8760).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Endpoint;
use super::failures::Failures;
use super::nobody::Nobody;
use super::refuse::Refusal;
use crate::admission::Ground;
use crate::digest::{Algorithm, Fields, Hash, Nonces, Qop, Secret, Subject, Terms, Verdict, equal, response};
use crate::transaction::Arrival;
use crate::transaction::key::Fingerprints;
use crate::users::{Guard, Users};
use crate::{Builder, Message, Method, Name, Profile, Uri};

/// How far those who were shut out come back apart from each other, in seconds.
const SPREAD: u32 = 10;

/// What is known of those who must say who they are.
#[derive(Debug)]
pub(crate) struct Doorman {
    nonces: Nonces,
    pub(crate) users: Option<Arc<Users>>,
    failures: Failures,
    nobody: Nobody,
    prints: Fingerprints,
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

    fn find(&self, name: &str) -> Option<&Arc<str>> {
        match self {
            Self::Users(users) => users.accounts.get_key_value(name).map(|(name, _)| name),
            Self::One(guard) => Some(&guard.username).filter(|username| ***username == *name),
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
    /// The credentials of a request for a realm.
    fn of(request: &'a Message, realm: &str) -> Option<Self> {
        let mut all = request.lines(Name::Authorization).flat_map(Fields::parse);
        Self::read(&all.find(|fields| fields.is_digest() && fields.value("realm") == Some(realm))?)
    }

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
    pub(crate) fn new(key: [u8; 32], prints: Fingerprints) -> Self {
        let (nonces, nobody) = (Nonces::new(key), Nobody::new(&key));
        Self { nonces, users: None, failures: Failures::default(), nobody, prints }
    }

    /// The secret that goes with a name: a user's, or one that nobody knows. A trunk has one for all its callers.
    fn secret<'a>(&'a self, known: &Known<'a>, name: &str) -> &'a Secret {
        match known {
            Known::Users(users) => match users.accounts.get(name) {
                Some(user) => &user.secret,
                None => self.nobody.secret(self.prints.user(name)),
            },
            Known::One(guard) => &guard.secret,
        }
    }

    /// The preferred algorithm first (RFC 8760 2.3): SHA-256, which each phone knows that knows more than MD5, for some
    /// read no further than the first. One that there is no key for is not offered.
    fn offered(&self, request: &Message, known: &Known<'_>) -> Vec<Hash> {
        let name = request.from().ok().and_then(|from| Some(from.uri.user_unescaped()?.into_owned()));
        let only = self.secret(known, name.as_deref().unwrap_or_default()).only();
        let all = [Hash::Sha256, Hash::Sha512_256, Hash::Md5];
        all.into_iter().filter(|hash| only.is_none_or(|only| only == *hash)).collect()
    }

    fn prove(
        &mut self,
        now: Instant,
        source: IpAddr,
        request: &Message,
        given: &Given<'_>,
        known: &Known<'_>,
    ) -> Proof {
        let found = known.find(given.username);
        let secret = self.secret(known, given.username);
        let ha1 = secret.ha1(given.algorithm.hash, given.username, known.realm());
        let terms = Terms { algorithm: given.algorithm, nonce: given.nonce, quality: given.quality };
        let subject = Subject { method: request.method_str(), uri: given.uri, body: request.body() };
        let expected = response(ha1.as_deref().unwrap_or_default(), &terms, &subject);
        let right = equal(&expected, &given.response.to_ascii_lowercase())
            && ha1.is_some()
            && found.is_some()
            && is_about(request, given.uri);
        let count = given.quality.map(|(count, ..)| u32::from_str_radix(count, 16).unwrap_or(0));
        match (found.filter(|_| right), self.nonces.judge(now, source, given.nonce, count, right)) {
            // Whoever never got a nonce of ours may have forged his source: that must shut nobody out. As it is not
            // counted, it is told nothing of the password either: `stale` is for nonces of ours (RFC 7616 3.3).
            (_, Verdict::Foreign) => Proof::Missing,
            (Some(name), Verdict::Fresh) => Proof::Right(Arc::clone(name)),
            (Some(_), Verdict::Stale) => Proof::Stale,
            (None, Verdict::Fresh | Verdict::Stale) => Proof::Wrong,
        }
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
        self.doorman.nobody.blend_in(users.as_ref().unwrap_or(&Users::default()));
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
        let given = Given::of(request, known.realm());
        let name = given.as_ref().map(|given| self.doorman.prints.user(given.username));
        if let Some(left) = self.doorman.failures.shut(now, source, name) {
            self.shut_out(request, arrival, profile, left);
            return Err(());
        }
        let prove = |given| self.doorman.prove(now, source, request, given, known);
        let stale = match given.as_ref().map_or(Proof::Missing, prove) {
            Proof::Right(user) => return Ok(user),
            Proof::Missing => false,
            Proof::Stale => true,
            Proof::Wrong => {
                self.io.stats.wrong_credentials += 1;
                self.doorman.failures.note(now, source, name.unwrap_or_default());
                self.note(Ground::Credentials, Some(401), request, arrival.flow, profile, "");
                false
            }
        };
        let nonce = self.doorman.nonces.make(now, source);
        let hashes = self.doorman.offered(request, known);
        let realm = Arc::clone(known.realm());
        self.io.stats.refused += 1;
        self.respond_stateless(request, arrival, 401, "", |builder| {
            hashes.iter().fold(builder, |builder, hash| challenge(builder, *hash, &realm, &nonce, stale))
        });
        Err(())
    }

    /// 503 until the source is listened to again. Not 403, which means never (21.4.4) and is what phones take for that:
    /// those behind the same NAT would stay away for good.
    fn shut_out(&mut self, request: &Message, arrival: Arrival, profile: &Profile, left: Duration) {
        const REASON: &str = "Too many wrong passwords";
        let least = u32::try_from(left.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        let seconds = self.ident.within(&(least..=least.saturating_add(SPREAD))).to_string();
        self.io.stats.refused += 1;
        self.note(Ground::Credentials, Some(503), request, arrival.flow, profile, REASON);
        self.respond_stateless(request, arrival, 503, REASON, |builder| {
            builder.header(Name::RetryAfter, seconds)
        });
    }
}

fn challenge(builder: Builder, hash: Hash, realm: &str, nonce: &str, stale: bool) -> Builder {
    let algorithm = Algorithm { hash, session: false }.name();
    let stale = if stale { ", stale=true" } else { "" };
    let value =
        format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={algorithm}, qop=\"auth\"{stale}");
    builder.header(Name::WwwAuthenticate, value)
}
