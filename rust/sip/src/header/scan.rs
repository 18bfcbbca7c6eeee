//! Scanners shared by the headers: tokens, quoted strings, comma lists.

use std::borrow::Cow;

/// The values of one header, comma lists split outside quotes and angle brackets.
#[derive(Debug, Clone)]
pub struct Values<'a> {
    rest: &'a str,
}

impl<'a> Values<'a> {
    /// Splits one line's value.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self { rest: text }
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let _ = self.rest;
        unimplemented!()
    }
}

/// Text without its surrounding quotes and backslash escapes (RFC 3261 25.1 quoted-string).
#[must_use]
pub fn unquote(_text: &str) -> Cow<'_, str> {
    unimplemented!()
}
