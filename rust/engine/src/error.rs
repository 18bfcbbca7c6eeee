//! Why the engine did not start, or refused a command.

use std::io;

/// The stable word of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Code {
    /// Another socket has the address.
    AddressInUse,
    /// The machine has no such address.
    AddressUnavailable,
    /// The system does not allow it.
    Permission,
    /// A setting or an argument cannot be used.
    Invalid,
    /// Every RTP port is taken.
    NoPorts,
    /// The worker carries as many legs as it may, or the process has no descriptor left.
    Exhausted,
    /// No leg has this id.
    UnknownLeg,
    /// The leg is in no state for this command.
    WrongState,
    /// Nothing in the peer's session description can be used.
    NotAcceptable,
    /// A session description that cannot be read.
    BadSdp,
    /// A thread is too far behind to take more.
    QueueFull,
    /// The engine was stopped.
    Stopped,
    /// A fault of ours; the call it happened in was ended.
    Internal,
}

impl Code {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AddressInUse => "address_in_use",
            Self::AddressUnavailable => "address_unavailable",
            Self::Permission => "permission",
            Self::Invalid => "invalid",
            Self::NoPorts => "no_ports",
            Self::Exhausted => "exhausted",
            Self::UnknownLeg => "unknown_leg",
            Self::WrongState => "wrong_state",
            Self::NotAcceptable => "not_acceptable",
            Self::BadSdp => "bad_sdp",
            Self::QueueFull => "queue_full",
            Self::Stopped => "stopped",
            Self::Internal => "internal",
        }
    }
}

/// The engine could not start, or refused a command. The message says what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// The stable word.
    pub code: Code,
    /// The setting to change, where one is at fault.
    pub setting: Option<&'static str>,
    /// What happened and how to mend it.
    pub message: String,
    /// The warn-code of a description that cannot be used (RFC 3261 20.43).
    pub(crate) warning: Option<u16>,
}

impl EngineError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, setting: None, message: message.into(), warning: None }
    }

    /// A setting that cannot be used.
    #[must_use]
    pub fn setting(setting: &'static str, message: impl Into<String>) -> Self {
        Self { setting: Some(setting), ..Self::new(Code::Invalid, message) }
    }

    pub(crate) fn unknown_leg() -> Self {
        Self::new(Code::UnknownLeg, "no such leg")
    }

    pub(crate) fn wrong_state(message: &str) -> Self {
        Self::new(Code::WrongState, message)
    }

    pub(crate) fn queue_full() -> Self {
        Self::new(Code::QueueFull, "the engine is too far behind to take another command; try again")
    }

    pub(crate) fn stopped() -> Self {
        Self::new(Code::Stopped, "the engine is stopped")
    }

    /// A system call of the start failed, which no setting cures.
    pub(crate) fn system(what: &str, error: &io::Error) -> Self {
        let code = match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN) => Code::Exhausted,
            _ => Code::Internal,
        };
        Self::new(code, format!("{what}: {error}"))
    }
}

impl From<telephony_media::Error> for EngineError {
    fn from(error: telephony_media::Error) -> Self {
        use telephony_media::Error;
        let code = match &error {
            Error::UnknownLeg => Code::UnknownLeg,
            Error::LegExists | Error::WrongState(_) | Error::NoTelephoneEvents => Code::WrongState,
            Error::TooManyLegs => Code::Exhausted,
            Error::BadSdp(_) => Code::BadSdp,
            Error::NotAcceptable { .. } => Code::NotAcceptable,
            Error::BadDigits | Error::BadCandidate => Code::Invalid,
            _ => Code::Internal,
        };
        let warning = match &error {
            Error::NotAcceptable { warning, .. } => Some(*warning),
            _ => None,
        };
        Self { warning, ..Self::new(code, error.to_string()) }
    }
}
