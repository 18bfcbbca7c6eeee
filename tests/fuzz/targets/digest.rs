//! Any text as the challenges and credentials of a message: no panic, values lie inside, and a choice is one we can keep.
#![no_main]

use libfuzzer_sys::fuzz_target;
use telephony_sip::digest::{Algorithm, Challenge, Fields, Secret};
use telephony_sip::{Limits, Message, Name};

fuzz_target!(|data: &str| {
    for fields in Fields::parse(data) {
        let _ = (fields.is_digest(), fields.value("realm"), fields.value("nonce"), fields.value("qop"));
        let known = fields.value("algorithm").and_then(Algorithm::parse);
        assert!(known.is_none_or(|known| Algorithm::parse(known.name()) == Some(known)));
    }
    let _ = Secret::from_ha1(data);
    if data.contains(['\r', '\n']) {
        return;
    }
    let challenged = format!(
        "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\n\
         To: <sip:a@b>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nWWW-Authenticate: {data}\r\n\
         WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\nContent-Length: 0\r\n\r\n"
    );
    let Ok(response) = Message::parse(challenged.into(), &Limits::default()) else { return };
    let _ = Challenge::choose(&response, Name::WwwAuthenticate, "r").map(|challenge| challenge.algorithm());
});
