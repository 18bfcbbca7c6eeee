//! Via (RFC 3261 20.42, RFC 3581).

use std::net::{IpAddr, SocketAddr};

use super::{Malformed, Params};
use crate::Host;

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
}

impl<'a> Via<'a> {
    /// The start of every branch of RFC 3261 (8.1.1.7).
    pub const MAGIC_COOKIE: &'static str = "z9hG4bK";

    /// Reads one value.
    ///
    /// # Errors
    /// When it breaks the grammar of via-parm.
    pub fn parse(_text: &'a str) -> Result<Self, Malformed> {
        unimplemented!()
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
        self.branch().is_some_and(|branch| branch.len() > 7 && branch.starts_with(Self::MAGIC_COOKIE))
    }

    /// Where the request really came from, as the server noted it; IPv6 with or without brackets (RFC 5118 4.5).
    #[must_use]
    pub fn received(&self) -> Option<IpAddr> {
        unimplemented!()
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
        let port = if self.wants_rport() { source.port() } else { self.port.unwrap_or(5060) };
        SocketAddr::new(source.ip(), port)
    }
}
