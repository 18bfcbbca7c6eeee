//! Messages that cross on the way: the cases of RFC 5407, and what RFC 6026 and RFC 4320 say of states and errors.

use std::sync::Arc;
use std::time::Duration;

use telephony_sip::digest::{Credentials, Secret};
use telephony_sip::{Cause, Event, Flow, Method, Name, Profile, Support, Transport};

use crate::wire::{
    CONTACT, LONG, NOTHING, Solo, called, calling, ended, first_line, invite, methods, quote, request,
    response, sdp, tag_of, theirs,
};

const OFFER: &str = "Content-Type: application/sdp\n\nv=0 new offer";

fn seconds(value: f64) -> Duration {
    Duration::from_secs_f64(value)
}

/// A call to us whose 200 has left and whose ACK has not come; gives its leg and our tag.
fn moratorium(solo: &mut Solo) -> (telephony_sip::LegId, String) {
    let leg = solo.incoming(&invite("a"));
    solo.endpoint.answer(solo.now, leg, sdp("v=0 answer")).unwrap();
    let tag = tag_of(&solo.sent()[1]);
    (leg, tag)
}

fn finish(mut solo: Solo) {
    solo.advance(LONG);
    solo.sent();
    assert_eq!(solo.alive(), NOTHING);
}

/// RFC 5407 3.1.1: a copy of the INVITE that comes after the 200.
#[test]
fn a_copy_of_the_invite_after_the_answer_is_swallowed() {
    let mut solo = Solo::new();
    let (leg, tag) = moratorium(&mut solo);
    solo.receive(&invite("a"));
    assert!(solo.sent().is_empty() && solo.events().is_empty());
    solo.receive(&request("ACK", "k", 1, &tag, ""));
    assert!(matches!(solo.events()[..], [Event::Confirmed { .. }]));
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    finish(solo);
}

/// RFC 5407 3.1.2: CANCEL crosses the 200. It is answered, and the call goes on until a BYE.
#[test]
fn a_cancel_that_crosses_the_answer_ends_nothing() {
    let mut solo = Solo::new();
    let (_, tag) = moratorium(&mut solo);
    solo.receive(&request("CANCEL", "a", 1, "", ""));
    assert_eq!(methods(&solo.sent()), ["200"]);
    assert!(solo.events().is_empty());
    solo.receive(&request("ACK", "k", 1, &tag, ""));
    solo.receive(&request("BYE", "b", 2, &tag, ""));
    assert_eq!(methods(&solo.sent()), ["200"]);
    assert!(matches!(solo.events()[..], [Event::Confirmed { .. }, Event::Ended { .. }]));
    finish(solo);
}

/// RFC 5407 3.1.3: BYE in the early dialog crosses the 200; an ACK may still come.
#[test]
fn a_bye_that_crosses_the_answer_ends_the_call() {
    let mut solo = Solo::new();
    let (_, tag) = moratorium(&mut solo);
    solo.receive(&request("BYE", "b", 2, &tag, ""));
    assert_eq!(methods(&solo.sent()), ["200"]);
    assert_eq!(solo.ended().cause, Cause::Bye);
    solo.receive(&request("ACK", "k", 1, &tag, ""));
    assert!(solo.advance(seconds(40.0)).is_empty(), "the 200 is not repeated");
    finish(solo);
}

/// RFC 5407 3.1.4: a re-INVITE or UPDATE overtakes the ACK of the 200.
#[test]
fn a_request_that_overtakes_the_ack_waits_or_is_answered() {
    let mut solo = Solo::new();
    let (leg, tag) = moratorium(&mut solo);
    solo.receive(&request("INVITE", "re", 2, &tag, OFFER));
    assert_eq!(methods(&solo.sent()), ["491"], "and it comes again");
    solo.receive(&request("ACK", "re", 2, &tag, ""));
    solo.receive(&request("UPDATE", "u", 3, &tag, OFFER));
    assert!(matches!(solo.events()[..], [Event::Reoffer { .. }]), "the INVITE's offer has its answer");
    solo.endpoint.answer_reoffer(solo.now, leg, sdp("v=0")).unwrap();
    assert_eq!(methods(&solo.sent()), ["200"]);
    solo.receive(&request("ACK", "k", 1, &tag, ""));
    assert!(matches!(solo.events()[..], [Event::Confirmed { .. }]));
    solo.receive(&request("INVITE", "re2", 4, &tag, OFFER));
    assert!(matches!(solo.events()[..], [Event::Reoffer { .. }]));
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    finish(solo);
}

