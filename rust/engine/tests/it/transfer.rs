//! Transfers between engines: REFER, its notices, and an INVITE that takes a leg's place.

use crate::rig::*;
use telephony_engine::{Cause, Command, Event};

#[test]
fn a_refer_is_taken_up_and_told_of() {
    let _alone = alone();
    let (mut a, mut b) = (Node::start(&config()), Node::start(&config()));
    let (out, into) = connect(&mut a, &mut b);
    let target = "sip:carol@192.0.2.7?X-Note=a".to_owned();
    let referred_by = Some("<sip:b@example.com>".to_owned());
    b.run(Command::Refer { leg: into, target, replaces: None, referred_by });
    let asked = a.wait("REFER", |event| match event {
        Event::Refer(asked) => Some(asked.clone()),
        _ => None,
    });
    assert_eq!((asked.leg, asked.uri.as_str()), (out, "sip:carol@192.0.2.7"));
    assert_eq!(asked.headers, [("X-Note".to_owned(), "a".to_owned())]);
    assert_eq!((asked.referred_by.as_str(), asked.replaces), ("<sip:b@example.com>", None));
    a.run(Command::AcceptRefer { leg: out, id: asked.id });
    let status = b.wait("the answer", |event| match event {
        Event::ReferAnswered { leg, status } if *leg == into => Some(*status),
        _ => None,
    });
    assert_eq!(status, 202);
    a.run(Command::NotifyRefer { leg: out, id: asked.id, status: 200, reason: String::new() });
    a.hang_up(out);
    let told = b.wait("the outcome", |event| match event {
        Event::Referral { status, last: true, .. } => Some(*status),
        _ => None,
    });
    assert_eq!(told, Some(200));
    assert_eq!(b.ended(into).cause, Cause::Bye, "after its outcome");
}

#[test]
fn a_call_takes_the_place_of_another_at_its_peer() {
    let _alone = alone();
    let (mut a, mut b) = (Node::start(&config()), Node::start(&config()));
    let (out, into) = connect(&mut a, &mut b);
    let leg = a.engine.next_leg(telephony_engine::Kind::Sip, None).unwrap();
    let mut dial = call(leg, "sip:nobody@192.0.2.1", &G711);
    dial.replaces = Some(out);
    a.run(Command::Dial(Box::new(dial)));
    let incoming = b.incoming();
    assert_eq!(incoming.replaces, Some(into));
    b.run(Command::Answer { leg: incoming.leg });
    a.answered(leg);
    b.hang_up(into);
    assert_eq!(a.ended(out).cause, Cause::Bye);
    a.hang_up(leg);
    assert_eq!(b.ended(incoming.leg).cause, Cause::Bye);
    let leg = a.engine.next_leg(telephony_engine::Kind::Sip, None).unwrap();
    let mut dial = call(leg, "sip:nobody@192.0.2.1", &G711);
    dial.replaces = Some(out);
    a.run(Command::Dial(Box::new(dial)));
    assert_eq!(a.ended(leg).cause, Cause::Unreachable, "a leg that is gone is nobody's to replace");
}
