//! Every timer of RFC 3261 table 4 and RFC 6026, seen from outside: what is sent when, and when it is forgotten.

use std::time::Duration;

use telephony_sip::{Cause, Config, Event, Method, Side, TimerValues};

use crate::wire::{CONTACT, LONG, NOTHING, Solo, first_line, invite, is, request, response, sdp, tag_of};

const NONE: (usize, usize, usize, usize, usize) = NOTHING;

fn seconds(value: f64) -> Duration {
    Duration::from_secs_f64(value)
}

/// The times at which `what` was sent.
fn times(sent: &[(f64, String)], what: &str) -> Vec<f64> {
    sent.iter().filter(|(_, line)| line == what).map(|(at, _)| *at).collect()
}

#[test]
fn timer_a_doubles_and_timer_b_ends_an_invite_nobody_answers() {
    let mut solo = Solo::new();
    solo.dial(1);
    assert_eq!(first_line(&solo.sent_one()), "INVITE");
    let sent = solo.advance(LONG);
    assert_eq!(times(&sent, "INVITE"), [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]);
    let ended = solo.ended();
    assert_eq!((ended.by, ended.cause), (Side::System, Cause::Unreachable));
    assert_eq!(solo.alive(), NONE);
}

#[test]
fn other_base_values_scale_every_timer() {
    let timers = TimerValues { t1: seconds(0.125), t2: seconds(0.5), t4: seconds(1.0) };
    let mut solo = Solo::with(Config { timers, ..Config::default() });
    solo.dial(1);
    solo.sent();
    let sent = solo.advance(LONG);
    assert_eq!(times(&sent, "INVITE"), [0.125, 0.375, 0.875, 1.875, 3.875, 7.875]);
    assert_eq!(solo.ended().cause, Cause::Unreachable);
}

#[test]
fn timers_of_no_length_do_not_hang() {
    let timers = TimerValues { t1: Duration::ZERO, t2: Duration::ZERO, t4: Duration::ZERO };
    let mut solo = Solo::with(Config { timers, ..Config::default() });
    solo.dial(1);
    let leg = solo.incoming(&invite("a"));
    solo.endpoint.answer(solo.now, leg, None).unwrap();
    solo.advance(LONG);
    assert_eq!(solo.alive(), NONE);
}

#[test]
fn a_provisional_response_stops_timers_a_and_b() {
    let mut solo = Solo::new();
    solo.dial(1);
    let invite = solo.sent_one();
    solo.receive(&response(&invite, 100, "", ""));
    assert_eq!(solo.advance(seconds(100.0)), []);
    assert_eq!(solo.alive().0, 1, "it waits for as long as the caller does");
}

#[test]
fn a_failure_is_acknowledged_again_until_timer_d() {
    let mut solo = Solo::new();
    solo.dial(1);
    let invite = solo.sent_one();
    let busy = response(&invite, 486, "bob", "");
    solo.receive(&busy);
    let ack = solo.sent_one();
    assert!(is(&ack, Method::Ack));
    assert_eq!(ack.branch(), invite.branch(), "the ACK of a failure has the INVITE's branch (17.1.1.3)");
    assert_eq!(ack.to_tag(), Some("bob"));
    assert_eq!(ack.request_uri(), invite.request_uri());
    solo.advance(seconds(31.9));
    solo.receive(&busy);
    assert!(is(&solo.sent_one(), Method::Ack));
    assert_eq!(solo.ended().cause, Cause::Rejected);
    solo.advance(seconds(0.2));
    assert_eq!(solo.alive(), NONE, "timer D is 32 s");
    solo.receive(&busy);
    assert!(solo.sent().is_empty());
}

/// A confirmed outgoing call; the INVITE's 2xx and ACK are behind us.
fn talking(solo: &mut Solo) -> (telephony_sip::LegId, String) {
    let leg = solo.dial(1);
    let invite = solo.sent_one();
    let ok = response(&invite, 200, "bob", CONTACT);
    solo.receive(&ok);
    assert!(is(&solo.sent_one(), Method::Ack));
    (leg, ok)
}

#[test]
fn a_2xx_is_acknowledged_again_until_timer_m() {
    let mut solo = Solo::new();
    let (_, ok) = talking(&mut solo);
    solo.advance(seconds(31.9));
    solo.receive(&ok);
    assert!(is(&solo.sent_one(), Method::Ack));
    solo.advance(seconds(0.2));
    assert_eq!(solo.alive().0, 0, "timer M is 64*T1");
    solo.receive(&ok);
    assert!(solo.sent().is_empty());
}

