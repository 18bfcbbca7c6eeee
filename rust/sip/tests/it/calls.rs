//! Whole calls between two endpoints: every way a call goes and ends, and the same under loss.

use std::time::Duration;

use telephony_sip::{Cause, Error, Event, LegId, Side};

use crate::wire::{LONG, Wire, assert_each_ended_once, ended, said, sdp};

const MOMENT: Duration = Duration::from_millis(100);

/// The callee's leg of the only incoming call.
fn callee(wire: &Wire) -> LegId {
    let incoming = |event: &Event| match event {
        Event::Incoming { leg, .. } => Some(*leg),
        _ => None,
    };
    wire.peers[1].events.iter().find_map(incoming).expect("an incoming call")
}

fn ringing() -> (Wire, LegId, LegId) {
    let mut wire = Wire::new(1);
    let caller = wire.dial(0, 1);
    wire.run(MOMENT);
    let callee = callee(&wire);
    wire.peers[1].endpoint.provisional(wire.now, callee, 180, None).unwrap();
    wire.run(MOMENT);
    (wire, caller, callee)
}

fn talking() -> (Wire, LegId, LegId) {
    let (mut wire, caller, callee) = ringing();
    wire.peers[1].endpoint.answer(wire.now, callee, sdp("v=0 answer")).unwrap();
    wire.run(MOMENT);
    (wire, caller, callee)
}

/// Lets everything run out, and checks that nothing is left and everybody was told once.
fn finish(wire: &mut Wire) {
    wire.run(LONG);
    wire.assert_empty();
    for peer in &wire.peers {
        assert_each_ended_once(&peer.events);
    }
}

fn names(events: &[Event]) -> Vec<&'static str> {
    let name = |event: &Event| match event {
        Event::Incoming { .. } => "incoming",
        Event::Progress { .. } => "progress",
        Event::Answered { .. } => "answered",
        Event::Confirmed { .. } => "confirmed",
        Event::Reoffer { .. } => "reoffer",
        Event::Key { .. } => "key",
        Event::Ended { .. } => "ended",
        Event::Said { .. } => "said",
        _ => "other",
    };
    events.iter().map(name).collect()
}

#[test]
fn a_call_is_set_up_and_hung_up_by_the_caller() {
    let (mut wire, caller, callee) = talking();
    wire.peers[0].endpoint.hangup(wire.now, caller, Some("Q.850;cause=16")).unwrap();
    finish(&mut wire);
    assert_eq!(names(&wire.peers[0].events), ["progress", "answered", "ended"]);
    assert_eq!(names(&wire.peers[1].events), ["incoming", "confirmed", "said", "ended"]);
    let by_peer = ended(&wire.peers[1].events, callee).remove(0);
    assert_eq!((by_peer.by, by_peer.cause), (Side::Remote, Cause::Bye));
    assert_eq!(by_peer.reason, "Q.850;cause=16", "the Reason header arrives (RFC 3326)");
    let sent: Vec<_> =
        wire.log.iter().map(|(from, line)| (*from, line.split(' ').nth(1).unwrap_or(""), line)).collect();
    assert_eq!(sent.len(), 7, "no message too many: {sent:?}");
}

#[test]
fn both_legs_know_the_call_id_from_the_start() {
    let mut wire = Wire::new(1);
    let caller = wire.dial(0, 1);
    let here = wire.peers[0].endpoint.call_id(caller).map(str::to_owned);
    wire.run(MOMENT);
    assert!(here.is_some());
    assert_eq!(wire.peers[1].endpoint.call_id(callee(&wire)), here.as_deref());
    wire.peers[1].endpoint.answer(wire.now, callee(&wire), None).unwrap();
    wire.run(MOMENT);
    assert_eq!(wire.peers[0].endpoint.call_id(caller), here.as_deref());
}

#[test]
fn the_callee_hangs_up() {
    let (mut wire, caller, callee) = talking();
    wire.peers[1].endpoint.hangup(wire.now, callee, None).unwrap();
    finish(&mut wire);
    assert_eq!(ended(&wire.peers[0].events, caller)[0].by, Side::Remote);
    assert_eq!(ended(&wire.peers[1].events, callee)[0].by, Side::Local);
}

