//! From a datagram to a [`Message`]: one pass over the lines, then the checks that make it routable.

use bytes::Bytes;

use crate::header::{Malformed, Name};
use crate::{Limits, Message};

/// The rule a message broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rule {
    /// RFC 3261 7.1, 7.2: the first line is neither a request line nor a status line.
    #[error("Malformed start line (RFC 3261 7.1)")]
    StartLine,
    /// RFC 3261 7.1, 21.5.6: not SIP/2.0.
    #[error("Unsupported SIP version (RFC 3261 7.1)")]
    Version,
    /// RFC 3261 19.1.1, 25.1: the Request-URI.
    #[error("Malformed Request-URI: {0}")]
    RequestUri(Malformed),
    /// RFC 3261 7.3: a line that is no header field.
    #[error("Malformed header line (RFC 3261 7.3)")]
    HeaderLine,
    /// RFC 3261 7, 7.5: the header section has no end.
    #[error("Header section without an end (RFC 3261 7)")]
    Unterminated,
    /// RFC 3261 25.1: CR without LF, NUL, or another control character outside a quoted pair.
    #[error("Control character in the header section (RFC 3261 25.1)")]
    Control,
    /// RFC 3261 7.3.1, 25.1: header text is UTF-8.
    #[error("Header section is not UTF-8 (RFC 3261 25.1)")]
    NotUtf8,
    /// RFC 3261 8.1.1, 8.2.6: a mandatory header is missing.
    #[error("Missing {0} header field (RFC 3261 8.1.1)")]
    Missing(Name),
    /// RFC 3261 7.3.1: a header that may appear once appears again.
    #[error("Repeated {0} header field (RFC 3261 7.3.1)")]
    Repeated(Name),
    /// A header value breaks its grammar.
    #[error("Malformed {0} header field: {1}")]
    Header(Name, Malformed),
    /// RFC 3261 8.1.1.5: the CSeq method is not the request's.
    #[error("CSeq method differs from the request's (RFC 3261 8.1.1.5)")]
    CseqMethod,
    /// RFC 3261 18.3: the datagram ends before the body does.
    #[error("Body shorter than Content-Length (RFC 3261 18.3)")]
    Truncated,
    /// RFC 3261 21.5.7: longer than we take.
    #[error("Message too large (RFC 3261 21.5.7)")]
    TooLarge,
    /// RFC 3261 21.4.11: the Request-URI is longer than we take.
    #[error("Request-URI too long (RFC 3261 21.4.12)")]
    UriTooLong,
}

/// Why a datagram is no message, and what was understood of it nevertheless.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{rule}")]
pub struct ParseError {
    rule: Rule,
    partial: Option<Box<Message>>,
}

impl ParseError {
    /// The rule broken.
    #[must_use]
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The status a stateless answer carries: 400, 414, 505 or 513 (RFC 3261 21.4.1, 21.4.12, 21.5.6, 21.5.7).
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.rule {
            Rule::Version => 505,
            Rule::TooLarge => 513,
            Rule::UriTooLong => 414,
            _ => 400,
        }
    }

    /// A reason phrase that says what is wrong (RFC 3261 21.4.1), without the RFC's number.
    #[must_use]
    pub fn reason(&self) -> String {
        unimplemented!()
    }

    /// The broken request, when it is sound enough to be answered without state: a request other than ACK with a
    /// readable top Via and an intact From, To, Call-ID and CSeq line each. `Builder::response` takes it.
    #[must_use]
    pub fn answerable(&self) -> Option<&Message> {
        self.partial.as_deref()
    }
}

impl Message {
    /// Reads a whole datagram (or one frame of a stream): start line, headers, body cut to Content-Length.
    ///
    /// # Errors
    /// When a rule is broken; the error keeps what can still be answered.
    pub fn parse(_datagram: Bytes, _limits: &Limits) -> Result<Self, ParseError> {
        unimplemented!()
    }
}
