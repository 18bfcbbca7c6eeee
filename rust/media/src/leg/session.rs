//! Offer and answer of one leg: what is put into the descriptions, and what the agreement changes.

use super::{Leg, Transport};
use crate::Error;
use crate::codec::Codec;
use crate::dtls::Certificate;
use crate::ice::Credentials;
use crate::rng::Rng;
use crate::sdp::{
    self, Direction, Encoding, Fingerprint, Negotiated, NegotiationError, Params, Peer, Standing,
    TelephoneEvent,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// What all WebRTC legs of a switch share.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) certificate: Arc<Certificate>,
    pub(crate) fingerprint: Fingerprint,
}

impl Local {
    pub(crate) fn credentials(&self, rng: &mut Rng) -> Credentials {
        Credentials::from_seed(rng.bytes())
    }
}

/// The state of offer and answer.
#[derive(Debug)]
pub(crate) struct Session {
    id: u64,
    /// The highest version that was sent.
    version: u64,
    /// Our description that stands, and its version.
    standing: Option<(u64, sdp::Session)>,
    /// Our offer that waits for its answer, and its version.
    offer: Option<(u64, sdp::Session)>,
    negotiated: Option<Negotiated>,
    /// The payload type and codec of the peer's sound: one of those agreed on.
    spoken: Option<(u8, Codec)>,
    /// What we do at most, because the bridged leg's peer does no more.
    wish: Direction,
    /// What the peer last said that it does, as far as it was free to.
    stated: Direction,
}

impl Session {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        // RFC 8866 5.2: numeric; kept within 62 bits, as JSEP wants it (RFC 8829 5.2.1).
        let (wish, stated) = (Direction::SendRecv, Direction::SendRecv);
        Session {
            id: rng.u64() >> 2,
            version: 0,
            standing: None,
            offer: None,
            negotiated: None,
            spoken: None,
            wish,
            stated,
        }
    }
}

impl Leg {
    /// An offer; `direction` is what the bridged leg's peer does, if that has changed.
    pub(crate) fn create_offer(
        &mut self,
        local: &Local,
        codecs: &[Codec],
        direction: Option<Direction>,
        first: Option<Codec>,
    ) -> String {
        let codecs = first.map_or_else(|| self.spoken_first(codecs), |first| put_first(first, codecs));
        let direction = direction.unwrap_or(self.session.wish);
        let build = |leg: &Self, version| {
            let params = Params { direction, ..leg.params(local, &codecs, version) };
            Ok::<_, NegotiationError>((sdp::offer(&params), ()))
        };
        let (version, (offer, ())) = self.in_new_version(build).unwrap_or_default();
        let text = offer.to_string();
        self.session.offer = Some((version, offer));
        text
    }

    /// The next description is another version, whatever it says.
    pub(crate) fn renew_version(&mut self) {
        self.session.standing = None;
    }

    /// RFC 3264 section 8: the version rises by one with each description that differs from the one that stands.
    fn in_new_version<T, E>(
        &mut self,
        build: impl Fn(&Self, u64) -> Result<(sdp::Session, T), E>,
    ) -> Result<(u64, (sdp::Session, T)), E> {
        if let Some((version, standing)) = &self.session.standing {
            let built = build(self, *version)?;
            if built.0 == *standing {
                return Ok((*version, built));
            }
        }
        let version = self.session.version + 1;
        let built = build(self, version)?;
        self.session.version = version;
        Ok((version, built))
    }

    /// A telephone's codec stays as long as it can: its order of preference is no wish to change (RFC 3264 section 8.3.2).
    fn spoken_first(&self, codecs: &[Codec]) -> Vec<Codec> {
        let spoken = self.codec().filter(|_| self.is_telephone());
        spoken.map_or_else(|| codecs.to_vec(), |spoken| put_first(spoken, codecs))
    }

    fn is_telephone(&self) -> bool {
        matches!(self.transport, Transport::Rtp(_))
    }

