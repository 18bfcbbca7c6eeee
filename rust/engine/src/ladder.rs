//! The ladder of every call: its SIP messages as they passed, in bounded memory, until somebody asks.
//!
//! The SIP thread copies each message into a ring and notes its Call-ID; all else (order, legs, repetitions, words)
//! is the work of whoever asks. Only dialogues that an INVITE began are kept: OPTIONS, REGISTER and strangers who hear
//! nothing leave no trace. The oldest messages go first, but what a running call said is set aside as long as that
//! fits, since a call may outlast the ring.

mod call_id;
mod ring;

use crate::LegId;
use call_id::call_id;
use ring::{Place, Ring};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};
use telephony_sip::{Flow, Transport};

/// Messages told of one dialogue: so many of its first and of its latest.
const FIRST: usize = 128;
const LATEST: usize = 128;
/// How a message starts that begins a call.
const BEGINNING: &[u8] = b"INVITE ";
/// Legs of one Call-ID: a proxy may lead a call back to us, or a caller use it again.
const LEGS: usize = 16;

/// One SIP message of a leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rung {
    /// When it passed.
    pub at: SystemTime,
    /// Whose.
    pub leg: LegId,
    /// Whether it left; else it came.
    pub sent: bool,
    /// How.
    pub transport: Transport,
    /// Our address.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// All of it.
    pub message: Vec<u8>,
}

/// What is known of some legs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rungs {
    /// In their order.
    pub messages: Vec<Rung>,
    /// More passed than is still there.
    pub truncated: bool,
}

/// Written by the SIP thread, read by whoever asks.
#[derive(Debug)]
pub(crate) struct Ladder {
    kept: Option<Mutex<Kept>>,
    /// Nobody outside can make two Call-IDs meet.
    hasher: RandomState,
}

#[derive(Debug)]
struct Kept {
    ring: Ring<Record>,
    book: Book,
}

/// Who said what. Bounded by the ring: a dialogue is forgotten with its last message there once its legs are over.
#[derive(Debug, Default)]
struct Book {
    dialogues: HashMap<u64, Dialogue, BuildHasherDefault<Spread>>,
    legs: HashMap<LegId, u64, BuildHasherDefault<Spread>>,
    /// Bytes set aside, and how many may be.
    aside: usize,
    max_aside: usize,
}

/// What is known of a message beside its bytes.
#[derive(Debug, Clone, Copy)]
struct Record {
    at: Instant,
    /// Of the Call-ID.
    key: u64,
    /// The message before it of the same Call-ID.
    previous: Option<Place>,
    sent: bool,
    transport: Transport,
    local: SocketAddr,
    remote: SocketAddr,
}

/// For keys that no peer chooses: fingerprints, and our own numbers.
#[derive(Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

/// All that has one Call-ID.
#[derive(Debug, Default)]
struct Dialogue {
    /// Its legs, and whether each goes on.
    legs: SmallVec<[(LegId, bool); 1]>,
    last: Option<Place>,
    in_ring: usize,
    /// All there were.
    total: usize,
    /// Its first ones, once the ring had no more room for them.
    aside: Vec<(Place, Record, Box<[u8]>)>,
}

impl Ladder {
    /// At most so many bytes are kept; 0 keeps nothing.
    pub(crate) fn new(memory: usize) -> Self {
        let kept = (memory > 0).then(|| Mutex::new(Kept::new(memory)));
        Self { kept, hasher: RandomState::new() }
    }

    /// A message passes.
    pub(crate) fn note(&self, at: Instant, sent: bool, flow: Flow, message: &[u8]) {
        self.note_if(at, sent, flow, message, message.starts_with(BEGINNING));
    }

    /// A message came in; false if it may begin something.
    pub(crate) fn note_known(&self, at: Instant, flow: Flow, message: &[u8]) -> bool {
        self.note_if(at, false, flow, message, false) || !message.starts_with(BEGINNING)
    }

    fn note_if(&self, at: Instant, sent: bool, flow: Flow, message: &[u8], begins: bool) -> bool {
        let Some(kept) = &self.kept else { return true };
        let Some(call_id) = call_id(message) else { return false };
        let key = self.hasher.hash_one(call_id);
        let Flow { transport, local, remote, .. } = flow;
        lock(kept).note(Record { at, key, previous: None, sent, transport, local, remote }, message, begins)
    }

    /// A leg has this Call-ID.
    pub(crate) fn open(&self, leg: LegId, call_id: &str) {
        if let Some(kept) = &self.kept {
            lock(kept).book.open(leg, self.hasher.hash_one(call_id.as_bytes()));
        }
    }

    /// A leg has ended: what is known of it may go when its time comes.
    pub(crate) fn close(&self, leg: LegId) {
        if let Some(kept) = &self.kept {
            lock(kept).book.close(leg);
        }
    }

