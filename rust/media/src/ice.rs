//! ICE-lite, controlled (RFC 8445, RFC 8838), around the crate `is`; no other file names it.
//!
//! We have a public address, so we only answer checks: the browser finds the path, we send where it nominates. Its
//! candidates are welcome but not needed, as each check brings its own source (peer-reflexive, RFC 8445 section
//! 7.3.1.3). An ICE restart is a new [`Ice`] with new credentials.
//!
//! Credentials come from a seed of the caller, as the crate's own random numbers are not for secrets. Those it still
//! draws (transaction ids, which a lite agent never sends) stay unused.

use is::stun::{StunMessage, StunPacket};
use is::{Candidate, IceAgent, IceAgentEvent, IceCreds, Protocol};
use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long a path lives without a check. Browsers check every 5 s or faster, and RFC 7675 section 5.1 lets consent
/// lapse after 30 s.
pub const CONSENT: Duration = Duration::from_secs(30);

/// The most sources one agent answers and the most candidates it keeps. The peer knows the password, so this only
/// bounds what a hostile browser can make us remember.
const MAX_SOURCES: usize = 128;

/// The letters of `ice-char` (RFC 8839 section 5.4).
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// User name fragment and password (RFC 8445 section 5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `a=ice-ufrag`
    pub ufrag: String,
    /// `a=ice-pwd`
    pub pwd: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Credentials from 32 bytes of a cryptographic random source: 48 bits make the fragment and 144 the password,
    /// where RFC 8445 section 5.3 asks for 24 and 128.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let text: String = seed.iter().map(|byte| ice_char(*byte)).collect();
        let (ufrag, pwd) = text.split_at(8);
        Self { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() }
    }
}

fn ice_char(byte: u8) -> char {
    ICE_CHARS.get(usize::from(byte & 63)).map_or('A', |letter| char::from(*letter))
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
    /// The first pair is nominated, or the first after [`Event::Disconnected`]; [`Event::Nominated`] follows.
    Connected,
    /// A pair was nominated; send there from now on.
    Nominated {
        /// Our address.
        local: SocketAddr,
        /// The peer's address.
        remote: SocketAddr,
    },
    /// No check came for [`CONSENT`].
    Disconnected,
}

/// A remote candidate that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad ICE candidate: {0}")]
pub struct BadCandidate(String);

/// The ICE-lite agent of one leg.
pub struct Ice {
    agent: IceAgent,
    credentials: Credentials,
    sources: Vec<SocketAddr>,
    candidates: usize,
    connected: bool,
    /// When the last check came, or when we began to wait for the first.
    heard: Option<Instant>,
    events: VecDeque<Event>,
}

impl fmt::Debug for Ice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ice")
            .field("connected", &self.connected)
            .field("heard", &self.heard)
            .finish_non_exhaustive()
    }
}

impl Ice {
    /// An agent with our host candidates. Addresses that cannot be a candidate (0.0.0.0) are left out.
    #[must_use]
    pub fn new(locals: &[SocketAddr], credentials: Credentials, now: Instant) -> Self {
        let mut agent =
            IceAgent::new(IceCreds { ufrag: credentials.ufrag.clone(), pass: credentials.pwd.clone() });
        agent.set_ice_lite(true);
        agent.set_controlling(false);
        // RFC 8445 section 6.1.1: the full agent controls. With the highest tie-breaker we win every role conflict.
        agent.set_control_tie_breaker(u64::MAX);
        for local in locals {
            if let Ok(candidate) = Candidate::host(*local, Protocol::Udp) {
                agent.add_local_candidate(candidate);
            }
        }
        agent.handle_timeout(now);
        let sources = Vec::new();
        Self {
            agent,
            credentials,
            sources,
            candidates: 0,
            connected: false,
            heard: None,
            events: VecDeque::new(),
        }
    }

    /// Our credentials.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The peer's credentials, from its SDP. Checks that came earlier are answered now.
    pub fn set_remote(&mut self, now: Instant, credentials: Credentials) {
        let Credentials { ufrag, pwd: pass } = credentials;
        self.agent.set_remote_credentials(IceCreds { ufrag, pass });
        self.heard.get_or_insert(now);
        // The agent takes one waiting check at a time.
        for _ in 0..8 {
            self.run(now);
        }
    }

    /// A candidate of the peer, from SDP or trickled; with or without `a=` and `candidate:` before it.
    ///
    /// # Errors
    /// If the line cannot be read. Candidates we cannot use (TCP, mDNS names, a second component) are no error.
    pub fn add_remote_candidate(&mut self, now: Instant, candidate: &str) -> Result<(), BadCandidate> {
        let value = candidate.trim();
        let value = value.strip_prefix("a=").unwrap_or(value);
        let value = value.strip_prefix("candidate:").unwrap_or(value);
        if value.is_empty() || self.candidates >= MAX_SOURCES {
            return Ok(());
        }
        if usable(value).ok_or_else(|| BadCandidate(value.chars().take(128).collect()))? {
            let parsed = Candidate::from_sdp_string(&format!("candidate:{value}"));
            self.agent.add_remote_candidate(parsed.map_err(|error| BadCandidate(error.to_string()))?);
            self.candidates += 1;
            self.run(now);
        }
        Ok(())
    }

