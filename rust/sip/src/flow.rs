//! Where messages come from and go to.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::{Scheme, Uri};

/// How messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// Datagrams: the transactions retransmit.
    Udp,
    /// A stream (RFC 3261 18.3).
    Tcp,
    /// A stream under TLS (RFC 3261 26.2.1).
    Tls,
}

impl Transport {
    /// Whether the transport itself delivers or reports: timers A, E and G then rest (RFC 3261 17).
    pub(crate) fn is_reliable(self) -> bool {
        self != Self::Udp
    }

    /// The transport that a `transport` parameter names, of those there are (RFC 3261 19.1.1).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let known = [("udp", Self::Udp), ("tcp", Self::Tcp), ("tls", Self::Tls)];
        known.into_iter().find(|(word, _)| word.eq_ignore_ascii_case(name)).map(|(_, transport)| transport)
    }

    /// As a URI parameter spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    /// The port of a URI that names none (RFC 3261 19.1.2).
    #[must_use]
    pub fn default_port(self) -> u16 {
        if self == Self::Tls { 5061 } else { 5060 }
    }

    /// What a Contact says behind `host:port` for requests to come back this way (RFC 3261 19.1.1).
    #[must_use]
    pub fn uri_parameter(self) -> &'static str {
        match self {
            Self::Udp => "",
            Self::Tcp => ";transport=tcp",
            Self::Tls => ";transport=tls",
        }
    }

    /// The sent-protocol of a Via and the space behind it (RFC 3261 20.42).
    pub(crate) fn via_start(self) -> &'static str {
        match self {
            Self::Udp => "SIP/2.0/UDP ",
            Self::Tcp => "SIP/2.0/TCP ",
            Self::Tls => "SIP/2.0/TLS ",
        }
    }
}

/// One stream connection, as its owner numbers them. Never used twice. Opaque here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Connection(pub u64);

/// The name that a TLS peer has to prove (RFC 5922 4), as its owner numbers them. Opaque here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(pub u32);

/// One way between here and a peer: transport, our address, its address, and the stream if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// How.
    pub transport: Transport,
    /// The local address a message arrived at or leaves from.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
    /// The stream; `None` over UDP, and over TCP and TLS when any stream to that peer will do.
    pub connection: Option<Connection>,
    /// Whom a TLS peer must prove to be; `None` where a stream is accepted, or where no certificate is asked for.
    pub identity: Option<Identity>,
}

impl Flow {
    /// The way of datagrams between two addresses.
    #[must_use]
    pub fn udp(local: SocketAddr, remote: SocketAddr) -> Self {
        Self { transport: Transport::Udp, local, remote, connection: None, identity: None }
    }

    /// The flow for a request to `next_hop`, the first route or the remote target of a dialog that was set up over
    /// `self` (RFC 3261 12.2.1.1, 8.1.2). An IP address is followed; a name is not resolved here and stays on the
    /// flow that carried the dialog so far. So does a private address announced from a public one: it lies behind
    /// a NAT, and only the flow's own binding leads there. A stream to the same machine is kept while it lives,
    /// whatever port its far end has; the address told is for when it is gone. A hop that [has to be found](Self::asks)
    /// is nowhere yet: its port is for another transport.
    pub(crate) fn towards(self, next_hop: &Uri<'_>) -> Self {
        let Some(ip) = next_hop.host().and_then(|host| host.ip()) else { return self };
        if !self.follows(ip) || self.asks(next_hop) {
            return self;
        }
        let transport = self.transport_towards(named(next_hop), ip);
        let remote = SocketAddr::new(ip, next_hop.port().unwrap_or(transport.default_port()));
        if (remote, transport) == (self.remote, self.transport) {
            return self;
        }
        let same = ip == self.remote.ip() && transport == self.transport;
        Self { transport, remote, connection: self.connection.filter(|_| same), ..self }
    }

