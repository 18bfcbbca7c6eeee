//! Where a request goes: addresses at once, names by a thread that may wait for the system's resolver.

use crate::error::Code;
use crate::message::ToSip;
use crate::queue::Mailbox;
use crate::{EngineError, LegId};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use telephony_sip::{Host, Scheme, Uri};

/// How long a dialled leg waits for its next hop's address.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);
/// Names that may wait to be looked up.
const QUEUE: usize = 256;
/// The port of SIP over UDP (RFC 3261 19.1.2).
const SIP_PORT: u16 = 5060;

/// A next hop as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Address(SocketAddr),
    Name(String, u16),
}

impl Target {
    /// Reads a `sip:` URI or `host[:port]`.
    pub(crate) fn parse(text: &str) -> Result<Self, EngineError> {
        let fault = |why: &str| EngineError::new(Code::Invalid, format!("cannot send to {text:?}: {why}"));
        if text.contains('@') || text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("sip:")) {
            return Self::of_uri(text).map_err(fault);
        }
        Self::of_uri(&format!("sip:{text}")).map_err(|_| fault("neither a sip: URI nor host:port"))
    }

    /// The host and port of a URI; `maddr` stands before the host (RFC 3261 19.1.1).
    fn of_uri(text: &str) -> Result<Self, &'static str> {
        let uri = Uri::parse(text).map_err(|error| error.what())?;
        if uri.scheme() != Scheme::Sip {
            return Err("only sip: URIs can be called so far");
        }
        if uri.params().value("transport").is_some_and(|transport| !transport.eq_ignore_ascii_case("udp")) {
            return Err("only the transport UDP is there so far");
        }
        let host = match uri.params().value("maddr") {
            Some(maddr) => Host::parse(maddr).map_err(|error| error.what())?,
            None => uri.host().ok_or("it names no host")?,
        };
        let port = uri.port().unwrap_or(SIP_PORT);
        Ok(match host.ip() {
            Some(ip) => Self::Address(SocketAddr::new(ip, port)),
            None => Self::Name(host.to_string(), port),
        })
    }
}

/// Which addresses our SIP socket can send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Families {
    pub(crate) v4: bool,
    pub(crate) v6: bool,
}

impl Families {
    /// Those of a socket bound to `local`: the IPv6 wildcard speaks both.
    pub(crate) fn of(local: SocketAddr) -> Self {
        Self { v4: local.is_ipv4() || local.ip().is_unspecified(), v6: local.is_ipv6() }
    }

    pub(crate) fn speak(self, ip: IpAddr) -> bool {
        if ip.is_ipv4() { self.v4 } else { self.v6 }
    }
}

/// The source address that the routing table gives to packets for `remote`.
pub(crate) fn source_towards(remote: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match remote.is_ipv4() {
        true => Ipv4Addr::UNSPECIFIED.into(),
        false => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(remote)?;
    Ok(socket.local_addr()?.ip())
}

struct Query {
    leg: LegId,
    host: String,
    port: u16,
    until: Instant,
}

/// The thread that looks names up.
pub(crate) struct Resolver {
    queries: SyncSender<Query>,
}

impl Resolver {
    /// Starts the thread; it ends when the resolver is dropped and the lookup under way returns.
    pub(crate) fn start(sip: Arc<Mailbox<ToSip>>, families: Families) -> io::Result<(Self, JoinHandle<()>)> {
        let (queries, waiting) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("resolver".into());
        let thread = thread.spawn(move || serve(&waiting, &sip, families))?;
        Ok((Self { queries }, thread))
    }

    /// Asks for an address; the answer comes as [`ToSip::Resolved`]. `false` if too many names wait already.
    pub(crate) fn ask(&self, now: Instant, leg: LegId, host: String, port: u16) -> bool {
        self.queries.try_send(Query { leg, host, port, until: now + DEADLINE }).is_ok()
    }
}

fn serve(waiting: &Receiver<Query>, sip: &Mailbox<ToSip>, families: Families) {
    while let Ok(query) = waiting.recv() {
        // The SIP thread has given up on a query past its deadline; looking it up would only delay the others.
        if Instant::now() >= query.until {
            continue;
        }
        let mut answer = ToSip::Resolved { leg: query.leg, result: look_up(&query, families) };
        while let Err(back) = sip.send(answer) {
            if Instant::now() >= query.until {
                break;
            }
            answer = back;
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn look_up(query: &Query, families: Families) -> Result<SocketAddr, String> {
    let host = &query.host;
    match (host.as_str(), query.port).to_socket_addrs() {
        Err(error) => Err(format!("cannot find the address of {host}: {error}")),
        Ok(mut found) => found
            .find(|address| families.speak(address.ip()))
            .ok_or_else(|| format!("{host} has no address that our SIP socket can send to")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Target {
        Target::Address(text.parse().unwrap())
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
            ("sip.example.com", Target::Name("sip.example.com".into(), 5060)),
            ("sip:bob@sip.example.com:5080", Target::Name("sip.example.com".into(), 5080)),
        ] {
            assert_eq!(Target::parse(text).unwrap(), target, "{text}");
        }
    }

    #[test]
    fn what_we_cannot_send_to_is_refused() {
        for text in
            ["", "sip:", "sip:bob@host;transport=tcp", "sips:bob@host", "tel:+1", "ho st", "host:99999"]
        {
            assert_eq!(Target::parse(text).unwrap_err().code, Code::Invalid, "{text}");
        }
    }

    #[test]
    fn the_route_tells_our_address() {
        let remote = "127.0.0.5:5060".parse().unwrap();
        assert_eq!(source_towards(remote).unwrap(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    }

    #[test]
    fn names_are_looked_up_beside_the_sip_thread() {
        let mailbox = Arc::new(Mailbox::new(4).unwrap());
        let families = Families::of("127.0.0.1:0".parse().unwrap());
        let (resolver, thread) = Resolver::start(Arc::clone(&mailbox), families).unwrap();
        assert!(resolver.ask(Instant::now(), LegId::from_raw(256), "localhost".into(), 5070));
        assert!(resolver.ask(Instant::now(), LegId::from_raw(512), "no-such-host.invalid".into(), 5070));
        drop(resolver);
        thread.join().unwrap();
        let Some(ToSip::Resolved { result: Ok(found), .. }) = mailbox.take() else { panic!() };
        assert_eq!(found, "127.0.0.1:5070".parse().unwrap());
        let Some(ToSip::Resolved { result: Err(reason), .. }) = mailbox.take() else { panic!() };
        assert!(reason.contains("no-such-host.invalid"));
    }
}
