//! Legs dialled for a caller: what is plain is passed on without a command, and told of afterwards.

use crate::rig::*;
use std::time::{Duration, Instant};
use telephony_engine::{Caller, Cause, Codec, Command, Ended, Event, Kind, LegId, PassedOn, Side};

/// A gateway between a caller and a callee that speak bare SIP.
struct Between {
    gateway: Node,
    caller: Peer,
    callee: Peer,
    inbound: LegId,
    outbound: LegId,
    /// The INVITE that the callee got.
    invite: String,
}

impl Between {
    /// The caller has called, and the callee's leg was dialled for it.
    fn new(codecs: &[Codec]) -> Self {
        let mut gateway = Node::start(&config());
        let address = gateway.engine.sip_address();
        let (caller, callee) = (Peer::new(address), Peer::new(address));
        caller.request("INVITE", "linked", 1, "", &caller.sdp("0"));
        let inbound = gateway.incoming().leg;
        let outbound = gateway.engine.next_leg(Kind::Sip, Some(inbound)).unwrap();
        let caller_leg = Caller { leg: inbound, codecs: codecs.to_vec() };
        let dial =
            telephony_engine::Dial { caller: Some(caller_leg), ..call(outbound, &callee.uri(), &G711) };
        gateway.run(Command::Dial(Box::new(dial)));
        let invite = callee.expect("INVITE ");
        Self { gateway, caller, callee, inbound, outbound, invite }
    }

    fn ring(&self) {
        self.callee.respond(&self.invite, "180 Ringing", "");
        let ringing = self.caller.expect("SIP/2.0 180");
        assert!(!ringing.contains("application/sdp"));
    }

    /// The callee answers, the caller too, and both confirm; the caller's view of its dialog.
    fn answer(&self) -> String {
        self.callee.respond(&self.invite, "200 OK", &self.callee.sdp("0"));
        self.callee.expect("ACK ");
        let answer = self.caller.expect("SIP/2.0 200");
        self.caller.request("ACK", "linked", 1, &to_tag(&answer), "");
        answer
    }

    fn ringing(&mut self) -> (u16, Option<PassedOn>) {
        let of = self.outbound;
        self.gateway.wait("Ringing", |event| match event {
            Event::Ringing { leg, status, passed_on, .. } if *leg == of => Some((*status, *passed_on)),
            _ => None,
        })
    }

    fn answered(&mut self) -> (Codec, Option<PassedOn>) {
        let (codec, _, passed_on) = self.answer_told();
        (codec, passed_on)
    }

    /// The same, and whether it says since when the callee rang.
    fn answer_told(&mut self) -> (Codec, bool, Option<PassedOn>) {
        let of = self.outbound;
        self.gateway.wait("Answered", |event| match event {
            Event::Answered { leg, codec, rang, passed_on, .. } if *leg == of => {
                Some((*codec, rang.is_some(), *passed_on))
            }
            _ => None,
        })
    }

    fn has_rung(&self) -> bool {
        self.gateway.seen.iter().any(|event| matches!(event, Event::Ringing { .. }))
    }

    fn ended(&mut self, leg: LegId) -> Ended {
        self.gateway.ended(leg)
    }

    /// The caller hangs up, and the callee is not hung up on before the user says so.
    fn part_by_command(&mut self, cseq: u32, answer: &str) {
        self.caller.request("BYE", "linked", cseq, &to_tag(answer), "");
        assert!(!self.ended(self.inbound).passed_on);
        assert_eq!(self.gateway.engine.stats().legs, 1, "the callee's");
        self.gateway.hang_up(self.outbound);
        self.callee.expect("BYE ");
    }

    /// A sound of the caller reaches the callee.
    fn is_heard(&self, answer: &str) -> bool {
        self.caller.rtp.send_to(&rtp_packet(1, 7), rtp_address(answer)).unwrap();
        let mut packet = [0; 2048];
        self.callee.rtp.recv(&mut packet).is_ok_and(|length| length > 12)
    }
}

const PCMU: PassedOn = PassedOn { codec: Some(Codec::Pcmu) };

#[test]
fn a_plain_call_needs_no_command_but_dial() {
    let _alone = alone();
    let mut call = Between::new(&G711);
    call.ring();
    assert_eq!(call.ringing(), (180, Some(PCMU)));
    let answer = call.answer();
    assert!(call.is_heard(&answer));
    let reason = "Reason: Q.850;cause=17;text=\"gone\"\r\n";
    call.caller.request_with("BYE", "linked", 2, &to_tag(&answer), reason, "");
    call.caller.expect("SIP/2.0 200");
    let bye = call.callee.expect("BYE ");
    assert!(bye.contains("Q.850;cause=17;text=\"gone\""), "{bye}");
    call.callee.respond(&bye, "200 OK", "");
    assert_eq!(call.answer_told(), (Codec::Pcmu, false, Some(PCMU)));
    let (caller, callee) = (call.ended(call.inbound), call.ended(call.outbound));
    assert_eq!((caller.by, caller.cause, caller.passed_on), (Side::Remote, Cause::Bye, true));
    assert_eq!((callee.by, callee.cause, callee.passed_on), (Side::Local, Cause::Bye, false));
    assert!(!call.gateway.seen.iter().any(|event| matches!(event, Event::Confirmed { .. })));
    // Late commands of who did not know are harmless.
    call.gateway.hang_up(call.inbound);
    call.gateway.hang_up(call.outbound);
}

