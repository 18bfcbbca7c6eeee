//! What never becomes a call: each refusal of RFC 3261 8.2, without state and the same every time.

use telephony_sip::{Config, Message, Method, Name};

use crate::wire::{NOTHING, Solo, first_line, invite, request};

/// The answer to a request that must leave nothing behind.
fn refused(text: &str) -> Message {
    let mut solo = Solo::new();
    solo.receive(text);
    let answer = solo.sent_one();
    assert!(solo.events().is_empty());
    assert_eq!(solo.alive(), NOTHING);
    solo.receive(text);
    assert_eq!(solo.sent_one().bytes(), answer.bytes(), "8.2.7: a repeated request gets the same answer");
    assert!(answer.to_tag().is_some(), "8.2.6.2");
    answer
}

fn status(text: &str) -> String {
    first_line(&refused(text))
}

#[test]
fn an_unknown_method_is_405_with_the_known_ones() {
    for method in ["REGISTER", "MESSAGE", "PUBLISH", "DANCE"] {
        let answer = refused(&request(method, "a", 1, "", ""));
        assert_eq!(first_line(&answer), "405", "{method}");
        assert!(answer.header(Name::Allow).unwrap().contains("INVITE"));
    }
}

#[test]
fn an_unknown_scheme_is_416() {
    let text = invite("a").replace("INVITE sip:gateway@192.0.2.1 ", "INVITE nobodyKnows:this ");
    assert_eq!(status(&text), "416");
}

#[test]
fn a_call_without_hops_left_is_483_but_options_ends_here_anyway() {
    assert_eq!(status(&invite("a").replace("Max-Forwards: 70", "Max-Forwards: 0")), "483");
    assert_eq!(
        status(&request("OPTIONS", "a", 1, "", "").replace("Max-Forwards: 70", "Max-Forwards: 0")),
        "200"
    );
}

#[test]
fn a_required_extension_is_420_and_named() {
    let answer = refused(&request("INVITE", "a", 1, "", "Require: 100rel, magic"));
    assert_eq!(first_line(&answer), "420");
    assert_eq!(answer.header(Name::Unsupported), Some("100rel, magic"));
}

#[test]
fn a_body_we_cannot_read_is_415_unless_it_is_optional() {
    let answer = refused(&request("INVITE", "a", 1, "", "Content-Type: text/plain\n\nhello"));
    assert_eq!((first_line(&answer).as_str(), answer.header(Name::Accept)), ("415", Some("application/sdp")));
    let zipped = "Content-Type: application/sdp\nContent-Encoding: gzip\n\nxxxx";
    let answer = refused(&request("INVITE", "b", 1, "", zipped));
    assert_eq!(answer.header(Name::AcceptEncoding), Some("identity"));
    let optional = "Content-Type: text/plain\nContent-Disposition: render; handling=optional\n\nhello";
    let mut solo = Solo::new();
    solo.incoming(&request("INVITE", "c", 1, "", optional));
}

#[test]
fn requests_of_dialogs_that_do_not_exist_are_481() {
    for method in ["BYE", "INFO", "PRACK", "UPDATE", "INVITE", "OPTIONS"] {
        assert_eq!(status(&request(method, "a", 2, "unknown", "")), "481", "{method}");
    }
    assert_eq!(status(&request("BYE", "a", 2, "", "")), "481");
    assert_eq!(status(&request("CANCEL", "a", 1, "", "")), "481");
}

#[test]
fn a_stray_ack_is_never_answered() {
    let mut solo = Solo::new();
    solo.receive(&request("ACK", "a", 1, "unknown", ""));
    assert!(solo.sent().is_empty());
    assert_eq!(solo.endpoint.stats().dropped.stray_ack, 1);
}

#[test]
fn a_merged_request_is_482() {
    let mut solo = Solo::new();
    solo.incoming(&invite("a"));
    solo.sent();
    solo.receive(&invite("other-way"));
    assert_eq!(first_line(&solo.sent_one()), "482", "8.2.2.2");
    assert!(solo.events().is_empty());
}

