//! How a peer wants to be spoken to: what a trunk says about the messages of its legs.

use std::sync::Arc;

use crate::admission::Admission;
use crate::digest::Credentials;
use crate::target::Failover;
use crate::users::Guard;

/// The dialect of one peer. Each leg keeps the one it began with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Names it in events and records; empty for nobody in particular.
    pub name: Arc<str>,
    /// Who we are where it challenges us (RFC 3261 22); `None` leaves challenges unanswered.
    pub credentials: Option<Arc<Credentials>>,
    /// Which of its calls come in.
    pub admission: Admission,
    /// When its next target is tried.
    pub failover: Failover,
    /// Reliable provisional responses (RFC 3262).
    pub reliable: Support,
    /// Session timers (RFC 4028).
    pub session: SessionTimer,
    /// What its calls have to prove; `None` lets them in by their address.
    pub guard: Option<Arc<Guard>>,
    /// Users' phones may sit at its addresses, and are asked who they are.
    pub phones: bool,
    /// Requests in a dialog take the flow of the first one, whatever Contact says: a phone behind a NAT (RFC 5626 5.3).
    pub keeps_flow: bool,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            name: "".into(),
            credentials: None,
            admission: Admission::default(),
            failover: Failover::default(),
            reliable: Support::default(),
            session: SessionTimer::default(),
            guard: None,
            phones: true,
            keeps_flow: false,
        }
    }
}

/// How far an extension of SIP goes with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Support {
    /// Not at all.
    #[default]
    Off,
    /// Where the peer has it too.
    Supported,
    /// Always: a peer that cannot is refused.
    Required,
}

/// How long a session with a peer lasts unless it is refreshed (RFC 4028).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionTimer {
    /// Whether it runs. [`Support::Required`] keeps it up alone where the peer that calls does not know it.
    pub support: Support,
    /// The interval we propose, in seconds.
    pub expires: u32,
    /// The shortest interval we accept, in seconds; 90 at least (RFC 4028 5).
    pub min: u32,
}

impl Default for SessionTimer {
    fn default() -> Self {
        Self { support: Support::Off, expires: 1800, min: 90 }
    }
}
