//! Where a request may be sent, best first, and how patient we are with each place (RFC 3263 4.3).

use std::time::Duration;

use crate::Flow;

/// One place a request may be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// From which of our addresses to which next hop.
    pub flow: Flow,
    /// `host:port` and URI parameters for Contact on this flow; its host and port are the sent-by of Via.
    pub contact: String,
}

/// When the next target is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failover {
    /// How long a target may say nothing at all while others are left, of these or of the owner's; shorter than Timer B,
    /// or Timer B decides.
    pub patience: Duration,
}

impl Default for Failover {
    fn default() -> Self {
        Self { patience: Duration::from_secs(4) }
    }
}

/// Why a target is no use now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It said nothing in time.
    Silent,
    /// The network refused what was sent to it.
    Unreachable,
    /// It answered 503, and perhaps how long to leave it alone (RFC 3261 21.5.4).
    Unavailable {
        /// Retry-After.
        retry_after: Option<Duration>,
    },
}
