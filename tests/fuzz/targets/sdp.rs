//! Any text as a session description: no panic; printed and read again it is the same; an answer to it is sound.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use telephony_media::codec::Codec;
use telephony_media::sdp::{self, Direction, Params, Transport};

fuzz_target!(|data: &str| {
    let Ok(session) = sdp::parse(data) else { return };
    let printed = session.to_string();
    let again = sdp::parse(&printed).expect("sound before");
    assert_eq!(again.to_string(), printed);
    let address: SocketAddr = "192.0.2.1:20000".parse().expect("an address");
    let params = Params {
        codecs: &[Codec::Pcmu, Codec::Pcma, Codec::Opus],
        keys: true,
        session_id: 1,
        session_version: 1,
        direction: Direction::SendRecv,
        ssrc: 1,
        cname: "gateway",
        transport: Transport::Rtp { local: address },
        standing: None,
    };
    if let Ok((answer, _)) = sdp::answer(&session, &params) {
        sdp::parse(&answer.to_string()).expect("our own answer is sound");
    }
    let _ = sdp::accept(&sdp::offer(&params), &session);
});
