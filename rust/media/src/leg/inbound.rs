//! What arrives from the leg's peer, up to the point where it is known to be good.

use super::source::{Arrival, Source};
use super::{Leg, Transport};
use crate::codec::Codec;
use crate::dtmf::TelephoneEvent;
use crate::own::OwnPorts;
use crate::rtp::{self, Header, Ssrc};
use crate::sdp::Encoding;
use crate::srtp::SrtpError;
use crate::stats::DropReason;
use crate::switch::{Component, Output};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

/// A good RTP packet.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) kind: Kind,
    pub(crate) source: Ssrc,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    /// Packets that are missing just before this one.
    pub(crate) missing: u16,
    /// It was overtaken by later ones.
    pub(crate) late: bool,
    /// The source is a new one, or has begun its numbers anew.
    pub(crate) fresh: bool,
    /// Where the payload is in the datagram.
    pub(crate) payload: Range<usize>,
}

/// What a packet holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Audio,
    /// Sound in another codec than before.
    Turn(Codec),
    /// A telephone-event and its clock.
    Event(TelephoneEvent, u32),
}

impl Leg {
    /// A datagram on one of the leg's own ports; what comes out is to be handed to the bridge.
    pub(crate) fn receive_plain(
        &mut self,
        now: Instant,
        component: Component,
        from: SocketAddr,
        datagram: &mut [u8],
        out: &mut Output,
    ) -> Option<Received> {
        if component == Component::Rtcp || rtp::is_rtcp(datagram) {
            if !self.transport.rtp()?.accept_rtcp(component, from) {
                return self.drop_packet(DropReason::RtcpUnknownSource, out);
            }
            self.receive_rtcp(now, datagram, out);
            return None;
        }
        self.receive_rtp(now, Some(from), datagram, out)
    }

    /// An SRTP or SRTCP datagram from an authenticated address.
    pub(crate) fn receive_sealed(
        &mut self,
        now: Instant,
        datagram: &mut [u8],
        out: &mut Output,
    ) -> Option<Received> {
        let control = rtp::is_rtcp(datagram);
        let Some(srtp) = self.transport.webrtc().and_then(|webrtc| webrtc.srtp.as_mut()) else {
            return self.drop_packet(DropReason::SrtpNotReady, out);
        };
        let opened = if control {
            srtp.inbound.unprotect_rtcp(datagram)
        } else {
            srtp.inbound.unprotect_rtp(datagram)
        };
        let length = match opened {
            Ok(length) => length,
            Err(SrtpError::Authentication) => return self.drop_packet(DropReason::SrtpAuth, out),
            Err(SrtpError::Replayed) => return self.drop_packet(DropReason::SrtpReplay, out),
            Err(_) => return self.drop_packet(DropReason::SrtpMalformed, out),
        };
        let packet = datagram.get_mut(..length)?;
        if control {
            self.receive_rtcp(now, packet, out);
            return None;
        }
        self.receive_rtp(now, None, packet, out)
    }

    fn receive_rtcp(&mut self, now: Instant, datagram: &[u8], out: &mut Output) {
        match self.control.handle(now, datagram, self.egress.ssrc) {
            Ok(()) => self.heard = now,
            Err(_) => _ = self.drop_packet(DropReason::RtcpMalformed, out),
        }
    }

    /// `from` is the address to check against the latch; SRTP needs none.
    fn receive_rtp(
        &mut self,
        now: Instant,
        from: Option<SocketAddr>,
        datagram: &mut [u8],
        out: &mut Output,
    ) -> Option<Received> {
        let Ok(header) = Header::parse(datagram) else {
            return self.drop_packet(DropReason::RtpMalformed, out);
        };
        if self.negotiated().is_none() {
            return self.drop_packet(DropReason::RtpNotBridged, out);
        }
        let Some(kind) = self.classify(&header) else {
            return self.drop_packet(DropReason::RtpPayloadType, out);
        };
        if let (Some(from), Transport::Rtp(rtp)) = (from, &mut self.transport)
            && !rtp.accept(now, from, header.ssrc(), &out.own)
            && !self.has_moved(now, from, &header, &out.own)
        {
            return self.drop_packet(DropReason::RtpUnknownSource, out);
        }
        self.take(now, kind, &header, out)
    }

