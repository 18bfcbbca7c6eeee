//! Calls from setup to end, engine to engine and against bare SIP text.

use crate::rig::*;
use std::time::{Duration, Instant};
use telephony_engine::{Answer, Cause, Code, Codec, Command, Dial, EngineConfig, Event, Kind, LegId, Side};

#[test]
fn a_call_is_set_up_and_the_caller_hangs_up() {
    let _alone = alone();
    let (mut a, mut b) = (Node::start(&config()), Node::start(&config()));
    let out = a.dial(&b.uri(), &G711);
    let incoming = b.incoming();
    assert_eq!(incoming.codecs, ["PCMU", "PCMA"]);
    assert_eq!((incoming.from_uri(), &*incoming.from_display()), ("sip:alice@example.com", "Alice"));
    assert_eq!((incoming.header("x-test"), incoming.request_uri()), (Some("yes"), &*b.uri()));
    assert_eq!((incoming.source, incoming.local), (a.engine.sip_address(), b.engine.sip_address()));
    let rung = b.run(Command::Ring { leg: incoming.leg, codecs: vec![Codec::Pcma], status: 180 });
    assert_eq!(rung.codec, Some(Codec::Pcma));
    assert_eq!(a.ringing(out), 180);
    b.run(Command::Answer { leg: incoming.leg });
    assert_eq!(a.answered(out), Codec::Pcma);
    b.confirmed(incoming.leg);
    a.hang_up(out);
    let (mine, theirs) = (a.ended(out), b.ended(incoming.leg));
    assert_eq!(
        (mine.by, mine.cause, theirs.by, theirs.cause),
        (Side::Local, Cause::Bye, Side::Remote, Cause::Bye)
    );
    assert_eq!(mine.stats.unwrap().codec, Some(Codec::Pcma));
    // Nothing follows the end.
    std::thread::sleep(Duration::from_millis(50));
    assert!(b.engine.drain(10).is_empty() && b.seen.is_empty(), "{:?}", b.seen);
}

#[test]
fn an_answer_without_ringing_rings_in_silence() {
    let _alone = alone();
    let (mut a, mut b) = (Node::start(&config()), Node::start(&config()));
    let out = a.dial(&b.uri(), &[Codec::Opus, Codec::Pcmu]);
    let leg = b.incoming().leg;
    b.run(Command::Answer { leg });
    a.answered(out);
    b.hang_up(leg);
    assert_eq!(a.ended(out).by, Side::Remote);
    assert_eq!(b.ended(leg).by, Side::Local);
    assert!(!a.seen.iter().any(|event| matches!(event, Event::Ringing { .. })));
}

#[test]
fn a_caller_can_be_refused_and_can_give_up() {
    let _alone = alone();
    let (mut a, mut b) = (Node::start(&config()), Node::start(&config()));
    let out = a.dial(&b.uri(), &G711);
    let leg = b.incoming().leg;
    b.run(Command::Reject { leg, status: 486, reason: None, headers: vec![] });
    let ended = a.ended(out);
    assert_eq!((ended.by, ended.cause, ended.status), (Side::Remote, Cause::Rejected, Some(486)));
    assert_eq!(b.ended(leg).cause, Cause::Rejected);

    let out = a.dial(&b.uri(), &G711);
    let leg = b.incoming().leg;
    b.run(Command::Ring { leg, codecs: G711.to_vec(), status: 180 });
    a.ringing(out);
    a.hang_up(out);
    assert_eq!((a.ended(out).cause, b.ended(leg).cause), (Cause::Cancel, Cause::Cancel));
}

#[test]
fn nothing_in_common_is_488_with_a_warning() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    let peer = Peer::new(gateway.engine.sip_address());
    peer.request("INVITE", "no-codec", 1, "", &peer.sdp("9"));
    let incoming = gateway.incoming();
    assert_eq!(incoming.codecs, ["G722"]);
    let leg = incoming.leg;
    let ring = gateway.engine.command(Command::Ring { leg, codecs: G711.to_vec(), status: 180 }).unwrap();
    assert_eq!(gateway.done(ring).result.unwrap_err().code, Code::NotAcceptable);
    let refusal = peer.expect("SIP/2.0 488");
    assert!(header(&refusal, "Warning").unwrap().starts_with("305 "));
    let ended = gateway.ended(leg);
    assert_eq!((ended.cause, ended.status, ended.by), (Cause::NotAcceptable, Some(488), Side::System));
}

