//! SIP, SIPS and tel URIs (RFC 3261 19.1, RFC 3966).

use std::borrow::Cow;
use std::fmt;

use memchr::memchr;

use crate::header::scan::{PARAM, QUERY, TOKEN, USER, find_control, is_all, run_escaped};
use crate::header::{Malformed, Params};
use crate::host::Authority;
pub use crate::host::Host;

/// The scheme of a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme<'a> {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:` (RFC 3966)
    Tel,
    /// Any other; the URI is opaque.
    Other(&'a str),
}

const BAD_USER: Malformed = Malformed(&("malformed user part", "RFC 3261 19.1.1"));
const BAD_TAIL: Malformed = Malformed(&("malformed URI parameters", "RFC 3261 19.1.1"));

/// A URI, borrowed from its message.
#[derive(Debug, Clone, Copy)]
pub struct Uri<'a> {
    text: &'a str,
    scheme: Scheme<'a>,
    user: Option<&'a str>,
    password: Option<&'a str>,
    host: Option<Host<'a>>,
    port: Option<u16>,
    params: Params<'a>,
    headers: &'a str,
}

impl<'a> Uri<'a> {
    /// Reads a URI of any scheme.
    ///
    /// # Errors
    /// When it breaks the grammar of its scheme.
    #[inline]
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        match Self::take(text, 0)? {
            (uri, end) if end == text.len() => Ok(uri),
            (_, end) => Err(Self::cut(text.as_bytes(), 0, end)),
        }
    }

    /// The URI at an offset and where it ends: with the text, or in front of what cannot be part of it.
    #[inline]
    pub(crate) fn take(text: &'a str, from: usize) -> Result<(Self, usize), Malformed> {
        let Some((scheme, start)) = sip_scheme(text.as_bytes(), from) else {
            return Self::take_other(text, from);
        };
        let bytes = text.as_bytes();
        let found = Sip::scan(bytes, start).map_err(|fault| blame(bytes, start, start, fault))?;
        let part = |from, to| text.get(from..to).unwrap_or_default();
        let uri = Self {
            text: part(from, found.end),
            scheme,
            user: (found.at > start).then(|| part(start, found.colon)),
            password: text.get(found.colon.wrapping_add(1)..found.at),
            host: Some(found.place.host(text)),
            port: found.place.port,
            params: Params::checked(part(found.place.end, found.headers)),
            headers: part(found.headers.wrapping_add(1), found.end),
        };
        Ok((uri, found.end))
    }

    /// Checks the URI at an offset and tells where it ends and whether headers follow its parameters.
    #[inline]
    pub(crate) fn check(bytes: &[u8], from: usize) -> Result<(bool, usize), Malformed> {
        match sip_scheme(bytes, from).map(|(_, start)| (start, Sip::check(bytes, start))) {
            Some((_, Ok((headers, end)))) => Ok((headers.wrapping_add(1) < end, end)),
            Some((start, Err(fault))) => Err(blame(bytes, start, start, fault)),
            None => check_other(bytes, from).map(|end| (false, end)),
        }
    }

    /// What is wrong with the URI at an offset if it must not end where it does.
    #[cold]
    pub(crate) fn cut(bytes: &[u8], from: usize, end: usize) -> Malformed {
        sip_scheme(bytes, from).map_or(BAD_TAIL, |(_, start)| blame(bytes, start, end, BAD_TAIL))
    }

    /// A URI of another scheme, which ends with the text or at a closing bracket.
    #[inline(never)]
    fn take_other(text: &'a str, from: usize) -> Result<(Self, usize), Malformed> {
        const FAULT: Malformed = Malformed(&("URI without a scheme", "RFC 3261 19.1.1"));
        let text = text.get(from..).unwrap_or_default();
        let text = text.split_once('>').map_or(text, |(uri, _)| uri);
        let (scheme, rest) = text.split_once(':').ok_or(FAULT)?;
        let uri = match scheme.as_bytes() {
            [b't' | b'T', b'e' | b'E', b'l' | b'L'] => Self::tel(text, rest),
            [first, ..] if first.is_ascii_alphabetic() && is_all(scheme.as_bytes(), TOKEN) => {
                Self::opaque(text, scheme, rest)
            }
            _ => Err(FAULT),
        };
        uri.map(|uri| (uri, from + text.len()))
    }

    fn bare(text: &'a str, scheme: Scheme<'a>) -> Self {
        let params = Params::default();
        Self { text, scheme, user: None, password: None, host: None, port: None, params, headers: "" }
    }

    /// A telephone number and its parameters (RFC 3966 3).
    fn tel(text: &'a str, rest: &'a str) -> Result<Self, Malformed> {
        let end = memchr(b';', rest.as_bytes()).unwrap_or(rest.len());
        let number = rest.get(..end).unwrap_or_default();
        let digits = number.strip_prefix('+').unwrap_or(number);
        let fits = |byte: u8| byte.is_ascii_hexdigit() || b"*#-.()".contains(&byte);
        if digits.is_empty() || !digits.bytes().all(fits) {
            return Err(Malformed(&("malformed telephone number", "RFC 3261 19.1.6")));
        }
        let mut uri = Self { user: Some(number), ..Self::bare(text, Scheme::Tel) };
        let tail = rest.get(end..).unwrap_or_default();
        if params_end(tail.as_bytes(), 0)? != tail.len() {
            return Err(BAD_TAIL);
        }
        uri.params = Params::checked(tail);
        Ok(uri)
    }

    /// Any other scheme: visible characters, nothing that ends a name-addr or a header value.
    fn opaque(text: &'a str, scheme: &'a str, rest: &str) -> Result<Self, Malformed> {
        let visible = |byte: u8| (0x21..0x7f).contains(&byte) && !matches!(byte, b'<' | b'>' | b'"');
        if rest.is_empty() || !rest.bytes().all(visible) {
            return Err(Malformed(&("malformed URI", "RFC 3261 25.1")));
        }
        Ok(Self::bare(text, Scheme::Other(scheme)))
    }

    /// The text it was read from.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// The scheme.
    #[must_use]
    pub fn scheme(&self) -> Scheme<'a> {
        self.scheme
    }

    /// The user part as written (escapes kept); the number of a `tel:` URI.
    #[must_use]
    pub fn user(&self) -> Option<&'a str> {
        self.user
    }

    /// The user part with `%xx` escapes resolved; bytes that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn user_unescaped(&self) -> Option<Cow<'a, str>> {
        self.user.map(unescape)
    }

    /// The password as written.
    #[must_use]
    pub fn password(&self) -> Option<&'a str> {
        self.password
    }

    /// The host; `None` for `tel:` and opaque URIs.
    #[must_use]
    pub fn host(&self) -> Option<Host<'a>> {
        self.host
    }

    /// The port, if written.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// URI parameters.
    #[must_use]
    pub fn params(&self) -> Params<'a> {
        self.params
    }

    /// The headers behind `?`, without it; empty when there are none.
    #[must_use]
    pub fn headers(&self) -> &'a str {
        self.headers
    }

    /// Whether it is a loose router: `;lr` (RFC 3261 19.1.1).
    #[must_use]
    pub fn is_loose_router(&self) -> bool {
        self.params.has("lr")
    }
}