    /// Whether a packet from an unknown address is the next of a stream whose own address has fallen silent.
    #[cold]
    fn has_moved(&mut self, now: Instant, from: SocketAddr, header: &Header<'_>, own: &OwnPorts) -> bool {
        let clock_rate = self.source_clock();
        let arrival = self.control.units(now, clock_rate);
        let goes_on = self.source.as_ref().is_some_and(|source| {
            source.ssrc == header.ssrc()
                && source.continues(header.sequence(), arrival, header.timestamp(), clock_rate)
        });
        let heard = self.heard;
        goes_on && self.transport.rtp().is_some_and(|rtp| rtp.move_to(now, from, header.ssrc(), heard, own))
    }

    fn take(&mut self, now: Instant, kind: Kind, header: &Header<'_>, out: &mut Output) -> Option<Received> {
        self.heard = now;
        let arrival = self.follow(header.ssrc(), header.sequence());
        let (missing, late, fresh) = match arrival {
            Some(Arrival::Next { missing }) => (missing, false, false),
            Some(Arrival::Late) => (0, true, false),
            Some(Arrival::Restart) | None => (0, false, true),
            Some(Arrival::Duplicate) => return self.drop_packet(DropReason::RtpDuplicate, out),
            Some(Arrival::Jump) => return self.drop_packet(DropReason::RtpSequence, out),
        };
        if fresh {
            self.digits_in.restart();
        }
        match kind {
            // A straggler of what was spoken before.
            Kind::Turn(_) if late => return self.drop_packet(DropReason::RtpPayloadType, out),
            Kind::Turn(codec) => self.turn(header.payload_type().0, codec),
            Kind::Audio if !late => self.clock(now, header.timestamp()),
            Kind::Audio | Kind::Event(..) => {}
        }
        if !self.may_receive() {
            return self.drop_packet(DropReason::RtpDirection, out);
        }
        let payload = header.payload_range();
        self.stats.packets_in += 1;
        self.stats.bytes_in += u64::try_from(payload.len()).unwrap_or(0);
        out.totals.packets_in += 1;
        self.connect(out);
        Some(Received {
            kind,
            source: header.ssrc(),
            sequence: header.sequence(),
            timestamp: header.timestamp(),
            marker: header.marker(),
            missing,
            late,
            fresh,
            payload,
        })
    }

    /// The sequence statistics; none for the first packet of a source.
    fn follow(&mut self, ssrc: Ssrc, sequence: u16) -> Option<Arrival> {
        if let Some(source) = self.source.as_mut().filter(|source| source.ssrc == ssrc) {
            let lost = source.lost();
            let arrival = source.arrive(sequence);
            if arrival == Arrival::Restart {
                self.stats.lost += u64::from(lost);
            }
            return Some(arrival);
        }
        if let Some(before) = self.source.replace(Source::new(ssrc, sequence)) {
            self.stats.lost += u64::from(before.lost());
            self.control.forget_sender_report();
        }
        None
    }

    fn clock(&mut self, now: Instant, timestamp: u32) {
        let arrival = self.control.units(now, self.source_clock());
        if let Some(source) = &mut self.source {
            source.clock(arrival, timestamp);
        }
    }

    /// The peer goes on in another codec that it may choose.
    #[cold]
    fn turn(&mut self, payload_type: u8, codec: Codec) {
        self.hears(payload_type, codec);
        if let Some(source) = &mut self.source {
            source.forget_clock();
        }
    }

    /// Counts a dropped packet.
    pub(crate) fn drop_packet(&mut self, reason: DropReason, out: &mut Output) -> Option<Received> {
        self.stats.drops.count(reason);
        out.totals.drops.count(reason);
        None
    }

    fn classify(&self, header: &Header<'_>) -> Option<Kind> {
        let payload_type = header.payload_type().0;
        if self.spoken().is_some_and(|(spoken, _)| spoken == payload_type) {
            return Some(Kind::Audio);
        }
        match self.negotiated()?.encoding(payload_type)? {
            Encoding::Audio(codec) => Some(Kind::Turn(codec)),
            Encoding::TelephoneEvent(clock) => {
                TelephoneEvent::parse(header.payload()).map(|event| Kind::Event(event, clock))
            }
        }
    }
}
