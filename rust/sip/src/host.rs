//! Hosts and ports of URIs and of Via (RFC 3261 25.1).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use memchr::memchr;

use crate::header::Malformed;
use crate::header::scan::{HOST, class, run, skip_space};

const BAD_HOST: Malformed = Malformed(&("malformed host", "RFC 3261 25.1"));

/// The host of a URI or of a Via.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host<'a> {
    /// A domain name.
    Name(&'a str),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, printed in brackets.
    V6(Ipv6Addr),
}

impl<'a> Host<'a> {
    /// Reads a name, an IPv4 address or a bracketed IPv6 address.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        match Self::take(text, 0)? {
            (host, None, end) if end == text.len() => Ok(host),
            _ => Err(BAD_HOST),
        }
    }

    /// The host and port at an offset, and where they end.
    #[inline]
    pub(crate) fn take(text: &'a str, from: usize) -> Result<(Self, Option<u16>, usize), Malformed> {
        let found = Authority::scan(text.as_bytes(), from)?;
        Ok((found.host(text), found.port, found.end))
    }

    /// The address, if it is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::V4(address) => Some(IpAddr::V4(*address)),
            Self::V6(address) => Some(IpAddr::V6(*address)),
        }
    }
}

/// Where a host and its port lie in a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Authority {
    form: Form,
    host: (usize, usize),
    pub(crate) port: Option<u16>,
    pub(crate) end: usize,
}

/// What a host was found to be.
#[derive(Debug, Clone, Copy)]
enum Form {
    Name,
    V4,
    V6,
}

impl Authority {
    /// The host and port at an offset. White space may surround the colon, as Via allows.
    #[inline]
    pub(crate) fn scan(bytes: &[u8], from: usize) -> Result<Self, Malformed> {
        let (form, end) = match bytes.get(from) {
            Some(b'[') => (Form::V6, bracketed(bytes, from).ok_or(BAD_HOST)?.1),
            Some(b'0'..=b'9') => match ipv4_end(bytes, from) {
                Some(end) => (Form::V4, end),
                None => (Form::Name, odd_name_end(bytes, from)?),
            },
            _ => match run(bytes, from, HOST) {
                end if end > from => (Form::Name, end),
                _ => return Err(BAD_HOST),
            },
        };
        let found = Self { form, host: (from, end), port: None, end };
        let colon = skip_space(bytes, end);
        if bytes.get(colon) != Some(&b':') {
            return Ok(found);
        }
        match port(bytes, skip_space(bytes, colon.wrapping_add(1))) {
            Some((port, end)) => Ok(Self { port: Some(port), end, ..found }),
            None => Err(Malformed(&("malformed port", "RFC 3261 25.1"))),
        }
    }

    /// Where the host and port at an offset end.
    #[inline(never)]
    pub(crate) fn check(bytes: &[u8], from: usize) -> Result<usize, Malformed> {
        Self::scan(bytes, from).map(|found| found.end)
    }

    /// The host, given the text it was found in.
    pub(crate) fn host<'a>(&self, text: &'a str) -> Host<'a> {
        let name = text.get(self.host.0..self.host.1).unwrap_or_default();
        match self.form {
            Form::Name => Host::Name(name),
            Form::V4 => Host::V4(ipv4(name)),
            Form::V6 => {
                bracketed(name.as_bytes(), 0).map_or(Host::Name(name), |(address, _)| Host::V6(address))
            }
        }
    }
}

/// A name may start with a digit, and container hosts do; digits and dots alone are a broken address.
fn odd_name_end(bytes: &[u8], from: usize) -> Result<usize, Malformed> {
    let end = run(bytes, from, HOST);
    let named = bytes.get(from..end).is_some_and(|name| name.iter().any(u8::is_ascii_alphabetic));
    if named { Ok(end) } else { Err(BAD_HOST) }
}

/// The IPv6 address whose bracket is at an offset.
#[inline(never)]
fn bracketed(bytes: &[u8], open: usize) -> Option<(Ipv6Addr, usize)> {
    let close = open + memchr(b']', bytes.get(open..)?)?;
    let text = str::from_utf8(bytes.get(open + 1..close)?).ok()?;
    Some((ipv6(text)?, close + 1))
}