#[test]
fn another_version_is_505_and_a_broken_request_400() {
    assert_eq!(status(&invite("a").replace("SIP/2.0\n", "SIP/7.0\n")), "505");
    assert_eq!(status(&invite("a").replace("Max-Forwards: 70", "Max-Forwards: many")), "400");
    assert_eq!(status(&invite("a").replace("Contact: <sip:peer@192.0.2.9:5060>\n", "")), "400");
}

#[test]
fn noise_is_counted_and_dropped() {
    let mut solo = Solo::new();
    for noise in ["", "\n\n", "\0\0\0\0", "hello", "GET / HTTP/1.1\n\n", "SIP/2.0 200 OK\n\n"] {
        solo.receive(noise);
    }
    let dropped = solo.endpoint.stats().dropped;
    assert_eq!((dropped.keep_alive, dropped.malformed), (3, 3));
    assert!(solo.sent().is_empty());
}

#[test]
fn options_says_what_we_can() {
    let answer = refused(&request("OPTIONS", "a", 1, "", ""));
    assert_eq!(first_line(&answer), "200");
    for name in [Name::Allow, Name::Accept, Name::AcceptEncoding, Name::AcceptLanguage, Name::Supported] {
        assert!(answer.has(name), "11.2: {name}");
    }
}

#[test]
fn full_tables_refuse_new_calls_with_a_retry_after() {
    let mut solo = Solo::with(Config { max_dialogs: 2, ..Config::default() });
    for branch in ["a", "b", "c", "d"] {
        solo.receive(&invite(branch).replace("solo@", branch));
    }
    let answers = solo.sent();
    let statuses: Vec<_> = answers.iter().map(first_line).collect();
    assert_eq!(statuses, ["100", "100", "503", "503"]);
    let seconds: u32 = answers[2].header(Name::RetryAfter).unwrap().parse().unwrap();
    assert!((5..=15).contains(&seconds));
    assert_eq!(solo.endpoint.stats().overloaded, 2);
}

#[test]
fn a_caller_that_takes_no_session_description_is_406() {
    let answer = refused(&request("INVITE", "a", 1, "", "Accept: text/plain, image/*"));
    assert_eq!((first_line(&answer).as_str(), answer.header(Name::Accept)), ("406", Some("application/sdp")));
    for takes in ["application/sdp;level=1", "text/plain, Application/SDP", "application/*", "*/*;q=0.1"] {
        let mut solo = Solo::new();
        solo.incoming(&request("INVITE", "b", 1, "", &format!("Accept: {takes}")));
    }
}

/// RFC 4475 3.4.1: no From tag, no branch, no Contact; what we have to say later goes to its From.
#[test]
fn a_caller_of_rfc_2543_is_hung_up_on_at_its_from() {
    let old = "INVITE sip:gateway@192.0.2.1 SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.9\nFrom: <sip:old@192.0.2.9:5070>\n\
               To: <sip:gateway@192.0.2.1>\nCall-ID: old@192.0.2.9\nCSeq: 1 INVITE\n\n";
    let mut solo = Solo::new();
    let leg = solo.incoming(old);
    solo.endpoint.answer(solo.now, leg, None).unwrap();
    let answers = solo.sent();
    let tag = answers[1].to_tag().unwrap();
    solo.receive(&format!(
        "ACK sip:gateway@192.0.2.1 SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.9\nFrom: <sip:old@192.0.2.9:5070>\n\
         To: <sip:gateway@192.0.2.1>;tag={tag}\nCall-ID: old@192.0.2.9\nCSeq: 1 ACK\n\n"
    ));
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    let bye = solo.sent_one();
    assert_eq!((bye.method(), bye.request_uri()), (Some(Method::Bye), Some("sip:old@192.0.2.9:5070")));
}
