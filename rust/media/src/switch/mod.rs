//! The sans-IO face of one media worker: it owns legs and bridges.
//!
//! Datagrams and time go in by `handle_*`; then drain `transmits` (and `clear_transmits`), `poll_event` and
//! `poll_timeout`. It opens no socket, reads no clock and starts no thread.

mod circle;
mod event;
mod inbound;
mod keys;
mod outbox;
mod renew;
mod table;
mod timers;

pub use event::{Component, EndReason, Event, LegId, Path, Transmit};
pub(crate) use outbox::Outbox;
pub use renew::Renewal;

use crate::bridge::Feed;
use crate::codec::Codec;
use crate::dtls::Certificate;
use crate::error::Error;
use crate::leg::{Leg, Local};
use crate::own::OwnPorts;
use crate::ringback::Ringback;
use crate::rng::Rng;
use crate::stats::{LegStats, SwitchStats};
use slab::Slab;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use table::Table;
use timers::Timers;

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
    /// The RTP ports of all switches of the process.
    pub own: Arc<OwnPorts>,
}

/// One media worker's legs and bridges.
#[derive(Debug)]
pub struct Switch {
    local: Local,
    media_timeout: Duration,
    max_legs: usize,
    legs: Slab<Leg>,
    table: Table,
    timers: Timers,
    /// Legs that send nothing, as it would come back.
    cut: Vec<usize>,
    out: Output,
}

/// Where legs put what they have to say, and what they share.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) transmits: Outbox,
    pub(crate) events: VecDeque<Event>,
    pub(crate) totals: SwitchStats,
    pub(crate) rng: Rng,
    pub(crate) own: Arc<OwnPorts>,
}

impl Switch {
    /// An empty switch; the seed feeds every random choice (SSRCs, sequence numbers, ICE credentials).
    #[must_use]
    pub fn new(config: SwitchConfig, seed: [u8; 32]) -> Self {
        let fingerprint = config.certificate.fingerprint();
        let SwitchConfig { webrtc_locals: addresses, certificate, media_timeout, max_legs, own } = config;
        Switch {
            local: Local { addresses, certificate, fingerprint },
            media_timeout,
            max_legs,
            legs: Slab::new(),
            table: Table::default(),
            timers: Timers::default(),
            cut: Vec::new(),
            out: Output {
                transmits: Outbox::default(),
                events: VecDeque::new(),
                totals: SwitchStats::default(),
                rng: Rng::new(seed),
                own,
            },
        }
    }

    /// Adds a SIP leg whose RTP port is `local` (as advertised) and whose RTCP port is one above.
    ///
    /// # Errors
    /// If the id is taken or the switch is full.
    pub fn add_rtp_leg(&mut self, now: Instant, id: LegId, local: SocketAddr) -> Result<(), Error> {
        self.check_room(id)?;
        self.out.own.add_address(local.ip());
        self.out.own.open(local.port());
        let leg = Leg::over_rtp(now, id, local, &mut self.out.rng);
        self.insert(leg);
        Ok(())
    }

    /// RTP legs are reached at this address too, which peers are not told of.
    pub fn add_address(&mut self, address: IpAddr) {
        self.out.own.add_address(address);
    }

    /// Adds a WebRTC leg, reached through the shared WebRTC socket.
    ///
    /// # Errors
    /// If the id is taken or the switch is full.
    pub fn add_webrtc_leg(&mut self, now: Instant, id: LegId) -> Result<(), Error> {
        self.check_room(id)?;
        let leg = Leg::over_webrtc(now, id, &self.local, &mut self.out.rng);
        self.insert(leg);
        Ok(())
    }

    fn check_room(&self, id: LegId) -> Result<(), Error> {
        if self.legs.len() >= self.max_legs {
            return Err(Error::TooManyLegs);
        }
        if self.table.slot(id).is_some() { Err(Error::LegExists) } else { Ok(()) }
    }

    fn insert(&mut self, leg: Leg) {
        let id = leg.id;
        let slot = self.legs.insert(leg);
        self.table.add(id, slot);
        self.note_ufrag(slot);
    }

    /// Makes the SDP offer of a leg.
    ///
    /// # Errors
    /// If there is no such leg.
    pub fn create_offer(&mut self, _now: Instant, id: LegId, codecs: &[Codec]) -> Result<String, Error> {
        self.renew_offer(id, codecs, None, None)
    }

    /// Takes the peer's SDP offer, first or renewed, and gives our answer; `codecs` is our order of preference.
    ///
    /// # Errors
    /// [`Error::BadSdp`] if the offer cannot be read, [`Error::NotAcceptable`] if nothing in it can be used; the leg
    /// is as it was then.
    pub fn accept_offer(
        &mut self,
        now: Instant,
        id: LegId,
        offer: &str,
        codecs: &[Codec],
    ) -> Result<String, Error> {
        let slot = self.table.slot(id).ok_or(Error::UnknownLeg)?;
        let leg = self.legs.get_mut(slot).ok_or(Error::UnknownLeg)?;
        let answer = leg.accept_offer(now, offer, codecs, &self.local, &mut self.out.rng)?;
        self.agreed(now, slot)?;
        Ok(answer)
    }

