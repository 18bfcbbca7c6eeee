//! The shield in front of the parser: who sends, whether we know him, and whether he sends too fast.
//!
//! Peers of trunks, and those that we call ourselves, pass by one look at a table. Every other source has a token
//! bucket, unless strangers may come in; an IPv6 source is its /64, since whoever has one address there has all of them. Both tables are bounded:
//! a flood from forged addresses costs memory once, and never more.

use crate::transport::Guest;
use crate::trunk::Trunks;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use telephony_sip::{Bucket, Pace, Profile, Stranger};

/// Peers of trunks, and peers that were called, that are remembered.
const MAX_PEERS: usize = 4096;
/// Sources that are remembered: as many again may wait to be forgotten.
const MAX_SOURCES: usize = 16_384;
/// Messages a second of a source that belongs to no trunk, and messages at once: a phone with its keep-alives, or a
/// handful of phones behind one address.
const RATE: f64 = 50.0;
const BURST: u32 = 200;

/// A bounded map that forgets what was not used for longest, roughly: of two halves the old one is let go when the
/// young one is full.
#[derive(Debug)]
struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Hash + Eq + Copy, V: Copy> Recent<K, V> {
    fn new(half: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half }
    }

    fn entry(&mut self, key: K, new: impl Fn() -> V) -> &mut V {
        if !self.young.contains_key(&key) {
            let value = self.old.remove(&key).unwrap_or_else(&new);
            if self.young.len() >= self.half {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(key, value);
        }
        self.young.entry(key).or_insert_with(new)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// A source as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    V4(u32),
    V6(u64),
}

impl Source {
    /// `address` in its canonical form.
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => Self::V6((v6.to_bits() >> 64) as u64),
        }
    }
}

/// How a source that belongs to no trunk does.
#[derive(Debug, Clone, Copy)]
struct Behaviour {
    bucket: Bucket,
    limited: bool,
}

/// What is done with what came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Read it, as from a peer of this profile.
    Take(Arc<Profile>),
    /// Let it fall; `first` when the source was not limited before.
    Drop {
        /// Whether this is the first that falls.
        first: bool,
    },
}

/// The tables.
#[derive(Debug)]
pub(crate) struct Shield {
    peers: HashMap<IpAddr, Arc<Profile>>,
    sources: Recent<Source, Behaviour>,
    pace: Option<Pace>,
}

impl Shield {
    pub(crate) fn new() -> Self {
        Self {
            peers: HashMap::new(),
            sources: Recent::new(MAX_SOURCES),
            pace: Pace::per_second(RATE).map(|pace| pace.with_burst(BURST)),
        }
    }

    /// Asked once for each datagram, before anything of it is read.
    pub(crate) fn admit(&mut self, now: Instant, from: IpAddr, trunks: &Trunks) -> Verdict {
        if let Some(profile) = self.peers.get(&from) {
            return Verdict::Take(Arc::clone(profile));
        }
        let address = from.to_canonical();
        let profile = trunks.profile_of(address);
        if !profile.name.is_empty() {
            self.remember(from, Arc::clone(profile));
            return Verdict::Take(Arc::clone(profile));
        }
        if profile.admission.stranger == Stranger::Take {
            return Verdict::Take(Arc::clone(profile));
        }
        match self.spend(now, Source::of(address)) {
            None => Verdict::Take(Arc::clone(profile)),
            Some(first) => Verdict::Drop { first },
        }
    }

    /// Asked once for each connection, before anything is spent on it: a stranger's costs what a message does, and with
    /// that its TLS handshake is paid for.
    pub(crate) fn greet(&mut self, now: Instant, from: IpAddr, trunks: &Trunks) -> Guest {
        match self.admit(now, from, trunks) {
            Verdict::Drop { .. } => Guest::Unwelcome,
            Verdict::Take(_) if self.peers.contains_key(&from) => Guest::Known,
            Verdict::Take(_) => Guest::Stranger,
        }
    }

    /// Whom we call may answer as fast as he likes; that alone lets no call of his in.
    pub(crate) fn expect(&mut self, peer: IpAddr, trunks: &Trunks) {
        if !self.peers.contains_key(&peer) {
            self.remember(peer, Arc::clone(trunks.profile_of(peer)));
        }
    }

    /// The trunks are others now.
    pub(crate) fn forget(&mut self) {
        self.peers.clear();
    }

    /// Takes a token; `Some` when there is none, and whether that is new.
    fn spend(&mut self, now: Instant, source: Source) -> Option<bool> {
        let pace = self.pace?;
        let behaviour =
            self.sources.entry(source, || Behaviour { bucket: Bucket::full(now), limited: false });
        let passed = behaviour.bucket.take(now, pace);
        let before = std::mem::replace(&mut behaviour.limited, !passed);
        (!passed).then_some(!before)
    }

    fn remember(&mut self, peer: IpAddr, profile: Arc<Profile>) {
        if self.peers.len() >= MAX_PEERS {
            self.peers.clear();
        }
        self.peers.insert(peer, profile);
    }
}

/// How long a decision may wait for its taker before new calls are refused.
const LATE: Duration = Duration::from_secs(2);

/// Whether the reader of a queue is late, told from how many messages were taken and placed: the last one placed at
/// some moment is marked, and must have been taken [`LATE`] after.
#[derive(Debug, Default)]
pub(crate) struct Lateness {
    mark: Option<(Instant, u64)>,
}

