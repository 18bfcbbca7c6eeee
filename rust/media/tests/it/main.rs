//! The tests of this crate that see it from outside, in virtual time.

#![allow(
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, and virtual time begins at some real instant"
)]

mod browser;
mod codec;
mod corpus;
mod dtls;
mod dtmf;
mod hold;
mod ice;
mod ringback;
mod rtcp;
mod rtp;
mod sdp;
mod sources;
mod srtp;
mod switch;
mod transcode;
mod webrtc;
mod wire;
