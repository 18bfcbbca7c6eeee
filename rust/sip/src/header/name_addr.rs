//! name-addr and addr-spec with parameters: From, To, Contact, Route, Record-Route, Refer-To ... (RFC 3261 20.10).

use std::borrow::Cow;

use super::params::{self, Wanted};
use super::scan::{TOKEN, class, quoted_end, skip_space, trim, unquote};
use super::{Malformed, Params};
use crate::Uri;

/// A display name, a URI and the header's parameters.
#[derive(Debug, Clone, Copy)]
pub struct NameAddr<'a> {
    display: &'a str,
    /// The address.
    pub uri: Uri<'a>,
    /// Parameters outside the angle brackets.
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// Reads one value such as `"Alice" <sip:alice@example.com>;tag=1`.
    ///
    /// # Errors
    /// When it breaks the grammar of `name-addr / addr-spec *( SEMI generic-param )`.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        match Self::take(text, 0)? {
            (address, end) if end == text.len() => Ok(address),
            _ => Err(Malformed(&("unexpected comma", "RFC 3261 20.10"))),
        }
    }

    /// The value at an offset, and where it ends: with the text, its line, or at a comma.
    fn take(text: &'a str, from: usize) -> Result<(Self, usize), Malformed> {
        let (display, open) = display(text, from)?;
        let (uri, end) = match open {
            Some(open) => closed(text, open, Uri::take(text, open + 1))?,
            None => bare(text, from, Uri::take)?,
        };
        let (params, end) = Params::take(text, end)?;
        Ok((Self { display, uri, params }, end))
    }

    /// Checks the value at an offset, of which only a few parts are wanted.
    #[inline(never)]
    pub(crate) fn check(text: &'a str, from: usize) -> Result<Address, Malformed> {
        let (_, open) = display(text, from)?;
        let (start, (_, end)) = match open {
            Some(open) => (open + 1, closed(text, open, Uri::check(text, open + 1))?),
            None => (skip_space(text.as_bytes(), from), bare(text, from, Uri::check)?),
        };
        let uri = (start, if open.is_some() { end - 1 } else { end });
        let (bytes, mut tag) = (text.as_bytes(), None);
        let list = params::check(bytes, end, |param| {
            if tag.is_none() && Wanted::TAG.is(bytes, param.name) {
                tag = param.value;
            }
        })?;
        Ok(Address { uri, tag: tag.unwrap_or_default(), end: list.next })
    }

    /// The display name without quotes and escapes; empty when there is none.
    #[must_use]
    pub fn display(&self) -> Cow<'a, str> {
        unquote(self.display)
    }

    /// The `tag` of From and To.
    #[must_use]
    pub fn tag(&self) -> Option<&'a str> {
        self.params.value("tag").filter(|tag| !tag.is_empty())
    }
}

/// Where the parts of an address lie that routing needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address {
    pub(crate) uri: (usize, usize),
    pub(crate) tag: (usize, usize),
    /// Where it ends, white space behind it included.
    pub(crate) end: usize,
}

/// The display name at an offset and the bracket behind it; no bracket when the address has none. The first that is
/// neither token nor space tells.
#[inline]
fn display(text: &str, from: usize) -> Result<(&str, Option<usize>), Malformed> {
    const QUOTE: Malformed = Malformed(&("display name without its closing quote", "RFC 3261 25.1"));
    const NONE: Malformed = Malformed(&("no address behind the display name", "RFC 3261 20.10"));
    let bytes = text.as_bytes();
    let from = skip_space(bytes, from);
    match bytes.get(from) {
        Some(b'<') => Ok(("", Some(from))),
        Some(b'"') => {
            let end = quoted_end(bytes, from).ok_or(QUOTE)?;
            let open = skip_space(bytes, end);
            match bytes.get(open) {
                Some(b'<') => Ok((text.get(from..end).unwrap_or_default(), Some(open))),
                _ => Err(NONE),
            }
        }
        _ => unquoted(text, from),
    }
}

/// Tokens before a bracket, or an address without brackets.
fn unquoted(text: &str, from: usize) -> Result<(&str, Option<usize>), Malformed> {
    let rest = text.get(from..).unwrap_or_default();
    let end = rest.bytes().position(|byte| !is_display(byte)).unwrap_or(rest.len());
    match rest.as_bytes().get(end) {
        Some(b'<') => Ok((trim(rest.get(..end).unwrap_or_default()), Some(from + end))),
        Some(b':') => Ok(("", None)),
        _ => Err(Malformed(&("display name needs quotes", "RFC 3261 25.1"))),
    }
}

/// What was read behind the bracket at `open`, if the closing one follows it; and the offset behind that.
#[inline]
fn closed<T>(text: &str, open: usize, read: Result<(T, usize), Malformed>) -> Result<(T, usize), Malformed> {
    match read {
        Ok((uri, end)) if text.as_bytes().get(end) == Some(&b'>') => Ok((uri, end + 1)),
        Ok((_, end)) => Err(unclosed(text, open, Uri::cut(text, open + 1, end))),
        Err(fault) => Err(unclosed(text, open, fault)),
    }
}

/// A bracket that is never closed is what is wrong, whatever else is.
#[cold]
fn unclosed(text: &str, open: usize, fault: Malformed) -> Malformed {
    let line = text.get(open..).unwrap_or_default().bytes().take_while(|byte| !matches!(byte, b'\r' | b'\n'));
    match { line }.any(|byte| byte == b'>') {
        true => fault,
        false => Malformed(&("angle bracket without its end", "RFC 3261 25.1")),
    }
}

/// `uri;params`: parameters belong to the header, and a comma or question mark needs brackets (RFC 3261 20.10).
fn bare<'a, T>(
    text: &'a str,
    from: usize,
    read: impl Fn(&'a str, usize) -> Result<(T, usize), Malformed>,
) -> Result<(T, usize), Malformed> {
    let start = skip_space(text.as_bytes(), from);
    let rest = text.get(start..).unwrap_or_default();
    let end = start + rest.find([';', ' ', '\t', ',', '?', '\r', '\n']).unwrap_or(rest.len());
    let (uri, stop) = read(text.get(..end).unwrap_or_default(), start)?;
    if stop != end {
        return Err(Uri::cut(text, start, stop));
    }
    match text.as_bytes().get(end) {
        Some(b'?') => Err(Malformed(&("address needs angle brackets", "RFC 3261 20.10"))),
        _ => Ok((uri, end)),
    }
}

/// `*(token LWS)`, and letters beyond ASCII, which several phones send without quotes.
fn is_display(byte: u8) -> bool {
    class(byte) & TOKEN != 0 || byte == b' ' || byte == b'\t' || byte >= 0x80
}

impl std::fmt::Display for NameAddr<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.display.is_empty() {
            write!(f, "{} ", self.display)?;
        }
        write!(f, "<{}>{}", self.uri, self.params.as_str())
    }
}
