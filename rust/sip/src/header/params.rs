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
struct Param {
    name: (usize, usize),
    value: Option<(usize, usize)>,
    next: usize,
}

impl<'a> Params<'a> {
    /// Checks a list such as `;tag=1;lr`.
    ///
    /// # Errors
    /// When a name is empty, a quote is open or anything but `;` separates.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        match Self::take(text, 0, "")? {
            (params, _, end) if end == text.len() => Ok(params),
            _ => Err(FAULT),
        }
    }

    /// The list that starts at an offset and ends with the text or at a comma, where it ends, and the value of one
    /// parameter looked for on the way.
    pub(crate) fn take(
        text: &'a str,
        from: usize,
        wanted: &str,
    ) -> Result<(Self, Option<&'a str>, usize), Malformed> {
        let (mut at, mut found) = (from, None);
        while let Some(param) = next(text.as_bytes(), at)? {
            at = param.next;
            if found.is_none()
                && !wanted.is_empty()
                && text.get(param.name.0..param.name.1).is_some_and(|name| name.eq_ignore_ascii_case(wanted))
            {
                found = param.value.and_then(|(start, end)| text.get(start..end));
            }
        }
        let params = Self { text: text.get(from..at).unwrap_or_default() };
        Ok((params, found.filter(|value| !value.is_empty()), skip_space(text.as_bytes(), at)))
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
            let param = next(text.as_bytes(), at).ok()??;
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

/// The parameter at an offset; `None` at the end, which a comma is too.
#[inline]
fn next(bytes: &[u8], from: usize) -> Result<Option<Param>, Malformed> {
    let at = skip_space(bytes, from);
    match bytes.get(at) {
        None | Some(b',') => return Ok(None),
        Some(b';') => {}
        Some(_) => return Err(FAULT),
    }
    let start = skip_space(bytes, at + 1);
    let end = run(bytes, start, NAME);
    if start == end {
        return Err(FAULT);
    }
    let name = (start, end);
    let at = skip_space(bytes, end);
    if bytes.get(at) != Some(&b'=') {
        return Ok(Some(Param { name, value: None, next: at }));
    }
    let start = skip_space(bytes, at + 1);
    let end = value_end(bytes, start)?;
    Ok(Some(Param { name, value: Some((start, end)), next: end }))
}

#[inline]
fn value_end(bytes: &[u8], start: usize) -> Result<usize, Malformed> {
    match bytes.get(start) {
        Some(b'"') => quoted_end(bytes, start).ok_or(FAULT),
        _ => Ok(run(bytes, start, VALUE)),
    }
}
