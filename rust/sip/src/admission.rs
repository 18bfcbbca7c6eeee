//! Who may come in, and how often: what a peer's profile says of its calls, and the words for a refusal.
//!
//! All state here is bounded: one bucket a trunk, and a short queue of refusals that somebody else keeps.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{Message, Profile};

/// Refusals that wait to be read; more are only counted.
const MAX_WAITING: usize = 256;
/// Trunks whose pace is remembered before those that come as they please are forgotten.
const MAX_PACED: usize = 256;
/// Characters kept of a value that was refused.
const MAX_VALUE: usize = 128;

/// What becomes of requests that begin something and come from nobody we know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stranger {
    /// It is known, or may come in all the same.
    #[default]
    Take,
    /// It hears nothing: a scanner learns not even that somebody is here.
    Drop,
    /// 403 without state (RFC 3261 21.4.4).
    Refuse,
}

/// A rate: one now and then, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    interval: Duration,
    burst: u32,
}

impl Pace {
    /// So many a second, as many at once (at least one).
    #[must_use]
    pub fn per_second(rate: f64) -> Option<Self> {
        let interval =
            Duration::try_from_secs_f64(rate.recip()).ok().filter(|interval| !interval.is_zero())?;
        // The burst of a second, so that the mean alone decides.
        let burst = (Duration::from_secs(1).as_nanos() / interval.as_nanos()).clamp(1, 1_000_000);
        Some(Self { interval, burst: u32::try_from(burst).unwrap_or(u32::MAX) })
    }

    /// So many a second, to a tenth.
    #[must_use]
    pub fn rate(self) -> f64 {
        (10.0 / self.interval.as_secs_f64()).round() / 10.0
    }

    /// The same with another burst.
    #[must_use]
    pub const fn with_burst(self, burst: u32) -> Self {
        Self { burst, ..self }
    }
}

/// A token bucket of one word: the time at which it will be full again.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    full_at: Instant,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub const fn full(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Instant, pace: Pace) -> bool {
        let full_at = self.full_at.max(now);
        let room = pace.interval.saturating_mul(pace.burst.saturating_sub(1));
        if full_at.saturating_duration_since(now) > room {
            return false;
        }
        self.full_at = full_at + pace.interval;
        true
    }
}

/// What a profile says of new calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// What becomes of a peer that belongs to no trunk.
    pub stranger: Stranger,
    /// How fast new calls may come in.
    pub pace: Option<Pace>,
    /// How many calls there may be, in and out.
    pub max_calls: Option<u32>,
}

/// The rule by which something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ground {
    /// Its source belongs to no trunk.
    UnknownSource,
    /// Its source sends too fast.
    SourceRate,
    /// Its trunk makes too many calls a second.
    TrunkRate,
    /// Its trunk has too many calls.
    TrunkCalls,
    /// The gateway is too busy, full, or about to stop.
    Overload,
    /// It breaks a rule of the grammar.
    Malformed,
    /// It belongs to no call that is here.
    NoDialog,
    /// It has come round, or through too many hops.
    Loop,
    /// Who sends it is not proved.
    Credentials,
    /// It asks for what is not done here: a method, an extension, a body.
    Unsupported,
}

impl Ground {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownSource => "unknown_source",
            Self::SourceRate => "source_rate",
            Self::TrunkRate => "trunk_rate",
            Self::TrunkCalls => "trunk_calls",
            Self::Overload => "overload",
            Self::Malformed => "malformed",
            Self::NoDialog => "no_dialog",
            Self::Loop => "loop",
            Self::Credentials => "credentials",
            Self::Unsupported => "unsupported",
        }
    }

    /// The rule behind a status of the inspections of RFC 3261 8.2.
    pub(crate) const fn of(status: u16) -> Self {
        match status {
            400 => Self::Malformed,
            401 | 403 => Self::Credentials,
            481 => Self::NoDialog,
            482 | 483 => Self::Loop,
            _ => Self::Unsupported,
        }
    }

    fn in_words(self, source: SocketAddr, trunk: &str, admission: &Admission) -> String {
        let ip = source.ip().to_canonical();
        match self {
            Self::UnknownSource => format!("no trunk allows {ip}"),
            Self::SourceRate => format!("{ip}, which belongs to no trunk, sends too fast"),
            Self::TrunkRate => {
                let rate = admission.pace.map(Pace::rate).unwrap_or_default();
                format!("trunk {trunk} takes {rate} calls a second")
            }
            Self::TrunkCalls => {
                format!("trunk {trunk} takes {} calls at a time", admission.max_calls.unwrap_or_default())
            }
            Self::Overload => "the gateway is busy, full or about to stop".to_owned(),
            Self::Malformed => "no request as RFC 3261 has it".to_owned(),
            Self::NoDialog => "no call here that it belongs to".to_owned(),
            Self::Loop => "it has come round, or through too many hops".to_owned(),
            Self::Credentials => "who sends it is not proved: wrong user name or password".to_owned(),
            Self::Unsupported => "nothing that is done here".to_owned(),
        }
    }
}

