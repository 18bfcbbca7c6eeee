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
        let bytes = text.as_bytes();
        let (display, open) = display(bytes, from)?;
        let (uri, end) = match open {
            Some(open) => closed(bytes, open, Uri::take(text, open + 1))?,
            None => {
                let (start, end) = bare(bytes, from);
                unbracketed(bytes, (start, end), Uri::take(text.get(..end).unwrap_or_default(), start))?
            }
        };
        let display = trim(text.get(display.0..display.1).unwrap_or_default());
        let (params, end) = Params::take(text, end)?;
        Ok((Self { display, uri, params }, end))
    }

    /// Checks the value at an offset, of which only a few parts are wanted.
    #[inline(never)]
    pub(crate) fn check(bytes: &[u8], from: usize) -> Result<Address, Malformed> {
        let (_, open) = display(bytes, from)?;
        let (uri, end) = match open {
            Some(open) => {
                let (_, end) = closed(bytes, open, Uri::check(bytes, open.wrapping_add(1)))?;
                ((open.wrapping_add(1), end.wrapping_sub(1)), end)
            }
            None => {
                let (start, end) = bare(bytes, from);
                let read = Uri::check(bytes.get(..end).unwrap_or_default(), start);
                ((start, end), unbracketed(bytes, (start, end), read)?.1)
            }
        };
        let mut tag = None;
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
fn display(bytes: &[u8], from: usize) -> Result<((usize, usize), Option<usize>), Malformed> {
    const QUOTE: Malformed = Malformed(&("display name without its closing quote", "RFC 3261 25.1"));
    const NONE: Malformed = Malformed(&("no address behind the display name", "RFC 3261 20.10"));
    let from = skip_space(bytes, from);
    match bytes.get(from) {
        Some(b'<') => Ok(((from, from), Some(from))),
        Some(b'"') => {
            let end = quoted_end(bytes, from).ok_or(QUOTE)?;
            let open = skip_space(bytes, end);
            match bytes.get(open) {
                Some(b'<') => Ok(((from, end), Some(open))),
                _ => Err(NONE),
            }
        }
        _ => unquoted(bytes, from),
    }
}

/// Tokens before a bracket, or an address without brackets.
fn unquoted(bytes: &[u8], from: usize) -> Result<((usize, usize), Option<usize>), Malformed> {
    let rest = bytes.get(from..).unwrap_or_default();
    let end = from + rest.iter().position(|byte| !is_display(*byte)).unwrap_or(rest.len());
    match bytes.get(end) {
        Some(b'<') => Ok(((from, end), Some(end))),
        Some(b':') => Ok(((from, from), None)),
        _ => Err(Malformed(&("display name needs quotes", "RFC 3261 25.1"))),
    }
}

/// What was read behind the bracket at `open`, if the closing one follows it; and the offset behind that.
#[inline]
fn closed<T>(
    bytes: &[u8],
    open: usize,
    read: Result<(T, usize), Malformed>,
) -> Result<(T, usize), Malformed> {
    match read {
        Ok((uri, end)) if bytes.get(end) == Some(&b'>') => Ok((uri, end.wrapping_add(1))),
        Ok((_, end)) => Err(unclosed(bytes, open, Uri::cut(bytes, open + 1, end))),
        Err(fault) => Err(unclosed(bytes, open, fault)),
    }
}

/// A bracket that is never closed is what is wrong, whatever else is.
#[cold]
fn unclosed(bytes: &[u8], open: usize, fault: Malformed) -> Malformed {
    let rest = bytes.get(open..).unwrap_or_default();
    let line = rest.iter().take_while(|byte| !matches!(byte, b'\r' | b'\n'));
    match { line }.any(|byte| *byte == b'>') {
        true => fault,
        false => Malformed(&("angle bracket without its end", "RFC 3261 25.1")),
    }
}

/// Where an address without brackets starts and ends: its parameters belong to the header, and a comma or question
/// mark needs brackets (RFC 3261 20.10).
fn bare(bytes: &[u8], from: usize) -> (usize, usize) {
    let start = skip_space(bytes, from);
    let rest = bytes.get(start..).unwrap_or_default();
    let stops = |byte: &u8| matches!(byte, b';' | b' ' | b'\t' | b',' | b'?' | b'\r' | b'\n');
    (start, start + rest.iter().position(stops).unwrap_or(rest.len()))
}

/// What was read there, if it is all of the address.
fn unbracketed<T>(
    bytes: &[u8],
    (start, end): (usize, usize),
    read: Result<(T, usize), Malformed>,
) -> Result<(T, usize), Malformed> {
    let (uri, stop) = read?;
    if stop != end {
        return Err(Uri::cut(bytes, start, stop));
    }
    match bytes.get(end) {
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