#[test]
fn a_late_offer_is_answered_in_the_ack() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    let peer = Peer::new(gateway.engine.sip_address());
    peer.request("INVITE", "late", 1, "", "");
    let incoming = gateway.incoming();
    assert!(incoming.codecs.is_empty());
    gateway.answer(incoming.leg);
    let ok = peer.expect("SIP/2.0 200");
    assert!(ok.contains("m=audio"));
    peer.request("ACK", "late", 1, &to_tag(&ok), &peer.sdp("8"));
    gateway.confirmed(incoming.leg);
    peer.request("BYE", "late", 2, &to_tag(&ok), "");
    peer.expect("SIP/2.0 200");
    assert_eq!(gateway.ended(incoming.leg).stats.unwrap().codec, Some(Codec::Pcma));
}

#[test]
fn a_late_offer_that_is_never_answered_ends_the_call() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    let peer = Peer::new(gateway.engine.sip_address());
    peer.request("INVITE", "mute", 1, "", "");
    let leg = gateway.incoming().leg;
    gateway.answer(leg);
    let ok = peer.expect("SIP/2.0 200");
    peer.request("ACK", "mute", 1, &to_tag(&ok), "");
    let bye = peer.expect("BYE");
    peer.respond(&bye, "200 OK", "");
    assert_eq!(gateway.ended(leg).cause, Cause::NotAcceptable);
}

#[test]
fn a_reinvite_moves_the_media_or_leaves_it_as_it_was() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    let peer = Peer::new(gateway.engine.sip_address());
    peer.request("INVITE", "hold", 1, "", &peer.sdp("0"));
    let leg = gateway.incoming().leg;
    gateway.answer(leg);
    let ok = peer.expect("SIP/2.0 200");
    peer.request("ACK", "hold", 1, &to_tag(&ok), "");
    gateway.confirmed(leg);

    let hold = peer.sdp("0") + "a=sendonly\r\n";
    peer.request("INVITE", "hold", 2, &to_tag(&ok), &hold);
    let held = peer.expect("SIP/2.0 200");
    assert!(held.contains("a=recvonly"), "{held}");
    assert_eq!(rtp_address(&held), rtp_address(&ok));
    peer.request("ACK", "hold", 2, &to_tag(&ok), "");

    peer.request("INVITE", "hold", 3, &to_tag(&ok), &peer.sdp("9"));
    peer.expect("SIP/2.0 488");
    peer.request("ACK", "hold", 3, &to_tag(&ok), "");

    // Without an offer, ours is wanted.
    peer.request("INVITE", "hold", 4, &to_tag(&ok), "");
    let offer = peer.expect("SIP/2.0 200");
    assert_eq!(rtp_address(&offer), rtp_address(&ok));
    peer.request("ACK", "hold", 4, &to_tag(&ok), &peer.sdp("0"));
    peer.request("BYE", "hold", 5, &to_tag(&ok), "");
    peer.expect("SIP/2.0 200");
    assert_eq!(gateway.ended(leg).cause, Cause::Bye);
}

#[test]
fn an_answer_in_a_183_counts_when_the_200_has_none() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    let peer = Peer::new(gateway.engine.sip_address());
    let leg = gateway.dial(&peer.uri(), &G711);
    let invite = peer.expect("INVITE");
    peer.respond(&invite, "183 Session Progress", &peer.sdp("8"));
    assert_eq!(gateway.ringing(leg), 183);
    peer.respond(&invite, "200 OK", "");
    peer.expect("ACK");
    assert_eq!(gateway.answered(leg), Codec::Pcma);
    gateway.hang_up(leg);
    let bye = peer.expect("BYE");
    peer.respond(&bye, "200 OK", "");
    assert_eq!(gateway.ended(leg).cause, Cause::Bye);
}

