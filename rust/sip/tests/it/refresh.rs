//! Session timers (RFC 4028): negotiated both ways, refreshed, raised by 422, and given up when nobody refreshes.

use std::time::Duration;

use telephony_sip::{Cause, Event, LegId, Message, Method, Name, Profile, SessionTimer, Side, Support};

use crate::wire::{
    LONG, NOTHING, Solo, Wire, assert_each_ended_once, described, first_line, is, methods, request, response,
    sdp, tag_of, theirs,
};

const MOMENT: Duration = Duration::from_millis(100);
const UPDATES: &str = "Contact: <sip:bob@192.0.2.9:5060>\nAllow: INVITE, ACK, BYE, UPDATE";
const OFFER: &str = "Content-Type: application/sdp\n\nv=0 offer";

fn profile(support: Support) -> Profile {
    Profile { session: SessionTimer { support, expires: 1800, min: 90 }, ..Profile::default() }
}

fn solo() -> Solo {
    Solo::of(profile(Support::Supported))
}

fn seconds(value: f64) -> Duration {
    Duration::from_secs_f64(value)
}

fn header(message: &Message, name: Name) -> &str {
    message.header(name).unwrap_or_default()
}

/// A call to us; gives its leg and our 200.
fn called(solo: &mut Solo, extra: &str) -> (LegId, Message) {
    let leg = solo.incoming(&request("INVITE", "a", 1, "", &format!("{extra}\n{OFFER}")));
    solo.endpoint.answer(solo.now, leg, sdp("v=0 answer")).unwrap();
    let ok = solo.sent().remove(1);
    solo.receive(&request("ACK", "ack", 1, &tag_of(&ok), ""));
    solo.events();
    (leg, ok)
}

/// A call of ours, answered with `extra`.
fn calling(solo: &mut Solo, extra: &str) -> (LegId, Message) {
    let leg = solo.dial(1);
    let invite = solo.sent_one();
    solo.receive(&described(&invite, 200, "bob", extra, "v=0 answer"));
    assert!(is(&solo.sent_one(), Method::Ack));
    solo.events();
    (leg, invite)
}

/// Moves time on; gives the one request that is sent.
fn after(solo: &mut Solo, by: f64) -> Message {
    solo.now += seconds(by);
    solo.endpoint.handle_timeout(solo.now);
    solo.sent_one()
}

#[test]
fn the_invite_proposes_what_the_profile_says() {
    for (support, supported, required, interval) in [
        (Support::Off, "replaces, norefersub", "", ""),
        (Support::Supported, "replaces, norefersub, timer", "", "1800"),
        (Support::Required, "replaces, norefersub, timer", "timer", "1800"),
    ] {
        let mut solo = Solo::of(profile(support));
        solo.dial(1);
        let invite = solo.sent_one();
        let lines = [Name::Supported, Name::Require, Name::SessionExpires].map(|name| header(&invite, name));
        assert_eq!(lines, [supported, required, interval], "RFC 4028 7.1");
        assert!(!invite.has(Name::MinSe), "5: 90 goes without saying");
    }
}

#[test]
fn the_2xx_says_who_refreshes() {
    for (extra, interval, required) in [
        ("Supported: timer", "1800;refresher=uac", "timer"),
        ("Supported: timer\nSession-Expires: 600", "600;refresher=uac", "timer"),
        ("Supported: timer\nx: 600;refresher=uas", "600;refresher=uas", ""),
        ("Supported: timer\nSession-Expires: 600 ; refresher = uac", "600;refresher=uac", "timer"),
        ("Supported: timer\nSession-Expires: 7200\nMin-SE: 3600", "3600;refresher=uac", "timer"),
        ("Session-Expires: 600", "600;refresher=uas", ""),
        ("X-Nothing: here", "", ""),
    ] {
        let (_, ok) = called(&mut solo(), extra);
        assert_eq!(
            (header(&ok, Name::SessionExpires), header(&ok, Name::Require)),
            (interval, required),
            "{extra}"
        );
    }
    let (_, ok) = called(&mut Solo::of(profile(Support::Required)), "X-Nothing: here");
    assert_eq!(header(&ok, Name::SessionExpires), "1800;refresher=uas", "kept up alone (9)");
    let (_, ok) = called(&mut Solo::new(), "Supported: timer\nSession-Expires: 600");
    assert!(!ok.has(Name::SessionExpires), "off is off");
}

