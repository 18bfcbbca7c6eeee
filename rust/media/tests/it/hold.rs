//! Renewed sessions: hold and resume in every spelling, versions, what has to reach the other leg (RFC 3264 8).

use crate::wire::{A, ALL, B, Bench, Phone, TICK, address, heard};
use std::time::Duration;
use telephony_media::codec::Codec;
use telephony_media::sdp::{Direction, parse};
use telephony_media::{Event, LegId, Renewal};

/// The id and version of `o=`.
fn origin(sdp: &str) -> (u64, u64) {
    let line = sdp.lines().find_map(|line| line.strip_prefix("o=")).expect("o=");
    let mut words = line.split(' ').skip(1).map(|word| word.parse().expect("number"));
    (words.next().expect("id"), words.next().expect("version"))
}

/// The spellings of a hold that a phone may use, and the direction that they mean.
fn spellings(phone: &Phone) -> [(String, Direction); 4] {
    let nowhere = |sdp: String| sdp.replace(&format!("c=IN IP4 {}", phone.address.ip()), "c=IN IP4 0.0.0.0");
    let off = |sdp: String| sdp.replace(&format!("m=audio {}", phone.address.port()), "m=audio 0");
    [
        (phone.sdp("sendonly"), Direction::SendOnly),
        (phone.sdp("inactive"), Direction::Inactive),
        (nowhere(phone.sdp("sendrecv")), Direction::SendOnly),
        (off(phone.sdp("sendrecv")), Direction::Inactive),
    ]
}

fn accept(bench: &mut Bench, leg: LegId, offer: &str) -> String {
    bench.switch.accept_offer(bench.now, leg, offer, &ALL).expect("answer")
}

/// Hold of A by B's consent, as the engine does it; our offer to B and our answer to A.
fn carry(bench: &mut Bench, a_offer: &str, b: &Phone, b_says: &str) -> (String, String) {
    let renewal = bench.switch.review_offer(A, a_offer, &ALL).expect("review");
    assert!(renewal.is_news() && renewal.peer == Some(B), "{renewal:?}");
    let offer = bench.switch.renew_offer(B, &ALL, renewal.direction, None).expect("offer");
    let answer = bench.switch.exchange(bench.now, (B, &b.sdp(b_says)), (A, a_offer), &ALL).expect("answer");
    (offer, answer)
}

