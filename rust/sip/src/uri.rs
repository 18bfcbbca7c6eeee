//! SIP, SIPS and tel URIs (RFC 3261 19.1, RFC 3966).

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::header::{Malformed, Params};

/// The scheme of a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme<'a> {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:` (RFC 3966)
    Tel,
    /// Any other; the URI is opaque.
    Other(&'a str),
}

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
    pub fn parse(_text: &'a str) -> Result<Self, Malformed> {
        unimplemented!()
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

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(address) => write!(f, "{address}"),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

/// A URI, borrowed from its message.
#[derive(Debug, Clone, Copy)]
pub struct Uri<'a> {
    text: &'a str,
    scheme: Scheme<'a>,
    user: Option<&'a str>,
    password: Option<&'a str>,
    host: Option<Host<'a>>,
    port: Option<u16>,
    params: Params<'a>,
    headers: &'a str,
}

impl<'a> Uri<'a> {
    /// Reads a URI of any scheme.
    ///
    /// # Errors
    /// When it breaks the grammar of its scheme.
    pub fn parse(_text: &'a str) -> Result<Self, Malformed> {
        unimplemented!()
    }

    /// The text it was read from.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// The scheme.
    #[must_use]
    pub fn scheme(&self) -> Scheme<'a> {
        self.scheme
    }

    /// The user part as written (escapes kept); the number of a `tel:` URI.
    #[must_use]
    pub fn user(&self) -> Option<&'a str> {
        self.user
    }

    /// The user part with `%xx` escapes resolved; bytes that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn user_unescaped(&self) -> Option<Cow<'a, str>> {
        unimplemented!()
    }

    /// The password as written.
    #[must_use]
    pub fn password(&self) -> Option<&'a str> {
        self.password
    }

    /// The host; `None` for `tel:` and opaque URIs.
    #[must_use]
    pub fn host(&self) -> Option<Host<'a>> {
        self.host
    }

    /// The port, if written.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// URI parameters.
    #[must_use]
    pub fn params(&self) -> Params<'a> {
        self.params
    }

    /// The headers behind `?`, without it; empty when there are none.
    #[must_use]
    pub fn headers(&self) -> &'a str {
        self.headers
    }

    /// Whether it is a loose router: `;lr` (RFC 3261 19.1.1).
    #[must_use]
    pub fn is_loose_router(&self) -> bool {
        self.params.has("lr")
    }
}

/// Comparison by the rules of RFC 3261 19.1.4 (which is not transitive, hence no `Eq`).
impl PartialEq for Uri<'_> {
    fn eq(&self, _other: &Self) -> bool {
        unimplemented!()
    }
}

impl fmt::Display for Uri<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}
