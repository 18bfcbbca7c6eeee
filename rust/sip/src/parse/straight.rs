//! One pass over a head with which nothing is wrong. It reads a known header's value where it meets it, so that no
//! byte is looked at twice. Whatever it cannot make sense of it leaves to [`super::lines`] and [`super::check`], which
//! tell what is wrong; it takes nothing that they refuse, and finds the same.

use super::check::{Keys, SINGLETONS, TopVia};
use super::lines::{Lines, head_of, line, slot, trimmed};
use super::{Slot, Slots, Span};
use crate::Limits;
use crate::header::scan::{WORD, find_control, number, run, skip_space};
use crate::header::{Cseq, Name, NameAddr, Names, Via};

/// The headers whose values are read here.
const READ: Names = Names::of(&[
    Name::Via,
    Name::From,
    Name::To,
    Name::Contact,
    Name::Route,
    Name::RecordRoute,
    Name::CallId,
    Name::Cseq,
    Name::MaxForwards,
    Name::ContentLength,
]);

/// Takes the header section apart and finds the keys; `None` leaves both half filled.
pub(crate) fn read(datagram: &[u8], limits: &Limits, slots: &mut Slots, keys: &mut Keys) -> Option<Lines> {
    let bytes = head_of(datagram, limits);
    let first = line(bytes, 0).filter(|first| first.clean)?;
    let mut at = first.next;
    loop {
        if let [b'\r', b'\n', ..] = bytes.get(at..)? {
            let (start, end) = (Span::new(0, first.end), at.wrapping_add(2));
            return Some(Lines { start, end, fault: None, folded: false });
        }
        if slots.len() >= limits.max_headers {
            return None;
        }
        let next = match keys.known_line(bytes, at, slots) {
            Some(next) => next,
            None => keys.other_line(bytes, at, slots)?,
        };
        if next.wrapping_sub(at) > limits.max_header_line {
            return None;
        }
        at = next;
    }
}

impl Keys {
    /// The line nearly every line is: a name we know in its canonical spelling, a colon, a value, CRLF, and no fold
    /// behind it. Where the next line starts.
    #[inline]
    fn known_line(&mut self, bytes: &[u8], from: usize, slots: &mut Slots) -> Option<usize> {
        let rest = bytes.get(from..)?;
        let (name, colon) = match rest.first_chunk() {
            Some(text) => Name::before_colon(text)?,
            None => Name::before_colon(&padded(rest))?,
        };
        let colon = from.wrapping_add(colon);
        let start = match bytes.get(colon..).and_then(<[u8]>::first_chunk) {
            Some([_, b' ', b'!'..=u8::MAX]) => colon.wrapping_add(2),
            _ => skip_space(bytes, colon.wrapping_add(1)),
        };
        let end = self.value(bytes, name, start)?;
        match bytes.get(end..)?.first_chunk() {
            Some([b'\r', b'\n', next]) if !matches!(next, b' ' | b'\t') => {}
            _ => return None,
        }
        let value = Span::new(start, trimmed(bytes, start, end));
        slots.push(Slot { name, name_text: Span::new(from, colon), value });
        Some(end.wrapping_add(2))
    }

    /// Any other sound line: a compact form, small letters, a name we do not know, a bare LF.
    #[inline(never)]
    fn other_line(&mut self, bytes: &[u8], from: usize, slots: &mut Slots) -> Option<usize> {
        let line = line(bytes, from).filter(|line| line.clean)?;
        if matches!(bytes.get(line.next), Some(b' ' | b'\t')) {
            return None;
        }
        let slot = slot(bytes, from, line.end)?;
        if READ.has(slot.name) {
            let end = self.value(bytes, slot.name, slot.value.start())?;
            (end == line.end).then_some(())?;
        } else {
            self.note(slot.name)?;
        }
        slots.push(slot);
        Some(line.next)
    }

