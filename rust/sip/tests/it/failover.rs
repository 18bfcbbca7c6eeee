//! The next target in virtual time (RFC 3263 4.3): when it is tried, how its INVITE looks, and what becomes of the
//! former ones.

use std::sync::Arc;
use std::time::Duration;

use telephony_sip::{
    Cause, Event, Failure, Flow, LegId, Limits, Message, Method, Name, Probe, Probed, Target, Transmit,
};

use crate::wire::{CONTACT, NOTHING, Solo, address, dial, first_line, is, response};

const PATIENCE: Duration = Duration::from_secs(4);
const LEG: LegId = LegId(1);

fn flow(number: u8) -> Flow {
    Flow::udp(address("192.0.2.1:5060"), address(&format!("192.0.2.{number}:5060")))
}

fn target(number: u8) -> Target {
    Target { flow: flow(number), contact: format!("192.0.2.1:50{number}") }
}

/// Calls 192.0.2.9 with others behind it.
fn calling(others: &[u8]) -> Solo {
    let mut solo = Solo::new();
    let others = others.iter().map(|number| target(*number)).collect();
    let dial = telephony_sip::Dial { others, ..dial(flow(9)) };
    solo.endpoint.dial(solo.now, LEG, dial).unwrap();
    solo
}

/// What was sent since, with the last digits of the address it went to.
fn sent(solo: &mut Solo) -> Vec<(u8, Message)> {
    let parse = |Transmit { flow, payload }: Transmit| {
        let std::net::IpAddr::V4(ip) = flow.remote.ip() else { panic!() };
        (ip.octets()[3], Message::parse(payload, &Limits::default()).unwrap())
    };
    std::iter::from_fn(|| solo.endpoint.poll_transmit()).map(parse).collect()
}

fn names(sent: &[(u8, Message)]) -> Vec<(u8, String)> {
    sent.iter().map(|(to, message)| (*to, first_line(message))).collect()
}

/// Lets time pass and gives the requests of that time.
fn wait(solo: &mut Solo, time: Duration) -> Vec<(u8, Message)> {
    let (end, mut all) = (solo.now + time, Vec::new());
    while let Some(next) = solo.endpoint.poll_timeout().filter(|next| *next <= end) {
        solo.now = solo.now.max(next);
        solo.endpoint.handle_timeout(solo.now);
        all.extend(sent(solo));
    }
    solo.now = end;
    all
}

fn failures(solo: &mut Solo) -> Vec<(Flow, Failure)> {
    let failed = |event| match event {
        Event::TargetFailed { leg: LEG, flow, failure, .. } => Some((flow, failure)),
        _ => None,
    };
    solo.events().into_iter().filter_map(failed).collect()
}

#[test]
fn a_silent_target_is_left_for_the_next_with_a_new_transaction() {
    let mut solo = calling(&[8, 7]);
    let first = sent(&mut solo).remove(0).1;
    let again = wait(&mut solo, PATIENCE);
    let second = &again.last().unwrap().1;
    assert_eq!(again.last().unwrap().0, 8);
    assert_ne!(first.branch(), second.branch());
    assert_eq!((first.call_id(), first.from_tag()), (second.call_id(), second.from_tag()));
    assert_eq!((first.cseq_number(), second.cseq_number()), (1, 2));
    assert_eq!(second.header(Name::Contact), Some("<sip:192.0.2.1:508>"));
    assert!(second.header(Name::Via).unwrap().contains("UDP 192.0.2.1:508;"));
    assert_eq!((first.request_uri(), first.body()), (second.request_uri(), second.body()));
    assert_eq!(first.header(Name::To), second.header(Name::To));
    assert_eq!(failures(&mut solo), [(flow(9), Failure::Silent)]);
    // The first is not sent to any more, the third comes after the same wait.
    let later = wait(&mut solo, PATIENCE);
    assert!(later.iter().all(|(to, _)| *to != 9), "{:?}", names(&later));
    assert_eq!(later.last().unwrap().0, 7);
    assert_eq!(later.last().unwrap().1.cseq_number(), 3);
}

