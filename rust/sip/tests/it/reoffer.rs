//! Re-INVITE and UPDATE of ours: answered, refused, colliding, hanging, and offers that only the ACK answers.

use std::time::Duration;

use telephony_sip::{Body, Cause, Error, Event, LegId, Message, Method, Name, Side};

use crate::wire::{
    CONTACT, LONG, NOTHING, Solo, Wire, assert_each_ended_once, called, calling, described, dial, is,
    methods, request, response, sdp, theirs,
};

const OFFER: &str = "Content-Type: application/sdp\n\nv=0 theirs";
const MOMENT: Duration = Duration::from_millis(100);

/// Offers something new on a leg; gives the request.
fn offer(solo: &mut Solo, leg: LegId, method: Method) -> Message {
    solo.endpoint.reoffer(solo.now, leg, sdp("v=0 hold"), method).unwrap();
    solo.sent_one()
}

fn refused(events: &[Event]) -> Option<u16> {
    events.iter().find_map(|event| match event {
        Event::ReofferRefused { status, .. } => Some(*status),
        _ => None,
    })
}

fn seconds(value: f64) -> Duration {
    Duration::from_secs_f64(value)
}

#[test]
fn a_reinvite_of_ours_is_acknowledged_and_moves_the_target() {
    let mut solo = Solo::new();
    let (leg, invite, _) = calling(&mut solo, CONTACT);
    let reinvite = offer(&mut solo, leg, Method::Invite);
    assert_eq!((reinvite.to_tag(), reinvite.call_id()), (Some("bob"), invite.call_id()));
    assert_eq!((reinvite.cseq().unwrap().number, reinvite.body()), (2, &b"v=0 hold"[..]));
    assert!(reinvite.has(Name::Contact) && reinvite.has(Name::Allow));
    let ok = described(&reinvite, 200, "bob", "Contact: <sip:bob@192.0.2.9:5099>", "v=0 held");
    solo.receive(&ok);
    let ack = solo.sent_one();
    assert_eq!((ack.method(), ack.cseq().unwrap().number), (Some(Method::Ack), 2));
    assert_eq!(ack.request_uri(), Some("sip:bob@192.0.2.9:5099"), "12.2.1.2: the ACK goes to the new target");
    match &solo.events()[..] {
        [Event::ReofferAnswered { leg: of, response }] => {
            assert_eq!((*of, response.body()), (leg, &b"v=0 held"[..]));
        }
        other => panic!("{other:?}"),
    }
    solo.receive(&ok);
    assert_eq!(solo.sent_one().bytes(), ack.bytes(), "13.2.2.4: the same ACK to the same 2xx");
    assert!(solo.events().is_empty());
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    assert_eq!(solo.sent_one().request_uri(), Some("sip:bob@192.0.2.9:5099"), "12.2.1.2");
}

#[test]
fn an_update_of_ours_needs_no_ack() {
    let mut solo = Solo::new();
    let (leg, _) = called(&mut solo);
    let update = offer(&mut solo, leg, Method::Update);
    assert!(is(&update, Method::Update));
    solo.receive(&response(&update, 200, "peer", CONTACT));
    assert!(solo.sent().is_empty());
    assert!(matches!(solo.events()[..], [Event::ReofferAnswered { .. }]));
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    assert_eq!(solo.sent_one().request_uri(), Some("sip:bob@192.0.2.9:5060"), "RFC 3311 5.1");
}

#[test]
fn a_refused_reinvite_leaves_the_call_as_it_was() {
    for status in [488, 500, 503, 603] {
        let mut solo = Solo::new();
        let (leg, _, _) = calling(&mut solo, CONTACT);
        let reinvite = offer(&mut solo, leg, Method::Invite);
        solo.receive(&response(&reinvite, status, "bob", "Contact: <sip:elsewhere@192.0.2.8>"));
        assert!(is(&solo.sent_one(), Method::Ack));
        assert_eq!(refused(&solo.events()), Some(status));
        solo.endpoint.hangup(solo.now, leg, None).unwrap();
        assert_eq!(solo.sent_one().request_uri(), Some("sip:bob@192.0.2.9:5060"), "14.1");
    }
}

#[test]
fn a_request_to_a_dialog_the_peer_has_forgotten_ends_the_call() {
    for (method, status) in
        [(Method::Invite, 408), (Method::Invite, 481), (Method::Update, 408), (Method::Update, 481)]
    {
        let mut solo = Solo::new();
        let (leg, _) = called(&mut solo);
        let request = offer(&mut solo, leg, method);
        solo.receive(&response(&request, status, "peer", ""));
        assert!(methods(&solo.sent()).contains(&"BYE".to_owned()), "12.2.1.2");
        let ended = solo.ended();
        assert_eq!((ended.by, ended.cause, ended.status), (Side::Remote, Cause::Lost, Some(status)));
        solo.advance(LONG);
        assert_eq!(solo.alive(), NOTHING);
    }
}

