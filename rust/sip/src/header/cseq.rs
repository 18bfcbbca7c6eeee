//! CSeq (RFC 3261 20.16).

use super::Malformed;
use crate::Method;

/// A CSeq value: the number that orders requests of a dialog, and the method it numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cseq<'a> {
    /// Less than 2^31 (RFC 3261 8.1.1.5).
    pub number: u32,
    /// The method.
    pub method: Method,
    /// The method's text.
    pub method_text: &'a str,
}

impl<'a> Cseq<'a> {
    /// Reads `314159 INVITE`.
    ///
    /// # Errors
    /// When it is not a number below 2^31 followed by a token.
    pub fn parse(_text: &'a str) -> Result<Self, Malformed> {
        unimplemented!()
    }
}
