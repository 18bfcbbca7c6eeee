//! Our own descriptions.

use super::codecs::{Event, Format};
use super::{Negotiated, Params, Peer, Transport};
use crate::dtls::Role;
use crate::sdp::{Direction, Media, Session};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// `IN IP4 192.0.2.1`
fn address(ip: IpAddr) -> String {
    format!("IN {} {ip}", if ip.is_ipv4() { "IP4" } else { "IP6" })
}

/// Where we are: the RTP address, or the default candidate (RFC 8839 section 4.2.1.2).
fn local(transport: &Transport<'_>) -> SocketAddr {
    match *transport {
        Transport::Rtp { local } => local,
        Transport::WebRtc { candidates, .. } => {
            candidates.first().copied().unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9)))
        }
    }
}

/// The session part.
pub(super) fn session(params: &Params<'_>, group: Option<&str>) -> Session {
    let local = address(local(&params.transport).ip());
    let mut session = Session::default();
    session.push('v', "0");
    session.push('o', &format!("- {} {} {local}", params.session_id, params.session_version));
    session.push('s', "-");
    session.push('c', &local);
    session.push('t', "0 0");
    if params.transport.is_webrtc() {
        // RFC 8839 section 5.3: a session attribute.
        session.push('a', "ice-lite");
    }
    if let Some(group) = group {
        session.push('a', &format!("group:{group}"));
    }
    session
}

/// The audio section as far as both kinds share it.
pub(super) fn audio(params: &Params<'_>, protocol: &str, formats: &[Format], direction: Direction) -> Media {
    let numbers: Vec<String> = formats.iter().map(|format| format.payload_type.to_string()).collect();
    let mut media = Media::new("audio", local(&params.transport).port(), protocol, &numbers.join(" "));
    for format in formats {
        media.push('a', &format!("rtpmap:{} {}", format.payload_type, format.rtpmap));
        if let Some(fmtp) = format.fmtp {
            media.push('a', &format!("fmtp:{} {fmtp}", format.payload_type));
        }
    }
    media.push('a', "ptime:20");
    media.push('a', direction.name());
    media
}

/// The audio section of an answer: one codec, so that the peer cannot change it under way.
pub(super) fn answer_audio(params: &Params<'_>, negotiated: &Negotiated, offered: &Media) -> Media {
    let mut formats = vec![Format::of_codec(negotiated.codec, negotiated.receive_payload_type)];
    formats.extend(negotiated.telephone_event.map(|event| {
        Format::of_event(Event { payload_type: event.receive_payload_type, clock_rate: event.clock_rate })
    }));
    let mut media = audio(params, offered.protocol(), &formats, negotiated.direction);
    match &negotiated.peer {
        Peer::Rtp(peer) if peer.rtcp_mux => media.push('a', "rtcp-mux"),
        Peer::Rtp(_) => {}
        Peer::WebRtc(peer) => {
            let setup = if peer.role == Role::Server { "passive" } else { "active" };
            add_webrtc(&mut media, params, &peer.mid, setup);
        }
    }
    media
}

/// What a browser needs besides: ICE, DTLS, and a stream for its `ontrack` event.
pub(super) fn add_webrtc(media: &mut Media, params: &Params<'_>, mid: &str, setup: &str) {
    let Transport::WebRtc { candidates, credentials, fingerprint } = &params.transport else { return };
    if !mid.is_empty() {
        media.push('a', &format!("mid:{mid}"));
    }
    media.push('a', "rtcp-mux");
    media.push('a', &format!("ice-ufrag:{}", credentials.ufrag));
    media.push('a', &format!("ice-pwd:{}", credentials.pwd));
    media.push('a', &format!("fingerprint:{fingerprint}"));
    media.push('a', &format!("setup:{setup}"));
    // RFC 8830; the tokens take no part in anything but naming.
    media.push('a', "msid:gateway gateway-audio");
    media.push('a', &format!("ssrc:{} cname:{}", params.ssrc, params.cname));
    for (index, candidate) in candidates.iter().enumerate() {
        media.push('a', &host_candidate(index, *candidate));
    }
    media.push('a', "end-of-candidates");
}

/// RFC 8839 section 5.1 with the priority of RFC 8445 section 5.1.2.1 for component 1 of a host.
fn host_candidate(index: usize, at: SocketAddr) -> String {
    let place = u32::try_from(index).unwrap_or(u32::MAX);
    let priority = (126 << 24) + (65_535_u32.saturating_sub(place) << 8) + 255;
    format!("candidate:{} 1 udp {priority} {} {} typ host", place.saturating_add(1), at.ip(), at.port())
}

/// The BUNDLE group of an answer: our section, if the offer bundles it (RFC 9143 section 7.3). Refused sections stay
/// out.
pub(super) fn bundle(offer: &Session, audio: &Media) -> Option<String> {
    let mid = audio.mid()?;
    offer.bundle_of(mid).map(|_| format!("BUNDLE {mid}"))
}

/// A section we refuse: port 0, the offer's first format (RFC 3264 section 6), and its tag.
pub(super) fn refused(offered: &Media) -> Media {
    let format = offered.formats().next().unwrap_or("0");
    let mut media = Media::new(offered.kind(), 0, offered.protocol(), format);
    if let Some(mid) = offered.mid() {
        media.push('a', &format!("mid:{mid}"));
        media.push('a', "inactive");
    }
    media
}

/// The answer to an offer that switches everything off: every section is refused (RFC 3264 section 8.2).
pub(super) fn all_refused(offer: &Session, params: &Params<'_>) -> Session {
    let mut session = session(params, None);
    offer.media().iter().for_each(|media| session.push_media(refused(media)));
    session
}
