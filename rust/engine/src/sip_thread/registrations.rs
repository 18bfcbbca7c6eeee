//! Registrations of ours: which trunks want one, where their registrars are, and what became of them.

use super::SipThread;
use crate::event::{Bindings, Event, Registration, RegistrationState};
use crate::resolve::{Asker, Candidate, Found, Target};
use crate::trunk::{Registrar, Trunks};
use std::sync::Arc;
use std::time::Instant;
use telephony_sip::Notice;

/// Addresses of one registrar that are tried.
const MAX_TARGETS: usize = 8;

impl SipThread {
    /// Other trunks from now on: what they want registered is, and what nobody wants any more is taken back.
    pub(super) fn set_trunks(&mut self, now: Instant, trunks: Arc<Trunks>) {
        let former = std::mem::replace(&mut self.trunks, trunks);
        if self.stop_at.is_some() {
            return;
        }
        for name in former.registrars().map(|(name, _)| name) {
            if self.trunks.registrar(name).is_none() {
                self.endpoint.unregister(now, name);
            }
        }
        let wanted: Vec<Arc<str>> = self.trunks.registrars().map(|(name, _)| Arc::clone(name)).collect();
        self.find_registrars(now, &wanted);
    }

    /// Takes all of them back, before the thread ends.
    pub(super) fn unregister(&mut self, now: Instant) {
        let trunks = Arc::clone(&self.trunks);
        trunks.registrars().for_each(|(name, _)| self.endpoint.unregister(now, name));
    }

    /// Registers with those whose address is written, and looks the others up.
    fn find_registrars(&mut self, now: Instant, names: &[Arc<str>]) {
        for name in names {
            let Some(registrar) = self.trunks.registrar(name) else { continue };
            let found = match Target::parse_for(&registrar.uri, self.trunks.path(name).transport) {
                Ok(Target::Address(candidate)) => Found::Now(vec![candidate]),
                Ok(Target::Name(question)) => {
                    self.resolver.ask(now, &question, Asker::Registrar(Arc::clone(name)))
                }
                Err(error) => Found::Nowhere(error.to_string()),
            };
            match found {
                Found::Now(candidates) => self.on_registrar(now, name, &candidates),
                Found::Later => {}
                Found::Nowhere(_) => self.on_registrar(now, name, &[]),
            }
        }
    }

    /// A registrar's addresses are known. None leaves a registration that stands as it is; any other fails by that, which
    /// the endpoint reports, and tries again.
    pub(super) fn on_registrar(&mut self, now: Instant, name: &Arc<str>, candidates: &[Candidate]) {
        let trunks = Arc::clone(&self.trunks);
        let Some(registrar) = trunks.registrar(name).filter(|_| self.stop_at.is_none()) else { return };
        let path = trunks.path(name);
        let flow = |candidate: &Candidate| self.flow_to(&registrar.uri, path, candidate).ok();
        let flows: Vec<_> = candidates.iter().filter_map(flow).take(MAX_TARGETS).collect();
        // Its calls come from there, whether or not the trunk names addresses.
        flows.iter().for_each(|flow| self.shield.expect(flow.remote.ip(), &trunks));
        let targets = flows.into_iter().map(|flow| self.target(flow, path, false)).collect();
        self.endpoint.register(now, wanted(registrar, name, targets));
    }

    /// Tells what the endpoint noticed.
    pub(super) fn on_notice(&mut self, now: Instant, notice: Notice) {
        let (name, state) = match notice {
            Notice::Registered { name, expires, registrar } => {
                (name, RegistrationState::Registered { expires, registrar })
            }
            Notice::RegistrationFailed { name, status, reason, retry } => {
                // Its name may lead elsewhere by then.
                self.find_registrars(now, std::slice::from_ref(&name));
                (name, RegistrationState::Failed { status, reason, retry })
            }
            Notice::Unregistered { name } => (name, RegistrationState::Gone),
            Notice::Bindings { user, bindings } => {
                return self.events.send(Event::Bindings(Box::new(Bindings { user, bindings })));
            }
            _ => return,
        };
        self.events.send(Event::Registration(Box::new(Registration { trunk: name, state })));
    }
}

fn wanted(
    registrar: &Registrar,
    name: &Arc<str>,
    targets: Vec<telephony_sip::Target>,
) -> telephony_sip::Registration {
    telephony_sip::Registration {
        name: Arc::clone(name),
        targets,
        registrar: registrar.uri.clone(),
        aor: registrar.aor.clone(),
        contact_user: registrar.contact_user.clone(),
        expires: registrar.expires,
        rewrite: registrar.rewrite,
        profile: Arc::clone(&registrar.profile),
    }
}
