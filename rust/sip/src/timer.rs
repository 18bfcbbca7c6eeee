//! Timers are data: which there are, how long they run, and the one queue that holds them all.
//!
//! Names and values follow RFC 3261 table 4 (appendix A) and RFC 6026; the timers of the transaction user (2xx
//! retransmission, waiting for ACK and so on) sit in the same queue under words instead of letters.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use slotmap::{Key as _, SlotMap, new_key_type};
use smallvec::SmallVec;

/// The base values all timers are made of (RFC 3261 17.1.1.1, 17.1.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerValues {
    /// Round-trip time estimate.
    pub t1: Duration,
    /// Longest retransmission interval of non-INVITE requests and INVITE responses.
    pub t2: Duration,
    /// Longest time a message remains in the network.
    pub t4: Duration,
}

impl Default for TimerValues {
    fn default() -> Self {
        Self { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
    }
}

/// Why a timer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TimerKind {
    /// INVITE request retransmission (17.1.1.2).
    A,
    /// INVITE transaction timeout (17.1.1.2).
    B,
    /// Wait for response retransmissions after a failure (17.1.1.2).
    D,
    /// Non-INVITE request retransmission (17.1.2.2).
    E,
    /// Non-INVITE transaction timeout (17.1.2.2).
    F,
    /// INVITE failure response retransmission (17.2.1).
    G,
    /// Wait for the ACK of a failure response (17.2.1).
    H,
    /// Wait for ACK retransmissions (17.2.1).
    I,
    /// Wait for non-INVITE request retransmissions (17.2.2).
    J,
    /// Wait for response retransmissions (17.1.2.2).
    K,
    /// Wait for INVITE retransmissions and 2xx of the user (RFC 6026 8.7).
    L,
    /// Wait for 2xx retransmissions and forks (RFC 6026 8.4).
    M,
    /// When a 100 may be sent to a non-INVITE request (RFC 4320 4.1).
    Late100,
    /// 2xx retransmission by the user agent core (13.3.1.4).
    Resend2xx,
    /// Retransmission of a reliable provisional response (RFC 3262 3).
    Resend1xx,
    /// Longest wait for its PRACK (RFC 3262 3).
    PrackWait,
    /// Longest wait for the ACK of a 2xx (13.3.1.4).
    AckWait,
    /// The caller's patience, given with the dial command.
    NoAnswer,
    /// Longest silence of a target while others are left (RFC 3263 4.3).
    Patience,
    /// Longest wait for the final response after CANCEL (9.1).
    CancelWait,
    /// Repetition of the last provisional response, for proxies' timer C (13.3.1.1).
    Refresh,
    /// The Expires header of a received INVITE (13.3.1).
    Expires,
    /// Longest wait for the application's answer to a re-INVITE or UPDATE.
    Reoffer,
    /// When we refresh the session (RFC 4028 10).
    SessionRefresh,
    /// When a session that nobody has refreshed is given up (RFC 4028 10).
    SessionEnd,
    /// The back-off after a re-INVITE or UPDATE of ours met one of the peer's (14.1).
    ReofferRetry,
    /// Longest wait for the final response to a re-INVITE that has been heard of, and then to its CANCEL (9.1).
    ReofferHang,
    /// Longest wait for the application's answer to an offer in a response, which ACK or PRACK carries (13.2.1).
    OwedAnswer,
}

/// How long nothing may be heard of an invitation before its last provisional response is repeated (13.3.1.1).
const REFRESH: Duration = Duration::from_secs(60);
/// Appendix A: timer D is at least 32 s on unreliable transports.
const D_MINIMUM: Duration = Duration::from_secs(32);
/// The part of its interval that a timer may be late by, and the most.
const LENIENCE: u32 = 64;
const MOST_LENIENT: Duration = Duration::from_millis(500);
/// No timer runs longer; keeps deadline arithmetic far from overflow.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