    /// A STUN datagram came; true if it belongs to this agent and is authentic.
    pub fn handle_stun(&mut self, now: Instant, to: SocketAddr, from: SocketAddr, datagram: &[u8]) -> bool {
        let Ok(message) = StunMessage::parse(datagram) else { return false };
        if !message.is_binding_request() || !self.knows(from) {
            return false;
        }
        let packet = StunPacket { proto: Protocol::Udp, source: from, destination: to, message };
        if !self.agent.handle_packet(now, packet) {
            return false;
        }
        self.heard = Some(now);
        self.learn(from);
        // The agent weighs nominations only when time passes.
        self.run(now);
        true
    }

    /// Whether there is room for this source.
    fn knows(&self, from: SocketAddr) -> bool {
        self.sources.len() < MAX_SOURCES || self.sources.contains(&from)
    }

    fn learn(&mut self, from: SocketAddr) {
        if !self.sources.contains(&from) {
            self.sources.push(from);
        }
    }

    /// Whether authentic checks came from this address: the switch may then file it under this leg.
    #[must_use]
    pub fn has_source(&self, from: SocketAddr) -> bool {
        self.sources.contains(&from)
    }

    /// Time passes.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.run(now);
        if self.deadline().is_some_and(|deadline| now >= deadline) {
            self.connected = false;
            self.heard = None;
            self.events.push_back(Event::Disconnected);
        }
    }

    /// Lets the agent work and translates its events.
    fn run(&mut self, now: Instant) {
        self.agent.handle_timeout(now);
        while let Some(event) = self.agent.poll_event() {
            // Its own idea of disconnection (15 s) is shorter than consent; ours counts.
            if let IceAgentEvent::NominatedSend { source, destination, .. } = event {
                if !self.connected {
                    self.connected = true;
                    self.events.push_back(Event::Connected);
                }
                self.events.push_back(Event::Nominated { local: source, remote: destination });
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.heard.map(|heard| heard + CONSENT)
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        let transmit = self.agent.poll_transmit()?;
        let payload = transmit.contents.into();
        Some(Transmit { local: transmit.source, remote: transmit.destination, payload })
    }

    /// When to call [`Ice::handle_timeout`].
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        // Without anything to wait for, the agent would wake us every three seconds for nothing.
        let deadline = self.deadline()?;
        Some(self.agent.poll_timeout().map_or(deadline, |agent| agent.min(deadline)))
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

/// Whether a candidate (RFC 8839 section 5.1) is one we can be reached from: UDP, component 1, an IP address and a
/// port. `None` if it is no candidate.
fn usable(value: &str) -> Option<bool> {
    let mut words = value.split_ascii_whitespace();
    let (_foundation, component) = (words.next()?, words.next()?.parse::<u16>().ok()?);
    let (transport, _priority) = (words.next()?, words.next()?.parse::<u32>().ok()?);
    let (address, port) = (words.next()?, words.next()?.parse::<u16>().ok()?);
    words.next().filter(|word| *word == "typ")?;
    words.next()?;
    // Browsers hide host addresses behind mDNS names (RFC 8828); the check will show the address.
    let address = address.parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast());
    Some(component == 1 && transport.eq_ignore_ascii_case("udp") && address.is_some() && port != 0)
}

/// Whether a datagram on a shared port is STUN (RFC 7983 section 7: first byte 0..=3, and the magic cookie).
#[must_use]
pub fn is_stun(datagram: &[u8]) -> bool {
    matches!(datagram, [0..=3, _, _, _, 0x21, 0x12, 0xa4, 0x42, ..]) && datagram.len() >= 20
}

/// The user name fragment of ours that a binding request names (RFC 8445 section 7.2.2: `ours:theirs`). Nothing is
/// authenticated by this; it only says which leg may try.
#[must_use]
pub fn stun_username(datagram: &[u8]) -> Option<&str> {
    const USERNAME: u16 = 0x0006;
    let mut rest = is_stun(datagram).then_some(datagram)?.get(20..)?;
    while let [t0, t1, l0, l1, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let value = after.get(..length)?;
        if u16::from_be_bytes([*t0, *t1]) == USERNAME {
            return std::str::from_utf8(value).ok()?.split_once(':').map(|(ours, _)| ours);
        }
        // Attributes are padded to four bytes (RFC 8489 section 14).
        rest = after.get(length.next_multiple_of(4)..)?;
    }
    None
}
