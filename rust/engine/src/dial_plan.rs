//! The plain part of the dial plan: calls from one trunk to another that need no further word from Python.
//!
//! Python reads, checks and keeps the plan, and decides about each call that is not plain. What asks for nothing but
//! "such a number goes to that trunk" comes here as a JSON document, so that such a call goes on in the moment it
//! comes. The first route that takes a call decides, as in Python's `calls/routing.py`; if that one is not plain, or
//! anything about the call is not, Python does. Numbers are compared as ASCII here, so patterns mean the same there.

use crate::command::{Caller, Dial};
use crate::error::Code;
use crate::event::{Forwarded, Incoming};
use crate::{EngineError, LegId};
use regex_lite::{Regex, RegexBuilder};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use telephony_media::codec::Codec;

/// Characters of a number or name, and of a display name: `MAX_USER` and `MAX_NAME` of Python.
const MAX_USER: usize = 64;
const MAX_NAME: usize = 128;
/// Bytes of a compiled pattern; numbers need little.
const MAX_PATTERN: usize = 1 << 16;
/// Where a call says by which decisions it came: `calls/passage.py` tells why, and judges what comes back.
const PASSAGE: &str = "X-Gateway-Passage";

/// The document, as `calls/plain.py` writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    secret: String,
    max_legs: usize,
    sources: HashMap<String, SourceRow>,
    routes: Vec<RouteRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceRow {
    strip: usize,
    prepend: String,
    codecs: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteRow {
    name: String,
    trunk: Option<String>,
    to: Option<String>,
    from: Option<String>,
    way: Option<WayRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WayRow {
    trunk: String,
    scheme: String,
    host: String,
    next_hop: String,
    address: Option<SocketAddr>,
    from_host: String,
    strip: usize,
    prepend: String,
    codecs: Vec<String>,
    timeout: f64,
}

/// Calls of which trunks go where, as far as that is plain. The default sends none.
#[derive(Default)]
pub(crate) struct DialPlan {
    secret: String,
    max_legs: usize,
    sources: HashMap<String, Source>,
    routes: Vec<Route>,
}

/// A trunk whose calls need no judgement.
struct Source {
    rewriting: Rewriting,
    codecs: Vec<Codec>,
}

struct Rewriting {
    strip: usize,
    prepend: String,
}

struct Route {
    name: Arc<str>,
    trunk: Option<String>,
    to: Option<Regex>,
    from: Option<Regex>,
    way: Option<Way>,
}

/// Where a plain route leads.
struct Way {
    row: WayRow,
    rewriting: Rewriting,
    codecs: Vec<Codec>,
    timeout: Duration,
}

impl DialPlan {
    pub(crate) fn parse(document: &[u8]) -> Result<Self, EngineError> {
        let document: Document = serde_json::from_slice(document)
            .map_err(|error| fault(&format!("the dial plan is malformed: {error}")))?;
        let source = |(name, row): (String, SourceRow)| {
            let rewriting = Rewriting { strip: row.strip, prepend: row.prepend };
            Ok((name, Source { rewriting, codecs: codecs(&row.codecs)? }))
        };
        Ok(Self {
            secret: document.secret,
            max_legs: document.max_legs,
            sources: document.sources.into_iter().map(source).collect::<Result<_, EngineError>>()?,
            routes: document.routes.into_iter().map(Route::new).collect::<Result<_, _>>()?,
        })
    }

    /// Whether beside so many legs there is room for another call, however the legs make up calls: at the limit
    /// itself Python counts.
    pub(crate) fn has_room(&self, legs: usize) -> bool {
        legs < self.max_legs
    }

    /// Where the call goes, by a new leg, if that is plain.
    pub(crate) fn decide(
        &self,
        incoming: &Incoming,
        leg: impl FnOnce() -> LegId,
    ) -> Option<(Forwarded, Box<Dial>)> {
        let source = self.sources.get(&*incoming.trunk)?;
        let has = |name| incoming.header(name).is_some();
        if incoming.user.is_some() || incoming.replaces.is_some() || has("Privacy") || has(PASSAGE) {
            return None;
        }
        let to = source.rewriting.apply(user(incoming.request_uri())?)?;
        let from = user(incoming.from_uri()).filter(|from| !from.contains('#'))?;
        let route = self.routes.iter().find(|route| route.takes(&incoming.trunk, &to, from))?;
        let way = route.way.as_ref().filter(|way| way.row.address != Some(incoming.local))?;
        let mut headers = vec![(PASSAGE.to_owned(), self.token(&incoming.trunk, &to, from))];
        headers.extend(incoming.header("Max-Forwards").and_then(less_one));
        let leg = leg();
        let dial = Dial {
            leg,
            uri: way.uri(&to)?,
            from_uri: format!("sip:{from}@{}", way.row.from_host),
            from_display: incoming.from_display().chars().take(MAX_NAME).collect(),
            next_hop: Some(way.row.next_hop.clone()),
            trunk: way.row.trunk.clone(),
            codecs: in_order(&incoming.codecs, &way.codecs),
            headers,
            timeout: way.timeout,
            elsewhere: false,
            replaces: None,
            caller: Some(Caller { leg: incoming.leg, codecs: source.codecs.clone() }),
        };
        let (route, from, at) = (Arc::clone(&route.name), from.to_owned(), Instant::now());
        Some((Forwarded { leg, route, to, from, at }, Box::new(dial)))
    }

    /// What the decision depended on, as `token` in `calls/passage.py` has it.
    fn token(&self, trunk: &str, to: &str, from: &str) -> String {
        let digest = Sha256::digest([&self.secret, trunk, to, from].join("\0"));
        digest.iter().take(8).map(|octet| format!("{octet:02x}")).collect()
    }
}

impl Rewriting {
    /// The number without its front and with another; `None` if that is none that could be dialled.
    fn apply(&self, number: &str) -> Option<String> {
        let number = format!("{}{}", self.prepend, number.get(self.strip..).unwrap_or_default());
        is_diallable(&number).then_some(number)
    }
}

impl Route {
    fn new(row: RouteRow) -> Result<Self, EngineError> {
        let RouteRow { name, trunk, to, from, way } = row;
        let name = Arc::from(name);
        let pattern = |text: Option<String>| {
            text.map(|text| RegexBuilder::new(&text).size_limit(MAX_PATTERN).build()).transpose()
        };
        match (pattern(to), pattern(from)) {
            (Ok(to), Ok(from)) => Ok(Self { name, trunk, to, from, way: way.map(Way::new).transpose()? }),
            // It may take any call, and Python will know.
            _ => Ok(Self { name, trunk, to: None, from: None, way: None }),
        }
    }

    fn takes(&self, trunk: &str, to: &str, from: &str) -> bool {
        self.trunk.as_deref().is_none_or(|wanted| wanted == trunk)
            && self.to.as_ref().is_none_or(|pattern| pattern.is_match(to))
            && self.from.as_ref().is_none_or(|pattern| pattern.is_match(from))
    }
}

impl Way {
    fn new(row: WayRow) -> Result<Self, EngineError> {
        let timeout = Duration::try_from_secs_f64(row.timeout).map_err(|_| fault("a timeout is no time"))?;
        let rewriting = Rewriting { strip: row.strip, prepend: row.prepend.clone() };
        Ok(Self { rewriting, codecs: codecs(&row.codecs)?, timeout, row })
    }

    /// The Request-URI: `#` must be escaped there (RFC 3261 25.1).
    fn uri(&self, number: &str) -> Option<String> {
        let dialled = format!("{}{}", self.rewriting.prepend, number.get(self.rewriting.strip..)?);
        (!dialled.is_empty())
            .then(|| format!("{}:{}@{}", self.row.scheme, dialled.replace('#', "%23"), self.row.host))
    }
}

/// The user part of a SIP URI, if nothing in it is escaped or odd.
fn user(uri: &str) -> Option<&str> {
    let (scheme, rest) = uri.split_once(':')?;
    let is_sip = scheme.eq_ignore_ascii_case("sip") || scheme.eq_ignore_ascii_case("sips");
    let user = rest.rsplit_once('@')?.0.split([';', ':']).next()?;
    (is_sip && is_diallable(user)).then_some(user)
}

fn is_diallable(number: &str) -> bool {
    let fits = |octet: u8| octet.is_ascii_alphanumeric() || b"+*#._-".contains(&octet);
    (1..=MAX_USER).contains(&number.len()) && number.bytes().all(fits)
}

/// Max-Forwards of the way on (RFC 7332 4); a call with none left never gets here.
fn less_one(value: &str) -> Option<(String, String)> {
    let left: u64 = value.parse().ok()?;
    Some(("Max-Forwards".to_owned(), left.min(255).saturating_sub(1).to_string()))
}

/// The codecs, those that the caller speaks first: then nothing is transcoded.
fn in_order(first: &[String], allowed: &[Codec]) -> Vec<Codec> {
    let first: Vec<Codec> = first.iter().filter_map(|name| Codec::parse(name)).collect();
    let (wanted, others): (Vec<_>, Vec<_>) = allowed.iter().partition(|codec| first.contains(codec));
    first.into_iter().filter(|codec| wanted.contains(codec)).chain(others).collect()
}

fn codecs(names: &[String]) -> Result<Vec<Codec>, EngineError> {
    let parse =
        |name: &String| Codec::parse(name).ok_or_else(|| fault(&format!("no codec is called {name}")));
    names.iter().map(parse).collect()
}

fn fault(message: &str) -> EngineError {
    EngineError::new(Code::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_uris_are_taken_only_where_they_are_plain() {
        assert_eq!(user("sip:+49@a.example"), Some("+49"));
        assert_eq!(user("SIPS:12;phone-context=x:secret@a.example;y=z"), Some("12"));
        for odd in
            ["tel:+49", "sip:a.example", "sip:%2B49@a.example", "sip:@a.example", "sip:a'b@c", "12", ""]
        {
            assert_eq!(user(odd), None, "{odd}");
        }
        assert_eq!(user(&format!("sip:{}@a", "9".repeat(64))).map(str::len), Some(64));
        assert_eq!(user(&format!("sip:{}@a", "9".repeat(65))), None);
    }

    #[test]
    fn numbers_lose_their_front_and_get_another() {
        let rewriting = |strip, prepend: &str| Rewriting { strip, prepend: prepend.into() };
        assert_eq!(rewriting(2, "+").apply("0049").as_deref(), Some("+49"));
        assert_eq!(rewriting(9, "").apply("0049"), None, "nothing is left");
        assert_eq!(rewriting(0, "1").apply(&"9".repeat(64)), None, "too long");
    }

    #[test]
    fn hops_are_counted_down() {
        let hops = |value| less_one(value).map(|(_, value)| value);
        assert_eq!(hops("70").as_deref(), Some("69"));
        assert_eq!(hops("0").as_deref(), Some("0"));
        assert_eq!(hops("4000000000").as_deref(), Some("254"));
        assert_eq!(hops("many"), None);
    }

    #[test]
    fn the_caller_s_codecs_come_first() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let allowed = [Codec::Opus, Codec::Pcmu, Codec::Pcma];
        let ordered = in_order(&names(&["PCMA", "G729", "PCMU"]), &allowed);
        assert_eq!(ordered, [Codec::Pcma, Codec::Pcmu, Codec::Opus]);
        assert_eq!(in_order(&[], &allowed), allowed);
    }

    #[test]
    fn a_pattern_that_cannot_be_followed_leaves_the_call_to_python() {
        let row =
            |to: &str| RouteRow { name: "r".into(), trunk: None, to: Some(to.into()), from: None, way: None };
        let broken = Route::new(row("(")).unwrap();
        assert!(broken.takes("any", "1", "2") && broken.way.is_none());
        let sound = Route::new(row("^1")).unwrap();
        assert!(sound.takes("any", "1", "2") && !sound.takes("any", "21", "2"));
    }

    #[test]
    fn documents_are_read_strictly() {
        let document = |more: &str| {
            let text = format!(r#"{{"secret": "s", "max_legs": 1, "sources": {{}}, "routes": []{more}}}"#);
            DialPlan::parse(text.as_bytes())
        };
        let plan = document("").unwrap();
        assert!(plan.has_room(0) && !plan.has_room(1));
        assert!(!DialPlan::default().has_room(0));
        assert!(document(r#", "colour": "red""#).is_err());
        assert_eq!(plan.token("a", "1", "2").len(), 16);
        assert_ne!(plan.token("a", "1", "2"), plan.token("a", "2", "1"));
    }
}
