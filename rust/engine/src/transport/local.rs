//! Our own addresses: where peers reach us, and from which of them a message leaves.

use crate::resolve::{Families, source_towards};
use crate::socket::Socket;
use std::net::{IpAddr, SocketAddr};
use telephony_sip::{Flow, Transport};

/// One of our addresses.
pub(crate) struct Address {
    /// UDP; TCP has the same port.
    pub(crate) socket: Socket,
    /// The port of TLS, if that is listened for.
    pub(crate) tls_port: Option<u16>,
}

/// All of them; the first is the one of old.
pub(crate) struct Addresses(Vec<Address>);

impl Addresses {
    pub(crate) fn new(all: Vec<Address>) -> Self {
        Self(all)
    }

    pub(crate) fn sockets(&self) -> impl Iterator<Item = &Socket> {
        self.0.iter().map(|address| &address.socket)
    }

    pub(crate) fn socket(&self, index: usize) -> Option<&Socket> {
        self.0.get(index).map(|address| &address.socket)
    }

    /// Which families of addresses they can send to.
    pub(crate) fn families(&self) -> Families {
        let each = self.sockets().map(|socket| Families::of(socket.local()));
        let none = Families { v4: false, v6: false };
        each.fold(none, |all, one| Families { v4: all.v4 || one.v4, v6: all.v6 || one.v6 })
    }

    /// The socket that datagrams of this local address leave by. There is mostly one.
    pub(crate) fn index_of(&self, local: SocketAddr) -> usize {
        if self.0.len() == 1 {
            return 0;
        }
        let exact = self.sockets().position(|socket| socket.local() == local);
        exact.or_else(|| self.position(local.ip())).unwrap_or(0)
    }

    fn position(&self, ip: IpAddr) -> Option<usize> {
        let exact = self.sockets().position(|socket| socket.local().ip() == ip);
        let wildcard =
            |socket: &Socket| socket.local().ip().is_unspecified() && Families::of(socket.local()).speak(ip);
        exact.or_else(|| self.sockets().position(wildcard))
    }

    /// The address that a socket for `local` is bound to: what media of the same leg is to be bound to as well.
    pub(crate) fn bound(&self, local: IpAddr) -> IpAddr {
        let bound =
            self.position(local).and_then(|index| self.socket(index)).map(|socket| socket.local().ip());
        bound.unwrap_or(local)
    }

    /// The flow to a next hop: our side is the address that packets to it will leave from, or the one wished for.
    pub(crate) fn flow_to(
        &self,
        transport: Transport,
        remote: SocketAddr,
        wish: Option<IpAddr>,
    ) -> Result<Flow, String> {
        let unreachable = || {
            let ours: Vec<String> = self.sockets().map(|socket| socket.local().to_string()).collect();
            format!("{remote} cannot be reached from our SIP socket at {}", ours.join(", "))
        };
        if !self.families().speak(remote.ip()) || remote.port() == 0 {
            return Err(unreachable());
        }
        let (address, ip) = match wish {
            Some(ip) => {
                let address = self.position(ip).and_then(|index| self.0.get(index));
                (address.ok_or_else(|| format!("SIP_HOST does not have {ip}"))?, ip)
            }
            None => self.leaving(remote)?.ok_or_else(unreachable)?,
        };
        let port = match transport {
            Transport::Tls => address.tls_port.unwrap_or(address.socket.local().port()),
            _ => address.socket.local().port(),
        };
        Ok(Flow { transport, local: SocketAddr::new(ip, port), remote, connection: None, identity: None })
    }

    /// The address that the routing table would have packets leave from, if it is ours; else one of the family.
    fn leaving(&self, remote: SocketAddr) -> Result<Option<(&Address, IpAddr)>, String> {
        let speaks = |address: &&Address| Families::of(address.socket.local()).speak(remote.ip());
        let mut able = self.0.iter().filter(speaks);
        let Some(first) = able.next() else { return Ok(None) };
        let bound = first.socket.local().ip();
        if able.next().is_none() && !bound.is_unspecified() {
            return Ok(Some((first, bound)));
        }
        let source = source_towards(remote).map_err(|error| format!("no route to {remote}: {error}"))?;
        let index = self.position(source);
        let ours = index.and_then(|index| self.0.get(index)).map(|address| (address, source));
        Ok(Some(ours.unwrap_or((first, bound))))
    }
}