/// The port at an offset, leading zeros allowed, and where it ends.
#[inline]
fn port(bytes: &[u8], from: usize) -> Option<(u16, usize)> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let Some(text) = bytes.get(from..)?.first_chunk() else { return odd_port(bytes, from) };
    // Digits become their values; what is no digit is flagged, reliably so up to the first of them.
    let digits = u64::from_le_bytes(*text) ^ (ONES * u64::from(b'0'));
    let flags = (digits.wrapping_add(ONES * 0x76) | digits) & (ONES << 7);
    let length = flags.trailing_zeros() / 8;
    if !(1..=4).contains(&length) {
        return odd_port(bytes, from);
    }
    // The last digit moves to the fourth byte, and noughts take the place of missing ones.
    let places = (digits << 32).wrapping_shr(8 * length).to_le_bytes();
    let port = places
        .iter()
        .take(4)
        .fold(0_u16, |port, digit| port.wrapping_mul(10).wrapping_add(u16::from(*digit)));
    let end = from.wrapping_add(length as usize);
    let longer = bytes.get(end).is_some_and(|byte| class(*byte) & HOST != 0);
    if longer { None } else { Some((port, end)) }
}

/// The same for one of five digits and more, or at a text's end.
#[cold]
fn odd_port(bytes: &[u8], from: usize) -> Option<(u16, usize)> {
    let (mut port, mut at) = (0_u32, from);
    while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
        port = port.wrapping_mul(10).wrapping_add(u32::from(*digit & 15)).min(1 << 16);
        at = at.wrapping_add(1);
    }
    let longer = bytes.get(at).is_some_and(|byte| class(*byte) & HOST != 0);
    if at == from || longer { None } else { Some((u16::try_from(port).ok()?, at)) }
}

/// Where the IPv4 address at an offset ends; `None` when it is none, or the start of a longer name.
#[inline]
fn ipv4_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut end = octet_end(bytes, from)?;
    for _ in 0..3 {
        match bytes.get(end) {
            Some(b'.') => end = octet_end(bytes, end.wrapping_add(1))?,
            _ => return None,
        }
    }
    let longer = bytes.get(end).is_some_and(|byte| class(*byte) & HOST != 0);
    if longer { None } else { Some(end) }
}

/// Where the octet at an offset ends. No leading zero: some would read that as octal.
#[inline]
fn octet_end(bytes: &[u8], from: usize) -> Option<usize> {
    let digit = |byte: u8| byte.wrapping_sub(b'0') < 10;
    let [a, b, c] = match bytes.get(from..)?.first_chunk() {
        Some(text) => *text,
        None => last_digits(bytes.get(from..)?),
    };
    let length = match (digit(b), digit(c)) {
        (false, _) => 1,
        (true, _) if a == b'0' => return None,
        (true, false) => 2,
        (true, true) if a > b'2' || a == b'2' && (b > b'5' || b == b'5' && c > b'5') => return None,
        (true, true) => 3,
    };
    digit(a).then(|| from.wrapping_add(length))
}

/// Fewer than three bytes at a text's end.
#[cold]
fn last_digits(bytes: &[u8]) -> [u8; 3] {
    let mut digits = bytes.iter().copied().chain([0; 3]);
    std::array::from_fn(|_| digits.next().unwrap_or_default())
}

/// The value of an address that was checked.
fn ipv4(text: &str) -> Ipv4Addr {
    let (mut address, mut octet) = (0_u32, 0_u32);
    for byte in text.bytes() {
        match byte {
            b'.' => (address, octet) = (address << 8 | octet, 0),
            digit => octet = octet.wrapping_mul(10).wrapping_add(u32::from(digit & 15)),
        }
    }
    Ipv4Addr::from(address << 8 | octet)
}

/// An IPv6 address; also with the third colon before an embedded IPv4 address that the grammar of RFC 3261 wrongly
/// demands and that must be tolerated (RFC 5118 4.10).
fn ipv6(text: &str) -> Option<Ipv6Addr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let (hex, v4) = text.split_once(":::")?;
    v4.parse::<Ipv4Addr>().ok()?;
    format!("{hex}::{v4}").parse().ok()
}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(address) => write!(f, "{address}"),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}
