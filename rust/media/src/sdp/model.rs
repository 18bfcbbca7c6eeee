//! The line model.

/// One line, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {}

/// One media section: its `m=` line and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Media {}

/// A session description. `Display` prints it back byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Session {}

impl std::fmt::Display for Session {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}
