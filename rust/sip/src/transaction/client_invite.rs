//! The INVITE client transaction: RFC 3261 17.1.1.2 (figure 5) with the Accepted state of RFC 6026 8.4.

use super::Action::{self, Acknowledge, Deliver, Escalate, Fail, Start, Stop, Transmit};
use crate::timer::TimerKind::{A, B, D, M};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Calling,
    Proceeding,
    Completed,
    Accepted,
    Terminated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    Provisional,
    Success,
    Failure,
    TimerA,
    TimerB,
    TimerD,
    TimerM,
    TransportError,
}

/// What the transaction does the moment it is made.
pub(crate) const OPENING: &[Action] = &[Transmit, Start(A), Start(B)];

pub(crate) fn step(state: State, input: Input) -> (State, &'static [Action]) {
    use Input::*;
    use State::*;
    match (state, input) {
        (Calling, TimerA) => (Calling, &[Transmit, Escalate(A)]),
        // In Proceeding timer B has been stopped; it runs again for a re-INVITE whose dialog is over.
        (Calling | Proceeding, TimerB) => (Terminated, &[Fail]),
        (Calling | Proceeding, TransportError) => (Terminated, &[Fail]),

        (Calling, Provisional) => (Proceeding, &[Stop(A), Stop(B), Deliver]),
        (Proceeding, Provisional) => (Proceeding, &[Deliver]),

        (Calling | Proceeding, Failure) => (Completed, &[Stop(A), Stop(B), Start(D), Acknowledge, Deliver]),
        (Completed, Failure) => (Completed, &[Acknowledge]),
        (Completed, TimerD | TransportError) => (Terminated, &[]),

        (Calling | Proceeding, Success) => (Accepted, &[Stop(A), Stop(B), Start(M), Deliver]),
        // Retransmissions and forks: the user acknowledges each (RFC 6026 7.2).
        (Accepted, Success) => (Accepted, &[Deliver]),
        (Accepted, TimerM) => (Terminated, &[]),

        (unchanged, _) => (unchanged, &[]),
    }
}