#[test]
fn timer_e_doubles_to_t2_and_timer_f_ends_a_bye_nobody_answers() {
    let mut solo = Solo::new();
    let (leg, _) = talking(&mut solo);
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    assert!(is(&solo.sent_one(), Method::Bye));
    let sent = solo.advance(LONG);
    assert_eq!(times(&sent, "BYE"), [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]);
    assert_eq!(solo.alive(), NONE, "timer F is 64*T1");
}

#[test]
fn timer_e_runs_at_t2_once_somebody_answered() {
    let mut solo = Solo::new();
    let (leg, _) = talking(&mut solo);
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    let bye = solo.sent_one();
    solo.receive(&response(&bye, 100, "", ""));
    let sent = solo.advance(seconds(10.0));
    assert_eq!(times(&sent, "BYE"), [0.5, 4.5, 8.5]);
}

#[test]
fn timer_k_keeps_an_answered_bye_for_t4() {
    let mut solo = Solo::new();
    let (leg, _) = talking(&mut solo);
    solo.advance(seconds(40.0));
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    let bye = solo.sent_one();
    solo.receive(&response(&bye, 200, "", ""));
    assert_eq!(solo.advance(seconds(4.9)), []);
    assert_eq!(solo.alive().0, 1);
    solo.advance(seconds(0.2));
    assert_eq!(solo.alive(), NONE);
}

#[test]
fn timer_g_repeats_a_failure_and_timer_h_gives_up_on_its_ack() {
    let mut solo = Solo::new();
    let leg = solo.incoming(&invite("a"));
    solo.endpoint.reject(solo.now, leg, 486, None, &[]).unwrap();
    solo.sent();
    let sent = solo.advance(LONG);
    assert_eq!(times(&sent, "486"), [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]);
    assert_eq!(solo.alive(), NONE, "timer H is 64*T1");
}

#[test]
fn an_ack_stops_timer_g_and_timer_i_swallows_more_of_them() {
    let mut solo = Solo::new();
    let leg = solo.incoming(&invite("a"));
    solo.endpoint.reject(solo.now, leg, 486, None, &[]).unwrap();
    let tag = tag_of(&solo.sent()[1]);
    let ack = request("ACK", "a", 1, &tag, "");
    solo.receive(&ack);
    assert_eq!(solo.advance(seconds(4.9)), []);
    solo.receive(&ack);
    assert_eq!(solo.endpoint.stats().dropped.stray_ack, 0);
    assert_eq!(solo.alive().1, 1);
    solo.advance(seconds(0.2));
    assert_eq!(solo.alive(), NONE, "timer I is T4");
}

#[test]
fn timer_j_answers_a_repeated_bye() {
    let mut solo = Solo::new();
    let leg = solo.incoming(&invite("a"));
    solo.endpoint.answer(solo.now, leg, sdp("v=0")).unwrap();
    let tag = tag_of(&solo.sent()[1]);
    solo.receive(&request("ACK", "b", 1, &tag, ""));
    solo.advance(seconds(40.0));
    let bye = request("BYE", "c", 2, &tag, "");
    solo.receive(&bye);
    assert_eq!(first_line(&solo.sent_one()), "200");
    solo.advance(seconds(31.9));
    solo.receive(&bye);
    assert_eq!(first_line(&solo.sent_one()), "200");
    solo.advance(seconds(0.2));
    assert_eq!(solo.alive(), NONE, "timer J is 64*T1");
    solo.receive(&bye);
    assert_eq!(first_line(&solo.sent_one()), "481");
}

#[test]
fn a_2xx_is_repeated_up_to_t2_until_its_ack_never_came_and_bye_follows() {
    let mut solo = Solo::new();
    let leg = solo.incoming(&invite("a"));
    solo.endpoint.answer(solo.now, leg, sdp("v=0")).unwrap();
    solo.sent();
    let sent = solo.advance(seconds(32.0));
    assert_eq!(times(&sent, "200"), [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]);
    assert_eq!(times(&sent, "BYE"), [32.0], "13.3.1.4");
    let ended = solo.ended();
    assert_eq!((ended.by, ended.cause), (Side::System, Cause::NoAck));
    solo.advance(LONG);
    assert_eq!(solo.alive(), NONE);
}

