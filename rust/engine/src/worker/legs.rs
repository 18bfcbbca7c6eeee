//! The legs of one worker, and the ports of those that have their own.

use crate::ports::{Pair, PortPool};
use crate::socket::{Socket, Watch};
use crate::{EngineError, Kind, LegId};
use slab::Slab;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Instant;
use telephony_media::Component;

/// Ended browsers' legs that are remembered: more than end while one command is under way.
const RETIRED: usize = 1024;

/// What a leg has here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leg {
    /// Its own port pair, by its slot.
    Rtp { slot: usize },
    /// A share of the worker's socket.
    WebRtc,
}

/// The table of legs.
pub(super) struct Legs {
    table: HashMap<LegId, Leg>,
    pairs: Slab<(LegId, Pair)>,
    pool: PortPool,
    /// The browsers' legs that ended last. A late command must not bring one back, of which nobody would know.
    retired: VecDeque<LegId>,
}

impl Legs {
    pub(super) fn new(pool: PortPool) -> Self {
        Self { table: HashMap::new(), pairs: Slab::new(), pool, retired: VecDeque::new() }
    }

    pub(super) fn find(&self, leg: LegId) -> Option<Leg> {
        self.table.get(&leg).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn ids(&self) -> Vec<LegId> {
        self.table.keys().copied().collect()
    }

    pub(super) fn add_webrtc(&mut self, leg: LegId) {
        self.table.insert(leg, Leg::WebRtc);
    }

    /// The end of a leg was reported: it never begins again.
    pub(super) fn retire(&mut self, leg: LegId) {
        // A SIP leg's work comes from the SIP thread, whose last word its end is.
        if leg.kind() == Kind::Sip {
            return;
        }
        if self.retired.len() >= RETIRED {
            self.retired.pop_front();
        }
        self.retired.push_back(leg);
    }

    pub(super) fn is_retired(&self, leg: LegId) -> bool {
        self.retired.contains(&leg)
    }

    /// Binds ports for a leg and watches them; the RTP port.
    pub(super) fn add_rtp(
        &mut self,
        now: Instant,
        leg: LegId,
        ip: IpAddr,
        watch: &Watch,
    ) -> Result<u16, EngineError> {
        let pair = self.pool.allocate(now, ip)?;
        let slot = self.pairs.vacant_key();
        let watched = watch
            .add(pair.rtp.fd(), token(slot, Component::Rtp))
            .and_then(|()| watch.add(pair.rtcp.fd(), token(slot, Component::Rtcp)));
        if let Err(error) = watched {
            self.pool.release(now, pair);
            return Err(EngineError::system("cannot watch an RTP port", &error));
        }
        let port = pair.port();
        self.pairs.insert((leg, pair));
        self.table.insert(leg, Leg::Rtp { slot });
        Ok(port)
    }

    /// Forgets a leg and closes its ports.
    pub(super) fn remove(&mut self, now: Instant, leg: LegId) {
        let Some(Leg::Rtp { slot }) = self.table.remove(&leg) else { return };
        if let Some((_, pair)) = self.pairs.try_remove(slot) {
            self.pool.release(now, pair);
        }
    }

    /// The leg's own socket.
    pub(super) fn socket(&self, leg: LegId, component: Component) -> Option<&Socket> {
        let Some(Leg::Rtp { slot }) = self.find(leg) else { return None };
        self.pairs.get(slot).map(|(_, pair)| of_pair(pair, component))
    }

    /// Whose socket has this token.
    pub(super) fn socket_of_token(&self, token: u64) -> Option<(LegId, Component, &Socket)> {
        let component = if token & 1 == 0 { Component::Rtp } else { Component::Rtcp };
        let (leg, pair) = self.pairs.get(usize::try_from(token >> 1).ok()?)?;
        Some((*leg, component, of_pair(pair, component)))
    }

    pub(super) fn ports_free(&self) -> usize {
        self.pool.free()
    }

    pub(super) fn ports_in_use(&self) -> usize {
        self.pool.in_use()
    }
}

fn token(slot: usize, component: Component) -> u64 {
    (slot as u64) << 1 | u64::from(component == Component::Rtcp)
}

fn of_pair(pair: &Pair, component: Component) -> &Socket {
    match component {
        Component::Rtp => &pair.rtp,
        Component::Rtcp => &pair.rtcp,
    }
}