/// A gateway that dials a trunk which makes its responses reliable.
fn reliable() -> (Node, LegId, Peer, String) {
    let mut gateway = Node::start(&config());
    gateway.engine.set_trunks(br#"[{"name": "peers", "addresses": ["127.0.0.0/8"]}]"#).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let peer = Peer::new(gateway.engine.sip_address());
    let leg = gateway.engine.next_leg(Kind::Sip, None).unwrap();
    let dial = Dial { trunk: "peers".into(), ..call(leg, &peer.uri(), &G711) };
    gateway.run(Command::Dial(Box::new(dial)));
    let invite = peer.expect("INVITE");
    (gateway, leg, peer, invite)
}

/// A reliable 183 of one fork; its PRACK.
fn rings_reliably(peer: &Peer, invite: &str, tag: &str, sdp: &str) -> String {
    let to = header(invite, "To").unwrap().to_owned();
    peer.respond_as(
        invite,
        "183 Session Progress",
        &format!("{to};tag={tag}"),
        "Require: 100rel\r\nRSeq: 1\r\n",
        sdp,
    );
    let prack = peer.expect("PRACK");
    peer.respond(&prack, "200 OK", "");
    prack
}

/// RFC 3261 13.2.2.4: the 2xx says whose early answer counts.
#[test]
fn a_200_without_sdp_takes_up_the_answer_of_its_own_fork() {
    let _alone = alone();
    let (mut gateway, leg, peer, invite) = reliable();
    for (fork, format) in [("one", "8"), ("two", "0")] {
        rings_reliably(&peer, &invite, fork, &peer.sdp(format));
        assert_eq!(gateway.ringing(leg), 183);
    }
    let to = header(&invite, "To").unwrap();
    peer.respond_as(&invite, "200 OK", &format!("{to};tag=one"), "", "");
    peer.expect("ACK");
    assert_eq!(gateway.answered(leg), Codec::Pcma);
    gateway.hang_up(leg);
}

/// RFC 3261 13.2.1: once a reliable response has answered, what a 200 says of the session means nothing.
#[test]
fn a_200_only_repeats_what_an_update_has_changed_since() {
    let _alone = alone();
    let (mut gateway, leg, peer, invite) = reliable();
    let prack = rings_reliably(&peer, &invite, "one", &peer.sdp("8"));
    let (us, id) = (header(&prack, "From").unwrap(), header(&prack, "Call-ID").unwrap().to_owned());
    let tag = &us[us.find(";tag=").unwrap()..];
    peer.request_as("one", "UPDATE", &id, 1, tag, "", &peer.sdp("0"));
    assert!(peer.expect("SIP/2.0 200").contains("RTP/AVP 0"));
    let to = header(&invite, "To").unwrap();
    peer.respond_as(
        &invite,
        "200 OK",
        &format!("{to};tag=one"),
        "",
        &peer.sdp("8").replace("o=- 1 1", "o=- 1 2"),
    );
    peer.expect("ACK");
    assert_eq!(gateway.answered(leg), Codec::Pcmu);
    gateway.hang_up(leg);
}

#[test]
fn an_answer_that_cannot_be_used_ends_the_call() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    let peer = Peer::new(gateway.engine.sip_address());
    for body in [String::new(), peer.sdp("9"), "rubbish".into()] {
        let leg = gateway.dial(&peer.uri(), &G711);
        let invite = peer.expect("INVITE");
        peer.respond(&invite, "200 OK", &body);
        peer.expect("ACK");
        let bye = peer.expect("BYE");
        peer.respond(&bye, "200 OK", "");
        let ended = gateway.ended(leg);
        assert_eq!((ended.cause, ended.by), (Cause::NotAcceptable, Side::System), "{body:?}");
    }
}

#[test]
fn names_are_resolved_and_what_cannot_be_reached_says_so() {
    let _alone = alone();
    let (mut a, mut b) = (Node::start(&config()), Node::start(&config()));
    let port = b.engine.sip_address().port();
    let out = a.dial(&format!("sip:bob@localhost:{port}"), &G711);
    let leg = b.incoming().leg;
    b.answer(leg);
    a.answered(out);
    a.hang_up(out);
    b.ended(leg);

    let unknown = a.dial("sip:bob@no-such-host.invalid", &G711);
    let ended = a.ended(unknown);
    assert_eq!((ended.cause, ended.by), (Cause::Unreachable, Side::System));
    assert!(ended.reason.contains("no-such-host.invalid"), "{}", ended.reason);

    let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = a.dial(&format!("sip:bob@{closed}"), &G711);
    assert_eq!(a.ended(refused).cause, Cause::TransportError);

    let v6 = a.dial("sip:bob@[::1]", &G711);
    assert_eq!(a.ended(v6).cause, Cause::Unreachable);
}

