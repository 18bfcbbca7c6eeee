//! Messages out of a byte stream: TCP and TLS (RFC 3261 18.3, RFC 5626 4.4.1).

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memchr;

use crate::Limits;
use crate::parse::content_length;

/// What a stream held next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// One message, start line to body, for [`crate::Message::parse`].
    Message(Bytes),
    /// A CRLF between messages: the answer to our ping, or padding (RFC 3261 7.5).
    Pong,
    /// A second CRLF in a row: the peer's ping, answered by one CRLF (RFC 5626 4.4.1). The first was told as a
    /// [`Frame::Pong`], for nobody can know that a second follows; where a pong is owed, both are told as this.
    Ping,
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
    /// Content-Length is missing, repeated, or no number (RFC 3261 18.3, 20.14).
    #[error("no usable Content-Length (RFC 3261 18.3)")]
    ContentLength,
    /// CR without LF between messages.
    #[error("stray bytes between messages (RFC 3261 7.5)")]
    Stray,
}

/// How far the message at the front of the buffer is understood.
#[derive(Debug, Clone, Copy)]
enum State {
    /// Between messages; whether the last thing read was a CRLF.
    Between { after_crlf: bool },
    /// In the header section: where the current line starts, and how far it was searched.
    Head { line: usize, searched: usize },
    /// The whole message's length is known.
    Body { total: usize },
    /// Broken for good; how much of the buffer is a whole header section.
    Failed { error: FrameError, head: usize },
}

/// Cuts a stream into messages as bytes arrive, in any portions.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    state: State,
    /// A ping of ours has not been answered.
    owed: bool,
    limits: Limits,
}

/// RFC 5626 3.5.1.
const PING: &[u8] = b"\r\n\r\n";
/// The most that a stream keeps for its next message.
const IDLE: usize = 8_192;

impl Framer {
    /// A framer for a new connection.
    #[must_use]
    pub fn new(mut limits: Limits) -> Self {
        limits.max_head = limits.max_head.min(usize::from(u16::MAX));
        Self { buffer: BytesMut::new(), state: State::Between { after_crlf: false }, owed: false, limits }
    }

    /// We have sent a ping: the next CRLF is its answer and begins no ping, unless it comes with a second one in one
    /// piece, as whoever pings sends them (RFC 5626 4.4.1).
    pub fn expect_pong(&mut self) {
        self.owed = true;
    }

    /// Adds what was read. Take every frame before pushing more: that bounds the buffer.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame; `None` until more bytes arrive.
    ///
    /// # Errors
    /// When the stream breaks the framing; every later call fails too.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            let step = match self.state {
                State::Between { after_crlf } => self.between(after_crlf),
                State::Head { line, searched } => self.head(line, searched),
                State::Body { total } => return Ok(self.body(total)),
                State::Failed { error, .. } => Err(error),
            };
            match step.inspect_err(|error| self.fail(*error, 0))? {
                Step::Frame(frame) => return Ok(Some(frame)),
                Step::Wait => return Ok(None),
                Step::Go => {}
            }
        }
    }

    /// The header section of the message whose length is no use, or its first lines where it does not end: its sender
    /// can be told before the stream is closed (RFC 3261 18.3).
    #[must_use]
    pub fn broken_head(&self) -> Option<Bytes> {
        match self.state {
            State::Failed { head, .. } if head > 0 => self.buffer.get(..head).map(Bytes::copy_from_slice),
            _ => None,
        }
    }

    /// The first fault stays.
    fn fail(&mut self, error: FrameError, head: usize) {
        if !matches!(self.state, State::Failed { .. }) {
            self.state = State::Failed { error, head };
        }
    }

    /// Bytes that wait for the rest of their message.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    fn between(&mut self, after_crlf: bool) -> Result<Step, FrameError> {
        let length = match (self.buffer.first(), self.buffer.get(1)) {
            (None, _) | (Some(b'\r'), None) => return Ok(Step::Wait),
            (Some(b'\n'), _) => 1,
            (Some(b'\r'), Some(b'\n')) => 2,
            (Some(b'\r'), _) => return Err(FrameError::Stray),
            _ => {
                self.state = State::Head { line: 0, searched: 0 };
                return Ok(Step::Go);
            }
        };
        if self.owed && self.buffer.starts_with(PING) {
            self.buffer.advance(PING.len());
            return Ok(Step::Frame(Frame::Ping));
        }
        self.buffer.advance(length);
        let owed = std::mem::take(&mut self.owed);
        self.state = State::Between { after_crlf: !after_crlf && !owed };
        Ok(Step::Frame(if after_crlf && !owed { Frame::Ping } else { Frame::Pong }))
    }

    /// Looks for the empty line by the parser's own notion of a line, so that both always agree on where a body starts.
    fn head(&mut self, line: usize, searched: usize) -> Result<Step, FrameError> {
        let Some(found) = memchr(b'\n', self.buffer.get(searched..).unwrap_or_default()) else {
            self.state = State::Head { line, searched: self.buffer.len() };
            return match self.buffer.len() > self.limits.max_head {
                true => Err(self.too_long(line)),
                false => Ok(Step::Wait),
            };
        };
        let next = searched + found + 1;
        if next > self.limits.max_head {
            return Err(self.too_long(line));
        }
        self.state = match self.buffer.get(line..next) {
            Some(b"\n" | b"\r\n") => {
                State::Body { total: self.total(next).inspect_err(|error| self.fail(*error, next))? }
            }
            _ => State::Head { line: next, searched: next },
        };
        Ok(Step::Go)
    }

    /// The lines before `line` are whole, and enough to tell their sender.
    fn too_long(&mut self, line: usize) -> FrameError {
        self.fail(FrameError::HeadTooLong, line);
        FrameError::HeadTooLong
    }

    fn total(&self, head: usize) -> Result<usize, FrameError> {
        let length = content_length(self.buffer.get(..head).unwrap_or_default());
        let length = length.ok().flatten().ok_or(FrameError::ContentLength)?;
        head.checked_add(length).filter(|total| *total <= self.limits.max_message).ok_or(FrameError::TooLarge)
    }

    fn body(&mut self, total: usize) -> Option<Frame> {
        if self.buffer.len() < total {
            return None;
        }
        self.state = State::Between { after_crlf: false };
        // A copy: a part of the buffer, kept for as long as its call lasts, would keep all of the buffer.
        let message = Bytes::copy_from_slice(self.buffer.get(..total)?);
        self.buffer.advance(total);
        if self.buffer.is_empty() && self.buffer.capacity() > IDLE {
            self.buffer = BytesMut::new();
        }
        Some(Frame::Message(message))
    }
}

/// What one step of the framer led to.
enum Step {
    Frame(Frame),
    Wait,
    Go,
}
