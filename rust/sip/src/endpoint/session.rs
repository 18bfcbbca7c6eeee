//! The life of a leg as one table: an INVITE session seen from the user agent core (RFC 3261 13, 14, 15 and 9).

/// How far a leg has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// UAC: the INVITE is out, nothing has been heard.
    Calling,
    /// UAC: a provisional response has arrived.
    Proceeding,
    /// UAC: given up before any response; CANCEL must wait for one (9.1).
    CancelHeld,
    /// UAC: CANCEL is out, the INVITE's final response is awaited.
    Cancelling,
    /// UAS: the INVITE is here, not finally answered.
    Incoming,
    /// UAS: the 2xx is out, its ACK awaited.
    Accepted,
    /// UAS: hung up before the ACK; BYE must wait for it (15.1.1).
    Leaving,
    /// Both: the session stands.
    Confirmed,
    /// Nothing more will happen; what remains belongs to transactions.
    Over,
}

/// What happens to a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// Responses to our INVITE: 1xx, a 2xx of a fork not seen before, 3xx-6xx.
    Provisional,
    Success,
    Failure,
    /// Timer B: the INVITE was never answered.
    Unreachable,
    TransportError,
    /// Requests of the peer.
    Ack,
    Bye,
    Cancel,
    /// Commands.
    Answer,
    Reject,
    Hangup,
    /// A request of ours within the dialog showed that the peer no longer knows it, or nobody answered the peer's offer.
    Lost,
    /// Timers: the caller's patience, Expires of the INVITE, the waits after CANCEL and after a 2xx.
    NoAnswer,
    Expired,
    CancelWait,
    AckWait,
}

/// What a leg does about it, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Tells of a provisional response, and keeps the early dialog it makes.
    Progress,
    /// Makes the dialog of a 2xx the one of the leg and acknowledges it.
    Confirm,
    /// Acknowledges a 2xx nobody wants any more and hangs up on it (13.2.2.4).
    AckAndBye,
    Answered,
    /// Sends the INVITE no other way while its CANCEL has to wait (9.1).
    HoldCancel,
    SendCancel,
    SendBye,
    /// Stops waiting for the INVITE's final response (9.1).
    Abandon,
    /// Answers the INVITE with the response at hand.
    Respond,
    /// Repeats the 2xx until its ACK (13.3.1.4).
    AwaitAck,
    Confirmed,
    Ended,
}

pub(crate) fn step(state: State, input: Input) -> (State, &'static [Action]) {
    use Action as Do;
    use Input::*;
    use State::*;
    match (state, input) {
        // Calling out (13.2).
        (Calling | Proceeding, Provisional) => (Proceeding, &[Do::Progress]),
        (Calling | Proceeding, Success) => (State::Confirmed, &[Do::Confirm, Do::Answered]),
        (Calling | Proceeding, Failure | Unreachable | TransportError) => (Over, &[Do::Ended]),
        (Calling, Hangup | NoAnswer) => (CancelHeld, &[Do::HoldCancel, Do::Ended]),
        (Proceeding, Hangup | NoAnswer | Bye | Lost) => (Cancelling, &[Do::SendCancel, Do::Ended]),

        // Giving up (9.1); the 2xx may have crossed the CANCEL.
        (CancelHeld, Provisional) => (Cancelling, &[Do::SendCancel]),
        (CancelHeld | Cancelling, Success) => (Over, &[Do::AckAndBye]),
        (CancelHeld | Cancelling, Failure | Unreachable | TransportError) => (Over, &[]),
        (Cancelling, CancelWait) => (Over, &[Do::Abandon]),

        // Being called (13.3).
        (Incoming, Answer) => (Accepted, &[Do::Respond, Do::AwaitAck]),
        (Incoming, Reject | Hangup | Cancel | Bye | Expired | Lost | TransportError) => {
            (Over, &[Do::Respond, Do::Ended])
        }
        (Accepted, Ack) => (State::Confirmed, &[Do::Confirmed]),
        (Accepted, Bye) => (Over, &[Do::Ended]),
        // The 2xx that got lost is sent again, and its ACK is waited for in any case (RFC 6026 figure 7).
        (Accepted, AckWait) => (Over, &[Do::SendBye, Do::Ended]),
        (Accepted, Hangup | Lost) => (Leaving, &[Do::Ended]),
        (Leaving, Ack | AckWait) => (Over, &[Do::SendBye]),
        (Leaving, Bye) => (Over, &[]),

        // Talking (14, 15). Another fork's 2xx comes too late; a re-INVITE's 2xx needs its ACK too.
        (State::Confirmed, Success) => (State::Confirmed, &[Do::AckAndBye]),
        (State::Confirmed, Ack) => (State::Confirmed, &[Do::Confirmed]),
        (State::Confirmed, Bye) => (Over, &[Do::Ended]),
        (State::Confirmed, Hangup | AckWait | Lost) => (Over, &[Do::SendBye, Do::Ended]),

        (unchanged, _) => (unchanged, &[]),
    }
}

impl State {
    /// The state in words, for errors.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Calling | Self::Proceeding => "calling out",
            Self::CancelHeld | Self::Cancelling => "being cancelled",
            Self::Incoming => "not answered yet",
            Self::Accepted => "answered and not acknowledged",
            Self::Confirmed => "talking",
            Self::Leaving | Self::Over => "over",
        }
    }
}
