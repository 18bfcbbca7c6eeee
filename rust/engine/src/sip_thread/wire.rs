//! Between the endpoint and the wire: what streams bring, what leaves, and what does not get through.

use super::SipThread;
use crate::guard::guard;
use crate::shield::Verdict;
use crate::socket::{Outgoing, Ready, Socket};
use crate::transport::{Heard, What};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use telephony_sip::{Flow, Profile, Transmit, Transport};

impl SipThread {
    /// A listener or stream is ready: whole messages go to the endpoint.
    pub(super) fn receive_stream(&mut self, ready: Ready) {
        self.streams.ready(&self.watch, Instant::now(), ready);
        while let Some(Heard { flow, what }) = self.streams.poll_message() {
            let now = Instant::now();
            self.last_datagram = now;
            match self.shield.admit(now, flow.remote.ip(), &self.trunks) {
                Verdict::Take(profile) => self.on_heard(now, flow, what, &profile),
                Verdict::Drop { first } => self.dropped(flow.remote, first),
            }
        }
        self.drain();
        self.watch_load();
    }

    fn on_heard(&mut self, now: Instant, flow: Flow, what: What, profile: &Arc<Profile>) {
        match what {
            What::Message(bytes) => self.handle_message(now, flow, bytes, profile),
            What::Unframed(head, fault) => {
                let endpoint = &mut self.endpoint;
                guard(&self.stats.losses, || endpoint.handle_unframed(head, flow, profile, fault));
            }
            What::Ping => self.streams.pong(&self.watch, now, flow),
        }
    }

    /// ICMP says that a peer cannot be reached (RFC 3261 18.4).
    pub(super) fn receive_errors(&mut self, index: usize) {
        while let Some((remote, unreachable)) = self.addresses.socket(index).and_then(Socket::next_error) {
            if unreachable {
                self.transport_error(remote);
            }
        }
    }

    fn transport_error(&mut self, remote: SocketAddr) {
        // The transactions to that peer are meant, whichever of our addresses they leave from.
        self.flow_failed(
            Flow::udp(remote, remote),
            &format!("no way to {remote}: the network refuses what is sent there"),
        );
    }

    fn flow_failed(&mut self, flow: Flow, why: &str) {
        let endpoint = &mut self.endpoint;
        guard(&self.stats.losses, || {
            endpoint.handle_broken_flow(Instant::now(), flow, why);
            if let Some(connection) = flow.connection {
                endpoint.handle_closed(Instant::now(), connection);
            }
        });
    }

    /// Sends what the endpoint wrote; whether it was anything.
    pub(super) fn transmit(&mut self) -> bool {
        let mut outgoing = std::mem::take(&mut self.outgoing);
        let (mut any, mut began) = (false, None);
        while let Some(transmit) = self.endpoint.poll_transmit() {
            any = true;
            let now = *began.get_or_insert_with(Instant::now);
            self.ladder.note(now, true, transmit.flow, &transmit.payload);
            match transmit.flow.transport {
                Transport::Udp => outgoing.push(transmit),
                _ => self.streams.send(&self.watch, now, transmit.flow, transmit.payload),
            }
        }
        if !outgoing.is_empty() {
            self.send_datagrams(&outgoing);
        }
        while let Some(broken) = self.streams.poll_failure() {
            any = true;
            self.flow_failed(broken.flow, &broken.why);
        }
        if any {
            self.last_datagram = began.unwrap_or_else(Instant::now);
        }
        outgoing.clear();
        self.outgoing = outgoing;
        any
    }

    fn send_datagrams(&mut self, outgoing: &[Transmit]) {
        let mut failed = Vec::new();
        let several = self.addresses.sockets().nth(1).is_some();
        for (index, socket) in self.addresses.sockets().enumerate() {
            let own =
                |transmit: &&Transmit| !several || self.addresses.index_of(transmit.flow.local) == index;
            let items = outgoing.iter().filter(own).map(|transmit| Outgoing {
                to: transmit.flow.remote,
                from: Some(transmit.flow.local.ip()),
                payload: &transmit.payload,
            });
            socket.send(&mut self.send, items, |to, error| {
                // A full buffer is a lost datagram, which retransmission makes good; anything else will not get
                // better.
                if error.kind() != io::ErrorKind::WouldBlock {
                    failed.push(to);
                }
            });
        }
        self.stats.losses.unsent.add(failed.len() as u64);
        failed.into_iter().for_each(|remote| self.transport_error(remote));
    }
}