/// Where the URI of another scheme at an offset ends, within its line.
#[inline(never)]
fn check_other(bytes: &[u8], from: usize) -> Result<usize, Malformed> {
    let rest = bytes.get(from..).unwrap_or_default();
    let line = rest.get(..find_control(rest, 0).unwrap_or(rest.len())).unwrap_or_default();
    let text = str::from_utf8(line).map_err(|_| BAD_TAIL)?;
    Uri::take_other(text, 0).map(|(_, end)| from + end)
}

/// The scheme `sip` or `sips` at an offset, and where what follows it starts.
#[inline]
fn sip_scheme<'a>(bytes: &[u8], from: usize) -> Option<(Scheme<'a>, usize)> {
    match bytes.get(from..)? {
        [b's' | b'S', b'i' | b'I', b'p' | b'P', b':', ..] => Some((Scheme::Sip, from + 4)),
        [b's' | b'S', b'i' | b'I', b'p' | b'P', b's' | b'S', b':', ..] => Some((Scheme::Sips, from + 5)),
        _ => None,
    }
}

/// Where the parts of a SIP URI lie.
struct Sip {
    /// The end of the user and the `@`; both where the host starts when there is no user.
    colon: usize,
    at: usize,
    place: Authority,
    /// The `?`, or the end.
    headers: usize,
    end: usize,
}

