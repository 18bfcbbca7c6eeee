//! Starting, and not; stopping.

use crate::rig::*;
use std::time::{Duration, Instant};
use telephony_engine::{Cause, Code, Command, Engine, EngineConfig, Kind, Side};

#[test]
fn a_taken_port_is_an_error_that_names_it() {
    let _alone = alone();
    let first = Node::start(&config());
    let taken = first.engine.sip_address();
    let error = Engine::start(&EngineConfig { sip_port: taken.port(), ..config() }).err().unwrap();
    assert_eq!((error.code, error.setting), (Code::AddressInUse, Some("SIP_PORT")));
    assert!(error.message.contains(&taken.to_string()), "{error}");

    let webrtc = first.engine.webrtc_addresses()[0].port();
    let error = Engine::start(&EngineConfig { webrtc_port: webrtc, ..config() }).err().unwrap();
    assert_eq!((error.code, error.setting), (Code::AddressInUse, Some("WEBRTC_PORT")));
}

#[test]
fn the_public_address_is_what_peers_are_told() {
    let _alone = alone();
    let mut gateway =
        Node::start(&EngineConfig { sip_public_address: Some("198.51.100.7".into()), ..config() });
    let peer = Peer::new(gateway.engine.sip_address());
    gateway.dial(&peer.uri(), &G711);
    let invite = peer.expect("INVITE");
    assert!(header(&invite, "Contact").unwrap().contains("198.51.100.7:"), "{invite}");
    assert!(invite.contains("c=IN IP4 198.51.100.7"), "{invite}");
}

#[test]
fn a_wildcard_engine_answers_from_the_address_it_was_asked_at() {
    let _alone = alone();
    let mut gateway = Node::start(&EngineConfig { sip_host: "0.0.0.0".into(), ..config() });
    let port = gateway.engine.sip_address().port();
    let peer = Peer::new(format!("127.0.0.9:{port}").parse().unwrap());
    peer.request("INVITE", "wild", 1, "", &peer.sdp("0"));
    let incoming = gateway.incoming();
    assert_eq!(incoming.local.to_string(), format!("127.0.0.9:{port}"));
    gateway.answer(incoming.leg);
    let ok = peer.expect("SIP/2.0 200");
    assert!(header(&ok, "Contact").unwrap().contains("127.0.0.9:"), "{ok}");
    assert_eq!(rtp_address(&ok).ip().to_string(), "127.0.0.9");
}

#[test]
fn stop_hangs_up_and_tells() {
    let _alone = alone();
    let (mut a, mut b) = (Node::start(&config()), Node::start(&config()));
    let (out, inbound) = connect(&mut a, &mut b);
    let ringing = a.dial(&b.uri(), &G711);
    let waiting = b.incoming().leg;
    let begun = Instant::now();
    a.engine.stop(PATIENCE);
    assert!(begun.elapsed() < Duration::from_secs(3), "stopping took {:?}", begun.elapsed());
    assert_eq!((a.ended(out).by, a.ended(ringing).by), (Side::System, Side::System));
    assert_eq!((b.ended(inbound).cause, b.ended(waiting).cause), (Cause::Bye, Cause::Cancel));
    a.engine.stop(PATIENCE);
    let leg = a.engine.next_leg(Kind::Sip, None).unwrap();
    assert_eq!(a.engine.command(Command::Answer { leg }).unwrap_err().code, Code::Stopped);
    assert!(a.engine.leg_stats(leg).is_none());
}

#[test]
fn stop_waits_no_longer_than_told_for_a_peer_that_is_silent() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    let peer = Peer::new(gateway.engine.sip_address());
    let leg = gateway.dial(&peer.uri(), &G711);
    peer.expect("INVITE");
    let begun = Instant::now();
    gateway.engine.stop(Duration::from_millis(300));
    assert!((Duration::from_millis(250)..Duration::from_secs(3)).contains(&begun.elapsed()));
    assert_eq!(gateway.ended(leg).by, Side::System);
}
