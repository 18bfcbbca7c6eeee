//! Media of a telephony gateway, without a socket, a clock or a thread.
//!
//! Everything between two sockets of a call: SDP, ICE, DTLS, SRTP, RTP, codecs and the joining of legs. Bytes and
//! time go in (`handle_*`), datagrams and events come out (`poll_*`).

mod bridge;
pub mod codec;
pub mod dtls;
pub mod dtmf;
pub mod error;
pub mod ice;
mod leg;
mod own;
pub mod ringback;
mod rng;
pub mod rtcp;
pub mod rtp;
pub mod sdp;
pub mod srtp;
pub mod stats;
pub mod switch;

pub use error::Error;
pub use own::OwnPorts;
pub use switch::{Component, EndReason, Event, LegId, Path, Renewal, Switch, SwitchConfig, Transmit};
