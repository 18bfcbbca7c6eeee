//! `;name=value` lists (RFC 3261 25.1, generic-param and uri-parameter).

/// Parameters as they stand in a header value or URI: the text from the first `;` on, already checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Params<'a> {
    text: &'a str,
}

impl<'a> Params<'a> {
    /// The value of a parameter, any case of its name: `None` absent, `Some("")` present without a value.
    /// Quotes around a value are stripped, escapes inside are left (see [`crate::header::unquote`]).
    #[must_use]
    pub fn value(&self, _name: &str) -> Option<&'a str> {
        unimplemented!()
    }

    /// Whether the parameter is there, with a value or without.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Name and raw value (quotes kept) of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        std::iter::empty()
    }

    /// The text as it stands, leading `;` included; empty when there are none.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        self.text
    }
}
