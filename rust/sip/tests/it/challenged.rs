//! Challenges of peers, answered without a word to the owner (RFC 3261 22, RFC 7616, RFC 8760).

use std::sync::Arc;
use std::time::Duration;

use telephony_sip::digest::{
    Algorithm, Credentials, Fields, Qop, Secret, Subject, Terms, response as digest,
};
use telephony_sip::{Event, Failure, LegId, Message, Method, Name, Probe, Probed, Profile, Support, Target};

use crate::wire::{CONTACT, NOTHING, Solo, dial, methods, response, sdp, theirs};

const MD5: &str = "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"n1\"";
const SHA: &str =
    "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"n1\", algorithm=SHA-256, qop=\"auth\", opaque=\"o\"";
const PROXY: &str = "Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"p1\", qop=\"auth,auth-int\"";

fn profile() -> Arc<Profile> {
    let credentials = Credentials {
        username: "alice".into(),
        secret: Secret::Password("wonder\"land".into()),
        realm: "carrier".into(),
        networks: vec![("198.51.100.0".parse().unwrap(), 24)],
    };
    Arc::new(Profile {
        name: "carrier".into(),
        credentials: Some(Arc::new(credentials)),
        ..Profile::default()
    })
}

/// A call has left; gives its leg and its INVITE.
fn calling(solo: &mut Solo) -> (LegId, Message) {
    let leg = LegId(1);
    let dial = telephony_sip::Dial { profile: profile(), ..dial(solo.flow) };
    solo.endpoint.dial(solo.now, leg, dial).unwrap();
    (leg, solo.sent_one())
}

/// Answers a request and gives what was sent because of it, ACKs left out.
fn answered(solo: &mut Solo, request: &Message, status: u16, extra: &str) -> Vec<Message> {
    solo.receive(&response(request, status, "bob", extra));
    solo.sent().into_iter().filter(|message| message.method() != Some(Method::Ack)).collect()
}

/// Checks one header of credentials as a server would, and gives its `nc`.
fn checked(request: &Message, name: Name) -> Option<String> {
    let all: Vec<_> = request.lines(name).flat_map(Fields::parse).collect();
    let [fields] = &all[..] else { panic!("{} credentials in {name}", all.len()) };
    let value = |name| fields.value(name);
    let algorithm = Algorithm::parse(value("algorithm").unwrap_or("MD5")).unwrap();
    let ha1 = Secret::Password("wonder\"land".into()).ha1(algorithm.hash, "alice", "carrier").unwrap();
    let body = request.body();
    let uri = request.request_uri().unwrap();
    let subject = Subject { method: request.method_str(), uri, body };
    let quality = value("qop").map(|qop| {
        let qop = if qop == "auth" { Qop::Auth } else { Qop::AuthInt };
        (value("nc").unwrap(), value("cnonce").unwrap(), qop)
    });
    let terms = Terms { algorithm, nonce: value("nonce").unwrap(), quality };
    assert_eq!(value("response"), Some(&*digest(&ha1, &terms, &subject)), "{fields:?}");
    assert_eq!((value("username"), value("uri")), (Some("alice"), Some(uri)));
    value("nc").map(str::to_owned)
}

#[test]
fn a_challenged_invite_comes_again_with_credentials() {
    let mut solo = Solo::new();
    let (leg, first) = calling(&mut solo);
    let second = answered(&mut solo, &first, 401, SHA).remove(0);
    assert_eq!(checked(&second, Name::Authorization).as_deref(), Some("00000001"));
    assert!(second.header(Name::Authorization).unwrap().contains("opaque=\"o\""));
    assert_eq!((second.call_id(), second.cseq_number()), (first.call_id(), first.cseq_number() + 1));
    assert_eq!((second.from_tag(), second.to_tag()), (first.from_tag(), None));
    assert_ne!(second.branch(), first.branch());
    assert_eq!((second.body(), second.content_type()), (first.body(), first.content_type()));
    assert!(solo.events().is_empty());
    solo.receive(&response(&second, 200, "bob", CONTACT));
    let ack = solo.sent_one();
    assert_eq!((ack.cseq_number(), ack.header(Name::Authorization)), (2, second.header(Name::Authorization)));
    let [Event::Answered { leg: answered, .. }] = &solo.events()[..] else { panic!() };
    assert_eq!(*answered, leg);
}