#[test]
fn every_spelling_holds_and_resumes() {
    for spelling in 0..4 {
        let (mut bench, mut a, mut b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
        let (hold, means) = spellings(&a)[spelling].clone();
        let b_says = if means == Direction::Inactive { "inactive" } else { "recvonly" };
        let (offer, answer) = carry(&mut bench, &hold, &b, b_says);
        assert!(offer.contains(&format!("a={}\r\n", means.name())) && !offer.contains("0.0.0.0"), "{offer}");
        let ours = parse(&answer).expect("sdp");
        assert_eq!(ours.media()[0].is_live(), spelling != 3, "port 0 is answered by port 0: {answer}");
        if spelling != 3 {
            assert_eq!(ours.direction(&ours.media()[0]), means.reversed(), "{answer}");
        }
        assert!(bench.switch.is_held(A) && !bench.switch.is_held(B));
        let packet = b.sound();
        assert!(heard(&bench.rtp(&b, packet)).is_empty(), "a held phone gets nothing");
        let packet = a.sound();
        let music = heard(&bench.rtp(&a, packet)).len();
        assert_eq!(music, usize::from(means.sends()), "its music is heard where it sends");

        let (offer, answer) = carry(&mut bench, &a.sdp("sendrecv"), &b, "sendrecv");
        assert!(offer.contains("a=sendrecv") && answer.contains("a=sendrecv"), "{offer}{answer}");
        assert!(!bench.switch.is_held(A));
        let packet = b.sound();
        assert_eq!(heard(&bench.rtp(&b, packet)).len(), 1);
        let packet = a.sound();
        assert_eq!(heard(&bench.rtp(&a, packet)).len(), 1);
    }
}

#[test]
fn a_held_call_is_not_ended_for_its_silence() {
    let mut bench = Bench::with(Duration::from_secs(10), 16);
    let a = bench.phone(A, 2, Codec::Pcmu);
    let b = bench.phone(B, 3, Codec::Pcmu);
    bench.switch.bridge(bench.now, A, B).expect("bridge");
    for (hold, means) in spellings(&a) {
        carry(&mut bench, &hold, &b, means.reversed().name());
        bench.advance(Duration::from_secs(600));
        assert!(!bench.events.iter().any(|(_, event)| matches!(event, Event::Ended { .. })), "{hold}");
        carry(&mut bench, &a.sdp("sendrecv"), &b, "sendrecv");
    }
    bench.advance(Duration::from_secs(11));
    let ended = bench.events.iter().filter(|(_, event)| matches!(event, Event::Ended { .. })).count();
    assert_eq!(ended, 2, "a resumed call must be heard again");
}

#[test]
fn both_sides_hold_and_each_resumes_by_itself() {
    let (mut bench, a, b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    carry(&mut bench, &a.sdp("sendonly"), &b, "recvonly");
    // B refreshes while it is held: that is no news for A.
    let refresh = bench.switch.review_offer(B, &b.sdp("sendrecv"), &ALL).expect("review");
    assert_eq!(refresh, Renewal { peer: Some(A), direction: None, codec: None });
    assert!(accept(&mut bench, B, &b.sdp("sendrecv")).contains("a=sendonly"));
    // B holds too.
    let hold = b.sdp("sendonly");
    let renewal = bench.switch.review_offer(B, &hold, &ALL).expect("review");
    assert_eq!((renewal.peer, renewal.direction), (Some(A), Some(Direction::SendOnly)));
    bench.switch.renew_offer(A, &ALL, renewal.direction, None).expect("offer");
    let answer = bench.switch.exchange(bench.now, (A, &a.sdp("inactive")), (B, &hold), &ALL).expect("answer");
    assert!(answer.contains("a=inactive"), "{answer}");
    // A resumes; B still holds.
    let (offer, answer) = carry(&mut bench, &a.sdp("sendrecv"), &b, "sendonly");
    assert!(offer.contains("a=sendrecv") && answer.contains("a=sendonly"), "{offer}{answer}");
}

#[test]
fn the_version_rises_by_one_with_each_change_and_only_then() {
    let mut bench = Bench::new();
    bench.switch.add_rtp_leg(bench.now, A, address("192.0.2.1:20000")).expect("leg");
    let mut phone = Phone::new(A, address("10.0.0.2:4000"), Codec::Pcmu);
    let first = accept(&mut bench, A, &phone.sdp("sendrecv"));
    let (id, version) = origin(&first);
    assert!(!first.contains("o=- 1 1 "), "our own, never the peer's: {first}");
    phone.address = address("10.0.0.9:9000");
    assert_eq!(accept(&mut bench, A, &phone.sdp("sendrecv")), first, "nothing of ours has changed");
    assert_eq!(origin(&accept(&mut bench, A, &phone.sdp("inactive"))), (id, version + 1));
    assert_eq!(origin(&accept(&mut bench, A, &phone.sdp("inactive"))), (id, version + 1));
    let offer = bench.switch.create_offer(bench.now, A, &[Codec::Pcmu, Codec::Pcma]).expect("offer");
    assert_eq!(origin(&offer), (id, version + 2));
    bench.switch.accept_answer(bench.now, A, &phone.sdp("sendrecv")).expect("answer");
    let again = bench.switch.create_offer(bench.now, A, &[Codec::Pcmu, Codec::Pcma]).expect("offer");
    assert_eq!(again, offer, "a refresh offers what stands");
    // An offer that was refused used its version up.
    let refused = bench.switch.renew_offer(A, &ALL, Some(Direction::SendOnly), None).expect("offer");
    assert_eq!(origin(&refused), (id, version + 3));
    let again = bench.switch.create_offer(bench.now, A, &[Codec::Pcmu, Codec::Pcma]).expect("offer");
    assert_eq!(again, offer, "what stands is what was agreed on");
}

#[test]
fn a_refused_offer_changes_nothing() {
    let (mut bench, mut a, mut b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    let renewal = bench.switch.review_offer(A, &a.sdp("sendonly"), &ALL).expect("review");
    bench.switch.renew_offer(B, &ALL, renewal.direction, None).expect("offer");
    assert!(bench.switch.exchange(bench.now, (B, "rubbish"), (A, &a.sdp("sendonly")), &ALL).is_err());
    assert!(!bench.switch.is_held(A));
    for _ in 0..5 {
        let packet = a.sound();
        assert_eq!(heard(&bench.rtp(&a, packet)).len(), 1);
        let packet = b.sound();
        assert_eq!(heard(&bench.rtp(&b, packet)).len(), 1);
        bench.advance(TICK);
    }
    assert!(bench.switch.review_offer(A, &a.sdp("sendrecv"), &ALL).expect("review").direction.is_none());
}

#[test]
fn another_order_of_codecs_changes_none() {
    let mut bench = Bench::new();
    let a = bench.phone(A, 2, Codec::Pcma);
    bench.phone(B, 3, Codec::Pcma);
    bench.switch.bridge(bench.now, A, B).expect("bridge");
    let both = a.sdp("sendrecv").replace("RTP/AVP 8 101", "RTP/AVP 0 8 101");
    assert!(!bench.switch.review_offer(A, &both, &ALL).expect("review").is_news());
    accept(&mut bench, A, &both);
    assert_eq!(bench.switch.negotiated(A), Some(Codec::Pcma));
}

#[test]
fn a_codec_that_goes_is_renegotiated_with_the_other_side() {
    let (mut bench, mut a, mut b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    a.codec = Codec::Opus;
    let offer = a.sdp("sendrecv");
    let renewal = bench.switch.review_offer(A, &offer, &ALL).expect("review");
    assert_eq!(renewal, Renewal { peer: Some(B), direction: None, codec: Some(Codec::Opus) });
    // Nobody agrees to it: transcoded, never silent.
    let answer = accept(&mut bench, A, &offer);
    assert!(answer.contains("opus/48000/2"), "{answer}");
    let mut frames = 0;
    for _ in 0..10 {
        let packet = b.sound();
        frames += heard(&bench.rtp(&b, packet)).iter().filter(|packet| packet.payload_type == 111).count();
        bench.advance(TICK);
    }
    assert_eq!(frames, 10);
    // Agreed: relayed.
    b.codec = Codec::Opus;
    bench.switch.renew_offer(B, &ALL, None, Some(Codec::Opus)).expect("offer");
    bench.switch.exchange(bench.now, (B, &b.sdp("sendrecv")), (A, &offer), &ALL).expect("answer");
    let relayed = bench.switch.stats().relayed;
    let packet = b.packet(160, &[1, 2, 3]);
    assert_eq!(heard(&bench.rtp(&b, packet))[0].payload, [1, 2, 3]);
    assert_eq!(bench.switch.stats().relayed, relayed + 1);
}

#[test]
fn our_renewed_offer_keeps_sections_and_numbers() {
    let mut bench = Bench::new();
    bench.switch.add_rtp_leg(bench.now, A, address("192.0.2.1:20000")).expect("leg");
    let offer = "v=0\r\no=- 1 1 IN IP4 10.0.0.2\r\ns=-\r\nc=IN IP4 10.0.0.2\r\nt=0 0\r\nm=video 5000 RTP/AVP 31\r\n\
        m=audio 4000 RTP/AVP 101 111\r\na=rtpmap:101 opus/48000/2\r\na=rtpmap:111 telephone-event/48000\r\n";
    accept(&mut bench, A, offer);
    let ours = parse(&bench.switch.create_offer(bench.now, A, &ALL).expect("offer")).expect("sdp");
    let sections: Vec<_> = ours.media().iter().map(|media| (media.kind(), media.port())).collect();
    assert_eq!(sections, [("video", 0), ("audio", 20_000)]);
    let names: Vec<_> =
        ours.media()[1].encodings().iter().map(|map| (map.payload_type, map.encoding.to_owned())).collect();
    assert_eq!(names[0], (101, "opus".to_owned()), "what stands keeps its number");
    assert!(names.contains(&(111, "telephone-event".to_owned())), "{names:?}");
    let mut numbers: Vec<u8> = names.iter().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), names.len(), "{names:?}");
    // The answer has the sections of the offer, and the second is the sound.
    let answer = "v=0\r\no=- 1 2 IN IP4 10.0.0.2\r\ns=-\r\nc=IN IP4 10.0.0.2\r\nt=0 0\r\nm=video 0 RTP/AVP 31\r\n\
        m=audio 4000 RTP/AVP 0\r\n";
    bench.switch.accept_answer(bench.now, A, answer).expect("answer");
    assert_eq!(bench.switch.negotiated(A), Some(Codec::Pcmu));
}

#[test]
fn a_late_answer_may_hold() {
    let (mut bench, a, b) = Bench::bridged(Codec::Pcmu, Codec::Pcmu);
    bench.switch.create_offer(bench.now, A, &ALL).expect("offer");
    bench.switch.accept_answer(bench.now, A, &a.sdp("inactive")).expect("answer");
    let renewal = bench.switch.review_answer(A).expect("review");
    assert_eq!((renewal.peer, renewal.direction), (Some(B), Some(Direction::Inactive)));
    let offer = bench.switch.renew_offer(B, &ALL, renewal.direction, None).expect("offer");
    assert!(offer.contains("a=inactive"), "{offer}");
    bench.switch.accept_answer(bench.now, B, &b.sdp("inactive")).expect("answer");
    bench.switch.heed(A, B);
    assert!(!bench.switch.review_answer(A).expect("review").is_news(), "now it knows");
}
