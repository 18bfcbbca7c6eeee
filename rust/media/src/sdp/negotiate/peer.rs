//! The peer's description: where it is, how it secures its media, what it wishes.

use super::{IceParameters, NegotiationError, Peer, RtpPeer, WebRtcPeer};
use crate::dtls::Role;
use crate::ice::Credentials;
use crate::sdp::{Connection, Direction, Media, Session, Setup};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Which half of an exchange a description is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Description {
    Offer,
    Answer,
}

/// The most candidates and SSRCs taken from one description.
const MAX_CANDIDATES: usize = 64;
const MAX_SSRCS: usize = 16;

pub(super) fn read(
    session: &Session,
    media: &Media,
    webrtc: bool,
    description: Description,
) -> Result<Peer, NegotiationError> {
    if webrtc {
        read_webrtc(session, media, description).map(Peer::WebRtc)
    } else {
        read_rtp(session, media).map(Peer::Rtp)
    }
}

fn read_rtp(session: &Session, media: &Media) -> Result<RtpPeer, NegotiationError> {
    let connection = session.connection(media).ok_or(NegotiationError::BadAddress)?;
    let rtcp_mux = media.attribute("rtcp-mux").is_some();
    let Some(ip) = usable(connection) else { return Ok(RtpPeer { rtp: None, rtcp: None, rtcp_mux }) };
    let rtp = SocketAddr::new(ip, media.port());
    let rtcp = if rtcp_mux { Some(rtp) } else { rtcp_address(media, ip) };
    Ok(RtpPeer { rtp: Some(rtp), rtcp, rtcp_mux })
}

/// An address to send to. Not 0.0.0.0, the hold of RFC 2543 (RFC 3264 section 8.4), nor a group.
fn usable(connection: Connection<'_>) -> Option<IpAddr> {
    match connection {
        Connection::Address(ip) if !ip.is_unspecified() && !ip.is_multicast() => Some(ip),
        _ => None,
    }
}

/// `a=rtcp:53020` or `a=rtcp:53020 IN IP4 192.0.2.1` (RFC 3605), else the next port (RFC 3550 section 11).
fn rtcp_address(media: &Media, ip: IpAddr) -> Option<SocketAddr> {
    let Some(value) = media.attribute("rtcp") else {
        return media.port().checked_add(1).map(|port| SocketAddr::new(ip, port));
    };
    let mut words = value.split_ascii_whitespace();
    let port = words.next()?.parse().ok().filter(|port| *port != 0)?;
    let own = words.nth(2).and_then(|address| address.parse().ok());
    Some(SocketAddr::new(usable(Connection::Address(own.unwrap_or(ip)))?, port))
}

fn read_webrtc(
    session: &Session,
    media: &Media,
    description: Description,
) -> Result<WebRtcPeer, NegotiationError> {
    if session.attribute("ice-lite").is_some() {
        return Err(NegotiationError::BothIceLite);
    }
    let ice = ice(session, media).ok_or(NegotiationError::MissingIce)?;
    let fingerprints = session.fingerprints(media);
    if fingerprints.is_empty() {
        return Err(NegotiationError::MissingFingerprint);
    }
    if media.attribute("rtcp-mux").is_none() {
        return Err(NegotiationError::MissingRtcpMux);
    }
    let role = role(session.setup(media), description).ok_or(NegotiationError::BadSetup)?;
    let mid = media.mid().unwrap_or_default().to_owned();
    Ok(WebRtcPeer { ice, fingerprints, role, mid })
}

fn ice(session: &Session, media: &Media) -> Option<IceParameters> {
    let value = |name| session.transport_attributes(media, name).first().copied();
    let (ufrag, pwd) = (value("ice-ufrag")?, value("ice-pwd")?);
    // RFC 8839 section 5.4 has bounds; below them anybody can guess.
    let sound = (4..=256).contains(&ufrag.len()) && (22..=256).contains(&pwd.len());
    let candidates = session.transport_attributes(media, "candidate");
    sound.then(|| IceParameters {
        credentials: Credentials { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() },
        candidates: candidates.into_iter().take(MAX_CANDIDATES).map(str::to_owned).collect(),
    })
}

/// Our DTLS role (RFC 8842 section 5.3). We prefer to be the server: the browser then begins once its ICE is up.
/// Silence means active in an offer and passive in an answer (RFC 4145 section 4.1).
fn role(setup: Option<Option<Setup>>, description: Description) -> Option<Role> {
    match (setup.unwrap_or(Some(default_setup(description)))?, description) {
        (Setup::Active, _) | (Setup::ActPass, Description::Offer) => Some(Role::Server),
        (Setup::Passive, _) => Some(Role::Client),
        (Setup::ActPass, Description::Answer) | (Setup::HoldConn, _) => None,
    }
}

const fn default_setup(description: Description) -> Setup {
    match description {
        Description::Offer => Setup::Active,
        Description::Answer => Setup::Passive,
    }
}

/// What the peer does: a peer at 0.0.0.0 receives nothing, whatever it says (RFC 3264 section 8.4). Behind ICE that
/// address only says that candidates follow (RFC 8840 section 4.3.1).
pub(super) fn direction(session: &Session, media: &Media) -> Direction {
    let held = matches!(session.connection(media), Some(Connection::Address(ip)) if ip.is_unspecified());
    let behind_ice = !session.transport_attributes(media, "ice-ufrag").is_empty();
    let receives = behind_ice || !held;
    session.direction(media).and(Direction::new(true, receives))
}

/// `a=ptime` where it makes sense for a telephone, else 20 ms.
pub(super) fn ptime(media: &Media) -> Duration {
    let said = media.attribute("ptime").and_then(|value| value.parse::<u64>().ok());
    Duration::from_millis(said.filter(|ms| (10..=120).contains(ms)).unwrap_or(20))
}

/// The SSRCs of `a=ssrc` lines (RFC 5576), each once.
pub(super) fn ssrcs(media: &Media) -> Vec<u32> {
    let mut found: Vec<u32> = Vec::new();
    for value in media.attributes("ssrc") {
        let ssrc = value.split_ascii_whitespace().next().and_then(|number| number.parse().ok());
        if let Some(ssrc) = ssrc.filter(|ssrc| !found.contains(ssrc) && found.len() < MAX_SSRCS) {
            found.push(ssrc);
        }
    }
    found
}
