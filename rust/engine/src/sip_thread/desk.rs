//! The SIP thread's desk: where it finds its state, and where who gives a command carries it out while the thread rests.
//!
//! A call takes four commands. By mail each wakes the SIP thread, and half of the answers wake their reader again; at
//! the desk they cost neither. Nobody waits for the desk but its owner: if it is taken, or mail is there that came
//! before, the command goes by mail.
//!
//! While calls are few, who takes the events may also be the thread's host: it watches the descriptors that the thread
//! would wait on and does the thread's rounds, so that a message wakes one thread and not two, one after the other.
//! The thread then sleeps until a timer is due, and looks every [`LOOK`] whether a message lies there that its host,
//! busy with other things, has not seen.

use super::{MAIL, Parts, ROUND, SOCKETS, SipThread};
use crate::EngineError;
use crate::command::Command;
use crate::event::Outcome;
use crate::message::ToSip;
use crate::queue::Mailbox;
use crate::socket::{Epoll, EventFd, Watch};
use crate::transport;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// How often the thread looks after a host: well before a peer sends again (T1 is 500 ms, RFC 3261 17.1.1.1).
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// The SIP thread's state, until it ends, and its mailbox.
pub(crate) struct SipDesk {
    thread: Mutex<Option<SipThread>>,
    mailbox: Arc<Mailbox<ToSip>>,
    /// What the thread waits on, and what wakes it while it has a host.
    set: Watch,
    call: EventFd,
    hosted: AtomicBool,
    /// What the host found ready.
    found: Mutex<Epoll>,
}

/// Who works at the desk in place of the thread: the number of his command, and what became of it.
pub(super) struct Visitor {
    correlation: u64,
    is_told: bool,
    answer: Option<Result<Outcome, EngineError>>,
}

impl SipDesk {
    pub(crate) fn new(parts: Parts) -> io::Result<Self> {
        let (mailbox, set) = (Arc::clone(&parts.mailbox), parts.watch.clone());
        let thread = Mutex::new(Some(SipThread::new(parts)));
        let found = Mutex::new(Epoll::view(set.clone(), ROUND));
        Ok(Self { thread, mailbox, set, call: EventFd::new()?, hosted: AtomicBool::new(false), found })
    }

    /// What the thread sleeps on while it has a host.
    pub(crate) fn nap(&self) -> io::Result<Epoll> {
        let nap = Epoll::new(1)?;
        nap.add(self.call.fd(), MAIL)?;
        Ok(nap)
    }

    /// The work of the thread, until told to stop and all legs are gone.
    pub(crate) fn run(&self, mut nap: Epoll) {
        let mut epoll = Epoll::view(self.set.clone(), ROUND);
        let mut timeout = self.lock().as_mut().and_then(|thread| thread.timeout(false));
        loop {
            let hosted = self.is_hosted();
            if hosted && nap.wait(timeout).unwrap_or_default() > 0 {
                self.call.clear();
            }
            let ready = epoll.wait(if hosted { Some(Duration::ZERO) } else { timeout });
            let mut desk = self.lock();
            let Some(thread) = desk.as_mut() else { return };
            thread.round(&epoll, ready.unwrap_or_default());
            timeout = thread.timeout(self.is_hosted());
            if thread.is_done() {
                // Its sockets close with it, whoever else still knows the desk.
                return desk.take().into_iter().for_each(SipThread::leave);
            }
        }
    }

    /// Readable while [`SipDesk::attend`] would find something to do.
    pub(crate) fn fd(&self) -> RawFd {
        self.set.0.as_raw_fd()
    }

    /// Whether somebody does the thread's rounds when [`SipDesk::fd`] is readable.
    pub(crate) fn host(&self, hosted: bool) {
        if self.hosted.swap(hosted, Ordering::SeqCst) != hosted {
            // It is to sleep elsewhere from now on.
            match hosted {
                true => self.mailbox.signal(),
                false => self.call.signal(),
            }
        }
    }

    fn is_hosted(&self) -> bool {
        self.hosted.load(Ordering::SeqCst)
    }

    /// A round of the thread, done by its host; nothing if the thread is at its desk itself.
    pub(crate) fn attend(&self) {
        let mut desk = match self.thread.try_lock() {
            Ok(desk) => desk,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let Some(thread) = desk.as_mut().filter(|thread| thread.stop_at.is_none()) else { return };
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = found.wait(Some(Duration::ZERO)).unwrap_or_default();
        if ready > 0 {
            thread.round(&found, ready);
            self.hurry(thread);
        }
    }

    /// Wakes the thread if it would sleep past a new timer.
    fn hurry(&self, thread: &mut SipThread) {
        let hosted = self.is_hosted();
        let next = thread.next_time(Instant::now(), hosted);
        if next.is_some_and(|next| thread.next_round.is_none_or(|round| next < round)) {
            thread.next_round = next;
            match hosted {
                true => self.call.signal(),
                false => self.mailbox.signal(),
            }
        }
    }

    /// Carries a command out at once, or gives it back. `None`: its answer comes as an event.
    pub(crate) fn carry_out(
        &self,
        correlation: u64,
        command: Command,
    ) -> Result<Option<Result<Outcome, EngineError>>, Command> {
        let mut desk = match self.thread.try_lock() {
            Ok(desk) => desk,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(command),
        };
        // No mail goes first, and the thread does not end.
        match desk.as_mut().filter(|thread| thread.stop_at.is_none() && self.mailbox.is_empty()) {
            Some(thread) => {
                let answer = thread.serve(correlation, command);
                self.hurry(thread);
                Ok(answer)
            }
            None => Err(command),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<SipThread>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SipThread {
    /// One round of the thread.
    fn round(&mut self, epoll: &Epoll, ready: usize) {
        self.publisher.touch();
        self.watch_load();
        // What was commanded before a message came counts for it.
        if (0..ready).any(|index| epoll.ready(index).is_some_and(|ready| ready.token == MAIL)) {
            self.read_mail();
        }
        for index in 0..ready {
            match epoll.ready(index) {
                Some(ready) if ready.token == MAIL => {}
                Some(ready) if transport::owns(ready.token) => self.receive_stream(ready),
                Some(ready) => self.receive(ready.token - SOCKETS, ready.error),
                None => {}
            }
        }
        self.handle_timeout();
        self.drain();
        self.flush();
        self.publish(Instant::now());
    }

    /// A visitor's round: at its end all is sent and told, and the thread knows its timers.
    fn serve(&mut self, correlation: u64, command: Command) -> Option<Result<Outcome, EngineError>> {
        self.visitor = Some(Visitor { correlation, is_told: command.is_told(), answer: None });
        self.on_command(Instant::now(), correlation, command);
        self.drain();
        let answer = self.visitor.take().and_then(|visitor| visitor.answer);
        self.flush();
        self.stats.endpoint.set(self.endpoint.stats());
        answer
    }

    /// Keeps the answer for the visitor who waits for it; gives it back if nobody does. What a command leads to that
    /// events tell of is told by them, and so is that it leads to nothing.
    pub(super) fn hand_over(
        &mut self,
        correlation: u64,
        result: Result<Outcome, EngineError>,
    ) -> Option<Result<Outcome, EngineError>> {
        let waits = |visitor: &&mut Visitor| {
            visitor.correlation == correlation && !(visitor.is_told && result.is_err())
        };
        match self.visitor.as_mut().filter(waits) {
            Some(visitor) => {
                visitor.answer = Some(result);
                None
            }
            None => Some(result),
        }
    }
}
