//! Transfers: being asked by REFER, asking by REFER, and INVITEs with Replaces (RFC 3515, 3891, 4488, 6665).

use std::time::Duration;

use telephony_sip::{Event, LegId, Message, Name, ReferTo, Referred, Replaces};

use crate::wire::{
    CONTACT, NOTHING, Solo, Wire, called, calling, ended, first_line, invite, is, methods, request, response,
    sdp, tag_of, theirs,
};

const SECOND: Duration = Duration::from_secs(1);
const TO_CAROL: &str = "Refer-To: <sip:carol@192.0.2.7>";

fn refer(cseq: u32, tag: &str, extra: &str) -> String {
    request("REFER", &format!("r{cseq}"), cseq, tag, extra)
}

/// The REFER that the endpoint has told of.
fn asked(solo: &mut Solo) -> (LegId, u32, Box<Referred>) {
    match solo.events().pop() {
        Some(Event::Refer { leg, id, referred }) => (leg, id, referred),
        other => panic!("{other:?} is no REFER"),
    }
}

/// A call to us whose caller has sent a REFER that was taken up; the first notice is out.
fn transferring(solo: &mut Solo) -> (LegId, String, Message) {
    let (leg, tag) = called(solo);
    solo.receive(&refer(2, &tag, TO_CAROL));
    let (_, id, _) = asked(solo);
    solo.endpoint.accept_refer(solo.now, leg, id).unwrap();
    let sent = solo.sent();
    assert_eq!(methods(&sent), ["202", "NOTIFY"]);
    (leg, tag, sent[1].clone())
}

fn state(notify: &Message) -> &str {
    notify.header(Name::SubscriptionState).unwrap()
}

fn told(notify: &Message) -> &str {
    assert!(is(notify, telephony_sip::Method::Notify), "{}", first_line(notify));
    assert_eq!(notify.content_type(), Some("message/sipfrag;version=2.0"));
    std::str::from_utf8(notify.body()).unwrap().trim_end()
}

#[test]
fn a_refer_is_told_taken_apart() {
    let mut solo = Solo::new();
    let (leg, tag) = called(&mut solo);
    let extra = "Refer-To: \"Carol\" <sip:carol@192.0.2.7;transport=tcp;method=INVITE?\
        Replaces=abc%40host%3Bto-tag%3D1%3Bfrom-tag%3D2&X-Note=a%20b>\nReferred-By: <sip:bob@example.org>";
    solo.receive(&refer(2, &tag, extra));
    let (of, id, referred) = asked(&mut solo);
    assert_eq!((of, id), (leg, 2));
    assert_eq!(referred.refer_to.uri, "sip:carol@192.0.2.7;transport=tcp", "RFC 3261 19.1.1");
    assert_eq!(referred.refer_to.header("replaces"), Some("abc@host;to-tag=1;from-tag=2"));
    assert_eq!(referred.refer_to.header("X-Note"), Some("a b"));
    assert_eq!((referred.referred_by.as_str(), referred.replaces), ("<sip:bob@example.org>", None));
    assert!(solo.sent().is_empty(), "the application decides");
}

#[test]
fn the_notices_of_a_transfer_come_one_after_the_other() {
    let mut solo = Solo::new();
    let (leg, _, first) = transferring(&mut solo);
    assert_eq!((told(&first), state(&first)), ("SIP/2.0 100 Trying", "active;expires=300"));
    assert_eq!(first.header(Name::Event), Some("refer"), "RFC 3515 2.4.6: the first needs no id");
    solo.endpoint.notify_refer(solo.now, leg, 2, 180, "").unwrap();
    solo.endpoint.notify_refer(solo.now, leg, 2, 200, "All right").unwrap();
    assert!(solo.sent().is_empty(), "the one before is not answered");
    solo.receive(&response(&first, 200, "", ""));
    let second = solo.sent_one();
    assert_eq!((told(&second), state(&second)), ("SIP/2.0 180 Ringing", "active;expires=300"));
    solo.receive(&response(&second, 200, "", ""));
    let last = solo.sent_one();
    assert_eq!((told(&last), state(&last)), ("SIP/2.0 200 All right", "terminated;reason=noresource"));
    assert!(last.cseq_number() > second.cseq_number());
    solo.endpoint.notify_refer(solo.now, leg, 2, 486, "").unwrap();
    solo.receive(&response(&last, 200, "", ""));
    assert!(solo.sent().is_empty(), "nothing follows the last");
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    assert_eq!(methods(&solo.sent()), ["BYE"]);
}

