//! Who may come in: strangers, the limits of trunks, and what is told of those who were refused.

use std::sync::Arc;
use std::time::Duration;

use telephony_sip::{Admission, Ground, Name, Pace, Profile, Refused, Stranger};

use crate::wire::{NOTHING, Solo, first_line, invite, request};

fn solo(admission: Admission) -> Solo {
    let mut solo = Solo::new();
    let name = if admission.stranger == Stranger::Take { "carrier" } else { "" };
    solo.profile = Arc::new(Profile { name: name.into(), admission, ..Profile::default() });
    solo
}

fn stranger(stranger: Stranger) -> Solo {
    solo(Admission { stranger, ..Admission::default() })
}

fn refused(solo: &mut Solo) -> Vec<Refused> {
    std::iter::from_fn(|| solo.endpoint.poll_refused()).collect()
}

/// An INVITE of a call of its own.
fn call(name: &str) -> String {
    invite(name).replace("solo@example.org", &format!("{name}@example.org"))
}

/// Everything that a scanner may try.
fn probes() -> Vec<String> {
    let mut probes: Vec<String> =
        ["INVITE", "OPTIONS", "REGISTER", "SUBSCRIBE", "MESSAGE", "DANCE", "CANCEL"]
            .iter()
            .map(|method| request(method, "a", 1, "", ""))
            .collect();
    probes.extend(["BYE", "INVITE", "UPDATE"].iter().map(|method| request(method, "b", 2, "guessed", "")));
    probes.push(invite("c").replace("CSeq: 1 INVITE", "CSeq: 1 INVITE\nCSeq: 2 INVITE"));
    probes
}

#[test]
fn strangers_hear_nothing_and_leave_nothing() {
    let mut solo = stranger(Stranger::Drop);
    for probe in probes() {
        solo.receive(&probe);
        assert!(solo.sent().is_empty() && solo.events().is_empty(), "{probe}");
        let told = refused(&mut solo);
        assert_eq!((told.len(), told[0].status), (1, None), "{probe}");
        assert_eq!(solo.alive(), NOTHING, "{probe}");
    }
    solo.receive(&invite("a"));
    let told = refused(&mut solo).remove(0);
    assert_eq!((told.ground, told.reason.as_str()), (Ground::UnknownSource, "no trunk allows 192.0.2.9"));
    assert!(told.request.starts_with("INVITE sip:"));
}

#[test]
fn or_are_told_403_without_state() {
    let mut solo = stranger(Stranger::Refuse);
    for probe in ["INVITE", "OPTIONS", "REGISTER", "BYE"] {
        solo.receive(&request(probe, "a", 1, "", ""));
        assert_eq!(first_line(&solo.sent_one()), "403", "{probe}");
        assert_eq!(refused(&mut solo)[0].status, Some(403));
        assert_eq!(solo.alive(), NOTHING);
    }
}

#[test]
fn whom_we_called_is_heard_in_his_call() {
    let mut solo = stranger(Stranger::Drop);
    solo.dial(1);
    let sent = solo.sent_one();
    let via = sent.header(Name::Via).unwrap().to_owned();
    let (from, call_id) = (sent.header(Name::From).unwrap().to_owned(), sent.call_id().to_owned());
    solo.receive(&format!(
        "SIP/2.0 200 OK\nVia: {via}\nFrom: {from}\nTo: <sip:x@192.0.2.9>;tag=theirs\nCall-ID: {call_id}\n\
         CSeq: 1 INVITE\nContact: <sip:x@192.0.2.9>\nContent-Length: 0\n\n"
    ));
    assert_eq!(solo.events().len(), 1);
    solo.sent();
    solo.receive(&format!(
        "BYE sip:us@192.0.2.1 SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKbye\nMax-Forwards: 70\n\
         From: <sip:x@192.0.2.9>;tag=theirs\nTo: {from}\nCall-ID: {call_id}\nCSeq: 1 BYE\nContent-Length: 0\n\n"
    ));
    assert_eq!(first_line(&solo.sent_one()), "200");
    assert!(refused(&mut solo).is_empty());
}

