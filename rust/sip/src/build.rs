//! Messages of our own making.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::{Message, Method, Name};

/// A message that must not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// CR, LF, NUL or another control character in a value: it would smuggle a header in (RFC 3261 25.1).
    #[error("control character in {0}")]
    Control(String),
    /// A header name, method or URI that is no token or holds spaces.
    #[error("not a valid {0}")]
    Syntax(String),
    /// A status outside 100 to 699.
    #[error("status {0} outside 100 to 699")]
    Status(u16),
}

/// Writes a message line by line. The first fault is kept and returned by [`Builder::build`].
#[derive(Debug, Clone)]
pub struct Builder {
    head: Vec<u8>,
}

impl Builder {
    /// Starts a request.
    #[must_use]
    pub fn request(_method: Method, _uri: &str) -> Self {
        unimplemented!()
    }

    /// Starts a request of a method without a variant.
    #[must_use]
    pub fn request_named(_method: &str, _uri: &str) -> Self {
        unimplemented!()
    }

    /// Starts a response: Via lines, From, To, Call-ID and CSeq are copied from the request (RFC 3261 8.2.6.2), and
    /// Timestamp into a 100. An empty `reason` means the registered phrase.
    #[must_use]
    pub fn response(_request: &Message, _status: u16, _reason: &str) -> Self {
        unimplemented!()
    }

    /// The same, noting in the top Via where the request came from: `received` when sent-by says otherwise or `rport`
    /// was asked for, and the value of `rport` (RFC 3261 18.2.1, RFC 3581 4).
    #[must_use]
    pub fn response_to(_request: &Message, _source: SocketAddr, _status: u16, _reason: &str) -> Self {
        unimplemented!()
    }

    /// Adds our tag to To unless it has one (RFC 3261 8.2.6.2). Responses only.
    #[must_use]
    pub fn to_tag(self, _tag: &str) -> Self {
        unimplemented!()
    }

    /// Adds a header line.
    #[must_use]
    pub fn header(self, _name: Name, _value: impl AsRef<str>) -> Self {
        unimplemented!()
    }

    /// Adds a header line of any name.
    #[must_use]
    pub fn header_named(self, _name: &str, _value: &str) -> Self {
        unimplemented!()
    }

    /// Copies every line of a header from another message, in order (Record-Route into a 2xx: RFC 3261 12.1.1).
    #[must_use]
    pub fn copy(self, _name: Name, _source: &Message) -> Self {
        unimplemented!()
    }

    /// Sets the body and its Content-Type.
    #[must_use]
    pub fn body(self, _content_type: &str, _bytes: &[u8]) -> Self {
        unimplemented!()
    }

    /// The bytes to send, Content-Length added.
    ///
    /// # Errors
    /// When a value would break the message's framing.
    pub fn build(self) -> Result<Bytes, BuildError> {
        let _ = self.head;
        unimplemented!()
    }
}
