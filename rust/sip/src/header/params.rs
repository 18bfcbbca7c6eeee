//! `;name=value` lists (RFC 3261 25.1, generic-param and uri-parameter).

use super::Malformed;
use super::scan::{NAME, VALUE, quoted_end, run, skip_space};

const FAULT: Malformed = Malformed(&("malformed parameter", "RFC 3261 25.1"));

/// Parameters as they stand in a header value or URI: the text from the first `;` on, already checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Params<'a> {
    text: &'a str,
}

/// One parameter as byte offsets into the text.
pub(crate) struct Param {
    pub(crate) name: (usize, usize),
    pub(crate) value: Option<(usize, usize)>,
    next: usize,
}

impl<'a> Params<'a> {
    /// Checks a list such as `;tag=1;lr`.
    ///
    /// # Errors
    /// When a name is empty, a quote is open or anything but `;` separates.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        match Self::take(text, 0)? {
            (params, end) if end == text.len() => Ok(params),
            _ => Err(FAULT),
        }
    }

    /// The list that starts at an offset and where it ends, white space behind it included.
    #[inline]
    pub(crate) fn take(text: &'a str, from: usize) -> Result<(Self, usize), Malformed> {
        let list = check(text.as_bytes(), from, |_| {})?;
        Ok((Self { text: text.get(from..list.end).unwrap_or_default() }, list.next))
    }

    /// A list whose grammar was checked elsewhere.
    pub(crate) fn checked(text: &'a str) -> Self {
        Self { text }
    }

    /// The value of a parameter, any case of its name: `None` absent, `Some("")` present without a value.
    /// Quotes around a value are stripped, escapes inside are left (see [`crate::header::unquote`]).
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&'a str> {
        let (_, value) = self.iter().find(|(found, _)| found.eq_ignore_ascii_case(name))?;
        let value = value.unwrap_or_default();
        Some(value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value))
    }

    /// Whether the parameter is there, with a value or without.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.iter().any(|(found, _)| found.eq_ignore_ascii_case(name))
    }

    /// Name and raw value (quotes kept) of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        let text = self.text;
        let mut at = 0;
        std::iter::from_fn(move || {
            let semicolon = skip_space(text.as_bytes(), at);
            let param =
                text.as_bytes().get(semicolon).and_then(|_| param(text.as_bytes(), semicolon).ok())?;
            at = param.next;
            let value = param.value.and_then(|(start, end)| text.get(start..end));
            Some((text.get(param.name.0..param.name.1)?, value))
        })
    }

    /// The text as it stands, leading `;` included; empty when there are none.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// Where a checked list ends.
pub(crate) struct List {
    pub(crate) end: usize,
    /// The end of the white space behind it.
    pub(crate) next: usize,
}

/// Checks the list at an offset and shows each parameter. It ends with the text or a line, or at a comma.
#[inline]
pub(crate) fn check(bytes: &[u8], from: usize, mut show: impl FnMut(&Param)) -> Result<List, Malformed> {
    let mut end = from;
    loop {
        let at = skip_space(bytes, end);
        match bytes.get(at) {
            Some(b';') => {}
            None | Some(b',' | b'\r' | b'\n') => return Ok(List { end, next: at }),
            Some(_) => return Err(FAULT),
        }
        let param = param(bytes, at)?;
        end = param.next;
        show(&param);
    }
}

/// The name of a parameter looked for, as one word.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    word: u64,
    length: usize,
}

impl Wanted {
    pub(crate) const TAG: Self = Self::new(b"tag");
    pub(crate) const BRANCH: Self = Self::new(b"branch");
    pub(crate) const RPORT: Self = Self::new(b"rport");
    pub(crate) const RECEIVED: Self = Self::new(b"received");

    #[allow(clippy::indexing_slicing, reason = "evaluated by the compiler only")]
    const fn new(name: &[u8]) -> Self {
        let (mut word, mut at) = (0, 0);
        assert!(name.len() <= 8, "a word holds the name");
        while at < name.len() {
            assert!(name[at].is_ascii_lowercase(), "only letters become themselves by setting one bit");
            word |= (name[at] as u64) << (8 * at);
            at += 1;
        }
        Self { word, length: name.len() }
    }

    /// Whether the name between two offsets is this one, in any case.
    #[inline]
    pub(crate) fn is(self, bytes: &[u8], (start, end): (usize, usize)) -> bool {
        const SMALL: u64 = u64::from_ne_bytes([0x20; 8]);
        if end.wrapping_sub(start) != self.length {
            return false;
        }
        match bytes.get(start..).and_then(<[u8]>::first_chunk) {
            Some(text) => {
                let others = 64 - 8 * self.length;
                (u64::from_le_bytes(*text) | SMALL) << others == self.word << others
            }
            None => {
                let name = bytes.get(start..end).unwrap_or_default();
                name.eq_ignore_ascii_case(self.word.to_le_bytes().get(..self.length).unwrap_or_default())
            }
        }
    }
}

/// The parameter whose `;` is at an offset.
#[inline]
fn param(bytes: &[u8], at: usize) -> Result<Param, Malformed> {
    let start = skip_space(bytes, at.wrapping_add(1));
    let end = run(bytes, start, NAME);
    if start == end {
        return Err(FAULT);
    }
    let name = (start, end);
    let at = skip_space(bytes, end);
    if bytes.get(at) != Some(&b'=') {
        return Ok(Param { name, value: None, next: at });
    }
    let start = skip_space(bytes, at.wrapping_add(1));
    let end = match bytes.get(start) {
        Some(b'"') => quoted_end(bytes, start).ok_or(FAULT)?,
        _ => run(bytes, start, VALUE),
    };
    Ok(Param { name, value: Some((start, end)), next: end })
}
