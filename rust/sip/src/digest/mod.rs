//! Digest authentication: RFC 7616 with the algorithms of RFC 8760, and RFC 2069 for peers that offer no `qop`.
//!
//! Text goes in, text comes out; who may be answered, and how often, is the endpoint's business. A realm or nonce is
//! hashed and repeated exactly as it stands between its quotes, escapes and all (RFC 7616 3.4.1, `unq`).

mod challenge;
mod fields;
mod nonce;
mod session;

pub use challenge::Challenge;
pub use fields::Fields;
pub(crate) use nonce::{Nonces, Verdict, equal};
pub(crate) use session::Session;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use md5::Md5;
use sha2::{Digest as _, Sha256, Sha512_256};

/// A hash function of RFC 7616 3.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hash {
    /// Broken, and still what most peers speak.
    Md5,
    /// SHA-256.
    Sha256,
    /// SHA-512/256.
    Sha512_256,
}

impl Hash {
    /// The hash of some pieces with colons between them, in lower-case hexadecimal.
    pub(crate) fn of(self, pieces: &[&str]) -> String {
        self.of_bytes(pieces.join(":").as_bytes())
    }

    fn of_bytes(self, bytes: &[u8]) -> String {
        match self {
            Self::Md5 => hex(&Md5::digest(bytes)),
            Self::Sha256 => hex(&Sha256::digest(bytes)),
            Self::Sha512_256 => hex(&Sha512_256::digest(bytes)),
        }
    }
}

/// A value of `algorithm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Algorithm {
    /// How to hash.
    pub hash: Hash,
    /// `-sess`: nonce and cnonce go into the key (RFC 7616 3.4.2).
    pub session: bool,
}

impl Algorithm {
    /// Reads a name, any case; `None` if it is not supported, and such a challenge is passed over (RFC 8760 2.4).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        let (plain, session) = upper.strip_suffix("-SESS").map_or((&*upper, false), |plain| (plain, true));
        let hash = match plain {
            "MD5" => Hash::Md5,
            "SHA-256" => Hash::Sha256,
            "SHA-512-256" => Hash::Sha512_256,
            _ => return None,
        };
        Some(Self { hash, session })
    }

    /// The registered name (RFC 8760 2.3).
    #[must_use]
    pub fn name(self) -> &'static str {
        match (self.hash, self.session) {
            (Hash::Md5, false) => "MD5",
            (Hash::Md5, true) => "MD5-sess",
            (Hash::Sha256, false) => "SHA-256",
            (Hash::Sha256, true) => "SHA-256-sess",
            (Hash::Sha512_256, false) => "SHA-512-256",
            (Hash::Sha512_256, true) => "SHA-512-256-sess",
        }
    }
}

/// The quality of protection (RFC 7616 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Qop {
    /// Method and URI are protected.
    Auth,
    /// The body too.
    AuthInt,
}

impl Qop {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            _ if text.eq_ignore_ascii_case("auth") => Some(Self::Auth),
            _ if text.eq_ignore_ascii_case("auth-int") => Some(Self::AuthInt),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::AuthInt => "auth-int",
        }
    }
}

/// What a digest protects.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The method of the request.
    pub method: &'a str,
    /// The digest URI: our Request-URI.
    pub uri: &'a str,
    /// The body, which counts with `auth-int` only.
    pub body: &'a [u8],
}

/// What goes into a response beside the key and the subject.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The nonce as the server wrote it.
    pub nonce: &'a str,
    /// `nc` as written, cnonce and qop; `None` is RFC 2069.
    pub quality: Option<(&'a str, &'a str, Qop)>,
}

/// The response to a challenge (RFC 7616 3.4.1; without qop RFC 2617 3.2.2.1).
#[must_use]
pub fn response(ha1: &str, terms: &Terms<'_>, subject: &Subject<'_>) -> String {
    let Terms { algorithm: Algorithm { hash, session }, nonce, quality } = *terms;
    let cnonce = quality.map_or("", |(_, cnonce, _)| cnonce);
    let key = if session { hash.of(&[ha1, nonce, cnonce]) } else { ha1.to_owned() };
    let ha2 = match quality {
        Some((_, _, Qop::AuthInt)) => hash.of(&[subject.method, subject.uri, &hash.of_bytes(subject.body)]),
        _ => hash.of(&[subject.method, subject.uri]),
    };
    match quality {
        Some((count, cnonce, qop)) => hash.of(&[&key, nonce, count, cnonce, qop.as_str(), &ha2]),
        None => hash.of(&[&key, nonce, &ha2]),
    }
}

/// What proves who somebody is. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The password itself.
    Password(Box<str>),
    /// The hash of `user:realm:password`, in lower-case hexadecimal.
    Ha1(Hash, Box<str>),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl Secret {
    /// A hash in hexadecimal, whose length tells its algorithm: MD5 or SHA-256.
    #[must_use]
    pub fn from_ha1(text: &str) -> Option<Self> {
        let hash = match text.len() {
            32 => Hash::Md5,
            64 => Hash::Sha256,
            _ => return None,
        };
        let hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        hexadecimal.then(|| Self::Ha1(hash, text.to_ascii_lowercase().into()))
    }

    /// H(A1) without the session part (RFC 7616 3.4.2); `None` when only another algorithm's is known.
    #[must_use]
    pub fn ha1(&self, hash: Hash, user: &str, realm: &str) -> Option<String> {
        match self {
            Self::Password(password) => Some(hash.of(&[user, realm, password])),
            Self::Ha1(known, ha1) => (*known == hash).then(|| ha1.to_string()),
        }
    }

    /// The only algorithm whose challenges can be judged; `None` means all can.
    pub(crate) fn only(&self) -> Option<Hash> {
        match self {
            Self::Password(_) => None,
            Self::Ha1(known, _) => Some(*known),
        }
    }
}