#[test]
fn a_peer_that_says_nothing_at_all_is_gone() {
    for method in [Method::Invite, Method::Update] {
        let mut solo = Solo::new();
        let (leg, _) = called(&mut solo);
        offer(&mut solo, leg, method);
        solo.advance(seconds(31.9));
        assert!(solo.events().is_empty());
        solo.advance(seconds(0.2));
        let ended = solo.ended();
        assert_eq!((ended.by, ended.cause, ended.status), (Side::System, Cause::Lost, Some(408)));
        solo.advance(LONG);
        assert_eq!(solo.alive(), NOTHING);
    }
}

/// When a request refused with 491 comes again, in seconds after the refusal.
fn back_off(solo: &mut Solo, refused: &Message, tag: &str) -> f64 {
    let before = solo.advance(Duration::ZERO).len();
    assert_eq!(before, 0);
    let mut waited = 0.0;
    solo.receive(&response(refused, 491, tag, ""));
    solo.sent();
    while waited < 5.0 {
        let sent = solo.advance(Duration::from_millis(10));
        waited += 0.01;
        if !sent.is_empty() {
            return waited;
        }
    }
    panic!("it never came again")
}

#[test]
fn glare_makes_the_caller_wait_longer_than_the_called() {
    for _ in 0..10 {
        let mut solo = Solo::new();
        let (leg, _, _) = calling(&mut solo, CONTACT);
        let reinvite = offer(&mut solo, leg, Method::Invite);
        let waited = back_off(&mut solo, &reinvite, "bob");
        assert!((2.09..=4.02).contains(&waited), "14.1: {waited}");
        let mut solo = Solo::new();
        let (leg, _) = called(&mut solo);
        let update = offer(&mut solo, leg, Method::Update);
        let waited = back_off(&mut solo, &update, "peer");
        assert!(waited <= 2.02, "14.1: {waited}");
        assert!(solo.events().is_empty(), "the owner is not bothered");
    }
}

#[test]
fn glare_without_end_is_given_up() {
    let mut solo = Solo::new();
    let (leg, _) = called(&mut solo);
    solo.endpoint.reoffer(solo.now, leg, sdp("v=0"), Method::Invite).unwrap();
    let mut tries = 0;
    loop {
        for request in solo.sent() {
            if is(&request, Method::Invite) {
                tries += 1;
                solo.receive(&response(&request, 491, "peer", ""));
            }
        }
        solo.now += seconds(0.5);
        solo.endpoint.handle_timeout(solo.now);
        if let Some(status) = refused(&solo.events()) {
            assert_eq!((status, tries), (491, 6));
            return;
        }
        assert!(tries < 10);
    }
}

#[test]
fn the_peers_offer_meets_491_while_ours_is_open() {
    for method in ["INVITE", "UPDATE"] {
        for ours in [Method::Invite, Method::Update] {
            let mut solo = Solo::new();
            let (leg, _, _) = calling(&mut solo, CONTACT);
            let open = offer(&mut solo, leg, ours);
            solo.receive(&theirs(method, "x", 1, &open, OFFER));
            assert_eq!(methods(&solo.sent()), ["491"], "14.2, RFC 3311 5.2");
            assert!(solo.events().is_empty());
        }
    }
}

#[test]
fn our_offer_waits_while_the_peers_is_open() {
    let mut solo = Solo::new();
    let (leg, tag) = called(&mut solo);
    solo.receive(&request("INVITE", "r", 2, &tag, OFFER));
    solo.sent();
    solo.events();
    solo.endpoint.reoffer(solo.now, leg, sdp("v=0 hold"), Method::Invite).unwrap();
    assert!(solo.sent().is_empty(), "14.1");
    solo.endpoint.answer_reoffer(solo.now, leg, sdp("v=0")).unwrap();
    solo.receive(&request("ACK", "ra", 2, &tag, ""));
    solo.sent();
    assert_eq!(
        solo.advance(seconds(2.1)).into_iter().map(|(_, line)| line).next().as_deref(),
        Some("INVITE")
    );
}

#[test]
fn a_second_offer_before_the_first_is_answered_is_refused_here() {
    let mut solo = Solo::new();
    let (leg, _, _) = calling(&mut solo, CONTACT);
    let open = offer(&mut solo, leg, Method::Invite);
    assert_eq!(
        solo.endpoint.reoffer(solo.now, leg, None, Method::Update),
        Err(Error::OfferPending(leg)),
        "RFC 3264 4"
    );
    solo.receive(&response(&open, 491, "bob", ""));
    solo.sent();
    solo.endpoint.reoffer(solo.now, leg, sdp("v=0 newer"), Method::Invite).unwrap();
    assert_eq!(solo.sent_one().body(), b"v=0 newer", "what waits is replaced");
    assert!(matches!(
        solo.endpoint.reoffer(solo.now, leg, None, Method::Info),
        Err(Error::WrongState { .. })
    ));
}

