//! The torture tests: RFC 4475 (49 messages) and RFC 5118 (12), each with its verdict.

use bytes::Bytes;
use telephony_sip::{Limits, Message, Method, Name, ParseError};

use crate::corpora::{corpora, on_the_wire};

/// What the parser must make of a message.
enum Verdict {
    /// A sound message; what it asks for is the endpoint's to judge.
    Sound,
    /// A broken request that gets a stateless answer with this status and reason.
    Refused(u16, &'static str),
    /// A broken response: nobody to answer.
    Dropped(&'static str),
}
use Verdict::{Dropped, Refused, Sound};

const RFC4475: &[(&str, &str, Verdict)] = &[
    ("wsinv", "3.1.1.1", Sound),
    ("intmeth", "3.1.1.2", Sound),
    ("esc01", "3.1.1.3", Sound),
    ("escnull", "3.1.1.4", Sound),
    ("esc02", "3.1.1.5", Sound),
    ("lwsdisp", "3.1.1.6", Sound),
    ("longreq", "3.1.1.7", Sound),
    ("dblreq", "3.1.1.8", Sound),
    ("semiuri", "3.1.1.9", Sound),
    ("transports", "3.1.1.10", Sound),
    ("mpart01", "3.1.1.11", Sound),
    ("unreason", "3.1.1.12", Sound),
    ("noreason", "3.1.1.13", Sound),
    ("badinv01", "3.1.2.1", Refused(400, "Malformed Via header field: malformed parameter")),
    ("clerr", "3.1.2.2", Refused(400, "Body shorter than Content-Length")),
    ("ncl", "3.1.2.3", Refused(400, "Malformed Content-Length header field: not a number")),
    ("scalar02", "3.1.2.4", Refused(400, "Malformed CSeq header field: number not below 2^31")),
    ("scalarlg", "3.1.2.5", Dropped("Malformed CSeq header field: number not below 2^31")),
    ("quotbal", "3.1.2.6", Refused(400, "Malformed To header field: display name without its closing quote")),
    ("ltgtruri", "3.1.2.7", Refused(400, "Malformed Request-URI: URI without a scheme")),
    ("lwsruri", "3.1.2.8", Refused(400, "Malformed start line")),
    ("lwsstart", "3.1.2.9", Refused(400, "Malformed start line")),
    ("trws", "3.1.2.10", Refused(400, "Malformed start line")),
    ("escruri", "3.1.2.11", Refused(400, "Malformed Request-URI: headers not allowed")),
    // An element that has no use for Date may ignore it.
    ("baddate", "3.1.2.12", Sound),
    ("regbadct", "3.1.2.13", Refused(400, "Malformed Contact header field: address needs angle brackets")),
    ("badaspec", "3.1.2.14", Refused(400, "Malformed To header field: URI without a scheme")),
    ("baddn", "3.1.2.15", Refused(400, "Malformed From header field: display name needs quotes")),
    ("badvers", "3.1.2.16", Refused(505, "Version Not Supported")),
    ("mismatch01", "3.1.2.17", Refused(400, "CSeq method differs from the request's")),
    ("mismatch02", "3.1.2.18", Refused(400, "CSeq method differs from the request's")),
    ("bigcode", "3.1.2.19", Dropped("Malformed start line")),
    // No usable branch: matched by the rules of RFC 2543.
    ("badbranch", "3.2.1", Sound),
    ("insuf", "3.3.1", Refused(400, "Missing From header field")),
    ("unkscm", "3.3.2", Sound),
    ("novelsc", "3.3.3", Sound),
    ("unksm2", "3.3.4", Sound),
    ("bext01", "3.3.5", Sound),
    ("invut", "3.3.6", Sound),
    ("regaut01", "3.3.7", Sound),
    ("multi01", "3.3.8", Refused(400, "Repeated CSeq header field")),
    ("mcl01", "3.3.9", Refused(400, "Repeated Content-Length header field")),
    ("bcast", "3.3.10", Sound),
    ("zeromf", "3.3.11", Sound),
    ("cparam01", "3.3.12", Sound),
    ("cparam02", "3.3.13", Sound),
    ("regescrt", "3.3.14", Sound),
    ("sdp01", "3.3.15", Sound),
    ("inv2543", "3.4.1", Sound),
];

const RFC5118: &[(&str, &str, Verdict)] = &[
    ("ipv6-good", "4.1", Sound),
    ("ipv6-bad", "4.2", Refused(400, "Malformed Request-URI: malformed host")),
    ("port-ambiguous", "4.3", Sound),
    ("port-unambiguous", "4.4", Sound),
    ("via-received-param-with-delim", "4.5", Sound),
    ("via-received-param-no-delim", "4.5", Sound),
    ("ipv6-in-sdp", "4.6", Sound),
    ("mult-ip-in-header", "4.7", Sound),
    ("mult-ip-in-sdp", "4.8", Sound),
    ("ipv4-mapped-ipv6", "4.9", Sound),
    ("ipv6-bug-abnf-3-colons", "4.10", Sound),
    ("ipv6-correct-abnf-2-colons", "4.10", Sound),
];

fn parse(bytes: Vec<u8>) -> Result<Message, ParseError> {
    Message::parse(Bytes::from(bytes), &Limits::default())
}

fn assert_verdict(name: &str, section: &str, bytes: Vec<u8>, verdict: &Verdict) {
    match (parse(bytes), verdict) {
        (Ok(_), Sound) => {}
        (Err(error), Refused(status, reason)) => {
            assert_eq!((error.status(), error.reason().as_str()), (*status, *reason), "{name} ({section})");
            assert!(error.answerable().is_some(), "{name} ({section}) must be answerable");
        }
        (Err(error), Dropped(reason)) => {
            assert_eq!(error.reason(), *reason, "{name} ({section})");
            assert!(error.answerable().is_none(), "{name} ({section}) is a response");
        }
        (result, _) => panic!("{name} ({section}): {result:?}"),
    }
}

#[test]
fn rfc4475_every_message_has_its_verdict() {
    let Some(folder) = corpora() else { return };
    let folder = folder.join("rfc4475");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), RFC4475.len());
    for (name, section, verdict) in RFC4475 {
        let bytes = std::fs::read(folder.join(format!("{name}.dat"))).unwrap();
        assert_verdict(name, section, bytes, verdict);
    }
}