#[test]
fn a_quick_answer_tells_of_the_ringing_too() {
    let _alone = alone();
    let mut call = Between::new(&G711);
    // On a busy machine the answer may be late: then the ringing is told by itself, as above.
    let began = Instant::now();
    call.ring();
    let answer = call.answer();
    let told = call.answer_told();
    if began.elapsed() < Duration::from_millis(40) {
        assert_eq!(told, (Codec::Pcmu, true, Some(PCMU)));
        assert!(!call.has_rung());
    }
    assert_eq!((told.0, told.2, told.1 != call.has_rung()), (Codec::Pcmu, Some(PCMU), true));
    call.caller.request("BYE", "linked", 2, &to_tag(&answer), "");
    call.callee.expect("BYE ");
}

#[test]
fn an_answer_without_ringing_answers_the_caller_in_the_callees_codec() {
    let _alone = alone();
    let mut call = Between::new(&[Codec::Pcma, Codec::Pcmu]);
    let answer = call.answer();
    assert!(answer.contains("RTP/AVP 0"), "{answer}");
    assert!(call.is_heard(&answer));
    assert_eq!(call.answered(), (Codec::Pcmu, Some(PCMU)));
    // The callee hangs up: the caller reads nothing that nobody said.
    call.callee.send(&reversed(&call.invite, &call.callee));
    let bye = call.caller.expect("BYE ");
    assert!(header(&bye, "Reason").is_none(), "{bye}");
    call.caller.respond(&bye, "200 OK", "");
    let callee = call.ended(call.outbound);
    assert_eq!((callee.by, callee.cause, callee.passed_on), (Side::Remote, Cause::Bye, true));
    assert_eq!(call.ended(call.inbound).by, Side::Local);
}

/// A BYE of the callee, made of the INVITE that it got.
fn reversed(invite: &str, callee: &Peer) -> String {
    let of = |name: &str| header(invite, name).unwrap().to_owned();
    let contact = of("Contact").trim_matches(['<', '>']).to_owned();
    let from = callee.uri().replace("sip:peer@", "");
    format!(
        "BYE {contact} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKreversed\r\nMax-Forwards: 70\r\n\
         From: {};tag=peer\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n",
        of("To"),
        of("From"),
        of("Call-ID"),
    )
}

#[test]
fn sound_before_the_answer_is_left_to_the_user_and_so_is_all_that_follows() {
    let _alone = alone();
    let mut call = Between::new(&G711);
    call.callee.respond(&call.invite, "183 Session Progress", &call.callee.sdp("0"));
    assert_eq!(call.ringing(), (183, None));
    call.callee.respond(&call.invite, "200 OK", &call.callee.sdp("0"));
    assert_eq!(call.answered(), (Codec::Pcmu, None));
    let leg = call.inbound;
    call.gateway.run(Command::Ring { leg, codecs: G711.to_vec(), status: 183 });
    call.caller.expect("SIP/2.0 183");
    call.gateway.answer(leg);
    let answer = call.caller.expect("SIP/2.0 200");
    call.caller.request("ACK", "linked", 1, &to_tag(&answer), "");
    call.gateway.confirmed(leg);
    call.part_by_command(2, &answer);
}

#[test]
fn refusals_and_callers_who_give_up_are_left_to_the_user() {
    let _alone = alone();
    let mut call = Between::new(&G711);
    call.ring();
    call.callee.respond(&call.invite, "486 Busy Here", "");
    assert_eq!(call.ringing(), (180, Some(PCMU)), "it is told before the end");
    let ended = call.ended(call.outbound);
    assert_eq!((ended.status, ended.passed_on), (Some(486), false));
    call.caller.request("CANCEL", "linked", 1, "", "");
    call.caller.expect("SIP/2.0 487");
    let ended = call.ended(call.inbound);
    assert_eq!((ended.cause, ended.passed_on), (Cause::Cancel, false));
}

#[test]
fn a_caller_with_nothing_in_common_is_refused_and_its_end_tells() {
    let _alone = alone();
    let mut call = Between::new(&[Codec::Opus]);
    call.callee.respond(&call.invite, "180 Ringing", "");
    call.caller.expect("SIP/2.0 488");
    assert_eq!(call.ended(call.inbound).cause, Cause::NotAcceptable);
    assert!(!call.gateway.seen.iter().any(|event| matches!(event, Event::Ringing { .. })));
    call.callee.respond(&call.invite, "200 OK", &call.callee.sdp("0"));
    assert_eq!(call.answered(), (Codec::Pcmu, None));
    call.gateway.hang_up(call.outbound);
    call.callee.expect("BYE ");
}

#[test]
fn a_command_for_the_caller_or_unlink_ends_the_link() {
    let _alone = alone();
    let mut call = Between::new(&G711);
    let leg = call.inbound;
    call.gateway.run(Command::Ring { leg, codecs: G711.to_vec(), status: 180 });
    call.ring();
    assert_eq!(call.ringing(), (180, None));

    let mut call = Between::new(&G711);
    call.ring();
    let answer = call.answer();
    call.gateway.run(Command::Unlink { leg: call.outbound });
    call.part_by_command(2, &answer);
}

#[test]
fn a_refer_ends_the_link() {
    let _alone = alone();
    let mut call = Between::new(&G711);
    let answer = call.answer();
    let refer_to = "Refer-To: <sip:carol@192.0.2.7>\r\n";
    call.caller.request_with("REFER", "linked", 2, &to_tag(&answer), refer_to, "");
    let id = call.gateway.wait("Refer", |event| match event {
        Event::Refer(refer) => Some(refer.id),
        _ => None,
    });
    call.gateway.run(Command::AcceptRefer { leg: call.inbound, id });
    call.caller.expect("SIP/2.0 202");
    call.part_by_command(3, &answer);
}
