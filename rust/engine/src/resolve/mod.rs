//! Where a request goes (RFC 3263): IP addresses at once, names by a thread of their own that asks the DNS.
//!
//! `target` reads what was written, `lookup` is the procedure of the RFC, `answer` draws the order of the servers for
//! each use, `cache` remembers on the SIP thread what was found, and `dns` is the thread: the only place that knows
//! the DNS library and its runtime. A call to an IP address touches none of this but `target`.

mod answer;
mod cache;
mod dns;
mod lookup;
mod target;

pub(crate) use answer::{Answer, Candidate};
pub(crate) use cache::{Asker, Found, Resolver};
pub(crate) use dns::parse_servers;
pub(crate) use target::{Question, Target};

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// How long a dialled leg waits for its next hop's address.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_route_tells_our_address() {
        let remote = "127.0.0.5:5060".parse().unwrap();
        assert_eq!(source_towards(remote).unwrap(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
}