impl TimerKind {
    /// The first interval; `None` where the timer is not used on such a transport (RFC 3261 table 4).
    pub(crate) fn interval(self, values: &TimerValues, reliable: bool) -> Option<Duration> {
        let whole = values.t1.saturating_mul(64);
        let unless_reliable = |wait| if reliable { Duration::ZERO } else { wait };
        match self {
            Self::A | Self::E | Self::G => (!reliable).then_some(values.t1),
            // 13.3.1.4: retransmitted even over reliable transports, an unreliable hop may follow.
            Self::Resend2xx | Self::Resend1xx => Some(values.t1),
            Self::B | Self::F | Self::H | Self::L | Self::M => Some(whole),
            Self::AckWait | Self::PrackWait | Self::CancelWait | Self::ReofferHang => Some(whole),
            Self::D => Some(unless_reliable(whole.max(D_MINIMUM))),
            Self::I | Self::K => Some(unless_reliable(values.t4)),
            Self::J => Some(unless_reliable(whole)),
            // RFC 4320 4.1: not before the client's timer E has been set to T2.
            Self::Late100 => Some(if reliable { Duration::ZERO } else { until_t2(values) }),
            Self::Refresh => Some(REFRESH),
            // RFC 3311 5.2 and RFC 3261 14.2 want an answer at once; this leaves a stalled application half of timer F.
            Self::Reoffer | Self::OwedAnswer => Some(values.t1.saturating_mul(32)),
            Self::SessionRefresh
            | Self::SessionEnd
            | Self::NoAnswer
            | Self::Expires
            | Self::ReofferRetry
            | Self::Patience => Some(LONGEST),
        }
    }

    /// The interval after one of `last`: A and the 1xx double freely, E, G and the 2xx up to T2, the rest stays.
    pub(crate) fn next_interval(self, last: Duration, values: &TimerValues) -> Duration {
        match self {
            Self::A | Self::Resend1xx => last.saturating_mul(2),
            Self::E | Self::G | Self::Resend2xx => last.saturating_mul(2).min(values.t2),
            _ => last,
        }
    }
}

/// The intervals most timers have.
pub(crate) fn common_intervals(values: &TimerValues) -> [Duration; 4] {
    [values.t1.saturating_mul(64), values.t4, values.t1, REFRESH]
}

/// When a client's timer E, doubling from T1, is set to T2.
fn until_t2(values: &TimerValues) -> Duration {
    let (mut elapsed, mut interval) = (values.t1, values.t1);
    while !interval.is_zero() && interval.saturating_mul(2) < values.t2 {
        interval = interval.saturating_mul(2);
        elapsed = elapsed.saturating_add(interval);
    }
    elapsed
}

new_key_type! {
    /// One running timer.
    pub(crate) struct TimerId;
}

/// When a timer fires; sequence is the order of starting, so that equal deadlines fire first come, first served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    deadline: Instant,
    sequence: u64,
}

/// A timer of no common length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    due: Due,
    id: TimerId,
    interval: Duration,
}

/// A running timer. Those of one lane are a list, the null id at both its ends.
#[derive(Debug)]
struct Node<T> {
    what: T,
    due: Due,
    before: TimerId,
    behind: TimerId,
    /// The lane it waits in; beyond the last one it waits in the heap.
    lane: usize,
}

/// Timers of one length, which expire in the order they were started.
#[derive(Debug)]
struct Lane {
    interval: Duration,
    first: TimerId,
    last: TimerId,
}

/// All running timers. Most have one of a few lengths and wait in a lane of their own, first in, first out, which they
/// leave without a trace. The rest sit in a heap, where cancelling is lazy: an entry stays until it surfaces or the dead
/// outnumber the living. What is on top is always alive, so the next deadline is a look at a handful of tops.
#[derive(Debug)]
pub(crate) struct TimerQueue<T> {
    running: SlotMap<TimerId, Node<T>>,
    lanes: SmallVec<[Lane; MAX_LANES]>,
    heap: BinaryHeap<Reverse<Entry>>,
    /// The living in the heap.
    heaped: usize,
    sequence: u64,
}

/// Lanes in all; lengths that turn up beside the common ones get one each until there are so many.
const MAX_LANES: usize = 8;

