//! The way of a datagram: to its leg, through its leg, across the bridge.

use super::{Component, LegId, Switch};
use crate::leg::{Kind, Received};
use crate::stats::DropReason;
use crate::{dtls, ice};
use std::net::SocketAddr;
use std::time::Instant;

impl Switch {
    /// A datagram arrived on one of a SIP leg's own ports.
    pub fn handle_rtp(
        &mut self,
        now: Instant,
        id: LegId,
        component: Component,
        from: SocketAddr,
        datagram: &mut [u8],
    ) {
        let found = self.table.slot(id).and_then(|slot| Some((slot, self.legs.get_mut(slot)?)));
        let Some((slot, leg)) = found else {
            self.out.totals.drops.count(DropReason::UnknownLeg);
            return;
        };
        if let Some(received) = leg.receive_plain(now, component, from, datagram, &mut self.out) {
            self.cross(now, slot, &received, datagram);
        }
    }

    /// A datagram arrived on the shared WebRTC socket, at local address `to`. RFC 7983 tells its protocol by the
    /// first byte; its leg is told by its source address, which only authenticated STUN can register.
    pub fn handle_webrtc(&mut self, now: Instant, to: SocketAddr, from: SocketAddr, datagram: &mut [u8]) {
        if ice::is_stun(datagram) {
            return self.handle_stun(now, to, from, datagram);
        }
        let Some(slot) = self.table.by_source(from) else {
            return self.out.totals.drops.count(DropReason::WebrtcUnknownSource);
        };
        let Some(leg) = self.legs.get_mut(slot) else { return };
        match datagram.first() {
            Some(128..=191) => {
                if let Some(received) = leg.receive_sealed(now, datagram, &mut self.out) {
                    self.cross(now, slot, &received, datagram);
                }
            }
            _ if dtls::is_dtls(datagram) => {
                let taken =
                    leg.transport.webrtc().is_some_and(|webrtc| webrtc.handle_dtls(now, to, from, datagram));
                if !taken {
                    leg.drop_packet(DropReason::DtlsInvalid, &mut self.out);
                }
                self.settle(now, slot);
            }
            _ => _ = leg.drop_packet(DropReason::WebrtcUnknownProtocol, &mut self.out),
        }
    }

    fn handle_stun(&mut self, now: Instant, to: SocketAddr, from: SocketAddr, datagram: &[u8]) {
        let named = ice::stun_username(datagram).and_then(|ufrag| self.table.by_ufrag(ufrag));
        let Some(slot) = named.or_else(|| self.table.by_source(from)) else {
            return self.out.totals.drops.count(DropReason::StunUnknownUser);
        };
        let Some(leg) = self.legs.get_mut(slot) else { return };
        let webrtc = leg.transport.webrtc();
        if webrtc.is_some_and(|webrtc| webrtc.handle_stun(now, to, from, datagram)) {
            self.table.learn(slot, from);
        } else {
            leg.drop_packet(DropReason::StunInvalid, &mut self.out);
        }
        self.settle(now, slot);
    }

    /// Hands a good packet to the bridged leg.
    fn cross(&mut self, now: Instant, slot: usize, received: &Received, datagram: &[u8]) {
        match received.kind {
            Kind::Audio => {}
            // A codec that cannot be joined leaves the other leg without a feed, and its packets are dropped there.
            Kind::Turn(_) => _ = self.feed(slot),
            Kind::Event(..) => {
                if let Some(leg) = self.legs.get_mut(slot) {
                    leg.note_digit(now, received, &mut self.out);
                }
                self.schedule(slot);
            }
        }
        let payload = datagram.get(received.payload.clone()).unwrap_or_default();
        let peer = self.legs.get(slot).and_then(|leg| leg.peer);
        let forwarded = match peer.and_then(|peer| self.legs.get_mut(peer)) {
            Some(peer) => peer.forward(now, received, payload, &mut self.out),
            None => Err(DropReason::RtpNotBridged),
        };
        if let (Err(reason), Some(leg)) = (forwarded, self.legs.get_mut(slot)) {
            leg.drop_packet(reason, &mut self.out);
        }
    }

    /// The leg's ICE agent may have a new name.
    pub(super) fn note_ufrag(&mut self, slot: usize) {
        if let Some(webrtc) = self.legs.get_mut(slot).and_then(|leg| leg.transport.webrtc()) {
            self.table.name(slot, &webrtc.ice.credentials().ufrag);
        }
    }
}
