//! Session descriptions (RFC 8866) and offer/answer (RFC 3264) for SIP and WebRTC legs.

mod attribute;
mod model;
pub mod negotiate;
mod parse;

pub use attribute::{Direction, Fingerprint, HashFunction, RtpMap, Setup};
pub use model::{Line, Media, Session};
pub use negotiate::{
    IceParameters, Negotiated, NegotiationError, Params, Peer, RtpPeer, TelephoneEvent, Transport, WebRtcPeer, accept,
    answer, offer,
};
pub use parse::{SdpError, parse};
