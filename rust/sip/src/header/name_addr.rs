//! name-addr and addr-spec with parameters: From, To, Contact, Route, Record-Route, Refer-To ... (RFC 3261 20.10).

use std::borrow::Cow;

use memchr::memchr;

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
            (address, _, end) if end == text.len() => Ok(address),
            _ => Err(Malformed(&("unexpected comma", "RFC 3261 20.10"))),
        }
    }

    /// The value that starts at an offset and ends with the text or at a comma; its tag, and where it ends.
    #[inline]
    pub(crate) fn take(text: &'a str, from: usize) -> Result<(Self, Option<&'a str>, usize), Malformed> {
        let bytes = text.as_bytes();
        let from = skip_space(bytes, from);
        match bytes.get(from) {
            Some(b'<') => Self::bracketed(text, "", from),
            Some(b'"') => {
                const FAULT: Malformed =
                    Malformed(&("display name without its closing quote", "RFC 3261 25.1"));
                let end = quoted_end(bytes, from).ok_or(FAULT)?;
                Self::bracketed(text, text.get(from..end).unwrap_or_default(), skip_space(bytes, end))
            }
            _ => Self::unquoted(text, from),
        }
    }

    /// Tokens before a bracket, or an address without brackets: the first that is neither token nor space tells.
    fn unquoted(text: &'a str, from: usize) -> Result<(Self, Option<&'a str>, usize), Malformed> {
        let rest = text.get(from..).unwrap_or_default();
        let end = rest.bytes().position(|byte| !is_display(byte)).unwrap_or(rest.len());
        match rest.as_bytes().get(end) {
            Some(b'<') => Self::bracketed(text, trim(rest.get(..end).unwrap_or_default()), from + end),
            Some(b':') => Self::bare(text, from),
            _ => Err(Malformed(&("display name needs quotes", "RFC 3261 25.1"))),
        }
    }

    /// `<uri>;params` with the bracket at `open`.
    #[inline]
    fn bracketed(
        text: &'a str,
        display: &'a str,
        open: usize,
    ) -> Result<(Self, Option<&'a str>, usize), Malformed> {
        const NONE: Malformed = Malformed(&("no address behind the display name", "RFC 3261 20.10"));
        const OPEN: Malformed = Malformed(&("angle bracket without its end", "RFC 3261 25.1"));
        let inner = text.get(open..).and_then(|rest| rest.strip_prefix('<')).ok_or(NONE)?;
        let close = memchr(b'>', inner.as_bytes()).ok_or(OPEN)?;
        let uri = Uri::parse(inner.get(..close).unwrap_or_default())?;
        let (params, tag, end) = Params::take(text, open + close + 2, "tag")?;
        Ok((Self { display, uri, params }, tag, end))
    }

    /// `uri;params`: parameters belong to the header, and a comma or question mark needs brackets (RFC 3261 20.10).
    fn bare(text: &'a str, from: usize) -> Result<(Self, Option<&'a str>, usize), Malformed> {
        let rest = text.get(from..).unwrap_or_default();
        let end = rest.find([';', ' ', '\t', ',', '?']).unwrap_or(rest.len());
        let uri = Uri::parse(rest.get(..end).unwrap_or_default())?;
        if rest.as_bytes().get(end) == Some(&b'?') {
            return Err(Malformed(&("address needs angle brackets", "RFC 3261 20.10")));
        }
        let (params, tag, end) = Params::take(text, from + end, "tag")?;
        Ok((Self { display: "", uri, params }, tag, end))
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