#[test]
fn a_notice_that_is_never_answered_or_unwelcome_is_the_last() {
    let mut solo = Solo::new();
    let (leg, tag, first) = transferring(&mut solo);
    solo.receive(&response(&first, 481, "", ""));
    solo.endpoint.notify_refer(solo.now, leg, 2, 200, "").unwrap();
    assert!(solo.sent().is_empty(), "RFC 6665 4.2.2");
    solo.receive(&refer(3, &tag, TO_CAROL));
    solo.endpoint.accept_refer(solo.now, leg, 3).unwrap();
    let again = solo.sent().pop().unwrap();
    assert_eq!(again.header(Name::Event), Some("refer;id=3"), "RFC 3515 2.4.6");
    solo.advance(40 * SECOND);
    solo.endpoint.notify_refer(solo.now, leg, 3, 200, "").unwrap();
    assert!(solo.sent().is_empty(), "timer F");
    solo.events();
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    let bye = solo.sent_one();
    solo.receive(&response(&bye, 200, "", ""));
    solo.advance(40 * SECOND);
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn who_hangs_up_says_how_the_transfer_went_before_its_bye() {
    let mut solo = Solo::new();
    let (leg, _, first) = transferring(&mut solo);
    solo.endpoint.notify_refer(solo.now, leg, 2, 200, "").unwrap();
    solo.endpoint.hangup(solo.now, leg, Some("SIP;cause=200")).unwrap();
    assert!(matches!(solo.events()[..], [Event::Ended { .. }]), "told at once");
    assert!(solo.sent().is_empty());
    solo.receive(&response(&first, 200, "", ""));
    let last = solo.sent_one();
    assert_eq!(told(&last), "SIP/2.0 200 OK");
    solo.receive(&response(&last, 200, "", ""));
    let bye = solo.sent_one();
    assert_eq!((first_line(&bye).as_str(), bye.header(Name::Reason)), ("BYE", Some("SIP;cause=200")));
    solo.receive(&response(&bye, 200, "", ""));
    solo.advance(40 * SECOND);
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn hanging_up_in_the_middle_ends_the_subscription_first() {
    let mut solo = Solo::new();
    let (leg, _, first) = transferring(&mut solo);
    solo.receive(&response(&first, 200, "", ""));
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    let last = solo.sent_one();
    assert_eq!(
        (told(&last), state(&last)),
        ("SIP/2.0 487 Request Terminated", "terminated;reason=noresource")
    );
    solo.advance(70 * SECOND);
    assert_eq!(solo.alive(), NOTHING, "a peer that answers nothing holds nothing up");
}

#[test]
fn who_asked_and_left_is_still_told() {
    let mut solo = Solo::new();
    let (leg, tag, first) = transferring(&mut solo);
    solo.receive(&request("BYE", "bye", 3, &tag, ""));
    assert_eq!(methods(&solo.sent()), ["200"]);
    assert_eq!(ended(&solo.events(), leg).len(), 1);
    solo.receive(&response(&first, 200, "", ""));
    solo.endpoint.notify_refer(solo.now, leg, 2, 486, "Busy Here").unwrap();
    let last = solo.sent_one();
    assert_eq!(told(&last), "SIP/2.0 486 Busy Here", "RFC 5057 5.2: the usages end apart");
    solo.receive(&response(&last, 200, "", ""));
    assert!(solo.sent().is_empty(), "no BYE: there was one");
    solo.advance(40 * SECOND);
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn a_subscription_does_not_last_for_ever() {
    let mut solo = Solo::new();
    let (_, _, first) = transferring(&mut solo);
    solo.receive(&response(&first, 200, "", ""));
    solo.now += 301 * SECOND;
    solo.endpoint.handle_timeout(solo.now);
    let last = solo.sent_one();
    assert_eq!(state(&last), "terminated;reason=timeout");
}

fn subscribe(cseq: u32, tag: &str, event: &str, expires: &str) -> String {
    request("SUBSCRIBE", &format!("s{cseq}"), cseq, tag, &format!("Event: {event}\n{expires}"))
}

/// RFC 6665 4.2.1.4 and 4.2.1.2: the time is granted, and the state told anew.
#[test]
fn a_subscription_can_be_kept_for_longer() {
    let mut solo = Solo::new();
    let (leg, tag, first) = transferring(&mut solo);
    solo.receive(&response(&first, 200, "", ""));
    solo.endpoint.notify_refer(solo.now, leg, 2, 180, "Wait").unwrap();
    let ringing = solo.sent_one();
    solo.receive(&response(&ringing, 200, "", ""));
    for (cseq, at, wanted, granted) in
        [(3, 200, "Expires: 600", "300"), (4, 100, "Expires: 60", "60"), (5, 20, "", "40")]
    {
        solo.now += at * SECOND;
        solo.receive(&subscribe(cseq, &tag, "refer", wanted));
        let sent = solo.sent();
        assert_eq!(methods(&sent), ["200", "NOTIFY"], "{wanted}");
        assert_eq!(sent[0].header(Name::Expires), Some(granted));
        assert!(sent[0].has(Name::Contact), "RFC 6665 3.1: it refreshes the target");
        let active = format!("active;expires={granted}");
        assert_eq!((told(&sent[1]), state(&sent[1])), ("SIP/2.0 180 Wait", active.as_str()));
        solo.receive(&response(&sent[1], 200, "", ""));
    }
    solo.now += 41 * SECOND;
    solo.endpoint.handle_timeout(solo.now);
    assert_eq!(state(&solo.sent_one()), "terminated;reason=timeout");
}

/// RFC 3515 2.4.4: who unsubscribes does not take back what it asked for.
#[test]
fn a_subscription_can_be_given_up() {
    let mut solo = Solo::new();
    let (leg, tag, first) = transferring(&mut solo);
    solo.receive(&response(&first, 200, "", ""));
    solo.receive(&subscribe(3, &tag, "refer", "Expires: 0"));
    let sent = solo.sent();
    assert_eq!(
        (methods(&sent), sent[0].header(Name::Expires)),
        (vec!["200".to_owned(), "NOTIFY".to_owned()], Some("0"))
    );
    assert_eq!((told(&sent[1]), state(&sent[1])), ("SIP/2.0 100 Trying", "terminated;reason=timeout"));
    solo.receive(&subscribe(4, &tag, "refer", "Expires: 60"));
    assert_eq!(methods(&solo.sent()), ["403"], "it is over, and only a REFER makes one");
    solo.receive(&response(&sent[1], 200, "", ""));
    assert!(solo.events().is_empty(), "the transfer goes on");
    solo.endpoint.notify_refer(solo.now, leg, 2, 200, "").unwrap();
    assert!(solo.sent().is_empty(), "unheard");
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    assert_eq!(methods(&solo.sent()), ["BYE"]);
}

/// RFC 3515 2.4.6: the second REFER of a dialog is named.
#[test]
fn a_subscribe_is_about_the_refer_it_names() {
    let mut solo = Solo::new();
    let (leg, tag, first) = transferring(&mut solo);
    solo.receive(&refer(3, &tag, TO_CAROL));
    solo.endpoint.accept_refer(solo.now, leg, 3).unwrap();
    let second = solo.sent().pop().unwrap();
    for notice in [&first, &second] {
        solo.receive(&response(notice, 200, "", ""));
    }
    for (cseq, event, status, about) in [
        (4, "refer;id=3", "200", Some("refer;id=3")),
        (5, "refer;id=2", "200", Some("refer")),
        (6, "refer", "200", Some("refer")),
        (7, "refer;id=9", "403", None),
        (8, "refer;id=x", "403", None),
        (9, "presence", "489", None),
    ] {
        solo.receive(&subscribe(cseq, &tag, event, "Expires: 100"));
        let sent = solo.sent();
        assert_eq!(first_line(&sent[0]), status, "{event}");
        assert_eq!(sent.get(1).and_then(|notice| notice.header(Name::Event)), about, "{event}");
        if let Some(notice) = sent.get(1) {
            solo.receive(&response(notice, 200, "", ""));
        }
    }
    solo.receive(&subscribe(10, "", "refer", "").replace("solo@", "other@"));
    solo.receive(&subscribe(11, "", "message-summary", "").replace("solo@", "another@"));
    let sent = solo.sent();
    assert_eq!(methods(&sent), ["403", "489"], "outside a dialog");
    assert_eq!(sent[1].header(Name::AllowEvents), Some("refer"));
}

/// RFC 5057 5.2: the subscription outlives the call, in its own time.
#[test]
fn a_subscription_is_not_kept_for_longer_than_it_had_when_its_call_ended() {
    let mut solo = Solo::new();
    let (_, tag, first) = transferring(&mut solo);
    solo.receive(&response(&first, 200, "", ""));
    solo.receive(&request("BYE", "bye", 3, &tag, ""));
    solo.sent();
    solo.now += 100 * SECOND;
    solo.receive(&subscribe(4, &tag, "refer", "Expires: 1000"));
    let sent = solo.sent();
    assert_eq!((methods(&sent).len(), sent[0].header(Name::Expires)), (2, Some("200")));
    solo.receive(&response(&sent[1], 200, "", ""));
    solo.receive(&subscribe(5, &tag, "refer", "Expires: 0"));
    let last = solo.sent().pop().unwrap();
    assert_eq!(state(&last), "terminated;reason=timeout");
    solo.receive(&response(&last, 200, "", ""));
    solo.advance(40 * SECOND);
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn who_wants_no_notices_gets_none() {
    let mut solo = Solo::new();
    let (leg, tag) = called(&mut solo);
    solo.receive(&refer(2, &tag, &format!("{TO_CAROL}\nRefer-Sub: false\nRequire: norefersub")));
    solo.endpoint.accept_refer(solo.now, leg, 2).unwrap();
    let answer = solo.sent_one();
    assert_eq!((first_line(&answer).as_str(), answer.header(Name::ReferSub)), ("202", Some("false")));
    solo.endpoint.notify_refer(solo.now, leg, 2, 200, "").unwrap();
    assert!(solo.sent().is_empty(), "RFC 4488 4");
}

#[test]
fn refers_that_make_no_sense_are_refused() {
    let many = vec!["X=1"; 17].join("&");
    for (extra, status) in [
        ("", "400"),
        (&*format!("{TO_CAROL}\n{TO_CAROL}"), "400"),
        (&*format!("{TO_CAROL}, <sip:dave@192.0.2.7>"), "400"),
        ("Refer-To: <sip:carol@192.0.2.7", "400"),
        ("Refer-To: <sip:carol@192.0.2.7?Replaces=nothing>", "400"),
        ("Refer-To: <sip:carol@192.0.2.7?X=a%0d%0aY:b>", "400"),
        (&*format!("Refer-To: <sip:carol@192.0.2.7?{many}>"), "400"),
        ("Refer-To: <https://example.org/>", "603"),
        ("Refer-To: <sip:carol@192.0.2.7;method=SUBSCRIBE>", "603"),
        (&*format!("{TO_CAROL}\nRequire: dance"), "420"),
    ] {
        let mut solo = Solo::new();
        let (_, tag) = called(&mut solo);
        solo.receive(&refer(2, &tag, extra));
        assert_eq!(methods(&solo.sent()), [status], "{extra}");
        assert!(solo.events().is_empty(), "{extra}");
    }
    let mut solo = Solo::new();
    solo.receive(&refer(1, "", TO_CAROL));
    assert_eq!(methods(&solo.sent()), ["403"], "outside a call");
    solo.incoming(&invite("a"));
    let tag = tag_of(&{
        solo.endpoint.provisional(solo.now, LegId(1_000_000), 180, None).unwrap();
        solo.sent().pop().unwrap()
    });
    solo.receive(&refer(2, &tag, TO_CAROL));
    assert_eq!(methods(&solo.sent()), ["491"], "nobody talks yet");
}

#[test]
fn a_refer_can_be_refused_and_is_not_left_without_an_answer() {
    let mut solo = Solo::new();
    let (leg, tag) = called(&mut solo);
    solo.receive(&refer(2, &tag, TO_CAROL));
    solo.endpoint.refuse_refer(solo.now, leg, 2, 403).unwrap();
    assert_eq!(methods(&solo.sent()), ["403"]);
    solo.endpoint.refuse_refer(solo.now, leg, 2, 403).unwrap_err();
    solo.receive(&refer(3, &tag, TO_CAROL));
    solo.now += 17 * SECOND;
    solo.endpoint.handle_timeout(solo.now);
    assert_eq!(methods(&solo.sent()).last().unwrap(), "504");
    solo.endpoint.accept_refer(solo.now, leg, 3).unwrap_err();
    for cseq in 4..8 {
        solo.receive(&refer(cseq, &tag, TO_CAROL));
    }
    assert!(solo.sent().is_empty());
    solo.receive(&refer(8, &tag, TO_CAROL));
    assert_eq!(methods(&solo.sent()), ["491"], "no more than four at a time");
    solo.receive(&request("BYE", "bye", 9, &tag, ""));
    assert_eq!(methods(&solo.sent()), ["200", "487", "487", "487", "487"]);
}

fn notice(refer: &Message, cseq: u32, event: &str, state: &str, body: &str) -> String {
    let extra = format!(
        "Event: {event}\nSubscription-State: {state}\nContent-Type: message/sipfrag;version=2.0\n\n{body}"
    );
    theirs("NOTIFY", &format!("n{cseq}"), cseq, refer, &extra)
}

#[test]
fn our_refer_is_followed_to_its_outcome() {
    let mut solo = Solo::new();
    let (leg, ..) = calling(&mut solo, CONTACT);
    solo.endpoint
        .refer(solo.now, leg, "sip:carol@192.0.2.7?X-Note=a", Some("<sip:bob@example.org>"))
        .unwrap();
    let refer = solo.sent_one();
    assert_eq!(refer.header(Name::ReferTo), Some("<sip:carol@192.0.2.7?X-Note=a>"));
    assert_eq!(refer.header(Name::ReferredBy), Some("<sip:bob@example.org>"));
    solo.endpoint.refer(solo.now, leg, "sip:dave@192.0.2.7", None).unwrap_err();
    solo.receive(&response(&refer, 202, "", CONTACT));
    assert!(matches!(solo.events()[..], [Event::ReferAnswered { status: 202, .. }]));
    let id = format!("refer;id={}", refer.cseq_number());
    for (cseq, state, body, news) in [
        (1, "active;expires=60", "SIP/2.0 100 Trying\r\n", Some((100, "Trying", false))),
        (2, "active;expires=60", "SIP/2.0 180 Ringing\r\nTo: x", Some((180, "Ringing", false))),
        (3, "active", "nonsense", None),
        (4, "active", "SIP/2.0 486 Busy Here", Some((486, "Busy Here", true))),
        (5, "terminated;reason=noresource", "SIP/2.0 486 Busy Here", None),
    ] {
        solo.receive(&notice(&refer, cseq, &id, state, body));
        assert_eq!(methods(&solo.sent()), ["200"], "{cseq}");
        let told = solo.events().into_iter().map(|event| match event {
            Event::Referral { status, reason, last, .. } => (status.unwrap_or_default(), reason, last),
            other => panic!("{other:?}"),
        });
        let wanted = news.map(|(status, reason, last): (u16, &str, _)| (status, reason.to_owned(), last));
        assert_eq!(told.collect::<Vec<_>>(), Vec::from_iter(wanted), "{cseq}");
    }
    solo.receive(&notice(&refer, 6, &id, "active", "SIP/2.0 100 Trying"));
    assert_eq!(methods(&solo.sent()), ["481"], "it is over");
    solo.endpoint.refer(solo.now, leg, "sip:dave@192.0.2.7", None).unwrap();
}

#[test]
fn a_notice_may_overtake_the_answer_to_its_refer() {
    let mut solo = Solo::new();
    let (leg, ..) = calling(&mut solo, CONTACT);
    solo.endpoint.refer(solo.now, leg, "sip:carol@192.0.2.7", None).unwrap();
    let refer = solo.sent_one();
    solo.receive(&notice(&refer, 1, "refer", "active", "SIP/2.0 100 Trying"));
    let events = solo.events();
    assert!(matches!(
        events[..],
        [Event::ReferAnswered { status: 202, .. }, Event::Referral { last: false, .. }]
    ));
    solo.receive(&response(&refer, 202, "", CONTACT));
    assert!(solo.events().is_empty());
}

#[test]
fn notices_nobody_asked_for_are_refused() {
    let mut solo = Solo::new();
    let (leg, invite, _) = calling(&mut solo, CONTACT);
    solo.receive(&notice(&invite, 1, "refer", "active", "SIP/2.0 100 Trying"));
    assert_eq!(methods(&solo.sent()), ["481"]);
    solo.receive(&notice(&invite, 2, "presence", "active", ""));
    assert_eq!(methods(&solo.sent()), ["489"]);
    solo.endpoint.refer(solo.now, leg, "sip:carol@192.0.2.7", None).unwrap();
    let refer = solo.sent_one();
    solo.receive(&notice(&refer, 3, "refer;id=999", "active", "SIP/2.0 100 Trying"));
    assert_eq!(methods(&solo.sent()), ["481"], "another REFER's");
    assert!(solo.events().is_empty());
}

#[test]
fn a_refer_that_fails_or_falls_silent_has_an_end() {
    for (status, left) in [(403, true), (202, false)] {
        let mut solo = Solo::new();
        let (leg, ..) = calling(&mut solo, CONTACT);
        solo.endpoint.refer(solo.now, leg, "sip:carol@192.0.2.7", None).unwrap();
        let refer = solo.sent_one();
        solo.receive(&response(&refer, status, "", CONTACT));
        assert!(matches!(solo.events()[..], [Event::ReferAnswered { .. }]));
        assert_eq!(solo.endpoint.refer(solo.now, leg, "sip:dave@192.0.2.7", None).is_ok(), left);
        solo.advance(40 * SECOND);
        let unknown = |event: &Event| matches!(event, Event::Referral { status: None, last: true, .. });
        assert_eq!(solo.events().iter().any(unknown), !left, "timer N");
    }
    let mut solo = Solo::new();
    let (leg, ..) = calling(&mut solo, CONTACT);
    solo.endpoint.refer(solo.now, leg, "sip:carol@192.0.2.7", None).unwrap();
    solo.advance(40 * SECOND);
    assert!(matches!(solo.events()[..], [Event::ReferAnswered { status: 408, .. }]));
}

#[test]
fn an_invite_takes_the_place_of_the_leg_it_names() {
    let mut solo = Solo::new();
    let (leg, tag) = called(&mut solo);
    let replacing = |branch: &str, replaces: &str| {
        request("INVITE", branch, 1, "", &format!("{replaces}\nRequire: replaces\n\n"))
            .replace("Call-ID: solo@", &format!("Call-ID: {branch}@"))
    };
    let named = format!("Replaces: solo@example.org;to-tag={tag};from-tag=peer");
    solo.receive(&replacing("b", &named));
    match solo.events().pop() {
        Some(Event::Incoming { replaces, .. }) => assert_eq!(replaces, Some(leg)),
        other => panic!("{other:?}"),
    }
    solo.sent();
    for (branch, replaces, status) in [
        ("c", format!("{named};early-only"), "486"),
        ("d", format!("Replaces: solo@example.org;to-tag={tag};from-tag=x"), "481"),
        ("e", format!("{named}\n{named}"), "400"),
        ("f", "Replaces: solo@example.org".to_owned(), "400"),
    ] {
        solo.receive(&replacing(branch, &replaces));
        assert_eq!(methods(&solo.sent()), [status], "RFC 3891 3: {replaces}");
    }
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    solo.sent();
    solo.receive(&replacing("g", &named));
    assert_eq!(methods(&solo.sent()), ["603"], "it ended a moment ago");
}

#[test]
fn an_early_dialog_is_replaced_by_whom_it_called_only() {
    let mut solo = Solo::new();
    let leg = solo.incoming(&invite("a"));
    solo.endpoint.provisional(solo.now, leg, 180, None).unwrap();
    let tag = tag_of(&solo.sent()[1]);
    let named = format!("Replaces: solo@example.org;to-tag={tag};from-tag=peer");
    solo.receive(&request("INVITE", "b", 1, "", &named).replace("Call-ID: solo@", "Call-ID: other@"));
    assert_eq!(methods(&solo.sent()), ["481"], "RFC 3891 3");
    let mut solo = Solo::new();
    let leg = solo.dial(1);
    let ours = solo.sent_one();
    solo.receive(&response(&ours, 180, "bob", CONTACT));
    solo.events();
    let named = format!("Replaces: {};to-tag={};from-tag=bob", ours.call_id(), ours.from_tag().unwrap());
    solo.receive(&request("INVITE", "b", 1, "", &named));
    assert!(matches!(solo.events()[..], [Event::Incoming { replaces: Some(of), .. }] if of == leg));
}

#[test]
fn a_leg_is_named_as_its_peer_knows_it() {
    a_leg_is_named(false);
}

#[test]
fn that_a_leg_must_still_ring_is_said_and_read() {
    a_leg_is_named(true);
}

fn a_leg_is_named(early_only: bool) {
    let mut wire = Wire::new(3);
    let leg = wire.dial(0, 1);
    wire.run(SECOND);
    let Some(Event::Incoming { leg: called, .. }) = wire.peers[1].news().pop() else { panic!() };
    wire.peers[1].endpoint.answer(wire.now, called, sdp("v=0 answer")).unwrap();
    wire.run(SECOND);
    let uri = wire.peers[0].endpoint.replacing(leg, early_only).unwrap();
    let refer_to = ReferTo::parse(&format!("<{uri}>")).unwrap();
    assert!(refer_to.uri.contains("192.0.2.2"), "{uri}");
    // Who is called is told so by a REFER, and knows which of its legs is meant.
    wire.peers[0].endpoint.refer(wire.now, leg, &uri, None).unwrap();
    wire.run(SECOND);
    let news = wire.peers[1].news();
    let Some(Event::Refer { referred, .. }) = news.last() else { panic!("{news:?}") };
    assert_eq!(referred.replaces, Some((called, early_only)));
}

#[test]
fn a_transfer_survives_a_bad_line() {
    let mut wire = Wire::new(5);
    (wire.loss, wire.doubled, wire.jitter) = (200, 100, Duration::from_millis(300));
    let leg = wire.dial(0, 1);
    wire.run(10 * SECOND);
    let Some(Event::Incoming { leg: called, .. }) = wire.peers[1].news().pop() else { panic!() };
    wire.peers[1].endpoint.answer(wire.now, called, sdp("v=0 answer")).unwrap();
    wire.run(10 * SECOND);
    wire.peers[1].endpoint.refer(wire.now, called, "sip:carol@192.0.2.7", None).unwrap();
    wire.run(5 * SECOND);
    let Some(Event::Refer { id, .. }) = wire.peers[0].news().pop() else { panic!() };
    let referee = &mut wire.peers[0].endpoint;
    referee.accept_refer(wire.now, leg, id).unwrap();
    for status in [180, 183, 200] {
        referee.notify_refer(wire.now, leg, id, status, "").unwrap();
    }
    referee.hangup(wire.now, leg, None).unwrap();
    wire.run(60 * SECOND);
    let statuses = wire.peers[1].events.iter().filter_map(|event| match event {
        Event::Referral { status, .. } => *status,
        _ => None,
    });
    assert_eq!(statuses.collect::<Vec<_>>(), [100, 180, 183, 200], "in order, whatever gets lost");
    wire.run(60 * SECOND);
    wire.assert_empty();
}

#[test]
fn replaces_needs_both_tags_once() {
    let named =
        Replaces::parse("98732@sip.example.com ;from-tag=r33th4x0r ;to-tag=ff87ff;early-only").unwrap();
    assert_eq!(
        (named.call_id, named.to_tag, named.from_tag),
        ("98732@sip.example.com", "ff87ff", "r33th4x0r")
    );
    assert!(named.early_only);
    for broken in [
        "",
        "a",
        "a;to-tag=1",
        "a;to-tag=1;to-tag=2;from-tag=3",
        ";to-tag=1;from-tag=2",
        "a;to-tag;from-tag=1",
    ] {
        assert!(Replaces::parse(broken).is_err(), "{broken}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_upsets_the_readers(text in proptest::string::string_regex(".{0,200}").unwrap()) {
        let _ = Replaces::parse(&text);
        if let Ok(refer_to) = ReferTo::parse(&format!("<sip:a@b?{text}>")) {
            assert!(refer_to.headers.len() <= 16 && !refer_to.uri.contains('?'));
        }
    }
}
