//! Dialogs against a script: routing, order, forks, offers in the middle of a call, crossings.

use telephony_sip::{Cause, Connection, Event, Flow, LegId, Message, Method, Name, Side, Transport};

use crate::wire::{
    CONTACT, LONG, NOTHING, Solo, address, called, called_by, calling, first_line, invite, is, methods,
    quote, request, response, sdp, tag_of,
};

const OFFER: &str = "Content-Type: application/sdp\n\nv=0 hold";

fn hangup(solo: &mut Solo, leg: LegId) -> Message {
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    solo.sent_one()
}

fn routes(message: &Message) -> Vec<&str> {
    message.values(Name::Route).collect()
}

#[test]
fn the_ack_of_a_2xx_is_its_own_transaction_along_the_dialog() {
    let mut solo = Solo::new();
    let (_, invite, ack) = calling(&mut solo, "Contact: <sip:bob@192.0.2.9:5070>");
    assert!(is(&ack, Method::Ack));
    assert_ne!(ack.branch(), invite.branch(), "13.2.2.4, 17.1.1.3");
    assert_eq!(ack.cseq().unwrap().number, invite.cseq().unwrap().number);
    assert_eq!(ack.request_uri(), Some("sip:bob@192.0.2.9:5070"), "the remote target");
    assert_eq!((ack.from_tag(), ack.to_tag()), (invite.from_tag(), Some("bob")));
}

#[test]
fn record_route_is_reversed_for_the_caller() {
    let mut solo = Solo::new();
    let extra = format!("Record-Route: <sip:192.0.2.30;lr>, <sip:192.0.2.31;lr>\n{CONTACT}");
    let leg = solo.dial(1);
    let invite = solo.sent_one();
    solo.receive(&response(&invite, 200, "bob", &extra));
    let transmit = solo.endpoint.poll_transmit().unwrap();
    assert_eq!(
        transmit.flow.remote,
        address("192.0.2.31:5060"),
        "the first hop back is the last recorded (12.1.2)"
    );
    let ack = Message::parse(transmit.payload, &telephony_sip::Limits::default()).unwrap();
    assert_eq!(routes(&ack), ["<sip:192.0.2.31;lr>", "<sip:192.0.2.30;lr>"]);
    let bye = hangup(&mut solo, leg);
    assert_eq!(routes(&bye), routes(&ack));
    assert_eq!(bye.request_uri(), Some("sip:bob@192.0.2.9:5060"));
    assert_eq!(bye.cseq().unwrap().number, 2);
}

#[test]
fn record_route_keeps_its_order_for_the_called_and_comes_back_in_responses() {
    let mut solo = Solo::new();
    let record = "Record-Route: <sip:192.0.2.30;lr>\nRecord-Route: <sip:192.0.2.31;lr>\n";
    let leg = solo.incoming(&request("INVITE", "a", 1, "", record));
    solo.endpoint.answer(solo.now, leg, sdp("v=0")).unwrap();
    let ok = solo.sent().remove(1);
    let echoed: Vec<_> = ok.values(Name::RecordRoute).collect();
    assert_eq!(echoed, ["<sip:192.0.2.30;lr>", "<sip:192.0.2.31;lr>"], "12.1.1");
    solo.receive(&request("ACK", "b", 1, &tag_of(&ok), ""));
    let bye = hangup(&mut solo, leg);
    assert_eq!(routes(&bye), ["<sip:192.0.2.30;lr>", "<sip:192.0.2.31;lr>"]);
    assert_eq!(bye.request_uri(), Some("sip:peer@192.0.2.9:5060"));
}

#[test]
fn a_strict_router_is_put_into_the_request_uri() {
    let mut solo = Solo::new();
    let record = "Record-Route: <sip:192.0.2.30>, <sip:192.0.2.31;lr>";
    let (leg, _) = called_by(&mut solo, &request("INVITE", "a", 1, "", record));
    let bye = hangup(&mut solo, leg);
    assert_eq!(bye.request_uri(), Some("sip:192.0.2.30"), "12.2.1.1");
    assert_eq!(routes(&bye), ["<sip:192.0.2.31;lr>", "<sip:peer@192.0.2.9:5060>"]);
}

