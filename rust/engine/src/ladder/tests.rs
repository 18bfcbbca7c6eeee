//! What is kept, in which order, and what goes first.

use super::*;
use std::time::Duration;

const KIB: usize = 1024;

fn leg(number: u64) -> LegId {
    LegId::from_raw(number << 8)
}

fn say(ladder: &Ladder, start: &str, call_id: &str) {
    say_at(ladder, Instant::now(), start, call_id);
}

fn say_at(ladder: &Ladder, at: Instant, start: &str, call_id: &str) {
    let flow = Flow::udp(([192, 0, 2, 1], 5060).into(), ([192, 0, 2, 2], 5062).into());
    let message = format!("{start}\r\nVia: x\r\nCall-ID: {call_id}\r\n\r\n{}", "x".repeat(400));
    ladder.note(at, !start.starts_with("SIP"), flow, message.as_bytes());
}

/// A call from INVITE to BYE, its leg open and, if it `ends`, closed.
fn call(ladder: &Ladder, number: u64, ends: bool) {
    let call_id = format!("call-{number}");
    say(ladder, &format!("INVITE sip:{number}"), &call_id);
    ladder.open(leg(number), &call_id);
    for start in ["SIP/2.0 100", "SIP/2.0 200", "ACK sip:a"] {
        say(ladder, start, &call_id);
    }
    if ends {
        ladder.close(leg(number));
        say(ladder, "BYE sip:a", &call_id);
    }
}

/// The start lines told of some legs, and whether there were more.
fn starts(ladder: &Ladder, legs: &[LegId]) -> (Vec<String>, bool) {
    let rungs = ladder.read(legs);
    let start =
        |rung: &Rung| String::from_utf8_lossy(&rung.message).lines().next().unwrap_or_default().to_owned();
    (rungs.messages.iter().map(start).collect(), rungs.truncated)
}

fn sizes(ladder: &Ladder) -> (usize, usize, usize) {
    let kept = lock(ladder.kept.as_ref().unwrap());
    (kept.book.dialogues.len(), kept.book.legs.len(), kept.book.aside)
}

#[test]
fn the_messages_of_legs_come_in_their_order() {
    let ladder = Ladder::new(64 * KIB);
    say(&ladder, "INVITE sip:a", "one");
    ladder.open(leg(1), "one");
    say(&ladder, "INVITE sip:b", "two");
    ladder.open(leg(2), "two");
    say(&ladder, "SIP/2.0 200 b", "two");
    say(&ladder, "SIP/2.0 200 a", "one");
    say(&ladder, "OPTIONS sip:c", "three");
    let (lines, truncated) = starts(&ladder, &[leg(2), leg(1), leg(2)]);
    assert_eq!(lines, ["INVITE sip:a", "INVITE sip:b", "SIP/2.0 200 b", "SIP/2.0 200 a"]);
    assert!(!truncated);
    assert_eq!(starts(&ladder, &[leg(1)]).0, ["INVITE sip:a", "SIP/2.0 200 a"]);
    let first = &ladder.read(&[leg(2)]).messages[0];
    assert_eq!((first.leg, first.sent, first.transport), (leg(2), true, Transport::Udp));
    assert_eq!((first.local.port(), first.remote.port()), (5060, 5062));
}

#[test]
fn each_message_has_the_time_it_passed() {
    let ladder = Ladder::new(64 * KIB);
    let ago = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
    say_at(&ladder, ago, "INVITE sip:a", "one");
    ladder.open(leg(1), "one");
    let passed = ladder.read(&[leg(1)]).messages[0].at.elapsed().unwrap();
    assert!((59..62).contains(&passed.as_secs()), "{passed:?}");
}

#[test]
fn only_an_invite_begins_a_ladder() {
    let ladder = Ladder::new(64 * KIB);
    for start in ["OPTIONS sip:a", "REGISTER sip:a", "SIP/2.0 200 OK", "BYE sip:a"] {
        say(&ladder, start, "alone");
    }
    assert_eq!(sizes(&ladder), (0, 0, 0));
    say(&ladder, "INVITE sip:a", "alone");
    say(&ladder, "OPTIONS sip:a", "alone");
    ladder.open(leg(1), "alone");
    assert_eq!(starts(&ladder, &[leg(1)]).0, ["INVITE sip:a", "OPTIONS sip:a"]);
}

