//! Asking the targets of trunks whether they are alive, every so many seconds.

use super::SipThread;
use super::commands::is_secure;
use crate::health::Place;
use crate::resolve::{Asker, Candidate, Found, Target};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use telephony_sip::{Probe, Probed};

/// Targets of one trunk that are asked.
const MAX_TARGETS: usize = 8;
/// How long a target may think about it; never past the next probe.
const PATIENCE: Duration = Duration::from_secs(4);
/// A target that is down is asked this often, so that it is back soon; never less often than it would be anyhow.
const DOWN_INTERVAL: Duration = Duration::from_secs(5);

/// What a trunk wants to be probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProbedTrunk {
    pub(crate) name: Arc<str>,
    pub(crate) uri: String,
    pub(crate) interval: Duration,
}

#[derive(Debug)]
struct Probing {
    trunk: ProbedTrunk,
    next: Instant,
}

#[derive(Debug)]
struct Open {
    place: Place,
    trunk: Arc<str>,
    sent: Instant,
}

/// The trunks that are probed, and the probes under way.
#[derive(Debug, Default)]
pub(super) struct Prober {
    trunks: Vec<Probing>,
    open: HashMap<u64, Open>,
    number: u64,
}

impl Prober {
    /// Takes up new trunks at once and leaves the others in their turn.
    pub(super) fn set(&mut self, now: Instant, wanted: Vec<ProbedTrunk>) {
        let mut old = std::mem::take(&mut self.trunks);
        self.trunks = wanted
            .into_iter()
            .map(|trunk| {
                let place = old.iter().position(|probing| probing.trunk == trunk);
                place.map_or(Probing { trunk, next: now }, |place| old.swap_remove(place))
            })
            .collect();
    }

    /// When the next trunk is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.trunks.iter().map(|probing| probing.next).min()
    }

    fn trunk(&self, name: &str) -> Option<&ProbedTrunk> {
        self.trunks.iter().map(|probing| &probing.trunk).find(|trunk| *trunk.name == *name)
    }
}

impl SipThread {
    /// Begins the probes that are due.
    pub(super) fn probe(&mut self, now: Instant) {
        if self.prober.next().is_none_or(|next| now < next) {
            return;
        }
        let mut due = Vec::new();
        for probing in &mut self.prober.trunks {
            if probing.next <= now {
                let pause = match self.health.is_any_down(now, &probing.trunk.name) {
                    true => probing.trunk.interval.min(DOWN_INTERVAL),
                    false => probing.trunk.interval,
                };
                probing.next = now + pause;
                due.push(probing.trunk.clone());
            }
        }
        due.into_iter().for_each(|trunk| self.probe_trunk(now, &trunk));
    }

    fn probe_trunk(&mut self, now: Instant, trunk: &ProbedTrunk) {
        match Target::parse_for(&trunk.uri, self.trunks.path(&trunk.name).transport) {
            Ok(Target::Address(candidate)) => self.on_probe_located(now, &trunk.name, Ok(vec![candidate])),
            Ok(Target::Name(question)) => {
                match self.resolver.ask(now, &question, Asker::Probe(Arc::clone(&trunk.name))) {
                    Found::Now(candidates) => self.on_probe_located(now, &trunk.name, Ok(candidates)),
                    Found::Later | Found::Nowhere(_) => {}
                }
            }
            Err(_) => {}
        }
    }

    /// The targets of a probed trunk are known: each gets an OPTIONS.
    pub(super) fn on_probe_located(
        &mut self,
        now: Instant,
        name: &Arc<str>,
        found: Result<Vec<Candidate>, String>,
    ) {
        let (Ok(candidates), Some(trunk)) = (found, self.prober.trunk(name).cloned()) else { return };
        self.health.note(name, &candidates);
        for candidate in candidates.into_iter().take(MAX_TARGETS) {
            self.probe_target(now, &trunk, &candidate);
        }
    }

    fn probe_target(&mut self, now: Instant, trunk: &ProbedTrunk, candidate: &Candidate) {
        let path = self.trunks.path(&trunk.name);
        let Ok(flow) = self.flow_to(&trunk.uri, path, candidate) else { return };
        let target = self.target(flow, path, is_secure(&trunk.uri));
        self.prober.number += 1;
        let probe = Probe {
            number: self.prober.number,
            from: format!("<sip:{}>", target.contact),
            target,
            request_uri: trunk.uri.clone(),
            patience: PATIENCE.min(trunk.interval),
            profile: self.trunks.profile(&trunk.name, Some(&trunk.uri)),
        };
        if self.endpoint.probe(now, &probe).is_ok() {
            let place = (candidate.transport, candidate.address);
            let open = Open { place, trunk: Arc::clone(&trunk.name), sent: now };
            self.prober.open.insert(probe.number, open);
        }
    }

    /// A probe has come to something.
    pub(super) fn on_probed(&mut self, now: Instant, probed: &Probed) {
        let Some(Open { place, trunk, sent }) = self.prober.open.remove(&probed.number) else { return };
        match probed.result {
            Ok(_) => self.health.probed(now, place, &trunk, now.saturating_duration_since(sent)),
            Err(failure) => self.health.failed(now, place, &trunk, failure),
        }
    }
}
