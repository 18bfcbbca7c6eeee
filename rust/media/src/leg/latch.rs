//! Where a SIP peer's RTP comes from, and so where ours goes.
//!
//! A peer behind NAT sends from another address than its SDP says, so the address is learned; but whoever can guess
//! a port could then take the call over. Hence: learning happens only inside a short window, the SDP's own address
//! beats its host's other ports, those beat strangers, and a stranger may take over only with the SSRC that was there
//! before. After the window everything is frozen, but for a NAT that binds anew in mid-call: a stream that fell silent
//! may go on from another address where it stopped, as nobody off its path can know SSRC, sequence number and clock.

use crate::rtp::Ssrc;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long after the start, a new address in the SDP or the first bridging a source may be learned.
const WINDOW: Duration = Duration::from_secs(5);
/// How long a frozen source must have been silent before its stream may go on elsewhere, and how often it may move.
const SILENCE: Duration = Duration::from_secs(1);
const MOVES_APART: Duration = Duration::from_secs(5);

/// The latch of one leg.
#[derive(Debug)]
pub(crate) struct Latch {
    expected: Option<SocketAddr>,
    learned: Option<(SocketAddr, Ssrc)>,
    open_until: Instant,
    moved: Option<Instant>,
}

impl Latch {
    pub(crate) fn new(now: Instant) -> Self {
        Latch { expected: None, learned: None, open_until: now + WINDOW, moved: None }
    }

    /// The peer's SDP names an address; a new one is learned anew.
    pub(crate) fn expect(&mut self, now: Instant, address: Option<SocketAddr>) {
        if self.expected != address && address.is_some() {
            self.expected = address;
            self.learned = None;
            self.open_until = now + WINDOW;
        }
    }

    /// The call begins: who sent something while it rang, when a peer is silent, has no claim to it.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.learned = self.learned.filter(|&(address, _)| self.rank(address) == EXACT);
        self.open_until = now + WINDOW;
    }

    /// A stream goes on from another address where it stopped; `heard` is when it stopped.
    pub(crate) fn move_to(&mut self, now: Instant, from: SocketAddr, ssrc: Ssrc, heard: Instant) -> bool {
        let known = self.learned.is_some_and(|(_, known)| known == ssrc);
        let silent = now.saturating_duration_since(heard) >= SILENCE;
        let rested = self.moved.is_none_or(|moved| now.saturating_duration_since(moved) >= MOVES_APART);
        if !(known && silent && rested) {
            return false;
        }
        self.moved = Some(now);
        self.learn(from, ssrc)
    }

    /// Where to send.
    pub(crate) fn remote(&self) -> Option<SocketAddr> {
        self.learned.map(|(address, _)| address).or(self.expected)
    }

    /// Where the SDP says that the peer is.
    pub(crate) fn expected(&self) -> Option<SocketAddr> {
        self.expected
    }

    /// Whether RTP from this address is the peer's. A new one is asked about, beside that of the SDP.
    pub(crate) fn accept(
        &mut self,
        now: Instant,
        from: SocketAddr,
        ssrc: Ssrc,
        may_be: impl FnOnce(Option<SocketAddr>) -> bool,
    ) -> bool {
        match &mut self.learned {
            Some((address, known)) if *address == from => {
                *known = ssrc;
                true
            }
            Some((address, known)) => {
                let (old, same_source) = (*address, *known == ssrc);
                let better = self.rank(from) > self.rank(old) || (same_source && self.rank(old) < EXACT);
                now < self.open_until && better && may_be(self.expected) && self.learn(from, ssrc)
            }
            None => {
                let due = now < self.open_until || self.expected == Some(from);
                due && may_be(self.expected) && self.learn(from, ssrc)
            }
        }
    }

    /// Whether RTCP from this address is the peer's: its port is not latched, its host must be.
    pub(crate) fn is_host(&self, from: SocketAddr) -> bool {
        self.remote().is_some_and(|remote| remote.ip() == from.ip())
            || self.expected.is_some_and(|expected| expected.ip() == from.ip())
    }

    fn learn(&mut self, from: SocketAddr, ssrc: Ssrc) -> bool {
        self.learned = Some((from, ssrc));
        true
    }

    fn rank(&self, address: SocketAddr) -> u8 {
        match self.expected {
            Some(expected) if expected == address => EXACT,
            Some(expected) if expected.ip() == address.ip() => SAME_HOST,
            _ => STRANGER,
        }
    }
}

const EXACT: u8 = 2;
const SAME_HOST: u8 = 1;
const STRANGER: u8 = 0;
