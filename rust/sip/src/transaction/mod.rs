//! The transaction layer (RFC 3261 17, RFC 6026): every request and response passes through here, and what has been
//! sent is sent again from here.
//!
//! The four machines are tables in their own files; this room files the transactions and carries out what the
//! tables say.

pub(crate) mod client;
pub(crate) mod client_invite;
mod clients;
pub(crate) mod key;
mod mtu;
mod quote;
pub(crate) mod server;
pub(crate) mod server_invite;
mod servers;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub(crate) use clients::{ClientKey, ClientOutcome, ClientSignal, Clients, Request, User, follow_up};
pub(crate) use servers::{Arrival, ServerKey, ServerSignal, Servers};

use bytes::Bytes;
use mtu::Switch;

use crate::endpoint::LegKey;
use crate::stats::Stats;
use crate::timer::{TimerKind, TimerQueue, TimerSet, TimerValues, common_intervals};
use crate::{Flow, Limits, Transmit};

/// What a machine asks for in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Sends the request, or the last response, once more or for the first time.
    Transmit,
    /// Sends the ACK of a failure (17.1.1.3).
    Acknowledge,
    /// Sends 100 Trying.
    Trying,
    /// Gives the message to the user.
    Deliver,
    /// Tells the user that the transaction has failed: timeout or transport.
    Fail,
    /// Starts a timer at its first interval, if the transport needs it.
    Start(TimerKind),
    /// Starts a timer at T2 (17.1.2.2).
    StartAtT2(TimerKind),
    /// Starts an expired timer at its next interval.
    Escalate(TimerKind),
    /// Stops a timer.
    Stop(TimerKind),
}

/// Who a timer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Client(ClientKey),
    Server(ServerKey),
    Leg(LegKey),
}

/// A timer in the one queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timer {
    pub(crate) owner: Owner,
    pub(crate) kind: TimerKind,
}

/// What the machines share: the way out, the timers, the counters and the values all of them go by.
#[derive(Debug)]
pub(crate) struct Io {
    pub(crate) timers: TimerQueue<Timer>,
    pub(crate) transmits: VecDeque<Transmit>,
    pub(crate) stats: Stats,
    pub(crate) values: TimerValues,
    pub(crate) limits: Limits,
    pub(crate) switch: Switch,
}

impl Io {
    pub(crate) fn new(values: TimerValues, limits: Limits, max_datagram: usize) -> Self {
        Self {
            timers: TimerQueue::new(&common_intervals(&values)),
            transmits: VecDeque::new(),
            stats: Stats::default(),
            values,
            limits,
            switch: Switch::new(max_datagram),
        }
    }

    fn send(&mut self, flow: Flow, payload: Bytes) {
        self.stats.messages_out += 1;
        self.transmits.push_back(Transmit { flow, payload });
    }

    /// Line ends that keep a flow open (RFC 5626 3.5.1).
    pub(crate) fn send_keep_alive(&mut self, flow: Flow) {
        self.transmits.push_back(Transmit { flow, payload: Bytes::from_static(b"\r\n\r\n") });
    }

    /// The answer to a peer's keep-alive, which is no message either.
    pub(crate) fn send_stun(&mut self, flow: Flow, answer: Vec<u8>) {
        self.transmits.push_back(Transmit { flow, payload: answer.into() });
    }

    /// A response without a transaction (8.2.7): the peer's retransmission asks for it again.
    pub(crate) fn send_stateless(&mut self, flow: Flow, payload: Bytes) {
        self.send(flow, payload);
    }
}

/// The timers of one owner, with the queue they run in.
pub(crate) struct Running<'a> {
    pub(crate) set: &'a mut TimerSet,
    pub(crate) owner: Owner,
    pub(crate) reliable: bool,
    pub(crate) now: Instant,
}

impl Running<'_> {
    pub(crate) fn start(&mut self, io: &mut Io, kind: TimerKind) {
        if let Some(interval) = kind.interval(&io.values, self.reliable) {
            self.start_in(io, kind, interval);
        }
    }

    pub(crate) fn start_in(&mut self, io: &mut Io, kind: TimerKind, interval: Duration) {
        self.set.start(&mut io.timers, self.now, kind, interval, Timer { owner: self.owner, kind });
    }

    /// Starts `kind`, which has just expired after `last`, at its next interval.
    pub(crate) fn escalate(&mut self, io: &mut Io, kind: TimerKind, last: Duration) {
        self.start_in(io, kind, kind.next_interval(last, &io.values));
    }

    pub(crate) fn stop(&mut self, io: &mut Io, kind: TimerKind) {
        self.set.stop(&mut io.timers, kind);
    }

    /// Carries out an action that only concerns timers; false for any other.
    fn carry_out(&mut self, io: &mut Io, action: Action, last: Option<Duration>) -> bool {
        match action {
            Action::Start(kind) => self.start(io, kind),
            Action::StartAtT2(kind) => {
                let t2 = io.values.t2;
                self.start_in(io, kind, t2);
            }
            Action::Escalate(kind) => last.into_iter().for_each(|last| self.escalate(io, kind, last)),
            Action::Stop(kind) => self.stop(io, kind),
            _ => return false,
        }
        true
    }
}
