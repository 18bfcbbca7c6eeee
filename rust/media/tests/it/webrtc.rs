//! Whole WebRTC calls in virtual time.

use crate::browser::{Browser, agent, connect, phone_and_browser, run};
use crate::wire::{A, ALL, B, Bench, TICK, WEBRTC, address, read};
use is::{Candidate, Protocol};
use std::time::Duration;
use telephony_media::codec::Codec;
use telephony_media::rtcp;
use telephony_media::{EndReason, Event};

#[test]
fn a_browser_and_a_phone_hear_each_other() {
    let (mut bench, mut phone, mut browser) = phone_and_browser(Codec::Pcmu, Codec::Pcmu);
    let mut to_phone = Vec::new();
    for index in 0..400 {
        let packet = phone.sound();
        bench.switch.handle_rtp(
            bench.now,
            A,
            telephony_media::Component::Rtp,
            phone.address,
            &mut packet.clone(),
        );
        let mut sealed = browser.sound();
        bench.switch.handle_webrtc(bench.now, address(WEBRTC), browser.address, &mut sealed);
        to_phone.extend(run(&mut bench, &mut [&mut browser], TICK));
        if index == 0 {
            assert_eq!(read(&browser.rtp[0]).payload, packet[12..]);
        }
    }
    assert_eq!(browser.heard().len(), 400);
    assert_eq!(crate::wire::heard(&to_phone).len(), 400);
    let reports = browser.rtcp.iter().filter(|bytes| rtcp::parse(bytes).is_ok()).count();
    assert!((1..=4).contains(&reports), "{reports} reports in 8 s, over SRTCP");
    assert_eq!(bench.switch.stats().drops.total(), 0);
    assert_eq!((bench.stats(A).lost, bench.stats(B).lost), (0, 0));
}

#[test]
fn two_browsers_with_different_codecs_are_transcoded() {
    let mut bench = Bench::new();
    let mut a = connect(&mut bench, A, "198.51.100.8:40000", Codec::Pcma);
    let mut b = connect(&mut bench, B, "198.51.100.9:40000", Codec::Opus);
    bench.switch.bridge(bench.now, A, B).expect("bridge");
    for _ in 0..50 {
        let mut sealed = a.sound();
        bench.switch.handle_webrtc(bench.now, address(WEBRTC), a.address, &mut sealed);
        run(&mut bench, &mut [&mut a, &mut b], TICK);
    }
    let heard = b.heard();
    assert_eq!(heard.len(), 50);
    assert!(heard.iter().all(|packet| packet.payload_type == 111));
}

#[test]
fn a_renewed_offer_keeps_the_keys_and_a_restart_moves_the_path() {
    let (mut bench, mut phone, mut browser) = phone_and_browser(Codec::Pcmu, Codec::Pcmu);
    let first = bench.switch.accept_offer(bench.now, B, &browser.offer(), &ALL).expect("answer");
    let again = bench.switch.accept_offer(bench.now, B, &browser.offer(), &ALL).expect("answer");
    let ufrag =
        |answer: &str| answer.lines().find(|line| line.contains("ice-ufrag")).expect("ufrag").to_owned();
    assert_eq!(ufrag(&first), ufrag(&again));
    let packet = phone.sound();
    bench.switch.handle_rtp(
        bench.now,
        A,
        telephony_media::Component::Rtp,
        phone.address,
        &mut packet.clone(),
    );
    run(&mut bench, &mut [&mut browser], TICK);
    assert_eq!(browser.heard().len(), 1, "same keys, same path");

    // The browser changes its network: new address, new ICE, same DTLS.
    browser.address = address("203.0.113.5:50000");
    browser.ice = agent("restarted", bench.now);
    browser.ice.add_local_candidate(Candidate::host(browser.address, Protocol::Udp).expect("candidate"));
    let answer = bench.switch.accept_offer(bench.now, B, &browser.offer(), &ALL).expect("answer");
    assert_ne!(ufrag(&first), ufrag(&answer));
    browser.accept(&answer, bench.now);
    run(&mut bench, &mut [&mut browser], Duration::from_secs(1));
    let packet = phone.sound();
    bench.switch.handle_rtp(
        bench.now,
        A,
        telephony_media::Component::Rtp,
        phone.address,
        &mut packet.clone(),
    );
    let mut sealed = browser.sound();
    bench.switch.handle_webrtc(bench.now, address(WEBRTC), browser.address, &mut sealed);
    let others = run(&mut bench, &mut [&mut browser], TICK);
    assert_eq!(browser.heard().len(), 1, "new path, same keys");
    assert_eq!(crate::wire::heard(&others).len(), 1);
    assert!(!bench.events.iter().any(|(_, event)| matches!(event, Event::Ended { .. })));
}

