//! Nothing is left behind: descriptors, threads, ports, legs.

use crate::rig::*;
use std::time::{Duration, Instant};
use telephony_engine::{Command, EngineConfig, Kind};

fn count(folder: &str) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

/// Descriptors and threads of this process.
fn held() -> (usize, usize) {
    (count("/proc/self/fd"), count("/proc/self/task"))
}

/// Threads that other tests let go may still be ending.
fn settled(expected: (usize, usize)) -> (usize, usize) {
    let until = Instant::now() + Duration::from_secs(2);
    while held() != expected && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    held()
}

#[test]
fn an_engine_gives_back_all_it_took() {
    let _alone = alone();
    std::thread::sleep(Duration::from_millis(50));
    let before = held();
    for _ in 0..3 {
        let workers = EngineConfig { media_workers: 3, ..config() };
        let (mut a, mut b) = (Node::start(&workers), Node::start(&config()));
        connect(&mut a, &mut b);
        a.engine.stop(PATIENCE);
        // Only the event descriptor stays, so that the last events can be read.
        drop((a, b));
    }
    assert_eq!(settled(before), before);
}

#[test]
fn failed_starts_leave_nothing() {
    let _alone = alone();
    std::thread::sleep(Duration::from_millis(50));
    let node = Node::start(&config());
    let before = held();
    let port = node.engine.webrtc_addresses()[0].port();
    for config in [
        EngineConfig { sip_port: node.engine.sip_address().port(), ..config() },
        EngineConfig { webrtc_port: port, ..config() },
        EngineConfig { sip_public_address: Some("no such name".into()), ..config() },
    ] {
        assert!(telephony_engine::Engine::start(&config).is_err());
    }
    assert_eq!(settled(before), before);
}

#[test]
fn calls_give_their_ports_back_however_they_end() {
    let _alone = alone();
    let (mut a, mut b) = (Node::start(&config()), Node::start(&config()));
    let before = held();
    let (out, inbound) = connect(&mut a, &mut b);
    assert_eq!(held().0, before.0 + 4);
    b.hang_up(inbound);
    a.ended(out);
    b.ended(inbound);

    let out = a.dial(&b.uri(), &G711);
    let leg = b.incoming().leg;
    b.run(Command::Ring { leg, codecs: G711.to_vec(), status: 183 });
    a.hang_up(out);
    a.ended(out);
    b.ended(leg);

    let out = a.dial("sip:bob@no-such-host.invalid", &G711);
    a.ended(out);
    let browser = a.engine.next_leg(Kind::WebRtc, None).unwrap();
    a.run(Command::CreateOffer { leg: browser, codecs: G711.to_vec() });
    a.hang_up(browser);
    a.ended(browser);

    assert_eq!(settled(before), before);
    std::thread::sleep(Duration::from_millis(450));
    for node in [&a, &b] {
        let stats = node.engine.stats();
        assert_eq!((stats.ports_in_use, stats.legs, stats.ports_free), (0, 0, 500));
    }
}

#[test]
fn a_gateway_without_ports_refuses_and_recovers_nothing_it_did_not_have() {
    let _alone = alone();
    let (mut a, mut b) =
        (Node::start(&config()), Node::start(&EngineConfig { rtp_port_range: 43_000..=43_001, ..config() }));
    connect(&mut a, &mut b);
    let out = a.dial(&b.uri(), &G711);
    let leg = b.incoming().leg;
    let ring = b.engine.command(Command::Ring { leg, codecs: G711.to_vec(), status: 180 }).unwrap();
    assert_eq!(b.done(ring).result.unwrap_err().code.as_str(), "no_ports");
    assert_eq!(a.ended(out).status, Some(503));
    assert_eq!(b.ended(leg).cause.as_str(), "error");
    let own = b.engine.next_leg(Kind::Sip, None).unwrap();
    b.run(Command::Dial(Box::new(call(own, &a.uri(), &G711))));
    assert_eq!(b.ended(own).cause.as_str(), "error");
}
