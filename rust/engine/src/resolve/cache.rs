//! What the resolver found, remembered on the SIP thread: a name in use costs a look into a table.
//!
//! An answer that has just run out is used once more while it is asked for again, and an old one when the name
//! servers fail (RFC 8767). Whoever asks what is being asked already waits for the same answer.

use super::answer::{Answer, Candidate, Dice};
use super::dns;
use super::target::Question;
use super::{DEADLINE, Families};
use crate::LegId;
use crate::message::ToSip;
use crate::queue::Mailbox;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Sender;

/// Names remembered; beyond, those that ran out first make room.
const CAPACITY: usize = 4096;
/// Bounds of what a name server may say; zero would ask for each call, a day outlives a move.
const TTL: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3600)];
/// The same for "there is nothing" (RFC 2308 5).
const NEGATIVE_TTL: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// How long a failure of the name servers is not asked about again.
const FAULT_TTL: Duration = Duration::from_secs(1);
/// How long past its time an answer is used at once, and asked for again behind it.
const GRACE: Duration = Duration::from_secs(30);
/// How long past its time an answer is better than a failure.
const STALE: Duration = Duration::from_secs(3600);

/// Who waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A dialled leg.
    Leg(LegId),
    /// The probes of a trunk.
    Probe(Arc<str>),
    /// A dialog that names its next hop by this URI.
    Dialog(u64, Arc<str>),
    /// The registration of a trunk.
    Registrar(Arc<str>),
}

/// What can be said at once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Where to go, best first.
    Now(Vec<Candidate>),
    /// The answer will come as [`ToSip::Resolved`].
    Later,
    /// Nowhere, and why.
    Nowhere(String),
}

#[derive(Debug, Default)]
struct Entry {
    answer: Option<Arc<Answer>>,
    /// Why there is none, or no newer one.
    fault: Option<String>,
    /// Until when nothing is asked.
    fresh_until: Option<Instant>,
    /// Until when the answer may be used at all.
    usable_until: Option<Instant>,
    /// Until when an answer is on its way.
    asked_until: Option<Instant>,
    waiting: Vec<Asker>,
}

/// The SIP thread's way to the resolver.
pub(crate) struct Resolver {
    questions: Sender<Question>,
    entries: HashMap<Question, Entry>,
    dice: Dice,
}

impl Resolver {
    /// Starts the thread that asks; it ends when the resolver is dropped.
    pub(crate) fn start(
        sip: Arc<Mailbox<ToSip>>,
        families: Families,
        servers: Vec<SocketAddr>,
        seed: u64,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (questions, thread) = dns::start(sip, families, servers)?;
        Ok((Self::new(questions, seed), thread))
    }

    fn new(questions: Sender<Question>, seed: u64) -> Self {
        Self { questions, entries: HashMap::new(), dice: Dice::new(seed) }
    }

    /// Where a name leads, if that is known; otherwise `asker` comes back with [`Self::learn`].
    pub(crate) fn ask(&mut self, now: Instant, question: &Question, asker: Asker) -> Found {
        if !self.entries.contains_key(question) && !self.make_room(now) {
            return Found::Nowhere("too many names wait to be resolved".into());
        }
        let entry = self.entries.entry(question.clone()).or_default();
        let is_fresh = entry.fresh_until.is_some_and(|until| now < until);
        let in_grace = entry.fresh_until.is_some_and(|until| now < until + GRACE) && entry.answer.is_some();
        if !is_fresh && entry.asked_until.is_none_or(|until| until <= now) {
            match self.questions.try_send(question.clone()) {
                Ok(()) => {
                    // Whoever waited for an answer that never came has given up as well.
                    entry.asked_until = Some(now + DEADLINE);
                    entry.waiting.clear();
                }
                Err(_) if in_grace => {}
                Err(_) => return Found::Nowhere("too many names wait to be resolved".into()),
            }
        }
        if !is_fresh && !in_grace {
            entry.waiting.push(asker);
            return Found::Later;
        }
        self.found(question)
    }

    /// An answer has come: who waited for it. All that was asked is known now, whatever it is.
    pub(crate) fn learn(
        &mut self,
        now: Instant,
        question: &Question,
        result: Result<Answer, String>,
    ) -> Vec<Asker> {
        let Some(entry) = self.entries.get_mut(question) else { return Vec::new() };
        entry.asked_until = None;
        match result {
            Ok(answer) => {
                let [least, most] = if answer.services.is_empty() { NEGATIVE_TTL } else { TTL };
                let fresh_until = now + answer.ttl.clamp(least, most);
                entry.fault = None;
                entry.fresh_until = Some(fresh_until);
                entry.usable_until = Some(fresh_until + STALE);
                entry.answer = Some(Arc::new(answer));
            }
            Err(fault) => {
                entry.fresh_until = Some(now + FAULT_TTL);
                entry.fault = Some(fault);
                if entry.usable_until.is_none_or(|until| until <= now) {
                    entry.answer = None;
                }
            }
        }
        std::mem::take(&mut entry.waiting)
    }