/// RFC 5407 3.1.5: the same where our 200 has an offer, whose answer the ACK brings.
#[test]
fn an_offer_that_overtakes_the_answer_to_ours_is_glare() {
    let mut solo = Solo::new();
    let leg = solo.incoming(&request("INVITE", "a", 1, "", ""));
    solo.endpoint.answer(solo.now, leg, sdp("v=0 offer")).unwrap();
    let tag = tag_of(solo.sent().last().unwrap());
    solo.events();
    for (cseq, method) in [(2, "INVITE"), (3, "UPDATE")] {
        solo.receive(&request(method, method, cseq, &tag, OFFER));
        assert_eq!(methods(&solo.sent()), ["491"], "{method}");
    }
    solo.receive(&request("ACK", "INVITE", 2, &tag, ""));
    assert!(solo.events().is_empty());
    solo.receive(&request("ACK", "k", 1, &tag, "Content-Type: application/sdp\n\nv=0 answer"));
    assert!(matches!(solo.events()[..], [Event::Confirmed { .. }]));
    solo.receive(&request("INVITE", "re2", 4, &tag, OFFER));
    assert!(matches!(solo.events()[..], [Event::Reoffer { .. }]), "its turn has come");
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    finish(solo);
}

/// RFC 5407 3.1.6: BYE overtakes the ACK.
#[test]
fn a_bye_that_overtakes_the_ack_is_answered_and_the_ack_is_ignored() {
    let mut solo = Solo::new();
    let (_, tag) = moratorium(&mut solo);
    solo.receive(&request("BYE", "b", 2, &tag, ""));
    solo.receive(&request("ACK", "k", 1, &tag, ""));
    assert_eq!(methods(&solo.sent()), ["200"]);
    assert!(matches!(solo.events()[..], [Event::Ended { .. }]));
    finish(solo);
}

/// RFC 5407 3.2.1 and 3.2.2: BYE and re-INVITE of the peer meet our BYE.
#[test]
fn after_our_bye_only_a_bye_is_welcome() {
    let mut solo = Solo::new();
    let (leg, _, ack) = calling(&mut solo, CONTACT);
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    assert_eq!(methods(&solo.sent()), ["BYE"]);
    solo.events();
    solo.receive(&theirs("INVITE", "re", 1, &ack, OFFER));
    assert_eq!(methods(&solo.sent()), ["481"]);
    solo.receive(&theirs("ACK", "re", 1, &ack, ""));
    solo.receive(&theirs("BYE", "b", 2, &ack, ""));
    assert_eq!(methods(&solo.sent()), ["200"]);
    assert!(solo.events().is_empty());
    finish(solo);
}

/// RFC 5407 3.3.3: a REFER crosses our BYE. It gets a 481, and the peer's own subscription ends with it.
#[test]
fn a_refer_that_crosses_our_bye_is_refused() {
    let mut solo = Solo::new();
    let (leg, _, ack) = calling(&mut solo, CONTACT);
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    let bye = solo.sent_one();
    solo.events();
    solo.receive(&theirs("REFER", "r", 1, &ack, "Refer-To: <sip:carol@192.0.2.7>"));
    assert_eq!(methods(&solo.sent()), ["481"]);
    assert!(solo.events().is_empty(), "nobody is to be called");
    solo.receive(&response(&bye, 200, "", ""));
    solo.endpoint.accept_refer(solo.now, leg, 1).unwrap_err();
    finish(solo);
}

/// The same from the other side: our REFER crosses the peer's BYE, which ends the call and not what we asked for.
#[test]
fn our_refer_that_crosses_a_bye_is_over_with_its_481() {
    let mut solo = Solo::new();
    let (leg, _, ack) = calling(&mut solo, CONTACT);
    solo.endpoint.refer(solo.now, leg, "sip:carol@192.0.2.7", None).unwrap();
    let refer = solo.sent_one();
    solo.receive(&theirs("BYE", "b", 1, &ack, ""));
    assert_eq!(methods(&solo.sent()), ["200"]);
    assert_eq!(ended(&solo.events(), leg).len(), 1);
    solo.receive(&response(&refer, 481, "", ""));
    assert!(solo.sent().is_empty() && solo.events().is_empty());
    finish(solo);
}

