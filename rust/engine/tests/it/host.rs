//! An engine whose SIP thread sleeps while somebody else does its rounds.

use crate::rig::*;
use std::time::{Duration, Instant};
use telephony_engine::{Cause, Codec, Command, Side};

fn hosted() -> Node {
    let mut node = Node::start(&config());
    node.host(true);
    node
}

#[test]
fn a_host_carries_calls_from_their_begin_to_their_end() {
    let _alone = alone();
    let (mut a, mut b) = (hosted(), hosted());
    for _ in 0..20 {
        let out = a.dial(&b.uri(), &G711);
        let leg = b.incoming().leg;
        b.run(Command::Ring { leg, codecs: vec![Codec::Pcma], status: 180 });
        assert_eq!(a.ringing(out), 180);
        b.run(Command::Answer { leg });
        assert_eq!(a.answered(out), Codec::Pcma);
        b.confirmed(leg);
        a.hang_up(out);
        assert_eq!((a.ended(out).by, b.ended(leg).by), (Side::Local, Side::Remote));
    }
}

#[test]
fn what_a_busy_host_leaves_lying_the_thread_does() {
    let _alone = alone();
    let gateway = hosted();
    let peer = Peer::new(gateway.engine.sip_address());
    peer.request("INVITE", "unattended", 1, "", &peer.sdp("0"));
    let began = Instant::now();
    peer.expect("SIP/2.0 100");
    // Well before the peer would send it again.
    assert!(began.elapsed() < Duration::from_millis(400), "{:?}", began.elapsed());
}

#[test]
fn a_sleeping_threads_timers_run() {
    let _alone = alone();
    let mut gateway = hosted();
    let silent = Peer::new(gateway.engine.sip_address());
    let out = gateway.dial(&silent.uri(), &G711);
    for _ in 0..3 {
        silent.expect("INVITE ");
    }
    gateway.hang_up(out);
}

#[test]
fn the_rounds_go_to_and_fro_and_nothing_is_lost() {
    let _alone = alone();
    let (mut a, mut b) = (hosted(), Node::start(&config()));
    for round in 0..30 {
        a.host(round % 2 == 0);
        b.host(round % 3 == 0);
        let out = a.dial(&b.uri(), &G711);
        let leg = b.incoming().leg;
        a.host(round % 4 == 0);
        b.run(Command::Answer { leg });
        a.answered(out);
        b.host(round % 5 == 0);
        b.hang_up(leg);
        assert_eq!((a.ended(out).cause, b.ended(leg).cause), (Cause::Bye, Cause::Bye));
    }
}

#[test]
fn an_engine_with_a_host_stops() {
    let _alone = alone();
    let (mut a, mut b) = (hosted(), hosted());
    let out = a.dial(&b.uri(), &G711);
    let leg = b.incoming().leg;
    b.run(Command::Answer { leg });
    a.answered(out);
    let began = Instant::now();
    a.engine.stop(Duration::from_secs(5));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(b.ended(leg).by, Side::Remote);
    assert!(a.engine.host(true).is_err());
    assert!(!a.engine.attend(64).is_empty());
}
