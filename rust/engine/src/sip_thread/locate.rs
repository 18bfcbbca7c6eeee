//! Names on their way to addresses, and what calls tell of the targets.

use super::SipThread;
use crate::LegId;
use crate::resolve::{Answer, Asker, Candidate, DEADLINE, Found, Question, Target};
use smallvec::SmallVec;
use std::time::Instant;
use telephony_sip::{Flow, Transport};

/// Where a next hop is, or why nowhere.
pub(super) type Located = Result<SmallVec<[Candidate; 1]>, String>;

impl SipThread {
    /// Asks where a dialled leg's next hop is; what is known already is used at once.
    pub(super) fn locate(&mut self, now: Instant, leg: LegId, question: &Question) {
        match self.resolver.ask(now, question, Asker::Leg(leg)) {
            Found::Now(candidates) => self.on_located(now, leg, Ok(candidates.into())),
            Found::Later => self.lookups.push_back((now + DEADLINE, leg)),
            Found::Nowhere(reason) => self.on_located(now, leg, Err(reason)),
        }
    }

    /// The resolver has answered: whoever waited goes on, each with an order of its own.
    pub(super) fn on_resolved(&mut self, now: Instant, question: &Question, result: Result<Answer, String>) {
        for asker in self.resolver.learn(now, question, result) {
            let found = match self.resolver.found(question) {
                Found::Now(candidates) => Ok(candidates),
                Found::Nowhere(reason) => Err(reason),
                Found::Later => continue,
            };
            match asker {
                Asker::Leg(leg) => self.on_located(now, leg, found.map(SmallVec::from_vec)),
                Asker::Dialog(dialog, uri) => self.on_next_hop(now, dialog, &uri, found),
                Asker::Probe(trunk) => self.on_probe_located(now, &trunk, found),
                Asker::Registrar(trunk) => self.on_registrar(now, &trunk, &found.unwrap_or_default()),
            }
        }
    }

    /// A dialog of a leg names its next hop: its address is asked for ahead of the request that needs it. What is
    /// spoken under TLS stays so, whatever the DNS would have (RFC 3261 26.2.1).
    pub(super) fn locate_next_hop(&mut self, now: Instant, leg: LegId, dialog: u64, uri: &str) {
        let flow = self.endpoint.flow(leg.sip());
        let wish = flow.map(|flow| flow.transport).filter(|transport| *transport == Transport::Tls);
        let question = match Target::parse_for(uri, wish) {
            Ok(Target::Name(question)) => question,
            Ok(Target::Address(place)) => return self.on_next_hop(now, dialog, uri, Ok(vec![place])),
            Err(_) => return,
        };
        match self.resolver.ask(now, &question, Asker::Dialog(dialog, uri.into())) {
            Found::Now(candidates) => self.on_next_hop(now, dialog, uri, Ok(candidates)),
            Found::Later | Found::Nowhere(_) => {}
        }
    }

    fn on_next_hop(&mut self, now: Instant, dialog: u64, uri: &str, found: Result<Vec<Candidate>, String>) {
        let Ok(mut candidates) = found else { return };
        self.health.order(now, &mut candidates);
        let flows: Vec<Flow> =
            candidates.iter().filter_map(|candidate| self.flow_in_dialog(uri, candidate)).collect();
        self.endpoint.next_hop_found(dialog, uri, &flows);
    }

    /// The way to a next hop that a dialog names, as the trunk there wants it.
    fn flow_in_dialog(&self, uri: &str, candidate: &Candidate) -> Option<Flow> {
        let trunk = self.trunks.profile_of(candidate.address.ip());
        self.flow_to(uri, self.trunks.path(&trunk.name), candidate).ok()
    }

    /// The peer of a call has said something good.
    pub(super) fn target_answered(&mut self, now: Instant, leg: LegId) {
        if self.health.is_empty() {
            return;
        }
        if let Some(flow) = self.endpoint.flow(leg.sip()) {
            self.health.answered(now, (flow.transport, flow.remote));
        }
    }
}