#[test]
fn timer_l_swallows_repeated_invites_after_the_2xx() {
    let mut solo = Solo::new();
    let leg = solo.incoming(&invite("a"));
    solo.endpoint.answer(solo.now, leg, sdp("v=0")).unwrap();
    let tag = tag_of(&solo.sent()[1]);
    solo.receive(&request("ACK", "b", 1, &tag, ""));
    solo.receive(&invite("a"));
    assert!(solo.sent().is_empty(), "RFC 6026 7.1: no answer but the user's own 2xx");
    solo.advance(seconds(31.9));
    assert_eq!(solo.alive().1, 1);
    solo.advance(seconds(0.2));
    assert_eq!(solo.alive().1, 0, "timer L is 64*T1");
}

#[test]
fn a_repeated_invite_gets_the_last_provisional_response() {
    let mut solo = Solo::new();
    let leg = solo.incoming(&invite("a"));
    assert_eq!(first_line(&solo.sent_one()), "100");
    solo.receive(&invite("a"));
    assert_eq!(first_line(&solo.sent_one()), "100");
    solo.endpoint.provisional(solo.now, leg, 180, None).unwrap();
    solo.sent();
    solo.receive(&invite("a"));
    assert_eq!(first_line(&solo.sent_one()), "180");
    assert_eq!(solo.events().len(), 0);
}

#[test]
fn a_provisional_response_is_repeated_every_minute() {
    let mut solo = Solo::new();
    let leg = solo.incoming(&invite("a"));
    solo.endpoint.provisional(solo.now, leg, 180, None).unwrap();
    solo.sent();
    assert_eq!(times(&solo.advance(seconds(200.0)), "180"), [60.0, 120.0, 180.0], "13.3.1.1");
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    solo.advance(LONG);
    assert_eq!(solo.alive(), NONE);
}

#[test]
fn expires_ends_an_invite_with_487() {
    let mut solo = Solo::new();
    solo.incoming(&request("INVITE", "a", 1, "", "Expires: 20"));
    solo.sent();
    let sent = solo.advance(seconds(20.0));
    assert_eq!(times(&sent, "487"), [20.0], "13.3.1");
    let ended = solo.ended();
    assert_eq!((ended.cause, ended.status), (Cause::Timeout, Some(487)));
}

#[test]
fn a_cancel_nobody_obeys_is_given_up_after_64_t1() {
    let mut solo = Solo::new();
    let leg = solo.dial(1);
    let invite = solo.sent_one();
    solo.receive(&response(&invite, 180, "bob", CONTACT));
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    let cancel = solo.sent_one();
    solo.receive(&response(&cancel, 200, "bob", ""));
    solo.advance(seconds(31.9));
    assert_eq!(solo.alive().3, 1);
    solo.advance(seconds(0.2));
    assert_eq!(solo.alive(), NONE, "9.1");
}

#[test]
fn an_unanswered_update_gets_a_late_100_and_then_504() {
    let mut solo = Solo::new();
    let leg = solo.incoming(&invite("a"));
    solo.endpoint.answer(solo.now, leg, sdp("v=0")).unwrap();
    let tag = tag_of(&solo.sent()[1]);
    solo.receive(&request("ACK", "b", 1, &tag, ""));
    let update = request("UPDATE", "c", 2, &tag, "Content-Type: application/sdp\n\nv=0 hold");
    solo.receive(&update);
    assert!(solo.sent().is_empty(), "RFC 4320 4.1: no 100 at once");
    let sent = solo.advance(seconds(20.0));
    assert_eq!(times(&sent, "100"), [3.5]);
    assert_eq!(times(&sent, "504"), [16.0], "RFC 3311 5.2");
    solo.receive(&update);
    assert_eq!(first_line(&solo.sent_one()), "504");
}

#[test]
fn an_unanswered_reinvite_gets_500() {
    let mut solo = Solo::new();
    let leg = solo.incoming(&invite("a"));
    solo.endpoint.answer(solo.now, leg, sdp("v=0")).unwrap();
    let tag = tag_of(&solo.sent()[1]);
    solo.receive(&request("ACK", "b", 1, &tag, ""));
    solo.receive(&request("INVITE", "c", 2, &tag, "Content-Type: application/sdp\n\nv=0 hold"));
    assert_eq!(first_line(&solo.sent_one()), "100");
    assert_eq!(times(&solo.advance(seconds(16.0)), "500"), [16.0]);
    assert!(solo.events().iter().any(|event| matches!(event, Event::ReofferLapsed { .. })));
    assert_eq!(solo.alive().3, 1, "the call goes on as it was (14.1)");
}