impl<T> TimerQueue<T> {
    /// A queue with a lane for each of these intervals.
    pub(crate) fn new(intervals: &[Duration]) -> Self {
        let lane = |interval: &Duration| Lane::new(*interval);
        Self {
            running: SlotMap::with_key(),
            lanes: intervals.iter().take(MAX_LANES).map(lane).collect(),
            heap: BinaryHeap::new(),
            heaped: 0,
            sequence: 0,
        }
    }

    pub(crate) fn start(&mut self, now: Instant, after: Duration, what: T) -> TimerId {
        let deadline = now.checked_add(after.min(LONGEST)).unwrap_or(now);
        self.sequence = self.sequence.wrapping_add(1);
        let due = Due { deadline, sequence: self.sequence };
        let (lane, before) = self.place(after, deadline);
        let behind = TimerId::null();
        let id = self.running.insert(Node { what, due, before, behind, lane });
        match self.lanes.get_mut(lane) {
            Some(lane) => {
                lane.last = id;
                match self.running.get_mut(before) {
                    Some(before) => before.behind = id,
                    None => lane.first = id,
                }
            }
            None => {
                self.heaped = self.heaped.wrapping_add(1);
                self.heap.push(Reverse(Entry { due, id, interval: after }));
            }
        }
        id
    }

    /// The lane for an interval and the last timer in it. A clock that went backwards breaks a lane's order; the heap
    /// takes such timers.
    fn place(&mut self, after: Duration, deadline: Instant) -> (usize, TimerId) {
        let lane = self.lanes.iter().position(|lane| lane.interval == after).unwrap_or(self.lanes.len());
        if lane == self.lanes.len() && lane < MAX_LANES {
            self.lanes.push(Lane::new(after));
        }
        let last = self.lanes.get(lane).map_or(TimerId::null(), |lane| lane.last);
        match self.running.get(last) {
            Some(node) if node.due.deadline > deadline => (MAX_LANES, TimerId::null()),
            _ => (lane, last),
        }
    }

    pub(crate) fn cancel(&mut self, id: TimerId) {
        if let Some(node) = self.running.remove(id) {
            self.unlink(&node);
        }
    }

    /// Closes the gap that a timer leaves.
    fn unlink(&mut self, node: &Node<T>) {
        let Some(lane) = self.lanes.get_mut(node.lane) else {
            self.heaped = self.heaped.wrapping_sub(1);
            return self.surface();
        };
        match self.running.get_mut(node.before) {
            Some(before) => before.behind = node.behind,
            None => lane.first = node.behind,
        }
        match self.running.get_mut(node.behind) {
            Some(behind) => behind.before = node.before,
            None => lane.last = node.before,
        }
    }

    /// The next expired timer, removed, and the interval it ran.
    pub(crate) fn pop_expired(&mut self, now: Instant) -> Option<(T, Duration)> {
        let (_, id, interval) = self.tops().min().filter(|(due, ..)| due.deadline <= now)?;
        let node = self.running.remove(id)?;
        self.unlink(&node);
        Some((node.what, interval))
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.tops().min().map(|(due, ..)| due.deadline)
    }

    /// By when the next timer must have fired. One of a usual length may be a little late, so that a quiet engine is
    /// woken for many at once.
    pub(crate) fn latest(&self) -> Option<Instant> {
        let heap = self.heap.peek().map(|Reverse(entry)| entry.due.deadline);
        let late = |lane: &Lane| {
            let first = self.running.get(lane.first)?.due.deadline;
            Some(first.checked_add((lane.interval / LENIENCE).min(MOST_LENIENT)).unwrap_or(first))
        };
        self.lanes.iter().filter_map(late).chain(heap).min()
    }

    pub(crate) fn len(&self) -> usize {
        self.running.len()
    }

    /// How many timers there is room for.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.running.capacity().max(self.heap.capacity())
    }

    fn tops(&self) -> impl Iterator<Item = (Due, TimerId, Duration)> {
        let first = |lane: &Lane| Some((self.running.get(lane.first)?.due, lane.first, lane.interval));
        let top = self.heap.peek().map(|Reverse(entry)| (entry.due, entry.id, entry.interval));
        self.lanes.iter().filter_map(first).chain(top)
    }

    /// Drops dead entries from the top of the heap, and all of them once they are most of it, so that memory follows
    /// the living.
    fn surface(&mut self) {
        let running = &self.running;
        if self.heap.len() >= 1024 && self.heap.len() / 4 > self.heaped {
            self.heap.retain(|Reverse(entry)| running.contains_key(entry.id));
        }
        while self.heap.peek().is_some_and(|Reverse(entry)| !running.contains_key(entry.id)) {
            self.heap.pop();
        }
    }
}