    /// What is known of a name.
    pub(crate) fn found(&mut self, question: &Question) -> Found {
        let host = &question.host;
        let Some(entry) = self.entries.get(question) else { return Found::Later };
        match (&entry.answer, &entry.fault) {
            (Some(answer), _) if !answer.services.is_empty() => Found::Now(answer.candidates(&mut self.dice)),
            (None, Some(fault)) => Found::Nowhere(format!("cannot find the address of {host}: {fault}")),
            _ => Found::Nowhere(format!("{host} has no address that our SIP sockets can send to")),
        }
    }

    /// Forgets what ran out, or what will next; names that are waited for stay.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.entries.len() < CAPACITY {
            return true;
        }
        self.entries.retain(|_, entry| {
            !entry.waiting.is_empty() || entry.fresh_until.is_some_and(|until| now < until)
        });
        if self.entries.len() < CAPACITY {
            return true;
        }
        let idle = self.entries.iter().filter(|(_, entry)| entry.waiting.is_empty());
        let oldest = idle.min_by_key(|(_, entry)| entry.fresh_until).map(|(question, _)| question.clone());
        oldest.is_some_and(|question| self.entries.remove(&question).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::{Server, Service};
    use super::*;
    use telephony_sip::Transport;
    use tokio::sync::mpsc::{Receiver, channel};

    const SECOND: Duration = Duration::from_secs(1);

    fn resolver() -> (Resolver, Receiver<Question>) {
        let (questions, asked) = channel(4);
        (Resolver::new(questions, 1), asked)
    }

    fn question(host: &str) -> Question {
        Question { host: host.into(), port: None, transport: None, secure: false }
    }

    fn answer(ttl: Duration) -> Answer {
        let addresses = vec!["192.0.2.1".parse().unwrap()];
        let server = Server { priority: 0, weight: 0, port: 5060, addresses };
        Answer { services: vec![Service { transport: Transport::Udp, servers: vec![server] }], ttl }
    }

    fn leg(number: u64) -> Asker {
        Asker::Leg(LegId::from_raw(number))
    }

    fn is_known(found: &Found) -> bool {
        matches!(found, Found::Now(places) if places.len() == 1)
    }

    #[test]
    fn equal_questions_are_asked_once_and_remembered_for_their_time() {
        let (mut resolver, mut asked) = resolver();
        let (now, name) = (Instant::now(), question("a.example"));
        assert_eq!(resolver.ask(now, &name, leg(1)), Found::Later);
        assert_eq!(resolver.ask(now, &name, leg(2)), Found::Later);
        assert_eq!((asked.try_recv().unwrap(), asked.try_recv().is_err()), (name.clone(), true));
        assert_eq!(resolver.learn(now, &name, Ok(answer(SECOND * 10))), [leg(1), leg(2)]);
        assert!(is_known(&resolver.ask(now + SECOND * 9, &name, leg(3))));
        assert!(asked.try_recv().is_err());
    }

    #[test]
    fn what_has_just_run_out_is_used_while_it_is_asked_again() {
        let (mut resolver, mut asked) = resolver();
        let (now, name) = (Instant::now(), question("a.example"));
        resolver.ask(now, &name, leg(1));
        asked.try_recv().unwrap();
        resolver.learn(now, &name, Ok(answer(SECOND * 10)));
        let later = now + SECOND * 11;
        assert!(is_known(&resolver.ask(later, &name, leg(2))));
        assert!(is_known(&resolver.ask(later, &name, leg(3))));
        assert!(asked.try_recv().is_ok() && asked.try_recv().is_err());
        // Long past its time it is not used blindly, but it is better than a failure.
        let late = now + SECOND * 600;
        assert_eq!(resolver.ask(late, &name, leg(4)), Found::Later);
        assert_eq!(resolver.learn(late, &name, Err("no answer".into())), [leg(4)]);
        assert!(is_known(&resolver.found(&name)));
    }

    #[test]
    fn nothing_and_failures_are_remembered_for_a_while_too() {
        let (mut resolver, mut asked) = resolver();
        let (now, name) = (Instant::now(), question("a.example"));
        resolver.ask(now, &name, leg(1));
        resolver.learn(now, &name, Ok(Answer { services: Vec::new(), ttl: SECOND * 9000 }));
        let Found::Nowhere(why) = resolver.ask(now + SECOND * 59, &name, leg(1)) else { panic!() };
        assert!(why.contains("a.example has no address"), "{why}");
        asked.try_recv().unwrap();
        assert_eq!(resolver.ask(now + SECOND * 100, &name, leg(1)), Found::Later);
        resolver.learn(now + SECOND * 100, &name, Err("refused".into()));
    }

    #[test]
    fn the_table_and_the_queue_have_an_end() {
        let (mut resolver, _asked) = resolver();
        let now = Instant::now();
        for number in 0..4 {
            assert_eq!(resolver.ask(now, &question(&number.to_string()), leg(1)), Found::Later);
        }
        assert!(matches!(resolver.ask(now, &question("5"), leg(1)), Found::Nowhere(_)));
        for number in 0..CAPACITY as u64 * 2 {
            let name = question(&format!("x{number}"));
            resolver.entries.entry(name.clone()).or_default();
            resolver.learn(now + SECOND * 100, &name, Ok(answer(SECOND)));
            resolver.make_room(now + SECOND * 100);
        }
        assert!(resolver.entries.len() <= CAPACITY, "{}", resolver.entries.len());
        assert_eq!(resolver.entries.values().filter(|entry| !entry.waiting.is_empty()).count(), 4);
    }
}