#[test]
fn a_question_mark_in_a_user_part_begins_no_headers() {
    let mut solo = Solo::new();
    let record = "Record-Route: <sip:192.0.2.30>";
    let call = request("INVITE", "a", 1, "", record);
    let call =
        call.replace("Contact: <sip:peer@192.0.2.9:5060>", "Contact: <sip:pe?er=1@192.0.2.9:5060?Subject=x>");
    assert!(call.contains("pe?er"));
    let (leg, _) = called_by(&mut solo, &call);
    let bye = hangup(&mut solo, leg);
    assert_eq!(routes(&bye), ["<sip:pe?er=1@192.0.2.9:5060>"], "25.1, user-unreserved");
}

#[test]
fn a_private_contact_behind_a_public_address_is_reached_through_the_nat() {
    let mut solo = Solo::new();
    let invite = invite("a").replace("<sip:peer@192.0.2.9:5060>", "<sip:peer@10.0.0.7:5062>");
    let (leg, _) = called_by(&mut solo, &invite);
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    let bye = solo.endpoint.poll_transmit().unwrap();
    assert_eq!(bye.flow.remote, solo.flow.remote);
    assert!(bye.payload.starts_with(b"BYE sip:peer@10.0.0.7:5062 SIP/2.0"));
}

#[test]
fn an_advertised_contact_is_used_everywhere() {
    let mut solo = Solo::new();
    let leg = solo.incoming(&invite("a"));
    solo.endpoint.set_contact(leg, "gateway.example.com:5070".to_owned());
    solo.endpoint.answer(solo.now, leg, None).unwrap();
    let ok = solo.sent().remove(1);
    assert_eq!(ok.header(Name::Contact), Some("<sip:gateway.example.com:5070>"));
    solo.receive(&request("ACK", "b", 1, &tag_of(&ok), ""));
    let bye = hangup(&mut solo, leg);
    assert!(bye.header(Name::Via).unwrap().contains(" gateway.example.com:5070;"));
}

#[test]
fn responses_go_to_the_source_with_rport_and_to_sent_by_without() {
    let mut solo = Solo::new();
    solo.flow.remote = address("192.0.2.77:40000");
    solo.receive(&invite("a"));
    let trying = solo.endpoint.poll_transmit().unwrap();
    assert_eq!(trying.flow.remote, address("192.0.2.77:40000"), "RFC 3581 4");
    let text = String::from_utf8(trying.payload.to_vec()).unwrap();
    assert!(text.contains(";received=192.0.2.77") && text.contains(";rport=40000"), "{text}");
    solo.receive(&request("OPTIONS", "b", 1, "", "").replace(";rport", ""));
    let ok = solo.endpoint.poll_transmit().unwrap();
    assert_eq!(ok.flow.remote, address("192.0.2.77:5060"), "18.2.2: the port of sent-by");
}

#[test]
fn a_lower_cseq_is_500_and_a_repeated_request_is_not_carried_out_twice() {
    let mut solo = Solo::new();
    let (_, tag) = called(&mut solo);
    let info = request("INFO", "i", 10, &tag, "Content-Type: application/dtmf\n\n5");
    solo.receive(&info);
    assert_eq!(first_line(&solo.sent_one()), "200");
    solo.receive(&info);
    assert_eq!(first_line(&solo.sent_one()), "200");
    assert_eq!(solo.events().len(), 1, "one INFO, not two");
    solo.receive(&request("INFO", "j", 9, &tag, ""));
    assert_eq!(first_line(&solo.sent_one()), "500", "12.2.2");
    assert!(solo.events().is_empty());
}