/// RFC 5407 3.2.3: the 200 to our re-INVITE comes when a BYE has ended the call already. It gets its ACK.
#[test]
fn a_belated_answer_to_a_reinvite_is_acknowledged() {
    for ours in [true, false] {
        let mut solo = Solo::new();
        let (leg, _, ack) = calling(&mut solo, CONTACT);
        solo.endpoint.reoffer(solo.now, leg, sdp("v=0 hold"), Method::Invite).unwrap();
        let reinvite = solo.sent_one();
        match ours {
            true => solo.endpoint.hangup(solo.now, leg, None).unwrap(),
            false => solo.receive(&theirs("BYE", "b", 1, &ack, "")),
        }
        solo.sent();
        solo.events();
        for _ in 0..2 {
            solo.receive(&response(&reinvite, 200, "bob", CONTACT));
            let ack = solo.sent_one();
            assert_eq!((ack.method(), ack.cseq_number()), (Some(Method::Ack), 2), "ours: {ours}");
            assert_eq!((ack.to_tag(), ack.request_uri()), (Some("bob"), Some("sip:bob@192.0.2.9:5060")));
        }
        assert!(solo.events().is_empty());
        finish(solo);
    }
}

/// The same for a re-INVITE that is only heard of: nothing stays behind.
#[test]
fn a_belated_provisional_response_to_a_reinvite_keeps_nothing_alive() {
    let mut solo = Solo::new();
    let (leg, _, ack) = calling(&mut solo, CONTACT);
    solo.endpoint.reoffer(solo.now, leg, sdp("v=0 hold"), Method::Invite).unwrap();
    let reinvite = solo.sent_one();
    solo.receive(&theirs("BYE", "b", 1, &ack, ""));
    solo.advance(seconds(20.0));
    solo.receive(&response(&reinvite, 100, "", ""));
    finish(solo);
}

/// RFC 3261 9.1: a challenged INVITE has been heard of, the one with credentials has not.
#[test]
fn a_cancel_waits_for_the_provisional_response_of_the_signed_invite() {
    let credentials = Credentials {
        username: "alice".into(),
        secret: Secret::Password("wonderland".into()),
        realm: "carrier".into(),
        networks: Vec::new(),
    };
    let mut solo = Solo::of(Profile { credentials: Some(Arc::new(credentials)), ..Profile::default() });
    let leg = solo.dial(1);
    let first = solo.sent_one();
    solo.receive(&response(&first, 100, "", ""));
    let challenge = "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"n\"";
    solo.receive(&response(&first, 401, "bob", challenge));
    let signed = solo.sent().pop().unwrap();
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    assert!(solo.sent().is_empty(), "not before it has been heard of");
    solo.receive(&response(&signed, 180, "bob", CONTACT));
    let cancel = solo.sent_one();
    assert_eq!((cancel.method(), cancel.branch()), (Some(Method::Cancel), signed.branch()));
    solo.receive(&response(&signed, 487, "bob", ""));
    finish(solo);
}

/// RFC 5407 3.3.1 and 3.3.2: re-INVITE meets re-INVITE, and UPDATE meets re-INVITE.
#[test]
fn offers_that_cross_are_refused_on_both_sides() {
    for ours in [Method::Invite, Method::Update] {
        for method in ["INVITE", "UPDATE"] {
            let mut solo = Solo::new();
            let (leg, tag) = called(&mut solo);
            solo.endpoint.reoffer(solo.now, leg, sdp("v=0 ours"), ours).unwrap();
            let open = solo.sent_one();
            solo.receive(&request(method, "x", 2, &tag, OFFER));
            assert_eq!(methods(&solo.sent()), ["491"], "{method} against {ours}");
            solo.receive(&response(&open, 491, "peer", ""));
            solo.sent();
            solo.receive(&request("ACK", "x", 2, &tag, ""));
            let again = solo.advance(seconds(2.1));
            assert_eq!(
                again.first().map(|(_, line)| line.as_str()),
                Some(ours.as_str()),
                "within two seconds"
            );
            solo.endpoint.hangup(solo.now, leg, None).unwrap();
            finish(solo);
        }
    }
}

