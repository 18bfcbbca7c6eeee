//! The non-INVITE client transaction: RFC 3261 17.1.2.2 (figure 6).

use super::Action::{self, Deliver, Escalate, Fail, Start, StartAtT2, Stop, Transmit};
use crate::timer::TimerKind::{E, F, K};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    Provisional,
    Final,
    TimerE,
    TimerF,
    TimerK,
    TransportError,
}

/// What the transaction does the moment it is made.
pub(crate) const OPENING: &[Action] = &[Transmit, Start(E), Start(F)];

pub(crate) fn step(state: State, input: Input) -> (State, &'static [Action]) {
    use Input::*;
    use State::*;
    match (state, input) {
        (Trying, TimerE) => (Trying, &[Transmit, Escalate(E)]),
        // Once somebody has answered, retransmission goes on every T2.
        (Proceeding, TimerE) => (Proceeding, &[Transmit, StartAtT2(E)]),
        (Trying | Proceeding, TimerF) => (Terminated, &[Fail]),
        (Trying | Proceeding, TransportError) => (Terminated, &[Fail]),

        (Trying | Proceeding, Provisional) => (Proceeding, &[Deliver]),
        (Trying | Proceeding, Final) => (Completed, &[Stop(E), Stop(F), Start(K), Deliver]),
        (Completed, TimerK | TransportError) => (Terminated, &[]),

        (unchanged, _) => (unchanged, &[]),
    }
}
