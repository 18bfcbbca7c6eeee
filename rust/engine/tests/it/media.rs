//! Sound through the engine, and browsers' legs as far as they go without a browser.

use crate::rig::*;
use std::time::Duration;
use telephony_engine::{Cause, Code, Codec, Command, Event, Kind, LegId};

const CODECS: [Codec; 3] = [Codec::Pcmu, Codec::Pcma, Codec::Opus];

/// Sets up peer -> gateway -> second peer, bridged; the legs.
pub(crate) fn bridged(gateway: &mut Node, caller: &Peer, callee: &Peer) -> (LegId, LegId, String, String) {
    caller.request("INVITE", "sound", 1, "", &caller.sdp("0"));
    let inbound = gateway.incoming().leg;
    gateway.run(Command::Ring { leg: inbound, codecs: G711.to_vec(), status: 180 });
    let outbound = gateway.engine.next_leg(Kind::Sip, Some(inbound)).unwrap();
    gateway.run(Command::Dial(Box::new(call(outbound, &callee.uri(), &G711))));
    let invite = callee.expect("INVITE");
    callee.respond(&invite, "200 OK", &callee.sdp("0"));
    callee.expect("ACK");
    gateway.answered(outbound);
    gateway.run(Command::Bridge { first: inbound, second: outbound });
    gateway.run(Command::Answer { leg: inbound });
    let ok = caller.expect("SIP/2.0 200");
    caller.request("ACK", "sound", 1, &to_tag(&ok), "");
    gateway.confirmed(inbound);
    (inbound, outbound, ok, invite)
}

/// Sends packets until one arrives at the other side: the first ones only teach the gateway the source.
pub(crate) fn relay(from: &Peer, to: &Peer, port: std::net::SocketAddr, sound: u8) -> Vec<u8> {
    let mut buffer = [0; 2048];
    to.rtp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    for sequence in 0..200 {
        from.rtp.send_to(&rtp_packet(sequence, sound), port).unwrap();
        if let Ok((172, _)) = to.rtp.recv_from(&mut buffer)
            && buffer[1] & 0x7f == 0
        {
            return buffer[12..172].to_vec();
        }
    }
    panic!("no sound");
}

#[test]
fn rtp_goes_through_a_bridge_both_ways() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    let (caller, callee) = (Peer::new(gateway.engine.sip_address()), Peer::new(gateway.engine.sip_address()));
    let (inbound, outbound, ok, invite) = bridged(&mut gateway, &caller, &callee);
    let (in_port, out_port) = (rtp_address(&ok), rtp_address(&invite));
    assert_eq!((in_port.port() % 2, out_port.port() % 2), (0, 0));
    assert_eq!(relay(&caller, &callee, in_port, 0x55), [0x55; 160]);
    assert_eq!(relay(&callee, &caller, out_port, 0xaa), [0xaa; 160]);
    for of in [inbound, outbound] {
        gateway
            .wait("Connected", |event| matches!(event, Event::Connected { leg } if *leg == of).then_some(()));
        let stats = gateway.engine.leg_stats(of).unwrap();
        assert!(stats.packets_in > 0 && stats.packets_out > 0, "{stats:?}");
    }
    caller.request("BYE", "sound", 2, &to_tag(&ok), "");
    let stats = gateway.ended(inbound).stats.unwrap();
    assert_eq!(stats.codec, Some(Codec::Pcmu));
    assert!(stats.bytes_in >= 160 && stats.bytes_out >= 160);
    gateway.hang_up(outbound);
    let bye = callee.expect("BYE");
    callee.respond(&bye, "200 OK", "");
    gateway.ended(outbound);
}

#[test]
fn legs_of_two_workers_cannot_be_bridged() {
    let _alone = alone();
    let node = Node::start(&telephony_engine::EngineConfig { media_workers: 2, ..config() });
    let legs: Vec<LegId> = (0..2).map(|_| node.engine.next_leg(Kind::WebRtc, None).unwrap()).collect();
    let error = node.engine.command(Command::Bridge { first: legs[0], second: legs[1] }).unwrap_err();
    assert_eq!(error.code, Code::WrongState);
    let beside = node.engine.next_leg(Kind::Sip, Some(legs[1])).unwrap();
    assert!(node.engine.command(Command::Bridge { first: beside, second: legs[1] }).is_ok());
    assert_eq!(node.engine.webrtc_addresses().len(), 2);
}

pub(crate) fn browser_offer(setup: &str) -> String {
    format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111 0 126\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=rtcp-mux\r\na=sendrecv\r\n\
         a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 {}\r\na=setup:{setup}\r\n\
         a=rtpmap:111 opus/48000/2\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:126 telephone-event/8000\r\n",
        ["AB"; 32].join(":")
    )
}

