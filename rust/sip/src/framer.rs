//! Messages out of a byte stream: TCP and TLS (RFC 3261 18.3, RFC 5626 4.4.1).

use bytes::{Bytes, BytesMut};

use crate::Limits;

/// What a stream held next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// One message, start line to body, for [`crate::Message::parse`].
    Message(Bytes),
    /// A double CRLF: answer with a single one (RFC 5626 4.4.1).
    Ping,
    /// A single CRLF: the answer to our ping, or padding (RFC 3261 7.5).
    Pong,
}

/// A stream that cannot be followed any further; close it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The header section does not end within the limit.
    #[error("header section too long")]
    HeadTooLong,
    /// Headers plus Content-Length exceed the limit.
    #[error("message too large (RFC 3261 21.5.7)")]
    TooLarge,
    /// Content-Length is missing, repeated with another value, or no number (RFC 3261 18.3, 20.14).
    #[error("no usable Content-Length (RFC 3261 18.3)")]
    ContentLength,
}

/// Cuts a stream into messages as bytes arrive, in any portions.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    limits: Limits,
}

impl Framer {
    /// A framer for a new connection.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { buffer: BytesMut::new(), limits }
    }

    /// Adds what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame; `None` until more bytes arrive.
    ///
    /// # Errors
    /// When the stream breaks the framing; every later call fails too.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let _ = &self.limits;
        unimplemented!()
    }
}