#[test]
fn a_trunk_makes_so_many_calls_a_second() {
    let mut solo = solo(Admission { pace: Pace::per_second(5.0), ..Admission::default() });
    for number in 0..20 {
        solo.receive(&call(&format!("burst{number}")));
    }
    assert_eq!(solo.events().len(), 5);
    let waits: Vec<String> = solo
        .sent()
        .iter()
        .filter(|message| first_line(message) == "503")
        .map(|message| message.header(Name::RetryAfter).unwrap().to_owned())
        .collect();
    assert_eq!(waits.len(), 15);
    assert!(waits.iter().all(|wait| (1..=5).contains(&wait.parse::<u32>().unwrap())));
    assert!(waits.iter().any(|wait| *wait != waits[0]), "they would all come back at once");
    let told = refused(&mut solo);
    assert_eq!((told.len(), told[0].reason.as_str()), (15, "trunk carrier takes 5 calls a second"));
    assert_eq!((told[0].ground, told[0].status, &*told[0].trunk), (Ground::TrunkRate, Some(503), "carrier"));
    solo.now += Duration::from_millis(400);
    (20..30).for_each(|number| solo.receive(&call(&format!("burst{number}"))));
    assert_eq!(solo.events().len(), 2);
    // Only INVITEs that make a call count.
    solo.receive(&request("OPTIONS", "o", 1, "", ""));
    assert_eq!(solo.sent().iter().filter(|message| first_line(message) == "200").count(), 1);
}

#[test]
fn a_trunk_has_so_many_calls_in_both_directions() {
    let mut solo = solo(Admission { max_calls: Some(2), ..Admission::default() });
    solo.receive(&call("a"));
    solo.receive(&call("b"));
    assert_eq!(solo.events().len(), 2);
    solo.sent();
    solo.receive(&call("c"));
    assert_eq!(first_line(&solo.sent_one()), "503");
    assert_eq!(refused(&mut solo)[0].reason, "trunk carrier takes 2 calls at a time");
    solo.receive(&request("CANCEL", "a", 1, "", "").replace("solo@example.org", "a@example.org"));
    assert_eq!(solo.events().len(), 1);
    solo.sent();
    // The transaction of the cancelled call lingers, its place does not.
    solo.receive(&call("d"));
    assert_eq!(solo.events().len(), 1);
}

#[test]
fn every_refusal_says_its_rule() {
    let mut solo = solo(Admission::default());
    for (probe, ground, status) in [
        (request("BYE", "a", 2, "unknown", ""), Ground::NoDialog, 481),
        (request("DANCE", "b", 1, "", ""), Ground::Unsupported, 405),
        (invite("c").replace("Max-Forwards: 70", "Max-Forwards: 0"), Ground::Loop, 483),
        (invite("d").replace("CSeq: 1 INVITE", "CSeq: 1 INVITE\nCSeq: 2 INVITE"), Ground::Malformed, 400),
    ] {
        solo.receive(&probe);
        let told = refused(&mut solo);
        assert_eq!((told.len(), told[0].ground, told[0].status), (1, ground, Some(status)), "{probe}");
        assert!(!told[0].reason.is_empty());
    }
    solo.endpoint.refuse_new(Some(2..=10));
    solo.receive(&invite("e"));
    assert_eq!(refused(&mut solo)[0].ground, Ground::Overload);
}

#[test]
fn smuggled_headers_are_refused() {
    let sound = invite("s");
    for (from, to) in [
        ("Max-Forwards: 70", "Max-Forwards: 70\nContent-Length: 0\nContent-Length: 5"),
        ("Max-Forwards: 70", "Max-Forwards: 70\nl: 0\nContent-Length: 5"),
        ("Max-Forwards: 70", "Max-Forwards: 70\nCall-ID: other@x"),
        ("Max-Forwards: 70", "Max-Forwards: 70\ni: other@x"),
        ("Max-Forwards: 70", "Max-Forwards: 70\nf: <sip:x@y>;tag=z"),
        ("Max-Forwards: 70", "Max-Forwards: 70\nTo: <sip:x@y>"),
        ("Max-Forwards: 70", "Max-Forwards: 70\nX: a\0b"),
        ("Max-Forwards: 70", "Max-Forwards: 70\nX: a\rVia: SIP/2.0/UDP evil"),
        ("Max-Forwards: 70", "Max-Forwards: 70\n: nameless"),
        ("Max-Forwards: 70", "Max-Forwards: 70\nBad Name: x"),
        ("Max-Forwards: 70", "Max-Forwards: 70\n 1"),
        ("Max-Forwards: 70", "Max-Forwards: 70, 71"),
    ] {
        let mut solo = solo(Admission::default());
        let text = sound.replace(from, to);
        assert_ne!(text, sound);
        let bytes = text.replace("\r\n", "\n").replace('\n', "\r\n");
        solo.endpoint.handle_message(solo.now, bytes.into(), solo.flow, &solo.profile);
        assert!(solo.events().is_empty(), "{to:?} made a call");
        assert_eq!(solo.alive(), NOTHING, "{to:?}");
    }
}
