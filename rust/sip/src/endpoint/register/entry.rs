//! One registration at work: what is wanted, where it stands, and what is due next.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::endpoint::Auth;
use crate::transaction::ClientKey;
use crate::{Flow, Registration, Target};

/// RFC 5626 4.5: the first wait after all servers failed is drawn from the upper half of twice this.
const BASE_WAIT: Duration = Duration::from_secs(30);
/// RFC 5626 4.5: no wait is longer.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(1800);
/// RFC 5626 4.5: a flow that is kept so long was a good one.
const GOOD: Duration = Duration::from_secs(120);
/// What a wait is drawn from, in thousandths.
pub(super) const HALF: RangeInclusive<u32> = 500..=1000;

/// How far a registration has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Not made yet, or lost.
    Trying,
    Registered,
    /// Being taken back.
    Leaving,
}

/// What a registrar granted last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Granted {
    pub(super) flow: Flow,
    pub(super) expires: Duration,
    pub(super) until: Instant,
}

/// One registration.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) wanted: Registration,
    pub(super) state: State,
    pub(super) call_id: String,
    pub(super) tag: String,
    pub(super) cseq: u32,
    pub(super) auth: Option<Box<Auth>>,
    /// Where REGISTER goes: itself, not its place among the targets, which are drawn anew with every lookup.
    pub(super) target: Option<Target>,
    /// `host:port` and transport in use, and the one before it that is to be removed.
    pub(super) contact: String,
    pub(super) former: Option<String>,
    pub(super) expires: u32,
    /// The targets of this round that failed, and the rounds that failed since a flow was good.
    pub(super) tried: Vec<Flow>,
    rounds: u32,
    pub(super) open: Option<ClientKey>,
    /// 423 was obeyed, so that a second one counts as a refusal.
    pub(super) lengthened: bool,
    pub(super) granted: Option<Granted>,
    /// Since when the flow of `granted` is up, and when Contact was last written anew.
    pub(super) since: Option<Instant>,
    pub(super) rewritten: Option<Instant>,
    pub(super) next: Option<Instant>,
    pub(super) patience: Option<Instant>,
    pub(super) keep_alive: Option<Instant>,
    pub(super) routes: Vec<Box<str>>,
}

impl Entry {
    pub(super) fn new(wanted: Registration, call_id: String, tag: String) -> Self {
        Self {
            state: State::Trying,
            call_id,
            tag,
            cseq: 0,
            auth: None,
            target: None,
            contact: String::new(),
            former: None,
            expires: wanted.expires,
            tried: Vec::new(),
            rounds: 0,
            open: None,
            lengthened: false,
            granted: None,
            since: None,
            rewritten: None,
            next: None,
            patience: None,
            keep_alive: None,
            routes: Vec::new(),
            wanted,
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        [self.next, self.patience, self.keep_alive, self.until()].into_iter().flatten().min()
    }

    /// When what was granted is over.
    pub(super) fn until(&self) -> Option<Instant> {
        self.granted.filter(|_| self.state == State::Registered).map(|granted| granted.until)
    }

    /// Whether this registration would make the same binding: the registrar may have other addresses than before, but
    /// the Contact in use must be ours still.
    pub(super) fn is_bound_as(&self, wanted: &Registration) -> bool {
        let of = |one: &Registration| [&one.registrar, &one.aor, &one.contact_user].map(String::clone);
        let contact = self.target.as_ref().map(|target| &target.contact);
        let is_ours = |contact: &String| wanted.targets.iter().any(|target| target.contact == *contact);
        of(&self.wanted) == of(wanted) && (wanted.targets.is_empty() || contact.is_none_or(is_ours))
    }

    /// Another description of the same binding; whether more than its addresses is other than before.
    pub(super) fn take_over(&mut self, mut wanted: Registration) -> bool {
        let targets = std::mem::take(&mut wanted.targets);
        self.wanted.targets.clear();
        let other = self.wanted != wanted;
        self.wanted = Registration { targets, ..wanted };
        if other {
            (self.auth, self.expires, self.lengthened, self.rounds) = (None, self.wanted.expires, false, 0);
            self.tried.clear();
            let own = self.target.as_ref().map(|target| target.contact.clone());
            if let Some(own) = own.filter(|own| !self.wanted.rewrite && *own != self.contact) {
                self.former = Some(std::mem::replace(&mut self.contact, own));
            }
        }
        other
    }

    /// The way of the next REGISTER: the one in use, unless it failed or leads to a registrar no more; else the best
    /// that was not tried.
    pub(super) fn aim(&mut self) -> Option<Flow> {
        let all = &self.wanted.targets;
        let is_left = |target: &&Target| !self.tried.contains(&target.flow);
        let in_use =
            |target: &&Target| self.state == State::Leaving || (is_left(target) && all.contains(target));
        let kept = self.target.as_ref().filter(in_use);
        let chosen = kept.or_else(|| all.iter().find(is_left)).or_else(|| all.first())?.clone();
        if self.target.as_ref().is_none_or(|former| former.contact != chosen.contact) {
            self.contact.clone_from(&chosen.contact);
        }
        Some(self.target.insert(chosen).flow)
    }

    /// Whether another server may be asked before the round is over.
    pub(super) fn has_others(&self) -> bool {
        let own = self.target.as_ref().map(|target| target.flow);
        let is_left = |target: &Target| Some(target.flow) != own && !self.tried.contains(&target.flow);
        self.wanted.targets.iter().any(is_left)
    }

    /// A REGISTER is on its way. While others are left its server has to say something soon (RFC 3263 4.3), or the
    /// binding would be over before they are asked.
    pub(super) fn sent(&mut self, now: Instant, client: ClientKey) {
        let patience = self.wanted.profile.failover.patience;
        let may_move = self.state != State::Leaving && self.has_others();
        self.open = Some(client);
        self.patience = may_move.then(|| now + patience);
    }

    pub(super) fn stood(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| is_good(since, now))
    }

    /// RFC 5626 4.5: later and later, until a flow was good.
    pub(super) fn back_off(&mut self, now: Instant, half: u32) -> Duration {
        if self.stood(now) {
            self.rounds = 0;
        }
        self.rounds = self.rounds.saturating_add(1);
        let factor = 2_u32.saturating_pow(self.rounds.min(16));
        BASE_WAIT.saturating_mul(factor).min(MAX_WAIT).saturating_mul(half) / 1000
    }

    /// What was granted leads nowhere (RFC 5626 4.5): it is made anew, at once only after a good flow, since a registrar
    /// that takes every flow away would be asked without end.
    pub(super) fn make_anew(&mut self, now: Instant, at_once: bool, half: u32) {
        let at = if at_once { now } else { now + self.back_off(now, half) };
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    /// The registrar sees us elsewhere than Contact says.
    pub(super) fn rewrite(&mut self, now: Instant, seen: String, half: u32) {
        let at_once = self.rewritten.is_none_or(|last| is_good(last, now));
        self.former = Some(std::mem::replace(&mut self.contact, seen));
        self.make_anew(now, at_once, half);
        // What was seen before is a flow no more.
        (self.rewritten, self.since) = (Some(now), Some(now));
    }
}

fn is_good(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) >= GOOD
}