#[test]
fn strangers_and_forgeries_are_counted_and_dropped() {
    let (mut bench, _phone, mut browser) = phone_and_browser(Codec::Pcmu, Codec::Pcmu);
    let sealed = browser.sound();
    let (now, server, own) = (bench.now, address(WEBRTC), browser.address);
    let mut forged = sealed.clone();
    forged[20] ^= 1;
    bench.switch.handle_webrtc(now, server, own, &mut forged);
    bench.switch.handle_webrtc(now, server, own, &mut sealed.clone());
    bench.switch.handle_webrtc(now, server, own, &mut sealed.clone());
    bench.switch.handle_webrtc(now, server, address("198.51.100.10:40000"), &mut sealed.clone());
    bench.switch.handle_webrtc(now, server, own, &mut [99, 0, 0]);
    let mut check = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    check.resize(20, 7);
    bench.switch.handle_webrtc(now, server, address("198.51.100.10:40000"), &mut check);
    assert_eq!(crate::wire::heard(&bench.drain()).len(), 1);
    let names =
        ["srtp.auth", "srtp.replay", "webrtc.unknown_source", "webrtc.unknown_protocol", "stun.unknown_user"];
    for name in names {
        assert_eq!(bench.dropped(name), 1, "{name}");
    }
}

#[test]
fn a_leg_that_never_connects_fails_once() {
    let mut bench = Bench::new();
    bench.switch.add_webrtc_leg(bench.now, A).expect("leg");
    let browser = Browser::new(A, "198.51.100.9:40000", Codec::Pcmu, bench.now);
    bench.switch.accept_offer(bench.now, A, &browser.offer(), &ALL).expect("answer");
    bench.advance(Duration::from_secs(29));
    assert!(bench.events.is_empty());
    bench.advance(Duration::from_secs(60));
    let ended: Vec<_> = bench.events.iter().map(|(_, event)| event.clone()).collect();
    assert_eq!(ended, [Event::Ended { leg: A, reason: EndReason::IceFailed }]);
}

#[test]
fn a_browser_that_vanishes_loses_its_consent() {
    let mut bench = Bench::new();
    connect(&mut bench, A, "198.51.100.9:40000", Codec::Pcmu);
    bench.advance(Duration::from_secs(40));
    let ended: Vec<_> = bench
        .events
        .iter()
        .filter(|(_, event)| matches!(event, Event::Ended { leg: A, reason: EndReason::IceFailed }))
        .collect();
    assert_eq!(ended.len(), 1, "{:?}", bench.events);
}

#[test]
fn removal_says_bye_and_close_notify() {
    let mut bench = Bench::new();
    let mut browser = connect(&mut bench, A, "198.51.100.9:40000", Codec::Pcmu);
    // Whoever never sent anything says no BYE (RFC 3550 6.3.7): a report goes before.
    run(&mut bench, &mut [&mut browser], Duration::from_secs(8));
    bench.switch.remove(bench.now, A).expect("stats");
    run(&mut bench, &mut [&mut browser], TICK);
    assert!(browser.closed);
    let bye = |bytes: &Vec<u8>| {
        rtcp::parse(bytes).expect("compound").any(|packet| matches!(packet, rtcp::Packet::Goodbye { .. }))
    };
    assert!(browser.rtcp.iter().any(bye));
    let mut late = browser.sound();
    bench.switch.handle_webrtc(bench.now, address(WEBRTC), browser.address, &mut late);
    assert_eq!(bench.dropped("webrtc.unknown_source"), 1);
    assert_eq!((bench.switch.poll_timeout(), bench.switch.stats().legs), (None, 0));
}

#[test]
fn a_browser_that_closes_ends_its_leg() {
    let mut bench = Bench::new();
    let mut browser = connect(&mut bench, A, "198.51.100.9:40000", Codec::Pcmu);
    browser.dtls.as_mut().expect("dtls").close(bench.now);
    run(&mut bench, &mut [&mut browser], TICK);
    let closed = Event::Ended { leg: A, reason: EndReason::Closed };
    assert_eq!(bench.events.iter().filter(|(_, event)| *event == closed).count(), 1);
}

