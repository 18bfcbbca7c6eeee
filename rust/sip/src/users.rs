//! Phones that register here, and what is told of them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::Transport;
use crate::digest::Secret;

/// Everybody who may register, or is asked who he is.
#[derive(Debug, Clone, Default)]
pub struct Users {
    /// The realm of their passwords.
    pub realm: Arc<str>,
    /// By name, which is the user part of an address of record here and the user name of a digest.
    pub accounts: HashMap<Arc<str>, Account>,
}

/// One user.
#[derive(Debug, Clone)]
pub struct Account {
    /// The password or its hash.
    pub secret: Secret,
    /// How many phones may be registered at once.
    pub max_contacts: usize,
}

/// What a trunk's calls must prove before they are let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The realm they are asked for.
    pub realm: Arc<str>,
    /// The only user name that does.
    pub username: Arc<str>,
    /// Its password.
    pub secret: Secret,
}

/// One phone of a user, as it can be called now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Names its flow; never used twice.
    pub token: u64,
    /// The Contact it gave: the Request-URI of calls to it.
    pub uri: Box<str>,
    /// Its preference in thousandths (RFC 3261 20.10); the highest is called first.
    pub q: u16,
    /// How long it still stands.
    pub expires: Duration,
    /// Where its REGISTER came from.
    pub source: SocketAddr,
    /// How.
    pub transport: Transport,
    /// What it calls itself.
    pub user_agent: Box<str>,
}