#[test]
fn a_browser_gets_an_answer_and_its_leg_ends_once() {
    let _alone = alone();
    let mut node = Node::start(&config());
    let leg = node.engine.next_leg(Kind::WebRtc, None).unwrap();
    let answer =
        node.run(Command::AcceptOffer { leg, sdp: browser_offer("actpass"), codecs: CODECS.to_vec() });
    let sdp = answer.sdp.unwrap();
    let port = node.engine.webrtc_addresses()[0].port();
    assert!(sdp.contains(&format!("127.0.0.1 {port} typ host")) && sdp.contains("a=ice-lite"), "{sdp}");
    assert_eq!(answer.codec, Some(Codec::Pcmu));
    node.run(Command::AddCandidate { leg, candidate: None });
    assert_eq!(node.engine.leg_stats(leg).unwrap().packets_in, 0);
    node.hang_up(leg);
    let ended = node.ended(leg);
    assert_eq!(ended.cause, Cause::Bye);
    assert!(ended.stats.is_some() && node.engine.leg_stats(leg).is_none());
    node.hang_up(leg);
    assert!(node.seen.is_empty() && node.engine.drain(8).is_empty());
}

#[test]
fn a_browser_leg_that_ended_does_not_begin_again() {
    let _alone = alone();
    let mut node = Node::start(&config());
    let leg = node.engine.next_leg(Kind::WebRtc, None).unwrap();
    let offer = || Command::AcceptOffer { leg, sdp: browser_offer("actpass"), codecs: CODECS.to_vec() };
    node.run(offer());
    node.hang_up(leg);
    node.ended(leg);
    // The browser renewed its offer while its leg was ending.
    for late in [offer(), Command::CreateOffer { leg, codecs: CODECS.to_vec() }] {
        let correlation = node.engine.command(late).unwrap();
        assert_eq!(node.done(correlation).result.unwrap_err().code, Code::UnknownLeg);
    }
    assert!(node.engine.leg_stats(leg).is_none());
}

#[test]
fn a_browser_offer_without_use_leaves_no_leg() {
    let _alone = alone();
    let mut node = Node::start(&config());
    for (offer, code) in [
        (browser_offer("actpass").replace("fingerprint:sha-256", "x-nothing:"), Code::NotAcceptable),
        (browser_offer("actpass").replace("opus", "G719").replace("0 126", "126"), Code::NotAcceptable),
        ("not a description".to_owned(), Code::BadSdp),
    ] {
        let leg = node.engine.next_leg(Kind::WebRtc, None).unwrap();
        let correlation =
            node.engine.command(Command::AcceptOffer { leg, sdp: offer, codecs: CODECS.to_vec() }).unwrap();
        assert_eq!(node.done(correlation).result.unwrap_err().code, code);
        assert!(node.engine.leg_stats(leg).is_none());
    }
}

/// A call from a peer with telephone-events to one whose trunk wants INFO.
#[test]
fn keys_change_between_events_and_info() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    gateway.engine.set_trunks(br#"[{"name": "old", "dtmf": "info"}]"#).unwrap();
    let (caller, callee) = (Peer::new(gateway.engine.sip_address()), Peer::new(gateway.engine.sip_address()));
    caller.request("INVITE", "keys", 1, "", &caller.sdp("0 101\r\na=rtpmap:101 telephone-event/8000"));
    let inbound = gateway.incoming().leg;
    let outbound = gateway.engine.next_leg(Kind::Sip, Some(inbound)).unwrap();
    let dial = telephony_engine::Dial { trunk: "old".into(), ..call(outbound, &callee.uri(), &G711) };
    gateway.run(Command::Dial(Box::new(dial)));
    let invite = callee.expect("INVITE");
    assert!(!invite.contains("telephone-event"), "{invite}");
    callee.respond(&invite, "200 OK", &callee.sdp("0"));
    callee.expect("ACK");
    gateway.answered(outbound);
    gateway.run(Command::Ring { leg: inbound, codecs: G711.to_vec(), status: 180 });
    gateway.run(Command::Bridge { first: inbound, second: outbound });
    gateway.run(Command::Answer { leg: inbound });
    let ok = caller.expect("SIP/2.0 200");
    assert!(ok.contains("telephone-event"));
    caller.request("ACK", "keys", 1, &to_tag(&ok), "");
    gateway.confirmed(inbound);
    gateway.run(Command::SendDigits {
        leg: outbound,
        digits: "42".into(),
        duration: Duration::from_millis(90),
    });
    for signal in ["Signal=4", "Signal=2"] {
        let info = callee.expect("INFO");
        assert!(info.contains(signal) && info.contains("Duration=90"), "{info}");
        callee.respond(&info, "200 OK", "");
    }
    let rtp = rtp_address(&ok);
    for (sequence, end) in [(1_u8, 0), (2, 0), (3, 0x80), (4, 0x80)] {
        let header = [0x80, if sequence == 1 { 0xe5 } else { 0x65 }, 0, sequence, 0, 0, 0, 9, 1, 2, 3, 4];
        caller.rtp.send_to(&[&header[..], &[11, end | 10, 3, 0]].concat(), rtp).unwrap();
    }
    let info = callee.expect("INFO");
    assert!(info.contains("Signal=#\r\nDuration=96\r\n"), "{info}");
    callee.respond(&info, "200 OK", "");
    let pressed = |event: &Event| match event {
        Event::Digit { leg, digit, .. } => Some((*leg, *digit)),
        _ => None,
    };
    assert_eq!(gateway.wait("Digit", pressed), (inbound, '#'));
}
