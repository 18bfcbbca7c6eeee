//! Counters: what a leg received and sent, and why packets were dropped.

use crate::codec::Codec;
use std::time::Duration;

/// Why a packet was dropped. A peer's fault is a counted value, never an error per packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum DropReason {
    /// RTP for a leg that is not there.
    UnknownLeg,
    /// Not RTP version 2, or its parts do not fit the datagram.
    RtpMalformed,
    /// From an address that the leg's source latch does not accept.
    RtpUnknownSource,
    /// A payload type that was not negotiated.
    RtpPayloadType,
    /// The leg is bridged to nothing, or its peer does not receive now.
    RtpNotBridged,
    /// The leg's negotiated direction lets nothing in (the peer is on hold).
    RtpDirection,
    /// Too old or repeated.
    RtpDuplicate,
    /// A source that RFC 3550 A.1 still has on probation, or a wild jump of the sequence number.
    RtpSequence,
    /// The codec could not decode the payload.
    CodecDecode,
    /// RTCP that is no sound compound packet.
    RtcpMalformed,
    /// RTCP from an unexpected address.
    RtcpUnknownSource,
    /// SRTP or SRTCP whose authentication tag is wrong.
    SrtpAuth,
    /// SRTP or SRTCP seen before, or older than the replay window.
    SrtpReplay,
    /// SRTP before the DTLS handshake is done.
    SrtpNotReady,
    /// SRTP that is malformed or uses an exhausted key.
    SrtpMalformed,
    /// A datagram on the WebRTC port whose source no leg has authenticated.
    WebrtcUnknownSource,
    /// STUN whose user name names no leg.
    StunUnknownUser,
    /// STUN that is malformed or whose integrity is wrong.
    StunInvalid,
    /// A DTLS record that is malformed or comes too early.
    DtlsInvalid,
    /// A key for a peer that takes no telephone-events.
    DtmfUnsupported,
    /// A first byte that RFC 7983 gives to no protocol spoken here.
    WebrtcUnknownProtocol,
}

impl DropReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [DropReason; 21] = [
        DropReason::UnknownLeg,
        DropReason::RtpMalformed,
        DropReason::RtpUnknownSource,
        DropReason::RtpPayloadType,
        DropReason::RtpNotBridged,
        DropReason::RtpDirection,
        DropReason::RtpDuplicate,
        DropReason::RtpSequence,
        DropReason::CodecDecode,
        DropReason::RtcpMalformed,
        DropReason::RtcpUnknownSource,
        DropReason::SrtpAuth,
        DropReason::SrtpReplay,
        DropReason::SrtpNotReady,
        DropReason::SrtpMalformed,
        DropReason::WebrtcUnknownSource,
        DropReason::StunUnknownUser,
        DropReason::StunInvalid,
        DropReason::DtlsInvalid,
        DropReason::DtmfUnsupported,
        DropReason::WebrtcUnknownProtocol,
    ];

    /// The reason's name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DropReason::UnknownLeg => "rtp.unknown_leg",
            DropReason::RtpMalformed => "rtp.malformed",
            DropReason::RtpUnknownSource => "rtp.unknown_source",
            DropReason::RtpPayloadType => "rtp.payload_type",
            DropReason::RtpNotBridged => "rtp.not_bridged",
            DropReason::RtpDirection => "rtp.direction",
            DropReason::RtpDuplicate => "rtp.duplicate",
            DropReason::RtpSequence => "rtp.sequence",
            DropReason::CodecDecode => "codec.decode",
            DropReason::RtcpMalformed => "rtcp.malformed",
            DropReason::RtcpUnknownSource => "rtcp.unknown_source",
            DropReason::SrtpAuth => "srtp.auth",
            DropReason::SrtpReplay => "srtp.replay",
            DropReason::SrtpNotReady => "srtp.not_ready",
            DropReason::SrtpMalformed => "srtp.malformed",
            DropReason::WebrtcUnknownSource => "webrtc.unknown_source",
            DropReason::StunUnknownUser => "stun.unknown_user",
            DropReason::StunInvalid => "stun.invalid",
            DropReason::DtlsInvalid => "dtls.invalid",
            DropReason::DtmfUnsupported => "dtmf.unsupported",
            DropReason::WebrtcUnknownProtocol => "webrtc.unknown_protocol",
        }
    }
}

/// Dropped packets by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Drops {
    /// One more packet was dropped for this reason.
    pub fn count(&mut self, reason: DropReason) {
        if let Some(slot) = self.0.get_mut(reason as usize) {
            *slot += 1;
        }
    }

    /// How many packets were dropped for this reason.
    #[must_use]
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// How many packets were dropped at all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every reason with its count, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        DropReason::ALL.iter().map(|&reason| (reason.name(), self.of(reason)))
    }
}

/// What one leg did. Counts are RTP packets and their payload bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LegStats {
    /// The codec that was negotiated.
    pub codec: Option<Codec>,
    /// RTP packets that arrived and were accepted.
    pub packets_in: u64,
    /// RTP packets sent.
    pub packets_out: u64,
    /// Payload bytes that arrived in accepted packets.
    pub bytes_in: u64,
    /// Payload bytes sent.
    pub bytes_out: u64,
    /// Packets that the peer sent and that never arrived (RFC 3550 A.3).
    pub lost: u64,
    /// Packets of ours that the peer reports as lost.
    pub lost_remote: u64,
    /// Interarrival jitter of what arrived (RFC 3550 A.8).
    pub jitter: Duration,
    /// Round trip by the peer's last receiver report (RFC 3550 6.4.1).
    pub round_trip: Option<Duration>,
    /// Digits that arrived as RFC 4733 telephone-events.
    pub digits_in: u64,
    /// Digits sent as RFC 4733 telephone-events.
    pub digits_out: u64,
    /// Packets of this leg that were dropped.
    pub drops: Drops,
}

/// What the whole switch did since it was made; legs that are gone stay counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SwitchStats {
    /// Legs that are there now.
    pub legs: usize,
    /// Pairs of legs that are bridged now.
    pub bridges: usize,
    /// RTP packets accepted.
    pub packets_in: u64,
    /// RTP packets sent.
    pub packets_out: u64,
    /// Packets that went through unchanged in codec.
    pub relayed: u64,
    /// Packets that were decoded and encoded anew.
    pub transcoded: u64,
    /// Packets dropped, by reason.
    pub drops: Drops,
}
