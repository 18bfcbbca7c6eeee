//! Which targets are well: failures put one behind the others for a while that grows, probes or time bring it back.
//!
//! Nothing is ever left out: where all targets are unwell the best of them is tried all the same. A peer that never
//! failed and is not probed is not in the table at all.

use crate::resolve::Candidate;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use telephony_sip::{Failure, Transport};

/// Failures in a row that put a target behind, and good probes in a row that bring it back.
const FALL: u32 = 2;
const RISE: u32 = 2;
/// How long a target stays behind the first time, and at most.
const FIRST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(600);
/// How long a target is remembered that nobody uses or probes: longer than any stay behind or pause between probes.
const FORGOTTEN: Duration = Duration::from_secs(2 * 3600);
/// Targets remembered; beyond, the one untouched for longest makes room.
const CAPACITY: usize = 1024;

/// What names a target.
pub(crate) type Place = (Transport, SocketAddr);

/// How a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetState {
    /// Used in its turn.
    Up,
    /// Behind the others until its time is over or probes succeed.
    Down,
    /// Its time is over; the next use decides.
    Trial,
}

impl TargetState {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Trial => "trial",
        }
    }
}

/// A target as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetReport {
    /// The trunk it was last used or probed for; empty for none.
    pub trunk: String,
    /// `udp`, `tcp` or `tls`.
    pub transport: &'static str,
    /// Where it is.
    pub address: SocketAddr,
    /// How it is.
    pub state: TargetState,
    /// How long the last answered probe took.
    pub last_rtt: Option<Duration>,
    /// Failures in a row.
    pub failures: u32,
}

#[derive(Debug)]
struct Entry {
    trunk: Arc<str>,
    failures: u32,
    successes: u32,
    down: Option<Down>,
    /// The next stay behind.
    back_off: Duration,
    last_rtt: Option<Duration>,
    touched: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Down {
    until: Instant,
    /// The target itself named the time, so that probes cannot shorten it (RFC 3261 20.33).
    asked_for: bool,
}

impl Entry {
    fn new(now: Instant) -> Self {
        Self {
            trunk: "".into(),
            failures: 0,
            successes: 0,
            down: None,
            back_off: FIRST,
            last_rtt: None,
            touched: now,
        }
    }

    fn state(&self, now: Instant) -> TargetState {
        match self.down {
            None => TargetState::Up,
            Some(down) if now < down.until => TargetState::Down,
            Some(_) => TargetState::Trial,
        }
    }

    fn fall(&mut self, now: Instant, asked: Option<Duration>) {
        let wait = asked.map_or(self.back_off, |asked| asked.min(LONGEST));
        self.down = Some(Down { until: now + wait, asked_for: asked.is_some() });
        self.back_off = (self.back_off * 2).min(LONGEST);
    }

    fn rise(&mut self) {
        self.down = None;
        self.failures = 0;
        self.back_off = FIRST;
    }
}

/// The targets that failed or are probed.
#[derive(Debug, Default)]
pub(crate) struct Health {
    entries: HashMap<Place, Entry>,
    /// Where trunks lead that calls can do without, or that are probed.
    places: HashMap<Arc<str>, Vec<Place>>,
    /// The trunks that were down when it was last told, and until when.
    told: Vec<(Arc<str>, Instant)>,
}

impl Health {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Puts the targets that are down behind the others, those that will be back first before the rest.
    pub(crate) fn order(&self, now: Instant, candidates: &mut [Candidate]) {
        if self.entries.is_empty() || candidates.len() < 2 {
            return;
        }
        candidates.sort_by_key(|candidate| self.down_until(now, &(candidate.transport, candidate.address)));
    }

    /// Where a trunk leads now.
    pub(crate) fn note(&mut self, trunk: &str, candidates: &[Candidate]) {
        let places = || candidates.iter().map(|candidate| (candidate.transport, candidate.address));
        match self.places.get_mut(trunk) {
            Some(known) if known.iter().copied().eq(places()) => {}
            Some(known) => *known = places().collect(),
            None => _ = self.places.insert(trunk.into(), places().collect()),
        }
    }

    /// Trunks may lead elsewhere from now on.
    pub(crate) fn forget_places(&mut self) {
        self.places.clear();
    }

    /// The trunks all of whose targets are down, each with the time until the first is tried in its turn; `None` if
    /// that was told before.
    pub(crate) fn news(&mut self, now: Instant) -> Option<Vec<(Arc<str>, Duration)>> {
        let until = |(trunk, places): (&Arc<str>, &Vec<Place>)| {
            let times = places.iter().map(|place| self.down_until(now, place));
            Some((Arc::clone(trunk), times.min().flatten()?))
        };
        let mut down: Vec<(Arc<str>, Instant)> = self.places.iter().filter_map(until).collect();
        down.sort();
        if down == self.told {
            return None;
        }
        self.told = down;
        Some(self.told.iter().map(|(trunk, until)| (Arc::clone(trunk), *until - now)).collect())
    }

