//! Requests too large for a datagram (RFC 3261 18.1.1): they go over TCP, and over UDP after all where nobody listens.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use memchr::memmem;

use crate::{Flow, Transport};

/// How long a peer without TCP is not tried again, and how many are remembered.
const REMEMBERED: Duration = Duration::from_secs(300);
const PEERS: usize = 256;

/// A request as it was before it was switched to TCP.
#[derive(Debug)]
pub(crate) struct Datagram {
    /// `None` once it is not to be sent any more.
    pub(crate) bytes: Option<Bytes>,
    pub(crate) flow: Flow,
}

/// Which requests are switched.
#[derive(Debug)]
pub(crate) struct Switch {
    largest: usize,
    /// Peers that did not listen, the longest ago first.
    deaf: VecDeque<(Instant, SocketAddr)>,
}

impl Switch {
    /// Requests of more bytes than `largest` are switched.
    pub(crate) fn new(largest: usize) -> Self {
        Self { largest, deaf: VecDeque::new() }
    }

    /// Switches a request if it has to be. Its branch stays: over UDP it has not left.
    #[inline]
    pub(crate) fn apply(
        &mut self,
        now: Instant,
        bytes: &mut Bytes,
        flow: &mut Flow,
    ) -> Option<Box<Datagram>> {
        if bytes.len() <= self.largest || flow.transport != Transport::Udp {
            return None;
        }
        self.switch(now, bytes, flow)
    }

    #[cold]
    fn switch(&mut self, now: Instant, bytes: &mut Bytes, flow: &mut Flow) -> Option<Box<Datagram>> {
        while self.deaf.front().is_some_and(|(until, _)| *until <= now) {
            self.deaf.pop_front();
        }
        if self.deaf.iter().any(|(_, peer)| *peer == flow.remote) {
            return None;
        }
        let (udp, tcp) = (Transport::Udp.via_start().as_bytes(), Transport::Tcp.via_start().as_bytes());
        let place = memmem::find(bytes, udp)?;
        let mut switched = bytes.to_vec();
        switched.get_mut(place..place.checked_add(tcp.len())?)?.copy_from_slice(tcp);
        let before = Datagram { bytes: Some(std::mem::replace(bytes, switched.into())), flow: *flow };
        flow.transport = Transport::Tcp;
        Some(Box::new(before))
    }

    /// A peer did not take TCP.
    pub(crate) fn deaf(&mut self, now: Instant, peer: SocketAddr) {
        if self.deaf.len() >= PEERS {
            self.deaf.pop_front();
        }
        self.deaf.push_back((now + REMEMBERED, peer));
    }
}