/// Who we are to a peer that challenges us, and which challenges are its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub username: Arc<str>,
    /// The password.
    pub secret: Secret,
    /// The only realm that is answered.
    pub realm: Arc<str>,
    /// Networks whose hosts may challenge us beside the address a call was sent to: address and prefix length.
    pub networks: Vec<(IpAddr, u8)>,
}

impl Credentials {
    /// Whether an address is in one of the networks.
    pub(crate) fn covers(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|(network, prefix)| match (network, ip) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => {
                same_start(u128::from(u32::from(*network)) << 96, u128::from(u32::from(ip)) << 96, *prefix)
            }
            (IpAddr::V6(network), IpAddr::V6(ip)) => same_start((*network).into(), ip.into(), *prefix),
            _ => false,
        })
    }
}

fn same_start(one: u128, other: u128, bits: u8) -> bool {
    (one ^ other).checked_shr(128_u32.saturating_sub(bits.into())).is_none_or(|rest| rest == 0)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
    const CNONCE: &str = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";

    fn answer(algorithm: &str, user: &str, realm: &str, password: &str, subject: &Subject<'_>) -> String {
        let algorithm = Algorithm::parse(algorithm).unwrap();
        let ha1 = Secret::Password(password.into()).ha1(algorithm.hash, user, realm).unwrap();
        let quality = Some(("00000001", CNONCE, Qop::Auth));
        response(&ha1, &Terms { algorithm, nonce: NONCE, quality }, subject)
    }

    /// RFC 7616 3.9.1.
    #[test]
    fn the_examples_of_rfc_7616() {
        let subject = Subject { method: "GET", uri: "/dir/index.html", body: b"" };
        for (algorithm, expected) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            assert_eq!(
                answer(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life", &subject),
                expected,
                "{algorithm}"
            );
        }
    }

    /// RFC 7616 3.9.2 with the figures of its erratum 4897, in which SHA-512-256 is the truncation of FIPS 180-4.
    #[test]
    fn sha_512_256_has_its_own_initial_value() {
        assert_eq!(
            Hash::Sha512_256.of(&["abc"]),
            "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23"
        );
    }

    /// RFC 2617 3.5, and the same without qop as RFC 2069 has it.
    #[test]
    fn older_peers_are_understood() {
        let nonce = "dcd98b7102dd2f0e8b11d0f600bfb0c093";
        let algorithm = Algorithm::parse("md5").unwrap();
        let subject = Subject { method: "GET", uri: "/dir/index.html", body: b"" };
        let secret = Secret::Password("Circle Of Life".into());
        let ha1 = secret.ha1(Hash::Md5, "Mufasa", "testrealm@host.com").unwrap();
        assert_eq!(ha1, "939e7578ed9e3c518a452acee763bce9");
        let quality = Some(("00000001", "0a4f113b", Qop::Auth));
        assert_eq!(
            response(&ha1, &Terms { algorithm, nonce, quality }, &subject),
            "6629fae49393a05397450978507c4ef1"
        );
        assert_eq!(
            response(&ha1, &Terms { algorithm, nonce, quality: None }, &subject),
            "670fd8c2df070c60b045671b8b24ff02"
        );
    }

    #[test]
    fn session_keys_and_bodies_change_the_answer() {
        let whole = |algorithm, qop, body: &[u8]| {
            let algorithm = Algorithm::parse(algorithm).unwrap();
            let subject = Subject { method: "INVITE", uri: "sip:bob@example.com", body };
            let quality = Some(("00000001", CNONCE, qop));
            response("00", &Terms { algorithm, nonce: NONCE, quality }, &subject)
        };
        assert_ne!(whole("SHA-256", Qop::Auth, b"x"), whole("SHA-256-sess", Qop::Auth, b"x"));
        assert_eq!(whole("SHA-256", Qop::Auth, b"x"), whole("SHA-256", Qop::Auth, b"y"));
        assert_ne!(whole("MD5", Qop::AuthInt, b"x"), whole("MD5", Qop::AuthInt, b"y"));
    }

    #[test]
    fn secrets_are_not_shown_and_hashes_tell_their_kind() {
        assert_eq!(format!("{:?}", Secret::Password("secret".into())), "Secret(***)");
        assert_eq!(Secret::from_ha1("zz"), None);
        let md5 = Secret::from_ha1(&"A".repeat(32)).unwrap();
        assert_eq!(md5.ha1(Hash::Md5, "", "").unwrap(), "a".repeat(32));
        assert_eq!(md5.ha1(Hash::Sha256, "", ""), None);
    }

    #[test]
    fn networks_cover_their_hosts() {
        let credentials = Credentials {
            username: "u".into(),
            secret: Secret::Password("p".into()),
            realm: "r".into(),
            networks: vec![("192.0.2.0".parse().unwrap(), 24), ("2001:db8::".parse().unwrap(), 32)],
        };
        for (ip, covered) in
            [("192.0.2.77", true), ("192.0.3.1", false), ("2001:db8::9", true), ("2001:db9::9", false)]
        {
            assert_eq!(credentials.covers(ip.parse().unwrap()), covered, "{ip}");
        }
        let all = Credentials { networks: vec![("0.0.0.0".parse().unwrap(), 0)], ..credentials };
        assert!(all.covers("203.0.113.1".parse().unwrap()) && !all.covers("::1".parse().unwrap()));
    }
}
