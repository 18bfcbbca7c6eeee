//! Header fields: their names and the grammar of those values the gateway acts on (RFC 3261 20 and 25).

mod cseq;
mod name;
mod name_addr;
mod params;
pub(crate) mod scan;
mod via;

pub use cseq::Cseq;
pub use name::Name;
pub use name_addr::NameAddr;
pub use params::Params;
pub use scan::{Values, unquote};
pub use via::Via;

/// A header value (or URI) that breaks its grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} ({section})")]
pub struct Malformed {
    /// What is wrong, in a few words fit for a reason phrase.
    pub what: &'static str,
    /// The section of the RFC that rules it.
    pub section: &'static str,
}

impl Malformed {
    pub(crate) const fn new(what: &'static str, section: &'static str) -> Self {
        Self { what, section }
    }
}
