//! Reliable provisional responses (RFC 3262), sent and received.

use std::time::Duration;

use telephony_sip::{Cause, Event, LegId, Message, Method, Name, Profile, Side, Support};

use crate::wire::{
    CONTACT, LONG, NOTHING, Solo, Wire, assert_each_ended_once, described, dial, first_line, is, methods,
    request, response, sdp, tag_of, theirs,
};

const DEMANDED: &str = "Require: 100rel\nContent-Type: application/sdp\n\nv=0 offer";
const SUPPORTED: &str = "Supported: timer, 100rel\nContent-Type: application/sdp\n\nv=0 offer";
const OFFER: &str = "Content-Type: application/sdp\n\nv=0 new offer";
const MOMENT: Duration = Duration::from_millis(100);

fn profile(reliable: Support) -> Profile {
    Profile { reliable, ..Profile::default() }
}

fn supporting() -> Solo {
    Solo::of(profile(Support::Supported))
}

fn seconds(value: f64) -> Duration {
    Duration::from_secs_f64(value)
}

/// An INVITE is here and a provisional response to it has left; gives the leg and the response.
fn ringing(solo: &mut Solo, extra: &str, status: u16, body: Option<&str>) -> (LegId, Message) {
    let leg = solo.incoming(&request("INVITE", "a", 1, "", extra));
    assert_eq!(first_line(&solo.sent_one()), "100");
    solo.endpoint.provisional(solo.now, leg, status, body.and_then(sdp)).unwrap();
    (leg, solo.sent_one())
}

/// The PRACK of a provisional response of ours.
fn prack(response: &Message, branch: &str, cseq: u32, extra: &str) -> String {
    let rack = format!("RAck: {} 1 INVITE\n{extra}", response.header(Name::RSeq).unwrap());
    request("PRACK", branch, cseq, &tag_of(response), &rack)
}

#[test]
fn a_provisional_response_is_repeated_until_its_prack() {
    for extra in [DEMANDED, SUPPORTED] {
        let mut solo = supporting();
        let (_, ringing) = ringing(&mut solo, extra, 180, None);
        assert_eq!(ringing.header(Name::Require), Some("100rel"), "RFC 3262 3");
        let rseq: u32 = ringing.header(Name::RSeq).unwrap().parse().unwrap();
        assert!((1..1 << 31).contains(&rseq));
        let times: Vec<f64> = solo.advance(seconds(4.0)).iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [0.5, 1.5, 3.5], "T1, doubling");
        solo.receive(&prack(&ringing, "p", 2, ""));
        assert_eq!(methods(&solo.sent()), ["200"]);
        assert_eq!(solo.advance(seconds(50.0)), []);
        assert!(solo.events().is_empty(), "an empty PRACK is no news");
    }
}

