//! Offer and answer (RFC 3264) as pure functions, for RTP/AVP (SIP) and UDP/TLS/RTP/SAVPF (WebRTC).
//!
//! One audio section is agreed on, with one codec and telephone-event; every other section is refused with port 0.

mod codecs;
mod describe;
mod peer;

use super::{Direction, Fingerprint, Media, SdpError, Session};
use crate::codec::Codec;
use crate::dtls::Role;
use crate::ice::Credentials;
use codecs::Choice;
use std::net::SocketAddr;
use std::time::Duration;

/// What we put into a description.
#[derive(Debug, Clone)]
pub struct Params<'a> {
    /// Our codecs, best first.
    pub codecs: &'a [Codec],
    /// Whether telephone-event rides along: not where keys go by signalling.
    pub keys: bool,
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
    /// What stands already, when a session is renewed.
    pub standing: Option<Standing<'a>>,
}

/// What an earlier exchange of the same session has settled.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// What was agreed on.
    pub negotiated: &'a Negotiated,
    /// The sections of our last description: a new one has them all, in their order (RFC 3264 section 8).
    pub sections: &'a [Media],
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
    /// What else the peer may send, by the payload types we receive: all that its answer took of our offer (RFC 3264
    /// section 7). Our own answers name one codec.
    pub others: Vec<(u8, Encoding)>,
    /// What we may do: `SendOnly` means we send and the peer listens.
    pub direction: Direction,
    /// What the peer says that it does; where it answers, the offer has narrowed it.
    pub peer_direction: Direction,
    /// How much sound per packet the peer asked for (`a=ptime`); 20 ms unless it said otherwise.
    pub ptime: Duration,
    /// The peer's transport.
    pub peer: Peer,
    /// SSRCs the peer announced (RFC 5576); hints only.
    pub remote_ssrcs: Vec<u32>,
}

/// What a payload type stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Sound.
    Audio(Codec),
    /// Keys, under a clock of so many Hz.
    TelephoneEvent(u32),
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
    #[error("no common codec: offered are {offered}, allowed are {allowed}")]
    NoCommonCodec {
        /// What the peer named.
        offered: String,
        /// What it could have named.
        allowed: String,
    },
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
    /// Both sides are ICE-lite: nobody would check.
    #[error("the peer is ICE-lite, as we are")]
    BothIceLite,
    /// The answer does not fit our offer.
    #[error("the answer does not fit the offer: {0}")]
    BadAnswer(&'static str),
}

impl NegotiationError {
    /// The warn-code that says so (RFC 3261 section 20.43).
    #[must_use]
    pub const fn warning(&self) -> u16 {
        match self {
            Self::BadAddress => 301,
            Self::UnsupportedProtocol(_) => 302,
            Self::NoAudio => 304,
            Self::NoCommonCodec { .. } => 305,
            _ => 399,
        }
    }
}

impl Negotiated {
    /// What a payload type of the peer's packets stands for.
    #[must_use]
    pub fn encoding(&self, payload_type: u8) -> Option<Encoding> {
        let event = self.telephone_event.filter(|event| event.receive_payload_type == payload_type);
        if payload_type == self.receive_payload_type {
            return Some(Encoding::Audio(self.codec));
        }
        let other = || self.others.iter().find(|(number, _)| *number == payload_type);
        let event = event.map(|event| Encoding::TelephoneEvent(event.clock_rate));
        event.or_else(|| other().map(|&(_, encoding)| encoding))
    }

    /// The same with the stream switched off by port 0 (RFC 3264 section 8.2).
    #[must_use]
    pub fn stopped(&self) -> Self {
        let peer = match &self.peer {
            Peer::Rtp(peer) => Peer::Rtp(RtpPeer { rtp: None, rtcp: None, ..*peer }),
            webrtc @ Peer::WebRtc(_) => webrtc.clone(),
        };
        let direction = Direction::Inactive;
        Self { direction, peer_direction: direction, peer, ..self.clone() }
    }
}

/// Our offer: every codec of ours, and telephone-event with their clocks.
#[must_use]
pub fn offer(params: &Params<'_>) -> Session {
    let mut session = describe::session(params, params.transport.is_webrtc().then_some("BUNDLE 0"));
    let formats =
        codecs::offered(params.codecs, params.keys, params.standing.map(|standing| standing.negotiated));
    let mut audio = describe::audio(params, params.transport.protocol(), &formats, params.direction);
    if let Transport::WebRtc { .. } = params.transport {
        // RFC 8842 section 5.2: an offer says actpass.
        describe::add_webrtc(&mut audio, params, "0", "actpass");
    }
    let sections = params.standing.map_or(&[][..], |standing| standing.sections);
    let place = audio_place(sections).unwrap_or(0);
    sections.iter().take(place).for_each(|section| session.push_media(section.clone()));
    session.push_media(audio);
    sections.iter().skip(place + 1).for_each(|section| session.push_media(section.clone()));
    session
}

/// Which of our own sections is the sound: the one in use, or the first that was.
fn audio_place(sections: &[Media]) -> Option<usize> {
    let audio = |media: &Media| media.kind().eq_ignore_ascii_case("audio");
    let live = sections.iter().position(|media| audio(media) && media.is_live());
    live.or_else(|| sections.iter().position(audio))
}

