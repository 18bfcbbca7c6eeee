//! Bounded queues between threads, each with an eventfd that is signalled only when the reader may be asleep.

use crate::socket::EventFd;
use crossbeam_queue::ArrayQueue;
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a message that is not urgent may wait for one that is: a reader that wakes seldom has its work in its
/// caches for many, while each wake-up of its own would cost more than the message.
const HUSH: Duration = Duration::from_millis(200);
/// So many messages are worth a wake-up. Of more at once the reader would keep a core busy for so long that signalling
/// waits for it where cores are few.
const COMPANY: usize = 16;

/// A bounded queue with many writers and one reader, who sleeps on [`Mailbox::fd`].
pub(crate) struct Mailbox<T> {
    queue: ArrayQueue<T>,
    wake: EventFd,
    /// The eventfd was signalled and the reader has not begun to read since.
    signalled: AtomicBool,
    /// Messages taken since the start, and messages placed.
    taken: AtomicU64,
    placed: AtomicU64,
    /// What writers that ended could not place any more; read last.
    left: Mutex<VecDeque<T>>,
}

impl<T> Mailbox<T> {
    pub(crate) fn new(capacity: usize) -> io::Result<Self> {
        Ok(Self {
            queue: ArrayQueue::new(capacity.max(1)),
            wake: EventFd::new()?,
            signalled: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            placed: AtomicU64::new(0),
            left: Mutex::new(VecDeque::new()),
        })
    }

    /// Appends a message, or gives it back if the queue is full.
    pub(crate) fn send(&self, message: T) -> Result<(), T> {
        self.queue.push(message)?;
        self.placed.fetch_add(1, Ordering::Relaxed);
        self.signal();
        Ok(())
    }

    /// Appends a message that is not worth waking the reader for, or gives it back if the queue is full.
    fn send_quietly(&self, message: T) -> Result<(), T> {
        self.queue.push(message)?;
        self.placed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Wakes the reader, with one system call per sleep of its however many messages come.
    pub(crate) fn signal(&self) {
        if !self.signalled.swap(true, Ordering::SeqCst) {
            self.wake.signal();
        }
    }

    /// The reader says that it is awake and will now take until `None`. A writer that comes later signals again.
    pub(crate) fn begin(&self) {
        self.wake.clear();
        self.signalled.store(false, Ordering::SeqCst);
    }

    pub(crate) fn take(&self) -> Option<T> {
        let message = self.queue.pop()?;
        self.taken.fetch_add(1, Ordering::Relaxed);
        Some(message)
    }

    /// How many messages were taken so far, and placed.
    pub(crate) fn progress(&self) -> (u64, u64) {
        (self.taken.load(Ordering::Relaxed), self.placed.load(Ordering::Relaxed))
    }

    /// Takes what ended writers left; only after `take` said `None` and all writers ended is this the rest.
    pub(crate) fn take_left(&self) -> Option<T> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.wake.fd()
    }
}

/// One writer's end of a mailbox. Nothing is lost when the mailbox is full: it waits here, in order.
///
/// The wait is bounded by what the writer owns, its legs: new work must not be begun while [`Outbox::is_clogged`].
pub(crate) struct Outbox<T> {
    mailbox: Arc<Mailbox<T>>,
    waiting: VecDeque<T>,
    /// When the reader is to be woken for what was sent quietly, should it still be there.
    hushed: Option<Instant>,
}

impl<T> Outbox<T> {
    pub(crate) fn new(mailbox: Arc<Mailbox<T>>) -> Self {
        Self { mailbox, waiting: VecDeque::new(), hushed: None }
    }

    pub(crate) fn send(&mut self, message: T) {
        if !self.waiting.is_empty() {
            self.waiting.push_back(message);
        } else if let Err(message) = self.mailbox.send(message) {
            self.waiting.push_back(message);
        } else {
            self.hushed = None;
        }
    }

    /// Sends a message that nobody is in a hurry for: as a rule another one soon wakes the reader for both, and if none
    /// does, [`Outbox::flush`] does after [`HUSH`]. [`COMPANY`] is reason enough, too: no flood shall wait.
    pub(crate) fn send_quietly(&mut self, now: Instant, message: T) {
        if !self.waiting.is_empty() {
            self.waiting.push_back(message);
        } else if let Err(message) = self.mailbox.send_quietly(message) {
            self.waiting.push_back(message);
        }
        match self.mailbox.len() >= COMPANY {
            true => self.mailbox.signal(),
            false => _ = self.hushed.get_or_insert(now + HUSH),
        }
    }

    /// When `flush` is wanted for what was sent quietly.
    pub(crate) fn hushed_until(&self) -> Option<Instant> {
        self.hushed
    }

