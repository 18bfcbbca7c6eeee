//! WWW-Authenticate and Proxy-Authenticate (RFC 7616 3.3, RFC 8760 2.4).

use super::{Algorithm, Fields, Hash, Qop};
use crate::{Message, Name};

/// A challenge that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge<'a> {
    /// Whose users are asked for.
    pub realm: &'a str,
    /// The server's own value.
    pub nonce: &'a str,
    /// To be given back as it is.
    pub opaque: Option<&'a str>,
    /// `None` means MD5 and is not named in the answer.
    pub algorithm: Option<Algorithm>,
    /// `None` is RFC 2069.
    pub qop: Option<Qop>,
    /// Only the nonce was too old (RFC 7616 3.3).
    pub stale: bool,
}

impl<'a> Challenge<'a> {
    /// The challenge to answer: of those of a realm the topmost that is supported, since a server puts the one it
    /// likes best first (RFC 8760 2.4).
    #[must_use]
    pub fn choose(response: &'a Message, name: Name, realm: &str) -> Option<Self> {
        let all = response.lines(name).flat_map(Fields::parse);
        all.filter_map(|fields| Self::read(&fields)).find(|challenge| challenge.realm == realm)
    }

    fn read(fields: &Fields<'a>) -> Option<Self> {
        if !fields.is_digest() {
            return None;
        }
        let algorithm = match fields.value("algorithm") {
            Some(name) => Some(Algorithm::parse(name)?),
            None => None,
        };
        let qop = match fields.value("qop").filter(|offer| !offer.trim().is_empty()) {
            Some(offer) => Some(best(offer)?),
            None => None,
        };
        // A session key needs a cnonce, which only comes with qop.
        if algorithm.is_some_and(|algorithm| algorithm.session) && qop.is_none() {
            return None;
        }
        Some(Self {
            realm: fields.value("realm")?,
            nonce: fields.value("nonce")?,
            opaque: fields.value("opaque"),
            algorithm,
            qop,
            stale: fields.value("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }

    /// The algorithm in force (RFC 7616 3.3).
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm.unwrap_or(Algorithm { hash: Hash::Md5, session: false })
    }
}

/// `auth` if it is offered: proxies on the way may change a body (RFC 3261 22.4).
fn best(offer: &str) -> Option<Qop> {
    let offered = || offer.split(',').filter_map(|qop| Qop::parse(qop.trim()));
    offered().find(|qop| *qop == Qop::Auth).or_else(|| offered().next())
}
