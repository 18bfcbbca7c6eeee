//! What an engine tells of a call's messages.

use crate::rig::*;
use std::time::{Duration, Instant, SystemTime};
use telephony_engine::{Command, Engine, EngineConfig, LegId, Rungs, Stranger, Transport};

/// `>INVITE` for a request that left, `<200` for a response that came.
fn lines(engine: &Engine, leg: LegId) -> Vec<String> {
    let rungs = engine.ladder(&[leg]);
    assert!(!rungs.truncated);
    let words = rungs.messages.iter().map(|rung| {
        let text = std::str::from_utf8(&rung.message).unwrap();
        let word = text.trim_start_matches("SIP/2.0 ").split(' ').next().unwrap();
        format!("{}{word}", if rung.sent { '>' } else { '<' })
    });
    words.collect()
}

#[test]
fn both_ends_tell_the_same_call() {
    let _alone = alone();
    let (mut a, mut b) = (Node::start(&config()), Node::start(&config()));
    let began = SystemTime::now();
    let (out, inbound) = connect(&mut a, &mut b);
    a.hang_up(out);
    a.ended(out);
    b.ended(inbound);
    let sent = [">INVITE", "<100", "<180", "<200", ">ACK", ">BYE", "<200"];
    let mirrored: Vec<String> =
        sent.iter().map(|line| line.replace('<', "*").replace('>', "<").replace('*', ">")).collect();
    eventually(|| lines(&a.engine, out) == sent);
    eventually(|| lines(&b.engine, inbound) == mirrored);
    let rungs = a.engine.ladder(&[out]).messages;
    assert!(
        rungs
            .iter()
            .all(|rung| rung.local == a.engine.sip_address() && rung.remote == b.engine.sip_address())
    );
    assert!(rungs.iter().all(|rung| rung.transport == Transport::Udp && rung.leg == out && rung.at >= began));
    assert!(rungs.is_sorted_by_key(|rung| rung.at));
}

#[test]
fn failures_and_repetitions_are_told_after_the_end() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    let peer = Peer::new(gateway.engine.sip_address());
    peer.request("INVITE", "twice", 1, "", &peer.sdp("0"));
    peer.expect("SIP/2.0 100");
    peer.request("INVITE", "twice", 1, "", &peer.sdp("0"));
    peer.expect("SIP/2.0 100");
    let leg = gateway.incoming().leg;
    gateway.run(Command::Reject { leg, status: 486, reason: None, headers: vec![] });
    gateway.ended(leg);
    let busy = peer.expect("SIP/2.0 486");
    peer.request("ACK", "twice", 1, &to_tag(&busy), "");
    let told = ["<INVITE", ">100", "<INVITE", ">100", ">486", "<ACK"];
    // What is unknown to all calls, and what begins none, is in no ladder.
    peer.request("OPTIONS", "nobody", 1, "", "");
    peer.expect("SIP/2.0 200");
    eventually(|| lines(&gateway.engine, leg) == told);
}

#[test]
fn strangers_who_hear_nothing_leave_no_trace() {
    let _alone = alone();
    // Room for one call: were the flood kept, it would be gone.
    let config = EngineConfig { strangers: Stranger::Drop, ladder_memory: 20 << 10, ..config() };
    let mut gateway = Node::start(&config);
    let mut callee = Node::start(&crate::rig::config());
    let out = gateway.dial(&callee.uri(), &G711);
    callee.incoming();
    gateway.hang_up(out);
    eventually(|| lines(&gateway.engine, out).len() == 6);
    let before = lines(&gateway.engine, out);
    let stranger = Peer::new(gateway.engine.sip_address());
    for number in 0..40 {
        stranger.request("INVITE", &format!("scan-{number}"), 1, "", &stranger.sdp("0"));
    }
    eventually(|| gateway.engine.stats().sip_messages_received >= 43);
    assert_eq!(lines(&gateway.engine, out), before);
    assert_eq!(before[0], ">INVITE");
}

#[test]
fn without_memory_nothing_is_kept() {
    let _alone = alone();
    let (mut a, mut b) =
        (Node::start(&EngineConfig { ladder_memory: 0, ..config() }), Node::start(&config()));
    let (out, _) = connect(&mut a, &mut b);
    assert_eq!(a.engine.ladder(&[out]), Rungs::default());
}

/// Waits for what other threads are about to do.
fn eventually(done: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "it never came to that");
        std::thread::sleep(Duration::from_millis(1));
    }
}