    /// The same in a dialog that keeps its flow (RFC 5626 5.3): should its stream be gone, nobody listens at the far port
    /// it had, but perhaps at the one that the same machine told.
    pub(crate) fn kept(self, next_hop: &Uri<'_>) -> Self {
        let towards = self.towards(next_hop);
        if self.connection.is_some() && towards.connection == self.connection { towards } else { self }
    }

    /// Whether the way to `next_hop` cannot be told here: it is a name (RFC 3263 4), or TLS is wanted where something
    /// else was spoken so far, which leaves from another port of ours and to whom a certificate names.
    pub(crate) fn asks(self, next_hop: &Uri<'_>) -> bool {
        let is_name = next_hop.host().is_some_and(|host| host.ip().is_none());
        is_name || (named(next_hop) == Some(Transport::Tls) && self.transport != Transport::Tls)
    }

    /// As the URI says; else as the dialog came, from the same machine or under TLS, which is not given up in
    /// silence; else UDP (RFC 3263 4.1). UDP and TCP share our port.
    fn transport_towards(self, named: Option<Transport>, ip: IpAddr) -> Transport {
        match (self.transport, named) {
            (Transport::Tls, _) => Transport::Tls,
            (_, Some(named)) => named,
            (own, None) if ip == self.remote.ip() => own,
            (_, None) => Transport::Udp,
        }
    }

    /// Whether a failure on `broken` concerns what is sent this way: all that goes to the same peer if it cannot be
    /// reached at all, and what went by that very stream if only that broke. What has not left yet went by none.
    pub(crate) fn is_hit_by(self, broken: Self) -> bool {
        let same_peer = self.remote == broken.remote
            && self.transport == broken.transport
            && self.identity == broken.identity;
        match broken.connection {
            Some(_) => self.connection == broken.connection,
            None => same_peer,
        }
    }

    fn follows(self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.local.is_ipv4()
            && !ip.is_unspecified()
            && (is_global(ip) || !is_global(self.remote.ip()))
    }

    /// The flow for requests to a hop that leads to these places, best first: the peer itself if it is among them, or
    /// else the first that an address written in its place would be followed to. As there, a stream to the same machine
    /// is kept while it lives, and the place is for when it is gone. TLS is not given up, and taken where it is wanted.
    pub(crate) fn among(self, next_hop: &Uri<'_>, places: &[Self]) -> Self {
        let (named, is_tls) = (named(next_hop), |flow: Self| flow.transport == Transport::Tls);
        let is_peer = |place: &&Self| match self.connection {
            Some(_) => {
                let ip = place.remote.ip();
                let same = ip == self.remote.ip() && is_tls(**place) == is_tls(self);
                same && self.transport_towards(named, ip) == self.transport
            }
            None => place.remote == self.remote && place.transport == self.transport,
        };
        let peers = places.iter().filter(is_peer);
        if let Some(peer) = peers.min_by_key(|place| place.transport != self.transport) {
            return Self { remote: peer.remote, identity: peer.identity.or(self.identity), ..self };
        }
        let wanted = is_tls(self) || named == Some(Transport::Tls);
        let fits = |place: &&Self| self.follows(place.remote.ip()) && is_tls(**place) == wanted;
        let Some(place) = places.iter().find(fits) else { return self };
        let local = if is_tls(self) == wanted { self.local } else { place.local };
        Self { local, ..*place }
    }
}

/// The transport that a URI names (RFC 3261 19.1.1); `sips:` is for TLS whatever it names (26.2.2).
fn named(uri: &Uri<'_>) -> Option<Transport> {
    match uri.scheme() {
        Scheme::Sips => Some(Transport::Tls),
        _ => uri.params().value("transport").and_then(Transport::parse),
    }
}

/// Whether an address can be reached from anywhere: neither loopback nor link-local nor private (RFC 1918, RFC 6598,
/// RFC 4193).
fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            !(v4.is_loopback() || v4.is_private() || v4.is_link_local() || shared)
        }
        IpAddr::V6(v6) => {
            let [first, ..] = v6.segments();
            !(v6.is_loopback() || first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80)
        }
    }
}

/// A message on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Which way.
    pub flow: Flow,
    /// One whole message.
    pub payload: Bytes,
}
