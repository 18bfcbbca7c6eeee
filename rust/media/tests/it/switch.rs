//! Two SIP legs over one switch: relay, sources, loss, holding, timeouts, limits.

use crate::wire::{A, ALL, B, Bench, Phone, TICK, address, heard};
use proptest::prelude::*;
use std::time::Duration;
use telephony_media::codec::{Codec, FRAME};
use telephony_media::rtcp::{self, Packet};
use telephony_media::{Component, EndReason, Error, Event, LegId, Path};

#[test]
fn the_same_codec_is_relayed_unchanged() {
    let (mut bench, mut a, b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    let mut all = Vec::new();
    for _ in 0..50 {
        let packet = a.sound();
        let sent = bench.rtp(&a, packet.clone());
        assert_eq!(sent.len(), 1);
        assert_eq!((sent[0].path, sent[0].to), (Path::Leg(B, Component::Rtp), b.address));
        let out = heard(&sent).remove(0);
        assert_eq!(out.payload, packet[12..]);
        assert_eq!(out.payload_type, 0);
        assert_ne!(out.ssrc, a.ssrc);
        all.push(out);
        bench.advance(TICK);
    }
    assert!(all[0].marker && all[1..].iter().all(|packet| !packet.marker));
    for pair in all.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
        assert_eq!(pair[1].timestamp, pair[0].timestamp.wrapping_add(160));
        assert_eq!(pair[1].ssrc, pair[0].ssrc);
    }
    let stats = bench.stats(A);
    assert_eq!((stats.packets_in, stats.bytes_in, stats.lost), (50, 50 * 160, 0));
    assert_eq!(bench.stats(B).packets_out, 50);
    assert_eq!(bench.switch.stats().relayed, 50);
    assert!(matches!(bench.events[0].1, Event::Connected { leg: A }));
}

