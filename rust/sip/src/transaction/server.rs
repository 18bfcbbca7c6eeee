//! The non-INVITE server transaction: RFC 3261 17.2.2 (figure 8), with the late 100 of RFC 4320 4.1.

use super::Action::{self, Fail, Start, Stop, Transmit, Trying as SendTrying};
use crate::timer::TimerKind::{J, Late100};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// The request again.
    Request,
    /// The user needs time for its answer.
    Pending,
    /// The user's final response; there is no other provisional than 100 (RFC 4320 4.1).
    Final,
    TimerLate100,
    TimerJ,
    TransportError,
}

pub(crate) fn step(state: State, input: Input) -> (State, &'static [Action]) {
    use Input::*;
    use State::*;
    match (state, input) {
        // Nothing has been sent yet that could be sent again.
        (Trying, Request) => (Trying, &[]),
        (Trying, Pending) => (Trying, &[Start(Late100)]),
        (Trying, TimerLate100) => (Proceeding, &[SendTrying]),
        (Proceeding, Request) => (Proceeding, &[Transmit]),

        (Trying | Proceeding, Final) => (Completed, &[Stop(Late100), Transmit, Start(J)]),
        (Completed, Request) => (Completed, &[Transmit]),
        (Completed, TimerJ) => (Terminated, &[]),

        (Trying | Proceeding, TransportError) => (Terminated, &[Fail]),
        (Completed, TransportError) => (Terminated, &[]),

        (unchanged, _) => (unchanged, &[]),
    }
}