#[test]
fn later_requests_of_the_dialog_are_signed_unasked() {
    let mut solo = Solo::new();
    let (leg, first) = calling(&mut solo);
    let second = answered(&mut solo, &first, 407, PROXY).remove(0);
    answered(&mut solo, &second, 200, CONTACT);
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    let bye = solo.sent_one();
    assert_eq!(checked(&bye, Name::ProxyAuthorization).as_deref(), Some("00000002"));
    assert_eq!(bye.cseq_number(), 3);
    // The nonce has run out meanwhile; the leg is gone for its owner, its BYE is answered for all that.
    let new = "Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"p2\", stale=TRUE, qop=auth-int";
    let again = answered(&mut solo, &bye, 407, new).remove(0);
    assert_eq!(checked(&again, Name::ProxyAuthorization).as_deref(), Some("00000001"));
    assert_eq!((again.method(), again.cseq_number()), (Some(Method::Bye), 4));
    assert!(answered(&mut solo, &again, 407, new).is_empty(), "stale twice");
    solo.advance(Duration::from_secs(64));
    assert_eq!(solo.alive(), NOTHING);
}

/// RFC 7616 3.4, RFC 3261 22.2: `auth-int` protects bodies, which are known when a request is signed.
#[test]
fn a_peer_that_wants_bodies_protected_gets_each_request_signed() {
    let mut solo = Solo::new();
    let (leg, first) = calling(&mut solo);
    let second = answered(&mut solo, &first, 401, &SHA.replace("\"auth", "\"auth-int")).remove(0);
    answered(&mut solo, &second, 200, CONTACT);
    let mut counts = Vec::new();
    let mut check = |request: &Message| counts.extend(checked(request, Name::Authorization));
    for (method, body) in [(Method::Invite, "v=0 hold"), (Method::Update, "v=0 resume")] {
        solo.endpoint.reoffer(solo.now, leg, sdp(body), method).unwrap();
        let reoffer = solo.sent_one();
        check(&reoffer);
        answered(&mut solo, &reoffer, 200, CONTACT);
    }
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    check(&solo.sent_one());
    assert_eq!(counts, ["00000002", "00000003", "00000004"]);
}

/// The second challenge is not about the credentials that the first got meanwhile.
#[test]
fn requests_challenged_at_the_same_time_are_both_answered() {
    let mut solo = Solo::new();
    let (leg, first) = calling(&mut solo);
    answered(&mut solo, &first, 200, CONTACT);
    solo.endpoint.reoffer(solo.now, leg, sdp("v=0 hold"), Method::Update).unwrap();
    let update = solo.sent_one();
    solo.endpoint.refer(solo.now, leg, "sip:carol@192.0.2.7", None).unwrap();
    let refer = solo.sent_one();
    assert_eq!(answered(&mut solo, &update, 401, SHA).len(), 1);
    let again = answered(&mut solo, &refer, 401, &SHA.replace("n1", "n2")).remove(0);
    assert_eq!(checked(&again, Name::Authorization).as_deref(), Some("00000001"));
    assert!(answered(&mut solo, &again, 401, &SHA.replace("n1", "n3")).is_empty(), "these were refused");
}

#[test]
fn a_challenged_reoffer_comes_again_too() {
    for method in [Method::Invite, Method::Update] {
        let mut solo = Solo::new();
        let (leg, first) = calling(&mut solo);
        answered(&mut solo, &first, 200, CONTACT);
        solo.events();
        solo.endpoint.reoffer(solo.now, leg, sdp("v=0 hold"), method).unwrap();
        let reoffer = solo.sent_one();
        let again = answered(&mut solo, &reoffer, 401, &SHA.replace("\"auth", "\"auth-int")).remove(0);
        assert_eq!(checked(&again, Name::Authorization).as_deref(), Some("00000001"));
        assert_eq!((again.method(), again.cseq_number()), (Some(method), 3));
        assert!(solo.events().is_empty());
        answered(&mut solo, &again, 200, CONTACT);
        assert!(matches!(&solo.events()[..], [Event::ReofferAnswered { .. }]));
    }
}

#[test]
fn proxy_and_server_may_both_ask_one_after_the_other_or_at_once() {
    for at_once in [false, true] {
        let mut solo = Solo::new();
        let (_, first) = calling(&mut solo);
        let mut request = match at_once {
            true => answered(&mut solo, &first, 401, &format!("{MD5}\n{PROXY}")).remove(0),
            false => {
                let second = answered(&mut solo, &first, 407, PROXY).remove(0);
                answered(&mut solo, &second, 401, MD5).remove(0)
            }
        };
        assert_eq!(checked(&request, Name::Authorization), None, "RFC 2069 counts nothing");
        assert!(checked(&request, Name::ProxyAuthorization).is_some());
        // A peer that never has enough is left before long.
        let mut rounds = 0;
        while let Some(next) = answered(&mut solo, &request, 407, PROXY).pop() {
            (request, rounds) = (next, rounds + 1);
            assert!(rounds < 5);
            let Some(next) = answered(&mut solo, &request, 401, MD5).pop() else { break };
            request = next;
        }
        let refused = |event: &Event| matches!(event, Event::Ended { ended, .. } if matches!(ended.status, Some(401 | 407)));
        assert!(solo.events().iter().any(refused));
    }
}

