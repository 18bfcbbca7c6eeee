//! What every message must hold, and the keys that route it, found in the same walk.

use super::{Rule, Slot, Span, Start};
use crate::Method;
use crate::header::scan::{WORD, decimal, run, skip_space};
use crate::header::{Address, Cseq, Hop, Malformed, Name, NameAddr, Names, Via};

/// RFC 3261 8.1.1 and 8.2.6.2. Max-Forwards, mandatory in requests too, is let go: RFC 2543 peers have none, and its
/// absence has a meaning (RFC 3261 16.3, RFC 4475 3.4.1).
const MANDATORY: [Name; 5] = [Name::Via, Name::From, Name::To, Name::CallId, Name::Cseq];

const NEEDED: Names = Names::of(&MANDATORY);

/// The headers that may stand once only.
pub(super) const SINGLETONS: Names = Names::singletons();

/// What transactions and dialogs are matched by.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Keys {
    pub(crate) branch: Span,
    pub(crate) via: TopVia,
    pub(crate) call_id: Span,
    pub(crate) from_tag: Span,
    pub(crate) to_tag: Span,
    pub(crate) contact_uri: Span,
    pub(crate) cseq: u32,
    pub(crate) cseq_method: Option<Method>,
    pub(crate) content_length: Option<usize>,
    pub(super) seen: Names,
}

/// What responses need of the top Via.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TopVia {
    /// From sent-by to the end of the value; empty when the header is broken.
    pub(crate) sent_by: Span,
    /// What stands behind the name of `rport`.
    pub(crate) rport: Option<Span>,
    /// Its parameters need a closer look before it is sent back.
    pub(crate) odd: bool,
}

impl TopVia {
    pub(super) fn new(hop: &Hop) -> Self {
        let rport = hop.rport.map(|(start, end)| Span::new(start, end));
        Self { sent_by: Span::new(hop.sent_by, hop.end), rport, odd: hop.odd }
    }
}

impl Keys {
    /// Whether any line of the header is there.
    pub(crate) fn has(&self, name: Name) -> bool {
        self.seen.has(name)
    }
}

/// Walks the headers once: keys, and the first rule broken.
pub(crate) fn check(head: &str, start: Start, slots: &[Slot], keys: &mut Keys) -> Option<Rule> {
    let mut fault = None;
    for slot in slots {
        let checked = match keys.seen.has(slot.name) && SINGLETONS.has(slot.name) {
            false => keys.take(head, slot).map_err(|malformed| Rule::Header(slot.name, malformed)),
            true => Err(Rule::Repeated(slot.name)),
        };
        keys.seen.add(slot.name);
        if let Err(rule) = checked {
            fault.get_or_insert(rule);
        }
    }
    fault.or_else(|| keys.broken(head, start, slots))
}

impl Keys {
    fn take(&mut self, head: &str, slot: &Slot) -> Result<(), Malformed> {
        let value = || head.get(slot.value.range()).unwrap_or_default();
        match slot.name {
            Name::Via => self.take_vias(head, slot),
            Name::From => only(head, slot).map(|from| self.from_tag = Span::new(from.tag.0, from.tag.1)),
            Name::To => only(head, slot).map(|to| self.to_tag = Span::new(to.tag.0, to.tag.1)),
            Name::Contact if value() == "*" => Ok(()),
            Name::Contact => self.take_contacts(head, slot),
            Name::Route | Name::RecordRoute => {
                each(head, slot, |at| NameAddr::check(head.as_bytes(), at).map(|address| address.end))
            }
            Name::CallId => {
                self.call_id = slot.value;
                let range = slot.value.range();
                let word = !range.is_empty() && run(head.as_bytes(), range.start, WORD) == range.end;
                word.then_some(()).ok_or(Malformed(&("not a word", "RFC 3261 20.8")))
            }
            Name::Cseq => Cseq::parse(value()).map(|cseq| {
                self.cseq = cseq.number;
                self.cseq_method = Some(cseq.method);
            }),
            Name::MaxForwards => match decimal(value().as_bytes()) {
                Some(0..=255) => Ok(()),
                _ => Err(Malformed(&("not a number up to 255", "RFC 3261 20.22"))),
            },
            Name::ContentLength => {
                let length = decimal(value().as_bytes()).and_then(|length| usize::try_from(length).ok());
                self.content_length = length;
                length.map(drop).ok_or(Malformed(&("not a number", "RFC 3261 20.14")))
            }
            _ => Ok(()),
        }
    }

    fn take_vias(&mut self, head: &str, slot: &Slot) -> Result<(), Malformed> {
        let mut first = !self.has(Name::Via);
        each(head, slot, |at| {
            let hop = Via::check(head.as_bytes(), at)?;
            if std::mem::take(&mut first) {
                let (start, end) = hop.branch.unwrap_or_default();
                (self.branch, self.via) = (Span::new(start, end), TopVia::new(&hop));
            }
            Ok(hop.next)
        })
    }

    fn take_contacts(&mut self, head: &str, slot: &Slot) -> Result<(), Malformed> {
        let mut first = !self.has(Name::Contact);
        each(head, slot, |at| {
            let contact = NameAddr::check(head.as_bytes(), at)?;
            if std::mem::take(&mut first) {
                self.contact_uri = Span::new(contact.uri.0, contact.uri.1);
            }
            Ok(contact.end)
        })
    }

    /// The rule that headers break each of which is sound.
    pub(super) fn broken(&self, head: &str, start: Start, slots: &[Slot]) -> Option<Rule> {
        self.missing().or_else(|| self.mismatch(head, start, slots))
    }

    fn missing(&self) -> Option<Rule> {
        let missing = || MANDATORY.into_iter().find(|name| !self.has(*name)).map(Rule::Missing);
        if self.seen.has_all(NEEDED) { None } else { missing() }
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

/// Calls `take` for each value of a comma list; it says where the value ends. It looks at the whole head: no value runs
/// over its line's end, since no part of the grammar takes CR or LF.
#[inline]
fn each(
    head: &str,
    slot: &Slot,
    mut take: impl FnMut(usize) -> Result<usize, Malformed>,
) -> Result<(), Malformed> {
    let range = slot.value.range();
    let mut end = take(range.start)?;
    while end < range.end {
        end = take(end + 1)?;
    }
    match end == range.end || end == skip_space(head.as_bytes(), range.end) {
        true => Ok(()),
        false => Err(Malformed(&("not a list", "RFC 3261 7.3.1"))),
    }
}

/// A single address.
fn only(head: &str, slot: &Slot) -> Result<Address, Malformed> {
    let (address, range) = (NameAddr::check(head.as_bytes(), slot.value.range().start)?, slot.value.range());
    match address.end == range.end || address.end == skip_space(head.as_bytes(), range.end) {
        true => Ok(address),
        false => Err(Malformed(&("more than one address", "RFC 3261 20.20"))),
    }
}