#[test]
fn a_reinvite_is_a_reoffer_and_its_200_waits_for_the_ack() {
    let mut solo = Solo::new();
    let (leg, tag) = called(&mut solo);
    let moved = OFFER.replace("Content-Type", "X-Moved: yes\nContent-Type");
    let reinvite = request("INVITE", "r", 2, &tag, &moved)
        .replace("<sip:peer@192.0.2.9:5060>", "<sip:peer@192.0.2.9:5099>");
    solo.receive(&reinvite);
    assert_eq!(first_line(&solo.sent_one()), "100");
    assert!(matches!(solo.events()[..], [Event::Reoffer { leg: of, .. }] if of == leg));
    solo.endpoint.answer_reoffer(solo.now, leg, sdp("v=0 held")).unwrap();
    let ok = solo.sent_one();
    assert_eq!((first_line(&ok).as_str(), ok.body()), ("200", &b"v=0 held"[..]));
    assert_eq!(ok.to_tag(), Some(&*tag));
    solo.receive(&request("ACK", "ra", 2, &tag, ""));
    assert!(solo.events().is_empty(), "the second ACK tells nothing new");
    assert_eq!(solo.advance(std::time::Duration::from_secs(60)), [], "and stops the repetition");
    let bye = hangup(&mut solo, leg);
    assert_eq!(bye.request_uri(), Some("sip:peer@192.0.2.9:5099"), "the target was refreshed (12.2.2)");
}

