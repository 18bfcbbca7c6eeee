//! Sessions renewed by re-INVITE: hold and resume carried to the other telephone, refusals, collisions, late offers.

use crate::media::{bridged, browser_offer, relay};
use crate::rig::*;
use std::net::SocketAddr;
use telephony_engine::{Cause, Codec, Command, Event, Kind, LegId, Side};

/// Two telephones that talk through the gateway.
struct Talk {
    gateway: Node,
    caller: Peer,
    callee: Peer,
    inbound: LegId,
    outbound: LegId,
    /// The caller's To tag, and the callee's with its Call-ID.
    caller_tag: String,
    callee_tag: String,
    callee_id: String,
    ports: (SocketAddr, SocketAddr),
}

impl Talk {
    fn begin() -> Self {
        let mut gateway = Node::start(&config());
        let address = gateway.engine.sip_address();
        let (caller, callee) = (Peer::new(address), Peer::new(address));
        let (inbound, outbound, ok, invite) = bridged(&mut gateway, &caller, &callee);
        let from = header(&invite, "From").unwrap();
        Self {
            caller_tag: to_tag(&ok),
            callee_tag: from[from.find(";tag=").unwrap()..].to_owned(),
            callee_id: header(&invite, "Call-ID").unwrap().to_owned(),
            ports: (rtp_address(&ok), rtp_address(&invite)),
            gateway,
            caller,
            callee,
            inbound,
            outbound,
        }
    }

    /// The caller's request in its dialog.
    fn caller_asks(&self, method: &str, cseq: u32, body: &str) {
        self.caller.request(method, "sound", cseq, &self.caller_tag, body);
    }

    fn callee_asks(&self, method: &str, cseq: u32, body: &str) {
        self.callee.request(method, &self.callee_id, cseq, &self.callee_tag, body);
    }

    /// The caller renews, the callee agrees; what the callee was offered and what the caller was answered.
    fn renew(&self, cseq: u32, offer: &str, callee_says: &str) -> (String, String) {
        self.caller_asks("INVITE", cseq, offer);
        let carried = self.callee.expect("INVITE");
        self.callee.respond(&carried, "200 OK", &said(&self.callee.sdp("0"), callee_says));
        self.callee.expect("ACK");
        let ok = self.caller.expect("SIP/2.0 200");
        self.caller_asks("ACK", cseq, "");
        (carried, ok)
    }

    fn both_hear(&self) {
        assert_eq!(relay(&self.caller, &self.callee, self.ports.0, 0x55), [0x55; 160]);
        assert_eq!(relay(&self.callee, &self.caller, self.ports.1, 0xaa), [0xaa; 160]);
    }

    fn held(&mut self, of: LegId) -> bool {
        self.gateway.wait("Held", |event| match event {
            Event::Held { leg, held } if *leg == of => Some(*held),
            _ => None,
        })
    }
}

/// A description with a direction of its own.
fn said(sdp: &str, direction: &str) -> String {
    format!("{sdp}a={direction}\r\n")
}

/// Id and version of `o=`.
fn origin(message: &str) -> (u64, u64) {
    let line = message.lines().find_map(|line| line.strip_prefix("o=- ")).unwrap();
    let mut words = line.split(' ').map(|word| word.parse().unwrap());
    (words.next().unwrap(), words.next().unwrap())
}

