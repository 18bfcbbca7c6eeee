//! Offer and answer of one leg: what is put into the descriptions, and what the agreement changes.

use super::{Leg, Transport};
use crate::Error;
use crate::codec::Codec;
use crate::dtls::Certificate;
use crate::ice::Credentials;
use crate::rng::Rng;
use crate::sdp::{self, Direction, Fingerprint, Negotiated, NegotiationError, Params, Peer, TelephoneEvent};
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
    version: u64,
    /// Our offer that waits for its answer.
    offer: Option<sdp::Session>,
    negotiated: Option<Negotiated>,
}

impl Session {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        // RFC 8866 5.2: numeric; kept within 62 bits, as JSEP wants it (RFC 8829 5.2.1).
        Session { id: rng.u64() >> 2, version: 0, offer: None, negotiated: None }
    }
}

impl Leg {
    pub(crate) fn create_offer(&mut self, local: &Local, codecs: &[Codec]) -> String {
        self.session.version += 1;
        let offer = sdp::offer(&self.params(local, codecs));
        let text = offer.to_string();
        self.session.offer = Some(offer);
        text
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
        self.session.version += 1;
        let (mut answer, mut negotiated) = sdp::answer(&offer, &self.params(local, codecs))?;
        if self.restart_ice(now, &negotiated, local, rng) {
            // The answer carries the new agent's credentials (RFC 8839 4.4.1.1.1).
            (answer, negotiated) = sdp::answer(&offer, &self.params(local, codecs))?;
        }
        // Our own offer, if one is out, has lost against the peer's.
        self.session.offer = None;
        self.agree(now, negotiated, rng);
        Ok(answer.to_string())
    }

    pub(crate) fn accept_answer(&mut self, now: Instant, answer: &str, rng: &mut Rng) -> Result<(), Error> {
        let offer = self.session.offer.as_ref().ok_or(Error::WrongState("an answer without an offer"))?;
        let answer = sdp::parse(answer).map_err(|error| Error::BadSdp(error.to_string()))?;
        let negotiated = sdp::accept(offer, &answer)?;
        // Kept: a SIP peer may answer more than once, first in a provisional response (RFC 3261 13.2.1).
        self.agree(now, negotiated, rng);
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

    fn params<'a>(&'a self, local: &'a Local, codecs: &'a [Codec]) -> Params<'a> {
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
            session_id: self.session.id,
            session_version: self.session.version,
            direction: Direction::SendRecv,
            ssrc: self.egress.ssrc.0,
            cname: self.control.cname(),
            transport,
        }
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
        self.session.negotiated = Some(negotiated);
        self.control.start(now, rng);
    }

    pub(crate) fn negotiated(&self) -> Option<&Negotiated> {
        self.session.negotiated.as_ref()
    }

    pub(crate) fn codec(&self) -> Option<Codec> {
        self.negotiated().map(|negotiated| negotiated.codec)
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

    pub(crate) fn two_way(&self) -> bool {
        self.direction_is(&[Direction::SendRecv])
    }

    fn direction_is(&self, directions: &[Direction]) -> bool {
        self.negotiated().is_some_and(|negotiated| directions.contains(&negotiated.direction))
    }
}

impl From<NegotiationError> for Error {
    fn from(error: NegotiationError) -> Self {
        match error {
            NegotiationError::Sdp(error) => Error::BadSdp(error.to_string()),
            other => Error::NotAcceptable(other.to_string()),
        }
    }
}
