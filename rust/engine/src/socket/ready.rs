//! What descriptors are watched for, and what was found there.

use std::net::{IpAddr, SocketAddr};

const INPUT: u32 = libc::EPOLLIN as u32;
const ROOM: u32 = libc::EPOLLOUT as u32;
const ERROR: u32 = libc::EPOLLERR as u32;
/// The peer has closed its side, or the whole of it: a read tells.
const END: u32 = (libc::EPOLLHUP | libc::EPOLLERR) as u32;

/// What a descriptor is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched {
    /// Nothing, for a while.
    Nothing,
    /// Input.
    Input,
    /// Input, and room for output.
    Both,
}

impl Watched {
    pub(super) fn bits(self) -> u32 {
        match self {
            Self::Nothing => 0,
            Self::Input => INPUT,
            Self::Both => INPUT | ROOM,
        }
    }
}

/// One ready descriptor.
#[derive(Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) token: u64,
    /// An error waits, for a UDP socket on its error queue.
    pub(crate) error: bool,
    /// Something can be read, be it the end.
    pub(crate) readable: bool,
    /// Something can be written.
    pub(crate) writable: bool,
}

impl Ready {
    pub(super) fn new(token: u64, bits: u32) -> Self {
        let any = |wanted: u32| bits & wanted != 0;
        Self { token, error: any(ERROR), readable: any(INPUT | END), writable: any(ROOM) }
    }
}

/// One received datagram.
pub(crate) struct Packet<'a> {
    pub(crate) from: SocketAddr,
    /// The local address it was sent to, where the socket is bound to the wildcard.
    pub(crate) to: Option<IpAddr>,
    pub(crate) payload: &'a mut [u8],
    /// It was longer than the buffer.
    pub(crate) truncated: bool,
}

/// One ICMP error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Undelivered<'a> {
    pub(crate) remote: SocketAddr,
    /// The start of the datagram it is about; empty if it quotes none of that.
    pub(crate) quote: &'a [u8],
    /// Host, network, port or protocol cannot be reached, which is a failure; the rest is ignored (RFC 3261 18.4).
    pub(crate) unreachable: bool,
}
