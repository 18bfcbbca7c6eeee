//! ICE-lite, controlled (RFC 8445, RFC 8838, RFC 7675 in spirit).

use std::net::SocketAddr;
use std::time::Instant;

/// User name fragment and password (RFC 8445 section 5.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `a=ice-ufrag`
    pub ufrag: String,
    /// `a=ice-pwd`
    pub pwd: String,
}

impl Credentials {
    /// Credentials from 32 bytes of a cryptographic random source; 192 bits go into the password.
    #[must_use]
    pub fn from_seed(_seed: [u8; 32]) -> Self {
        Self { ufrag: String::new(), pwd: String::new() }
    }
}

/// A STUN datagram to send from `local` to `remote`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// The host candidate to send from.
    pub local: SocketAddr,
    /// The peer.
    pub remote: SocketAddr,
    /// The datagram.
    pub payload: Vec<u8>,
}

/// What happened to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A pair was nominated (again); send there from now on. The first one means connected.
    Nominated {
        /// Our address.
        local: SocketAddr,
        /// The peer's address.
        remote: SocketAddr,
    },
    /// The peer's checks reach us.
    Connected,
    /// No check came for 30 s (RFC 7675 section 5.1 gives consent that long).
    Disconnected,
}

/// A remote candidate that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad ICE candidate: {0}")]
pub struct BadCandidate(pub String);

/// The ICE-lite agent of one leg.
#[derive(Debug)]
pub struct Ice {}

impl Ice {
    /// An agent with our host candidates.
    #[must_use]
    pub fn new(_locals: &[SocketAddr], _credentials: Credentials, _now: Instant) -> Self {
        Self {}
    }
    /// Our credentials.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        unimplemented!()
    }
    /// The peer's credentials, from its SDP.
    pub fn set_remote(&mut self, _now: Instant, _credentials: Credentials) {}
    /// A candidate of the peer, from SDP or trickled; with or without `candidate:` or `a=` before it.
    ///
    /// # Errors
    /// If the line cannot be read. Candidates we cannot use (TCP, mDNS names) are no error and are ignored.
    pub fn add_remote_candidate(&mut self, _now: Instant, _candidate: &str) -> Result<(), BadCandidate> {
        Ok(())
    }
    /// A STUN datagram came; true if it belongs to this agent and is authentic.
    pub fn handle_stun(&mut self, _now: Instant, _to: SocketAddr, _from: SocketAddr, _datagram: &[u8]) -> bool {
        false
    }
    /// Time passes.
    pub fn handle_timeout(&mut self, _now: Instant) {}
    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        None
    }
    /// When to call [`Ice::handle_timeout`].
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }
    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }
}

/// Whether a datagram on a shared port is STUN (RFC 7983 section 7: first byte 0..=3, and the magic cookie).
#[must_use]
pub fn is_stun(_datagram: &[u8]) -> bool {
    false
}

/// The user name fragment of ours that a binding request names (RFC 8445 section 7.2.2: `ours:theirs`).
#[must_use]
pub fn stun_username(_datagram: &[u8]) -> Option<&str> {
    None
}
