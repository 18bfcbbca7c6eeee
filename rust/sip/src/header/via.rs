//! Via (RFC 3261 20.42, RFC 3581).

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::params::{self, Wanted};
use super::scan::{TOKEN, run, skip_space, trim};
use super::{Malformed, Params};
use crate::host::Authority;
use crate::{Flow, Host, Transport};

/// One hop of a Via path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via<'a> {
    /// `UDP`, `TCP`, `TLS`, `WS`, `WSS` or anything else, as written.
    pub transport: &'a str,
    /// sent-by.
    pub host: Host<'a>,
    /// The port of sent-by, if written.
    pub port: Option<u16>,
    /// Its parameters.
    pub params: Params<'a>,
    /// Protocol and sent-by as written: everything before the parameters.
    path: &'a str,
}

impl<'a> Via<'a> {
    /// The start of every branch of RFC 3261 (8.1.1.7).
    pub const MAGIC_COOKIE: &'static str = "z9hG4bK";

    /// Reads one value.
    ///
    /// # Errors
    /// When it breaks the grammar of via-parm.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        match Self::take(text, 0)? {
            (via, end) if end == text.len() => Ok(via),
            _ => Err(Malformed(&("unexpected comma", "RFC 3261 20.42"))),
        }
    }

    /// The value at an offset, and where it ends: with the text, its line, or at a comma.
    fn take(text: &'a str, from: usize) -> Result<(Self, usize), Malformed> {
        let from = skip_space(text.as_bytes(), from);
        let (transport, sent_by) = transport(text.as_bytes(), from)?;
        let place = Authority::scan(text.as_bytes(), sent_by)?;
        let at = place.end;
        let (params, next) = Params::take(text, at)?;
        let transport = text.get(transport.0..transport.1).unwrap_or_default();
        let path = trim(text.get(from..at).unwrap_or_default());
        Ok((Self { transport, host: place.host(text), port: place.port, params, path }, next))
    }

    /// Checks the value at an offset, of which routing needs a few parts.
    pub(crate) fn check(bytes: &[u8], from: usize) -> Result<Hop, Malformed> {
        let (_, sent_by) = transport(bytes, skip_space(bytes, from))?;
        let mut hop = Hop { sent_by, ..Hop::default() };
        let list = params::check(bytes, Authority::check(bytes, sent_by)?, |param| {
            if Wanted::BRANCH.is(bytes, param.name) {
                hop.branch = hop.branch.or(param.value);
            } else if Wanted::RPORT.is(bytes, param.name) {
                hop.odd |= hop.rport.is_some();
                hop.rport = Some((param.name.1, param.value.map_or(param.name.1, |(_, end)| end)));
            } else {
                hop.odd |= Wanted::RECEIVED.is(bytes, param.name);
            }
        })?;
        Ok(Hop { end: list.end, next: list.next, ..hop })
    }

    /// Host and port as sent-by spells them.
    pub(crate) fn sent_by(&self) -> String {
        self.port.map_or_else(|| self.host.to_string(), |port| format!("{}:{port}", self.host))
    }

    /// The branch; `None` when absent or empty.
    #[must_use]
    pub fn branch(&self) -> Option<&'a str> {
        self.params.value("branch").filter(|branch| !branch.is_empty())
    }

    /// Whether the branch names a transaction by itself: the magic cookie with something behind it. Otherwise the
    /// matching of RFC 2543 applies (RFC 3261 17.2.3; RFC 4475 3.2.1).
    #[must_use]
    pub fn has_unique_branch(&self) -> bool {
        self.branch().is_some_and(Self::is_unique)
    }

    /// Whether a branch is more than the magic cookie.
    pub(crate) fn is_unique(branch: &str) -> bool {
        let cookie = Self::MAGIC_COOKIE.len();
        branch.len() > cookie
            && branch.get(..cookie).is_some_and(|start| {
                start == Self::MAGIC_COOKIE || start.eq_ignore_ascii_case(Self::MAGIC_COOKIE)
            })
    }

    /// Where the request really came from, as the server noted it; IPv6 with or without brackets (RFC 5118 4.5).
    #[must_use]
    pub fn received(&self) -> Option<IpAddr> {
        let text = self.params.value("received")?;
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        bare.unwrap_or(text).parse().ok()
    }

    /// Whether the client asked for symmetric routing: `rport`, with or without a value (RFC 3581 3).
    #[must_use]
    pub fn wants_rport(&self) -> bool {
        self.params.has("rport")
    }

    /// The source port the server noted.
    #[must_use]
    pub fn rport(&self) -> Option<u16> {
        self.params.value("rport")?.parse().ok()
    }

    /// The `maddr` parameter.
    #[must_use]
    pub fn maddr(&self) -> Option<&'a str> {
        self.params.value("maddr").filter(|value| !value.is_empty())
    }

    /// Where a response over UDP goes, given the request's source: the source address always (what `received` would
    /// say), its port if `rport` was asked for, else the port of sent-by (RFC 3261 18.2.2, RFC 3581 4).
    /// `maddr` is not followed: it would let a stranger point our responses at a third party.
    #[must_use]
    pub fn reply_address(&self, source: SocketAddr) -> SocketAddr {
        udp_reply_address(source, self.wants_rport(), self.port)
    }

    /// The value with the request's source noted as a server must: `received` when sent-by is not that address or
    /// `rport` was asked for, and `rport` filled in (RFC 3261 18.2.1, RFC 3581 4). What the client itself wrote into
    /// `received` is dropped.
    #[must_use]
    pub fn noting(&self, source: SocketAddr) -> String {
        let mut text = String::with_capacity(self.path.len() + self.params.as_str().len() + 64);
        text.push_str(self.path);
        let mut rport = false;
        for (name, value) in self.params.iter() {
            if name.eq_ignore_ascii_case("rport") {
                rport = true;
                let _ = write!(text, ";rport={}", source.port());
            } else if !name.eq_ignore_ascii_case("received") {
                let _ = write!(text, ";{name}");
                let _ = value.map(|value| write!(text, "={value}"));
            }
        }
        if rport || self.host.ip() != Some(source.ip()) {
            let _ = write!(text, ";received={}", source.ip());
        }
        text
    }
}