    /// Takes the peer's SDP answer to our offer. A second answer to the same offer (early media, then the final
    /// one) replaces the first.
    ///
    /// # Errors
    /// As for [`Switch::accept_offer`], and [`Error::WrongState`] if there was no offer.
    pub fn accept_answer(&mut self, now: Instant, id: LegId, answer: &str) -> Result<(), Error> {
        let slot = self.table.slot(id).ok_or(Error::UnknownLeg)?;
        let leg = self.legs.get_mut(slot).ok_or(Error::UnknownLeg)?;
        leg.accept_answer(now, answer, &mut self.out.rng)?;
        self.agreed(now, slot)
    }

    /// Takes one trickled ICE candidate of the peer; `None` ends them.
    ///
    /// # Errors
    /// If there is no such leg, it is no WebRTC leg, or the candidate cannot be read.
    pub fn add_candidate(&mut self, now: Instant, id: LegId, candidate: Option<&str>) -> Result<(), Error> {
        let slot = self.table.slot(id).ok_or(Error::UnknownLeg)?;
        let leg = self.legs.get_mut(slot).ok_or(Error::UnknownLeg)?;
        // The end of the candidates means nothing to an ICE-lite agent: it makes no checks of its own.
        candidate.map_or(Ok(()), |candidate| leg.add_candidate(now, candidate))?;
        self.settle(now, slot);
        Ok(())
    }

    fn agreed(&mut self, now: Instant, slot: usize) -> Result<(), Error> {
        self.note_ufrag(slot);
        self.watch_circle(slot);
        let fed = self.feed(slot);
        self.settle(now, slot);
        fed
    }

    /// The codec that offer and answer agreed on.
    #[must_use]
    pub fn negotiated(&self, id: LegId) -> Option<Codec> {
        self.legs.get(self.table.slot(id)?)?.codec()
    }

    /// Lets two legs hear each other; ends other bridges of the two. A leg that has no codec yet joins in when it
    /// has one.
    ///
    /// # Errors
    /// If one of them is not there, they are the same, or their codecs cannot be joined.
    pub fn bridge(&mut self, now: Instant, a: LegId, b: LegId) -> Result<(), Error> {
        let (slot_a, slot_b) = self.pair(a, b)?;
        let joined = self.join(slot_a, slot_b);
        for slot in [slot_a, slot_b] {
            if let Some(leg) = self.legs.get_mut(slot) {
                leg.on_bridged(now);
            }
            self.settle(now, slot);
        }
        joined
    }

    /// Lets two legs hear each other before their call is answered (early media): nobody is expected to speak yet.
    ///
    /// # Errors
    /// As for [`Switch::bridge`].
    pub fn bridge_early(&mut self, a: LegId, b: LegId) -> Result<(), Error> {
        let (slot_a, slot_b) = self.pair(a, b)?;
        self.join(slot_a, slot_b)?;
        for (slot, other) in [(slot_a, slot_b), (slot_b, slot_a)] {
            let other_sounds = self.legs.get(other).is_some_and(Leg::sounds);
            if let Some(leg) = self.legs.get_mut(slot) {
                leg.on_early_bridge(other_sounds);
            }
        }
        Ok(())
    }

    fn pair(&self, a: LegId, b: LegId) -> Result<(usize, usize), Error> {
        let slots = self.table.slot(a).zip(self.table.slot(b)).ok_or(Error::UnknownLeg)?;
        if slots.0 == slots.1 {
            return Err(Error::WrongState("a leg cannot be bridged to itself"));
        }
        Ok(slots)
    }

    fn join(&mut self, a: usize, b: usize) -> Result<(), Error> {
        if self.legs.get(a).is_some_and(|leg| leg.peer == Some(b)) {
            return Ok(());
        }
        self.separate(a);
        self.separate(b);
        for (slot, peer) in [(a, b), (b, a)] {
            if let Some(leg) = self.legs.get_mut(slot) {
                leg.peer = Some(peer);
            }
        }
        self.out.totals.bridges += 1;
        self.watch_circle(a);
        self.watch_circle(b);
        self.feed(a).inspect_err(|_| self.separate(a))
    }

    /// Plays a ringback tone to a leg's peer, or ends it. It ends by itself when the bridged leg's sound comes, and
    /// when the call is answered, which is when [`Switch::bridge`] is told.
    ///
    /// # Errors
    /// If there is no such leg, or no codec is agreed on yet.
    pub fn ring_back(&mut self, now: Instant, id: LegId, tone: Option<Ringback>) -> Result<(), Error> {
        let slot = self.table.slot(id).ok_or(Error::UnknownLeg)?;
        self.legs.get_mut(slot).ok_or(Error::UnknownLeg)?.ring_back(now, tone)?;
        self.settle(now, slot);
        Ok(())
    }