#[test]
fn both_hang_up_at_once() {
    let (mut wire, caller, callee) = talking();
    wire.peers[0].endpoint.hangup(wire.now, caller, None).unwrap();
    wire.peers[1].endpoint.hangup(wire.now, callee, None).unwrap();
    finish(&mut wire);
    assert_eq!((wire.count(0, "BYE"), wire.count(1, "BYE")), (1, 1));
    assert_eq!(
        (wire.count(0, "SIP/2.0 200"), wire.count(1, "SIP/2.0 200 ")),
        (1, 2),
        "both BYEs are answered 200"
    );
}

#[test]
fn the_caller_gives_up_while_it_rings() {
    let (mut wire, caller, callee) = ringing();
    wire.peers[0]
        .endpoint
        .hangup(wire.now, caller, Some("SIP;cause=200;text=\"Call completed elsewhere\""))
        .unwrap();
    finish(&mut wire);
    let (here, there) = (&ended(&wire.peers[0].events, caller)[0], &ended(&wire.peers[1].events, callee)[0]);
    assert_eq!((here.by, here.cause), (Side::Local, Cause::Cancel));
    assert_eq!((there.by, there.cause, there.status), (Side::Remote, Cause::Cancel, Some(487)));
    assert!(there.reason.contains("elsewhere"));
    let said = said(&wire.peers[1].events, callee).map(|said| said.reasons);
    assert_eq!(said.as_deref(), Some("SIP;cause=200;text=\"Call completed elsewhere\""));
    assert_eq!((wire.count(0, "CANCEL"), wire.count(1, "SIP/2.0 487")), (1, 1));
    assert_eq!(wire.count(0, "ACK"), 1);
}

#[test]
fn the_callee_rejects() {
    let (mut wire, caller, callee) = ringing();
    wire.peers[1].endpoint.reject(wire.now, callee, 486, None, &[]).unwrap();
    finish(&mut wire);
    let there = &ended(&wire.peers[0].events, caller)[0];
    assert_eq!((there.by, there.cause, there.status), (Side::Remote, Cause::Rejected, Some(486)));
    assert_eq!(there.reason, "Busy Here");
    assert_eq!(ended(&wire.peers[1].events, callee)[0].by, Side::Local);
}

#[test]
fn what_a_refusal_says_beside_its_status_is_told() {
    let (mut wire, caller, callee) = ringing();
    let contacts = "<sip:third@192.0.2.9>;q=0.25, \"B, b\" <sip:first@192.0.2.9>, sip:second@192.0.2.9;q=0.7";
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let headers = [
        header("Reason", "Q.850;cause=22, SIP;cause=302;text=\"moved, away\""),
        header("Contact", contacts),
        header("Reason", "X;cause=1"),
    ];
    wire.peers[1].endpoint.reject(wire.now, callee, 302, None, &headers).unwrap();
    finish(&mut wire);
    let said = said(&wire.peers[0].events, caller).unwrap();
    assert_eq!(said.reasons, "Q.850;cause=22, SIP;cause=302;text=\"moved, away\", X;cause=1");
    assert_eq!(said.contacts, ["first", "second", "third"].map(|user| format!("sip:{user}@192.0.2.9")));
}

#[test]
fn a_hangup_before_the_answer_is_a_final_response() {
    let (mut wire, caller, callee) = ringing();
    wire.peers[1].endpoint.hangup(wire.now, callee, None).unwrap();
    finish(&mut wire);
    assert_eq!(ended(&wire.peers[0].events, caller)[0].status, Some(480));
}

#[test]
fn nobody_answers_in_time() {
    let (mut wire, caller, callee) = ringing();
    wire.run(Duration::from_secs(121));
    let here = &ended(&wire.peers[0].events, caller)[0];
    assert_eq!((here.by, here.cause), (Side::System, Cause::Timeout));
    finish(&mut wire);
    assert_eq!(ended(&wire.peers[1].events, callee)[0].cause, Cause::Cancel);
}

#[test]
fn hanging_up_twice_or_too_late_does_nothing() {
    let (mut wire, caller, _) = talking();
    for _ in 0..3 {
        wire.peers[0].endpoint.hangup(wire.now, caller, None).unwrap();
    }
    finish(&mut wire);
    assert_eq!(wire.count(0, "BYE"), 1);
    wire.peers[0].endpoint.hangup(wire.now, caller, None).unwrap();
    assert_eq!(wire.peers[0].endpoint.answer(wire.now, caller, None), Err(Error::UnknownLeg(caller)));
}

