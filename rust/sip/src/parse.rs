//! From a datagram to a [`Message`]: one pass over a sound one; over any other a pass over its lines, then the
//! checks that tell what is wrong.

mod check;
mod lines;
mod rule;
mod slots;
mod start;
mod straight;

use bytes::{Buf as _, Bytes};
use bytestring::ByteString;

pub(crate) use check::Keys;
pub(crate) use lines::content_length;
pub use rule::{ParseError, Rule};
pub(crate) use slots::{Slot, Slots, Span};
pub(crate) use start::Start;

use crate::message::Parts;
use crate::{Limits, Message};

impl Message {
    /// Reads a whole datagram (or one frame of a stream): start line, headers, body cut to Content-Length.
    ///
    /// Lines may end in a bare LF, and the empty line may be missing at the very end of the datagram: both leave one
    /// reading only. Folded lines are joined, CRLF in front is skipped (RFC 3261 7.5).
    ///
    /// # Errors
    /// When a rule is broken; the error keeps what can still be answered.
    pub fn parse(datagram: Bytes, limits: &Limits) -> Result<Self, ParseError> {
        // It is read where it is handed out, lest every message be moved.
        let mut parsed = Ok(Self::unread(datagram));
        if let Ok(message) = &mut parsed
            && let Some(other) = message.fill(limits)
        {
            parsed = other;
        }
        parsed
    }

    /// Reads the message from its own bytes; what else comes of them, if they are not simply it.
    fn fill(&mut self, limits: &Limits) -> Option<Result<Self, ParseError>> {
        let bytes = self.parts().bytes;
        let padding = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        bytes.advance(padding);
        if bytes.is_empty() {
            return Some(Err(ParseError::hopeless(Rule::Empty)));
        }
        if bytes.len() > limits.max_message {
            return Some(Err(ParseError::hopeless(Rule::TooLarge)));
        }
        let fault = match read(self, limits) {
            Ok(fault) => fault,
            Err(Retry::Not(rule)) => return Some(Err(ParseError::hopeless(rule))),
            Err(Retry::Folded) => return Some(reread(Bytes::from(lines::unfold(self.bytes())), limits)),
            Err(Retry::NotUtf8) => return Some(repaired(self.bytes(), limits)),
        };
        let truncated = cut(self);
        let rule = fault.or(truncated)?;
        Some(Err(ParseError::new(rule, std::mem::replace(self, Self::unread(Bytes::new())))))
    }
}

/// Why a datagram must be copied and read again, or not at all.
enum Retry {
    Folded,
    NotUtf8,
    Not(Rule),
}

/// Fills a message from its own bytes; the first rule broken, if what was understood is a message nevertheless.
fn read(message: &mut Message, limits: &Limits) -> Result<Option<Rule>, Retry> {
    let Parts { bytes, head, start, slots, keys } = message.parts();
    let straight = straight::read(bytes, limits, slots, keys);
    let sound = straight.is_some();
    let lines = match straight {
        Some(lines) => lines,
        None => {
            slots.clear();
            *keys = Keys::default();
            lines::scan(bytes, limits, slots).map_err(Retry::Not)?
        }
    };
    if lines.folded {
        return Err(Retry::Folded);
    }
    *head = ByteString::try_from(bytes.slice(..lines.end)).map_err(|_| Retry::NotUtf8)?;
    let (found, fault) = start::start_line(head, lines.start, limits);
    *start = found.ok_or(Retry::Not(fault.unwrap_or(Rule::StartLine)))?;
    let broken = match sound {
        true => keys.broken(head, *start, slots.as_slice()),
        false => check::check(head, *start, slots.as_slice(), keys),
    };
    Ok(fault.or(lines.fault).or(broken))
}

/// Cuts the body to Content-Length; a datagram shorter than that is an error, one without Content-Length ends the body
/// itself (RFC 3261 18.3).
fn cut(message: &mut Message) -> Option<Rule> {
    let Parts { bytes, head, keys, .. } = message.parts();
    let length = keys.content_length?;
    if length > bytes.len().saturating_sub(head.len()) {
        return Some(Rule::Truncated);
    }
    bytes.truncate(head.len() + length);
    None
}

/// Cuts the body and hands out the message, or what it broke first.
fn finish(mut message: Message, fault: Option<Rule>) -> Result<Message, ParseError> {
    let truncated = cut(&mut message);
    match fault.or(truncated) {
        None => Ok(message),
        Some(rule) => Err(ParseError::new(rule, message)),
    }
}

/// Reads a copy whose folds are joined.
fn reread(joined: Bytes, limits: &Limits) -> Result<Message, ParseError> {
    let mut message = Message::unread(joined);
    match read(&mut message, limits) {
        Ok(fault) => finish(message, fault),
        Err(Retry::NotUtf8) => repaired(message.bytes(), limits),
        Err(Retry::Folded) => Err(ParseError::hopeless(Rule::HeaderLine)),
        Err(Retry::Not(rule)) => Err(ParseError::hopeless(rule)),
    }
}

/// A message whose header section is not UTF-8: an error, with what can be answered. Bytes that are not UTF-8 become
/// `?`, so that no offset moves.
fn repaired(datagram: &[u8], limits: &Limits) -> Result<Message, ParseError> {
    let mut copy = datagram.to_vec();
    let mut from = 0;
    while let Some(Err(error)) = copy.get(from..).map(std::str::from_utf8) {
        from += error.valid_up_to();
        if let Some(byte) = copy.get_mut(from) {
            *byte = b'?';
        }
    }
    let mut message = Message::unread(Bytes::from(copy));
    match read(&mut message, limits) {
        Ok(_) => finish(message, Some(Rule::NotUtf8)),
        Err(_) => Err(ParseError::hopeless(Rule::NotUtf8)),
    }
}