#[test]
fn a_reinvite_without_an_offer_is_answered_with_one_and_its_ack_is_told() {
    let mut solo = Solo::new();
    let (leg, tag) = called(&mut solo);
    solo.receive(&request("INVITE", "r", 2, &tag, ""));
    assert!(matches!(solo.events()[..], [Event::Reoffer { .. }]));
    solo.endpoint.answer_reoffer(solo.now, leg, sdp("v=0 our offer")).unwrap();
    solo.receive(&request("ACK", "ra", 2, &tag, "Content-Type: application/sdp\n\nv=0 their answer"));
    match &solo.events()[..] {
        [Event::Confirmed { ack, .. }] => assert_eq!(ack.body(), b"v=0 their answer"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refused_reinvite_leaves_the_call_as_it_was() {
    let mut solo = Solo::new();
    let (leg, tag) = called(&mut solo);
    let moved = request("INVITE", "r", 2, &tag, OFFER)
        .replace("<sip:peer@192.0.2.9:5060>", "<sip:peer@192.0.2.9:5099>");
    solo.receive(&moved);
    let warning = [("Warning".to_owned(), "304 gateway \"Media type not available\"".to_owned())];
    solo.endpoint.reject_reoffer(solo.now, leg, 488, &warning).unwrap();
    let refused = solo.sent().remove(1);
    assert_eq!(first_line(&refused), "488");
    assert!(refused.has(Name::Warning));
    solo.receive(&request("ACK", "r", 2, &tag, ""));
    solo.events();
    let bye = hangup(&mut solo, leg);
    assert_eq!(
        bye.request_uri(),
        Some("sip:peer@192.0.2.9:5060"),
        "RFC 6141: no refresh by a refused request"
    );
}

#[test]
fn a_second_reinvite_before_the_first_is_answered_is_500_with_retry_after() {
    let mut solo = Solo::new();
    let (_, tag) = called(&mut solo);
    solo.receive(&request("INVITE", "r", 2, &tag, OFFER));
    solo.receive(&request("INVITE", "s", 3, &tag, OFFER));
    let busy = solo.sent().remove(1);
    assert_eq!(first_line(&busy), "500");
    let seconds: u32 = busy.header(Name::RetryAfter).unwrap().parse().unwrap();
    assert!(seconds <= 10, "14.2");
}

#[test]
fn an_invite_in_the_early_dialog_of_our_own_is_491() {
    let mut solo = Solo::new();
    solo.dial(1);
    let ours = solo.sent_one();
    solo.receive(&response(&ours, 180, "bob", CONTACT));
    let glare = request("INVITE", "g", 1, ours.from_tag().unwrap(), OFFER)
        .replace("tag=peer", "tag=bob")
        .replace("solo@example.org", ours.call_id());
    solo.receive(&glare);
    assert_eq!(methods(&solo.sent()), ["491"], "14.2");
    assert_eq!(solo.alive().3, 1, "no new call");
}

#[test]
fn a_cancelled_reinvite_ends_alone() {
    let mut solo = Solo::new();
    let (leg, tag) = called(&mut solo);
    solo.receive(&request("INVITE", "r", 2, &tag, OFFER));
    solo.receive(&request("CANCEL", "r", 2, &tag, ""));
    assert_eq!(methods(&solo.sent()), ["100", "200", "487"], "9.2");
    assert!(
        matches!(solo.events()[..], [Event::Reoffer { .. }, Event::ReofferLapsed { leg: of }] if of == leg)
    );
    assert!(solo.endpoint.answer_reoffer(solo.now, leg, None).is_err());
    assert_eq!(solo.alive().3, 1);
}

#[test]
fn a_bye_during_a_reinvite_answers_both() {
    let mut solo = Solo::new();
    let (_, tag) = called(&mut solo);
    solo.receive(&request("INVITE", "r", 2, &tag, OFFER));
    solo.receive(&request("BYE", "x", 3, &tag, "Reason: Q.850;cause=31"));
    assert_eq!(methods(&solo.sent()), ["100", "200", "487"], "15.1.2");
    match &solo.events()[..] {
        [Event::Reoffer { .. }, Event::Said { .. }, Event::Ended { ended, .. }] => {
            assert_eq!((ended.by, ended.reason.as_str()), (Side::Remote, "Q.850;cause=31"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_update_is_a_reoffer_with_a_body_and_a_refresh_without() {
    let mut solo = Solo::new();
    let (leg, tag) = called(&mut solo);
    solo.receive(&request("UPDATE", "u", 2, &tag, ""));
    let ok = solo.sent_one();
    assert_eq!(first_line(&ok), "200");
    assert!(ok.has(Name::Contact) && solo.events().is_empty());
    solo.receive(&request("UPDATE", "v", 3, &tag, OFFER));
    assert!(matches!(solo.events()[..], [Event::Reoffer { .. }]));
    solo.endpoint.answer_reoffer(solo.now, leg, sdp("v=0")).unwrap();
    assert_eq!(first_line(&solo.sent_one()), "200");
    assert_eq!(solo.advance(std::time::Duration::from_secs(31)), [], "a 200 to UPDATE needs no ACK");
}

#[test]
fn an_update_while_the_invite_is_open_waits() {
    let mut solo = Solo::new();
    let leg = solo.incoming(&invite("a"));
    solo.endpoint.provisional(solo.now, leg, 183, None).unwrap();
    let tag = tag_of(&solo.sent()[1]);
    solo.receive(&request("UPDATE", "u", 2, &tag, OFFER));
    let busy = solo.sent_one();
    assert_eq!((first_line(&busy).as_str(), busy.has(Name::RetryAfter)), ("500", true), "RFC 3311 5.2");
}

#[test]
fn options_in_a_dialog_is_answered() {
    let mut solo = Solo::new();
    let (_, tag) = called(&mut solo);
    solo.receive(&request("OPTIONS", "o", 2, &tag, ""));
    let ok = solo.sent_one();
    assert_eq!(first_line(&ok), "200");
    assert!(ok.has(Name::Allow) && ok.has(Name::Accept));
}

#[test]
fn the_first_fork_to_answer_wins_and_the_others_are_hung_up() {
    let mut solo = Solo::new();
    let leg = solo.dial(1);
    let ours = solo.sent_one();
    for tag in ["one", "two", "three"] {
        solo.receive(&response(&ours, 180, tag, CONTACT));
    }
    assert_eq!(solo.alive().2, 3, "an early dialog per To tag (12.1.2)");
    solo.receive(&response(&ours, 200, "two", CONTACT));
    assert_eq!(solo.sent_one().to_tag(), Some("two"));
    assert_eq!(solo.alive().2, 1);
    solo.receive(&response(&ours, 200, "four", CONTACT));
    let sent = solo.sent();
    assert_eq!(methods(&sent), ["ACK", "BYE"], "13.2.2.4");
    assert!(sent.iter().all(|message| message.to_tag() == Some("four")));
    solo.receive(&response(&ours, 200, "four", CONTACT));
    assert_eq!(methods(&solo.sent()), ["ACK"], "a repeated 2xx gets its ACK again and no second BYE");
    solo.events();
    let bye = hangup(&mut solo, leg);
    assert_eq!(bye.to_tag(), Some("two"));
    solo.advance(LONG);
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn a_fork_that_answers_after_the_call_is_over_is_hung_up() {
    let mut solo = Solo::new();
    let (leg, ours, _) = calling(&mut solo, CONTACT);
    let bye = hangup(&mut solo, leg);
    solo.receive(&response(&bye, 200, "bob", ""));
    solo.receive(&response(&ours, 200, "late", CONTACT));
    assert_eq!(methods(&solo.sent()), ["ACK", "BYE"]);
    assert_eq!(solo.events().len(), 1, "only the end was told");
    solo.advance(LONG);
    assert_eq!(solo.alive(), NOTHING);
}

/// The ACK that is left of the INVITE went to the first fork; a 2xx without Contact does not mean that one.
#[test]
fn a_late_fork_without_contact_is_found_by_the_request_uri() {
    let mut solo = Solo::new();
    let leg = solo.dial(1);
    let ours = solo.sent_one();
    solo.receive(&response(&ours, 200, "bob", "Contact: <sip:bob@192.0.2.77:5070>"));
    assert_eq!(solo.sent_one().request_uri(), Some("sip:bob@192.0.2.77:5070"));
    for tag in ["late", "later"] {
        solo.receive(&response(&ours, 200, tag, ""));
        let sent = solo.sent();
        assert_eq!(methods(&sent), ["ACK", "BYE"]);
        assert!(sent.iter().all(|message| message.request_uri() == ours.request_uri()), "{tag}");
        // The last one finds no leg any more.
        solo.endpoint.hangup(solo.now, leg, None).unwrap();
        solo.sent();
    }
}

#[test]
fn forks_without_end_are_bounded() {
    let mut solo = Solo::new();
    solo.dial(1);
    let ours = solo.sent_one();
    for number in 0..100 {
        solo.receive(&response(&ours, 180, &format!("early{number}"), CONTACT));
    }
    assert!(solo.alive().2 <= 16);
    for number in 0..100 {
        solo.receive(&response(&ours, 200, &format!("late{number}"), CONTACT));
    }
    assert!(solo.alive().2 <= 16 && solo.endpoint.stats().dropped.too_many_forks > 150);
}

#[test]
fn cancel_waits_for_a_provisional_response() {
    let mut solo = Solo::new();
    let leg = solo.dial(1);
    let ours = solo.sent_one();
    solo.endpoint.hangup(solo.now, leg, Some("SIP;cause=487")).unwrap();
    assert!(solo.sent().is_empty(), "9.1");
    let ended = solo.ended();
    assert_eq!((ended.by, ended.cause), (Side::Local, Cause::Cancel));
    solo.receive(&response(&ours, 100, "", ""));
    let cancel = solo.sent_one();
    assert!(is(&cancel, Method::Cancel));
    assert_eq!((cancel.branch(), cancel.request_uri()), (ours.branch(), ours.request_uri()));
    assert_eq!(cancel.header(Name::To), ours.header(Name::To));
    assert_eq!(cancel.header(Name::Reason), Some("SIP;cause=487"));
    solo.receive(&response(&cancel, 200, "bob", ""));
    solo.receive(&response(&ours, 487, "bob", ""));
    assert!(is(&solo.sent_one(), Method::Ack));
    assert!(solo.events().is_empty());
    solo.advance(LONG);
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn a_2xx_that_crosses_our_cancel_is_acknowledged_and_hung_up() {
    let mut solo = Solo::new();
    let leg = solo.dial(1);
    let ours = solo.sent_one();
    solo.receive(&response(&ours, 180, "bob", CONTACT));
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    solo.receive(&response(&ours, 200, "bob", CONTACT));
    assert_eq!(methods(&solo.sent()), ["CANCEL", "ACK", "BYE"]);
    assert_eq!(solo.events().iter().filter(|event| matches!(event, Event::Ended { .. })).count(), 1);
    solo.advance(LONG);
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn a_hangup_before_the_ack_waits_for_it() {
    let mut solo = Solo::new();
    let leg = solo.incoming(&invite("a"));
    solo.endpoint.answer(solo.now, leg, None).unwrap();
    let tag = tag_of(&solo.sent()[1]);
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    assert!(solo.sent().is_empty(), "15.1.1");
    assert_eq!(solo.ended().cause, Cause::Bye);
    solo.receive(&request("ACK", "b", 1, &tag, ""));
    assert!(is(&solo.sent_one(), Method::Bye));
    solo.advance(LONG);
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn a_bye_in_the_early_dialog_ends_the_invite() {
    let mut solo = Solo::new();
    let leg = solo.incoming(&invite("a"));
    solo.endpoint.provisional(solo.now, leg, 180, None).unwrap();
    let tag = tag_of(&solo.sent()[1]);
    solo.receive(&request("BYE", "b", 2, &tag, ""));
    assert_eq!(methods(&solo.sent()), ["200", "487"], "15.1.2");
    let ended = solo.ended();
    assert_eq!((ended.by, ended.cause, ended.status), (Side::Remote, Cause::Bye, Some(487)));
}

#[test]
fn a_bye_that_crosses_ours_is_answered_200_and_anything_else_481() {
    let mut solo = Solo::new();
    let (leg, tag) = called(&mut solo);
    hangup(&mut solo, leg);
    solo.receive(&request("BYE", "b", 2, &tag, ""));
    assert_eq!(first_line(&solo.sent_one()), "200");
    solo.receive(&request("INFO", "i", 3, &tag, ""));
    assert_eq!(first_line(&solo.sent_one()), "481");
    assert_eq!(solo.events().len(), 1);
}

#[test]
fn a_bye_on_the_only_early_dialog_of_our_call_ends_it() {
    let mut solo = Solo::new();
    solo.dial(1);
    let ours = solo.sent_one();
    solo.receive(&response(&ours, 180, "bob", CONTACT));
    solo.events();
    let bye = request("BYE", "b", 1, ours.from_tag().unwrap(), "")
        .replace("tag=peer", "tag=bob")
        .replace("solo@example.org", ours.call_id());
    solo.receive(&bye);
    assert_eq!(methods(&solo.sent()), ["200", "CANCEL"]);
    assert_eq!(solo.ended().by, Side::Remote);
    solo.advance(LONG);
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn a_cancel_after_the_answer_changes_nothing() {
    let mut solo = Solo::new();
    let leg = solo.incoming(&invite("a"));
    solo.endpoint.answer(solo.now, leg, None).unwrap();
    let ok = solo.sent().remove(1);
    solo.receive(&request("CANCEL", "a", 1, "", ""));
    let cancelled = solo.sent_one();
    assert_eq!((first_line(&cancelled).as_str(), cancelled.to_tag()), ("200", ok.to_tag()), "9.2");
    assert!(solo.events().is_empty());
    assert_eq!(solo.alive().3, 1);
}

/// RFC 3261 18.4 has the transaction told, and RFC 8085 5.2 wants it sure that ICMP is about what it sent.
#[test]
fn icmp_ends_the_request_that_it_quotes_and_no_other() {
    let mut solo = Solo::new();
    solo.dial(1);
    let invite = solo.sent_one();
    let whole = quote(&invite);
    let other = whole.replace(invite.branch().unwrap(), "z9hG4bKforged");
    for short in ["", "INVITE ", &whole[..whole.len() - 3], &other] {
        solo.icmp(short);
        assert!(solo.events().is_empty(), "{short}");
    }
    solo.icmp(&whole);
    let ended = solo.ended();
    assert_eq!((ended.by, ended.cause), (Side::System, Cause::TransportError));
    solo.advance(LONG);
    assert_eq!(solo.alive(), NOTHING);
}

/// RFC 3261 18.4, 17.2.4: a response that ICMP speaks of is asked for again, or its timers tell. RFC 6026 figure 7 keeps
/// the transaction in either case.
#[test]
fn icmp_ends_no_call_that_rings_here() {
    let mut solo = Solo::new();
    let leg = solo.incoming(&invite("a"));
    solo.endpoint.provisional(solo.now, leg, 180, None).unwrap();
    let sent = solo.sent();
    sent.iter().for_each(|response| solo.icmp(&quote(response)));
    assert!(solo.events().is_empty());
    solo.receive(&invite("a"));
    assert_eq!(methods(&solo.sent()), ["180"]);
    solo.endpoint.answer(solo.now, leg, None).unwrap();
    let ok = solo.sent_one();
    solo.icmp(&quote(&ok));
    solo.receive(&request("ACK", "k", 1, &tag_of(&ok), ""));
    assert!(matches!(solo.events()[..], [Event::Confirmed { .. }]));
}

#[test]
fn a_peer_of_rfc_2543_is_understood() {
    let old = |text: String| text.replace(";branch=z9hG4bKa", ";branch=1").replace(";rport", "");
    let mut solo = Solo::new();
    let leg = solo.incoming(&old(invite("a")));
    solo.receive(&old(invite("a")));
    assert_eq!(methods(&solo.sent()), ["100", "100"], "17.2.3: the retransmission is recognised");
    solo.endpoint.reject(solo.now, leg, 603, None, &[]).unwrap();
    let tag = tag_of(&solo.sent_one());
    solo.receive(&old(request("ACK", "a", 1, &tag, "")));
    assert_eq!(solo.endpoint.stats().dropped.stray_ack, 0);
    assert_eq!(solo.advance(std::time::Duration::from_secs(4)), [], "the ACK was matched");
}

const SIPS: &str = "Contact: <sips:bob@192.0.2.9:5061>";

fn over_tls() -> Solo {
    let mut solo = Solo::new();
    solo.flow = Flow { transport: Transport::Tls, connection: Some(Connection(1)), ..solo.flow };
    solo
}

/// RFC 3261 26.2.2: what is for a `sips:` URI goes by TLS or not at all. RFC 5630 5.1.2: 400 to who says both.
#[test]
fn a_caller_with_a_sips_contact_is_refused_on_an_open_flow() {
    let sips = |text: String| text.replace("<sip:peer@192.0.2.9:5060>", "<sips:peer@192.0.2.9:5061>");
    let mut solo = Solo::new();
    solo.receive(&sips(invite("a")));
    assert_eq!(methods(&solo.sent()), ["400"]);
    assert_eq!(solo.alive(), NOTHING);
    let record = "Record-Route: <sip:192.0.2.30;lr>";
    let (leg, _) = called_by(&mut solo, &sips(request("INVITE", "b", 1, "", record)));
    let bye = hangup(&mut solo, leg);
    assert_eq!(bye.request_uri(), Some("sips:peer@192.0.2.9:5061"), "the proxy goes on from there");
    let mut secure = over_tls();
    let (leg, _) = called_by(&mut secure, &sips(invite("a")));
    assert_eq!(hangup(&mut secure, leg).request_uri(), Some("sips:peer@192.0.2.9:5061"));
}

#[test]
fn a_callees_sips_contact_is_not_followed_on_an_open_flow() {
    let mut solo = Solo::new();
    let (leg, invite, ack) = calling(&mut solo, SIPS);
    assert_eq!(ack.request_uri(), invite.request_uri());
    assert_eq!(hangup(&mut solo, leg).request_uri(), invite.request_uri());
    let mut routed = Solo::new();
    let (_, _, ack) = calling(&mut routed, &format!("Record-Route: <sip:192.0.2.30;lr>\n{SIPS}"));
    assert_eq!(ack.request_uri(), Some("sips:bob@192.0.2.9:5061"), "the proxy goes on from there");
    let mut secure = over_tls();
    let (_, _, ack) = calling(&mut secure, SIPS);
    assert_eq!(ack.request_uri(), Some("sips:bob@192.0.2.9:5061"));
}

#[test]
fn a_target_is_not_refreshed_to_a_sips_uri_on_an_open_flow() {
    let mut solo = Solo::new();
    let (leg, tag) = called(&mut solo);
    for contact in ["sips:peer@192.0.2.9:5061", "SIPS:peer@192.0.2.9"] {
        let update = request("UPDATE", contact, 2, &tag, "");
        solo.receive(&update.replace("<sip:peer@192.0.2.9:5060>", &format!("<{contact}>")));
        assert_eq!(methods(&solo.sent()).last().map(String::as_str), Some("200"));
    }
    assert_eq!(hangup(&mut solo, leg).request_uri(), Some("sip:peer@192.0.2.9:5060"));
}
