//! The Session Initiation Protocol of the gateway: messages, transactions, dialogs (RFC 3261 and its extensions).
//!
//! Pure: bytes and time are arguments, nothing here owns a socket, a clock or a thread. Feed datagrams and commands
//! to an endpoint, then drain what it wants sent, told and woken for. A body is opaque bytes; SDP is `media`'s.

pub mod build;
pub mod framer;
pub mod header;
pub mod limits;
pub mod message;
pub mod method;
pub mod parse;
pub mod uri;

pub use build::{BuildError, Builder};
pub use framer::{Frame, Framer};
pub use header::{Cseq, Malformed, Name, NameAddr, Params, Via};
pub use limits::Limits;
pub use message::Message;
pub use method::{Method, StatusCode};
pub use parse::{ParseError, Rule};
pub use uri::{Host, Scheme, Uri};