#[test]
fn a_reinvite_that_hangs_is_cancelled() {
    let mut solo = Solo::new();
    let (leg, _, _) = calling(&mut solo, CONTACT);
    let reinvite = offer(&mut solo, leg, Method::Invite);
    solo.receive(&response(&reinvite, 100, "", ""));
    let sent = solo.advance(seconds(32.1));
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert_eq!(sent[0].1, "CANCEL");
    solo.receive(&response(&reinvite, 487, "bob", ""));
    assert!(is(&solo.sent_one(), Method::Ack));
    assert_eq!(refused(&solo.events()), Some(487));
    assert_eq!(solo.alive().3, 1, "the call goes on");
}

#[test]
fn a_cancel_that_is_ignored_too_is_not_waited_for() {
    let mut solo = Solo::new();
    let (leg, _, _) = calling(&mut solo, CONTACT);
    let reinvite = offer(&mut solo, leg, Method::Invite);
    solo.receive(&response(&reinvite, 180, "bob", ""));
    solo.advance(seconds(64.1));
    assert_eq!(refused(&solo.events()), Some(408));
    let again = offer(&mut solo, leg, Method::Invite);
    solo.receive(&response(&again, 180, "bob", ""));
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    solo.advance(LONG);
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn an_offer_taken_back_is_cancelled_once_it_has_been_heard_of() {
    let mut solo = Solo::new();
    let (leg, _, _) = calling(&mut solo, CONTACT);
    let reinvite = offer(&mut solo, leg, Method::Invite);
    solo.endpoint.withdraw_reoffer(solo.now, leg);
    assert!(solo.sent().is_empty(), "9.1");
    solo.receive(&response(&reinvite, 100, "", ""));
    assert!(is(&solo.sent_one(), Method::Cancel));
    // The peer had answered already: the session has changed after all.
    solo.receive(&response(&reinvite, 200, "bob", CONTACT));
    assert!(is(&solo.sent_one(), Method::Ack));
    assert!(matches!(solo.events()[..], [Event::ReofferAnswered { .. }]));
}

#[test]
fn a_bye_under_an_open_reinvite_leaves_nothing_behind() {
    let mut solo = Solo::new();
    let (leg, _, _) = calling(&mut solo, CONTACT);
    let reinvite = offer(&mut solo, leg, Method::Invite);
    solo.receive(&response(&reinvite, 100, "", ""));
    solo.receive(&theirs("BYE", "b", 1, &reinvite, ""));
    assert_eq!(methods(&solo.sent()), ["200"]);
    assert_eq!(solo.ended().cause, Cause::Bye);
    solo.receive(&response(&reinvite, 487, "bob", ""));
    assert_eq!(methods(&solo.sent()), ["ACK"], "17.1.1.3");
    solo.advance(LONG);
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn a_reinvite_without_an_offer_is_acknowledged_with_the_answer() {
    let mut solo = Solo::new();
    let (leg, _) = called(&mut solo);
    solo.endpoint.reoffer(solo.now, leg, None, Method::Invite).unwrap();
    let reinvite = solo.sent_one();
    assert!(reinvite.body().is_empty());
    let ok = described(&reinvite, 200, "peer", CONTACT, "v=0 their offer");
    solo.receive(&ok);
    solo.receive(&ok);
    assert!(solo.sent().is_empty(), "the answer is the owner's");
    assert!(matches!(solo.events()[..], [Event::ReofferAnswered { .. }]));
    solo.endpoint.acknowledge(solo.now, leg, sdp("v=0 our answer")).unwrap();
    let ack = solo.sent_one();
    assert_eq!((ack.method(), ack.body()), (Some(Method::Ack), &b"v=0 our answer"[..]));
    solo.receive(&ok);
    assert_eq!(solo.sent_one().bytes(), ack.bytes());
    assert!(solo.endpoint.acknowledge(solo.now, leg, None).is_err());
}

#[test]
fn a_call_without_an_offer_is_acknowledged_with_the_answer() {
    let mut solo = Solo::new();
    let leg = LegId(1);
    let dial = telephony_sip::Dial { body: None, ..dial(solo.flow) };
    solo.endpoint.dial(solo.now, leg, dial).unwrap();
    let invite = solo.sent_one();
    let ok = described(&invite, 200, "bob", CONTACT, "v=0 their offer");
    solo.receive(&ok);
    assert!(solo.sent().is_empty() && matches!(solo.events()[..], [Event::Answered { .. }]));
    solo.receive(&described(&invite, 200, "late", CONTACT, "v=0 another offer"));
    assert_eq!(methods(&solo.sent()), ["ACK", "BYE"], "the other fork is too late (13.2.2.4)");
    solo.endpoint.acknowledge(solo.now, leg, sdp("v=0 our answer")).unwrap();
    assert_eq!(solo.sent_one().body(), b"v=0 our answer", "13.2.1");
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    solo.advance(LONG);
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn an_offer_nobody_answers_ends_in_ack_and_bye() {
    let mut solo = Solo::new();
    let (leg, _) = called(&mut solo);
    solo.endpoint.reoffer(solo.now, leg, None, Method::Invite).unwrap();
    let reinvite = solo.sent_one();
    solo.receive(&described(&reinvite, 200, "peer", CONTACT, "v=0"));
    let sent: Vec<_> = solo.advance(seconds(16.1)).into_iter().map(|(_, line)| line).collect();
    assert_eq!(sent, ["ACK", "BYE"]);
    assert_eq!(solo.ended().cause, Cause::NoAnswer);
    solo.advance(LONG);
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn an_early_dialog_is_updated_without_an_offer_only() {
    let mut solo = Solo::new();
    let leg = solo.dial(1);
    let invite = solo.sent_one();
    solo.receive(&response(&invite, 180, "bob", CONTACT));
    solo.events();
    let offered = solo.endpoint.reoffer(solo.now, leg, sdp("v=0"), Method::Update);
    assert!(matches!(offered, Err(Error::WrongState { .. })), "RFC 3311 5.1");
    solo.endpoint.reoffer(solo.now, leg, None, Method::Update).unwrap();
    let update = solo.sent_one();
    assert_eq!((update.to_tag(), update.cseq().unwrap().number), (Some("bob"), 2));
    solo.receive(&response(&update, 481, "bob", ""));
    assert_eq!(methods(&solo.sent()), ["CANCEL"]);
    assert_eq!(solo.ended().cause, Cause::Lost);
    solo.advance(LONG);
    assert_eq!(solo.alive(), NOTHING);
}

/// Both ends of a call on a wire.
fn talking(seed: u8) -> (Wire, [LegId; 2]) {
    let mut wire = Wire::new(seed);
    let caller = wire.dial(0, 1);
    wire.run(MOMENT);
    let Some(Event::Incoming { leg: callee, .. }) = wire.peers[1].events.first().cloned() else { panic!() };
    wire.peers[1].endpoint.answer(wire.now, callee, sdp("v=0 answer")).unwrap();
    wire.run(MOMENT);
    wire.peers[0].news();
    wire.peers[1].news();
    (wire, [caller, callee])
}

/// Answers offers of the other side for a while; how many of ours were answered on each side.
fn converse(wire: &mut Wire, body: &Option<Body>) -> [usize; 2] {
    let mut answered = [0; 2];
    for _ in 0..300 {
        wire.run(MOMENT);
        for (side, count) in answered.iter_mut().enumerate() {
            for event in wire.peers[side].news() {
                match event {
                    Event::Reoffer { leg, .. } => {
                        wire.peers[side].endpoint.answer_reoffer(wire.now, leg, body.clone()).unwrap();
                    }
                    Event::ReofferAnswered { .. } => *count += 1,
                    _ => {}
                }
            }
        }
    }
    answered
}

#[test]
fn offers_that_cross_are_both_answered_in_the_end() {
    for seed in 0..20 {
        let (mut wire, legs) = talking(seed);
        let body = sdp("v=0");
        for (side, leg) in legs.into_iter().enumerate() {
            wire.peers[side].endpoint.reoffer(wire.now, leg, body.clone(), Method::Invite).unwrap();
        }
        assert_eq!(converse(&mut wire, &body), [1, 1], "seed {seed}");
        assert_eq!((wire.count(0, "SIP/2.0 491"), wire.count(1, "SIP/2.0 491")), (1, 1), "14.2");
        wire.peers[0].endpoint.hangup(wire.now, legs[0], None).unwrap();
        wire.run(LONG);
        wire.assert_empty();
        wire.peers.iter().for_each(|peer| assert_each_ended_once(&peer.events));
    }
}

#[test]
fn offers_get_through_a_lossy_line() {
    for seed in 0..20 {
        let (mut wire, legs) = talking(seed);
        (wire.loss, wire.jitter) = (200, Duration::from_millis(40));
        let body = sdp("v=0");
        wire.peers[0].endpoint.reoffer(wire.now, legs[0], body.clone(), Method::Invite).unwrap();
        assert_eq!(converse(&mut wire, &body)[0], 1, "seed {seed}");
        wire.peers[1].endpoint.reoffer(wire.now, legs[1], body.clone(), Method::Update).unwrap();
        assert_eq!(converse(&mut wire, &body)[1], 1, "seed {seed}");
    }
}
