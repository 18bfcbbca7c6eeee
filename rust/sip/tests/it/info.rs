//! Keys by INFO, both ways.

use std::time::Duration;

use crate::wire::{Solo, called, calling, first_line, request, response};
use telephony_sip::{Cause, Error, Event, Key, LegId, Message, Name};

fn key(digit: char) -> Key {
    Key { digit, duration: Duration::from_millis(100) }
}

fn press(solo: &mut Solo, leg: LegId, digits: &str) {
    for digit in digits.chars() {
        solo.endpoint.press(solo.now, leg, key(digit)).unwrap();
    }
}

fn body(info: &Message) -> &str {
    assert_eq!(info.content_type(), Some("application/dtmf-relay"));
    std::str::from_utf8(info.body()).unwrap()
}

#[test]
fn a_key_is_told_and_answered() {
    let mut solo = Solo::new();
    let (leg, tag) = called(&mut solo);
    let relay = "Content-Type: application/dtmf-relay\n\nSignal=5\nDuration=250  ";
    solo.receive(&request("INFO", "i", 2, &tag, relay));
    assert_eq!(first_line(&solo.sent_one()), "200");
    match &solo.events()[..] {
        [Event::Key { leg: of, key: Key { digit, duration } }] => {
            assert_eq!((*of, *digit, *duration), (leg, '5', Duration::from_millis(250)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_key_is_answered_and_told_to_nobody() {
    let mut solo = Solo::new();
    let (_, tag) = called(&mut solo);
    let answers = [
        ("", "200"),
        ("Content-Type: application/dtmf-relay\n\nSignal=55", "400"),
        ("Content-Type: application/dtmf\n\nfive", "400"),
        ("Content-Type: application/media_control+xml\n\n<x/>", "415"),
        ("Info-Package: conference\nContent-Type: application/dtmf\n\n5", "469"),
    ];
    for (cseq, (extra, status)) in (2..).zip(answers) {
        solo.receive(&request("INFO", &format!("i{cseq}"), cseq, &tag, extra));
        let answer = solo.sent_one();
        assert_eq!(first_line(&answer), status, "{extra}");
        let accept = answer.header(Name::Accept);
        assert_eq!(accept.is_some(), status == "415");
        assert!(accept.is_none_or(|types| types.contains("application/dtmf-relay")));
    }
    assert!(solo.events().is_empty());
}

#[test]
fn keys_go_one_after_the_other() {
    let mut solo = Solo::new();
    let (leg, _) = called(&mut solo);
    press(&mut solo, leg, "12*");
    for (signal, status) in [("Signal=1", 200), ("Signal=2", 415), ("Signal=*", 200)] {
        let info = solo.sent_one();
        assert_eq!(first_line(&info), "INFO");
        assert!(body(&info).starts_with(signal) && body(&info).contains("Duration=100"), "{}", body(&info));
        solo.receive(&response(&info, 100, "", ""));
        assert!(solo.sent().is_empty(), "a provisional response ends nothing");
        solo.receive(&response(&info, status, "", ""));
    }
    assert!(solo.sent().is_empty() && solo.events().is_empty());
    press(&mut solo, leg, "#");
    assert!(body(&solo.sent_one()).starts_with("Signal=#"));
}

#[test]
fn keys_that_pile_up_are_refused() {
    let mut solo = Solo::new();
    let (leg, _) = called(&mut solo);
    press(&mut solo, leg, &"1".repeat(65));
    assert!(matches!(solo.endpoint.press(solo.now, leg, key('1')), Err(Error::Full)));
    assert!(matches!(solo.endpoint.press(solo.now, LegId(77), key('1')), Err(Error::UnknownLeg(_))));
}

#[test]
fn a_call_that_rings_takes_no_keys() {
    let mut solo = Solo::new();
    let leg = solo.dial(1);
    solo.sent();
    assert!(matches!(solo.endpoint.press(solo.now, leg, key('1')), Err(Error::WrongState { .. })));
}

#[test]
fn a_dialog_that_the_peer_has_lost_ends() {
    let mut solo = Solo::new();
    let (leg, ..) = calling(&mut solo, crate::wire::CONTACT);
    press(&mut solo, leg, "12");
    let info = solo.sent_one();
    solo.receive(&response(&info, 481, "", ""));
    let ended = solo.ended();
    assert_eq!((ended.cause, ended.status), (Cause::Lost, Some(481)));
    assert!(solo.sent().iter().all(|message| first_line(message) != "INFO"));
}

#[test]
fn what_waits_is_forgotten_with_the_call() {
    let mut solo = Solo::new();
    let (leg, tag) = called(&mut solo);
    press(&mut solo, leg, "12");
    let info = solo.sent_one();
    solo.receive(&request("BYE", "b", 2, &tag, ""));
    assert_eq!(first_line(&solo.sent_one()), "200");
    solo.events();
    solo.receive(&response(&info, 200, "", ""));
    assert!(solo.sent().is_empty());
    solo.advance(Duration::from_secs(60));
    assert_eq!(solo.alive(), (0, 0, 0, 0, 0));
}
