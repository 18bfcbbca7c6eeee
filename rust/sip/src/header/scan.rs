//! Scanners shared by the headers: character classes, quoted strings, numbers, comma lists.

use std::borrow::Cow;

use memchr::{memchr, memchr3, memrchr};

/// token (RFC 3261 25.1).
pub(crate) const TOKEN: u8 = 1;
/// unreserved and user-unreserved, without `%`. Also `#`, which the star codes of phones bring unescaped.
pub(crate) const USER: u8 = 1 << 1;
/// paramchar, without `%`.
pub(crate) const PARAM: u8 = 1 << 2;
/// The value of a parameter, wide enough for token, host and what peers send in their place.
pub(crate) const VALUE: u8 = 1 << 3;
/// Host names; `_` is not in the grammar but in many private zones.
pub(crate) const HOST: u8 = 1 << 4;
/// word and `@`: the characters of a Call-ID.
pub(crate) const WORD: u8 = 1 << 5;
/// The headers of a URI with their separators, without `%`.
pub(crate) const QUERY: u8 = 1 << 6;
/// Parameter names: token, and what URI parameters may hold beyond it.
pub(crate) const NAME: u8 = 1 << 7;

static CLASSES: [u8; 256] = classes();

#[allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "evaluated by the compiler only"
)]
const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        if !matches!(byte as u8, b'"' | b',' | b';' | b'<' | b'>' | b'\\') {
            table[byte] |= VALUE;
        }
        if (byte as u8).is_ascii_alphanumeric() {
            table[byte] |= TOKEN | USER | PARAM | HOST | WORD | QUERY | NAME;
        }
        byte += 1;
    }
    add(&mut table, b"-.!%*_+`'~", TOKEN | WORD | NAME);
    add(&mut table, b"[]/:&$()", NAME);
    add(&mut table, b"-_.!~*'()&=+$,;?/#", USER);
    add(&mut table, b"-_.!~*'()[]/:&+$", PARAM | QUERY);
    add(&mut table, b"?=;", QUERY);
    add(&mut table, b"-._", HOST);
    add(&mut table, b"()<>:\\\"/[]?{}@", WORD);
    table
}

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler only")]
const fn add(table: &mut [u8; 256], bytes: &[u8], class: u8) {
    let mut at = 0;
    while at < bytes.len() {
        table[bytes[at] as usize] |= class;
        at += 1;
    }
}

#[inline]
pub(crate) fn class(byte: u8) -> u8 {
    CLASSES.get(usize::from(byte)).copied().unwrap_or_default()
}

/// The classes all bytes share; every class for no bytes at all.
fn common(bytes: &[u8]) -> u8 {
    bytes.iter().fold(u8::MAX, |common, byte| common & class(*byte))
}

/// Whether there is at least one byte and all are of a class.
#[inline]
pub(crate) fn is_all(bytes: &[u8], wanted: u8) -> bool {
    !bytes.is_empty() && common(bytes) & wanted != 0
}

/// Sixteen bytes from an offset on, so that one look at the length serves them all.
#[inline]
fn window(bytes: &[u8], from: usize) -> Option<&[u8; 16]> {
    bytes.get(from..)?.first_chunk()
}

/// Where the run of a class that starts at `from` ends.
pub(crate) fn run(bytes: &[u8], from: usize, wanted: u8) -> usize {
    let mut at = from;
    while let Some(window) = window(bytes, at) {
        for (place, byte) in window.iter().enumerate() {
            if class(*byte) & wanted == 0 {
                return at.wrapping_add(place);
            }
        }
        at = at.wrapping_add(window.len());
    }
    while bytes.get(at).is_some_and(|byte| class(*byte) & wanted != 0) {
        at = at.wrapping_add(1);
    }
    at
}

/// The same, with `%xx` escapes inside the run. A broken escape ends it.
#[inline]
pub(crate) fn run_escaped(bytes: &[u8], from: usize, wanted: u8) -> usize {
    let mut at = run(bytes, from, wanted);
    while let Some([b'%', high, low]) = bytes.get(at..at + 3) {
        if !high.is_ascii_hexdigit() || !low.is_ascii_hexdigit() {
            break;
        }
        at = run(bytes, at + 3, wanted);
    }
    at
}

/// The offset of the first byte below 0x0e: a line end, or a control character that may be one. Sixteen bytes a step,
/// which the compiler turns into one vector comparison.
#[inline]
pub(crate) fn find_control(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    for window in bytes.get(from..)?.as_chunks::<16>().0 {
        if window.iter().fold(false, |found, byte| found | (*byte < 0x0e)) {
            break;
        }
        at = at.wrapping_add(window.len());
    }
    while let Some(word) = bytes.get(at..)?.first_chunk() {
        match below(u64::from_le_bytes(*word)) {
            0 => at = at.wrapping_add(word.len()),
            flags => return Some(at.wrapping_add(flags.trailing_zeros() as usize / 8)),
        }
    }
    bytes.get(at..)?.iter().position(|byte| *byte < 0x0e).map(|found| at.wrapping_add(found))
}

/// Flags the first byte below 0x0e. Borrows only spoil flags above the lowest, and that one is all we read.
#[inline]
fn below(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    word.wrapping_sub(ONES * 0x0e) & !word & (ONES << 7)
}