    fn down_until(&self, now: Instant, place: &Place) -> Option<Instant> {
        self.entries.get(place)?.down.map(|down| down.until).filter(|until| now < *until)
    }

    /// A request found the target no use.
    pub(crate) fn failed(&mut self, now: Instant, place: Place, trunk: &Arc<str>, failure: Failure) {
        let entry = self.entry(now, place, trunk);
        entry.successes = 0;
        entry.failures = entry.failures.saturating_add(1);
        let asked = match failure {
            Failure::Unavailable { retry_after } => retry_after.filter(|wait| !wait.is_zero()),
            _ => None,
        };
        match entry.state(now) {
            // Requests that were under way when it fell say nothing new.
            TargetState::Down if asked.is_none() => {}
            TargetState::Up if asked.is_none() && entry.failures < FALL => {}
            _ => entry.fall(now, asked),
        }
    }

    /// The target answered a request of a call, which is what it is for.
    pub(crate) fn answered(&mut self, now: Instant, place: Place) {
        if let Some(entry) = self.entries.get_mut(&place) {
            entry.touched = now;
            entry.failures = 0;
            if entry.state(now) == TargetState::Trial {
                entry.rise();
            }
        }
    }

    /// The target answered a probe.
    pub(crate) fn probed(&mut self, now: Instant, place: Place, trunk: &Arc<str>, rtt: Duration) {
        let entry = self.entry(now, place, trunk);
        entry.last_rtt = Some(rtt);
        entry.successes = entry.successes.saturating_add(1);
        if entry.down.is_none() {
            entry.failures = 0;
        }
        let bound = entry.down.is_some_and(|down| down.asked_for && now < down.until);
        if entry.down.is_some() && entry.successes >= RISE && !bound {
            entry.rise();
        }
    }

    /// Forgets what nobody has used or probed for long, and the targets of trunks that are no more.
    pub(crate) fn forget(&mut self, now: Instant, is_trunk: impl Fn(&str) -> bool) {
        self.entries.retain(|_, entry| {
            let recent = now.saturating_duration_since(entry.touched) < FORGOTTEN;
            recent && (entry.trunk.is_empty() || is_trunk(&entry.trunk))
        });
        self.places.retain(|trunk, _| is_trunk(trunk));
    }

    /// Whether a target of this trunk is behind the others now.
    pub(crate) fn is_any_down(&self, now: Instant, trunk: &str) -> bool {
        self.entries.values().any(|entry| *entry.trunk == *trunk && entry.state(now) != TargetState::Up)
    }

    /// How all of them are, in the order of trunk and address.
    pub(crate) fn report(&self, now: Instant) -> Vec<TargetReport> {
        let report = |(place, entry): (&Place, &Entry)| TargetReport {
            trunk: entry.trunk.to_string(),
            transport: word(place.0),
            address: place.1,
            state: entry.state(now),
            last_rtt: entry.last_rtt,
            failures: entry.failures,
        };
        let mut all: Vec<TargetReport> = self.entries.iter().map(report).collect();
        all.sort_by(|one, other| (&one.trunk, one.address).cmp(&(&other.trunk, other.address)));
        all
    }

    fn entry(&mut self, now: Instant, place: Place, trunk: &Arc<str>) -> &mut Entry {
        if self.entries.len() >= CAPACITY && !self.entries.contains_key(&place) {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.touched).map(|(place, _)| *place);
            oldest.map(|place| self.entries.remove(&place));
        }
        let entry = self.entries.entry(place).or_insert_with(|| Entry::new(now));
        entry.touched = now;
        if *entry.trunk != **trunk && !trunk.is_empty() {
            entry.trunk = Arc::clone(trunk);
        }
        entry
    }
}