#[test]
fn a_reliable_response_nobody_pracks_ends_the_call_with_5xx() {
    let mut solo = supporting();
    ringing(&mut solo, DEMANDED, 180, None);
    let sent = solo.advance(seconds(32.1));
    assert_eq!(sent.iter().map(|(_, line)| line.as_str()).next_back(), Some("504"), "RFC 3262 3");
    let ended = solo.ended();
    assert_eq!((ended.by, ended.cause, ended.status), (Side::System, Cause::NoAck, Some(504)));
    solo.advance(LONG);
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn a_prack_that_matches_nothing_is_481() {
    let mut solo = supporting();
    let (_, ringing) = ringing(&mut solo, DEMANDED, 180, None);
    let right = prack(&ringing, "p", 2, "");
    for wrong in [
        right.replace(" 1 INVITE\n", " 2 INVITE\n").replace("branch=z9hG4bKp", "branch=z9hG4bKp1"),
        right.replace(" 1 INVITE\n", " 1 OPTIONS\n").replace("branch=z9hG4bKp", "branch=z9hG4bKp2"),
        right.replace("RAck: ", "RAck: 1").replace("branch=z9hG4bKp", "branch=z9hG4bKp3"),
        right.replace("RAck: ", "X-RAck: ").replace("branch=z9hG4bKp", "branch=z9hG4bKp4"),
    ] {
        solo.receive(&wrong);
        assert_eq!(methods(&solo.sent()), ["481"]);
    }
    solo.receive(&right);
    solo.receive(&right);
    assert_eq!(methods(&solo.sent()), ["200", "200"], "a retransmission");
    solo.receive(&prack(&ringing, "again", 3, ""));
    assert_eq!(methods(&solo.sent()), ["481"], "it is acknowledged already");
}

#[test]
fn the_next_provisional_response_waits_for_the_prack_of_the_last() {
    let mut solo = supporting();
    let (leg, first) = ringing(&mut solo, SUPPORTED, 180, None);
    solo.endpoint.provisional(solo.now, leg, 182, None).unwrap();
    solo.endpoint.provisional(solo.now, leg, 183, sdp("v=0 early")).unwrap();
    assert!(solo.sent().is_empty(), "RFC 3262 3");
    solo.receive(&prack(&first, "p", 2, ""));
    let sent = solo.sent();
    assert_eq!(methods(&sent), ["200", "182"]);
    let rseq = |message: &Message| message.header(Name::RSeq).unwrap().parse::<u32>().unwrap();
    assert_eq!(rseq(&sent[1]), rseq(&first) + 1);
    solo.receive(&prack(&sent[1], "q", 3, ""));
    let sent = solo.sent();
    assert_eq!((methods(&sent), sent[1].body()), (vec!["200".into(), "183".into()], &b"v=0 early"[..]));
}

#[test]
fn a_2xx_waits_for_the_prack_of_a_description_and_repeats_none() {
    let mut solo = supporting();
    let (leg, early) = ringing(&mut solo, SUPPORTED, 183, Some("v=0 answer"));
    solo.endpoint.answer(solo.now, leg, sdp("v=0 answer")).unwrap();
    assert!(solo.sent().is_empty(), "RFC 3262 3");
    assert!(solo.endpoint.answer(solo.now, leg, None).is_err());
    solo.receive(&prack(&early, "p", 2, ""));
    let sent = solo.sent();
    assert_eq!(methods(&sent), ["200", "200"]);
    assert!(sent[1].body().is_empty(), "RFC 3261 13.2.1: the answer has been given");
    assert_eq!(sent[1].cseq().unwrap().method, Method::Invite);
    solo.receive(&request("ACK", "k", 1, &tag_of(&early), ""));
    assert!(matches!(solo.events()[..], [Event::Confirmed { .. }]));
}

#[test]
fn a_2xx_does_not_wait_for_the_prack_of_a_plain_ringing() {
    let mut solo = supporting();
    let (leg, ringing) = ringing(&mut solo, SUPPORTED, 180, None);
    solo.endpoint.answer(solo.now, leg, sdp("v=0 answer")).unwrap();
    let ok = solo.sent_one();
    assert_eq!((first_line(&ok).as_str(), ok.body()), ("200", &b"v=0 answer"[..]));
    solo.receive(&prack(&ringing, "p", 2, ""));
    assert_eq!(methods(&solo.sent()), ["200"], "the late PRACK is welcome");
    solo.receive(&request("ACK", "k", 1, &tag_of(&ok), ""));
    assert_eq!(solo.advance(seconds(60.0)), []);
}

#[test]
fn a_hangup_while_the_2xx_waits_is_a_refusal() {
    let mut solo = supporting();
    let (leg, early) = ringing(&mut solo, SUPPORTED, 183, Some("v=0 answer"));
    solo.endpoint.answer(solo.now, leg, sdp("v=0 answer")).unwrap();
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    assert_eq!(methods(&solo.sent()), ["480"]);
    solo.receive(&prack(&early, "p", 2, ""));
    assert_eq!(methods(&solo.sent()), ["481"]);
    solo.receive(&request("ACK", "a", 1, &tag_of(&early), ""));
    solo.advance(LONG);
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn an_offer_in_a_prack_is_the_applications_to_answer() {
    let mut solo = supporting();
    let (leg, early) = ringing(&mut solo, SUPPORTED, 183, Some("v=0 answer"));
    solo.endpoint.answer(solo.now, leg, None).unwrap();
    solo.receive(&prack(&early, "p", 2, OFFER));
    assert!(solo.sent().is_empty());
    assert!(matches!(&solo.events()[..], [Event::Reoffer { request, .. }] if is(request, Method::Prack)));
    solo.endpoint.answer_reoffer(solo.now, leg, sdp("v=0 second answer")).unwrap();
    let sent = solo.sent();
    assert_eq!(methods(&sent), ["200", "200"], "the PRACK, then the INVITE");
    assert_eq!(sent[0].body(), b"v=0 second answer", "RFC 3262 5");
}

/// RFC 3311 5.2: one offer at a time, and each request has its answer.
#[test]
fn an_offer_in_a_prack_while_an_update_is_open_comes_too_early() {
    let mut solo = supporting();
    let (leg, early) = ringing(&mut solo, SUPPORTED, 183, Some("v=0 answer"));
    solo.receive(&prack(&early, "p", 2, ""));
    solo.sent();
    solo.endpoint.provisional(solo.now, leg, 180, None).unwrap();
    let second = solo.sent_one();
    solo.receive(&request("UPDATE", "u", 3, &tag_of(&early), OFFER));
    solo.receive(&prack(&second, "q", 4, OFFER));
    let busy = solo.sent_one();
    assert_eq!(first_line(&busy), "500");
    assert!(busy.has(Name::RetryAfter));
    solo.endpoint.answer_reoffer(solo.now, leg, sdp("v=0 second answer")).unwrap();
    assert_eq!(solo.sent_one().header(Name::Cseq), Some("3 UPDATE"));
    assert_eq!(solo.events().len(), 1);
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    solo.advance(LONG);
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn without_an_offer_the_first_reliable_response_makes_one_and_the_prack_answers() {
    let mut solo = supporting();
    let leg = solo.incoming(&request("INVITE", "a", 1, "", "Require: 100rel"));
    solo.endpoint.provisional(solo.now, leg, 180, None).unwrap();
    assert_eq!(methods(&solo.sent()), ["100"], "neither reliable without an offer nor unreliable at all");
    solo.endpoint.provisional(solo.now, leg, 183, sdp("v=0 our offer")).unwrap();
    let early = solo.sent_one();
    solo.receive(&prack(&early, "p", 2, "Content-Type: application/sdp\n\nv=0 their answer"));
    assert_eq!(methods(&solo.sent()), ["200"]);
    match &solo.events()[..] {
        [Event::Acknowledged { prack, .. }] => assert_eq!(prack.body(), b"v=0 their answer"),
        other => panic!("{other:?}"),
    }
    solo.endpoint.answer(solo.now, leg, sdp("v=0 our offer")).unwrap();
    assert!(solo.sent_one().body().is_empty());
}

#[test]
fn an_update_changes_an_early_session_both_ways() {
    let mut solo = supporting();
    let (leg, early) = ringing(&mut solo, SUPPORTED, 183, Some("v=0 answer"));
    solo.receive(&request("UPDATE", "u", 2, &tag_of(&early), OFFER));
    assert_eq!(methods(&solo.sent()), ["500"], "RFC 3311 5.2: the INVITE's answer is not acknowledged");
    solo.receive(&prack(&early, "p", 3, ""));
    solo.receive(&request("UPDATE", "v", 4, &tag_of(&early), OFFER));
    assert_eq!(methods(&solo.sent()), ["200"]);
    assert!(matches!(solo.events()[..], [Event::Reoffer { .. }]));
    solo.endpoint.answer_reoffer(solo.now, leg, sdp("v=0 changed")).unwrap();
    assert_eq!(solo.sent_one().body(), b"v=0 changed");
    solo.endpoint.reoffer(solo.now, leg, sdp("v=0 ours"), Method::Update).unwrap();
    let update = solo.sent_one();
    assert_eq!((update.method(), update.body()), (Some(Method::Update), &b"v=0 ours"[..]));
    solo.receive(&response(&update, 200, "", CONTACT));
    assert!(matches!(solo.events()[..], [Event::ReofferAnswered { .. }]));
}

#[test]
fn what_the_profile_demands_the_peer_must_understand() {
    let mut solo = Solo::of(profile(Support::Required));
    solo.receive(&request("INVITE", "a", 1, "", OFFER));
    let refused = solo.sent_one();
    assert_eq!((first_line(&refused).as_str(), refused.header(Name::Require)), ("421", Some("100rel")));
    let mut solo = Solo::of(profile(Support::Off));
    solo.receive(&request("INVITE", "a", 1, "", DEMANDED));
    let refused = solo.sent_one();
    assert_eq!((first_line(&refused).as_str(), refused.header(Name::Unsupported)), ("420", Some("100rel")));
    let leg = solo.incoming(&request("INVITE", "b", 1, "", SUPPORTED).replace("solo@", "other@"));
    solo.endpoint.provisional(solo.now, leg, 180, None).unwrap();
    assert!(!solo.sent()[1].has(Name::RSeq), "off is off");
}

#[test]
fn the_invite_says_what_the_profile_wants() {
    for (support, supported, required) in [
        (Support::Off, Some("replaces, norefersub"), None),
        (Support::Supported, Some("replaces, norefersub, 100rel"), None),
        (Support::Required, Some("replaces, norefersub, 100rel"), Some("100rel")),
    ] {
        let mut solo = Solo::of(profile(support));
        solo.dial(1);
        let invite = solo.sent_one();
        assert_eq!((invite.header(Name::Supported), invite.header(Name::Require)), (supported, required));
        solo.receive(&request("OPTIONS", "o", 1, "", ""));
        assert_eq!(solo.sent_one().header(Name::Supported), Some(supported.unwrap_or_default()));
    }
}

fn reliable(rseq: u32) -> String {
    format!("Require: 100rel\nRSeq: {rseq}\n{CONTACT}")
}

fn rack(message: &Message) -> &str {
    message.header(Name::RAck).unwrap()
}

#[test]
fn each_reliable_response_gets_one_prack_in_order() {
    let mut solo = supporting();
    solo.dial(1);
    let invite = solo.sent_one();
    solo.receive(&response(&invite, 180, "bob", &reliable(9)));
    let prack = solo.sent_one();
    assert_eq!((prack.method(), rack(&prack)), (Some(Method::Prack), "9 1 INVITE"), "RFC 3262 7.2");
    assert_eq!((prack.to_tag(), prack.cseq().unwrap().number), (Some("bob"), 2));
    assert_eq!(prack.request_uri(), Some("sip:bob@192.0.2.9:5060"), "a request within the early dialog");
    solo.receive(&response(&invite, 180, "bob", &reliable(9)));
    solo.receive(&response(&invite, 183, "bob", &reliable(11)));
    assert!(solo.sent().is_empty(), "neither a repetition nor one out of order (RFC 3262 4)");
    assert_eq!(solo.events().len(), 1, "nor are they told");
    solo.receive(&response(&invite, 183, "bob", &reliable(10)));
    assert_eq!(rack(&solo.sent_one()), "10 1 INVITE");
}

#[test]
fn the_prack_goes_to_the_fork_it_is_for() {
    let mut solo = supporting();
    solo.dial(1);
    let invite = solo.sent_one();
    for (tag, port) in [("one", 5071), ("two", 5072)] {
        let contact = format!("<sip:{tag}@192.0.2.9:{port}>");
        let extra = reliable(5).replace("<sip:bob@192.0.2.9:5060>", &contact);
        solo.receive(&response(&invite, 183, tag, &extra));
        let prack = solo.sent_one();
        assert_eq!((prack.to_tag(), prack.cseq().unwrap().number), (Some(tag), 2));
        assert_eq!(prack.request_uri(), Some(&*format!("sip:{tag}@192.0.2.9:{port}")));
        solo.receive(&response(&prack, 200, tag, ""));
    }
    solo.receive(&response(&invite, 183, "one", &reliable(6)));
    let prack = solo.sent_one();
    assert_eq!((prack.to_tag(), rack(&prack), prack.cseq().unwrap().number), (Some("one"), "6 1 INVITE", 3));
}

#[test]
fn a_prack_is_repeated_until_it_is_answered() {
    let mut solo = supporting();
    solo.dial(1);
    let invite = solo.sent_one();
    solo.receive(&response(&invite, 180, "bob", &reliable(1)));
    let prack = solo.sent_one();
    let sent: Vec<_> = solo.advance(seconds(1.6)).into_iter().map(|(_, line)| line).collect();
    assert_eq!(sent, ["PRACK", "PRACK"]);
    solo.receive(&response(&prack, 200, "bob", ""));
    assert_eq!(solo.advance(seconds(20.0)), []);
    assert_eq!(solo.alive().3, 1, "the call rings on");
}

#[test]
fn a_prack_that_fails_ends_the_call() {
    for failure in [Some(481), Some(500), Some(488), None] {
        let mut solo = supporting();
        solo.dial(1);
        let invite = solo.sent_one();
        solo.receive(&response(&invite, 183, "bob", &reliable(1)));
        let prack = solo.sent_one();
        solo.events();
        match failure {
            Some(status) => solo.receive(&response(&prack, status, "bob", "")),
            None => drop(solo.advance(seconds(31.9))),
        }
        let sent = match failure {
            Some(_) => methods(&solo.sent()),
            None => solo.advance(seconds(0.2)).into_iter().map(|(_, line)| line).collect(),
        };
        assert_eq!(sent, ["CANCEL"], "{failure:?}");
        let ended = solo.ended();
        assert_eq!((ended.cause, ended.status), (Cause::Lost, Some(failure.unwrap_or(408))), "{failure:?}");
        solo.receive(&response(&invite, 487, "bob", ""));
        assert_eq!(methods(&solo.sent()), ["ACK"]);
        solo.advance(LONG);
        assert_eq!(solo.alive(), NOTHING);
    }
}

#[test]
fn a_prack_that_fails_ends_its_fork_alone() {
    let mut solo = supporting();
    solo.dial(1);
    let invite = solo.sent_one();
    let pracks = ["one", "two"].map(|tag| {
        solo.receive(&response(&invite, 183, tag, &reliable(5)));
        solo.sent_one()
    });
    solo.events();
    solo.receive(&response(&pracks[0], 500, "one", ""));
    assert!(solo.sent().is_empty() && solo.events().is_empty(), "the other fork rings on");
    assert_eq!(solo.alive().2, 1);
    solo.receive(&response(&invite, 200, "two", CONTACT));
    assert_eq!(methods(&solo.sent()), ["ACK"]);
    solo.receive(&response(&pracks[1], 481, "two", ""));
    assert!(matches!(solo.events()[..], [Event::Answered { .. }]), "after the 2xx a PRACK matters no more");
}

#[test]
fn an_offer_in_a_reliable_response_is_answered_in_the_prack() {
    let mut solo = supporting();
    let (leg, profile) = (LegId(1), solo.profile.clone());
    let offerless = telephony_sip::Dial { body: None, profile, ..dial(solo.flow) };
    solo.endpoint.dial(solo.now, leg, offerless).unwrap();
    let invite = solo.sent_one();
    solo.receive(&described(&invite, 183, "bob", &reliable(3), "v=0 their offer"));
    assert!(solo.sent().is_empty() && matches!(solo.events()[..], [Event::Progress { .. }]));
    solo.endpoint.acknowledge(solo.now, leg, sdp("v=0 our answer")).unwrap();
    let prack = solo.sent_one();
    assert_eq!((prack.method(), prack.body()), (Some(Method::Prack), &b"v=0 our answer"[..]), "RFC 3262 5");
    solo.receive(&response(&prack, 200, "bob", ""));
    solo.receive(&described(&invite, 200, "bob", CONTACT, "v=0 their offer"));
    assert_eq!(methods(&solo.sent()), ["ACK"], "the 2xx only repeats what is settled (RFC 3261 13.2.1)");
    assert!(solo.endpoint.acknowledge(solo.now, leg, None).is_err());
}

#[test]
fn a_reliable_response_we_did_not_ask_for_is_a_plain_one() {
    let mut solo = Solo::new();
    solo.dial(1);
    let invite = solo.sent_one();
    solo.receive(&response(&invite, 180, "bob", &reliable(1)));
    assert!(solo.sent().is_empty());
    assert_eq!(solo.events().len(), 1);
}

#[test]
fn a_minute_of_ringing_is_refreshed_under_a_new_rseq() {
    let mut solo = supporting();
    let (_, first) = ringing(&mut solo, SUPPORTED, 180, None);
    solo.receive(&prack(&first, "p", 2, ""));
    solo.sent();
    solo.now += seconds(60.1);
    solo.endpoint.handle_timeout(solo.now);
    let again = solo.sent_one();
    assert_eq!(first_line(&again), "180", "RFC 3261 13.3.1.1");
    assert_ne!(again.header(Name::RSeq), first.header(Name::RSeq));
    solo.receive(&prack(&again, "q", 3, ""));
    assert_eq!(methods(&solo.sent()), ["200"]);
}

/// RFC 3261 13.3.1.1: the last one is repeated; a telephone that hears early media is not told to ring.
#[test]
fn a_minute_of_early_media_is_refreshed_as_that() {
    let mut solo = supporting();
    let (_, first) = ringing(&mut solo, SUPPORTED, 183, Some("v=0 answer"));
    solo.receive(&prack(&first, "p", 2, ""));
    solo.sent();
    solo.now += seconds(60.1);
    solo.endpoint.handle_timeout(solo.now);
    let again = solo.sent_one();
    assert_eq!((first_line(&again).as_str(), again.body()), ("183", &b""[..]));
}

#[test]
fn an_option_tag_has_no_case() {
    let mut solo = supporting();
    solo.dial(1);
    let invite = solo.sent_one();
    let extra = format!("Require: 100REL\nRSeq: 7\n{CONTACT}");
    solo.receive(&response(&invite, 180, "bob", &extra));
    assert_eq!(methods(&solo.sent()), ["PRACK"]);
}

#[test]
fn early_media_gets_through_a_lossy_line_in_order() {
    for seed in 0..30 {
        let mut wire = Wire::new(seed);
        wire.profile = profile(Support::Supported).into();
        (wire.loss, wire.doubled, wire.jitter) = (200, 50, Duration::from_millis(300));
        let caller = wire.dial(0, 1);
        let mut callee = None;
        for _ in 0..400 {
            wire.run(MOMENT);
            let news = wire.peers[1].news();
            if let Some(Event::Incoming { leg, .. }) = news.first() {
                for (status, body) in [(180, None), (183, sdp("v=0 answer")), (182, None)] {
                    wire.peers[1].endpoint.provisional(wire.now, *leg, status, body).unwrap();
                }
                wire.peers[1].endpoint.answer(wire.now, *leg, sdp("v=0 answer")).unwrap();
                callee = Some(*leg);
            }
        }
        let told: Vec<u16> = wire.peers[0].events.iter().filter_map(status_told).collect();
        assert_eq!(told, [180, 183, 182, 200], "seed {seed}");
        wire.peers[0].endpoint.hangup(wire.now, caller, None).unwrap();
        wire.peers[1].endpoint.hangup(wire.now, callee.unwrap(), None).unwrap();
        wire.run(LONG);
        wire.assert_empty();
        wire.peers.iter().for_each(|peer| assert_each_ended_once(&peer.events));
    }
}

fn status_told(event: &Event) -> Option<u16> {
    match event {
        Event::Progress { response, .. } | Event::Answered { response, .. } => Some(response.status()?.0),
        _ => None,
    }
}

#[test]
fn a_cancel_under_an_open_response_ends_everything() {
    let mut solo = supporting();
    ringing(&mut solo, SUPPORTED, 183, Some("v=0"));
    solo.receive(&request("CANCEL", "a", 1, "", ""));
    assert_eq!(methods(&solo.sent()), ["200", "487"]);
    solo.advance(LONG);
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn the_peers_update_in_our_early_call_is_asked_about() {
    let mut solo = supporting();
    let leg = solo.dial(1);
    let invite = solo.sent_one();
    solo.receive(&described(&invite, 183, "bob", &reliable(1), "v=0 answer"));
    let prack = solo.sent_one();
    solo.receive(&response(&prack, 200, "bob", ""));
    solo.events();
    solo.receive(&theirs("UPDATE", "u", 1, &prack, OFFER));
    assert!(matches!(solo.events()[..], [Event::Reoffer { .. }]));
    solo.endpoint.answer_reoffer(solo.now, leg, sdp("v=0 ours")).unwrap();
    assert_eq!(solo.sent_one().body(), b"v=0 ours");
}
