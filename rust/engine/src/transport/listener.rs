//! Sockets that wait for peers to connect.

use super::prepare;
use crate::socket::{Watch, Watched};
use socket2::{Domain, Protocol, SockAddr, SockRef, Type};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Instant;
use telephony_sip::{Flow, Transport};

/// Connections that the kernel may hold for us.
const BACKLOG: i32 = 1024;

/// One listening socket.
pub(crate) struct Listener {
    socket: TcpListener,
    pub(super) transport: Transport,
    local: SocketAddr,
    /// Until when it is left alone, for want of descriptors.
    pub(super) resting: Option<Instant>,
}

/// Listens for streams. An address in TIME_WAIT is no hindrance; another listener is.
pub(crate) fn listen(transport: Transport, address: SocketAddr) -> io::Result<Listener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    let local = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok(Listener { socket: socket.into(), transport, local, resting: None })
}

impl Listener {
    /// The bound address.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// What it listens for.
    pub(crate) fn transport(&self) -> Transport {
        self.transport
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// The next connection; an error if the process cannot take it, and the kernel keeps it.
    pub(super) fn accept(&self) -> io::Result<Option<(TcpStream, Flow)>> {
        match self.socket.accept() {
            Ok((socket, remote)) => Ok(self.flow(&socket, remote).map(|flow| (socket, flow))),
            Err(error) => match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Err(error),
                // None is there, or it went away again.
                _ => Ok(None),
            },
        }
    }

    /// The way a connection came, IPv4 spelt as such; `None` if it is gone already.
    fn flow(&self, socket: &TcpStream, remote: SocketAddr) -> Option<Flow> {
        socket.set_nonblocking(true).ok()?;
        prepare(&SockRef::from(socket)).ok()?;
        let local = canonical(socket.local_addr().ok()?);
        let transport = self.transport;
        Some(Flow { transport, local, remote: canonical(remote), connection: None, identity: None })
    }

    /// Leaves the kernel's queue alone for a while: it would report itself without end.
    pub(super) fn rest(&mut self, watch: &Watch, token: u64, until: Instant) {
        if watch.watch(self.fd(), token, Watched::Nothing, false).is_ok() {
            self.resting = Some(until);
        }
    }

    pub(super) fn wake(&mut self, watch: &Watch, now: Instant, token: u64) {
        if self.resting.is_some_and(|until| until <= now) {
            let watched = watch.watch(self.fd(), token, Watched::Input, false);
            self.resting = watched.is_err().then_some(now + super::REST);
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
