//! Where a stream may come from: a NAT that binds anew in mid-call, and peers that name our own ports.

use crate::wire::{A, ALL, B, Bench, Phone, TICK, address, heard};
use std::time::Duration;
use telephony_media::LegId;
use telephony_media::codec::Codec;

const C: LegId = LegId(3);
const D: LegId = LegId(4);

/// A phone talks for a while; beyond the window in which its address could be learned.
fn talk(bench: &mut Bench, phone: &mut Phone, packets: usize) -> usize {
    let mut out = 0;
    for _ in 0..packets {
        let packet = phone.sound();
        out += heard(&bench.rtp(phone, packet)).len();
        bench.advance(TICK);
    }
    out
}

#[test]
fn a_nat_that_binds_anew_costs_a_second_and_no_more() {
    let (mut bench, mut a, mut b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    talk(&mut bench, &mut a, 400);
    a.address = address("198.51.100.7:2048");
    let through = talk(&mut bench, &mut a, 100);
    assert_eq!(through, 51, "one second of silence, then it is believed");
    let packet = b.sound();
    assert_eq!(bench.rtp(&b, packet)[0].to, a.address, "and our sound follows it");
    // Once more, but too soon after the last time.
    a.address = address("198.51.100.7:4096");
    assert_eq!(talk(&mut bench, &mut a, 150), 0);
    assert!(talk(&mut bench, &mut a, 150) > 100);
}

#[test]
fn nobody_takes_a_stream_over_who_does_not_go_on_with_it() {
    let (mut bench, mut a, _b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    talk(&mut bench, &mut a, 400);
    let thief = |alter: fn(&mut Phone)| {
        let mut thief = Phone::new(A, address("203.0.113.66:6666"), Codec::Pcmu);
        (thief.ssrc, thief.sequence, thief.timestamp) = (a.ssrc, a.sequence, a.timestamp);
        thief.timestamp = thief.timestamp.wrapping_add(3 * 8_000);
        alter(&mut thief);
        thief
    };
    let strangers = [
        thief(|thief| thief.ssrc ^= 1),
        thief(|thief| thief.sequence = thief.sequence.wrapping_sub(100)),
        thief(|thief| thief.sequence = thief.sequence.wrapping_add(10_000)),
        thief(|thief| thief.timestamp = thief.timestamp.wrapping_add(160_000)),
    ];
    bench.advance(Duration::from_secs(3));
    for mut stranger in strangers {
        let packet = stranger.sound();
        assert!(heard(&bench.rtp(&stranger, packet)).is_empty());
    }
    let mut owner = thief(|_| {});
    let packet = owner.sound();
    assert_eq!(heard(&bench.rtp(&owner, packet)).len(), 1, "who knows all three is on the path");
}

#[test]
fn a_stream_that_flows_is_not_taken_over() {
    let (mut bench, mut a, _b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    talk(&mut bench, &mut a, 400);
    let mut echo = Phone::new(A, address("203.0.113.66:6666"), Codec::Pcmu);
    echo.ssrc = a.ssrc;
    for _ in 0..100 {
        talk(&mut bench, &mut a, 1);
        (echo.sequence, echo.timestamp) = (a.sequence.wrapping_add(1), a.timestamp);
        let packet = echo.sound();
        assert!(heard(&bench.rtp(&echo, packet)).is_empty());
    }
}

/// The address of the port that a leg has here.
fn port_of(leg: LegId) -> std::net::SocketAddr {
    std::net::SocketAddr::from(([192, 0, 2, 1], 20_000 + 2 * u16::try_from(leg.0).expect("small")))
}

/// How many packets go out if whatever goes to a port of ours comes in there; at most `limit`.
fn circulate(benches: &mut [&mut Bench], phone: &mut Phone, limit: usize) -> usize {
    let packet = phone.sound();
    let mut waiting = benches[0].rtp(phone, packet);
    let mut count = 0;
    while let Some(sent) = waiting.pop().filter(|_| count < limit) {
        count += 1;
        let telephony_media::Path::Leg(from, _) = sent.path else { panic!("not a SIP leg") };
        if let Some(to) = [A, B, C, D].into_iter().find(|&leg| port_of(leg).port() == sent.to.port()) {
            for bench in benches.iter_mut().filter(|bench| bench.switch.leg_stats(to).is_some()) {
                waiting.extend(bench.rtp_from(to, port_of(from), &mut sent.bytes.clone()));
            }
        }
    }
    count
}

/// A leg whose peer says that it is at `names`.
fn leg(bench: &mut Bench, leg: LegId, names: std::net::SocketAddr) {
    if bench.switch.leg_stats(leg).is_none() {
        bench.switch.add_rtp_leg(bench.now, leg, port_of(leg)).expect("leg");
    }
    let peer = Phone::new(leg, names, Codec::Pcmu);
    bench.switch.accept_offer(bench.now, leg, &peer.sdp("sendrecv"), &ALL).expect("answer");
}

const STRANGER: &str = "203.0.113.66:6666";

#[test]
fn two_peers_that_name_our_ports_make_no_circle() {
    // Whatever address of ours they name: the one that they were told, or the one behind it.
    for ip in ["192.0.2.1", "10.9.9.9", "::ffff:10.9.9.9"] {
        let mut bench = Bench::new();
        bench.switch.add_address("10.9.9.9".parse().expect("address"));
        let named = |leg| (ip.parse::<std::net::IpAddr>().expect("address"), port_of(leg).port()).into();
        leg(&mut bench, A, named(B));
        leg(&mut bench, B, named(A));
        bench.switch.bridge(bench.now, A, B).expect("bridge");
        let mut stranger = Phone::new(A, address(STRANGER), Codec::Pcmu);
        assert!(circulate(&mut [&mut bench], &mut stranger, 1_000) < 4, "{ip}");
    }
}

#[test]
fn a_ring_of_two_calls_is_cut_and_a_call_that_comes_back_is_not() {
    for (last, ring) in [(port_of(A), true), (address("10.0.0.4:4000"), false)] {
        let mut bench = Bench::new();
        let mut caller = bench.phone(A, 2, Codec::Pcmu);
        for (id, names) in [(B, port_of(C)), (C, port_of(B)), (D, last)] {
            leg(&mut bench, id, names);
        }
        if ring {
            leg(&mut bench, A, port_of(D));
        }
        bench.switch.bridge(bench.now, A, B).expect("bridge");
        bench.switch.bridge(bench.now, C, D).expect("bridge");
        let count = circulate(&mut [&mut bench], &mut caller, 1_000);
        assert!(if ring { count < 8 } else { count == 2 }, "{count} packets, ring: {ring}");
    }
}

/// A ring of two calls, each in a switch of its own.
fn ring_over_two() -> (Bench, Bench) {
    let own = Default::default();
    let (mut first, mut second) = (Bench::beside(&own), Bench::beside(&own));
    leg(&mut first, A, port_of(D));
    leg(&mut first, B, port_of(C));
    // The ports are named before anybody has them.
    first.switch.bridge(first.now, A, B).expect("bridge");
    leg(&mut second, C, port_of(B));
    leg(&mut second, D, port_of(A));
    second.switch.bridge(second.now, C, D).expect("bridge");
    (first, second)
}

#[test]
fn a_ring_over_two_switches_is_cut() {
    let (mut first, mut second) = ring_over_two();
    let mut stranger = Phone::new(A, address(STRANGER), Codec::Pcmu);
    assert!(circulate(&mut [&mut first, &mut second], &mut stranger, 1_000) < 8);
}

#[test]
fn a_leg_that_was_cut_sends_again_when_another_breaks_the_ring() {
    let (mut first, mut second) = ring_over_two();
    // The first switch breaks it; the second one finds that with the next report that would be due.
    leg(&mut first, A, address("10.0.0.2:4000"));
    leg(&mut first, B, address("10.0.0.3:4000"));
    let mut phone = Phone::new(D, port_of(A), Codec::Pcmu);
    let packet = phone.sound();
    assert!(heard(&second.rtp(&phone, packet)).is_empty());
    second.advance(Duration::from_secs(8));
    let packet = phone.sound();
    assert_eq!(second.rtp(&phone, packet)[0].to, port_of(B));

    let mut bench = Bench::new();
    for (id, names) in [(A, D), (B, C), (C, B), (D, A)] {
        leg(&mut bench, id, port_of(names));
    }
    bench.switch.bridge(bench.now, A, B).expect("bridge");
    bench.switch.bridge(bench.now, C, D).expect("bridge");
    leg(&mut bench, A, address("10.0.0.2:4000"));
    let mut phone = Phone::new(D, port_of(A), Codec::Pcmu);
    let count = circulate(&mut [&mut bench], &mut phone, 1_000);
    assert_eq!(count, 2, "out by C, in by B, and out by A to where its peer is now");
}

#[test]
fn a_port_of_ours_that_nobody_named_is_no_peer() {
    let (mut bench, mut a, _b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    leg(&mut bench, C, address("10.0.0.5:4000"));
    bench.switch.add_address("10.9.9.9".parse().expect("address"));
    for ip in ["192.0.2.1", "10.9.9.9"] {
        a.address = (ip.parse::<std::net::IpAddr>().expect("address"), port_of(C).port()).into();
        let packet = a.sound();
        assert!(heard(&bench.rtp(&a, packet)).is_empty(), "{ip}");
    }
    // It is once the SDP names it, though packets come from the address behind it.
    leg(&mut bench, A, port_of(C));
    let packet = a.sound();
    assert_eq!(heard(&bench.rtp(&a, packet)).len(), 1);
}