/// One refusal: the rule tested, the value seen, the code sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The rule.
    pub ground: Ground,
    /// The status of the answer; `None` when there was none.
    pub status: Option<u16>,
    /// Where the request came from.
    pub source: SocketAddr,
    /// The trunk of the source; empty without one.
    pub trunk: Arc<str>,
    /// Its start line, as far as it was read.
    pub request: String,
    /// Why, in plain words.
    pub reason: String,
}

impl Refused {
    /// A refusal; what the peer wrote is cut to a bounded length.
    #[must_use]
    pub fn new(ground: Ground, status: Option<u16>, source: SocketAddr, profile: &Profile) -> Self {
        let (trunk, admission) = (Arc::clone(&profile.name), &profile.admission);
        let reason = ground.in_words(source, &trunk, admission);
        Self { ground, status, source, trunk, request: String::new(), reason }
    }

    /// The same of a request that was read.
    #[must_use]
    pub(crate) fn of(mut self, request: &Message) -> Self {
        let (method, uri) = (request.method_str(), request.request_uri().unwrap_or_default());
        self.request = [method, " ", uri].concat().chars().take(MAX_VALUE).collect();
        self
    }

    /// The same with words of its own, where there are any.
    #[must_use]
    pub(crate) fn because(mut self, reason: &str) -> Self {
        if !reason.is_empty() {
            self.reason = reason.chars().take(MAX_VALUE).collect();
        }
        self
    }
}

/// The buckets of the trunks that have a pace, and the refusals not read yet.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    paced: HashMap<Arc<str>, Bucket>,
    refused: VecDeque<Refused>,
}

impl Gate {
    /// Whether a trunk may make another call now; one without a pace always may.
    pub(crate) fn passes(&mut self, now: Instant, trunk: &Arc<str>, admission: &Admission) -> bool {
        let Some(pace) = admission.pace else { return true };
        if let Some(bucket) = self.paced.get_mut(trunk) {
            return bucket.take(now, pace);
        }
        if self.paced.len() >= MAX_PACED {
            // A full bucket is as good as none. Trunks come and go, and leave nothing here.
            self.paced.retain(|_, bucket| bucket.full_at > now);
        }
        self.paced.entry(Arc::clone(trunk)).or_insert(Bucket::full(now)).take(now, pace)
    }

    pub(crate) fn note(&mut self, refused: Refused) {
        if self.refused.len() < MAX_WAITING {
            self.refused.push_back(refused);
        }
    }

    pub(crate) fn next(&mut self) -> Option<Refused> {
        self.refused.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "a test must begin at some time")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn taken(bucket: &mut Bucket, now: Instant, pace: Pace) -> usize {
        (0..1000).take_while(|_| bucket.take(now, pace)).count()
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let (start, pace) = (origin(), Pace::per_second(10.0).unwrap());
        let mut bucket = Bucket::full(start);
        assert_eq!(taken(&mut bucket, start, pace), 10);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(99), pace), 0);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(100), pace), 1);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(550), pace), 4);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(3600), pace), 10);
        // Time that goes backwards gives nothing and takes nothing.
        assert_eq!(taken(&mut bucket, start, pace), 0);
    }

    #[test]
    fn slow_paces_have_a_burst_of_one() {
        let (start, pace) = (origin(), Pace::per_second(0.1).unwrap());
        let mut bucket = Bucket::full(start);
        assert_eq!(taken(&mut bucket, start, pace), 1);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(9), pace), 0);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(10), pace), 1);
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Pace::per_second(rate), None, "{rate}");
        }
    }

    #[test]
    fn trunks_have_a_bucket_each_and_waiting_refusals_a_bound() {
        let (mut gate, now) = (Gate::default(), origin());
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let paced = Admission { pace: Pace::per_second(1.0), ..Admission::default() };
        assert!(gate.passes(now, &a, &paced) && gate.passes(now, &b, &paced));
        assert!(!gate.passes(now, &a, &paced) && gate.passes(now, &a, &Admission::default()));
        for number in 0..10_000 {
            let later = now + Duration::from_secs(number);
            assert!(gate.passes(later, &number.to_string().into(), &paced));
        }
        assert!(gate.paced.len() <= MAX_PACED);
        let source = "192.0.2.1:5060".parse().unwrap();
        let profile = Profile { name: a, admission: paced, ..Profile::default() };
        for _ in 0..1000 {
            gate.note(Refused::new(Ground::TrunkRate, Some(503), source, &profile));
        }
        let waiting: Vec<_> = std::iter::from_fn(|| gate.next()).collect();
        assert_eq!(waiting.len(), 256);
        assert_eq!(waiting[0].reason, "trunk a takes 1 calls a second");
        assert_eq!(waiting[0].clone().because(&"x".repeat(1000)).reason.len(), 128);
    }
}