/// ICMP says that nothing listens where the answers go (RFC 3261 18.4), which anybody could say: the call rings on.
#[test]
fn icmp_ends_no_call_that_rings() {
    let _alone = alone();
    let mut node = Node::start(&config());
    let peer = Peer::new(node.engine.sip_address());
    peer.request("INVITE", "gone", 1, "", &peer.sdp("0"));
    let leg = node.incoming().leg;
    drop(peer);
    node.run(Command::Ring { leg, codecs: G711.to_vec(), status: 180 });
    std::thread::sleep(Duration::from_millis(50));
    node.run(Command::Answer { leg });
}

#[test]
fn commands_that_make_no_sense_are_refused() {
    let _alone = alone();
    let mut node = Node::start(&config());
    let (sip, browser) =
        (node.engine.next_leg(Kind::Sip, None).unwrap(), node.engine.next_leg(Kind::WebRtc, None).unwrap());
    let code = |node: &Node, command| node.engine.command(command).unwrap_err().code;
    let dial = |uri: &str, codecs: &[Codec]| Command::Dial(Box::new(call(sip, uri, codecs)));
    assert_eq!(code(&node, dial("nonsense", &G711)), Code::Invalid);
    assert_eq!(code(&node, dial("sip:a@127.0.0.1", &[])), Code::Invalid);
    assert_eq!(code(&node, dial("sip:a@127.0.0.1\r\nX: y", &G711)), Code::Invalid);
    assert_eq!(code(&node, Command::Answer { leg: browser }), Code::WrongState);
    assert_eq!(code(&node, Command::CreateOffer { leg: sip, codecs: G711.to_vec() }), Code::WrongState);
    assert_eq!(code(&node, Command::Ring { leg: sip, codecs: G711.to_vec(), status: 200 }), Code::Invalid);
    let reject = |status| Command::Reject { leg: sip, status, reason: None, headers: vec![] };
    assert_eq!(code(&node, reject(200)), Code::Invalid);
    assert_eq!(code(&node, Command::Bridge { first: sip, second: sip }), Code::Invalid);
    let failed = |node: &mut Node, command| {
        let correlation = node.engine.command(command).unwrap();
        node.done(correlation).result.unwrap_err().code
    };
    assert_eq!(failed(&mut node, Command::Answer { leg: sip }), Code::UnknownLeg);
    assert_eq!(failed(&mut node, reject(486)), Code::UnknownLeg);
    assert_eq!(failed(&mut node, Command::Bridge { first: sip, second: browser }), Code::UnknownLeg);
    // Harmless on a leg that is gone.
    node.hang_up(sip);
    node.hang_up(browser);
    assert!(node.engine.leg_stats(sip).is_none());
}

#[test]
fn draining_and_overload_refuse_new_calls_only() {
    let _alone = alone();
    let mut gateway = Node::start(&EngineConfig { event_capacity: 16, ..config() });
    let peer = Peer::new(gateway.engine.sip_address());
    let invite = |id: &str| {
        peer.request("INVITE", id, 1, "", &peer.sdp("0"));
        peer.expect_for(id, "SIP/2.0 ")
    };
    gateway.engine.refuse_new(true).unwrap();
    let refusal = invite("drain");
    assert!(refusal.starts_with("SIP/2.0 503"), "{refusal}");
    assert!((10..=60).contains(&header(&refusal, "Retry-After").unwrap().parse::<u32>().unwrap()));
    gateway.engine.refuse_new(false).unwrap();

    // Nobody reads the events: at three quarters of 16 the engine refuses by itself.
    let taken =
        (0..20).take_while(|number| invite(&format!("flood{number}")).starts_with("SIP/2.0 100")).count();
    assert!((12..=13).contains(&taken), "{taken}");
    assert_eq!(gateway.engine.stats().event_queue_depth, taken);
    // Once they are read, calls are taken again.
    assert_eq!(gateway.engine.drain(64).len(), taken);
    assert!(invite("after").starts_with("SIP/2.0 100"));
    assert_eq!(gateway.incoming().sip_call_id(), "after");
}