impl Sip {
    /// `[user[:password]@]host[:port][;params][?headers]` from an offset on (RFC 3261 19.1.1).
    #[inline]
    fn scan(bytes: &[u8], from: usize) -> Result<Self, Malformed> {
        let (colon, at) = user(bytes, from)?;
        let place = Authority::scan(bytes, if at > from { at.wrapping_add(1) } else { from })?;
        let (headers, end) = tail(bytes, place.end)?;
        Ok(Self { colon, at, place, headers, end })
    }

    /// Where the headers start and end, if nothing else is of interest.
    #[inline]
    fn check(bytes: &[u8], from: usize) -> Result<(usize, usize), Malformed> {
        let (_, at) = user(bytes, from)?;
        tail(bytes, Authority::check(bytes, if at > from { at.wrapping_add(1) } else { from })?)
    }
}

/// Where the headers of a URI start and end whose parameters start at an offset.
#[inline]
fn tail(bytes: &[u8], from: usize) -> Result<(usize, usize), Malformed> {
    let headers = params_end(bytes, from)?;
    match bytes.get(headers) {
        Some(b'?') => Ok((headers, run_escaped(bytes, headers + 1, QUERY))),
        _ => Ok((headers, headers)),
    }
}

/// Where the user ends and where its `@` is; both at `from` when the URI has no user part.
#[inline]
fn user(bytes: &[u8], from: usize) -> Result<(usize, usize), Malformed> {
    let end = run_escaped(bytes, from, USER);
    match bytes.get(end) {
        Some(b'@') if end == from => Err(BAD_USER),
        Some(b'@') => Ok((end, end)),
        // A password, or the port of a bare host.
        Some(b':') => match run_escaped(bytes, end + 1, USER) {
            at if bytes.get(at) != Some(&b'@') => Ok((from, from)),
            _ if end == from => Err(BAD_USER),
            at => Ok((end, at)),
        },
        _ => Ok((from, from)),
    }
}

/// What is wrong with a URI that could not be read beyond `end`: no `@` may follow a broken user part.
#[cold]
fn blame(bytes: &[u8], from: usize, end: usize, fault: Malformed) -> Malformed {
    let inside = |byte: &u8| !matches!(byte, b'>' | b'\r' | b'\n');
    let mut rest = bytes.get(end..).unwrap_or_default().iter().take_while(|byte| inside(byte));
    let no_user = user(bytes, from).is_ok_and(|(_, at)| at == from);
    if no_user && rest.any(|byte| *byte == b'@') { BAD_USER } else { fault }
}

/// Where the parameters that start at an offset end.
#[inline]
fn params_end(bytes: &[u8], from: usize) -> Result<usize, Malformed> {
    let mut at = from;
    while bytes.get(at) == Some(&b';') {
        let name = at + 1;
        at = run_escaped(bytes, name, PARAM);
        if at == name {
            return Err(BAD_TAIL);
        }
        if bytes.get(at) == Some(&b'=') {
            at = run_escaped(bytes, at + 1, PARAM);
        }
    }
    Ok(at)
}

/// `%xx` resolved; bytes that are not UTF-8 become U+FFFD.
pub(crate) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    match String::from_utf8_lossy(&unescaped(text)) {
        Cow::Borrowed(plain) => Cow::Owned(plain.to_owned()),
        Cow::Owned(plain) => Cow::Owned(plain),
    }
}

fn unescaped(text: &str) -> Vec<u8> {
    decode(text, |_| false)
}