#[test]
fn a_wrong_password_is_tried_once() {
    for challenge in [MD5, SHA] {
        let mut solo = Solo::new();
        let (_, first) = calling(&mut solo);
        let second = answered(&mut solo, &first, 401, challenge).remove(0);
        assert!(answered(&mut solo, &second, 401, &challenge.replace("n1", "n2")).is_empty());
        assert_eq!(solo.ended().status, Some(401));
    }
}

#[test]
fn the_topmost_supported_challenge_is_taken() {
    let sha512 = SHA.replace("SHA-256", "SHA-512-256");
    for (challenges, hash) in [
        (vec![SHA, MD5], "SHA-256"),
        (vec![MD5, SHA], ""),
        (vec!["WWW-Authenticate: Basic realm=\"carrier\"", &sha512, MD5], "SHA-512-256"),
        (vec![&SHA.replace("SHA-256", "SHA3"), MD5], ""),
        (vec![&SHA.replace("auth\"", "token\""), MD5], ""),
        (vec![&SHA.replace("SHA-256", "md5-SESS")], "MD5-sess"),
        (
            vec![
                "WWW-Authenticate: Digest realm=\"other\", nonce=\"x\", Digest realm=\"carrier\", nonce=\"n1\"",
            ],
            "",
        ),
    ] {
        let mut solo = Solo::new();
        let (_, first) = calling(&mut solo);
        let second = answered(&mut solo, &first, 401, &challenges.join("\n")).remove(0);
        checked(&second, Name::Authorization);
        let named =
            Fields::parse(second.header(Name::Authorization).unwrap())[0].value("algorithm").unwrap_or("");
        assert_eq!(named, hash, "{challenges:?}");
    }
}

#[test]
fn nobody_else_gets_an_answer() {
    for foreign in [
        SHA.replace("carrier", "elsewhere"),
        SHA.replace("carrier", "Carrier"),
        SHA.replace("Digest", "Basic"),
        SHA.replace("realm=\"carrier\", ", ""),
        format!("{SHA}, nonce=\"n2\""),
        "X: y".to_owned(),
    ] {
        let mut solo = Solo::new();
        let (_, first) = calling(&mut solo);
        assert!(answered(&mut solo, &first, 401, &foreign).is_empty(), "{foreign}");
        assert_eq!(solo.ended().status, Some(401));
    }
}

/// The peer's Contact leads elsewhere: whoever is there gets no digest out of the BYE.
#[test]
fn a_request_that_went_elsewhere_is_not_signed() {
    for (contact, served) in [("203.0.113.66", false), ("198.51.100.7", true), ("192.0.2.9:5070", true)] {
        let mut solo = Solo::new();
        let (leg, first) = calling(&mut solo);
        answered(&mut solo, &first, 200, &format!("Contact: <sip:bob@{contact}>"));
        solo.endpoint.hangup(solo.now, leg, None).unwrap();
        let bye = solo.sent_one();
        let again = answered(&mut solo, &bye, 401, SHA);
        assert_eq!(again.len(), usize::from(served), "{contact}");
    }
}