#[test]
fn header_extensions_csrcs_and_padding_stay_here() {
    let (mut bench, mut a, _b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    let mut plain = a.sound();
    plain[0] |= 0x20 | 0x10 | 0x01;
    plain.splice(12..12, [0, 0, 0, 9, 0xbe, 0xde, 0, 1, 1, 2, 3, 4]);
    plain.extend([0, 0, 3]);
    let sent = bench.rtp(&a, plain);
    assert_eq!(sent[0].bytes.len(), 12 + FRAME);
    assert_eq!(sent[0].bytes[0], 0x80);
}

#[test]
fn the_two_laws_are_translated_both_ways() {
    let (mut bench, mut a, mut b) = Bench::bridged(Codec::Pcmu, Codec::Pcma);
    let packet = a.packet(4, &[0xff, 0x7f, 0x00, 0x80]);
    let out = heard(&bench.rtp(&a, packet)).remove(0);
    assert_eq!((out.payload_type, out.payload), (8, vec![0xd5, 0xd5, 0x2a, 0xaa]));
    let packet = b.packet(2, &[0x2a, 0xaa]);
    let out = heard(&bench.rtp(&b, packet)).remove(0);
    assert_eq!((out.payload_type, out.payload), (0, vec![0x00, 0x80]));
}

#[test]
fn loss_and_reordering_are_passed_on_and_counted() {
    let (mut bench, mut a, _b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    let packets: Vec<_> = (0..10).map(|_| a.sound()).collect();
    let mut out = Vec::new();
    for index in [0, 1, 3, 2, 2, 6, 7, 9] {
        out.extend(heard(&bench.rtp(&a, packets[index].clone())));
        bench.advance(TICK);
    }
    let first = out[0].sequence;
    let offsets: Vec<u16> = out.iter().map(|packet| packet.sequence.wrapping_sub(first)).collect();
    assert_eq!(offsets, [0, 1, 3, 2, 6, 7, 9], "the repeated one is gone, the holes are where they were");
    assert_eq!(bench.stats(A).lost, 3);
    assert_eq!(bench.dropped("rtp.duplicate"), 1);
}

#[test]
fn a_new_source_joins_on_without_a_seam() {
    let (mut bench, mut a, _b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    let mut out = Vec::new();
    for index in 0..20 {
        if index == 10 {
            (a.ssrc, a.sequence, a.timestamp) = (0x1234_5678, 77, 1_000_000);
        }
        let packet = a.sound();
        out.extend(heard(&bench.rtp(&a, packet)));
        bench.advance(TICK);
    }
    assert_eq!(out.len(), 20);
    assert!(out.windows(2).all(|pair| pair[1].ssrc == pair[0].ssrc));
    assert!(out.windows(2).all(|pair| pair[1].sequence == pair[0].sequence.wrapping_add(1)));
    assert!(out.windows(2).all(|pair| pair[1].timestamp == pair[0].timestamp.wrapping_add(160)));
    assert!(out[10].marker, "RFC 3550 5.1: a seam is the start of a talkspurt");
}

#[test]
fn a_source_that_restarts_its_sequence_is_believed_at_the_second_packet() {
    let (mut bench, mut a, _b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    let mut out = Vec::new();
    for index in 0..10 {
        if index == 5 {
            a.sequence = a.sequence.wrapping_add(20_000);
        }
        let packet = a.sound();
        out.extend(heard(&bench.rtp(&a, packet)));
        bench.advance(TICK);
    }
    assert_eq!(out.len(), 9);
    assert!(out.windows(2).all(|pair| pair[1].sequence == pair[0].sequence.wrapping_add(1)));
    assert_eq!(bench.dropped("rtp.sequence"), 1);
}

#[test]
fn the_sdp_address_beats_a_stranger_who_came_first() {
    let (mut bench, mut a, mut b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    let mut attacker = Phone::new(A, address("203.0.113.66:6666"), Codec::Pcmu);
    attacker.ssrc = 666;
    let packet = attacker.sound();
    assert_eq!(bench.rtp(&attacker, packet).len(), 1, "a peer behind NAT would look like this");
    let packet = b.sound();
    assert_eq!(bench.rtp(&b, packet)[0].to, attacker.address);
    let packet = a.sound();
    bench.rtp(&a, packet);
    let packet = b.sound();
    assert_eq!(bench.rtp(&b, packet)[0].to, a.address);
    let packet = attacker.sound();
    assert!(bench.rtp(&attacker, packet).is_empty());
    assert_eq!(bench.dropped("rtp.unknown_source"), 1);
}

#[test]
fn after_the_window_nobody_takes_over() {
    let (mut bench, mut a, mut b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    a.address = address("198.51.100.7:1024");
    let packet = a.sound();
    bench.rtp(&a, packet);
    // A NAT that rebinds within the window keeps the SSRC.
    a.address = address("198.51.100.7:2048");
    let packet = a.sound();
    bench.rtp(&a, packet);
    let packet = b.sound();
    assert_eq!(bench.rtp(&b, packet)[0].to, a.address);
    bench.advance(Duration::from_secs(6));
    for from in ["198.51.100.7:4096", "10.0.0.2:4000"] {
        let mut packet = a.sound();
        assert!(bench.rtp_from(A, address(from), &mut packet).is_empty(), "{from}");
    }
    assert_eq!(bench.dropped("rtp.unknown_source"), 2);
    let packet = b.sound();
    assert_eq!(bench.rtp(&b, packet)[0].to, a.address);
    let packet = a.sound();
    assert_eq!(bench.rtp(&a, packet).len(), 1);
}

#[test]
fn a_stranger_with_another_ssrc_cannot_take_a_learned_source_over() {
    let (mut bench, mut a, _b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    a.address = address("198.51.100.7:1024");
    let packet = a.sound();
    bench.rtp(&a, packet);
    let mut attacker = Phone::new(A, address("203.0.113.66:6666"), Codec::Pcmu);
    let packet = attacker.sound();
    assert!(bench.rtp(&attacker, packet).is_empty());
}

#[test]
fn what_was_learned_while_it_rang_is_forgotten_when_the_call_begins() {
    let mut bench = Bench::new();
    let mut a = bench.phone(A, 2, Codec::Pcmu);
    let mut attacker = Phone::new(A, address("203.0.113.66:6666"), Codec::Pcmu);
    attacker.ssrc = 666;
    let packet = attacker.sound();
    bench.rtp(&attacker, packet);
    bench.advance(Duration::from_secs(20));
    bench.phone(B, 3, Codec::Pcmu);
    bench.switch.bridge(bench.now, A, B).expect("bridge");
    a.address = address("198.51.100.7:1024");
    let packet = a.sound();
    assert_eq!(bench.rtp(&a, packet).len(), 1, "a peer behind NAT that speaks first is learned");
    let packet = attacker.sound();
    assert!(bench.rtp(&attacker, packet).is_empty());
}

#[test]
fn holding_stops_what_the_direction_forbids() {
    let (mut bench, mut a, mut b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    let answer = bench.switch.accept_offer(bench.now, A, &a.sdp("sendonly"), &ALL).expect("answer");
    assert!(answer.contains("a=recvonly"), "{answer}");
    let packet = b.sound();
    assert!(bench.rtp(&b, packet).is_empty(), "A listens to nobody");
    let packet = a.sound();
    assert_eq!(bench.rtp(&a, packet).len(), 1, "A's music on hold is heard");
    bench.switch.accept_offer(bench.now, A, &a.sdp("inactive"), &ALL).expect("answer");
    let packet = a.sound();
    assert!(bench.rtp(&a, packet).is_empty());
    assert_eq!(bench.dropped("rtp.direction"), 2);
    bench.switch.accept_offer(bench.now, A, &a.sdp("sendrecv"), &ALL).expect("answer");
    let packet = b.sound();
    assert_eq!(bench.rtp(&b, packet).len(), 1);
}

#[test]
fn a_renewed_offer_moves_the_peer_and_changes_the_codec() {
    let (mut bench, mut a, mut b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    let packet = a.sound();
    bench.rtp(&a, packet);
    a.address = address("10.0.0.9:9000");
    a.codec = Codec::Pcma;
    bench.switch.accept_offer(bench.now, A, &a.sdp("sendrecv"), &ALL).expect("answer");
    assert_eq!(bench.switch.negotiated(A), Some(Codec::Pcma));
    let packet = b.packet(1, &[0xff]);
    let sent = bench.rtp(&b, packet);
    assert_eq!((sent[0].to, heard(&sent)[0].payload_type, heard(&sent)[0].payload[0]), (a.address, 8, 0xd5));
    let packet = a.packet(1, &[0xd5]);
    assert_eq!(
        heard(&bench.rtp(&a, packet))[0].payload[0],
        0xfe,
        "A-law's smallest value is 8, mu-law's is 0"
    );
}

#[test]
fn an_unbridged_leg_is_silent() {
    let (mut bench, mut a, _b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    bench.switch.unbridge(bench.now, B);
    let packet = a.sound();
    assert!(bench.rtp(&a, packet).is_empty());
    assert_eq!((bench.dropped("rtp.not_bridged"), bench.switch.stats().bridges), (1, 0));
    assert!(heard(&bench.advance(Duration::from_secs(30))).is_empty());
}

#[test]
fn reports_flow_and_measure_loss_and_the_round_trip() {
    let (mut bench, mut a, b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    let mut reports = Vec::new();
    for index in 0..500 {
        let packet = a.sound();
        if index % 10 != 9 {
            bench.rtp(&a, packet);
        }
        reports.extend(bench.advance(TICK));
    }
    let to_b: Vec<_> = reports.iter().filter(|sent| sent.path == Path::Leg(B, Component::Rtcp)).collect();
    assert!((1..=5).contains(&to_b.len()), "{} in 10 s", to_b.len());
    assert_eq!(to_b[0].to, address("10.0.0.3:4001"));
    let sender = rtcp::parse(&to_b[0].bytes).expect("compound").next().expect("report");
    let Packet::SenderReport { ssrc, info, .. } = sender else { panic!("{sender:?}") };
    assert!(info.packets > 50 && info.octets == info.packets * 160);
    let to_a = reports.iter().find(|sent| sent.path == Path::Leg(A, Component::Rtcp)).expect("a report");
    let first = rtcp::parse(&to_a.bytes).expect("compound").next().expect("report");
    let Packet::ReceiverReport { mut blocks, .. } = first else { panic!("{first:?}") };
    let block = blocks.next().expect("block");
    assert_eq!((block.ssrc.0, block.fraction_lost), (a.ssrc, block.fraction_lost.clamp(22, 28)));

    // B answers the last sender report 40 ms after it was sent, having held it for 15 ms.
    let last = to_b.last().expect("report");
    let Some(Packet::SenderReport { info, .. }) = rtcp::parse(&last.bytes).expect("compound").next() else {
        panic!("no sender report")
    };
    let age = bench.now - bench.start;
    let middle = u32::try_from(info.ntp >> 16 & 0xffff_ffff).expect("32 bits");
    let sent_at = Duration::from_micros(u64::from(middle) * 1_000_000 / 65_536);
    let held = (age - sent_at) - Duration::from_millis(25);
    let block = rtcp::ReportBlock {
        ssrc,
        fraction_lost: 0,
        cumulative_lost: 3,
        extended_highest: 0,
        jitter: 0,
        last_sender_report: middle,
        delay: u32::try_from(held.as_micros() * 65_536 / 1_000_000).expect("small"),
    };
    let mut report = Vec::new();
    rtcp::write_report(&mut report, telephony_media::rtp::Ssrc(b.ssrc), None, Some(&block));
    bench.switch.handle_rtp(bench.now, B, Component::Rtcp, address("10.0.0.3:4001"), &mut report);
    let stats = bench.stats(B);
    let trip = stats.round_trip.expect("measured").as_millis();
    assert!((24..=26).contains(&trip), "{trip} ms");
    assert_eq!(stats.lost_remote, 3);
    assert_eq!(bench.stats(A).lost, 49, "the last one that is missing cannot be known yet");
}

#[test]
fn removal_says_bye_and_leaves_nothing_behind() {
    let (mut bench, mut a, b) = Bench::bridged(Codec::Pcmu, Codec::Opus);
    let packet = a.sound();
    bench.rtp(&a, packet);
    assert!(!bench.advance(Duration::from_secs(8)).is_empty(), "a report has left");
    let stats = bench.switch.remove(bench.now, A).expect("stats");
    assert_eq!((stats.packets_in, stats.codec), (1, Some(Codec::Pcmu)));
    let sent = bench.drain();
    let bye = |packet: Packet<'_>| matches!(packet, Packet::Goodbye { .. });
    assert!(rtcp::parse(&sent[0].bytes).expect("compound").any(bye));
    assert!(bench.switch.remove(bench.now, A).is_none());
    let mut packet = a.sound();
    assert!(bench.rtp_from(A, a.address, &mut packet).is_empty());
    assert_eq!(bench.dropped("rtp.unknown_leg"), 1);
    bench.switch.remove(bench.now, B);
    bench.drain();
    let stats = bench.switch.stats();
    assert_eq!((stats.legs, stats.bridges), (0, 0));
    assert!(bench.advance(Duration::from_secs(60)).is_empty());
    assert_eq!(bench.switch.poll_timeout(), None);
    assert_eq!(b.id, B);
}

/// RFC 3550 6.3.7.
#[test]
fn a_leg_that_never_sent_anything_says_no_bye() {
    let mut bench = Bench::new();
    bench.phone(A, 2, Codec::Pcmu);
    bench.switch.remove(bench.now, A).expect("stats");
    assert!(bench.drain().is_empty());
}

#[test]
fn media_that_stops_ends_the_leg_once() {
    let mut bench = Bench::with(Duration::from_secs(10), 16);
    let mut a = bench.phone(A, 2, Codec::Pcmu);
    bench.phone(B, 3, Codec::Pcmu);
    bench.advance(Duration::from_secs(60));
    assert!(bench.events.is_empty(), "a ringing leg may be silent");
    bench.switch.bridge(bench.now, A, B).expect("bridge");
    for _ in 0..600 {
        let packet = a.sound();
        bench.rtp(&a, packet);
        bench.advance(TICK);
    }
    bench.advance(Duration::from_secs(60));
    let ended: Vec<_> = bench
        .events
        .iter()
        .filter_map(|(at, event)| match event {
            Event::Ended { leg, reason } => Some((at.as_secs(), *leg, reason.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(ended, [(70, B, EndReason::MediaTimeout), (81, A, EndReason::MediaTimeout)]);
}

#[test]
fn rtcp_alone_keeps_a_leg_alive() {
    let mut bench = Bench::with(Duration::from_secs(10), 16);
    let a = bench.phone(A, 2, Codec::Pcmu);
    bench.phone(B, 3, Codec::Pcmu);
    bench.switch.bridge(bench.now, A, B).expect("bridge");
    for _ in 0..12 {
        let mut report = Vec::new();
        rtcp::write_report(&mut report, telephony_media::rtp::Ssrc(a.ssrc), None, None);
        bench.switch.handle_rtp(bench.now, A, Component::Rtcp, address("10.0.0.2:4001"), &mut report);
        bench.advance(Duration::from_secs(5));
    }
    assert!(!bench.events.iter().any(|(_, event)| matches!(event, Event::Ended { leg: A, .. })));
}

#[test]
fn limits_and_wrong_commands_are_errors() {
    let mut bench = Bench::with(Duration::ZERO, 2);
    let (now, local) = (bench.now, address("192.0.2.1:20000"));
    let switch = &mut bench.switch;
    assert_eq!(switch.add_rtp_leg(now, A, local), Ok(()));
    assert_eq!(switch.add_rtp_leg(now, A, local), Err(Error::LegExists));
    assert_eq!(switch.add_webrtc_leg(now, B), Ok(()));
    assert_eq!(switch.add_rtp_leg(now, LegId(3), local), Err(Error::TooManyLegs));
    assert_eq!(switch.bridge(now, A, LegId(9)), Err(Error::UnknownLeg));
    assert!(switch.bridge(now, A, A).is_err());
    assert!(matches!(switch.accept_answer(now, A, "v=0"), Err(Error::WrongState(_))));
    assert!(matches!(switch.accept_offer(now, A, "nonsense", &ALL), Err(Error::BadSdp(_))));
    let g729 =
        "v=0\r\no=- 1 1 IN IP4 10.0.0.2\r\ns=-\r\nc=IN IP4 10.0.0.2\r\nt=0 0\r\nm=audio 4000 RTP/AVP 18\r\n";
    assert!(matches!(
        switch.accept_offer(now, A, g729, &ALL),
        Err(Error::NotAcceptable { warning: 305, .. })
    ));
    assert!(switch.add_candidate(now, A, Some("candidate:1 1 udp 1 10.0.0.2 9 typ host")).is_err());
    assert_eq!(switch.add_candidate(now, B, None), Ok(()));
    assert_eq!(switch.send_digits(now, A, "1", TICK), Err(Error::NoTelephoneEvents));
}

#[test]
fn our_own_offer_is_answered() {
    let mut bench = Bench::new();
    bench.switch.add_rtp_leg(bench.now, A, address("192.0.2.1:20000")).expect("leg");
    let offer = bench.switch.create_offer(bench.now, A, &[Codec::Pcma, Codec::Pcmu]).expect("offer");
    assert!(offer.contains("m=audio 20000 RTP/AVP 8 0"), "{offer}");
    let mut a = Phone::new(A, address("10.0.0.2:4000"), Codec::Pcma);
    bench.switch.accept_answer(bench.now, A, &a.sdp("sendrecv")).expect("answer");
    let mut b = bench.phone(B, 3, Codec::Pcma);
    bench.switch.bridge(bench.now, A, B).expect("bridge");
    let packet = a.sound();
    assert_eq!(bench.rtp(&a, packet).len(), 1);
    let packet = b.sound();
    assert_eq!(bench.rtp(&b, packet)[0].to, a.address);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_datagrams_never_panic(
        mut datagrams in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..200)), 1..30),
    ) {
        let (mut bench, a, _b) = Bench::bridged(Codec::Opus, Codec::Pcmu);
        bench.switch.add_webrtc_leg(bench.now, LegId(3)).expect("leg");
        for (index, (rtp, shaped, control, datagram)) in datagrams.iter_mut().enumerate() {
            if *shaped && datagram.len() > 12 {
                // Close enough to RTP to come through to the codec.
                datagram[0] = 0x80;
                datagram[1] = if index % 5 == 0 { 101 } else { a.payload_type() };
                datagram[2] = 0;
                datagram[3] = u8::try_from(index).expect("small");
            }
            let component = if *control { Component::Rtcp } else { Component::Rtp };
            if *rtp {
                bench.switch.handle_rtp(bench.now, A, component, a.address, datagram);
            } else {
                bench.switch.handle_webrtc(bench.now, address(crate::wire::WEBRTC), a.address, datagram);
            }
            bench.advance(TICK);
        }
        for id in [A, B, LegId(3)] {
            prop_assert!(bench.switch.remove(bench.now, id).is_some());
        }
        bench.drain();
        prop_assert_eq!(bench.switch.stats().legs, 0);
        prop_assert_eq!(bench.switch.poll_timeout(), None);
    }
}

/// RFC 3264 section 7: whoever answers with two of our codecs may change from one to the other in any packet.
#[test]
fn every_codec_of_an_answer_is_heard() {
    let mut bench = Bench::new();
    bench.switch.add_rtp_leg(bench.now, A, address("192.0.2.1:20002")).expect("leg");
    bench.switch.create_offer(bench.now, A, &ALL).expect("offer");
    let mut a = Phone::new(A, address("10.0.0.2:4000"), Codec::Pcmu);
    let answer = a.sdp("sendrecv").replace("RTP/AVP 0 101", "RTP/AVP 0 8 111 101 110")
        + "a=rtpmap:111 opus/48000/2\r\na=rtpmap:110 telephone-event/48000\r\n";
    bench.switch.accept_answer(bench.now, A, &answer).expect("answer");
    let mut b = bench.phone(B, 3, Codec::Pcmu);
    bench.switch.bridge(bench.now, A, B).expect("bridge");
    let mut crossed = |bench: &mut Bench, codec: Codec, payload: &[u8]| {
        a.codec = codec;
        let packet = a.packet(160, payload);
        let sent = heard(&bench.rtp(&a, packet));
        bench.advance(TICK);
        assert!(sent.iter().all(|packet| packet.payload_type == 0), "{sent:?}");
        sent.first().map(|packet| packet.payload[0])
    };
    assert_eq!(crossed(&mut bench, Codec::Pcmu, &[0xff; 160]), Some(0xff));
    assert_eq!(crossed(&mut bench, Codec::Pcma, &[0xd5; 160]), Some(0xfe), "translated");
    assert_eq!(crossed(&mut bench, Codec::Pcma, &[0xd5; 160]), Some(0xfe));
    // The refresh of the session says the same again and changes nothing.
    bench.switch.accept_answer(bench.now, A, &answer).expect("answer");
    assert_eq!(crossed(&mut bench, Codec::Pcma, &[0xd5; 160]), Some(0xfe));
    let mut encoder = telephony_media::codec::Encoder::new(Codec::Opus).expect("opus");
    let mut payload = [0; 400];
    let length = encoder.encode(&[0; 160], &mut payload).expect("frame");
    assert!(crossed(&mut bench, Codec::Opus, &payload[..length]).is_some(), "transcoded");
    assert_eq!(crossed(&mut bench, Codec::Pcmu, &[0x55; 160]), Some(0x55), "relayed again");
    assert_eq!(bench.stats(A).drops.total(), 0);
    // It is sent what it put first, whatever it speaks.
    let packet = b.sound();
    assert_eq!(heard(&bench.rtp(&b, packet))[0].payload_type, 0);
}
