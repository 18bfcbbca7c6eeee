//! The Session Initiation Protocol of the gateway: messages, transactions, dialogs (RFC 3261 and its extensions).
//!
//! Pure: bytes and time are arguments, nothing here owns a socket, a clock or a thread. Feed datagrams and commands
//! to an endpoint, then drain what it wants sent, told and woken for. A body is opaque bytes, SDP is `media`'s; only keys in
//! INFO are read here.

pub mod admission;
pub mod build;
mod dialog;
pub mod digest;
pub mod endpoint;
pub mod error;
pub mod event;
pub mod flow;
pub mod framer;
pub mod header;
mod host;
mod ident;
mod info;
pub mod limits;
pub mod message;
pub mod method;
pub mod parse;
pub mod profile;
pub mod registration;
pub mod stats;
mod stun;
pub mod target;
pub mod timer;
mod transaction;
pub mod uri;
pub mod users;
mod write;

pub use admission::{Admission, Bucket, Ground, Pace, Refused, Stranger};
pub use build::{BuildError, Builder};
pub use endpoint::{Config, Endpoint, Probe, Probed};
pub use error::Error;
pub use event::{Body, Cause, Dial, Ended, Event, LegId, Referred, Said, Side};
pub use flow::{Connection, Flow, Identity, Transmit, Transport};
pub use framer::{Frame, Framer};
pub use header::{Cseq, Malformed, Name, NameAddr, Params, ReferTo, Replaces, Via};
pub use info::Key;
pub use limits::Limits;
pub use message::Message;
pub use method::{Method, StatusCode};
pub use parse::{ParseError, Rule};
pub use profile::{Profile, SessionTimer, Support};
pub use registration::{Notice, Registration};
pub use stats::{Drops, Stats};
pub use target::{Failover, Failure, Target};
pub use timer::TimerValues;
pub use uri::{Host, Scheme, Uri};