    /// Ends the bridge of this leg, if it has one.
    pub fn unbridge(&mut self, now: Instant, id: LegId) {
        if let Some(slot) = self.table.slot(id) {
            self.separate(slot);
            self.settle(now, slot);
        }
    }

    fn separate(&mut self, slot: usize) {
        let Some(peer) = self.legs.get(slot).and_then(|leg| leg.peer) else { return };
        self.unwatch_circle(slot);
        self.unwatch_circle(peer);
        self.out.totals.bridges = self.out.totals.bridges.saturating_sub(1);
        for slot in [slot, peer] {
            if let Some(leg) = self.legs.get_mut(slot) {
                leg.peer = None;
                leg.feed = None;
                leg.interrupt();
            }
        }
        self.look_again();
    }

    /// Sets up both directions of a bridge as the two codecs demand; what fits already stays.
    fn feed(&mut self, slot: usize) -> Result<(), Error> {
        let Some(peer) = self.legs.get(slot).and_then(|leg| leg.peer) else { return Ok(()) };
        let Some((a, b)) = self.legs.get2_mut(slot, peer) else { return Ok(()) };
        let (Some(codec_a), Some(codec_b)) = (a.codec(), b.codec()) else { return Ok(()) };
        let (Some((_, from_a)), Some((_, from_b))) = (a.spoken(), b.spoken()) else { return Ok(()) };
        for (leg, from, to) in [(a, from_b, codec_a), (b, from_a, codec_b)] {
            if !leg.feed.as_ref().is_some_and(|feed| feed.joins(from, to)) {
                leg.feed = None;
                leg.interrupt();
                leg.feed = Some(Feed::new(from, to)?);
            }
        }
        Ok(())
    }

    /// Removes a leg: says RTCP BYE and DTLS close_notify into the transmits, frees all it held.
    pub fn remove(&mut self, now: Instant, id: LegId) -> Option<LegStats> {
        let slot = self.table.slot(id)?;
        self.separate(slot);
        let mut leg = self.legs.try_remove(slot)?;
        leg.close(now, &mut self.out);
        if let Some(local) = leg.transport.local() {
            self.out.own.close(local.port());
        }
        self.table.remove(id, slot);
        Some(leg.stats())
    }

    /// What a leg did so far.
    #[must_use]
    pub fn leg_stats(&self, id: LegId) -> Option<LegStats> {
        self.legs.get(self.table.slot(id)?).map(Leg::stats)
    }

    /// What the switch did so far.
    #[must_use]
    pub fn stats(&self) -> SwitchStats {
        SwitchStats { legs: self.legs.len(), ..self.out.totals }
    }

    /// The time that `poll_timeout` named has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, slot)) = self.timers.first().filter(|&(at, _)| at <= now) {
            self.timers.pop();
            let Some(leg) = self.legs.get_mut(slot).filter(|leg| leg.scheduled == Some(at)) else { continue };
            leg.scheduled = None;
            leg.handle_timeout(now, self.media_timeout, &mut self.out);
            self.look_at_cut(slot);
            self.schedule(slot);
        }
    }

    /// When `handle_timeout` must be called next.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        while let Some((at, slot)) = self.timers.first() {
            if self.legs.get(slot).is_some_and(|leg| leg.scheduled == Some(at)) {
                return Some(at);
            }
            self.timers.pop();
        }
        None
    }

    /// After a command or a datagram that may have changed more than the media: sends and schedules what follows.
    fn settle(&mut self, now: Instant, slot: usize) {
        if let Some(leg) = self.legs.get_mut(slot) {
            leg.drain_transport(now, &mut self.out);
        }
        self.schedule(slot);
    }

    /// Notes when a leg must be woken, if that is earlier than noted. A later time is found when the noted one
    /// comes: packets push the media timeout back all the time.
    fn schedule(&mut self, slot: usize) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        let Some(at) = leg.poll_timeout(self.media_timeout) else { return };
        if leg.scheduled.is_none_or(|scheduled| at < scheduled) {
            leg.scheduled = Some(at);
            self.timers.add(at, slot);
        }
    }

    /// The datagrams to send, in order. Send them, then call `clear_transmits`.
    pub fn transmits(&self) -> impl Iterator<Item = Transmit<'_>> {
        self.out.transmits.iter()
    }

    /// Forgets the datagrams that `transmits` showed.
    pub fn clear_transmits(&mut self) {
        self.out.transmits.clear();
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.out.events.pop_front()?;
        if let Event::Digit { leg, digit, duration } = event {
            self.carry_key(leg, digit, duration);
        }
        Some(event)
    }
}