/// RFC 5407 appendix E: a 180 that comes after the 200 is of no use.
#[test]
fn a_provisional_response_behind_the_answer_is_ignored() {
    let mut solo = Solo::new();
    let (leg, invite, _) = calling(&mut solo, CONTACT);
    solo.receive(&response(&invite, 180, "bob", CONTACT));
    solo.receive(&response(&invite, 180, "other", CONTACT));
    assert!(solo.sent().is_empty() && solo.events().is_empty());
    assert_eq!(solo.alive().2, 1);
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    finish(solo);
}

/// RFC 6026 figure 7: a transport error ends no INVITE server transaction, or a copy of the INVITE would be a new call.
#[test]
fn a_copy_of_an_invite_that_could_not_be_answered_is_no_new_call() {
    for answered in [false, true] {
        let mut solo = Solo::new();
        let leg = solo.incoming(&invite("a"));
        if answered {
            solo.endpoint.answer(solo.now, leg, sdp("v=0")).unwrap();
        }
        solo.sent();
        solo.endpoint.handle_transport_error(solo.now, solo.flow);
        solo.sent();
        let told = solo.events();
        assert_eq!(told.len(), usize::from(!answered), "{told:?}");
        solo.receive(&invite("a"));
        assert!(solo.events().is_empty(), "answered: {answered}");
        let sent = methods(&solo.sent());
        assert_eq!(sent, if answered { vec![] } else { vec!["500".to_owned()] });
        solo.advance(LONG);
        solo.events();
        finish(solo);
    }
}

/// The same: the 200 that got lost on the way is sent again, and its ACK counts.
#[test]
fn an_answer_that_met_a_transport_error_is_repeated() {
    let mut solo = Solo::new();
    let (leg, tag) = moratorium(&mut solo);
    solo.endpoint.handle_transport_error(solo.now, solo.flow);
    assert_eq!(solo.advance(seconds(0.6)).len(), 1);
    solo.receive(&request("ACK", "k", 1, &tag, ""));
    assert!(matches!(solo.events()[..], [Event::Confirmed { .. }]));
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    finish(solo);
}

/// A re-INVITE that met one can still be answered.
#[test]
fn a_reinvite_that_met_a_transport_error_is_still_the_applications() {
    let mut solo = Solo::new();
    let (leg, tag) = called(&mut solo);
    for (branch, cseq, method, status) in [("re", 2, "INVITE", "200"), ("u", 3, "UPDATE", "")] {
        solo.receive(&request(method, branch, cseq, &tag, OFFER));
        solo.sent();
        solo.endpoint.handle_transport_error(solo.now, solo.flow);
        let answered = solo.endpoint.answer_reoffer(solo.now, leg, sdp("v=0"));
        assert_eq!((answered.is_ok(), methods(&solo.sent()).concat().as_str()), (!status.is_empty(), status));
        solo.receive(&request("ACK", "k", cseq, &tag, ""));
    }
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    finish(solo);
}

/// RFC 3261 17.1.1.2: in Proceeding nothing of ours is under way, so that ICMP, which anybody can forge, ends no call
/// that rings.
#[test]
fn icmp_ends_no_call_that_rings() {
    let mut solo = Solo::new();
    solo.dial(1);
    let invite = solo.sent_one();
    solo.receive(&response(&invite, 180, "bob", CONTACT));
    solo.events();
    solo.icmp(&quote(&invite));
    assert!(solo.events().is_empty());
    solo.receive(&response(&invite, 200, "bob", CONTACT));
    assert!(matches!(solo.events()[..], [Event::Answered { .. }]));
}

