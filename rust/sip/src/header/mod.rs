//! Header fields: their names and the grammar of those values the gateway acts on (RFC 3261 20 and 25).

mod cseq;
mod name;
mod name_addr;
mod params;
mod refer_to;
mod replaces;
pub(crate) mod scan;
mod via;

pub use cseq::Cseq;
pub use name::Name;
pub(crate) use name::Names;
pub(crate) use name_addr::Address;
pub use name_addr::NameAddr;
pub use params::Params;
pub use refer_to::ReferTo;
pub use replaces::Replaces;
pub use scan::{Values, unquote};
pub use via::Via;
pub(crate) use via::{Hop, reply_address};

/// A header value (or URI) that breaks its grammar: what is wrong, in a few words fit for a reason phrase, and the
/// section of the RFC that rules it. One pointer wide, for it travels in the result of every scanner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} ({})", .0.0, .0.1)]
pub struct Malformed(pub(crate) &'static (&'static str, &'static str));

impl Malformed {
    /// What is wrong.
    #[must_use]
    pub fn what(&self) -> &'static str {
        self.0.0
    }

    /// Where the rule is written.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.0.1
    }
}
