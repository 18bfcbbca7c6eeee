//! What every message must hold, and the keys that route it, found in the same walk.

use super::{Rule, Slot, Span, Start};
use crate::Method;
use crate::header::scan::{WORD, decimal, is_all};
use crate::header::{Cseq, Malformed, Name, NameAddr, Via};

/// RFC 3261 8.1.1 and 8.2.6.2. Max-Forwards, mandatory in requests too, is let go: RFC 2543 peers have none, and its
/// absence has a meaning (RFC 3261 16.3, RFC 4475 3.4.1).
const MANDATORY: [Name; 5] = [Name::Via, Name::From, Name::To, Name::CallId, Name::Cseq];

/// The headers that may stand once only, as one set.
const SINGLETONS: u128 = Name::singletons();

/// What transactions and dialogs are matched by.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Keys {
    pub(crate) branch: Span,
    pub(crate) from_tag: Span,
    pub(crate) to_tag: Span,
    pub(crate) contact_uri: Span,
    pub(crate) cseq: u32,
    pub(crate) cseq_method: Option<Method>,
    pub(crate) content_length: Option<usize>,
    seen: u128,
}

impl Keys {
    /// Whether any line of the header is there.
    pub(crate) fn has(&self, name: Name) -> bool {
        self.seen & name.bit() != 0
    }
}

/// Walks the headers once: keys, and the first rule broken.
pub(crate) fn check(head: &str, start: Start, slots: &[Slot], keys: &mut Keys) -> Option<Rule> {
    let mut fault = None;
    for slot in slots {
        let bit = slot.name.bit();
        let checked = match keys.seen & bit & SINGLETONS {
            0 => {
                let value = head.get(slot.value.range()).unwrap_or_default();
                keys.take(head, slot.name, value).map_err(|malformed| Rule::Header(slot.name, malformed))
            }
            _ => Err(Rule::Repeated(slot.name)),
        };
        keys.seen |= bit;
        if let Err(rule) = checked {
            fault.get_or_insert(rule);
        }
    }
    fault.or_else(|| keys.missing()).or_else(|| keys.mismatch(head, start, slots))
}

impl Keys {
    fn take(&mut self, head: &str, name: Name, value: &str) -> Result<(), Malformed> {
        match name {
            Name::Via => self.take_vias(head, value),
            Name::From => only(value).map(|from| self.from_tag = span(from.tag, head)),
            Name::To => only(value).map(|to| self.to_tag = span(to.tag, head)),
            Name::Contact if value == "*" => Ok(()),
            Name::Contact => self.take_contacts(head, value),
            Name::Route | Name::RecordRoute => {
                each(value, |at| address(value, at).map(|address| address.end))
            }
            Name::CallId if is_all(value.as_bytes(), WORD) => Ok(()),
            Name::CallId => Err(Malformed(&("not a word", "RFC 3261 20.8"))),
            Name::Cseq => Cseq::parse(value).map(|cseq| {
                self.cseq = cseq.number;
                self.cseq_method = Some(cseq.method);
            }),
            Name::MaxForwards => match decimal(value.as_bytes()) {
                Some(0..=255) => Ok(()),
                _ => Err(Malformed(&("not a number up to 255", "RFC 3261 20.22"))),
            },
            Name::ContentLength => {
                let length = decimal(value.as_bytes()).and_then(|length| usize::try_from(length).ok());
                self.content_length = length;
                length.map(drop).ok_or(Malformed(&("not a number", "RFC 3261 20.14")))
            }
            _ => Ok(()),
        }
    }

    fn take_vias(&mut self, head: &str, line: &str) -> Result<(), Malformed> {
        let mut first = !self.has(Name::Via);
        each(line, |at| {
            let (_, branch, end) = Via::take(line, at)?;
            if std::mem::take(&mut first) {
                self.branch = span(branch, head);
            }
            Ok(end)
        })
    }

    fn take_contacts(&mut self, head: &str, line: &str) -> Result<(), Malformed> {
        let mut first = !self.has(Name::Contact);
        each(line, |at| {
            let contact = address(line, at)?;
            if std::mem::take(&mut first) {
                self.contact_uri = span(Some(contact.uri), head);
            }
            Ok(contact.end)
        })
    }

    fn missing(&self) -> Option<Rule> {
        MANDATORY.into_iter().find(|name| !self.has(*name)).map(Rule::Missing)
    }

    /// The CSeq method must be the request's (RFC 3261 8.1.1.5).
    fn mismatch(&self, head: &str, start: Start, slots: &[Slot]) -> Option<Rule> {
        let Start::Request { method, method_text, .. } = start else { return None };
        let same = match self.cseq_method {
            Some(Method::Other) => {
                let slot = slots.iter().find(|slot| slot.name == Name::Cseq)?;
                let cseq = Cseq::parse(head.get(slot.value.range())?).ok()?;
                method == Method::Other && head.get(method_text.range()) == Some(cseq.method_text)
            }
            found => found == Some(method),
        };
        (!same).then_some(Rule::CseqMethod)
    }
}

/// Calls `take` for each value of a comma list; it says where the value ends.
fn each(line: &str, mut take: impl FnMut(usize) -> Result<usize, Malformed>) -> Result<(), Malformed> {
    let mut end = take(0)?;
    while end < line.len() {
        end = take(end + 1)?;
    }
    Ok(())
}

/// What the checks keep of an address.
struct Address<'a> {
    uri: &'a str,
    tag: Option<&'a str>,
    end: usize,
}

/// The address at an offset. Never inlined: its one copy of the grammar drops all that is not kept.
#[inline(never)]
fn address(value: &str, at: usize) -> Result<Address<'_>, Malformed> {
    let (address, tag, end) = NameAddr::take(value, at)?;
    Ok(Address { uri: address.uri.as_str(), tag, end })
}

/// A single address.
fn only(value: &str) -> Result<Address<'_>, Malformed> {
    let address = address(value, 0)?;
    match address.end == value.len() {
        true => Ok(address),
        false => Err(Malformed(&("more than one address", "RFC 3261 20.20"))),
    }
}

fn span(part: Option<&str>, head: &str) -> Span {
    part.map_or(Span::default(), |part| Span::of(part, head))
}
