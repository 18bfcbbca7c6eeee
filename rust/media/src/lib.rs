//! Media of a telephony gateway, without a socket, a clock or a thread.
//!
//! Everything between two sockets of a call: SDP, ICE, DTLS, SRTP, RTP, codecs and the joining of legs. Bytes and
//! time go in (`handle_*`), datagrams and events come out (`poll_*`).

pub mod codec;
pub mod dtls;
pub mod ice;
pub mod sdp;
pub mod srtp;