#[test]
fn ended_calls_go_oldest_first_and_leave_nothing() {
    let ladder = Ladder::new(64 * KIB);
    (1..=100).for_each(|number| call(&ladder, number, true));
    assert_eq!(starts(&ladder, &[leg(1)]), (vec![], true));
    let (latest, truncated) = starts(&ladder, &[leg(100)]);
    assert_eq!((latest.len(), truncated), (5, false));
    let (dialogues, legs, aside) = sizes(&ladder);
    assert_eq!(dialogues, legs);
    assert!((5..20).contains(&dialogues) && aside == 0, "{dialogues} dialogues, {aside} bytes aside");
}

#[test]
fn a_running_call_keeps_its_beginning_while_others_pass() {
    let ladder = Ladder::new(64 * KIB);
    call(&ladder, 1, false);
    (2..=200).for_each(|number| call(&ladder, number, true));
    say(&ladder, "BYE sip:1", "call-1");
    let (lines, truncated) = starts(&ladder, &[leg(1)]);
    assert_eq!(lines, ["INVITE sip:1", "SIP/2.0 100", "SIP/2.0 200", "ACK sip:a", "BYE sip:1"]);
    assert!(!truncated && sizes(&ladder).2 > 0);
    ladder.close(leg(1));
    assert_eq!(starts(&ladder, &[leg(1)]).0.len(), 5, "it can still be read");
    (201..=300).for_each(|number| call(&ladder, number, true));
    assert_eq!(starts(&ladder, &[leg(1)]), (vec![], true));
    assert_eq!(sizes(&ladder).2, 0);
}

#[test]
fn running_calls_take_no_more_than_there_is() {
    let ladder = Ladder::new(64 * KIB);
    (1..=500).for_each(|number| call(&ladder, number, false));
    assert!(sizes(&ladder).2 <= 16 * KIB);
    let (lines, truncated) = starts(&ladder, &[leg(1)]);
    assert!(!lines.is_empty() && !truncated, "the first are set aside");
    assert_eq!(starts(&ladder, &[leg(250)]), (vec![], true));
    assert_eq!(sizes(&ladder).0, 500, "a running call is known");
    (1..=500).for_each(|number| ladder.close(leg(number)));
    assert!(sizes(&ladder).0 < 20);
}

#[test]
fn a_talkative_call_is_cut_in_the_middle() {
    let ladder = Ladder::new(4096 * KIB);
    say(&ladder, "INVITE sip:a", "long");
    ladder.open(leg(1), "long");
    (2..=1000).for_each(|number| say(&ladder, &format!("INFO {number}"), "long"));
    let (lines, truncated) = starts(&ladder, &[leg(1)]);
    assert_eq!((lines.len(), truncated), (FIRST + LATEST, true));
    assert_eq!((&*lines[0], &*lines[FIRST - 1], &*lines[FIRST]), ("INVITE sip:a", "INFO 128", "INFO 873"));
    assert_eq!(lines.last().map(String::as_str), Some("INFO 1000"));
}

#[test]
fn a_call_id_used_again_is_bounded_too() {
    let ladder = Ladder::new(1024 * KIB);
    for number in 1..=100 {
        say(&ladder, &format!("INVITE sip:{number}"), "same");
        ladder.open(leg(number), "same");
        ladder.close(leg(number));
    }
    assert_eq!(sizes(&ladder).1, LEGS);
    assert_eq!(starts(&ladder, &[leg(100)]).0.len(), 100);
}

#[test]
fn nothing_is_kept_without_memory() {
    let ladder = Ladder::new(0);
    call(&ladder, 1, false);
    assert_eq!(ladder.read(&[leg(1)]), Rungs::default());
}