/// The name of a transport as URIs have it.
fn word(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
        _ => "udp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn place(number: u8) -> Place {
        (Transport::Udp, SocketAddr::from(([192, 0, 2, number], 5060)))
    }

    fn order(health: &Health, now: Instant) -> Vec<u8> {
        let candidate = |number| Candidate { transport: Transport::Udp, address: place(number).1 };
        let mut candidates: Vec<Candidate> = (1..=3).map(candidate).collect();
        health.order(now, &mut candidates);
        let last = |candidate: &Candidate| candidate.address.to_string().as_bytes()[8] - b'0';
        candidates.iter().map(last).collect()
    }

    fn fail(health: &mut Health, now: Instant, number: u8, times: u32) {
        (0..times).for_each(|_| health.failed(now, place(number), &"t".into(), Failure::Silent));
    }

    fn state(health: &Health, now: Instant) -> TargetState {
        health.report(now)[0].state
    }

    #[test]
    fn one_failure_is_forgiven_two_put_a_target_behind_for_longer_each_time() {
        let (mut health, mut now) = (Health::default(), Instant::now());
        fail(&mut health, now, 1, 1);
        assert_eq!(order(&health, now), [1, 2, 3]);
        fail(&mut health, now, 1, 1);
        assert_eq!(order(&health, now), [2, 3, 1]);
        for wait in [30, 60, 120, 240, 480, 600, 600] {
            assert_eq!(state(&health, now + SECOND * wait - Duration::from_millis(1)), TargetState::Down);
            now += SECOND * wait;
            assert_eq!((state(&health, now), order(&health, now)), (TargetState::Trial, vec![1, 2, 3]));
            fail(&mut health, now, 1, 1);
        }
        now += LONGEST;
        health.answered(now, place(1));
        assert_eq!((state(&health, now), health.report(now)[0].failures), (TargetState::Up, 0));
    }

    #[test]
    fn probes_bring_a_target_back_before_its_time_but_not_a_single_one() {
        let (mut health, now) = (Health::default(), Instant::now());
        fail(&mut health, now, 1, 2);
        health.probed(now, place(1), &"t".into(), SECOND);
        fail(&mut health, now, 1, 1);
        health.probed(now, place(1), &"t".into(), SECOND);
        assert_eq!(state(&health, now), TargetState::Down);
        health.probed(now, place(1), &"t".into(), SECOND);
        assert_eq!(state(&health, now), TargetState::Up);
    }

    #[test]
    fn a_time_that_the_target_named_is_kept() {
        let (mut health, now) = (Health::default(), Instant::now());
        let failure = Failure::Unavailable { retry_after: Some(SECOND * 20) };
        health.failed(now, place(2), &"t".into(), failure);
        assert_eq!(order(&health, now), [1, 3, 2]);
        (0..5).for_each(|_| health.probed(now, place(2), &"t".into(), SECOND));
        assert_eq!(state(&health, now + SECOND * 19), TargetState::Down);
        health.probed(now + SECOND * 20, place(2), &"t".into(), SECOND);
        assert_eq!(state(&health, now + SECOND * 20), TargetState::Up);
    }

    #[test]
    fn a_trunk_is_down_while_all_its_targets_are_and_that_is_told_once() {
        let (mut health, mut now) = (Health::default(), Instant::now());
        let candidate = |number| Candidate { transport: Transport::Udp, address: place(number).1 };
        let down = |health: &mut Health, now| {
            let named = |(trunk, wait): &(Arc<str>, Duration)| (trunk.to_string(), wait.as_secs());
            health.news(now).map(|down| down.iter().map(named).collect::<Vec<_>>())
        };
        health.note("one", &[candidate(1)]);
        health.note("two", &[candidate(1), candidate(2)]);
        fail(&mut health, now, 1, 1);
        assert_eq!(down(&mut health, now), None);
        fail(&mut health, now, 1, 1);
        assert_eq!(down(&mut health, now), Some(vec![("one".to_owned(), 30)]));
        assert_eq!(down(&mut health, now + SECOND), None);
        now += SECOND * 10;
        fail(&mut health, now, 2, 2);
        assert_eq!(down(&mut health, now), Some(vec![("one".to_owned(), 20), ("two".to_owned(), 20)]));
        // The time of the first is over; of the trunk with another name for a target nothing is known.
        health.note("one", &[candidate(3)]);
        assert_eq!(down(&mut health, now), Some(vec![("two".to_owned(), 20)]));
        now += SECOND * 20;
        assert_eq!(down(&mut health, now), Some(Vec::new()));
        fail(&mut health, now, 1, 1);
        assert_eq!(down(&mut health, now), Some(vec![("two".to_owned(), 10)]));
        health.forget(now, |trunk| trunk != "two");
        assert_eq!(down(&mut health, now), Some(Vec::new()));
        health.note("one", &[candidate(1)]);
        assert_eq!(down(&mut health, now), Some(vec![("one".to_owned(), 60)]));
        health.forget_places();
        assert_eq!(down(&mut health, now), Some(Vec::new()));
    }

    #[test]
    fn targets_without_a_trunk_or_a_use_are_forgotten() {
        let (mut health, now) = (Health::default(), Instant::now());
        fail(&mut health, now, 1, 2);
        health.failed(now, place(2), &"gone".into(), Failure::Silent);
        health.failed(now, place(3), &"".into(), Failure::Silent);
        health.forget(now + SECOND, |trunk| trunk == "t");
        let left: Vec<SocketAddr> = health.report(now).iter().map(|report| report.address).collect();
        assert_eq!(left, [place(3).1, place(1).1]);
        health.probed(now + FORGOTTEN, place(1), &"t".into(), SECOND);
        health.forget(now + FORGOTTEN, |trunk| trunk == "t");
        assert_eq!(health.report(now).len(), 1);
    }

    #[test]
    fn the_table_has_an_end() {
        let (mut health, now) = (Health::default(), Instant::now());
        for port in 0..3000_u16 {
            let place = (Transport::Udp, SocketAddr::from(([192, 0, 2, 1], port)));
            health.failed(now, place, &"".into(), Failure::Unreachable);
        }
        assert_eq!(health.entries.len(), CAPACITY);
    }
}