#[test]
fn a_reinvite_without_offer_that_is_taken_back_leaves_the_next_ones_alone() {
    let _alone = alone();
    let mut node = Node::start(&config());
    let peer = Peer::new(node.engine.sip_address());
    peer.request("INVITE", "back", 1, "", &peer.sdp("0"));
    let leg = node.incoming().leg;
    node.answer(leg);
    let ok = peer.expect("SIP/2.0 200");
    peer.request("ACK", "back", 1, &to_tag(&ok), "");
    node.confirmed(leg);
    peer.request("INVITE", "back", 2, &to_tag(&ok), "");
    peer.request("CANCEL", "back", 2, &to_tag(&ok), "");
    // Whether the CANCEL overtakes the worker is open; either way the INVITE comes to its end.
    let last = loop {
        let response = peer.expect("SIP/2.0");
        if header(&response, "CSeq") == Some("2 INVITE") && !response.starts_with("SIP/2.0 1") {
            break response;
        }
    };
    let answer = if last.starts_with("SIP/2.0 200") { peer.sdp("0") } else { String::new() };
    peer.request("ACK", "back", 2, &to_tag(&ok), &answer);
    peer.request("INVITE", "back", 3, &to_tag(&ok), &peer.sdp("0"));
    while header(&peer.expect("SIP/2.0 200"), "CSeq") != Some("3 INVITE") {}
    peer.request("ACK", "back", 3, &to_tag(&ok), "");
    node.run(Command::Hangup { leg, reason: None });
    assert_eq!(node.ended(leg).cause, Cause::Bye, "the caller's hold ended the call");
    peer.expect("BYE");
}

/// RFC 3262 5: the answer in a PRACK is no use, and the PRACK was answered already.
#[test]
fn an_unusable_answer_in_a_prack_refuses_the_call() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    gateway.engine.set_trunks(br#"[{"name": "peers", "addresses": ["127.0.0.0/8"]}]"#).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let peer = Peer::new(gateway.engine.sip_address());
    peer.request_with("INVITE", "rel", 1, "", "Supported: 100rel\r\n", "");
    let leg = gateway.incoming().leg;
    gateway.run(Command::Ring { leg, codecs: G711.to_vec(), status: 183 });
    let early = peer.expect("SIP/2.0 183");
    let rack = format!("RAck: {} 1 INVITE\r\n", header(&early, "RSeq").unwrap());
    peer.request_with("PRACK", "rel", 2, &to_tag(&early), &rack, &peer.sdp("18"));
    let refused = peer.expect("SIP/2.0 488");
    assert_eq!(header(&refused, "CSeq"), Some("1 INVITE"));
    assert!(header(&refused, "Warning").is_some(), "{refused}");
    let ended = gateway.ended(leg);
    assert_eq!((ended.by, ended.cause), (Side::System, Cause::NotAcceptable));
}

#[test]
fn commands_are_carried_out_at_once_while_the_sip_thread_rests() {
    let _alone = alone();
    let mut node = Node::start(&config());
    let leg = node.engine.next_leg(Kind::Sip, None).unwrap();
    let mut at_once = 0;
    let until = Instant::now() + PATIENCE;
    while at_once < 10 && Instant::now() < until {
        match node.engine.carry_out(Command::Hangup { leg, reason: None }).unwrap() {
            Answer::Now(_) => at_once += 1,
            Answer::Later(correlation) => drop(node.done(correlation).result.unwrap()),
        }
    }
    assert_eq!(at_once, 10);
    let refused = match node.engine.carry_out(Command::Answer { leg }) {
        Ok(Answer::Later(correlation)) => node.done(correlation).result.unwrap_err(),
        at_once => at_once.unwrap_err(),
    };
    assert_eq!(refused.code, Code::UnknownLeg);
    // What events tell is told by them, at the desk and by mail.
    let reject = Command::Reject { leg, status: 486, reason: None, headers: vec![] };
    let Answer::Later(correlation) = node.engine.carry_out(reject).unwrap() else { panic!("no event") };
    assert_eq!(node.done(correlation).result.unwrap_err().code, Code::UnknownLeg);
    node.seen.extend(node.engine.drain(64));
    assert!(node.seen.is_empty(), "{:?}", node.seen);
}
