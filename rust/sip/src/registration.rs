//! Registrations of ours at a peer's registrar: what is asked for, and what is told of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::users::Binding;
use crate::{Profile, Target};

/// What to register, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Names it; the same name again replaces it.
    pub name: Arc<str>,
    /// The registrar's addresses, best first, and our Contact towards each; none where they are not known for now.
    pub targets: Vec<Target>,
    /// The registrar's URI, without a user.
    pub registrar: String,
    /// Our address of record there, a `sip:` URI.
    pub aor: String,
    /// The user part of our Contact, which calls to us will carry.
    pub contact_user: String,
    /// Seconds to ask for.
    pub expires: u32,
    /// Contact is written anew with the address that the registrar sees, where a NAT is in between.
    pub rewrite: bool,
    /// How the peer wants to be spoken to, and who we are to it.
    pub profile: Arc<Profile>,
}

/// Something to know that belongs to no leg.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A registration of ours stands, as of now for so long; told again when it was lost in between, or when another
    /// server grants it or for another time.
    Registered {
        /// Whose.
        name: Arc<str>,
        /// As granted.
        expires: Duration,
        /// The registrar's address that granted it.
        registrar: SocketAddr,
    },
    /// It could not be made or kept, or is over before its renewal was answered; it will be tried again.
    RegistrationFailed {
        /// Whose.
        name: Arc<str>,
        /// What the registrar said; `None` if nothing was heard.
        status: Option<u16>,
        /// In its words or ours.
        reason: String,
        /// When the next try is; zero while one is under way.
        retry: Duration,
    },
    /// What a user's phones are now, the preferred ones first; told whenever that changes or is renewed.
    Bindings {
        /// Whose.
        user: Arc<str>,
        /// None is left when it is empty.
        bindings: Vec<Binding>,
    },
    /// It is no more, as asked.
    Unregistered {
        /// Whose.
        name: Arc<str>,
    },
}