    pub(crate) fn accept_offer(
        &mut self,
        now: Instant,
        offer: &str,
        codecs: &[Codec],
        local: &Local,
        rng: &mut Rng,
    ) -> Result<String, Error> {
        let offer = sdp::parse(offer).map_err(|error| Error::BadSdp(error.to_string()))?;
        let codecs = self.spoken_first(codecs);
        let build = |leg: &Self, version| sdp::answer(&offer, &leg.params(local, &codecs, version));
        let (mut version, (mut answer, mut negotiated)) = self.in_new_version(build)?;
        if self.restart_ice(now, &negotiated, local, rng) {
            // The answer carries the new agent's credentials (RFC 8839 4.4.1.1.1).
            (version, (answer, negotiated)) = self.in_new_version(build)?;
        }
        // Our own offer, if one is out, has lost against the peer's.
        self.session.offer = None;
        self.session.stated = negotiated.peer_direction;
        self.agree(now, negotiated, rng);
        let text = answer.to_string();
        self.session.standing = Some((version, answer));
        Ok(text)
    }

    /// What a renewed offer of the peer asks for: its own direction, and the codec that would be agreed on. Changes
    /// nothing.
    pub(crate) fn review(
        &self,
        offer: &str,
        codecs: &[Codec],
        local: &Local,
    ) -> Result<(Direction, Codec), Error> {
        let offer = sdp::parse(offer).map_err(|error| Error::BadSdp(error.to_string()))?;
        let (_, asked) = sdp::answer(&offer, &self.params(local, &self.spoken_first(codecs), 0))?;
        Ok((asked.peer_direction, asked.codec))
    }

    pub(crate) fn accept_answer(&mut self, now: Instant, answer: &str, rng: &mut Rng) -> Result<(), Error> {
        let offer = self.session.offer.clone().ok_or(Error::WrongState("an answer without an offer"))?;
        let answer = sdp::parse(answer).map_err(|error| Error::BadSdp(error.to_string()))?;
        let negotiated = match (sdp::accept(&offer.1, &answer), &self.session.negotiated) {
            (Err(NegotiationError::NoAudio), Some(before)) if sdp::is_off(&answer) => before.stopped(),
            (result, _) => result?,
        };
        let ours = offer.1.media().iter().find(|media| media.is_live()).map(|media| offer.1.direction(media));
        self.session.wish = ours.unwrap_or(self.session.wish);
        self.session.stated = freely(self.session.wish, negotiated.peer_direction, self.session.stated);
        self.agree(now, negotiated, rng);
        // The offer is kept: a SIP peer may answer more than once, first in a provisional response (RFC 3261 13.2.1).
        self.session.standing = Some(offer);
        Ok(())
    }

    pub(crate) fn add_candidate(&mut self, now: Instant, candidate: &str) -> Result<(), Error> {
        let webrtc = self.transport.webrtc().ok_or(Error::WrongState("only WebRTC legs take candidates"))?;
        webrtc.ice.add_remote_candidate(now, candidate).map_err(|_| Error::BadCandidate)
    }

    fn restart_ice(&mut self, now: Instant, negotiated: &Negotiated, local: &Local, rng: &mut Rng) -> bool {
        let (Peer::WebRtc(peer), Some(webrtc)) = (&negotiated.peer, self.transport.webrtc()) else {
            return false;
        };
        let restarts = webrtc.restarts(peer);
        if restarts {
            webrtc.restart(now, &local.addresses, local.credentials(rng));
        }
        restarts
    }

