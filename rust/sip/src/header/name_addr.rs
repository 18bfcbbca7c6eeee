//! name-addr and addr-spec with parameters: From, To, Contact, Route, Record-Route, Refer-To ... (RFC 3261 20.10).

use std::borrow::Cow;

use memchr::{memchr, memchr3};

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
        let bytes = text.as_bytes();
        if bytes.first() == Some(&b'"') {
            const FAULT: Malformed =
                Malformed::new("display name without its closing quote", "RFC 3261 25.1");
            let end = quoted_end(bytes, 0).ok_or(FAULT)?;
            return Self::bracketed(text, end, skip_space(bytes, end));
        }
        match memchr3(b'<', b';', b'"', bytes) {
            Some(at) if bytes.get(at) == Some(&b'<') => Self::bracketed(text, at, at),
            _ => Self::bare(text),
        }
    }

    /// `display <uri>;params`, the display name ending at `display`, the bracket at `open`.
    fn bracketed(text: &'a str, display: usize, open: usize) -> Result<Self, Malformed> {
        let display = trim(text.get(..display).unwrap_or_default());
        if !display.starts_with('"') && !display.bytes().all(is_display) {
            return Err(Malformed::new("display name needs quotes", "RFC 3261 25.1"));
        }
        let inner = text.get(open..).and_then(|rest| rest.strip_prefix('<'));
        let inner = inner.ok_or(Malformed::new("no address behind the display name", "RFC 3261 20.10"))?;
        let close = memchr(b'>', inner.as_bytes())
            .ok_or(Malformed::new("angle bracket without its end", "RFC 3261 25.1"))?;
        let uri = Uri::parse(inner.get(..close).unwrap_or_default())?;
        let params = Params::parse(inner.get(close + 1..).unwrap_or_default())?;
        Ok(Self { display, uri, params })
    }

    /// `uri;params`: parameters belong to the header, and a comma or question mark needs brackets (RFC 3261 20.10).
    fn bare(text: &'a str) -> Result<Self, Malformed> {
        let end = text.find([';', ' ', '\t', ',', '?']).unwrap_or(text.len());
        let uri = Uri::parse(text.get(..end).unwrap_or_default())?;
        let params = text.get(end..).unwrap_or_default();
        if params.starts_with([',', '?']) {
            return Err(Malformed::new("address needs angle brackets", "RFC 3261 20.10"));
        }
        Ok(Self { display: "", uri, params: Params::parse(params)? })
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
