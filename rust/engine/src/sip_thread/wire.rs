//! Between the endpoint and the wire: what streams bring, what leaves, and what does not get through.

use super::SipThread;
use crate::guard::guard;
use crate::shield::Verdict;
use crate::socket::{Outgoing, Ready};
use crate::transport::{Heard, What};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use telephony_sip::{Flow, Profile, Transmit, Transport};

/// Bytes of a datagram that ICMP may quote: what fits the smallest packet that every IPv6 link takes.
const QUOTE: usize = 1280;

impl SipThread {
    /// A listener or stream is ready: whole messages go to the endpoint.
    pub(super) fn receive_stream(&mut self, ready: Ready) {
        let (now, shield, trunks) = (Instant::now(), &mut self.shield, &self.trunks);
        self.streams.ready(&self.watch, now, ready, |from| shield.greet(now, from, trunks));
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
        let mut quote = [0; QUOTE];
        while let Some(error) = self.addresses.socket(index).and_then(|socket| socket.next_error(&mut quote))
        {
            if error.unreachable {
                self.undelivered(error.remote, error.quote);
            }
        }
    }

    fn undelivered(&mut self, remote: SocketAddr, start: &[u8]) {
        let why = format!("no way to {remote}: the network refuses what is sent there");
        let endpoint = &mut self.endpoint;
        guard(&self.stats.losses, || endpoint.handle_undelivered(Instant::now(), start, &why));
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
                _ => self.send_by_stream(now, transmit),
            }
        }
        if !outgoing.is_empty() {
            self.send_datagrams(&outgoing);
        }
        // Behind what was sent: that went by streams which live.
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

    fn send_by_stream(&mut self, now: Instant, Transmit { flow, payload }: Transmit) {
        if let Some((connection, reused)) = self.streams.send(&self.watch, now, flow, payload.clone()) {
            self.endpoint.handle_sent(&payload, connection, reused);
        }
    }

    fn send_datagrams(&mut self, outgoing: &[Transmit]) {
        let mut refused = Vec::new();
        let several = self.addresses.sockets().nth(1).is_some();
        for (index, socket) in self.addresses.sockets().enumerate() {
            let own =
                |transmit: &&Transmit| !several || self.addresses.index_of(transmit.flow.local) == index;
            let items = outgoing.iter().filter(own).map(|transmit| Outgoing {
                to: transmit.flow.remote,
                from: Some(transmit.flow.local.ip()),
                payload: &transmit.payload,
            });
            let losses = &self.stats.losses;
            socket.send(&mut self.send, items, |position, error| {
                losses.unsent.add(1);
                if !is_loss(error) {
                    refused.extend(outgoing.iter().filter(own).nth(position));
                }
            });
        }
        for transmit in refused {
            self.undelivered(transmit.flow.remote, &transmit.payload);
        }
    }
}

/// Whether a datagram was lost on this machine as it might be on any other, which its retransmission makes good: a
/// buffer or queue was full, a table of connections (EPERM), or ICMP had something to say of an earlier one. Anything
/// else will not get better.
fn is_loss(error: &io::Error) -> bool {
    let lost = [libc::EAGAIN, libc::ENOBUFS, libc::ENOMEM, libc::EPERM, libc::ECONNREFUSED];
    error.raw_os_error().is_some_and(|number| lost.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_here_is_sent_again_and_what_has_no_way_is_not() {
        let lost = |number| is_loss(&io::Error::from_raw_os_error(number));
        assert!([libc::EAGAIN, libc::ENOBUFS, libc::ENOMEM, libc::EPERM].into_iter().all(lost));
        assert!(![libc::ENETUNREACH, libc::EMSGSIZE, libc::EINVAL].into_iter().any(lost));
    }
}