#[test]
fn every_spelling_of_hold_reaches_the_other_telephone() {
    let _alone = alone();
    let mut talk = Talk::begin();
    let plain = talk.caller.sdp("0");
    let spellings = [
        (said(&plain, "sendonly"), "sendonly", "recvonly"),
        (said(&plain, "inactive"), "inactive", "inactive"),
        (plain.replace("c=IN IP4 127.0.0.1", "c=IN IP4 0.0.0.0"), "sendonly", "recvonly"),
    ];
    let (mut cseq, mut version) = (2, None);
    for (hold, offered, answered) in spellings {
        let (carried, ok) = talk.renew(cseq, &hold, answered);
        assert!(carried.contains(&format!("a={offered}\r\n")), "{carried}");
        assert!(ok.contains(&format!("a={answered}\r\n")), "{ok}");
        assert!(!carried.contains("c=IN IP4 0.0.0.0") && !ok.contains("c=IN IP4 0.0.0.0"));
        assert!(talk.held(talk.inbound));
        let (id, now) = origin(&carried);
        if let Some((known, before)) = version {
            assert_eq!((id, now), (known, before + 1), "one version for each change");
        }
        let (carried, ok) = talk.renew(cseq + 1, &said(&plain, "sendrecv"), "sendrecv");
        assert!(carried.contains("a=sendrecv\r\n") && ok.contains("a=sendrecv\r\n"), "{carried}{ok}");
        assert_eq!(origin(&carried), (id, now + 1));
        assert!(!talk.held(talk.inbound));
        talk.both_hear();
        (cseq, version) = (cseq + 2, Some(origin(&carried)));
    }
}

#[test]
fn the_callee_holds_too() {
    let _alone = alone();
    let mut talk = Talk::begin();
    talk.callee_asks("INVITE", 1, &said(&talk.callee.sdp("0"), "sendonly"));
    let carried = talk.caller.expect("INVITE");
    assert!(carried.contains("a=sendonly\r\n"), "{carried}");
    talk.caller.respond(&carried, "200 OK", &said(&talk.caller.sdp("0"), "recvonly"));
    talk.caller.expect("ACK");
    let ok = talk.callee.expect("SIP/2.0 200");
    assert!(ok.contains("a=recvonly\r\n"), "{ok}");
    assert!(talk.held(talk.outbound));
}

#[test]
fn what_is_only_this_leg_s_is_answered_here() {
    let _alone = alone();
    let mut talk = Talk::begin();
    talk.caller.rtp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    talk.caller_asks("INVITE", 2, &talk.caller.sdp("8 0"));
    let ok = talk.caller.expect("SIP/2.0 200");
    assert!(ok.contains("RTP/AVP 0"), "the codec in use stays: {ok}");
    talk.caller_asks("ACK", 2, "");
    talk.both_hear();
    // The same by UPDATE, and what the callee sees next is its BYE.
    talk.caller_asks("UPDATE", 3, &talk.caller.sdp("0"));
    talk.caller.expect("SIP/2.0 200");
    talk.gateway.hang_up(talk.outbound);
    assert!(talk.callee.receive().starts_with("BYE"));
}

#[test]
fn an_update_is_carried_as_well() {
    let _alone = alone();
    let talk = Talk::begin();
    talk.caller_asks("UPDATE", 2, &said(&talk.caller.sdp("0"), "inactive"));
    let carried = talk.callee.expect("INVITE");
    talk.callee.respond(&carried, "200 OK", &said(&talk.callee.sdp("0"), "inactive"));
    let ok = talk.caller.expect("SIP/2.0 200");
    assert!(ok.contains("a=inactive\r\n"), "{ok}");
}

#[test]
fn a_hold_that_the_other_side_refuses_leaves_both_as_they_were() {
    let _alone = alone();
    let talk = Talk::begin();
    talk.caller_asks("INVITE", 2, &said(&talk.caller.sdp("0"), "sendonly"));
    let carried = talk.callee.expect("INVITE");
    talk.callee.respond(&carried, "488 Not Acceptable Here", "");
    talk.callee.expect("ACK");
    let refusal = talk.caller.expect("SIP/2.0 488");
    assert_eq!(
        header(&refusal, "Warning"),
        Some("399 gateway \"the other side refused: 488 Not Acceptable Here\"")
    );
    talk.caller_asks("ACK", 2, "");
    talk.both_hear();
    // And the next attempt is a new one, not a late effect of this.
    let (carried, _) = talk.renew(3, &said(&talk.caller.sdp("0"), "sendonly"), "recvonly");
    assert!(carried.contains("a=sendonly\r\n"));
}