    /// Adds to the headers seen and tells whether it is the first of its name, unless it may stand once only.
    #[inline]
    fn note(&mut self, name: Name) -> Option<bool> {
        if self.seen.has(name) {
            return if SINGLETONS.has(name) { None } else { Some(false) };
        }
        self.seen.add(name);
        Some(true)
    }

    /// Reads the value at an offset and tells where its line ends: the end of the white space behind it.
    #[inline(always)]
    fn value(&mut self, bytes: &[u8], name: Name, start: usize) -> Option<usize> {
        let first = self.note(name)?;
        let end = match name {
            Name::Via => return self.vias(bytes, start, first),
            Name::From => return self.address(bytes, start, |keys, tag| keys.from_tag = tag),
            Name::To => return self.address(bytes, start, |keys, tag| keys.to_tag = tag),
            Name::Contact if bytes.get(start) == Some(&b'*') => start.wrapping_add(1),
            Name::Contact => return self.contacts(bytes, start, first),
            Name::Route | Name::RecordRoute => return routes(bytes, start),
            Name::CallId => {
                let end = run(bytes, start, WORD);
                self.call_id = Span::new(start, end);
                if end == start { None } else { Some(end) }?
            }
            Name::Cseq => {
                let (number, method, end) = Cseq::check(bytes, start)?;
                (self.cseq, self.cseq_method) = (number, Some(method));
                end
            }
            Name::MaxForwards => number(bytes, start).filter(|(hops, _)| *hops <= 255)?.1,
            Name::ContentLength => {
                let (length, end) = number(bytes, start)?;
                self.content_length = Some(usize::try_from(length).ok()?);
                end
            }
            _ => return find_control(bytes, start),
        };
        Some(skip_space(bytes, end))
    }

    #[inline]
    fn address(&mut self, bytes: &[u8], start: usize, keep: impl FnOnce(&mut Self, Span)) -> Option<usize> {
        let address = NameAddr::check(bytes, start).ok()?;
        keep(self, Span::new(address.tag.0, address.tag.1));
        Some(address.end)
    }

    #[inline(never)]
    fn vias(&mut self, bytes: &[u8], start: usize, mut first: bool) -> Option<usize> {
        each(bytes, start, |at| {
            let hop = Via::check(bytes, at).ok()?;
            if std::mem::take(&mut first) {
                let (start, end) = hop.branch.unwrap_or_default();
                (self.branch, self.via) = (Span::new(start, end), TopVia::new(&hop));
            }
            Some(hop.next)
        })
    }

    #[inline(never)]
    fn contacts(&mut self, bytes: &[u8], start: usize, mut first: bool) -> Option<usize> {
        each(bytes, start, |at| {
            let contact = NameAddr::check(bytes, at).ok()?;
            if std::mem::take(&mut first) {
                self.contact_uri = Span::new(contact.uri.0, contact.uri.1);
            }
            Some(contact.end)
        })
    }
}

#[inline(never)]
fn routes(bytes: &[u8], start: usize) -> Option<usize> {
    each(bytes, start, |at| Some(NameAddr::check(bytes, at).ok()?.end))
}

/// Calls `take` for each value of a comma list; it says where the value ends. Where the list ends.
#[inline]
fn each(bytes: &[u8], start: usize, mut take: impl FnMut(usize) -> Option<usize>) -> Option<usize> {
    let mut end = take(start)?;
    while bytes.get(end) == Some(&b',') {
        end = take(end.wrapping_add(1))?;
    }
    Some(end)
}

