//! Offer and answer (RFC 3264) as pure functions, for RTP/AVP (SIP) and UDP/TLS/RTP/SAVPF (WebRTC).

use super::{Direction, Fingerprint, SdpError, Session};
use crate::codec::Codec;
use crate::dtls::Role;
use crate::ice::Credentials;
use std::net::SocketAddr;

/// What we put into a description.
#[derive(Debug, Clone)]
pub struct Params<'a> {
    /// Our codecs, best first. telephone-event always rides along.
    pub codecs: &'a [Codec],
    /// The id in `o=`; stays for the leg's life.
    pub session_id: u64,
    /// The version in `o=`; grows with each description we send (RFC 3264 section 8).
    pub session_version: u64,
    /// What we would like; an answer narrows it to what the offer allows.
    pub direction: Direction,
    /// The SSRC that we send with.
    pub ssrc: u32,
    /// Our RTCP CNAME (RFC 7022).
    pub cname: &'a str,
    /// SIP or WebRTC.
    pub transport: Transport<'a>,
}

/// The kind of leg and its addresses.
#[derive(Debug, Clone)]
pub enum Transport<'a> {
    /// RTP/AVP of a SIP leg.
    Rtp {
        /// The advertised RTP address; RTCP is one port above (RFC 3550 section 11).
        local: SocketAddr,
    },
    /// UDP/TLS/RTP/SAVPF of a browser leg.
    WebRtc {
        /// Our host candidates.
        candidates: &'a [SocketAddr],
        /// Our ICE credentials.
        credentials: &'a Credentials,
        /// Our certificate's fingerprint.
        fingerprint: &'a Fingerprint,
    },
}

/// What both sides agreed on, seen from us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// The codec of both directions.
    pub codec: Codec,
    /// The payload type we send.
    pub send_payload_type: u8,
    /// The payload type we receive.
    pub receive_payload_type: u8,
    /// telephone-event (RFC 4733), if agreed.
    pub telephone_event: Option<TelephoneEvent>,
    /// What we may do: `SendOnly` means we send and the peer listens.
    pub direction: Direction,
    /// Milliseconds of sound per packet that the peer asked for (`a=ptime`); 20 unless it said otherwise.
    pub ptime: std::time::Duration,
    /// The peer's transport.
    pub peer: Peer,
    /// SSRCs the peer announced (RFC 5576); hints only.
    pub remote_ssrcs: Vec<u32>,
}

/// The payload types and clock of telephone-event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// The payload type we send.
    pub send_payload_type: u8,
    /// The payload type we receive.
    pub receive_payload_type: u8,
    /// Its clock: 8000, or 48000 beside Opus.
    pub clock_rate: u32,
}

/// The peer's side of the transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// RTP/AVP.
    Rtp(RtpPeer),
    /// UDP/TLS/RTP/SAVPF.
    WebRtc(WebRtcPeer),
}

/// Where a SIP peer wants its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpPeer {
    /// Its RTP address; `None` for a hold by 0.0.0.0 or an address we cannot use (a name).
    pub rtp: Option<SocketAddr>,
    /// Its RTCP address: `a=rtcp`, else one port above; the RTP address if RTCP is multiplexed.
    pub rtcp: Option<SocketAddr>,
    /// Whether both sides agreed to multiplex RTCP on the RTP port (RFC 5761).
    pub rtcp_mux: bool,
}

/// The ICE side of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceParameters {
    /// Its credentials.
    pub credentials: Credentials,
    /// Its candidates, as the values of `a=candidate`.
    pub candidates: Vec<String>,
}

/// How a browser secures its media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebRtcPeer {
    /// ICE.
    pub ice: IceParameters,
    /// Its certificate's fingerprints; one must match.
    pub fingerprints: Vec<Fingerprint>,
    /// Our DTLS role.
    pub role: Role,
    /// The audio section's `a=mid`.
    pub mid: String,
}

/// Why no agreement was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// The description cannot be read.
    #[error(transparent)]
    Sdp(#[from] SdpError),
    /// There is no live audio section.
    #[error("no audio in the session description")]
    NoAudio,
    /// No codec is common: 488 Not Acceptable Here.
    #[error("no common codec: the peer offers {0}")]
    NoCommonCodec(String),
    /// Audio comes over a protocol this leg does not speak.
    #[error("unsupported media protocol {0}")]
    UnsupportedProtocol(String),
    /// WebRTC without a usable `a=fingerprint`.
    #[error("no fingerprint with sha-256 or better")]
    MissingFingerprint,
    /// WebRTC without `a=ice-ufrag` and `a=ice-pwd`.
    #[error("no ice-ufrag and ice-pwd")]
    MissingIce,
    /// WebRTC without `a=rtcp-mux`.
    #[error("no rtcp-mux")]
    MissingRtcpMux,
    /// `a=setup` cannot be matched with ours.
    #[error("setup roles do not match")]
    BadSetup,
    /// No usable address in `c=`.
    #[error("no usable connection address")]
    BadAddress,
    /// The answer does not fit our offer.
    #[error("the answer does not fit the offer: {0}")]
    BadAnswer(String),
}

/// Our offer.
#[must_use]
pub fn offer(_params: &Params<'_>) -> Session {
    Session::default()
}

/// Our answer to an offer, and what is agreed with it.
///
/// # Errors
/// If nothing can be agreed on.
pub fn answer(_offer: &Session, _params: &Params<'_>) -> Result<(Session, Negotiated), NegotiationError> {
    Err(NegotiationError::NoAudio)
}

/// What is agreed by the peer's answer to our offer.
///
/// # Errors
/// If the answer agrees to nothing or does not fit.
pub fn accept(_offer: &Session, _answer: &Session) -> Result<Negotiated, NegotiationError> {
    Err(NegotiationError::NoAudio)
}
