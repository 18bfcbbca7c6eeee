//! CSeq (RFC 3261 20.16).

use super::Malformed;
use super::scan::{TOKEN, decimal, is_all, number, run, skip_space};
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
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        const FAULT: Malformed = Malformed(&("not a number and a method", "RFC 3261 20.16"));
        let bytes = text.as_bytes();
        let digits = run(bytes, 0, TOKEN);
        let method = skip_space(bytes, digits);
        let number = bytes.get(..digits).and_then(decimal);
        let number = number.and_then(|number| u32::try_from(number).ok()).filter(|number| *number < 1 << 31);
        let number = number.ok_or(Malformed(&("number not below 2^31", "RFC 3261 8.1.1.5")))?;
        let method_text = text.get(method..).unwrap_or_default();
        if method == digits || !is_all(method_text.as_bytes(), TOKEN) {
            return Err(FAULT);
        }
        Ok(Self { number, method: Method::from_token(method_text.as_bytes()), method_text })
    }

    /// Number and method at an offset, and where they end; `None` when they break the grammar.
    #[inline]
    pub(crate) fn check(bytes: &[u8], from: usize) -> Option<(u32, Method, usize)> {
        let (sequence, end) = number(bytes, from)?;
        let sequence = u32::try_from(sequence).ok().filter(|sequence| *sequence < 1 << 31)?;
        let method = skip_space(bytes, end);
        let stop = run(bytes, method, TOKEN);
        (end < method && method < stop).then_some(())?;
        Some((sequence, Method::from_token(bytes.get(method..stop)?), stop))
    }
}