    /// What passed for these legs.
    pub(crate) fn read(&self, legs: &[LegId]) -> Rungs {
        let clock = Clock { now: Instant::now(), wall: SystemTime::now() };
        self.kept.as_ref().map(|kept| lock(kept).read(legs, &clock)).unwrap_or_default()
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Both clocks at one instant: the wall clock is only looked at when somebody asks.
struct Clock {
    now: Instant,
    wall: SystemTime,
}

impl Clock {
    fn at(&self, at: Instant) -> SystemTime {
        self.wall.checked_sub(self.now.saturating_duration_since(at)).unwrap_or(self.wall)
    }
}

impl Kept {
    /// Half of the memory is the ring's, a quarter goes to what is known of its messages, a quarter is set aside.
    fn new(memory: usize) -> Self {
        let ring = Ring::new(memory / 2, memory / 4 / Ring::<Record>::ENTRY);
        Self { ring, book: Book { max_aside: memory / 4, ..Book::default() } }
    }

    /// Whether it is kept: if it belongs to what is known, or `begins` something.
    fn note(&mut self, mut record: Record, message: &[u8], begins: bool) -> bool {
        if !begins && !self.book.dialogues.contains_key(&record.key) {
            return false;
        }
        while !self.ring.has_room(message.len()) {
            let Some((place, oldest, bytes)) = self.ring.pop() else { return false };
            self.book.evict(place, oldest, bytes);
        }
        let dialogue = self.book.dialogues.entry(record.key).or_default();
        record.previous = dialogue.last;
        dialogue.last = self.ring.push(record, message);
        dialogue.in_ring += 1;
        dialogue.total += 1;
        true
    }

    fn read(&self, legs: &[LegId], clock: &Clock) -> Rungs {
        let (mut found, mut seen) = (Vec::new(), Vec::new());
        let mut truncated = false;
        for &leg in legs {
            match self.book.legs.get(&leg) {
                // Perhaps it never said a word.
                None => truncated |= self.ring.has_lost(),
                Some(key) if seen.contains(key) => {}
                Some(key) => {
                    seen.push(*key);
                    let dialogue = self.book.dialogues.get(key);
                    truncated |= dialogue.is_some_and(|dialogue| self.tell(dialogue, leg, clock, &mut found));
                }
            }
        }
        found.sort_by_key(|(place, _)| *place);
        Rungs { messages: found.into_iter().map(|(_, rung)| rung).collect(), truncated }
    }

    /// Adds a dialogue's messages; whether some are missing.
    fn tell(&self, dialogue: &Dialogue, leg: LegId, clock: &Clock, found: &mut Vec<(Place, Rung)>) -> bool {
        let mut latest = Vec::new();
        let mut next = dialogue.last;
        while let Some((place, (record, message))) = next.and_then(|at| Some((at, self.ring.get(at)?))) {
            latest.push((place, record, message));
            next = record.previous;
        }
        let aside = dialogue.aside.iter().map(|(place, record, message)| (*place, record, &**message));
        let all: Vec<_> = aside.chain(latest.into_iter().rev()).collect();
        let from = all.len().saturating_sub(LATEST).max(FIRST.min(all.len()));
        let (first, rest) = all.split_at(FIRST.min(all.len()));
        let rest = rest.get(from - first.len()..).unwrap_or_default();
        let rung =
            |(place, record, message): &(Place, &Record, &[u8])| (*place, record.rung(leg, clock, message));
        found.extend(first.iter().chain(rest).map(rung));
        dialogue.total > first.len() + rest.len()
    }
}

impl Record {
    fn rung(&self, leg: LegId, clock: &Clock, message: &[u8]) -> Rung {
        Rung {
            at: clock.at(self.at),
            leg,
            sent: self.sent,
            transport: self.transport,
            local: self.local,
            remote: self.remote,
            message: message.to_vec(),
        }
    }
}

impl Book {
    fn open(&mut self, leg: LegId, key: u64) {
        let dialogue = self.dialogues.entry(key).or_default();
        if dialogue.legs.len() >= LEGS {
            let (oldest, _) = dialogue.legs.remove(0);
            self.legs.remove(&oldest);
        }
        dialogue.legs.push((leg, true));
        self.legs.insert(leg, key);
    }

    fn close(&mut self, leg: LegId) {
        let Some(key) = self.legs.get(&leg).copied() else { return };
        let Some(dialogue) = self.dialogues.get_mut(&key) else { return };
        for (own, alive) in &mut dialogue.legs {
            *alive &= *own != leg;
        }
        self.clear(key);
    }

    /// The ring has no more room for this message: the first ones of a running call are set aside. Where a call is
    /// over, all that was set aside is older and goes before it.
    fn evict(&mut self, place: Place, record: Record, message: &[u8]) {
        let Some(dialogue) = self.dialogues.get_mut(&record.key) else { return };
        dialogue.in_ring -= 1;
        let size = cost(message);
        if !dialogue.is_alive() {
            self.aside -= dialogue.forget_aside();
        } else if dialogue.aside.len() < FIRST && self.aside + size <= self.max_aside {
            self.aside += size;
            dialogue.aside.push((place, record, message.into()));
        }
        self.clear(record.key);
    }

    /// Forgets a dialogue that is over and of which the ring has nothing.
    fn clear(&mut self, key: u64) {
        let is_over = |dialogue: &mut Dialogue| dialogue.in_ring == 0 && !dialogue.is_alive();
        if self.dialogues.get_mut(&key).is_some_and(is_over)
            && let Some(mut dialogue) = self.dialogues.remove(&key)
        {
            self.aside -= dialogue.forget_aside();
            for (leg, _) in dialogue.legs {
                self.legs.remove(&leg);
            }
        }
    }
}

impl Dialogue {
    fn is_alive(&self) -> bool {
        self.legs.iter().any(|(_, alive)| *alive)
    }

    /// How much that was.
    fn forget_aside(&mut self) -> usize {
        self.aside.drain(..).map(|(_, _, message)| cost(&message)).sum()
    }
}

fn cost(message: &[u8]) -> usize {
    message.len() + size_of::<(Place, Record, Box<[u8]>)>()
}

#[cfg(test)]
mod tests;
