//! Counters: what there is now, and what has happened so far.

/// A snapshot of an endpoint's counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Client transactions alive.
    pub client_transactions: usize,
    /// Server transactions alive.
    pub server_transactions: usize,
    /// Dialogs alive, early ones and those waiting for the answer to their BYE included.
    pub dialogs: usize,
    /// Legs alive, those that only wait for their transactions included.
    pub legs: usize,
    /// Timers running.
    pub timers: usize,
    /// Messages received, garbage excluded.
    pub messages_in: u64,
    /// Messages sent, retransmissions included.
    pub messages_out: u64,
    /// Requests and responses received again.
    pub retransmissions_in: u64,
    /// Requests and responses sent again.
    pub retransmissions_out: u64,
    /// Requests refused without state, by anything but overload.
    pub refused: u64,
    /// Challenges to our requests that were answered.
    pub challenged: u64,
    /// Wrong credentials received.
    pub wrong_credentials: u64,
    /// New requests answered 503: overload, draining or full tables.
    pub overloaded: u64,
    /// What was dropped without an answer.
    pub dropped: Drops,
}

/// Dropped messages by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops {
    /// No SIP message, and nothing in it could be answered.
    pub malformed: u64,
    /// Empty datagrams and CRLF keep-alives (RFC 5626 3.5.1).
    pub keep_alive: u64,
    /// Responses that match no transaction (RFC 3261 18.1.2).
    pub stray_response: u64,
    /// ACKs that match neither transaction nor dialog.
    pub stray_ack: u64,
    /// Forks or early dialogs beyond what one leg may have.
    pub too_many_forks: u64,
    /// Messages of our own that could not be written because of what the peer sent.
    pub unbuildable: u64,
}
