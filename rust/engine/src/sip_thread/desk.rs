//! The SIP thread's desk: where it finds its state, and where who gives a command carries it out while the thread rests.
//!
//! A call takes four commands. By mail each wakes the SIP thread, and half of the answers wake their reader again; at
//! the desk they cost neither. Nobody waits for the desk but its owner: if it is taken, or mail is there that came
//! before, the command goes by mail.

use super::{MAIL, Parts, SOCKETS, SipThread};
use crate::EngineError;
use crate::command::Command;
use crate::event::Outcome;
use crate::message::ToSip;
use crate::queue::Mailbox;
use crate::socket::Epoll;
use crate::transport;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

/// The SIP thread's state, until it ends, and its mailbox.
pub(crate) struct SipDesk {
    thread: Mutex<Option<SipThread>>,
    mailbox: Arc<Mailbox<ToSip>>,
}

/// Who works at the desk in place of the thread: the number of his command, and what became of it.
pub(super) struct Visitor {
    correlation: u64,
    is_told: bool,
    answer: Option<Result<Outcome, EngineError>>,
}

impl SipDesk {
    pub(crate) fn new(parts: Parts) -> Self {
        Self { mailbox: Arc::clone(&parts.mailbox), thread: Mutex::new(Some(SipThread::new(parts))) }
    }

    /// The work of the thread, until told to stop and all legs are gone.
    pub(crate) fn run(&self, mut epoll: Epoll) {
        let mut timeout = self.lock().as_mut().and_then(SipThread::timeout);
        loop {
            let ready = epoll.wait(timeout).unwrap_or_default();
            let mut desk = self.lock();
            let Some(thread) = desk.as_mut() else { return };
            thread.round(&epoll, ready);
            timeout = thread.timeout();
            if thread.is_done() {
                // Its sockets close with it, whoever else still knows the desk.
                return desk.take().into_iter().for_each(SipThread::leave);
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
            Some(thread) => Ok(thread.serve(correlation, command)),
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
        if !self.forwards.is_empty() {
            self.send_on(Instant::now());
            self.drain();
        }
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
        self.hurry();
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

    /// Wakes the thread if it would sleep past a new timer.
    fn hurry(&mut self) {
        let next = self.next_time(Instant::now());
        if next.is_some_and(|next| self.next_round.is_none_or(|round| next < round)) {
            self.next_round = next;
            self.mailbox.signal();
        }
    }
}