#[test]
fn rfc5118_every_message_has_its_verdict() {
    let Some(folder) = corpora() else { return };
    let folder = folder.join("rfc5118");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), RFC5118.len());
    for (name, section, verdict) in RFC5118 {
        let printed = std::fs::read_to_string(folder.join(name)).unwrap();
        for line_end in ["\r\n", "\n"] {
            assert_verdict(name, section, on_the_wire(&printed, line_end).into_bytes(), verdict);
        }
    }
}

fn message(name: &str) -> Option<Message> {
    let path = corpora()?.join(name);
    Some(parse(std::fs::read(path).unwrap()).unwrap())
}

/// RFC 4475 3.1.1.1: folds, odd white space, any case, compact forms, escapes, and yet plain values.
#[test]
fn wsinv_reads_as_if_written_plainly() {
    let Some(message) = message("rfc4475/wsinv.dat") else { return };
    assert_eq!(message.request_uri(), Some("sip:vivekg@chair-dnrc.example.com;unknownparam"));
    assert_eq!(message.to_tag(), Some("1918181833n"));
    let from = message.from().unwrap();
    assert_eq!((from.display().as_ref(), from.tag()), ("J Rosenberg \\\"", Some("98asjd8")));
    assert_eq!(message.max_forwards(), Some(68));
    assert_eq!((message.cseq_number(), message.cseq_method()), (9, Some(Method::Invite)));
    assert_eq!(message.header(Name::Subject), Some(""));
    assert_eq!(message.branch(), Some("390skdjuw"));
    let vias: Vec<_> =
        message.values(Name::Via).map(|value| telephony_sip::Via::parse(value).unwrap()).collect();
    let hops: Vec<_> =
        vias.iter().map(|via| (via.transport, via.host.to_string(), via.branch().unwrap())).collect();
    assert_eq!(
        hops,
        [
            ("UDP", "192.0.2.2".to_owned(), "390skdjuw"),
            ("TCP", "spindle.example.com".to_owned(), "z9hG4bK9ikj8"),
            ("UDP", "192.168.255.111".to_owned(), "z9hG4bK30239"),
        ]
    );
    let contact = message.contact().unwrap();
    assert_eq!(contact.display(), "Quoted string \"\"");
    assert_eq!(
        (contact.params.value("newparam"), contact.params.value("q")),
        (Some("newvalue"), Some("0.33"))
    );
    assert!(message.route().next().unwrap().uri.is_loose_router());
    assert_eq!(message.header_named("UnknownHeaderWithUnusualValue"), Some(";;,,;;,;"));
    assert_eq!(message.body().len(), 150);
}