impl Lateness {
    pub(crate) fn is_late(&mut self, now: Instant, (taken, placed): (u64, u64)) -> bool {
        if self.mark.is_none_or(|(_, marked)| taken >= marked) {
            self.mark = (placed > taken).then_some((now, placed));
        }
        self.mark.is_some_and(|(since, _)| now.saturating_duration_since(since) > LATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn trunks() -> Trunks {
        let document = br#"[{"name": "carrier", "addresses": ["203.0.113.0/24"]}]"#;
        Trunks::parse(document, Stranger::Drop).unwrap()
    }

    #[test]
    fn a_strangers_connections_are_counted_and_a_trunks_are_not() {
        let (mut shield, now) = (Shield::new(), Instant::now());
        let mut greeted = |from: &str| shield.greet(now, from.parse().unwrap(), &trunks());
        assert!((0..1000).all(|_| greeted("203.0.113.7") == Guest::Known));
        assert!((0..BURST).all(|_| greeted("192.0.2.1") == Guest::Stranger));
        assert_eq!(greeted("192.0.2.1"), Guest::Unwelcome);
    }

    fn passed(shield: &mut Shield, now: Instant, from: &str, count: usize) -> usize {
        let (from, trunks) = (from.parse().unwrap(), trunks());
        (0..count).filter(|_| matches!(shield.admit(now, from, &trunks), Verdict::Take(_))).count()
    }

    #[test]
    fn trunks_send_as_fast_as_they_like_and_strangers_do_not() {
        let (mut shield, now) = (Shield::new(), Instant::now());
        assert_eq!(passed(&mut shield, now, "203.0.113.9", 10_000), 10_000);
        assert_eq!(passed(&mut shield, now, "::ffff:203.0.113.9", 10_000), 10_000);
        assert_eq!(passed(&mut shield, now, "198.51.100.1", 10_000), 200);
        assert_eq!(passed(&mut shield, now, "198.51.100.2", 1), 1);
        assert_eq!(passed(&mut shield, now + Duration::from_secs(1), "198.51.100.1", 10_000), 50);
    }

    #[test]
    fn where_strangers_may_come_in_nobody_is_counted() {
        let (mut shield, now) = (Shield::new(), Instant::now());
        let (trunks, from) = (Trunks::none(Stranger::Take), "198.51.100.1".parse().unwrap());
        assert!((0..10_000).all(|_| matches!(shield.admit(now, from, &trunks), Verdict::Take(_))));
        assert_eq!(shield.sources.len(), 0);
    }

    #[test]
    fn an_ipv6_source_is_its_network() {
        let (mut shield, now) = (Shield::new(), Instant::now());
        assert_eq!(passed(&mut shield, now, "2001:db8:0:1::1", 150), 150);
        assert_eq!(passed(&mut shield, now, "2001:db8:0:1:ffff::2", 150), 50);
        assert_eq!(passed(&mut shield, now, "2001:db8:0:2::1", 150), 150);
    }

    #[test]
    fn only_the_first_of_a_flood_is_news() {
        let (mut shield, mut now, trunks) = (Shield::new(), Instant::now(), trunks());
        let from = "198.51.100.1".parse().unwrap();
        let mut news = 0;
        for _ in 0..2 {
            for _ in 0..500 {
                news += usize::from(shield.admit(now, from, &trunks) == Verdict::Drop { first: true });
            }
            now += Duration::from_secs(60);
        }
        assert_eq!(news, 2);
    }

    #[test]
    fn whom_we_call_may_answer_fast_and_is_a_stranger_all_the_same() {
        let (mut shield, now, trunks) = (Shield::new(), Instant::now(), trunks());
        let callee = "198.51.100.1".parse().unwrap();
        shield.expect(callee, &trunks);
        for _ in 0..1000 {
            let Verdict::Take(profile) = shield.admit(now, callee, &trunks) else { panic!("dropped") };
            assert_eq!(profile.admission.stranger, Stranger::Drop);
        }
    }

    #[test]
    fn a_reader_is_late_when_what_was_placed_long_ago_still_waits() {
        let (mut lateness, start) = (Lateness::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert!(!lateness.is_late(at(0), (0, 0)));
        assert!(!lateness.is_late(at(10), (0, 5)));
        assert!(!lateness.is_late(at(2010), (4, 9)));
        assert!(lateness.is_late(at(2011), (4, 9)));
        // It has taken the fifth: the next mark is the newest there is now.
        assert!(!lateness.is_late(at(2500), (5, 9)));
        assert!(lateness.is_late(at(4501), (8, 20)));
        assert!(!lateness.is_late(at(9000), (20, 20)));
        // A reader that keeps pace is never late, however long it goes on.
        assert!((0..100).all(|n| !lateness.is_late(at(10_000 + n * 500), (20 + n * 10, 25 + n * 10))));
    }

    #[test]
    fn forged_addresses_fill_no_memory() {
        let (mut shield, now, trunks) = (Shield::new(), Instant::now(), trunks());
        for number in 0..200_000_u32 {
            shield.admit(now, Ipv4Addr::from_bits(0x0A00_0000 + number).into(), &trunks);
            shield.admit(now, Ipv6Addr::from_bits(u128::from(number) << 64).into(), &trunks);
            shield.expect(Ipv4Addr::from_bits(0x0B00_0000 + number).into(), &trunks);
        }
        assert!(shield.sources.len() <= 2 * MAX_SOURCES && shield.peers.len() <= MAX_PEERS);
        // Who keeps sending is not forgotten among them.
        let loud = "192.0.2.1".parse().unwrap();
        let mut passed = 0;
        for number in 0..60_000_u32 {
            passed += usize::from(matches!(shield.admit(now, loud, &trunks), Verdict::Take(_)));
            shield.admit(now, Ipv4Addr::from_bits(0x0C00_0000 + number).into(), &trunks);
        }
        assert_eq!(passed, 200);
    }
}