    /// Moves what waits into the mailbox, as far as there is room. To be called in each round of the writer.
    pub(crate) fn flush(&mut self) {
        if self.hushed.is_some_and(|until| until <= Instant::now()) {
            self.hushed = None;
            if !self.mailbox.is_empty() {
                self.mailbox.signal();
            }
        }
        while let Some(message) = self.waiting.pop_front() {
            if let Err(message) = self.mailbox.send(message) {
                self.waiting.push_front(message);
                return;
            }
        }
    }

    /// Messages wait: come back soon, and begin nothing new.
    pub(crate) fn is_clogged(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn mailbox(&self) -> &Mailbox<T> {
        &self.mailbox
    }

    /// The writer ends: what could not be placed stays for [`Mailbox::take_left`].
    pub(crate) fn leave(&mut self) {
        self.flush();
        if self.is_clogged() {
            self.mailbox.left.lock().unwrap_or_else(PoisonError::into_inner).append(&mut self.waiting);
            self.mailbox.signal();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::Epoll;

    fn is_readable<T>(mailbox: &Mailbox<T>) -> bool {
        let mut epoll = Epoll::new(1).unwrap();
        epoll.add(mailbox.fd(), 0).unwrap();
        epoll.wait(Some(Duration::ZERO)).unwrap() == 1
    }

    #[test]
    fn signals_only_from_empty() {
        let mailbox = Mailbox::new(4).unwrap();
        assert!(!is_readable(&mailbox));
        mailbox.send(1).unwrap();
        mailbox.send(2).unwrap();
        assert!(is_readable(&mailbox));
        mailbox.begin();
        assert!(!is_readable(&mailbox));
        assert_eq!((mailbox.take(), mailbox.take(), mailbox.take()), (Some(1), Some(2), None));
        mailbox.send(3).unwrap();
        assert!(is_readable(&mailbox));
    }

    #[test]
    fn a_quiet_message_waits_for_the_next_but_not_for_ever() {
        let mailbox = Arc::new(Mailbox::new(4).unwrap());
        let mut outbox = Outbox::new(Arc::clone(&mailbox));
        let now = Instant::now();
        outbox.send_quietly(now, 1);
        assert!(!is_readable(&mailbox));
        outbox.send(2);
        assert!(is_readable(&mailbox));
        mailbox.begin();
        assert_eq!((mailbox.take(), mailbox.take(), mailbox.take()), (Some(1), Some(2), None));
        assert_eq!(outbox.hushed_until(), None);
        outbox.send_quietly(now - HUSH, 3);
        outbox.send_quietly(now, 4);
        assert_eq!(outbox.hushed_until(), Some(now), "the earlier one's time counts");
        outbox.flush();
        assert!(is_readable(&mailbox));
        assert_eq!(outbox.hushed_until(), None);
    }

    #[test]
    fn quiet_messages_in_a_crowd_wake_the_reader() {
        let mailbox = Arc::new(Mailbox::new(2 * COMPANY).unwrap());
        let (mut outbox, now) = (Outbox::new(Arc::clone(&mailbox)), Instant::now());
        (1..COMPANY).for_each(|number| outbox.send_quietly(now, number));
        assert!(!is_readable(&mailbox));
        outbox.send_quietly(now, COMPANY);
        assert!(is_readable(&mailbox));
    }

    #[test]
    fn an_outbox_keeps_order_and_loses_nothing() {
        let mailbox = Arc::new(Mailbox::new(2).unwrap());
        let mut outbox = Outbox::new(Arc::clone(&mailbox));
        (0..5).for_each(|number| outbox.send(number));
        assert!(outbox.is_clogged());
        let mut taken = Vec::new();
        while taken.len() < 5 {
            taken.extend(mailbox.take());
            outbox.flush();
        }
        assert_eq!(taken, [0, 1, 2, 3, 4]);
        assert!(!outbox.is_clogged());
        (5..9).for_each(|number| outbox.send(number));
        outbox.leave();
        let rest: Vec<_> = std::iter::from_fn(|| mailbox.take().or_else(|| mailbox.take_left())).collect();
        assert_eq!(rest, [5, 6, 7, 8]);
    }

    #[test]
    fn a_reader_never_misses_a_message() {
        let mailbox = Arc::new(Mailbox::new(1024).unwrap());
        let writer = Arc::clone(&mailbox);
        let thread = std::thread::spawn(move || {
            for number in 0..100_000_u32 {
                let mut message = number;
                while let Err(back) = writer.send(message) {
                    message = back;
                    std::thread::yield_now();
                }
            }
        });
        let mut epoll = Epoll::new(1).unwrap();
        epoll.add(mailbox.fd(), 0).unwrap();
        let mut next = 0;
        while next < 100_000 {
            assert_eq!(epoll.wait(Some(Duration::from_secs(5))).unwrap(), 1, "slept through message {next}");
            mailbox.begin();
            while let Some(number) = mailbox.take() {
                assert_eq!(number, next);
                next += 1;
            }
        }
        thread.join().unwrap();
    }
}
