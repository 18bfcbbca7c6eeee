//! What goes in and out of a switch beside media: ids, paths, events.

use std::net::SocketAddr;
use std::time::Duration;

/// Names one leg. The engine gives it out; here it is opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegId(pub u64);

/// Which of the two ports of an RTP session (RFC 3550 11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Component {
    /// The media port; RTCP too where it is multiplexed (RFC 5761).
    Rtp,
    /// The control port, one above.
    Rtcp,
}

/// Which socket a datagram leaves by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// One of the leg's own two ports.
    Leg(LegId, Component),
    /// The worker's shared WebRTC socket.
    WebRtc {
        /// The local address to send from.
        local: SocketAddr,
    },
}

/// One datagram to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit<'a> {
    /// The socket to send by.
    pub path: Path,
    /// Where to.
    pub to: SocketAddr,
    /// The datagram.
    pub payload: &'a [u8],
}

/// What happened to a leg.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// ICE and DTLS are up, or the first RTP of a SIP leg arrived. Once per leg.
    Connected {
        /// The leg.
        leg: LegId,
    },
    /// The peer pressed a key (RFC 4733); once per key, when its end packet (or the next key) arrives.
    Digit {
        /// The leg it arrived on.
        leg: LegId,
        /// `0-9 * # A-D`.
        digit: char,
        /// How long the key was down.
        duration: Duration,
    },
    /// A key for the peer of a leg whose keys go by signalling.
    Key {
        /// The leg.
        leg: LegId,
        /// `0-9 * # A-D`.
        digit: char,
        /// How long.
        duration: Duration,
    },
    /// The leg is of no more use. Once per leg; it stays until `remove`.
    Ended {
        /// The leg.
        leg: LegId,
        /// Why.
        reason: EndReason,
    },
}

/// Why a leg ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// ICE found no path, or lost the one it had.
    IceFailed,
    /// The DTLS handshake failed.
    DtlsFailed(String),
    /// Nothing arrived for the configured time.
    MediaTimeout,
    /// The peer closed the DTLS association.
    Closed,
}