#[test]
fn an_offer_without_a_common_codec_is_refused_with_the_reason() {
    let _alone = alone();
    let talk = Talk::begin();
    talk.caller_asks("INVITE", 2, &talk.caller.sdp("18"));
    let refusal = talk.caller.expect("SIP/2.0 488");
    let warning = header(&refusal, "Warning").unwrap();
    assert!(warning.starts_with("305 gateway ") && warning.contains("PCMU, PCMA"), "{warning}");
    talk.caller_asks("ACK", 2, "");
    talk.caller_asks("INVITE", 3, &talk.caller.sdp("0").replace("m=audio", "m=video"));
    assert!(header(&talk.caller.expect("SIP/2.0 488"), "Warning").unwrap().starts_with("304 gateway "));
    talk.both_hear();
}

/// RFC 3261 14.2: T.38 is refused, the call stays as it was and the fax goes on in G.711.
#[test]
fn a_fax_that_asks_for_t38_stays_in_g711() {
    let _alone = alone();
    let mut talk = Talk::begin();
    let image = "m=image 5000 udptl t38\r\na=T38FaxVersion:0\r\n";
    let (sound, plain) = (format!("m=audio {}", talk.caller.sound_port()), talk.caller.sdp("0"));
    talk.caller_asks("INVITE", 2, &format!("{}{image}", plain.replace(&sound, "m=audio 0")));
    let refusal = talk.caller.expect("SIP/2.0 488");
    assert!(header(&refusal, "Warning").unwrap().starts_with("304 gateway "), "{refusal}");
    talk.caller_asks("ACK", 2, "");
    talk.both_hear();
    talk.gateway.hang_up(talk.outbound);
    assert!(talk.callee.receive().starts_with("BYE"), "nobody asked the callee");
}

#[test]
fn a_codec_that_goes_is_renegotiated_or_translated_but_never_lost() {
    let _alone = alone();
    for agrees in [true, false] {
        let talk = Talk::begin();
        talk.caller_asks("INVITE", 2, &talk.caller.sdp("8"));
        let carried = talk.callee.expect("INVITE");
        assert!(carried.contains("RTP/AVP 8 0"), "what is spoken now comes first: {carried}");
        let status = if agrees { "200 OK" } else { "488 Not Acceptable Here" };
        let body = if agrees { talk.callee.sdp("8") } else { String::new() };
        talk.callee.respond(&carried, status, &body);
        let ok = talk.caller.expect("SIP/2.0 200");
        assert!(ok.contains("RTP/AVP 8\r\n"), "{ok}");
        let mut packet = rtp_packet(1, 0xd5);
        packet[1] = 8;
        let mut heard = [0; 256];
        talk.callee.rtp.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
        let length = (0..200).find_map(|_| {
            packet[3] += 1;
            talk.caller.rtp.send_to(&packet, talk.ports.0).unwrap();
            let (length, _) = talk.callee.rtp.recv_from(&mut heard).ok()?;
            (length == 172).then_some(length)
        });
        assert_eq!(length, Some(172));
        let expected = if agrees { (8, 0xd5) } else { (0, 0xfe) };
        assert_eq!((heard[1] & 0x7f, heard[12]), expected);
    }
}