#[test]
fn a_refused_datagram_and_a_503_move_on_at_once() {
    let mut solo = calling(&[8, 7]);
    sent(&mut solo);
    solo.endpoint.handle_transport_error(solo.now, flow(9));
    let second = sent(&mut solo);
    assert_eq!(names(&second), [(8, "INVITE".to_owned())]);
    solo.receive(&response(&second[0].1, 503, "x", "Retry-After: 7 (tired);duration=9"));
    let third = sent(&mut solo);
    assert_eq!(names(&third), [(8, "ACK".to_owned()), (7, "INVITE".to_owned())]);
    let tired = Failure::Unavailable { retry_after: Some(Duration::from_secs(7)) };
    assert_eq!(failures(&mut solo), [(flow(9), Failure::Unreachable), (flow(8), tired)]);
    solo.receive(&response(&third[1].1, 200, "x", CONTACT));
    assert!(matches!(solo.events()[..], [Event::Answered { .. }]));
    let ack = sent(&mut solo).remove(0).1;
    assert_eq!((ack.cseq_number(), ack.method()), (3, Some(Method::Ack)));
}

#[test]
fn after_the_last_target_the_call_ends_as_ever() {
    let mut solo = calling(&[8]);
    sent(&mut solo);
    solo.endpoint.handle_transport_error(solo.now, flow(9));
    let second = sent(&mut solo).remove(0).1;
    solo.receive(&response(&second, 503, "x", ""));
    let events = solo.events();
    let Some(Event::Ended { ended, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!((ended.cause, ended.status), (Cause::Rejected, Some(503)));
    wait(&mut solo, Duration::from_secs(64));
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn only_the_last_target_gets_the_whole_of_timer_b() {
    let mut solo = calling(&[8]);
    sent(&mut solo);
    wait(&mut solo, PATIENCE + Duration::from_secs(31));
    assert!(!solo.events().iter().any(|event| matches!(event, Event::Ended { .. })));
    wait(&mut solo, Duration::from_secs(1));
    assert_eq!(solo.ended().cause, Cause::Unreachable);
}

#[test]
fn not_even_the_last_one_where_the_owner_has_other_places() {
    let mut solo = Solo::new();
    let dial = telephony_sip::Dial { others: vec![target(8)], elsewhere: true, ..dial(flow(9)) };
    solo.endpoint.dial(solo.now, LEG, dial).unwrap();
    sent(&mut solo);
    let second = wait(&mut solo, PATIENCE).pop().unwrap().1;
    wait(&mut solo, PATIENCE);
    assert_eq!(solo.ended().cause, Cause::Unreachable);
    assert!(wait(&mut solo, Duration::from_secs(4)).is_empty(), "nothing is sent there any more");
    // It may have heard the INVITE all the same.
    solo.receive(&response(&second, 180, "x", CONTACT));
    assert_eq!(names(&sent(&mut solo)), [(8, "CANCEL".to_owned())]);
    solo.receive(&response(&second, 200, "x", CONTACT));
    // Both go to its Contact.
    assert_eq!(names(&sent(&mut solo)), [(9, "ACK".to_owned()), (9, "BYE".to_owned())]);
    wait(&mut solo, Duration::from_secs(128));
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn who_hangs_up_on_a_silent_target_still_waits_for_its_word() {
    let mut solo = Solo::new();
    solo.endpoint.dial(solo.now, LEG, telephony_sip::Dial { elsewhere: true, ..dial(flow(9)) }).unwrap();
    let invite = sent(&mut solo).remove(0).1;
    solo.endpoint.hangup(solo.now, LEG, None).unwrap();
    wait(&mut solo, PATIENCE);
    solo.receive(&response(&invite, 180, "x", CONTACT));
    assert_eq!(names(&sent(&mut solo)), [(9, "CANCEL".to_owned())]);
}

#[test]
fn a_target_that_said_anything_is_waited_for() {
    let mut solo = calling(&[8]);
    let invite = sent(&mut solo).remove(0).1;
    solo.receive(&response(&invite, 100, "", ""));
    assert!(wait(&mut solo, Duration::from_secs(30)).is_empty());
}

#[test]
fn a_target_that_rang_is_not_left_for_another() {
    let mut solo = calling(&[8]);
    let invite = sent(&mut solo).remove(0).1;
    solo.receive(&response(&invite, 180, "x", CONTACT));
    solo.receive(&response(&invite, 503, "x", ""));
    assert_eq!(names(&sent(&mut solo)), [(9, "ACK".to_owned())]);
    assert_eq!(solo.ended().status, Some(503));
}

#[test]
fn other_refusals_are_the_callees_own() {
    let mut solo = calling(&[8]);
    let invite = sent(&mut solo).remove(0).1;
    solo.receive(&response(&invite, 486, "x", ""));
    assert_eq!(solo.ended().status, Some(486));
    assert!(wait(&mut solo, PATIENCE).is_empty());
}

#[test]
fn a_late_ringing_of_a_former_target_is_cancelled() {
    let mut solo = calling(&[8]);
    let first = sent(&mut solo).remove(0).1;
    wait(&mut solo, PATIENCE);
    for _ in 0..2 {
        solo.receive(&response(&first, 180, "x", CONTACT));
    }
    let cancel = sent(&mut solo);
    assert_eq!(names(&cancel), [(9, "CANCEL".to_owned())]);
    assert_eq!(cancel[0].1.branch(), first.branch());
    solo.receive(&response(&cancel[0].1, 200, "x", ""));
    solo.receive(&response(&first, 487, "x", ""));
    assert_eq!(names(&sent(&mut solo)), [(9, "ACK".to_owned())]);
}

#[test]
fn a_late_answer_of_a_former_target_is_acknowledged_and_left() {
    let mut solo = calling(&[8]);
    let first = sent(&mut solo).remove(0).1;
    let second = wait(&mut solo, PATIENCE).pop().unwrap().1;
    solo.receive(&response(&second, 180, "y", CONTACT));
    sent(&mut solo);
    solo.receive(&response(&first, 200, "x", CONTACT));
    let said = sent(&mut solo);
    assert_eq!(names(&said), [(9, "ACK".to_owned()), (9, "BYE".to_owned())]);
    assert_eq!((said[0].1.cseq_number(), said[1].1.cseq_number()), (1, 2));
    solo.receive(&response(&first, 200, "x", CONTACT));
    assert_eq!(names(&sent(&mut solo)), [(9, "ACK".to_owned())]);
    // The call itself goes on where it is.
    solo.receive(&response(&second, 200, "y", CONTACT));
    assert!(solo.events().iter().any(|event| matches!(event, Event::Answered { .. })));
    solo.endpoint.hangup(solo.now, LEG, None).unwrap();
    wait(&mut solo, Duration::from_secs(128));
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn a_former_target_that_only_ever_rings_is_forgotten() {
    let mut solo = calling(&[8]);
    let first = sent(&mut solo).remove(0).1;
    let second = wait(&mut solo, PATIENCE).pop().unwrap().1;
    solo.receive(&response(&first, 180, "x", CONTACT));
    solo.receive(&response(&second, 486, "y", ""));
    wait(&mut solo, Duration::from_secs(70));
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn who_hangs_up_between_two_tries_meets_no_third() {
    let mut solo = calling(&[8, 7]);
    sent(&mut solo);
    let second = wait(&mut solo, PATIENCE).pop().unwrap().1;
    solo.endpoint.hangup(solo.now, LEG, None).unwrap();
    assert!(names(&sent(&mut solo)).is_empty(), "CANCEL waits for a provisional response (9.1)");
    let later = wait(&mut solo, PATIENCE);
    assert!(later.iter().all(|(to, message)| *to == 8 && is(message, Method::Invite)), "{:?}", names(&later));
    solo.receive(&response(&second, 100, "", ""));
    let cancel = sent(&mut solo);
    assert_eq!(names(&cancel), [(8, "CANCEL".to_owned())]);
    assert_eq!(cancel[0].1.cseq_number(), 2);
    solo.receive(&response(&second, 503, "x", ""));
    assert_eq!(names(&sent(&mut solo)), [(8, "ACK".to_owned())]);
}

/// The next hops asked about since.
fn hops(solo: &mut Solo) -> Vec<(u64, String)> {
    let hop = |event| match event {
        Event::NextHop { leg: LEG, dialog, uri } => Some((dialog, uri)),
        _ => None,
    };
    solo.events().into_iter().filter_map(hop).collect()
}

#[test]
fn a_next_hop_by_name_is_asked_about_ahead_and_used_once_it_is_known() {
    let mut solo = calling(&[]);
    let invite = sent(&mut solo).remove(0).1;
    let routed = format!("{CONTACT}\nRecord-Route: <sip:proxy.example.com;lr>");
    solo.receive(&response(&invite, 180, "x", &routed));
    let asked = hops(&mut solo);
    assert_eq!(asked[0].1, "sip:proxy.example.com;lr");
    solo.receive(&response(&invite, 200, "x", &routed));
    assert!(hops(&mut solo).is_empty(), "asked twice");
    assert_eq!(names(&sent(&mut solo)), [(9, "ACK".to_owned())]);
    solo.endpoint.next_hop_found(asked[0].0, "sip:other.example.com", &[flow(5)]);
    solo.endpoint.next_hop_found(asked[0].0, &asked[0].1, &[flow(7), flow(6)]);
    solo.receive(&response(&invite, 200, "z", &routed));
    solo.endpoint.hangup(solo.now, LEG, None).unwrap();
    let bye = sent(&mut solo).pop().unwrap();
    assert_eq!((bye.0, bye.1.method()), (7, Some(Method::Bye)));
    assert_eq!(bye.1.header(Name::Route), Some("<sip:proxy.example.com;lr>"));
}

#[test]
fn a_name_that_leads_to_the_peer_itself_or_nowhere_changes_nothing() {
    for places in [vec![flow(7), flow(9)], Vec::new()] {
        let mut solo = calling(&[]);
        let invite = sent(&mut solo).remove(0).1;
        solo.receive(&response(&invite, 200, "x", "Contact: <sip:bob@pbx.example.com>"));
        let asked = hops(&mut solo).remove(0);
        assert_eq!(asked.1, "sip:bob@pbx.example.com");
        solo.endpoint.next_hop_found(asked.0, &asked.1, &places);
        solo.endpoint.hangup(solo.now, LEG, None).unwrap();
        assert_eq!(names(&sent(&mut solo)), [(9, "ACK".to_owned()), (9, "BYE".to_owned())]);
    }
}

fn probe(solo: &mut Solo) -> Message {
    let probe = Probe {
        number: 42,
        target: target(9),
        request_uri: "sip:192.0.2.9".to_owned(),
        from: "<sip:gateway@192.0.2.1>".to_owned(),
        patience: PATIENCE,
        profile: Arc::clone(&solo.profile),
    };
    solo.endpoint.probe(solo.now, &probe).unwrap();
    sent(solo).remove(0).1
}

#[test]
fn any_answer_to_a_probe_but_503_and_408_means_life() {
    for (status, result) in [
        (200, Ok(200)),
        (404, Ok(404)),
        (405, Ok(405)),
        (408, Err(Failure::Silent)),
        (503, Err(Failure::Unavailable { retry_after: Some(Duration::from_secs(3)) })),
    ] {
        let mut solo = Solo::new();
        let options = probe(&mut solo);
        assert!(is(&options, Method::Options));
        solo.receive(&response(&options, 100, "", ""));
        assert_eq!(solo.endpoint.poll_probed(), None);
        solo.receive(&response(&options, status, "x", "Retry-After: 3"));
        assert_eq!(solo.endpoint.poll_probed(), Some(Probed { number: 42, result }));
        wait(&mut solo, Duration::from_secs(6));
        assert_eq!(solo.alive(), NOTHING);
    }
}

#[test]
fn a_probe_ends_by_silence_or_by_the_network() {
    let mut solo = Solo::new();
    probe(&mut solo);
    wait(&mut solo, PATIENCE);
    assert_eq!(solo.endpoint.poll_probed(), Some(Probed { number: 42, result: Err(Failure::Silent) }));
    probe(&mut solo);
    solo.endpoint.handle_transport_error(solo.now, flow(9));
    assert_eq!(solo.endpoint.poll_probed(), Some(Probed { number: 42, result: Err(Failure::Unreachable) }));
    assert_eq!(solo.alive(), NOTHING);
}
