//! Text to lines.

use super::Session;

/// Why a text is no session description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad SDP: {0}")]
pub struct SdpError(pub String);

/// Parses a session description.
///
/// # Errors
/// If the text is too long or has a line that is no SDP line.
pub fn parse(_text: &str) -> Result<Session, SdpError> {
    Ok(Session::default())
}
