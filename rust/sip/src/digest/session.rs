//! The client's side of one challenge: the nonce in use and how often it has been (RFC 7616 3.4).

use std::fmt::Write;

use super::{Algorithm, Challenge, Credentials, Fields, Hash, Qop, Subject, Terms, response};
use crate::{Message, Name};

/// An answered challenge, ready to be answered again with the next `nc`.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// Asked for by Proxy-Authenticate.
    pub(crate) proxy: bool,
    /// It replaced one whose nonce was stale.
    pub(crate) renewed: bool,
    /// How often the nonce has been used.
    pub(crate) count: u32,
    realm: Box<str>,
    nonce: Box<str>,
    opaque: Option<Box<str>>,
    algorithm: Algorithm,
    /// The challenge named the algorithm, and so does the answer.
    named: bool,
    qop: Option<Qop>,
    cnonce: Box<str>,
}

impl Session {
    pub(crate) fn new(challenge: &Challenge<'_>, proxy: bool, cnonce: String) -> Self {
        Self {
            proxy,
            renewed: challenge.stale,
            count: 0,
            realm: challenge.realm.into(),
            nonce: challenge.nonce.into(),
            opaque: challenge.opaque.map(Into::into),
            algorithm: challenge.algorithm(),
            named: challenge.algorithm.is_some(),
            qop: challenge.qop,
            cnonce: cnonce.into(),
        }
    }

    /// Whether a challenge asks for less than this one did: who has shown that he knows better than MD5 is not believed
    /// when he, or somebody on the way, forgets it (RFC 7616 5.8).
    pub(crate) fn outranks(&self, challenge: &Challenge<'_>) -> bool {
        self.algorithm.hash != Hash::Md5 && challenge.algorithm().hash == Hash::Md5
    }

    /// The header that its credentials stand in.
    pub(crate) fn header(&self) -> Name {
        if self.proxy { Name::ProxyAuthorization } else { Name::Authorization }
    }

    /// Whether a request carries credentials of it.
    pub(crate) fn signed(&self, request: &Message) -> bool {
        let mut all = request.lines(self.header()).flat_map(Fields::parse);
        all.any(|fields| fields.value("nonce") == Some(&self.nonce))
    }

    /// The next value of Authorization or Proxy-Authorization. `None` when the key for the algorithm is not known.
    pub(crate) fn sign(&mut self, credentials: &Credentials, subject: &Subject<'_>) -> Option<String> {
        let ha1 = credentials.secret.ha1(self.algorithm.hash, &credentials.username, &self.realm)?;
        self.count = self.count.saturating_add(1);
        let count = format!("{:08x}", self.count);
        let quality = self.qop.map(|qop| (&*count, &*self.cnonce, qop));
        let terms = Terms { algorithm: self.algorithm, nonce: &self.nonce, quality };
        let answer = response(&ha1, &terms, subject);
        let user = credentials.username.replace('\\', "\\\\").replace('"', "\\\"");
        let (realm, nonce, uri) = (&self.realm, &self.nonce, subject.uri);
        let mut text = format!(
            "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{answer}\""
        );
        self.write_rest(&mut text, &count);
        Some(text)
    }

    /// RFC 7616 3.4: `algorithm`, `qop` and `nc` are never quoted.
    fn write_rest(&self, text: &mut String, count: &str) {
        let mut put = |part: std::fmt::Arguments<'_>| {
            let _ = text.write_fmt(part);
        };
        if self.named {
            put(format_args!(", algorithm={}", self.algorithm.name()));
        }
        if let Some(opaque) = &self.opaque {
            put(format_args!(", opaque=\"{opaque}\""));
        }
        if let Some(qop) = self.qop {
            put(format_args!(", qop={}, nc={count}, cnonce=\"{}\"", qop.as_str(), self.cnonce));
        }
    }
}