impl Lane {
    fn new(interval: Duration) -> Self {
        Self { interval, first: TimerId::null(), last: TimerId::null() }
    }
}

#[derive(Debug, Clone, Copy)]
struct Armed {
    kind: TimerKind,
    id: TimerId,
}

/// The few timers one owner has running.
#[derive(Debug, Default)]
pub(crate) struct TimerSet(SmallVec<[Armed; 2]>);

impl TimerSet {
    /// Starts `kind`, replacing one that runs.
    pub(crate) fn start<T>(
        &mut self,
        queue: &mut TimerQueue<T>,
        now: Instant,
        kind: TimerKind,
        interval: Duration,
        what: T,
    ) {
        self.stop(queue, kind);
        let id = queue.start(now, interval, what);
        self.0.push(Armed { kind, id });
    }

    pub(crate) fn stop<T>(&mut self, queue: &mut TimerQueue<T>, kind: TimerKind) {
        if let Some(id) = self.take(kind) {
            queue.cancel(id);
        }
    }

    pub(crate) fn stop_all<T>(&mut self, queue: &mut TimerQueue<T>) {
        for armed in self.0.drain(..) {
            queue.cancel(armed.id);
        }
    }

    /// Forgets `kind`, which has just left the queue.
    pub(crate) fn expire(&mut self, kind: TimerKind) {
        self.take(kind);
    }

    pub(crate) fn runs(&self, kind: TimerKind) -> bool {
        self.0.iter().any(|armed| armed.kind == kind)
    }