/// Where the white space that starts at `from` ends (folds are spaces by now).
#[inline]
pub(crate) fn skip_space(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    // Nearly always there is one space or none.
    while let Some(byte) = bytes.get(at) {
        if *byte > b' ' || !matches!(byte, b' ' | b'\t') {
            break;
        }
        at = at.wrapping_add(1);
    }
    at
}

/// The text in front of a byte, or all of it.
#[inline]
pub(crate) fn until(text: &str, stop: u8) -> &str {
    memchr(stop, text.as_bytes()).and_then(|at| text.get(..at)).unwrap_or(text)
}

/// A SIP URI without its headers: a Request-URI has none (RFC 3261 19.1.1, table 1). A `?` may stand in the user part as
/// well (25.1, user-unreserved); behind the `@` it can only begin them.
pub(crate) fn without_headers(uri: &str) -> &str {
    let host = memrchr(b'@', uri.as_bytes()).unwrap_or(0);
    let headers = uri.get(host..).and_then(|rest| rest.find('?'));
    headers.and_then(|at| uri.get(..host.wrapping_add(at))).unwrap_or(uri)
}

/// A value without the white space around it.
pub(crate) fn trim(text: &str) -> &str {
    let mut text = text;
    while let Some(rest) = text.strip_prefix([' ', '\t']) {
        text = rest;
    }
    while let Some(rest) = text.strip_suffix([' ', '\t']) {
        text = rest;
    }
    text
}

/// What stands for itself inside quotes: anything but a quote, a backslash, NUL and line ends.
static QUOTED: [bool; 256] = quoted();

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler only")]
const fn quoted() -> [bool; 256] {
    let mut table = [true; 256];
    let (special, mut at) = (b"\"\\\0\r\n", 0);
    while at < special.len() {
        table[special[at] as usize] = false;
        at += 1;
    }
    table
}

/// The offset behind the closing quote of a string whose opening quote is at `open`. It closes on its own line, and
/// only a backslash lets NUL in.
pub(crate) fn quoted_end(bytes: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    loop {
        while QUOTED.get(usize::from(*bytes.get(at)?)).is_some_and(|plain| *plain) {
            at = at.wrapping_add(1);
        }
        match bytes.get(at..)? {
            [b'"', ..] => return Some(at + 1),
            [b'\\', escaped, ..] if !matches!(escaped, b'\r' | b'\n') => at += 2,
            _ => return None,
        }
    }
}

/// A decimal number with any leading zeros; `None` when empty, not digits, or above `u64`.
#[inline]
pub(crate) fn decimal(bytes: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| Some(u64::from(byte.wrapping_sub(b'0'))).filter(|digit| *digit < 10);
    match bytes.len() {
        0 => None,
        // Nineteen digits never overflow.
        1..=19 => bytes
            .iter()
            .try_fold(0_u64, |value, byte| Some(value.wrapping_mul(10).wrapping_add(digit(byte)?))),
        _ => bytes.iter().try_fold(0_u64, |value, byte| value.checked_mul(10)?.checked_add(digit(byte)?)),
    }
}

/// The decimal number at an offset, with any leading zeros, and where it ends; `None` when there is none, or when it is
/// very long.
#[inline]
pub(crate) fn number(bytes: &[u8], from: usize) -> Option<(u64, usize)> {
    let (mut number, mut at) = (0_u64, from);
    while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit & 15));
        at = at.wrapping_add(1);
    }
    // Nineteen digits never overflow.
    (from < at && at.wrapping_sub(from) < 20).then_some((number, at))
}

/// The values of one header line, split at commas outside quotes and angle brackets, white space trimmed.
/// A trailing or doubled comma yields an empty value.
#[derive(Debug, Clone)]
pub struct Values<'a> {
    rest: Option<&'a str>,
    split: bool,
}

impl<'a> Values<'a> {
    /// Splits one line's value.
    #[must_use]
    pub fn new(line: &'a str) -> Self {
        Self { rest: Some(line), split: true }
    }

    /// One line's value as it is, for headers that are no lists.
    #[must_use]
    pub fn whole(line: &'a str) -> Self {
        Self { rest: Some(line), split: false }
    }

    /// What is not split yet; `None` once all values were taken.
    #[must_use]
    pub fn rest(&self) -> Option<&'a str> {
        self.rest
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.rest?;
        let (value, rest) = match self.split.then(|| comma(text.as_bytes())).flatten() {
            Some(at) => (text.get(..at)?, text.get(at + 1..)),
            None => (text, None),
        };
        self.rest = rest;
        Some(trim(value))
    }
}

/// The first comma that separates values.
fn comma(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let found = at + memchr3(b',', b'"', b'<', bytes.get(at..)?)?;
        at = match bytes.get(found) {
            Some(b',') => return Some(found),
            Some(b'"') => quoted_end(bytes, found)?,
            _ => found + 1 + memchr(b'>', bytes.get(found + 1..)?)?,
        };
    }
}

/// Text without its surrounding quotes and backslash escapes (RFC 3261 25.1 quoted-string).
#[must_use]
pub fn unquote(text: &str) -> Cow<'_, str> {
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Cow::Borrowed(text);
    };
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut plain = String::with_capacity(inner.len());
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => plain.extend(letters.next()),
            _ => plain.push(letter),
        }
    }
    Cow::Owned(plain)
}
