//! DTLS 1.2 and 1.3 for SRTP keys (RFC 5763, RFC 5764).

use crate::sdp::Fingerprint;
use crate::srtp::KeyMaterial;
use std::time::{Duration, Instant};

/// Our certificate and its private key; one serves every leg of a process.
#[derive(Debug, Clone)]
pub struct Certificate {}

/// DTLS could not be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("DTLS: {0}")]
pub struct DtlsError(pub String);

impl Certificate {
    /// A self-signed ECDSA P-256 certificate; `since_epoch` is the time since 1970.
    ///
    /// # Errors
    /// If the certificate cannot be encoded.
    pub fn generate(_seed: [u8; 32], _since_epoch: Duration) -> Result<Self, DtlsError> {
        Err(DtlsError(String::new()))
    }
    /// Its SHA-256 fingerprint, for `a=fingerprint` (RFC 8122 section 5).
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        unimplemented!()
    }
}

/// Which side begins the handshake (RFC 8842 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `setup:active`: we are the client.
    Client,
    /// `setup:passive`: we are the server.
    Server,
}

/// What happened to the association.
#[derive(Debug)]
pub enum Event {
    /// The handshake is done and the peer's fingerprint matched.
    Connected(KeyMaterial),
    /// The handshake failed; nothing follows.
    Failed(String),
    /// The peer said close_notify; nothing follows.
    Closed,
}

/// One DTLS association.
#[derive(Debug)]
pub struct Dtls {}

impl Dtls {
    /// A new association. `peer` are the fingerprints of the peer's SDP; one of them must match its certificate.
    ///
    /// # Errors
    /// If the library refuses our configuration.
    pub fn new(_certificate: &Certificate, _role: Role, _peer: &[Fingerprint], _now: Instant) -> Result<Self, DtlsError> {
        Ok(Self {})
    }
    /// Our role.
    #[must_use]
    pub fn role(&self) -> Role {
        Role::Server
    }
    /// A datagram of the peer.
    pub fn handle_datagram(&mut self, _now: Instant, _datagram: &[u8]) {}
    /// Time passes.
    pub fn handle_timeout(&mut self, _now: Instant) {}
    /// Says close_notify; drain [`Dtls::poll_transmit`] afterwards.
    pub fn close(&mut self, _now: Instant) {}
    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        None
    }
    /// When to call [`Dtls::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }
}

/// Whether a datagram on a shared port is DTLS (RFC 7983 section 7: first byte 20..=63).
#[must_use]
pub fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(20..=63))
}