#[test]
fn two_that_renew_at_once_do_not_wait_for_each_other() {
    let _alone = alone();
    let talk = Talk::begin();
    talk.caller_asks("INVITE", 2, &said(&talk.caller.sdp("0"), "sendonly"));
    let carried = talk.callee.expect("INVITE");
    talk.callee_asks("INVITE", 1, &said(&talk.callee.sdp("0"), "sendonly"));
    talk.callee.expect("SIP/2.0 491");
    talk.callee_asks("ACK", 1, "");
    talk.callee.respond(&carried, "491 Request Pending", "");
    // The callee's second attempt meets one that waits for its next turn.
    talk.callee_asks("INVITE", 2, &said(&talk.callee.sdp("0"), "sendonly"));
    talk.callee.expect("SIP/2.0 491");
    talk.callee_asks("ACK", 2, "");
    let again = loop {
        let again = talk.callee.expect("INVITE");
        if header(&again, "CSeq") != header(&carried, "CSeq") {
            break again;
        }
    };
    talk.callee.respond(&again, "200 OK", &said(&talk.callee.sdp("0"), "recvonly"));
    assert!(talk.caller.expect("SIP/2.0 200").contains("a=recvonly\r\n"));
}

#[test]
fn a_late_offer_is_made_and_its_answer_may_hold() {
    let _alone = alone();
    let mut talk = Talk::begin();
    talk.caller_asks("INVITE", 2, "");
    let ok = talk.caller.expect("SIP/2.0 200");
    assert!(ok.contains("RTP/AVP 0 8") && ok.contains("a=sendrecv"), "all we have: {ok}");
    talk.caller_asks("ACK", 2, &said(&talk.caller.sdp("0"), "inactive"));
    let told = talk.callee.expect("INVITE");
    assert!(told.contains("a=inactive\r\n"), "{told}");
    talk.callee.respond(&told, "200 OK", &said(&talk.callee.sdp("0"), "inactive"));
    talk.callee.expect("ACK");
    assert!(talk.held(talk.inbound));
    // A refresh that changes nothing: the same offer, in the same version, and no word to the callee.
    talk.caller_asks("INVITE", 3, "");
    let again = talk.caller.expect("SIP/2.0 200");
    assert_eq!(origin(&again), origin(&ok));
    talk.caller_asks("ACK", 3, &said(&talk.caller.sdp("0"), "sendrecv"));
    let told = talk.callee.expect("INVITE");
    assert!(told.contains("a=sendrecv\r\n"), "{told}");
    talk.callee.respond(&told, "200 OK", &said(&talk.callee.sdp("0"), "sendrecv"));
    assert!(!talk.held(talk.inbound));
    talk.both_hear();
}

#[test]
fn a_renewal_taken_back_is_undone_at_the_other_side() {
    let _alone = alone();
    let talk = Talk::begin();
    talk.caller_asks("INVITE", 2, &said(&talk.caller.sdp("0"), "sendonly"));
    let carried = talk.callee.expect("INVITE");
    talk.caller_asks("CANCEL", 2, "");
    talk.caller.expect("SIP/2.0 487");
    talk.callee.respond(&carried, "200 OK", &said(&talk.callee.sdp("0"), "recvonly"));
    talk.callee.expect("ACK");
    let undone = talk.callee.expect("INVITE");
    assert!(undone.contains("a=sendrecv\r\n"), "{undone}");
    talk.callee.respond(&undone, "200 OK", &said(&talk.callee.sdp("0"), "sendrecv"));
    talk.callee.expect("ACK");
    talk.both_hear();
}

/// RFC 3261 14.1: what was answered 487 changes nothing, whatever the other telephone makes of it.
#[test]
fn a_renewal_taken_back_and_refused_changes_nothing() {
    let _alone = alone();
    let talk = Talk::begin();
    talk.caller_asks("INVITE", 2, &talk.caller.sdp("8"));
    let carried = talk.callee.expect("INVITE");
    talk.caller_asks("CANCEL", 2, "");
    talk.caller.expect("SIP/2.0 487");
    talk.caller_asks("ACK", 2, "");
    talk.callee.respond(&carried, "488 Not Acceptable Here", "");
    talk.callee.expect("ACK");
    talk.both_hear();
    // The next attempt is a new one.
    talk.renew(3, &said(&talk.caller.sdp("0"), "inactive"), "inactive");
}

