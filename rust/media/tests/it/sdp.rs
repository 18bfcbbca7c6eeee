//! SDP: the line model against real peers, and offer/answer with ourselves.

mod model;
mod samples;
mod sip;
mod webrtc;

use std::net::SocketAddr;
use telephony_media::codec::Codec;
use telephony_media::ice::Credentials;
use telephony_media::sdp::{Direction, Fingerprint, HashFunction, Params, Session, Transport, parse};

pub(crate) const CODECS: [Codec; 3] = [Codec::Pcmu, Codec::Pcma, Codec::Opus];

/// What we have to offer, alive for as long as the parameters borrow it.
pub(crate) struct Local {
    candidates: Vec<SocketAddr>,
    credentials: Credentials,
    fingerprint: Fingerprint,
}

impl Local {
    pub(crate) fn new() -> Self {
        Self {
            candidates: vec!["192.0.2.1:4000".parse().unwrap(), "[2001:db8::1]:4000".parse().unwrap()],
            credentials: Credentials {
                ufrag: "ourufrag".to_owned(),
                pwd: "our-password-of-24-chars".to_owned(),
            },
            fingerprint: Fingerprint { hash: HashFunction::Sha256, digest: vec![0xab; 32] },
        }
    }

    pub(crate) fn webrtc<'a>(&'a self, codecs: &'a [Codec]) -> Params<'a> {
        let (candidates, credentials) = (self.candidates.as_slice(), &self.credentials);
        let transport = Transport::WebRtc { candidates, credentials, fingerprint: &self.fingerprint };
        params(codecs, transport)
    }
}

pub(crate) fn rtp<'a>(local: &str, codecs: &'a [Codec]) -> Params<'a> {
    params(codecs, Transport::Rtp { local: local.parse().unwrap() })
}

fn params<'a>(codecs: &'a [Codec], transport: Transport<'a>) -> Params<'a> {
    Params {
        keys: true,
        codecs,
        session_id: 42,
        session_version: 1,
        direction: Direction::SendRecv,
        ssrc: 0x1234_5678,
        cname: "c-name",
        transport,
        standing: None,
    }
}

/// What the peer would read of ours.
pub(crate) fn over_the_wire(session: &Session) -> Session {
    let text = session.to_string();
    let parsed = parse(&text).unwrap_or_else(|error| panic!("{error} in {text}"));
    assert_eq!(parsed.to_string(), text);
    assert_eq!(parsed, *session);
    parsed
}
