//! What every message must hold, and the keys that route it, found in the same walk.

use super::{Rule, Slots, Span, Start};
use crate::Method;
use crate::header::scan::{WORD, decimal, is_all};
use crate::header::{Cseq, Malformed, Name, NameAddr, Values, Via};

/// RFC 3261 8.1.1 and 8.2.6.2. Max-Forwards, mandatory in requests too, is let go: RFC 2543 peers have none, and its
/// absence has a meaning (RFC 3261 16.3, RFC 4475 3.4.1).
const MANDATORY: [Name; 5] = [Name::Via, Name::From, Name::To, Name::CallId, Name::Cseq];

/// What transactions and dialogs are matched by.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Keys {
    pub(crate) branch: Span,
    pub(crate) from_tag: Span,
    pub(crate) to_tag: Span,
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
pub(crate) fn check(head: &str, start: Start, slots: &Slots) -> (Keys, Option<Rule>) {
    let mut keys = Keys::default();
    let mut fault = None;
    for slot in slots {
        let checked = match keys.has(slot.name) && slot.name.is_singleton() {
            true => Err(Rule::Repeated(slot.name)),
            false => {
                let value = head.get(slot.value.range()).unwrap_or_default();
                keys.take(head, slot.name, value).map_err(|malformed| Rule::Header(slot.name, malformed))
            }
        };
        keys.seen |= slot.name.bit();
        if let Err(rule) = checked {
            fault.get_or_insert(rule);
        }
    }
    let fault = fault.or_else(|| keys.missing()).or_else(|| keys.mismatch(head, start, slots));
    (keys, fault)
}

impl Keys {
    fn take(&mut self, head: &str, name: Name, value: &str) -> Result<(), Malformed> {
        match name {
            Name::Via => self.take_via(head, value),
            Name::From => NameAddr::parse(value).map(|from| self.from_tag = tag(head, &from)),
            Name::To => NameAddr::parse(value).map(|to| self.to_tag = tag(head, &to)),
            Name::Contact if value == "*" => Ok(()),
            Name::Contact | Name::Route | Name::RecordRoute => {
                Values::new(value).try_for_each(|value| NameAddr::parse(value).map(drop))
            }
            Name::CallId if is_all(value.as_bytes(), WORD) => Ok(()),
            Name::CallId => Err(Malformed::new("not a word", "RFC 3261 20.8")),
            Name::Cseq => Cseq::parse(value).map(|cseq| {
                self.cseq = cseq.number;
                self.cseq_method = Some(cseq.method);
            }),
            Name::MaxForwards => match decimal(value.as_bytes()) {
                Some(0..=255) => Ok(()),
                _ => Err(Malformed::new("not a number up to 255", "RFC 3261 20.22")),
            },
            Name::ContentLength => {
                let length = decimal(value.as_bytes()).and_then(|length| usize::try_from(length).ok());
                self.content_length = length;
                length.map(drop).ok_or(Malformed::new("not a number", "RFC 3261 20.14"))
            }
            _ => Ok(()),
        }
    }

    fn take_via(&mut self, head: &str, line: &str) -> Result<(), Malformed> {
        for value in Values::new(line) {
            let via = Via::parse(value)?;
            if !self.has(Name::Via) {
                self.branch = via.branch().map_or(Span::default(), |branch| Span::of(branch, head));
                self.seen |= Name::Via.bit();
            }
        }
        Ok(())
    }

    fn missing(&self) -> Option<Rule> {
        MANDATORY.into_iter().find(|name| !self.has(*name)).map(Rule::Missing)
    }

    /// The CSeq method must be the request's (RFC 3261 8.1.1.5).
    fn mismatch(&self, head: &str, start: Start, slots: &Slots) -> Option<Rule> {
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

fn tag(head: &str, address: &NameAddr<'_>) -> Span {
    address.tag().map_or(Span::default(), |tag| Span::of(tag, head))
}