    fn params<'a>(&'a self, local: &'a Local, codecs: &'a [Codec], session_version: u64) -> Params<'a> {
        let transport = match &self.transport {
            Transport::Rtp(rtp) => sdp::Transport::Rtp { local: rtp.local },
            Transport::WebRtc(webrtc) => sdp::Transport::WebRtc {
                candidates: &local.addresses,
                credentials: webrtc.ice.credentials(),
                fingerprint: &local.fingerprint,
            },
        };
        Params {
            codecs,
            keys: !self.signals_keys,
            session_id: self.session.id,
            session_version,
            direction: self.session.wish,
            ssrc: self.egress.ssrc.0,
            cname: self.control.cname(),
            transport,
            standing: self.standing(),
        }
    }

    fn standing(&self) -> Option<Standing<'_>> {
        let (_, description) = self.session.standing.as_ref()?;
        Some(Standing { negotiated: self.negotiated()?, sections: description.media() })
    }

    fn agree(&mut self, now: Instant, negotiated: Negotiated, rng: &mut Rng) {
        match (&mut self.transport, &negotiated.peer) {
            (Transport::Rtp(rtp), Peer::Rtp(peer)) => rtp.agree(now, peer),
            (Transport::WebRtc(webrtc), Peer::WebRtc(peer)) => webrtc.agree(now, peer),
            // The negotiation follows our own transport, so the two kinds never differ.
            _ => {}
        }
        self.egress.set_clock_rate(negotiated.codec.clock_rate());
        if self.session.negotiated.as_ref().is_none_or(|before| before.direction != negotiated.direction) {
            self.heard = now;
            self.interrupt();
        }
        // Nobody would ever take these keys, and their timer would be due for ever.
        if negotiated.telephone_event.is_none() && self.digits_out.active() {
            self.digits_out.clear();
            self.interrupt();
        }
        let goes_on = |&(payload_type, codec): &(u8, Codec)| {
            negotiated.encoding(payload_type) == Some(Encoding::Audio(codec))
        };
        let first = (negotiated.receive_payload_type, negotiated.codec);
        self.session.spoken = Some(self.session.spoken.filter(goes_on).unwrap_or(first));
        self.session.negotiated = Some(negotiated);
        self.control.start(now, rng);
    }

    pub(crate) fn negotiated(&self) -> Option<&Negotiated> {
        self.session.negotiated.as_ref()
    }

    pub(crate) fn codec(&self) -> Option<Codec> {
        self.negotiated().map(|negotiated| negotiated.codec)
    }

    /// The payload type and codec of the peer's sound.
    pub(crate) fn spoken(&self) -> Option<(u8, Codec)> {
        self.session.spoken
    }

    pub(super) fn hears(&mut self, payload_type: u8, codec: Codec) {
        self.session.spoken = Some((payload_type, codec));
    }

    /// The clock of the peer's timestamps.
    pub(super) fn source_clock(&self) -> u32 {
        self.session.spoken.map_or(crate::rtp::TELEPHONE_CLOCK, |(_, codec)| codec.clock_rate())
    }

    pub(crate) fn telephone_event(&self) -> Option<TelephoneEvent> {
        self.negotiated().and_then(|negotiated| negotiated.telephone_event)
    }

    /// Whether the agreed direction lets us send.
    pub(crate) fn may_send(&self) -> bool {
        self.direction_is(&[Direction::SendRecv, Direction::SendOnly])
    }

    /// Whether the agreed direction lets the peer send.
    pub(crate) fn may_receive(&self) -> bool {
        self.direction_is(&[Direction::SendRecv, Direction::RecvOnly])
    }

    /// What the peer last said that it does, as far as it was free to.
    pub(crate) fn stated(&self) -> Direction {
        self.session.stated
    }

    /// What we do at most towards this peer.
    pub(crate) fn wish(&self) -> Direction {
        self.session.wish
    }

    /// The bridged leg's peer does no more than this.
    pub(crate) fn set_wish(&mut self, wish: Direction) {
        self.session.wish = wish;
    }

    pub(crate) fn two_way(&self) -> bool {
        self.direction_is(&[Direction::SendRecv])
    }

    fn direction_is(&self, directions: &[Direction]) -> bool {
        self.negotiated().is_some_and(|negotiated| directions.contains(&negotiated.direction))
    }
}

/// The same codecs, this one first if it is among them.
pub(crate) fn put_first(first: Codec, codecs: &[Codec]) -> Vec<Codec> {
    let (mut sorted, others): (Vec<Codec>, Vec<Codec>) = codecs.iter().partition(|&&codec| codec == first);
    sorted.extend(others);
    sorted
}

/// What an answer says of its author's own will: where our offer left no choice, what was said before holds.
fn freely(offered: Direction, answered: Direction, before: Direction) -> Direction {
    let sends = if offered.receives() { answered.sends() } else { before.sends() };
    let receives = if offered.sends() { answered.receives() } else { before.receives() };
    Direction::new(sends, receives)
}

impl From<NegotiationError> for Error {
    fn from(error: NegotiationError) -> Self {
        match error {
            NegotiationError::Sdp(error) => Error::BadSdp(error.to_string()),
            other => Error::NotAcceptable { warning: other.warning(), reason: other.to_string() },
        }
    }
}