/// Where a response goes: over UDP see [`Via::reply_address`]; over a stream this is for when that is gone, and then
/// the client listens at the port of its sent-by (RFC 3261 18.2.2).
pub(crate) fn reply_address(flow: Flow, rport: bool, port: Option<u16>) -> SocketAddr {
    match flow.transport {
        Transport::Udp => udp_reply_address(flow.remote, rport, port),
        stream => SocketAddr::new(flow.remote.ip(), port.unwrap_or(stream.default_port())),
    }
}

fn udp_reply_address(source: SocketAddr, rport: bool, port: Option<u16>) -> SocketAddr {
    SocketAddr::new(source.ip(), if rport { source.port() } else { port.unwrap_or(5060) })
}

/// Where the parts of a value lie that routing needs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Hop {
    pub(crate) sent_by: usize,
    pub(crate) branch: Option<(usize, usize)>,
    /// What stands behind the name of `rport`, for the port to be written there.
    pub(crate) rport: Option<(usize, usize)>,
    /// `rport` stands twice, or the client itself wrote `received`.
    pub(crate) odd: bool,
    pub(crate) end: usize,
    /// The end of the white space behind it.
    pub(crate) next: usize,
}

/// The transport of `sent-protocol LWS sent-by` at an offset, and where sent-by starts.
#[inline]
fn transport(bytes: &[u8], from: usize) -> Result<((usize, usize), usize), Malformed> {
    const FAULT: Malformed = Malformed(&("no sent-protocol", "RFC 3261 20.42"));
    const START: &[u8; 8] = b"SIP/2.0/";
    let start = match bytes.get(from..).and_then(<[u8]>::first_chunk) {
        Some(start) if u64::from_le_bytes(*start) == u64::from_le_bytes(*START) => from.wrapping_add(8),
        _ => protocol_end(bytes, from).ok_or(FAULT)?,
    };
    let end = run(bytes, start, TOKEN);
    let sent_by = skip_space(bytes, end);
    if start == end || end == sent_by {
        return Err(FAULT);
    }
    Ok(((start, end), sent_by))
}

/// The offset of the transport behind `protocol / version /`, white space allowed around each slash.
fn protocol_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    for _ in 0..2 {
        let end = run(bytes, at, TOKEN);
        let slash = skip_space(bytes, end);
        if end == at || bytes.get(slash) != Some(&b'/') {
            return None;
        }
        at = skip_space(bytes, slash + 1);
    }
    Some(at)
}