#[test]
fn a_call_given_up_is_not_begun_again() {
    let mut solo = Solo::new();
    let (leg, first) = calling(&mut solo);
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    assert!(answered(&mut solo, &first, 401, SHA).is_empty());
    solo.advance(Duration::from_secs(64));
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn a_challenged_call_is_cancelled_by_its_second_invite() {
    let mut solo = Solo::new();
    let (leg, first) = calling(&mut solo);
    let second = answered(&mut solo, &first, 401, SHA).remove(0);
    answered(&mut solo, &second, 180, CONTACT);
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    let cancel = solo.sent_one();
    assert_eq!((cancel.method(), cancel.cseq_number()), (Some(Method::Cancel), 2));
    assert_eq!(cancel.branch(), second.branch());
    answered(&mut solo, &cancel, 200, "");
    answered(&mut solo, &second, 487, "");
    solo.advance(Duration::from_secs(64));
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn a_called_leg_answers_its_trunk() {
    let mut solo = Solo::new();
    solo.profile = profile();
    let leg = solo.incoming(&crate::wire::invite("in"));
    solo.endpoint.answer(solo.now, leg, None).unwrap();
    let tag = crate::wire::tag_of(&solo.sent().pop().unwrap());
    solo.receive(&crate::wire::request("ACK", "ack", 1, &tag, ""));
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    let bye = solo.sent_one();
    let again = answered(&mut solo, &bye, 401, SHA).remove(0);
    assert_eq!(checked(&again, Name::Authorization).as_deref(), Some("00000001"));
    assert_eq!(methods(&answered(&mut solo, &again, 200, "")), Vec::<String>::new());
}

/// 13.2.2.4, 22.3: whoever answers too late is hung up on for good, be the leg there, gone, or on with the next target.
#[test]
fn the_bye_to_whoever_answers_too_late_is_signed_too() {
    for case in ["a fork", "gone", "former"] {
        let mut solo = Solo::new();
        let others = vec![Target { flow: solo.flow, contact: "192.0.2.1:5060".into() }];
        let dial = telephony_sip::Dial { profile: profile(), others, ..dial(solo.flow) };
        solo.endpoint.dial(solo.now, LegId(1), dial).unwrap();
        let first = solo.sent_one();
        if case == "former" {
            solo.advance(profile().failover.patience);
        } else {
            solo.receive(&response(&first, 200, "bob", CONTACT));
        }
        if case == "gone" {
            solo.endpoint.hangup(solo.now, LegId(1), None).unwrap();
        }
        solo.sent();
        solo.receive(&response(&first, 200, "late", CONTACT));
        let bye = solo.sent().pop().unwrap();
        let again = answered(&mut solo, &bye, 407, PROXY).pop().expect(case);
        assert_eq!((again.method(), again.to_tag()), (Some(Method::Bye), Some("late")), "{case}");
        assert_eq!(checked(&again, Name::ProxyAuthorization).as_deref(), Some("00000001"));
        assert!(answered(&mut solo, &again, 200, "").is_empty());
        solo.endpoint.hangup(solo.now, LegId(1), None).unwrap();
        solo.advance(Duration::from_secs(128));
        assert_eq!(solo.alive(), NOTHING, "{case}");
    }
}

#[test]
fn without_credentials_a_challenge_is_a_refusal() {
    let mut solo = Solo::new();
    solo.dial(1);
    let invite = solo.sent_one();
    assert!(answered(&mut solo, &invite, 407, PROXY).is_empty());
    assert_eq!(solo.ended().status, Some(407));
}

#[test]
fn a_challenged_prack_comes_again() {
    let mut solo = Solo::new();
    let reliable = Profile { reliable: Support::Supported, ..Profile::clone(&profile()) };
    let dial = telephony_sip::Dial { profile: Arc::new(reliable), ..dial(solo.flow) };
    solo.endpoint.dial(solo.now, LegId(1), dial).unwrap();
    let invite = solo.sent_one();
    solo.receive(&response(&invite, 183, "bob", &format!("Require: 100rel\nRSeq: 7\n{CONTACT}")));
    let prack = solo.sent_one();
    solo.events();
    let again = answered(&mut solo, &prack, 407, PROXY).remove(0);
    assert_eq!((again.method(), again.cseq_number()), (Some(Method::Prack), prack.cseq_number() + 1));
    assert_eq!(again.header(Name::RAck), prack.header(Name::RAck));
    assert_eq!(checked(&again, Name::ProxyAuthorization).as_deref(), Some("00000001"));
    assert!(answered(&mut solo, &again, 200, "").is_empty() && solo.events().is_empty());
    // A password that is wrong is a PRACK that failed.
    solo.receive(&response(&invite, 183, "bob", &format!("Require: 100rel\nRSeq: 8\n{CONTACT}")));
    let prack = solo.sent_one();
    solo.events();
    let again = answered(&mut solo, &prack, 407, &PROXY.replace("p1", "p2")).remove(0);
    assert_eq!(methods(&answered(&mut solo, &again, 407, &PROXY.replace("p1", "p3"))), ["CANCEL"]);
}

#[test]
fn a_challenged_probe_comes_again_and_has_no_more_time() {
    for status in [200, 407] {
        let mut solo = Solo::new();
        let probe = Probe {
            number: 1,
            target: Target { flow: solo.flow, contact: "192.0.2.1:5060".into() },
            request_uri: "sip:192.0.2.9".to_owned(),
            from: "<sip:gateway@192.0.2.1>".to_owned(),
            patience: Duration::from_secs(4),
            profile: profile(),
        };
        solo.endpoint.probe(solo.now, &probe).unwrap();
        let options = solo.sent_one();
        solo.advance(Duration::from_secs(3));
        let again = answered(&mut solo, &options, 407, PROXY).remove(0);
        assert_eq!(checked(&again, Name::ProxyAuthorization).as_deref(), Some("00000001"));
        assert_eq!((again.method(), again.cseq_number()), (Some(Method::Options), 2));
        assert_eq!(solo.endpoint.poll_probed(), None);
        match status {
            200 => drop(answered(&mut solo, &again, 200, "")),
            _ => drop(solo.advance(Duration::from_millis(1001))),
        }
        let result = if status == 200 { Ok(200) } else { Err(Failure::Silent) };
        assert_eq!(solo.endpoint.poll_probed(), Some(Probed { number: 1, result }));
        solo.advance(Duration::from_secs(6));
        assert_eq!(solo.alive(), NOTHING);
    }
}

#[test]
fn a_challenged_bye_still_meets_the_peers_own() {
    let mut solo = Solo::new();
    let (leg, first) = calling(&mut solo);
    solo.receive(&response(&first, 200, "bob", CONTACT));
    let ack = solo.sent_one();
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    let bye = solo.sent_one();
    answered(&mut solo, &bye, 407, PROXY);
    solo.advance(Duration::from_secs(6));
    solo.receive(&theirs("BYE", "b", 1, &ack, ""));
    assert_eq!(methods(&solo.sent()), ["200"], "the dialog waits for the second BYE, not for the first");
    solo.advance(Duration::from_secs(64));
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn a_better_algorithm_is_not_given_up_for_md5() {
    let mut solo = Solo::new();
    let (leg, first) = calling(&mut solo);
    let second = answered(&mut solo, &first, 401, SHA).remove(0);
    answered(&mut solo, &second, 200, CONTACT);
    solo.events();
    solo.endpoint.reoffer(solo.now, leg, sdp("v=0 hold"), Method::Update).unwrap();
    let update = solo.sent_one();
    let weaker = MD5.replace("n1", "n2") + ", stale=true, qop=\"auth\"";
    assert!(answered(&mut solo, &update, 401, &weaker).is_empty());
    assert!(matches!(&solo.events()[..], [Event::ReofferRefused { status: 401, .. }]));
    solo.endpoint.reoffer(solo.now, leg, sdp("v=0 hold"), Method::Update).unwrap();
    let update = solo.sent_one();
    let same = SHA.replace("n1", "n3");
    assert_eq!(answered(&mut solo, &update, 401, &same).len(), 1, "the same again is welcome");
}

#[test]
fn a_challenged_refer_and_its_notices_come_again() {
    let mut solo = Solo::new();
    let (leg, first) = calling(&mut solo);
    solo.receive(&response(&first, 200, "bob", CONTACT));
    let ack = solo.sent_one();
    solo.events();
    solo.endpoint.refer(solo.now, leg, "sip:carol@192.0.2.7", None).unwrap();
    let refer = solo.sent_one();
    let again = answered(&mut solo, &refer, 401, SHA).remove(0);
    assert_eq!(checked(&again, Name::Authorization).as_deref(), Some("00000001"));
    assert_eq!(
        (again.method(), again.header(Name::ReferTo)),
        (Some(Method::Refer), refer.header(Name::ReferTo))
    );
    assert!(solo.events().is_empty());
    assert!(answered(&mut solo, &again, 202, CONTACT).is_empty());
    assert!(matches!(solo.events()[..], [Event::ReferAnswered { status: 202, .. }]));
    solo.receive(&theirs("REFER", "r", 1, &ack, "Refer-To: <sip:carol@192.0.2.7>"));
    let Some(Event::Refer { id, .. }) = solo.events().pop() else { panic!() };
    solo.endpoint.accept_refer(solo.now, leg, id).unwrap();
    let notify = solo.sent().pop().unwrap();
    let again = answered(&mut solo, &notify, 407, PROXY).remove(0);
    assert_eq!((again.method(), again.body()), (Some(Method::Notify), notify.body()));
    assert_eq!(checked(&again, Name::ProxyAuthorization).as_deref(), Some("00000001"));
    solo.endpoint.notify_refer(solo.now, leg, id, 200, "").unwrap();
    assert!(solo.sent().is_empty(), "the next notice waits for the answer to the signed one");
    assert_eq!(methods(&answered(&mut solo, &again, 200, "")), ["NOTIFY"]);
}