#[test]
fn who_waits_for_a_leg_that_goes_is_answered() {
    let _alone = alone();
    let mut talk = Talk::begin();
    talk.caller_asks("INVITE", 2, &said(&talk.caller.sdp("0"), "sendonly"));
    talk.callee.expect("INVITE");
    talk.callee_asks("BYE", 1, "");
    talk.gateway.ended(talk.outbound);
    let refusal = talk.caller.expect("SIP/2.0 500");
    assert!(header(&refusal, "Warning").is_some());
}

#[test]
fn a_browser_s_call_is_held_at_once_and_told() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    let caller = Peer::new(gateway.engine.sip_address());
    caller.request("INVITE", "browser", 1, "", &caller.sdp("0"));
    let inbound = gateway.incoming().leg;
    gateway.run(Command::Ring { leg: inbound, codecs: G711.to_vec(), status: 180 });
    let browser = gateway.engine.next_leg(Kind::WebRtc, Some(inbound)).unwrap();
    let codecs = vec![Codec::Pcmu];
    gateway.run(Command::AcceptOffer { leg: browser, sdp: browser_offer("actpass"), codecs });
    gateway.run(Command::Bridge { first: inbound, second: browser });
    gateway.run(Command::Answer { leg: inbound });
    let tag = to_tag(&caller.expect("SIP/2.0 200"));
    caller.request("ACK", "browser", 1, &tag, "");
    for (cseq, direction, held) in [(2, "sendonly", true), (3, "inactive", true), (4, "sendrecv", false)] {
        caller.request("INVITE", "browser", cseq, &tag, &said(&caller.sdp("0"), direction));
        let ok = caller.expect("SIP/2.0 200");
        caller.request("ACK", "browser", cseq, &tag, "");
        let answer = ["recvonly", "inactive", "sendrecv"][cseq as usize - 2];
        assert!(ok.contains(&format!("a={answer}\r\n")), "{ok}");
        if direction != "inactive" {
            let told = gateway.wait("Held", |event| match event {
                Event::Held { leg, held } => Some((*leg, *held)),
                _ => None,
            });
            assert_eq!(told, (inbound, held), "from one hold to another is no news");
        }
    }
}

/// RFC 3261 14.1: where the other telephone's answer is no use, both legs stay as they were.
#[test]
fn an_answer_that_is_no_use_is_undone_at_the_telephone_that_gave_it() {
    let _alone = alone();
    let mut talk = Talk::begin();
    for (cseq, usable) in [(2, true), (3, false)] {
        talk.caller_asks("INVITE", cseq, &said(&talk.caller.sdp("0"), "sendonly"));
        let carried = talk.callee.expect("INVITE");
        assert!(carried.contains("a=sendonly\r\n"), "{carried}");
        talk.callee.respond(&carried, "200 OK", &said(&talk.callee.sdp("18"), "recvonly"));
        talk.callee.expect("ACK");
        assert!(header(&talk.caller.expect("SIP/2.0 488"), "Warning").is_some());
        talk.caller_asks("ACK", cseq, "");
        let undone = talk.callee.expect("INVITE");
        assert!(undone.contains("a=sendrecv\r\n"), "{undone}");
        assert_eq!(origin(&undone).1, origin(&carried).1 + 1, "the callee knows the version in between");
        if usable {
            talk.callee.respond(&undone, "200 OK", &said(&talk.callee.sdp("0"), "sendrecv"));
            talk.callee.expect("ACK");
            talk.both_hear();
        } else {
            talk.callee.respond(&undone, "488 Not Acceptable Here", "");
            assert!(header(&talk.callee.expect("BYE"), "Reason").is_some());
            let ended = talk.gateway.ended(talk.outbound);
            assert_eq!((ended.by, ended.cause), (Side::System, Cause::NotAcceptable));
        }
    }
    assert!(!talk.gateway.seen.iter().any(|event| matches!(event, Event::Held { .. })));
}
