//! The sans-IO face of one media worker: it owns legs and bridges.
//!
//! Datagrams and time go in by `handle_*`; then drain `transmits` (and `clear_transmits`), `poll_event` and
//! `poll_timeout`. It opens no socket, reads no clock and starts no thread.

mod event;

pub use event::{Component, EndReason, Event, LegId, Path, Transmit};

use crate::codec::Codec;
use crate::dtls::Certificate;
use crate::error::Error;
use crate::stats::{LegStats, SwitchStats};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a switch is set up.
#[derive(Debug, Clone)]
pub struct SwitchConfig {
    /// Host candidates of WebRTC legs: the addresses of this worker's WebRTC socket.
    pub webrtc_locals: Vec<SocketAddr>,
    /// The DTLS certificate of all WebRTC legs.
    pub certificate: Arc<Certificate>,
    /// A bridged leg that receives nothing for so long has ended; zero means never.
    pub media_timeout: Duration,
    /// More legs than this are refused.
    pub max_legs: usize,
}

/// One media worker's legs and bridges.
pub struct Switch {
    config: SwitchConfig,
}

impl Switch {
    /// An empty switch; the seed feeds every random choice (SSRCs, sequence numbers, ICE credentials).
    #[must_use]
    pub fn new(config: SwitchConfig, _seed: [u8; 32]) -> Self {
        Switch { config }
    }

    /// Adds a SIP leg whose RTP port is `local` (as advertised) and whose RTCP port is one above.
    pub fn add_rtp_leg(&mut self, _now: Instant, _id: LegId, _local: SocketAddr) -> Result<(), Error> {
        if self.config.max_legs == 0 { Err(Error::TooManyLegs) } else { Ok(()) }
    }

    /// Adds a WebRTC leg, reached through the shared WebRTC socket.
    pub fn add_webrtc_leg(&mut self, _now: Instant, _id: LegId) -> Result<(), Error> {
        Ok(())
    }

    /// Makes the SDP offer of a leg.
    pub fn create_offer(&mut self, _now: Instant, _id: LegId, _codecs: &[Codec]) -> Result<String, Error> {
        Err(Error::UnknownLeg)
    }

    /// Takes the peer's SDP offer, first or renewed, and gives our answer; `codecs` is our order of preference.
    pub fn accept_offer(
        &mut self,
        _now: Instant,
        _id: LegId,
        _offer: &str,
        _codecs: &[Codec],
    ) -> Result<String, Error> {
        Err(Error::UnknownLeg)
    }

    /// Takes the peer's SDP answer to our offer.
    pub fn accept_answer(&mut self, _now: Instant, _id: LegId, _answer: &str) -> Result<(), Error> {
        Err(Error::UnknownLeg)
    }

    /// Takes one trickled ICE candidate of the peer; `None` ends them.
    pub fn add_candidate(&mut self, _now: Instant, _id: LegId, _candidate: Option<&str>) -> Result<(), Error> {
        Err(Error::UnknownLeg)
    }

    /// The codec that offer and answer agreed on.
    #[must_use]
    pub fn negotiated(&self, _id: LegId) -> Option<Codec> {
        None
    }

    /// Lets two legs hear each other; ends other bridges of the two.
    pub fn bridge(&mut self, _now: Instant, _a: LegId, _b: LegId) -> Result<(), Error> {
        Err(Error::UnknownLeg)
    }

    /// Ends the bridge of this leg, if it has one.
    pub fn unbridge(&mut self, _now: Instant, _id: LegId) {}

    /// Sends digits (`0-9 * # A-D`) as RFC 4733 events towards the leg's peer, each `duration` long.
    pub fn send_digits(
        &mut self,
        _now: Instant,
        _id: LegId,
        _digits: &str,
        _duration: Duration,
    ) -> Result<(), Error> {
        Err(Error::UnknownLeg)
    }

    /// Removes a leg: says RTCP BYE and DTLS close_notify into the transmits, frees all it held.
    pub fn remove(&mut self, _now: Instant, _id: LegId) -> Option<LegStats> {
        None
    }

    /// What a leg did so far.
    #[must_use]
    pub fn leg_stats(&self, _id: LegId) -> Option<LegStats> {
        None
    }

    /// What the switch did so far.
    #[must_use]
    pub fn stats(&self) -> SwitchStats {
        SwitchStats::default()
    }

    /// A datagram arrived on one of a SIP leg's own ports.
    pub fn handle_rtp(
        &mut self,
        _now: Instant,
        _id: LegId,
        _component: Component,
        _from: SocketAddr,
        _datagram: &mut [u8],
    ) {
    }

    /// A datagram arrived on the shared WebRTC socket, at local address `to`.
    pub fn handle_webrtc(&mut self, _now: Instant, _to: SocketAddr, _from: SocketAddr, _datagram: &mut [u8]) {}

    /// The time that `poll_timeout` named has come.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// When `handle_timeout` must be called next.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }

    /// The datagrams to send, in order. Send them, then call `clear_transmits`.
    pub fn transmits(&self) -> impl Iterator<Item = Transmit<'_>> {
        std::iter::empty()
    }

    /// Forgets the datagrams that `transmits` showed.
    pub fn clear_transmits(&mut self) {}

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }
}
