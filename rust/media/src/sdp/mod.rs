//! Session descriptions (RFC 8866) and offer/answer (RFC 3264) for SIP and WebRTC legs.
//!
//! [`parse`] keeps every line, so that printing a [`Session`] gives the same bytes back; typed values are read from
//! the lines on demand. [`offer`], [`answer`] and [`accept`] are pure functions; the state of an exchange, such as
//! the pending offer, belongs to the leg.

mod attribute;
mod model;
pub mod negotiate;
mod parse;

pub use attribute::{Direction, Fingerprint, HashFunction, RtpMap, Setup};
pub use model::{Connection, Line, Media, Session};
pub use negotiate::{
    Encoding, IceParameters, Negotiated, NegotiationError, Params, Peer, RtpPeer, Standing, TelephoneEvent,
    Transport, WebRtcPeer, accept, answer, is_off, offer,
};
pub use parse::{MAX_LENGTH, MAX_LINES, MAX_MEDIA, SdpError, parse};
