//! From a datagram to a [`Message`]: one pass over the lines, then the checks that make it routable.

mod check;
mod lines;
mod rule;
mod start;

use bytes::{Buf as _, Bytes};

pub(crate) use check::Keys;
pub(crate) use lines::{Slot, Slots, Span, content_length};
pub use rule::{ParseError, Rule};
pub(crate) use start::Start;

use crate::{Limits, Message};

impl Message {
    /// Reads a whole datagram (or one frame of a stream): start line, headers, body cut to Content-Length.
    ///
    /// Lines may end in a bare LF, and the empty line may be missing at the very end of the datagram: both leave one
    /// reading only. Folded lines are joined, CRLF in front is skipped (RFC 3261 7.5).
    ///
    /// # Errors
    /// When a rule is broken; the error keeps what can still be answered.
    pub fn parse(mut datagram: Bytes, limits: &Limits) -> Result<Self, ParseError> {
        let padding = datagram.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        datagram.advance(padding);
        if datagram.is_empty() {
            return Err(ParseError::hopeless(Rule::Empty));
        }
        if datagram.len() > limits.max_message {
            return Err(ParseError::hopeless(Rule::TooLarge));
        }
        // Twice at most: a joined copy has no folds left.
        for _ in 0..2 {
            datagram = match read(&datagram, limits) {
                Ok(read) => return read.finish(datagram),
                Err(Retry::Folded) => Bytes::from(lines::unfold(&datagram)),
                Err(Retry::NotUtf8(end)) => {
                    return Self::repaired(Bytes::from(repair(&datagram, end)), limits);
                }
                Err(Retry::Not(rule)) => return Err(ParseError::hopeless(rule)),
            };
        }
        Err(ParseError::hopeless(Rule::HeaderLine))
    }

    /// A message whose header section was not UTF-8: an error, with what can be answered.
    fn repaired(datagram: Bytes, limits: &Limits) -> Result<Self, ParseError> {
        match read(&datagram, limits) {
            Ok(read) => Read { fault: Some(Rule::NotUtf8), ..read }.finish(datagram),
            Err(_) => Err(ParseError::hopeless(Rule::NotUtf8)),
        }
    }
}

/// A header section read and checked.
struct Read {
    start: Start,
    slots: Slots,
    end: usize,
    keys: Keys,
    fault: Option<Rule>,
}

/// Why a datagram must be copied and read again, or not at all.
enum Retry {
    Folded,
    NotUtf8(usize),
    Not(Rule),
}

fn read(datagram: &[u8], limits: &Limits) -> Result<Read, Retry> {
    let lines = lines::scan(datagram, limits).map_err(Retry::Not)?;
    if lines.folded {
        return Err(Retry::Folded);
    }
    let head = datagram.get(..lines.end).unwrap_or_default();
    let head = std::str::from_utf8(head).map_err(|_| Retry::NotUtf8(lines.end))?;
    let (start, fault) = start::start_line(head, lines.start, limits);
    let start = start.ok_or(Retry::Not(fault.unwrap_or(Rule::StartLine)))?;
    let (keys, broken) = check::check(head, start, &lines.slots);
    Ok(Read { start, slots: lines.slots, end: lines.end, keys, fault: fault.or(lines.fault).or(broken) })
}

impl Read {
    /// The message with its body cut to Content-Length; a datagram shorter than that is an error, one without
    /// Content-Length ends the body itself (RFC 3261 18.3).
    fn finish(mut self, mut datagram: Bytes) -> Result<Message, ParseError> {
        let rest = datagram.len() - self.end.min(datagram.len());
        match self.keys.content_length {
            Some(length) if length > rest => self.fault = self.fault.or(Some(Rule::Truncated)),
            Some(length) => datagram.truncate(self.end + length),
            None => {}
        }
        let message = Message::new(datagram, self.end, self.start, self.slots, self.keys);
        match self.fault {
            None => Ok(message),
            Some(rule) => Err(ParseError::new(rule, message)),
        }
    }
}

/// A copy whose header section is UTF-8: bytes that are not become `?`, so that no offset moves.
fn repair(datagram: &[u8], end: usize) -> Vec<u8> {
    let mut copy = datagram.to_vec();
    let mut from = 0;
    while let Some(Err(error)) = copy.get(from..end).map(std::str::from_utf8) {
        from += error.valid_up_to();
        if let Some(byte) = copy.get_mut(from) {
            *byte = b'?';
        }
    }
    copy
}
