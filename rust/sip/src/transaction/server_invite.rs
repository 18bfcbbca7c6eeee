//! The INVITE server transaction: RFC 3261 17.2.1 (figure 7) with the Accepted state of RFC 6026 8.7.

use super::Action::{self, Deliver, Escalate, Fail, Start, Stop, Transmit};
use crate::timer::TimerKind::{G, H, I, L};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Proceeding,
    Completed,
    Confirmed,
    Accepted,
    Terminated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// The INVITE again.
    Request,
    /// An ACK with the INVITE's branch.
    Ack,
    /// The user's 1xx, 2xx and 3xx-6xx.
    Provisional,
    Success,
    Failure,
    TimerG,
    TimerH,
    TimerI,
    TimerL,
    TransportError,
}

pub(crate) fn step(state: State, input: Input) -> (State, &'static [Action]) {
    use Input::*;
    use State::*;
    match (state, input) {
        (Proceeding, Request | Provisional) => (Proceeding, &[Transmit]),

        (Proceeding, Failure) => (Completed, &[Transmit, Start(G), Start(H)]),
        (Completed, Request) => (Completed, &[Transmit]),
        (Completed, TimerG) => (Completed, &[Transmit, Escalate(G)]),
        (Completed, TimerH) => (Terminated, &[]),
        (Completed, Ack) => (Confirmed, &[Stop(G), Stop(H), Start(I)]),
        (Confirmed, TimerI) => (Terminated, &[]),

        (Proceeding, Success) => (Accepted, &[Transmit, Start(L)]),
        // The user repeats its 2xx until the ACK; INVITEs are swallowed without an answer (RFC 6026 7.1).
        (Accepted, Success) => (Accepted, &[Transmit]),
        (Accepted, Ack) => (Accepted, &[Deliver]),
        (Accepted, TimerL) => (Terminated, &[]),

        // RFC 6026 figure 7: the user is told, and the transaction stays: a copy of the INVITE must find it and not a new call.
        (Proceeding, TransportError) => (Proceeding, &[Fail]),
        (Accepted, TransportError) => (Accepted, &[Fail]),

        (unchanged, _) => (unchanged, &[]),
    }
}