/// The wire of one browser behind a NAT that shows it as `seen`.
fn run_behind(bench: &mut Bench, browser: &mut Browser, seen: std::net::SocketAddr, duration: Duration) {
    let end = bench.now + duration;
    while bench.now < end {
        for mut datagram in browser.poll(bench.now) {
            bench.switch.handle_webrtc(bench.now, address(WEBRTC), seen, &mut datagram);
        }
        for sent in bench.advance(Duration::from_millis(5)) {
            if sent.to == seen {
                browser.receive(bench.now, &sent.bytes);
            }
        }
    }
}

#[test]
fn a_browser_whose_nat_gives_it_another_port_is_followed() {
    let (mut bench, mut phone, mut browser) = phone_and_browser(Codec::Pcmu, Codec::Pcmu);
    let seen = address("198.51.100.9:61000");
    run_behind(&mut bench, &mut browser, seen, Duration::from_secs(20));
    let mut sealed = browser.sound();
    bench.switch.handle_webrtc(bench.now, address(WEBRTC), seen, &mut sealed);
    let sent = bench.drain();
    assert_eq!(crate::wire::heard(&sent).len(), 1, "the phone hears the browser");
    let mut packet = phone.sound();
    bench.switch.handle_rtp(bench.now, A, telephony_media::Component::Rtp, phone.address, &mut packet);
    let sent = bench.drain();
    assert_eq!(sent.iter().map(|sent| sent.to).collect::<Vec<_>>(), [seen]);
    run_behind(&mut bench, &mut browser, seen, Duration::from_secs(60));
    assert!(!bench.events.iter().any(|(_, event)| matches!(event, Event::Ended { .. })));
}

#[test]
fn a_new_fingerprint_brings_new_keys() {
    let (mut bench, mut phone, mut browser) = phone_and_browser(Codec::Pcmu, Codec::Pcmu);
    // The page was loaded anew and takes its call up again: new ICE, new certificate, new address.
    let mut again = Browser::new(telephony_media::LegId(7), "198.51.100.9:40777", Codec::Pcmu, bench.now);
    std::mem::swap(&mut browser, &mut again);
    let answer = bench.switch.accept_offer(bench.now, B, &browser.offer(), &ALL).expect("answer");
    browser.accept(&answer, bench.now);
    run(&mut bench, &mut [&mut browser, &mut again], Duration::from_secs(2));
    assert!(browser.srtp.is_some(), "DTLS is up again");
    let mut packet = phone.sound();
    bench.switch.handle_rtp(bench.now, A, telephony_media::Component::Rtp, phone.address, &mut packet);
    run(&mut bench, &mut [&mut browser], TICK);
    assert_eq!(browser.heard().len(), 1);
    let mut sealed = browser.sound();
    bench.switch.handle_webrtc(bench.now, address(WEBRTC), browser.address, &mut sealed);
    assert_eq!(crate::wire::heard(&bench.drain()).len(), 1);
    assert!(!bench.events.iter().any(|(_, event)| matches!(event, Event::Ended { .. })));
}

#[test]
fn a_connected_leg_wakes_its_worker_seldom() {
    let (mut bench, _phone, mut browser) = phone_and_browser(Codec::Pcmu, Codec::Pcmu);
    run(&mut bench, &mut [&mut browser], Duration::from_secs(5));
    let end = bench.now + Duration::from_secs(20);
    let mut wakes = 0;
    while let Some(at) = bench.switch.poll_timeout().filter(|&at| at <= end) {
        bench.now = bench.now.max(at);
        bench.switch.handle_timeout(bench.now);
        bench.drain();
        wakes += 1;
    }
    assert!(wakes < 60, "{wakes} wake-ups in 20 s");
}

#[test]
fn a_long_call_stays_up_on_both_sides() {
    let (mut bench, _phone, mut browser) = phone_and_browser(Codec::Pcmu, Codec::Pcmu);
    run(&mut bench, &mut [&mut browser], Duration::from_secs(90));
    assert!(!bench.events.iter().any(|(_, event)| matches!(event, Event::Ended { .. })));
}
