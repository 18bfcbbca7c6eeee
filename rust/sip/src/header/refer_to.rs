//! Refer-To: where a REFER sends its recipient (RFC 3515 2.1), taken apart into what an INVITE is made of
//! (RFC 3261 19.1.5).

use super::scan::without_headers;
use super::{Malformed, NameAddr};
use crate::uri::unescape;
use crate::{Message, Name, Scheme};

/// Header fields that a URI may bring along; more is no address.
const MAX_HEADERS: usize = 16;
/// The longest of them, escapes resolved.
const MAX_VALUE: usize = 1024;
const NOT_ONE: Malformed = Malformed(&("not exactly one Refer-To", "RFC 3515 2.4.2"));
const TOO_MUCH: Malformed = Malformed(&("too many headers in Refer-To", "RFC 3261 19.1.5"));
const CONTROL: Malformed = Malformed(&("control character in Refer-To", "RFC 3261 19.1.5"));

/// Where to call, and what is to be said there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferTo {
    /// The URI without method and headers.
    pub uri: String,
    /// What its `method` parameter names; INVITE without one.
    pub method: String,
    /// Its header fields, escapes resolved.
    pub headers: Vec<(String, String)>,
    /// Whether its scheme can be called at all: `sip`, `sips` or `tel`.
    pub is_callable: bool,
}

impl ReferTo {
    /// The one of a REFER.
    ///
    /// # Errors
    /// When there is none, more than one, or it is malformed or beyond all measure.
    pub fn of(refer: &Message) -> Result<Self, Malformed> {
        let mut values = refer.lines(Name::ReferTo);
        match (values.next(), values.next()) {
            // A second value on the same line is no parameter, so it breaks the grammar.
            (Some(value), None) => Self::parse(value),
            _ => Err(NOT_ONE),
        }
    }

    /// Reads one value such as `<sip:carol@host;method=INVITE?Replaces=...>`.
    ///
    /// # Errors
    /// When it is malformed or beyond all measure.
    pub fn parse(value: &str) -> Result<Self, Malformed> {
        let address = NameAddr::parse(value)?;
        let uri = address.uri;
        let method = uri.params().value("method").unwrap_or("INVITE").to_ascii_uppercase();
        Ok(Self {
            uri: without_method(without_headers(uri.as_str())),
            method,
            headers: headers(uri.headers())?,
            is_callable: !matches!(uri.scheme(), Scheme::Other(_)),
        })
    }

    /// One of its header fields.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// A Request-URI has neither method nor headers (RFC 3261 19.1.1, table 1).
fn without_method(uri: &str) -> String {
    let is_method = |part: &str| part.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("method="));
    let mut parts = uri.split(';');
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts.filter(|part| !is_method(part)) {
        kept.push(';');
        kept.push_str(part);
    }
    kept
}

fn headers(text: &str) -> Result<Vec<(String, String)>, Malformed> {
    let mut found = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (unescape(name), unescape(value));
        if value.chars().chain(name.chars()).any(char::is_control) {
            return Err(CONTROL);
        }
        if found.len() >= MAX_HEADERS || name.len() + value.len() > MAX_VALUE {
            return Err(TOO_MUCH);
        }
        found.push((name.into_owned(), value.into_owned()));
    }
    Ok(found)
}