/// RFC 4475 3.1.1.2, 3.1.1.5: methods are tokens, whatever they look like.
#[test]
fn methods_are_any_token() {
    let Some(intmeth) = message("rfc4475/intmeth.dat") else { return };
    assert_eq!(intmeth.method(), Some(Method::Other));
    assert_eq!(intmeth.method_str(), "!interesting-Method0123456789_*+`.%indeed'~");
    assert_eq!(intmeth.to().unwrap().display(), "BEL:\u{7} NUL:\0 DEL:\u{7f}");
    let user = "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*";
    assert_eq!(intmeth.uri().unwrap().user(), Some(user));
    assert_eq!(intmeth.uri().unwrap().password(), Some("&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"));
    let escaped = message("rfc4475/esc02.dat").unwrap();
    assert_eq!(escaped.method(), Some(Method::Other));
    // An escaped name is another name: two Contacts, not three.
    assert_eq!(escaped.contacts().count(), 2);
}

/// RFC 4475 3.1.1.8: what follows the body in a datagram is no part of the message (RFC 3261 18.3).
#[test]
fn dblreq_ends_at_its_content_length() {
    let Some(message) = message("rfc4475/dblreq.dat") else { return };
    assert_eq!(message.method(), Some(Method::Register));
    assert!(message.body().is_empty());
    assert!(message.bytes().ends_with(b"Content-Length: 0\r\n\r\n"));
}

/// RFC 4475 3.1.1.9, 3.1.1.13: a user part with a parameter inside; no reason phrase.
#[test]
fn odd_parts_stay_in_their_place() {
    let Some(semiuri) = message("rfc4475/semiuri.dat") else { return };
    assert_eq!(semiuri.uri().unwrap().user_unescaped().unwrap(), "user;par=u@example.net");
    assert_eq!(semiuri.values(Name::Accept).count(), 6);
    let noreason = message("rfc4475/noreason.dat").unwrap();
    assert_eq!((noreason.status().unwrap().0, noreason.reason()), (100, ""));
}

/// RFC 4475 3.3.12, 3.3.13: without brackets the parameter is the header's, inside it is the URI's.
#[test]
fn brackets_decide_whose_a_parameter_is() {
    let Some(outside) = message("rfc4475/cparam01.dat") else { return };
    let contact = outside.contact().unwrap();
    assert!(contact.params.has("unknownparam") && !contact.uri.params().has("unknownparam"));
    let inside = message("rfc4475/cparam02.dat").unwrap();
    let contact = inside.contact().unwrap();
    assert!(!contact.params.has("unknownparam") && contact.uri.params().has("unknownparam"));
}

/// RFC 5118 4.3 to 4.5, 4.10.
#[test]
fn ipv6_references_end_at_their_bracket() {
    let Some(ambiguous) = message("rfc5118/port-ambiguous") else { return };
    let uri = ambiguous.uri().unwrap();
    assert_eq!((uri.host().unwrap().to_string().as_str(), uri.port()), ("[2001:db8::10:5070]", None));
    let unambiguous = message("rfc5118/port-unambiguous").unwrap();
    let uri = unambiguous.uri().unwrap();
    assert_eq!((uri.host().unwrap().to_string().as_str(), uri.port()), ("[2001:db8::10]", Some(5070)));
    for name in ["rfc5118/via-received-param-with-delim", "rfc5118/via-received-param-no-delim"] {
        let message = message(name).unwrap();
        assert_eq!(message.top_via().unwrap().received(), Some("2001:db8::9:255".parse().unwrap()));
    }
    let three = message("rfc5118/ipv6-bug-abnf-3-colons").unwrap();
    let two = message("rfc5118/ipv6-correct-abnf-2-colons").unwrap();
    assert_eq!(three.uri().unwrap(), two.uri().unwrap());
}

/// RFC 4475 3.3.1: a refusal of what lacks its identity copies what there is.
#[test]
fn insuf_is_answered_with_what_it_has() {
    let Some(folder) = corpora() else { return };
    let error = parse(std::fs::read(folder.join("rfc4475/insuf.dat")).unwrap()).unwrap_err();
    let request = error.answerable().unwrap();
    let answer = telephony_sip::Builder::response(request, error.status(), &error.reason()).build().unwrap();
    let answer = String::from_utf8(answer.to_vec()).unwrap();
    let expected = "SIP/2.0 400 Missing From header field\r\nVia: SIP/2.0/UDP 192.0.2.95;branch=z9hG4bKkdj.insuf\r\n\
                    CSeq: 193942 INVITE\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(answer, expected);
}
