//! A next hop as written: what of it is known, and what the DNS has to say.

use super::answer::Candidate;
use crate::EngineError;
use crate::error::Code;
use std::net::SocketAddr;
use std::sync::Arc;
use telephony_sip::{Host, Scheme, Transport, Uri};

/// The transports that our sockets speak, best first.
pub(crate) const SPOKEN: &[Transport] = &[Transport::Udp, Transport::Tcp, Transport::Tls];

/// A next hop as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// An address: nothing to ask.
    Address(Candidate),
    /// A name.
    Name(Question),
}

/// What the DNS is asked for (RFC 3263 4).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    /// In lower case.
    pub(crate) host: Arc<str>,
    pub(crate) port: Option<u16>,
    /// The transport that the URI names.
    pub(crate) transport: Option<Transport>,
    /// A `sips:` URI: TLS or nothing.
    pub(crate) secure: bool,
}

impl Target {
    /// Reads a `sip:` or `sips:` URI, or `host[:port]`.
    pub(crate) fn parse(text: &str) -> Result<Self, EngineError> {
        Self::parse_for(text, None)
    }

    /// The same, by a transport that is wished for where the text names none.
    pub(crate) fn parse_for(text: &str, wish: Option<Transport>) -> Result<Self, EngineError> {
        let fault = |why: &str| EngineError::new(Code::Invalid, format!("cannot send to {text:?}: {why}"));
        if text.contains('@') || has_scheme(text, "sip:") || has_scheme(text, "sips:") {
            return Self::of_uri(text, wish).map_err(fault);
        }
        Self::of_uri(&format!("sip:{text}"), wish).map_err(|_| fault("neither a sip: URI nor host:port"))
    }

    /// The same for a request to a `sips:` URI: TLS or nothing, whatever the hop before it says (RFC 5630 3.1.3).
    pub(crate) fn secured(self) -> Result<Self, EngineError> {
        let named = match &self {
            Self::Address(candidate) => Some(candidate.transport),
            Self::Name(question) => question.transport,
        };
        if named.is_some_and(|transport| transport != Transport::Tls) {
            return Err(EngineError::new(
                Code::Invalid,
                "a sips: URI is called by TLS only, and its next hop is not",
            ));
        }
        Ok(match self {
            Self::Name(question) => Self::Name(Question { secure: true, ..question }),
            address => address,
        })
    }

    /// The host and port of a URI; `maddr` stands before the host (RFC 3261 19.1.1).
    fn of_uri(text: &str, wish: Option<Transport>) -> Result<Self, &'static str> {
        let uri = Uri::parse(text).map_err(|error| error.what())?;
        Self::read(&uri, wish)
    }

    fn read(uri: &Uri<'_>, wish: Option<Transport>) -> Result<Self, &'static str> {
        let secure = match uri.scheme() {
            Scheme::Sip => false,
            Scheme::Sips => true,
            _ => return Err("only sip: and sips: URIs can be called"),
        };
        let transport = match uri.params().value("transport") {
            Some(name) => Some(transport(name, secure)?),
            None => wish.filter(|wish| !secure || *wish == Transport::Tls),
        };
        let host = match uri.params().value("maddr") {
            Some(maddr) => Host::parse(maddr).map_err(|error| error.what())?,
            None => uri.host().ok_or("it names no host")?,
        };
        // 4.1: without a transport in the URI a numeric host or a port decides for UDP, or TLS in a sips: URI.
        let decided = transport.unwrap_or(if secure { Transport::Tls } else { Transport::Udp });
        let settled = transport.is_some() || secure || host.ip().is_some() || uri.port().is_some();
        if settled && !SPOKEN.contains(&decided) {
            return Err("our sockets do not speak its transport");
        }
        Ok(match host.ip() {
            Some(ip) => {
                let address = SocketAddr::new(ip, uri.port().unwrap_or(default_port(decided)));
                Self::Address(Candidate { transport: decided, address })
            }
            None => Self::Name(Question {
                host: host.to_string().to_ascii_lowercase().trim_end_matches('.').into(),
                port: uri.port(),
                transport,
                secure,
            }),
        })
    }
}

fn has_scheme(text: &str, scheme: &str) -> bool {
    text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

/// `transport=tls` is deprecated and everywhere (RFC 3261 26.2.2); in a `sips:` URI TCP means TLS over it.
fn transport(name: &str, secure: bool) -> Result<Transport, &'static str> {
    match name.to_ascii_lowercase().as_str() {
        "udp" if secure => Err("a sips: URI cannot be reached over UDP"),
        "udp" => Ok(Transport::Udp),
        "tcp" if !secure => Ok(Transport::Tcp),
        "tcp" | "tls" => Ok(Transport::Tls),
        _ => Err("no such transport here"),
    }
}

/// RFC 3261 19.1.2.
pub(crate) fn default_port(transport: Transport) -> u16 {
    if transport == Transport::Tls { 5061 } else { 5060 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Target {
        Target::Address(Candidate { transport: Transport::Udp, address: text.parse().unwrap() })
    }

    fn name(host: &str, port: Option<u16>, transport: Option<Transport>) -> Target {
        Target::Name(Question { host: host.into(), port, transport, secure: false })
    }

    #[test]
    fn targets_are_uris_or_hosts() {
        for (text, target) in [
            ("sip:bob@192.0.2.1", address("192.0.2.1:5060")),
            ("SIP:192.0.2.1:5070;lr", address("192.0.2.1:5070")),
            ("sip:bob@[2001:db8::1]:5070;transport=udp", address("[2001:db8::1]:5070")),
            ("sip:bob@example.com;maddr=192.0.2.9", address("192.0.2.9:5060")),
            ("192.0.2.1:5062", address("192.0.2.1:5062")),
            ("[2001:db8::1]", address("[2001:db8::1]:5060")),
            ("sip.Example.com", name("sip.example.com", None, None)),
            ("sip:bob@sip.example.com:5080", name("sip.example.com", Some(5080), None)),
            ("sip:bob@example.com;transport=UDP", name("example.com", None, Some(Transport::Udp))),
        ] {
            assert_eq!(Target::parse(text).unwrap(), target, "{text}");
        }
    }

    #[test]
    fn to_a_sips_uri_there_is_no_open_hop() {
        let secured = |hop| Target::parse(hop).and_then(Target::secured);
        for open in
            ["sip:192.0.2.1", "192.0.2.1:5061", "sip:a.example;transport=udp", "sip:a.example;transport=tcp"]
        {
            assert_eq!(secured(open).unwrap_err().code, Code::Invalid, "{open}");
        }
        for closed in
            ["sips:192.0.2.1", "sip:192.0.2.1;transport=tls", "sips:a.example", "sip:a.example;transport=tls"]
        {
            assert_eq!(
                secured(closed),
                Target::parse(closed).map(|mut target| {
                    if let Target::Name(question) = &mut target {
                        question.secure = true;
                    }
                    target
                }),
                "{closed}"
            );
        }
        let Ok(Target::Name(question)) = secured("sip:a.example") else { panic!("no name") };
        assert!(question.secure);
    }

    #[test]
    fn what_we_cannot_send_to_is_refused() {
        for text in [
            "",
            "sip:",
            "sips:bob@host;transport=udp",
            "sip:h;transport=sctp",
            "tel:+1",
            "ho st",
            "host:99999",
        ] {
            assert_eq!(Target::parse(text).unwrap_err().code, Code::Invalid, "{text}");
        }
    }
}
