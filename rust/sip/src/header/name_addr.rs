//! name-addr and addr-spec with parameters: From, To, Contact, Route, Record-Route, Refer-To ... (RFC 3261 20.10).

use std::borrow::Cow;

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
    pub fn parse(_text: &'a str) -> Result<Self, Malformed> {
        unimplemented!()
    }

    /// The display name without quotes and escapes; empty when there is none.
    #[must_use]
    pub fn display(&self) -> Cow<'a, str> {
        super::unquote(self.display)
    }

    /// The `tag` of From and To.
    #[must_use]
    pub fn tag(&self) -> Option<&'a str> {
        self.params.value("tag").filter(|tag| !tag.is_empty())
    }
}