/// What was asked under TLS is not answered in the clear, whoever knows the branch.
#[test]
fn a_response_in_the_clear_answers_nothing_that_went_by_tls() {
    let mut solo = Solo::new();
    let udp = solo.flow;
    solo.flow = Flow { transport: Transport::Tls, ..udp };
    solo.dial(1);
    let invite = solo.sent_one();
    solo.flow = udp;
    solo.receive(&response(&invite, 200, "bob", CONTACT));
    assert!(solo.events().is_empty() && solo.sent().is_empty());
    assert_eq!(solo.endpoint.stats().dropped.stray_response, 1);
    solo.flow = Flow { transport: Transport::Tls, ..udp };
    solo.receive(&response(&invite, 200, "bob", CONTACT));
    assert!(matches!(solo.events()[..], [Event::Answered { .. }]));
}

/// RFC 4320 4.1: of provisional responses to other requests than INVITE there is 100 alone, and not too soon; 4.2: never 408.
#[test]
fn an_update_is_never_answered_with_180_or_408() {
    let mut solo = Solo::new();
    let (leg, tag) = called(&mut solo);
    solo.receive(&request("UPDATE", "u", 2, &tag, OFFER));
    assert!(solo.endpoint.provisional(solo.now, leg, 180, None).is_err());
    let sent: Vec<_> = solo.advance(seconds(40.0)).into_iter().map(|(_, line)| line).collect();
    assert_eq!(sent, ["100", "504"]);
    finish_call(solo, leg);
}

fn finish_call(mut solo: Solo, leg: telephony_sip::LegId) {
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    finish(solo);
}

/// Numbers at their ends break nothing, whatever they mean.
#[test]
fn the_largest_numbers_are_only_numbers() {
    let timer = telephony_sip::SessionTimer { support: Support::Supported, ..Default::default() };
    for extra in [
        "Expires: 4294967295",
        "Expires: 99999999999999999999",
        "Session-Expires: 4294967295;refresher=uac\nSupported: timer\nMin-SE: 4294967295",
        "Supported: 100rel\nRSeq: 4294967295",
        "Max-Forwards: 255",
        "Timestamp: 99999999999999999999.9",
        "Retry-After: 18446744073709551615",
    ] {
        let profile = Profile { reliable: Support::Supported, session: timer, ..Profile::default() };
        let mut solo = Solo::of(profile);
        let offer = "Content-Type: application/sdp\n\nv=0 offer";
        let text = request("INVITE", "a", 1, "", &format!("{extra}\n{offer}"))
            .replace("CSeq: 1 ", "CSeq: 2147483647 ");
        solo.receive(&text);
        let told = solo.events();
        if let [Event::Incoming { leg, .. }] = &told[..] {
            solo.endpoint.provisional(solo.now, *leg, 180, None).unwrap();
            solo.endpoint.answer(solo.now, *leg, sdp("v=0")).unwrap();
            let tag = tag_of(solo.sent().last().unwrap());
            let ack = request("ACK", "k", 1, &tag, "").replace("CSeq: 1 ", "CSeq: 2147483647 ");
            solo.receive(&ack);
            solo.endpoint.hangup(solo.now, *leg, None).unwrap();
        } else {
            assert!(told.is_empty(), "{extra}: {told:?}");
            assert_eq!(first_line(&solo.sent_one()), "400", "{extra}");
        }
        finish(solo);
    }
}

/// The same in what a peer answers.
#[test]
fn the_largest_numbers_in_responses_are_only_numbers() {
    let timer = telephony_sip::SessionTimer { support: Support::Supported, ..Default::default() };
    for (status, extra) in [
        (503, "Retry-After: 18446744073709551615"),
        (422, "Min-SE: 4294967295"),
        (183, "Require: 100rel\nRSeq: 4294967295"),
        (200, "Session-Expires: 4294967295;refresher=uac"),
        (200, "Session-Expires: 0"),
    ] {
        let profile = Profile { reliable: Support::Supported, session: timer, ..Profile::default() };
        let mut solo = Solo::of(profile);
        let leg = solo.dial(1);
        let invite = solo.sent_one();
        solo.receive(&response(&invite, status, "bob", &format!("{extra}\n{CONTACT}")));
        solo.sent();
        solo.advance(seconds(100.0));
        solo.endpoint.hangup(solo.now, leg, None).unwrap();
        assert!(invite.header(Name::SessionExpires).is_some());
        finish(solo);
    }
}