/// The last bytes of a head, filled up to what a name needs.
#[inline(never)]
fn padded(rest: &[u8]) -> [u8; Name::LONGEST] {
    let mut text = [0; Name::LONGEST];
    for (place, byte) in text.iter_mut().zip(rest) {
        *place = *byte;
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::{check, lines, start};
    use super::*;

    const REQUEST: &str = "INVITE sip:+74951234567@[2001:db8::1]:5060;user=phone SIP/2.0\r\n\
        Via: SIP/2.0/UDP 203.0.113.10:5060;rport;branch=z9hG4bK-1, SIP/2.0/TCP gw.example.com;branch=z9hG4bK2\r\n\
        v: SIP / 2.0 / UDP 10.20.30.255 ;received=203.0.113.44;branch=z9hG4bK3 \r\n\
        Record-Route: <sip:203.0.113.10;lr>, \"R, \\\"2\\\"\" <sip:r2.example.com;lr>\r\nMax-Forwards: 0068\r\n\
        Contact: <sip:a%20b:pw@203.0.113.44:5060;transport=udp?x=y>;q=\"0,5\"\r\nTo: <tel:+7(495)123>;x\r\n\
        From: Anna P <sip:a@carrier.example.com>;tag=5b7c\r\nCall-ID: 8104@203.0.113.44\r\nCSeq: 21047  INVITE\r\n\
        subject: a\tb\r\nX-Any:\r\nAllow: INVITE, ACK\r\nContent-Length: 3\r\n\r\nabc";
    const RESPONSE: &str = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 1.2.3.4;branch=z9hG4bK1\r\nf: sip:a@b;tag=1\r\nTo: \"b\" \
        <sips:b@c>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 BYE\r\nContact: *\r\nl: 0\r\n\r\n";

    /// All that is found of a sound message, by one pass and by two.
    fn found(bytes: &[u8]) -> (Option<String>, Option<String>) {
        let limits = Limits { max_headers: 16, max_header_line: 120, ..Limits::default() };
        let tell = |slots: &Slots, keys: &Keys, lines: &Lines| {
            format!("{:?} {keys:?} {:?} {}", slots.as_slice(), lines.start, lines.end)
        };
        let (mut slots, mut keys) = (Slots::new(), Keys::default());
        let one = read(bytes, &limits, &mut slots, &mut keys).map(|lines| tell(&slots, &keys, &lines));
        let (mut slots, mut keys) = (Slots::new(), Keys::default());
        let two = lines::scan(bytes, &limits, &mut slots).ok().and_then(|lines| {
            let head = std::str::from_utf8(bytes.get(..lines.end)?).ok()?;
            let start =
                start::start_line(head, lines.start, &limits).0.unwrap_or(super::super::Start::Unread);
            let rule = check::check(head, start, slots.as_slice(), &mut keys);
            let fault = rule.filter(|rule| keys.broken(head, start, slots.as_slice()) != Some(*rule));
            (lines.fault.is_none() && fault.is_none() && !lines.folded).then(|| tell(&slots, &keys, &lines))
        });
        (one, two)
    }

    #[test]
    fn one_pass_finds_in_sound_messages_what_two_find() {
        for message in [REQUEST, RESPONSE] {
            let (one, two) = found(message.as_bytes());
            assert!(one.is_some());
            assert_eq!(one, two);
        }
    }

    proptest! {
        #[test]
        fn one_pass_takes_nothing_that_two_refuse(
            request in any::<bool>(),
            changes in vec((any::<prop::sample::Index>(), 0_usize..3, any::<prop::sample::Index>()), 0..4),
        ) {
            const ODD: &[u8] = b"\r\n\t \0\x0b\",;:<>@[]\\%=*.0259aS/\xc3\xff";
            let mut bytes = if request { REQUEST } else { RESPONSE }.as_bytes().to_vec();
            for (place, kind, odd) in changes {
                let at = place.index(bytes.len());
                match kind {
                    0 => bytes[at] = ODD[odd.index(ODD.len())],
                    1 => bytes.insert(at, ODD[odd.index(ODD.len())]),
                    _ => drop(bytes.remove(at)),
                }
            }
            let (one, two) = found(&bytes);
            if std::str::from_utf8(&bytes).is_ok() && one.is_some() {
                prop_assert_eq!(one, two);
            }
        }
    }
}