#[test]
fn too_brief_an_interval_is_422_for_whoever_can_ask_again() {
    let mut solo = solo();
    let brief = "Supported: timer\nSession-Expires: 60";
    solo.receive(&request("INVITE", "a", 1, "", brief));
    let refused = solo.sent_one();
    assert_eq!((first_line(&refused).as_str(), header(&refused, Name::MinSe)), ("422", "90"), "RFC 4028 9");
    assert!(solo.events().is_empty());
    let (_, ok) = called(&mut solo, "Session-Expires: 60");
    assert_eq!(header(&ok, Name::SessionExpires), "90;refresher=uas", "a proxy asked, the caller cannot");
    for method in ["INVITE", "UPDATE"] {
        solo.receive(&request(
            method,
            &format!("r{method}"),
            if method == "INVITE" { 2 } else { 3 },
            &tag_of(&ok),
            brief,
        ));
        assert_eq!(first_line(&solo.sent_one()), "422");
    }
    assert_eq!(solo.alive().3, 1);
}

#[test]
fn a_422_to_our_invite_is_followed() {
    let mut solo = solo();
    let leg = solo.dial(1);
    let first = solo.sent_one();
    solo.receive(&response(&first, 422, "x", "Min-SE: 3600"));
    let sent = solo.sent();
    assert_eq!(methods(&sent), ["ACK", "INVITE"], "RFC 4028 7.3");
    let again = &sent[1];
    assert_eq!((header(again, Name::SessionExpires), header(again, Name::MinSe)), ("3600", "3600"));
    assert_eq!(
        (again.call_id(), again.from_tag(), again.to_tag()),
        (first.call_id(), first.from_tag(), None)
    );
    assert_eq!((again.cseq().unwrap().number, again.body()), (2, first.body()));
    assert_ne!(again.branch(), first.branch());
    assert!(solo.events().is_empty(), "the owner is not bothered");
    solo.receive(&response(again, 422, "x", "Min-SE: 3600"));
    assert_eq!(methods(&solo.sent()), ["ACK"]);
    assert_eq!(solo.ended().status, Some(422), "it got what it asked for");
    assert!(solo.endpoint.profile(leg).is_none());
    solo.advance(LONG);
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn a_422_that_asks_for_ever_more_is_given_up() {
    let mut solo = solo();
    solo.dial(1);
    let mut invite = solo.sent_one();
    for minimum in 1..20 {
        solo.receive(&response(&invite, 422, "x", &format!("Min-SE: {}", 3600 * minimum)));
        match solo.sent().into_iter().find(|message| is(message, Method::Invite)) {
            Some(again) => invite = again,
            None => {
                assert_eq!(solo.ended().status, Some(422));
                return;
            }
        }
    }
    panic!("it never gave up");
}

#[test]
fn our_refresh_is_an_update_at_half_the_interval() {
    let mut solo = solo();
    let (leg, _) =
        calling(&mut solo, &format!("{UPDATES}\nSession-Expires: 200;refresher=uac\nRequire: timer"));
    assert_eq!(solo.advance(seconds(99.9)), []);
    let update = after(&mut solo, 0.2);
    assert_eq!((update.method(), update.body()), (Some(Method::Update), &b""[..]), "RFC 4028 7.4, 10");
    assert_eq!(header(&update, Name::SessionExpires), "200;refresher=uac");
    assert_eq!(header(&update, Name::Supported), "timer");
    solo.receive(&response(&update, 200, "", "Session-Expires: 200;refresher=uac"));
    assert!(solo.events().is_empty(), "the owner is not bothered");
    assert!(is(&after(&mut solo, 100.1), Method::Update), "and again");
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    solo.advance(LONG);
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn without_update_our_refresh_is_a_reinvite_that_changes_nothing() {
    let mut solo = solo();
    let (_, invite) = calling(&mut solo, "Contact: <sip:bob@192.0.2.9>\nSession-Expires: 200;refresher=uac");
    let reinvite = after(&mut solo, 100.1);
    assert!(is(&reinvite, Method::Invite));
    assert_eq!(reinvite.body(), invite.body(), "the same description, to the letter (7.4)");
    solo.receive(&described(&reinvite, 200, "bob", "Session-Expires: 200;refresher=uac", "v=0 answer"));
    assert!(is(&solo.sent_one(), Method::Ack));
    assert!(solo.events().is_empty());
    let reinvite = after(&mut solo, 100.1);
    assert_eq!(reinvite.body(), invite.body());
}

#[test]
fn a_called_side_that_refreshes_repeats_its_last_description() {
    let mut solo = solo();
    let (leg, ok) = called(&mut solo, "Supported: timer\nSession-Expires: 200;refresher=uas");
    solo.receive(&request(
        "INVITE",
        "r",
        2,
        &tag_of(&ok),
        &format!("Supported: timer\nx: 200;refresher=uas\n{OFFER}"),
    ));
    solo.endpoint.answer_reoffer(solo.now, leg, sdp("v=0 second")).unwrap();
    let sent = solo.sent();
    assert_eq!(header(&sent[1], Name::SessionExpires), "200;refresher=uas");
    solo.receive(&request("ACK", "ra", 2, &tag_of(&ok), ""));
    solo.events();
    let reinvite = after(&mut solo, 100.1);
    assert_eq!((reinvite.method(), reinvite.body()), (Some(Method::Invite), &b"v=0 second"[..]));
    assert_eq!(header(&reinvite, Name::SessionExpires), "200;refresher=uac", "we are the client now");
}

#[test]
fn an_update_that_is_not_known_after_all_becomes_a_reinvite() {
    let mut solo = solo();
    let (_, invite) = calling(&mut solo, &format!("{UPDATES}\nSession-Expires: 400;refresher=uac"));
    let update = after(&mut solo, 200.1);
    solo.receive(&response(&update, 501, "", ""));
    let later = after(&mut solo, 10.1);
    assert!(is(&later, Method::Invite));
    assert_eq!(later.body(), invite.body());
}

#[test]
fn a_422_to_our_refresh_raises_the_interval() {
    let mut solo = solo();
    calling(&mut solo, &format!("{UPDATES}\nSession-Expires: 200;refresher=uac"));
    let update = after(&mut solo, 100.1);
    solo.receive(&response(&update, 422, "", "Min-SE: 600"));
    let again = solo.sent_one();
    assert_eq!(
        (header(&again, Name::SessionExpires), header(&again, Name::MinSe)),
        ("600;refresher=uac", "600")
    );
}

#[test]
fn a_422_to_our_refresh_that_asks_for_ever_more_is_not_followed_for_ever() {
    let mut solo = solo();
    calling(&mut solo, &format!("{UPDATES}\nSession-Expires: 200;refresher=uac"));
    let mut update = after(&mut solo, 100.1);
    for min in 0..8 {
        solo.receive(&response(&update, 422, "", &format!("Min-SE: {}", 600 + min)));
        update = solo.sent_one();
    }
    solo.receive(&response(&update, 422, "", "Min-SE: 700"));
    assert!(solo.sent().is_empty());
    let update = after(&mut solo, 10.1);
    solo.receive(&response(&update, 422, "", "Min-SE: 4000000000"));
    assert!(solo.sent().is_empty(), "nobody waits for years");
}

/// RFC 4028 7.4: what the peer says it allows and then refuses is not asked for until the session is over.
#[test]
fn an_update_that_is_refused_whatever_for_becomes_a_reinvite_once_and_for_all() {
    for status in [400, 488, 500, 603] {
        let mut solo = solo();
        let (_, invite) = calling(&mut solo, &format!("{UPDATES}\nSession-Expires: 200;refresher=uac"));
        let update = after(&mut solo, 100.1);
        solo.receive(&response(&update, status, "", ""));
        let reinvite = after(&mut solo, 10.1);
        assert!(is(&reinvite, Method::Invite), "after {status}");
        assert_eq!(reinvite.body(), invite.body());
        let accepted = format!("{UPDATES}\nSession-Expires: 200;refresher=uac");
        solo.receive(&described(&reinvite, 200, "", &accepted, "v=0 answer"));
        assert!(is(&solo.sent_one(), Method::Ack));
        assert!(is(&after(&mut solo, 100.1), Method::Invite), "and after {status} again");
    }
    let mut solo = solo();
    calling(&mut solo, &format!("{UPDATES}\nSession-Expires: 200;refresher=uac"));
    let update = after(&mut solo, 100.1);
    solo.receive(&response(&update, 491, "", ""));
    assert!(is(&after(&mut solo, 4.1), Method::Update), "a collision says nothing of UPDATE");
}

#[test]
fn a_session_nobody_refreshes_ends_a_little_before_its_time() {
    for (interval, end) in [("90", 60.0), ("600", 568.0)] {
        let mut solo = solo();
        called(&mut solo, &format!("Supported: timer\nSession-Expires: {interval};refresher=uac"));
        assert_eq!(solo.advance(seconds(end - 0.1)), []);
        let bye = after(&mut solo, 0.2);
        assert!(is(&bye, Method::Bye), "RFC 4028 10");
        assert!(header(&bye, Name::Reason).contains("Session expired"));
        let ended = solo.ended();
        assert_eq!(
            (ended.by, ended.cause, ended.reason.as_str()),
            (Side::System, Cause::Lost, "Session expired")
        );
        solo.advance(LONG);
        assert_eq!(solo.alive(), NOTHING);
    }
}

#[test]
fn the_peers_refresh_keeps_the_session_alive() {
    let mut solo = solo();
    let (_, ok) = called(&mut solo, "Supported: timer\nSession-Expires: 90;refresher=uac");
    for (number, branch) in [(2, "u"), (3, "v"), (4, "w")] {
        assert_eq!(solo.advance(seconds(45.0)), []);
        let update = request(
            "UPDATE",
            branch,
            number,
            &tag_of(&ok),
            "Supported: timer\nSession-Expires: 90;refresher=uac",
        );
        solo.receive(&update);
        let fresh = solo.sent_one();
        assert_eq!(
            (first_line(&fresh).as_str(), header(&fresh, Name::SessionExpires)),
            ("200", "90;refresher=uac")
        );
    }
    assert!(solo.events().is_empty());
    solo.receive(&request("UPDATE", "x", 5, &tag_of(&ok), ""));
    assert!(!solo.sent_one().has(Name::SessionExpires));
    assert_eq!(solo.advance(seconds(1000.0)), [], "a refresh without a timer ends the timer, not the call");
}

#[test]
fn a_refresh_that_fails_for_good_ends_the_call() {
    for status in [408, 481] {
        let mut solo = solo();
        calling(&mut solo, &format!("{UPDATES}\nSession-Expires: 200;refresher=uac"));
        let update = after(&mut solo, 100.1);
        solo.receive(&response(&update, status, "", ""));
        assert!(is(&solo.sent_one(), Method::Bye));
        assert_eq!((solo.ended().cause, solo.alive().3), (Cause::Lost, 0));
    }
    let mut solo = solo();
    calling(&mut solo, &format!("{UPDATES}\nSession-Expires: 200;refresher=uac"));
    let sent = solo.advance(seconds(200.0));
    assert_eq!(
        sent.iter().filter(|(_, line)| line == "BYE").map(|(at, _)| *at).next(),
        Some(132.0),
        "timer F"
    );
}

/// RFC 3261 14.2, RFC 3311 5.2: a refresh without a description is no offer that the peer's would meet.
#[test]
fn the_peers_offer_is_taken_while_our_refresh_is_under_way() {
    for method in ["INVITE", "UPDATE"] {
        let mut solo = solo();
        let (leg, _) = calling(&mut solo, &format!("{UPDATES}\nSession-Expires: 200;refresher=uac"));
        let update = after(&mut solo, 100.1);
        solo.receive(&theirs(method, "o", 1, &update, OFFER));
        assert!(matches!(solo.events()[..], [Event::Reoffer { .. }]), "{method}");
        solo.endpoint.answer_reoffer(solo.now, leg, sdp("v=0 answer")).unwrap();
        assert_eq!(methods(&solo.sent()).last().map(String::as_str), Some("200"));
    }
}

#[test]
fn the_owners_offer_waits_for_a_refresh_and_refreshes_too() {
    let mut solo = solo();
    let (leg, _) = calling(&mut solo, &format!("{UPDATES}\nSession-Expires: 200;refresher=uac"));
    let update = after(&mut solo, 100.1);
    solo.endpoint.reoffer(solo.now, leg, sdp("v=0 hold"), Method::Invite).unwrap();
    assert!(solo.sent().is_empty());
    solo.receive(&response(&update, 200, "", "Session-Expires: 200;refresher=uac"));
    let reinvite = solo.sent_one();
    assert_eq!(
        (reinvite.body(), header(&reinvite, Name::SessionExpires)),
        (&b"v=0 hold"[..], "200;refresher=uac")
    );
    solo.receive(&described(&reinvite, 200, "", "Session-Expires: 200;refresher=uas", "v=0"));
    assert!(is(&solo.sent_one(), Method::Ack));
    assert!(matches!(solo.events()[..], [Event::ReofferAnswered { .. }]));
    assert_eq!(solo.advance(seconds(160.0)), [], "the peer refreshes from here on");
    solo.receive(&theirs(
        "UPDATE",
        "u",
        1,
        &reinvite,
        "Supported: timer\nSession-Expires: 200;refresher=uac",
    ));
    assert_eq!(first_line(&solo.sent_one()), "200");
}

#[test]
fn a_peer_without_timers_is_left_in_peace() {
    let mut solo = solo();
    calling(&mut solo, UPDATES);
    assert_eq!(solo.advance(seconds(86_400.0)), [], "RFC 4028 7.2");
    let mut solo = Solo::of(profile(Support::Required));
    calling(&mut solo, UPDATES);
    assert!(is(&after(&mut solo, 900.1), Method::Update), "unless the timer must be: then we keep it alone");
}

#[test]
fn a_call_of_hours_lives_on_refreshes_and_dies_with_its_peer() {
    let mut wire = Wire::new(3);
    wire.profile = profile(Support::Supported).into();
    wire.loss = 100;
    let caller = wire.dial(0, 1);
    for _ in 0..200 {
        wire.run(MOMENT);
        for event in wire.peers[1].news() {
            if let Event::Incoming { leg, .. } = event {
                wire.peers[1].endpoint.answer(wire.now, leg, sdp("v=0 answer")).unwrap();
            }
        }
    }
    wire.run(Duration::from_secs(4 * 3600));
    assert!(wire.count(0, "UPDATE") >= 15, "{}", wire.count(0, "UPDATE"));
    assert_eq!((wire.peers[0].endpoint.stats().legs, wire.peers[1].endpoint.stats().legs), (1, 1));
    wire.loss = 1000;
    wire.run(Duration::from_secs(1900));
    let lost = |side: usize| wire.peers[side].endpoint.stats().legs;
    assert_eq!((lost(0), lost(1)), (0, 0), "RFC 4028 10");
    assert!(
        wire.peers[0]
            .events
            .iter()
            .any(|event| event.leg() == caller && matches!(event, Event::Ended { .. }))
    );
    wire.run(LONG);
    wire.assert_empty();
    wire.peers.iter().for_each(|peer| assert_each_ended_once(&peer.events));
}