#[test]
fn commands_that_do_not_fit_the_state_change_nothing() {
    let (mut wire, caller, callee) = talking();
    let wrong = |result| matches!(result, Err(Error::WrongState { .. }));
    let now = wire.now;
    assert!(wrong(wire.peers[0].endpoint.answer(now, caller, None)));
    assert!(wrong(wire.peers[1].endpoint.answer(now, callee, None)));
    assert!(wrong(wire.peers[1].endpoint.reject(now, callee, 486, None, &[])));
    assert!(wrong(wire.peers[1].endpoint.provisional(now, callee, 180, None)));
    assert!(wrong(wire.peers[1].endpoint.answer_reoffer(now, callee, None)));
    assert_eq!(wire.peers[1].endpoint.reject(now, callee, 200, None, &[]), Err(Error::Status(200)));
    let stolen = [("Via".to_owned(), "SIP/2.0/UDP evil".to_owned())];
    assert!(matches!(
        wire.peers[1].endpoint.reject(now, callee, 486, None, &stolen),
        Err(Error::ReservedHeader(_))
    ));
    let smuggled = Some("x\r\nEvil: yes");
    assert!(matches!(wire.peers[0].endpoint.hangup(now, caller, smuggled), Err(Error::Build(_))));
    wire.peers[0].endpoint.hangup(now, caller, None).unwrap();
    finish(&mut wire);
}

#[test]
fn a_full_house_refuses_the_next_call_and_a_draining_one_every_new_call() {
    let (mut wire, caller, _) = talking();
    wire.peers[1].endpoint.refuse_new(Some(3..=9));
    let second = wire.dial(0, 2);
    wire.run(MOMENT);
    let refused = &ended(&wire.peers[0].events, second)[0];
    assert_eq!((refused.status, refused.cause), (Some(503), Cause::Rejected));
    wire.peers[0].endpoint.hangup(wire.now, caller, None).unwrap();
    finish(&mut wire);
    assert_eq!(wire.count(1, "SIP/2.0 200"), 2, "running calls end as ever");
    wire.peers[1].endpoint.refuse_new(None);
    wire.dial(0, 3);
    wire.run(MOMENT);
    assert_eq!(wire.peers[1].endpoint.stats().legs, 1);
}

/// Runs `calls` calls over a wire that loses and reorders; how many were set up on both sides.
fn lossy(seed: u8, loss: u64, calls: u64) -> usize {
    let mut wire = Wire::new(seed);
    (wire.loss, wire.jitter) = (loss, Duration::from_millis(40));
    for leg in 0..calls {
        wire.dial(0, leg);
    }
    for step in 0..1200 {
        wire.run(MOMENT);
        answer_the_rest(&mut wire, step);
    }
    for leg in 0..calls {
        let side = (leg % 2) as usize;
        hang_up_all(&mut wire, side);
    }
    finish(&mut wire);
    let set_up = |event: &&Event| matches!(event, Event::Answered { .. });
    wire.peers[0].events.iter().filter(set_up).count()
}

fn answer_the_rest(wire: &mut Wire, step: usize) {
    let now = wire.now;
    for event in wire.peers[1].news() {
        if let Event::Incoming { leg, .. } = event {
            let callee = &mut wire.peers[1].endpoint;
            if step.is_multiple_of(2) {
                callee.provisional(now, leg, 180, None).unwrap();
            }
            callee.answer(now, leg, sdp("v=0 answer")).unwrap();
        }
    }
}

fn hang_up_all(wire: &mut Wire, side: usize) {
    let legs: Vec<LegId> = wire.peers[side].events.iter().map(Event::leg).collect();
    let now = wire.now;
    for leg in legs {
        wire.peers[side].endpoint.hangup(now, leg, None).unwrap();
    }
}

#[test]
fn with_a_tenth_lost_all_calls_are_set_up_and_end_cleanly() {
    for seed in 1..=4 {
        assert_eq!(lossy(seed, 100, 100), 100, "seed {seed}");
    }
}

#[test]
fn with_a_third_lost_calls_still_end_once_on_both_sides() {
    let set_up: usize = (1..=4).map(|seed| lossy(seed, 300, 100)).sum();
    assert!(set_up >= 380, "{set_up} of 400 calls");
}

#[test]
fn with_everything_lost_the_caller_learns_it() {
    let mut wire = Wire::new(9);
    wire.loss = 1000;
    let caller = wire.dial(0, 1);
    finish(&mut wire);
    let here = &ended(&wire.peers[0].events, caller)[0];
    assert_eq!((here.by, here.cause, here.status), (Side::System, Cause::Unreachable, None));
}