/// Our answer to an offer, and what is agreed with it: the first of our codecs that the peer also has, under the
/// payload types of its offer (RFC 3264 section 6.1).
///
/// # Errors
/// If nothing can be agreed on.
pub fn answer(offer: &Session, params: &Params<'_>) -> Result<(Session, Negotiated), NegotiationError> {
    if let Some(standing) = params.standing.filter(|_| is_off(offer)) {
        return Ok((describe::all_refused(offer, params), standing.negotiated.stopped()));
    }
    let (index, choice) = choose_audio(offer, params)?;
    let media = offer.media().get(index).ok_or(NegotiationError::NoAudio)?;
    let peer = peer::read(offer, media, params.transport.is_webrtc(), peer::Description::Offer)?;
    let says = peer::direction(offer, media);
    let negotiated = agreed(choice, choice, (params.direction, says), peer, media);
    let mut session = describe::session(params, describe::bundle(offer, media).as_deref());
    for (position, other) in offer.media().iter().enumerate() {
        session.push_media(if position == index {
            describe::answer_audio(params, &negotiated, media)
        } else {
            describe::refused(other)
        });
    }
    Ok((session, negotiated))
}

/// What is agreed by the peer's answer to our offer.
///
/// # Errors
/// If the answer agrees to nothing or does not fit.
pub fn accept(offer: &Session, answer: &Session) -> Result<Negotiated, NegotiationError> {
    // An answer has as many sections as the offer, in the same order (RFC 3264 section 6).
    let place = audio_place(offer.media()).unwrap_or(0);
    let (Some(ours), Some(theirs)) = (offer.media().get(place), answer.media().get(place)) else {
        return Err(NegotiationError::BadAnswer("another number of media sections"));
    };
    if offer.media().len() != answer.media().len() {
        return Err(NegotiationError::BadAnswer("another number of media sections"));
    }
    if !theirs.kind().eq_ignore_ascii_case("audio") || !theirs.is_live() {
        return Err(NegotiationError::NoAudio);
    }
    if !theirs.protocol().eq_ignore_ascii_case(ours.protocol()) {
        return Err(NegotiationError::UnsupportedProtocol(theirs.protocol().to_owned()));
    }
    let (receive, send) = codecs::answered(ours, theirs)?;
    let webrtc = ours.attribute("ice-ufrag").is_some();
    let peer = peer::read(answer, theirs, webrtc, peer::Description::Answer)?;
    let directions = (offer.direction(ours), peer::direction(answer, theirs));
    let others = codecs::others(ours, theirs, receive);
    Ok(Negotiated { others, ..agreed(send, receive, directions, peer, theirs) })
}

/// Whether a description switches everything off, and sound with it: port 0 throughout. Where only the sound goes, for a
/// fax over T.38, something else was meant to take its place.
#[must_use]
pub fn is_off(session: &Session) -> bool {
    let sounds = session.media().iter().any(|media| media.kind().eq_ignore_ascii_case("audio"));
    sounds && !session.media().iter().any(Media::is_live)
}

/// The first live audio section over a protocol of this leg with a codec of ours. Some telephones offer the same
/// audio twice, over RTP/SAVP and over RTP/AVP.
fn choose_audio(offer: &Session, params: &Params<'_>) -> Result<(usize, Choice), NegotiationError> {
    let mut refusal = NegotiationError::NoAudio;
    for (index, media) in offer.media().iter().enumerate().filter(|(_, media)| is_live_audio(media)) {
        match choose(media, params) {
            Ok(choice) => return Ok((index, choice)),
            Err(error) if refusal == NegotiationError::NoAudio => refusal = error,
            Err(_) => {}
        }
    }
    Err(refusal)
}

fn is_live_audio(media: &Media) -> bool {
    media.kind().eq_ignore_ascii_case("audio") && media.is_live()
}

fn choose(media: &Media, params: &Params<'_>) -> Result<Choice, NegotiationError> {
    if !params.transport.speaks(media.protocol()) {
        return Err(NegotiationError::UnsupportedProtocol(media.protocol().to_owned()));
    }
    let choice = codecs::choose(media, params.codecs)?;
    Ok(Choice { telephone_event: choice.telephone_event.filter(|_| params.keys), ..choice })
}

/// `directions`: ours, and what the peer says of itself.
fn agreed(
    send: Choice,
    receive: Choice,
    directions: (Direction, Direction),
    peer: Peer,
    media: &Media,
) -> Negotiated {
    let (ours, theirs) = directions;
    let telephone_event = send.telephone_event.zip(receive.telephone_event);
    Negotiated {
        codec: send.codec,
        send_payload_type: send.payload_type,
        receive_payload_type: receive.payload_type,
        telephone_event: telephone_event.map(|(send, receive)| TelephoneEvent {
            send_payload_type: send.payload_type,
            receive_payload_type: receive.payload_type,
            clock_rate: send.clock_rate,
        }),
        others: Vec::new(),
        direction: ours.and(theirs.reversed()),
        peer_direction: theirs,
        ptime: peer::ptime(media),
        peer,
        remote_ssrcs: peer::ssrcs(media),
    }
}

impl Transport<'_> {
    fn is_webrtc(&self) -> bool {
        matches!(self, Self::WebRtc { .. })
    }

    fn protocol(&self) -> &'static str {
        if self.is_webrtc() { "UDP/TLS/RTP/SAVPF" } else { "RTP/AVP" }
    }

    /// Protocols that an offer may name; feedback (the F) is never used, so its absence does no harm. JSEP (RFC 8829
    /// section 5.1.2) wants the short forms read too.
    fn speaks(&self, protocol: &str) -> bool {
        let known: &[&str] = if self.is_webrtc() {
            &["UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "RTP/SAVPF", "RTP/SAVP"]
        } else {
            &["RTP/AVP", "RTP/AVPF"]
        };
        known.iter().any(|known| known.eq_ignore_ascii_case(protocol))
    }
}
