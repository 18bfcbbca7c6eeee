//! How much of a peer's message is looked at before it is refused.

/// Bounds on one message, checked before anything is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest whole message, in bytes.
    pub max_message: usize,
    /// Longest start line plus header section; never more than 65,535 (slots hold 16-bit offsets).
    pub max_head: usize,
    /// Most header lines.
    pub max_headers: usize,
    /// Longest header line, folded lines counted together.
    pub max_header_line: usize,
    /// Longest Request-URI.
    pub max_uri: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message: 65_536,
            max_head: 65_535,
            max_headers: 128,
            max_header_line: 8_192,
            max_uri: 2_048,
        }
    }
}
