//! The pass over the lines: where each header starts and ends.

use super::{Rule, Slot, Slots, Span};
use crate::Limits;
use crate::header::Name;
use crate::header::scan::{TOKEN, decimal, find_control, is_all, skip_space};
use memchr::memchr;

/// The header section taken apart; its slots go straight into their message.
pub(crate) struct Lines {
    pub(crate) start: Span,
    /// Where the body begins.
    pub(crate) end: usize,
    /// The first line that had to be left out.
    pub(crate) fault: Option<Rule>,
    /// A line continues the one before it: join and scan again.
    pub(crate) folded: bool,
}

/// A line's end, where the next one starts, and whether it is free of stray control characters.
pub(crate) struct Line {
    pub(crate) end: usize,
    pub(crate) next: usize,
    pub(crate) clean: bool,
}

/// The line that starts at `from`; `None` when it does not end. CR must be followed by LF; NUL must be a quoted pair.
#[inline]
pub(crate) fn line(bytes: &[u8], from: usize) -> Option<Line> {
    let found = find_control(bytes, from)?;
    match bytes.get(found..)? {
        [b'\r', b'\n', ..] => Some(Line { end: found, next: found + 2, clean: true }),
        _ => odd_line(bytes, from, found),
    }
}

/// The same for a line with something else than CRLF at `found`.
#[cold]
fn odd_line(bytes: &[u8], from: usize, found: usize) -> Option<Line> {
    let (mut found, mut clean) = (found, true);
    loop {
        match bytes.get(found)? {
            b'\n' => return Some(Line { end: found, next: found + 1, clean }),
            b'\r' if bytes.get(found + 1)? == &b'\n' => {
                return Some(Line { end: found, next: found + 2, clean });
            }
            0 if found > from && bytes.get(found - 1) == Some(&b'\\') => {}
            0 | b'\r' => clean = false,
            _ => {}
        }
        found = find_control(bytes, found + 1)?;
    }
}

/// As much of a datagram as its head may take.
pub(crate) fn head_of<'a>(datagram: &'a [u8], limits: &Limits) -> &'a [u8] {
    let max_head = limits.max_head.min(usize::from(u16::MAX));
    datagram.get(..max_head).unwrap_or(datagram)
}

/// Takes the header section apart. Lines that are no header fields, or too many, are left out and noted.
pub(crate) fn scan(datagram: &[u8], limits: &Limits, slots: &mut Slots) -> Result<Lines, Rule> {
    let bytes = head_of(datagram, limits);
    let first =
        line(bytes, 0).ok_or(if bytes.len() < datagram.len() { Rule::TooLarge } else { Rule::StartLine })?;
    let mut lines = Lines {
        start: Span::new(0, first.end),
        end: first.next,
        fault: (!first.clean).then_some(Rule::Control),
        folded: false,
    };
    loop {
        let from = lines.end;
        let Some(line) = line(bytes, from) else { break };
        lines.end = line.next;
        if line.end == from {
            return Ok(lines);
        }
        lines.folded |= matches!(bytes.get(line.next), Some(b' ' | b'\t'));
        if line.end - from > limits.max_header_line {
            lines.note(Rule::TooLarge);
        }
        match slot(bytes, from, line.end) {
            _ if slots.len() >= limits.max_headers => lines.note(Rule::TooLarge),
            Some(slot) if line.clean => slots.push(slot),
            _ => lines.note(if line.clean { Rule::HeaderLine } else { Rule::Control }),
        }
    }
    // The datagram's end is the section's end when it falls on a line's end (RFC 3261 18.3: UDP frames by itself).
    match bytes.len() < datagram.len() {
        true => Err(Rule::TooLarge),
        false if lines.end < bytes.len() => Ok(Lines { fault: Some(Rule::Unterminated), ..lines }),
        false => Ok(lines),
    }
}

impl Lines {
    fn note(&mut self, rule: Rule) {
        self.fault.get_or_insert(rule);
    }
}

/// `field-name *( SP / HTAB ) ":" *( SP / HTAB ) value` (RFC 3261 7.3.1).
pub(super) fn slot(bytes: &[u8], from: usize, line_end: usize) -> Option<Slot> {
    let colon = from + memchr(b':', bytes.get(from..line_end)?)?;
    let name_end = trimmed(bytes, from, colon);
    let token = bytes.get(from..name_end)?;
    let name = Name::from_token(token);
    if name == Name::Other && !is_all(token, TOKEN) {
        return None;
    }
    let start = skip_space(bytes, colon + 1);
    let end = trimmed(bytes, start, line_end);
    Some(Slot { name, name_text: Span::new(from, name_end), value: Span::new(start, end) })
}

/// The end without the white space before it.
#[inline]
pub(super) fn trimmed(bytes: &[u8], from: usize, end: usize) -> usize {
    let mut end = end;
    while let Some(byte) = bytes.get(end.wrapping_sub(1)) {
        if end <= from || *byte > b' ' || !matches!(byte, b' ' | b'\t') {
            break;
        }
        end = end.wrapping_sub(1);
    }
    end
}

/// A copy whose folded header lines are joined: the line end becomes spaces, so that no offset moves
/// (RFC 3261 7.3.1: a fold equals one space).
pub(crate) fn unfold(datagram: &[u8]) -> Vec<u8> {
    let mut copy = datagram.to_vec();
    let mut at = line(datagram, 0).map_or(datagram.len(), |first| first.next);
    while let Some(line) = line(datagram, at).filter(|line| line.end > at) {
        if let (Some(b' ' | b'\t'), Some(end)) = (datagram.get(line.next), copy.get_mut(line.end..line.next))
        {
            end.fill(b' ');
        }
        at = line.next;
    }
    copy
}

/// The one Content-Length of a header section, however many lines that has, and however long: `Ok(None)` when absent.
/// What the parser refuses by its limits can be cut out of a stream nevertheless (RFC 3261 18.3).
pub(crate) fn content_length(head: &[u8]) -> Result<Option<usize>, Rule> {
    let mut found = None;
    let mut at = line(head, 0).map_or(head.len(), |first| first.next);
    while let Some(line) = line(head, at).filter(|line| line.end > at) {
        if matches!(head.get(line.next), Some(b' ' | b'\t')) {
            return content_length(&unfold(head));
        }
        let slot = slot(head, at, line.end).filter(|slot| line.clean && slot.name == Name::ContentLength);
        if let Some(slot) = slot {
            let value = head.get(slot.value.range()).and_then(decimal);
            let value = value.and_then(|value| usize::try_from(value).ok()).ok_or(Rule::HeaderLine)?;
            if found.replace(value).is_some() {
                return Err(Rule::Repeated(Name::ContentLength));
            }
        }
        at = line.next;
    }
    Ok(found)
}
