//! Wrong answers to challenges of ours. Who guesses is not listened to for a while: under that name after some, under no
//! name after many, since behind one address there may be a whole office.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Wrong answers of one source for one name within [`WINDOW`].
const MAX_OF_NAME: u32 = 20;
/// The same for all names.
const MAX_OF_SOURCE: u32 = 5 * MAX_OF_NAME;
const WINDOW: Duration = Duration::from_secs(60);
/// Sources whose failures are counted.
const MAX_SOURCES: usize = 4_096;

/// The failures of one source.
#[derive(Debug)]
struct Failed {
    since: Instant,
    all: u32,
    /// By the print of the name, whether it is a user's or not; no more names than failures.
    of_name: Vec<(u64, u32)>,
}

/// Failures by source.
#[derive(Debug, Default)]
pub(super) struct Failures(HashMap<IpAddr, Failed>);

impl Failures {
    /// How long a source is not listened to under a name; without one it is that of a request without credentials.
    pub(super) fn shut(&self, now: Instant, source: IpAddr, name: Option<u64>) -> Option<Duration> {
        let failed = self.0.get(&network(source))?;
        let of_name = failed.of_name.iter().find(|(of, _)| Some(*of) == name).map_or(0, |(_, count)| *count);
        let left = WINDOW.checked_sub(now.saturating_duration_since(failed.since))?;
        (!left.is_zero() && (of_name >= MAX_OF_NAME || failed.all >= MAX_OF_SOURCE)).then_some(left)
    }

    pub(super) fn note(&mut self, now: Instant, source: IpAddr, name: u64) {
        let source = network(source);
        self.make_room(now, source);
        let begun = || Failed { since: now, all: 0, of_name: Vec::new() };
        let failed = self.0.entry(source).or_insert_with(begun);
        if !failed.is_recent(now) {
            *failed = begun();
        }
        failed.all = failed.all.saturating_add(1);
        match failed.of_name.iter_mut().find(|(of, _)| *of == name) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => failed.of_name.push((name, 1)),
        }
    }

    fn make_room(&mut self, now: Instant, source: IpAddr) {
        if self.0.len() < MAX_SOURCES || self.0.contains_key(&source) {
            return;
        }
        self.0.retain(|_, failed| failed.is_recent(now));
        if self.0.len() >= MAX_SOURCES {
            self.0.clear();
        }
    }
}

impl Failed {
    fn is_recent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < WINDOW
    }
}

/// A source as its failures are counted: whoever has one IPv6 address has all of its /64.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    fn failures() -> (Failures, Instant, IpAddr) {
        (Failures::default(), Instant::now(), "192.0.2.1".parse().unwrap())
    }

    #[test]
    fn a_name_is_shut_for_its_source_and_for_a_while() {
        let (mut failures, now, source) = failures();
        for _ in 0..MAX_OF_NAME {
            assert_eq!(failures.shut(now, source, Some(1)), None);
            failures.note(now, source, 1);
        }
        let later = now + Duration::from_secs(20);
        assert_eq!(failures.shut(later, source, Some(1)), Some(Duration::from_secs(40)));
        assert_eq!(failures.shut(later, source, Some(2)), None, "somebody else behind the same NAT");
        assert_eq!(failures.shut(later, source, None), None);
        assert_eq!(failures.shut(later, "192.0.2.2".parse().unwrap(), Some(1)), None);
        assert_eq!(failures.shut(now + WINDOW, source, Some(1)), None);
        failures.note(now + WINDOW, source, 1);
        assert_eq!(failures.shut(now + WINDOW, source, Some(1)), None, "counted from one again");
    }

    #[test]
    fn a_source_is_shut_for_all_names_in_the_end() {
        let (mut failures, now, source) = failures();
        for name in 0..u64::from(MAX_OF_SOURCE) {
            assert_eq!(failures.shut(now, source, None), None);
            failures.note(now, source, name);
        }
        assert_eq!(
            [None, Some(1), Some(1_000)].map(|name| failures.shut(now, source, name)),
            [Some(WINDOW); 3]
        );
    }

    #[test]
    fn the_table_has_an_end() {
        let (mut failures, now, _) = failures();
        for number in 0..10_000_u32 {
            failures.note(now, IpAddr::V4(number.into()), 1);
        }
        assert!(failures.0.len() <= MAX_SOURCES);
    }
}
