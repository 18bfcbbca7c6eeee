//! What can be wrong with a message.

use std::fmt;

use crate::header::{Malformed, Name};
use crate::{Message, Method};

/// The rule a message broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// Nothing but line ends: keep-alive, not a message (RFC 3261 7.5, RFC 5626 4.4).
    Empty,
    /// The first line is neither a request line nor a status line.
    StartLine,
    /// Not SIP/2.0.
    Version,
    /// The Request-URI breaks its grammar or holds what it must not.
    RequestUri(Malformed),
    /// The Request-URI is longer than we take.
    UriTooLong,
    /// A line that is no header field.
    HeaderLine,
    /// The header section has no end.
    Unterminated,
    /// CR without LF, or NUL outside a quoted pair.
    Control,
    /// The header section is not UTF-8.
    NotUtf8,
    /// A mandatory header is missing.
    Missing(Name),
    /// A header that may appear once appears again.
    Repeated(Name),
    /// A header value breaks its grammar.
    Header(Name, Malformed),
    /// The CSeq method is not the request's.
    CseqMethod,
    /// The datagram ends before the body does.
    Truncated,
    /// More lines, longer lines or more bytes than we take.
    TooLarge,
}

impl Rule {
    /// Where the rule is written.
    #[must_use]
    pub fn section(&self) -> &'static str {
        match self {
            Self::Empty => "RFC 3261 7.5",
            Self::StartLine => "RFC 3261 7.1",
            Self::Version => "RFC 3261 21.5.6",
            Self::UriTooLong => "RFC 3261 21.4.12",
            Self::HeaderLine => "RFC 3261 7.3.1",
            Self::Unterminated => "RFC 3261 7",
            Self::Control | Self::NotUtf8 => "RFC 3261 25.1",
            Self::Missing(_) => "RFC 3261 8.1.1",
            Self::Repeated(_) => "RFC 3261 7.3.1",
            Self::CseqMethod => "RFC 3261 8.1.1.5",
            Self::Truncated => "RFC 3261 18.3",
            Self::TooLarge => "RFC 3261 21.5.7",
            Self::RequestUri(malformed) | Self::Header(_, malformed) => malformed.section(),
        }
    }

    /// What is wrong, as a reason phrase (RFC 3261 21.4.1).
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::RequestUri(malformed) => format!("Malformed Request-URI: {}", malformed.what()),
            Self::Missing(name) => format!("Missing {name} header field"),
            Self::Repeated(name) => format!("Repeated {name} header field"),
            Self::Header(name, malformed) => format!("Malformed {name} header field: {}", malformed.what()),
            fixed => fixed.fixed_reason().to_owned(),
        }
    }

    fn fixed_reason(&self) -> &'static str {
        match self {
            Self::Empty => "Empty message",
            Self::StartLine => "Malformed start line",
            Self::Version => "Version Not Supported",
            Self::UriTooLong => "Request-URI Too Long",
            Self::HeaderLine => "Malformed header line",
            Self::Unterminated => "Header section without an end",
            Self::Control => "Control character in a header line",
            Self::NotUtf8 => "Header section is not UTF-8",
            Self::CseqMethod => "CSeq method differs from the request's",
            Self::Truncated => "Body shorter than Content-Length",
            Self::TooLarge => "Message Too Large",
            _ => "Bad Request",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reason(), self.section())
    }
}

/// Why a datagram is no message, and what was understood of it nevertheless.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{rule}")]
pub struct ParseError {
    rule: Rule,
    partial: Option<Box<Message>>,
}

impl ParseError {
    pub(crate) fn new(rule: Rule, message: Message) -> Self {
        Self { rule, partial: Some(Box::new(message)) }
    }

    pub(crate) fn hopeless(rule: Rule) -> Self {
        Self { rule, partial: None }
    }

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

    /// A reason phrase that says what is wrong (RFC 3261 21.4.1).
    #[must_use]
    pub fn reason(&self) -> String {
        self.rule.reason()
    }

    /// The broken message as far as it was understood, for logs and counters.
    #[must_use]
    pub fn partial(&self) -> Option<&Message> {
        self.partial.as_deref()
    }

    /// The broken request, when it is sound enough to be answered without state: any request but ACK whose top Via
    /// can be read. `Builder::response` takes it and copies what is there (RFC 4475 3.3.1).
    #[must_use]
    pub fn answerable(&self) -> Option<&Message> {
        let routable = |message: &&Message| {
            message.method().is_some_and(|method| method != Method::Ack) && message.top_via().is_ok()
        };
        self.partial().filter(routable)
    }
}