    fn take(&mut self, kind: TimerKind) -> Option<TimerId> {
        let at = self.0.iter().position(|armed| armed.kind == kind)?;
        Some(self.0.swap_remove(at).id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: TimerValues = TimerValues {
        t1: Duration::from_millis(500),
        t2: Duration::from_secs(4),
        t4: Duration::from_secs(5),
    };

    #[test]
    fn table_4_of_rfc_3261() {
        use TimerKind::{A, B, D, E, F, G, H, I, J, K, L, M};
        let (t1, whole, t4, zero) = (VALUES.t1, Duration::from_secs(32), VALUES.t4, Some(Duration::ZERO));
        for (kind, unreliable, reliable) in [
            (A, Some(t1), None),
            (B, Some(whole), Some(whole)),
            (D, Some(whole), zero),
            (E, Some(t1), None),
            (F, Some(whole), Some(whole)),
            (G, Some(t1), None),
            (H, Some(whole), Some(whole)),
            (I, Some(t4), zero),
            (J, Some(whole), zero),
            (K, Some(t4), zero),
            (L, Some(whole), Some(whole)),
            (M, Some(whole), Some(whole)),
        ] {
            assert_eq!(kind.interval(&VALUES, false), unreliable, "{kind:?} unreliable");
            assert_eq!(kind.interval(&VALUES, true), reliable, "{kind:?} reliable");
        }
    }

    #[test]
    fn doubling_is_free_for_a_and_capped_for_e_and_g() {
        let three_seconds = Duration::from_secs(3);
        assert_eq!(TimerKind::A.next_interval(three_seconds, &VALUES), Duration::from_secs(6));
        for kind in [TimerKind::E, TimerKind::G, TimerKind::Resend2xx] {
            assert_eq!(kind.next_interval(three_seconds, &VALUES), VALUES.t2);
        }
    }

    #[test]
    fn a_late_100_waits_until_timer_e_is_t2() {
        // E fires after 0.5, 1.5 and 3.5 s; the last firing sets it to 4 s (RFC 4320 4.1).
        assert_eq!(TimerKind::Late100.interval(&VALUES, false), Some(Duration::from_millis(3500)));
    }

    #[test]
    fn timers_fire_in_order_and_cancelled_ones_never() {
        let second = Duration::from_secs(1);
        let (mut queue, now) = (TimerQueue::new(&[second * 2]), start());
        queue.start(now, second * 3, 'c');
        let cancelled = queue.start(now, second, 'a');
        queue.start(now, second * 2, 'b');
        queue.start(now, second * 2, 'B');
        queue.cancel(cancelled);
        assert_eq!(queue.next_deadline(), Some(now + second * 2));
        assert_eq!(queue.pop_expired(now + second), None);
        let fired = fired(&mut queue, now + second * 3);
        assert_eq!(fired, "bBc");
        assert_eq!((queue.len(), queue.next_deadline()), (0, None));
    }

    #[test]
    fn timers_of_a_usual_length_may_fire_a_little_late_and_together() {
        let (whole, now) = (Duration::from_secs(32), start());
        let mut queue = TimerQueue::new(&[whole]);
        queue.start(now, whole, 'a');
        queue.start(now + Duration::from_millis(400), whole, 'b');
        let latest = now + whole + MOST_LENIENT;
        assert_eq!((queue.next_deadline(), queue.latest()), (Some(now + whole), Some(latest)));
        queue.start(now, Duration::from_secs(1), 'c');
        assert_eq!(queue.latest(), Some(now + Duration::from_secs(1) + Duration::from_micros(15_625)));
        assert_eq!((fired(&mut queue, latest).as_str(), queue.latest()), ("cab", None));
    }

    #[test]
    fn a_clock_that_goes_backwards_loses_no_order() {
        let second = Duration::from_secs(1);
        let (mut queue, now) = (TimerQueue::new(&[second]), start());
        queue.start(now + second * 5, second, 'b');
        queue.start(now, second, 'a');
        assert_eq!(queue.next_deadline(), Some(now + second));
        let fired = fired(&mut queue, now + second * 9);
        assert_eq!(fired, "ab");
    }

    #[test]
    fn cancelled_entries_do_not_pile_up() {
        let whole = Duration::from_secs(32);
        let (mut queue, now) = (TimerQueue::new(&[whole]), start());
        queue.start(now, Duration::from_millis(1), 0);
        for number in 0..100_000 {
            for after in [whole, whole + Duration::from_micros(number)] {
                let id = queue.start(now, after, 1);
                queue.cancel(id);
            }
        }
        assert!(queue.heap.len() < 3000 && queue.running.capacity() < 8, "{}", queue.heap.len());
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn lanes_stay_whole_whichever_timer_leaves() {
        let second = Duration::from_secs(1);
        for leaving in 0..3 {
            let (mut queue, now) = (TimerQueue::new(&[second]), start());
            let ids = ['a', 'b', 'c'].map(|what| queue.start(now, second, what));
            queue.cancel(ids[leaving]);
            queue.cancel(ids[leaving]);
            queue.start(now, second, 'd');
            let expected = ["bcd", "acd", "abd"][leaving];
            assert_eq!((fired(&mut queue, now + second).as_str(), queue.len()), (expected, 0));
            assert!(queue.lanes[0].first.is_null() && queue.lanes[0].last.is_null());
        }
    }

    #[test]
    fn a_fired_timer_tells_its_interval() {
        let (mut queue, now) = (TimerQueue::new(&[]), start());
        let lengths = [5, 1, 4, 2, 3, 9, 8, 7, 6, 10, 11, 12].map(Duration::from_secs);
        for length in lengths {
            queue.start(now, length, ());
        }
        let ran: Vec<_> = std::iter::from_fn(|| queue.pop_expired(now + Duration::from_secs(20))).collect();
        assert!(
            ran.iter().map(|(_, interval)| interval.as_secs()).eq(1..=12) && queue.lanes.len() == MAX_LANES
        );
    }

    fn fired(queue: &mut TimerQueue<char>, now: Instant) -> String {
        std::iter::from_fn(|| queue.pop_expired(now)).map(|(what, _)| what).collect()
    }

    #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    fn start() -> Instant {
        Instant::now()
    }
}
