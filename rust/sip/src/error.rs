//! Why a command was not carried out.

use crate::header::Malformed;
use crate::{BuildError, LegId};

/// A command that could not be carried out; nothing was sent and nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such leg, or it has ended.
    #[error("no leg {0:?}")]
    UnknownLeg(LegId),
    /// The leg is there already.
    #[error("leg {0:?} exists already")]
    DuplicateLeg(LegId),
    /// The leg's state has no room for this command.
    #[error("a leg that is {state} cannot {command}")]
    WrongState {
        /// The command.
        command: &'static str,
        /// The state, in words.
        state: &'static str,
    },
    /// An earlier re-INVITE or UPDATE of ours is still open.
    #[error("an earlier offer of leg {0:?} is still open")]
    OfferPending(LegId),
    /// Too many transactions or dialogs.
    #[error("tables are full")]
    Full,
    /// The trunk has as many calls as it may.
    #[error("the trunk takes {0} calls at a time")]
    TrunkFull(u32),
    /// A status code this command does not send.
    #[error("status {0} does not fit this command")]
    Status(u16),
    /// A header only the endpoint itself may write.
    #[error("header {0} belongs to the endpoint")]
    ReservedHeader(String),
    /// An address that is none.
    #[error("malformed address: {0}")]
    Address(#[from] Malformed),
    /// A value that would break the message.
    #[error(transparent)]
    Build(#[from] BuildError),
}