/// Resolves `%xx`, but keeps those escaped whose character `kept` picks, in one spelling.
fn decode(text: &str, kept: fn(u8) -> bool) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let mut digits = bytes.clone();
        let pair = (digits.next().and_then(hex), digits.next().and_then(hex));
        let (b'%', (Some(high), Some(low))) = (byte, pair) else {
            plain.push(byte);
            continue;
        };
        bytes = digits;
        match high << 4 | low {
            byte if kept(byte) => plain.extend([b'%', high, low]),
            byte => plain.push(byte),
        }
    }
    plain
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Comparison by the rules of RFC 3261 19.1.4 (which is not transitive, hence no `Eq`).
impl PartialEq for Uri<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self.scheme, other.scheme) {
            (Scheme::Other(a), Scheme::Other(b)) => {
                a.eq_ignore_ascii_case(b) && self.text.get(a.len()..) == other.text.get(b.len()..)
            }
            (Scheme::Tel, Scheme::Tel) => {
                same_number(self.user, other.user) && same_params(self.params, other.params, |_| true)
            }
            (a, b) if a == b => {
                same_text(self.user, other.user)
                    && same_text(self.password, other.password)
                    && same_host(self.host, other.host)
                    && self.port == other.port
                    && same_params(self.params, other.params, is_decisive)
                    && same_headers(self.headers, other.headers)
            }
            _ => false,
        }
    }
}

/// Escapes resolved, but for reserved characters, which differ from their escape (RFC 3261 19.1.4).
fn canonical(text: &str) -> Vec<u8> {
    decode(text, |byte| b";/?:@&=+$,".contains(&byte))
}

/// User and password: case-sensitive, an escape equal to the character it stands for.
fn same_text(a: Option<&str>, b: Option<&str>) -> bool {
    a.map(canonical) == b.map(canonical)
}

/// Telephone numbers without their visual separators (RFC 3966 4).
fn same_number(a: Option<&str>, b: Option<&str>) -> bool {
    let plain = |text: &str| {
        let digits = text.bytes().filter(|byte| !b"-.()".contains(byte));
        digits.map(|byte| byte.to_ascii_lowercase()).collect::<Vec<_>>()
    };
    a.map(plain) == b.map(plain)
}

fn same_host(a: Option<Host<'_>>, b: Option<Host<'_>>) -> bool {
    match (a, b) {
        (Some(Host::Name(a)), Some(Host::Name(b))) => a.eq_ignore_ascii_case(b),
        _ => a == b,
    }
}

/// Parameters that must match even when only one URI has them.
fn is_decisive(name: &str) -> bool {
    ["user", "ttl", "method", "maddr", "transport"].iter().any(|decisive| name.eq_ignore_ascii_case(decisive))
}

/// Parameters in both must match; one that stands in a single URI counts only if it is decisive. Of a parameter that
/// stands twice, which no URI may have (RFC 3261 19.1.1), the first counts.
fn same_params(a: Params<'_>, b: Params<'_>, decisive: fn(&str) -> bool) -> bool {
    let fits = |from: Params<'_>, other: Params<'_>| {
        from.iter().all(|(name, _)| match (find(from, name), find(other, name)) {
            (Some(value), Some(found)) => unescaped(value).eq_ignore_ascii_case(&unescaped(found)),
            _ => !decisive(name),
        })
    };
    fits(a, b) && fits(b, a)
}

/// A parameter's value by its name, escapes in the names resolved.
fn find<'a>(params: Params<'a>, name: &str) -> Option<&'a str> {
    let name = unescaped(name);
    let mut all = params.iter();
    all.find(|(found, _)| unescaped(found).eq_ignore_ascii_case(&name))
        .map(|(_, value)| value.unwrap_or_default())
}

/// Headers are never ignored; their order does not matter.
fn same_headers(a: &str, b: &str) -> bool {
    let sorted = |text: &str| {
        let mut all: Vec<_> = text
            .split('&')
            .map(|header| {
                let (name, value) = header.split_once('=').unwrap_or((header, ""));
                (unescaped(name).to_ascii_lowercase(), unescaped(value))
            })
            .collect();
        all.sort_unstable();
        all
    };
    sorted(a) == sorted(b)
}

impl fmt::Display for Uri<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}
