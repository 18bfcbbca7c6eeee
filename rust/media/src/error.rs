//! The one error type of this crate: what a caller asked for and could not have.
//! A peer's bad packet is never an error, it is a counted drop (see [`crate::stats::DropReason`]).

/// Why a command to the [`crate::switch::Switch`] was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No leg has this id.
    #[error("no such leg")]
    UnknownLeg,
    /// A leg with this id is there already.
    #[error("the leg exists already")]
    LegExists,
    /// The switch holds as many legs as its configuration allows.
    #[error("the switch is full")]
    TooManyLegs,
    /// The session description cannot be read: the peer's fault (SIP 400).
    #[error("malformed SDP: {0}")]
    BadSdp(String),
    /// The session description is sound but nothing in it can be used: the peer's fault (SIP 488).
    #[error("nothing acceptable in the SDP: {reason}")]
    NotAcceptable {
        /// The warn-code of RFC 3261 20.43.
        warning: u16,
        /// What is wrong with it.
        reason: String,
    },
    /// The leg is in no state for this command, for example an answer without an offer.
    #[error("wrong state: {0}")]
    WrongState(&'static str),
    /// The digits hold something other than `0-9 * # A-D`, or there are too many of them.
    #[error("not a digit string")]
    BadDigits,
    /// The leg's peer takes no telephone-events.
    #[error("the peer takes no telephone-events")]
    NoTelephoneEvents,
    /// The candidate line cannot be read.
    #[error("malformed ICE candidate")]
    BadCandidate,
    /// A codec could not be started.
    #[error(transparent)]
    Codec(#[from] crate::codec::CodecError),
}
