//! Messages: parsing, building, framing.

use bytes::Bytes;
use telephony_sip::framer::FrameError;
use telephony_sip::{
    BuildError, Builder, Frame, Framer, Limits, Message, Method, Name, ParseError, Rule, Via,
};

const OPTIONS: &str = "OPTIONS sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP a.example.com;branch=z9hG4bK1;rport\r\n\
f: <sip:alice@example.com>;tag=1\r\nTo: sip:bob@example.com\r\ni: 1@a\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n";

fn parse(text: &str) -> Result<Message, ParseError> {
    Message::parse(Bytes::copy_from_slice(text.as_bytes()), &Limits::default())
}

/// OPTIONS with further header lines and a body.
fn options(lines: &str) -> Result<Message, ParseError> {
    parse(&format!("{OPTIONS}{lines}"))
}

fn rule(text: &str) -> Rule {
    parse(text).unwrap_err().rule()
}

#[test]
fn keys_are_found_while_parsing() {
    let message = options("Supported: timer\r\nk: 100rel , path\r\nl: 3\r\n\r\nabcdef").unwrap();
    assert_eq!(
        (message.method(), message.request_uri()),
        (Some(Method::Options), Some("sip:bob@example.com"))
    );
    assert_eq!((message.branch(), message.from_tag(), message.to_tag()), (Some("z9hG4bK1"), Some("1"), None));
    assert_eq!((message.call_id(), message.cseq_number()), ("1@a", 1));
    assert_eq!(message.supported().collect::<Vec<_>>(), ["timer", "100rel", "path"]);
    assert_eq!(message.header_named("f"), message.header_named("FROM"));
    assert_eq!((message.body(), message.body_bytes().as_ref()), (&b"abc"[..], &b"abc"[..]));
    assert!(message.bytes().ends_with(b"abc"));
    assert_eq!(message.header(Name::Contact), None);
}

#[test]
fn commas_split_outside_quotes_and_brackets() {
    let message =
        options("Contact: \"a, b\" <sip:a@h;x=1,2>;p=\"c,d\" , <sip:b,c@h>,sip:d@h;q=1\r\n\r\n").unwrap_err();
    // A comma in a URI parameter breaks the URI, not the split.
    assert_eq!(message.rule().reason(), "Malformed Contact header field: malformed URI parameters");
    let message = options("Contact: \"a, b\" <sip:a@h>;p=\"c,d\" , <sip:b,c@h>,sip:d@h;q=1\r\n\r\n").unwrap();
    let displays: Vec<_> = message.contacts().map(|contact| contact.display().into_owned()).collect();
    assert_eq!(displays, ["a, b", "", ""]);
    let users: Vec<_> = message.contacts().map(|contact| contact.uri.user().unwrap()).collect();
    assert_eq!(users, ["a", "b,c", "d"]);
}

#[test]
fn headers_without_lists_are_not_split() {
    let message = options("Subject: one, two\r\nDate: Sun, 22 Nov 2026 08:00:00 GMT\r\n\r\n").unwrap();
    assert_eq!(message.values(Name::Subject).collect::<Vec<_>>(), ["one, two"]);
    assert_eq!(message.values(Name::Date).count(), 1);
}

#[test]
fn folds_join_and_line_ends_may_be_bare() {
    let folded = options("Subject: one\r\n two\r\n\tthree\r\n\r\n").unwrap();
    assert_eq!(
        folded.header(Name::Subject).unwrap().split_ascii_whitespace().collect::<Vec<_>>(),
        ["one", "two", "three"]
    );
    let bare = parse(&format!("{OPTIONS}\r\n").replace("\r\n", "\n")).unwrap();
    assert_eq!(bare.call_id(), "1@a");
    // The empty line may be missing where the datagram ends; padding in front is skipped (RFC 3261 7.5).
    assert!(options("").is_ok());
    assert!(parse(&format!("\r\n\r\n{OPTIONS}\r\n")).is_ok());
}

#[test]
fn each_rule_is_told() {
    assert_eq!(rule("\r\n\r\n"), Rule::Empty);
    assert_eq!(rule("hello\r\n\r\n"), Rule::StartLine);
    assert_eq!(rule("SIP/2.0 099 x\r\n\r\n"), Rule::StartLine);
    assert_eq!(rule("SIP/3.0 200 x\r\n\r\n"), Rule::Version);
    for (lines, expected) in [
        ("no colon\r\n\r\n", Rule::HeaderLine),
        (": empty\r\n\r\n", Rule::HeaderLine),
        ("X: a\rb\r\n\r\n", Rule::Control),
        ("X: a\0b\r\n\r\n", Rule::Control),
        ("X: cut in the mid", Rule::Unterminated),
        ("Content-Length: 5\r\n\r\nabc", Rule::Truncated),
        ("To: sip:again@h\r\n\r\n", Rule::Repeated(Name::To)),
        ("t: sip:again@h\r\n\r\n", Rule::Repeated(Name::To)),
    ] {
        let error = options(lines).unwrap_err();
        assert_eq!(error.rule(), expected);
        assert!(error.answerable().is_some(), "{lines:?}");
        assert!(error.to_string().contains("RFC 3261"), "{error}");
    }
}

#[test]
fn what_is_mandatory_is_missed() {
    for name in ["Via", "f", "To", "i", "CSeq"] {
        let line = OPTIONS.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
        let error = parse(&OPTIONS.replace(&format!("{line}\r\n"), "")).unwrap_err();
        assert_eq!(error.rule(), Rule::Missing(Name::from_token(name.as_bytes())));
        // Without Via nobody knows where an answer goes.
        assert_eq!(error.answerable().is_some(), name != "Via");
    }
    // RFC 3261 16.3, RFC 4475 3.4.1: Max-Forwards may be.
    assert_eq!(parse(&OPTIONS.replace("Max-Forwards: 70\r\n", "")).unwrap().max_forwards(), None);
}

#[test]
fn header_text_is_utf8_but_a_refusal_still_leaves() {
    let mut bytes = format!("{OPTIONS}Subject: M?ller\r\n\r\n").into_bytes();
    let at = bytes.iter().position(|byte| *byte == b'?').unwrap();
    bytes[at] = 0xfc;
    let error = Message::parse(Bytes::from(bytes), &Limits::default()).unwrap_err();
    assert_eq!((error.rule(), error.status()), (Rule::NotUtf8, 400));
    assert_eq!(error.answerable().unwrap().header(Name::Subject), Some("M?ller"));
}

#[test]
fn an_ack_is_never_answered() {
    let error =
        parse(&OPTIONS.replace("OPTIONS", "ACK").replace("To: sip:bob@example.com", "To: <")).unwrap_err();
    assert!(error.answerable().is_none());
    assert!(error.partial().is_some());
}

#[test]
fn limits_hold() {
    let limits =
        Limits { max_message: 400, max_headers: 8, max_header_line: 100, max_uri: 30, ..Limits::default() };
    let parse =
        |text: String| Message::parse(Bytes::from(text), &limits).map(drop).map_err(|error| error.status());
    assert_eq!(parse(format!("{OPTIONS}\r\n")), Ok(()));
    assert_eq!(parse(format!("{OPTIONS}\r\n{}", "x".repeat(400))), Err(513));
    assert_eq!(parse(format!("{OPTIONS}a:b\r\na:b\r\na:b\r\n\r\n")), Err(513));
    assert_eq!(parse(format!("{OPTIONS}a: {}\r\n\r\n", "b".repeat(100))), Err(513));
    assert_eq!(parse(OPTIONS.replace("bob@", &"b".repeat(30))), Err(414));
    let head = Limits { max_head: 100, ..Limits::default() };
    assert_eq!(
        Message::parse(Bytes::from(format!("{OPTIONS}\r\n")), &head).unwrap_err().rule(),
        Rule::TooLarge
    );
}

/// RFC 3261 21.5.7: whose message is too large is told so, if it can be seen whose it is.
#[test]
fn a_message_of_too_many_lines_or_too_long_ones_can_be_answered() {
    for extra in ["a: b\r\n".repeat(129), format!("a: {}\r\n", "b".repeat(9000))] {
        let error = parse(&format!("{OPTIONS}{extra}\r\n")).unwrap_err();
        assert_eq!((error.rule(), error.status()), (Rule::TooLarge, 513));
        assert!(error.answerable().is_some());
    }
}

/// RFC 3261 18.3: a stream is followed as long as lengths are sound, whatever else the parser has to say.
#[test]
fn a_message_that_is_refused_is_cut_out_of_its_stream() {
    let long = format!("X-Long: {}\r\n", "x".repeat(40_000));
    for extra in ["X: y\r\n".repeat(200), long.clone(), format!("X:\r\n {}\r\n", "x".repeat(9000))] {
        let odd = format!("{OPTIONS}{extra}Content-Length: 2\r\n\r\nab");
        let sound = format!("{OPTIONS}Content-Length: 0\r\n\r\n");
        let mut framer = Framer::new(Limits::default());
        framer.push(format!("{odd}{sound}").as_bytes());
        assert_eq!(frames(&mut framer), [Frame::Message(odd.into()), Frame::Message(sound.into())]);
    }
    let mut framer = Framer::new(Limits::default());
    framer.push(format!("{OPTIONS}{long}{long}").as_bytes());
    assert_eq!(framer.next_frame(), Err(FrameError::HeadTooLong));
    assert_eq!(framer.broken_head().unwrap(), format!("{OPTIONS}{long}"));
}

#[test]
fn a_message_of_64_kib_passes() {
    let head = format!("{OPTIONS}Content-Length: ");
    let body = 65_536 - head.len() - 9;
    let text = format!("{head}{body}\r\n\r\n{}", "x".repeat(body));
    assert_eq!(text.len(), 65_536);
    assert_eq!(parse(&text).unwrap().body().len(), body);
}

#[test]
fn a_response_copies_what_it_must() {
    let request =
        options("Record-Route: <sip:p1;lr>\r\nRecord-Route: <sip:p2;lr>\r\nTimestamp: 54\r\n\r\n").unwrap();
    let source = "192.0.2.9:40000".parse().unwrap();
    let built = Builder::response_to(&request, source, 200, "")
        .to_tag("ours")
        .to_tag("again")
        .copy(Name::RecordRoute, &request)
        .header(Name::Contact, "<sip:gw@192.0.2.1>")
        .body("application/sdp", b"v=0\r\n")
        .build()
        .unwrap();
    let expected = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a.example.com;branch=z9hG4bK1;rport=40000;received=192.0.2.9\r\n\
        From: <sip:alice@example.com>;tag=1\r\nTo: sip:bob@example.com;tag=ours\r\nCall-ID: 1@a\r\nCSeq: 1 OPTIONS\r\n\
        Record-Route: <sip:p1;lr>\r\nRecord-Route: <sip:p2;lr>\r\nContact: <sip:gw@192.0.2.1>\r\n\
        Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n";
    assert_eq!(std::str::from_utf8(&built).unwrap(), expected);
    let response = Message::parse(built, &Limits::default()).unwrap();
    assert_eq!((response.status().unwrap().0, response.to_tag()), (200, Some("ours")));
    let trying = Builder::response(&request, 100, "").build().unwrap();
    assert!(std::str::from_utf8(&trying).unwrap().contains("\r\nTimestamp: 54\r\n"));
}

#[test]
fn a_tag_that_is_there_stays() {
    let request =
        parse(&OPTIONS.replace("To: sip:bob@example.com", "To: sip:bob@example.com;tag=theirs")).unwrap();
    let response = Builder::response(&request, 481, "").to_tag("ours").build().unwrap();
    assert_eq!(Message::parse(response, &Limits::default()).unwrap().to_tag(), Some("theirs"));
}

#[test]
fn a_server_notes_where_a_request_came_from() {
    for (value, expected) in [
        ("SIP/2.0/UDP 192.0.2.1:5070;branch=b", "SIP/2.0/UDP 192.0.2.1:5070;branch=b"),
        ("SIP/2.0/UDP 192.0.2.1;rport;branch=b", "SIP/2.0/UDP 192.0.2.1;rport=9;branch=b;received=192.0.2.1"),
        ("SIP/2.0/UDP h;branch=b", "SIP/2.0/UDP h;branch=b;received=192.0.2.1"),
        ("SIP/2.0/UDP h;received=203.0.113.66;branch=b", "SIP/2.0/UDP h;branch=b;received=192.0.2.1"),
        ("SIP / 2.0 / UDP  h : 7 ;x = \"q;\"", "SIP / 2.0 / UDP  h : 7;x=\"q;\";received=192.0.2.1"),
    ] {
        assert_eq!(Via::parse(value).unwrap().noting("192.0.2.1:9".parse().unwrap()), expected);
    }
    let source = "192.0.2.1:9".parse().unwrap();
    let target = |value| Via::parse(value).unwrap().reply_address(source).to_string();
    assert_eq!(target("SIP/2.0/UDP h;rport"), "192.0.2.1:9");
    assert_eq!(target("SIP/2.0/UDP h:5080;maddr=203.0.113.1"), "192.0.2.1:5080");
    assert_eq!(target("SIP/2.0/UDP h"), "192.0.2.1:5060");
}

/// Only the Via that asks for `rport` once and says nothing of `received` is written as it stands.
#[test]
fn a_response_notes_the_source_in_the_top_value_alone() {
    let source = "192.0.2.9:40000".parse().unwrap();
    for (line, expected) in [
        (
            "SIP/2.0/UDP h;rport;branch=z9hG4bK1",
            "SIP/2.0/UDP h;rport=40000;branch=z9hG4bK1;received=192.0.2.9",
        ),
        (
            "SIP/2.0/UDP h;branch=z9hG4bK1;RPORT=1",
            "SIP/2.0/UDP h;branch=z9hG4bK1;RPORT=40000;received=192.0.2.9",
        ),
        (
            "SIP/2.0/UDP h;rport=;x, SIP/2.0/UDP i;rport",
            "SIP/2.0/UDP h;rport=40000;x;received=192.0.2.9, SIP/2.0/UDP i;rport",
        ),
        ("SIP/2.0/UDP h;rport;rport=1", "SIP/2.0/UDP h;rport=40000;rport=40000;received=192.0.2.9"),
        ("SIP/2.0/UDP h;rport;received=203.0.113.66", "SIP/2.0/UDP h;rport=40000;received=192.0.2.9"),
        ("SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1", "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1"),
    ] {
        let request = OPTIONS.replace("SIP/2.0/UDP a.example.com;branch=z9hG4bK1;rport", line);
        let built = Builder::response_to(&parse(&request).unwrap(), source, 100, "").build().unwrap();
        let start = format!("SIP/2.0 100 Trying\r\nVia: {expected}\r\nFrom:");
        assert!(built.starts_with(start.as_bytes()), "{:?}", String::from_utf8_lossy(&built));
    }
}

/// The checks read the whole header section, yet no value reaches into the next line.
#[test]
fn a_quoted_string_closes_on_its_own_line() {
    for line in [
        "Contact: \"a\r\nX: b\" <sip:a@h>\r\n\r\n",
        "Contact: \"a\\\r\nX: b\" <sip:a@h>\r\n\r\n",
        "Contact: \"a\\\nX: b\" <sip:a@h>\r\n\r\n",
        "Contact: <sip:a@h>;x=\"a\r\nX: b\"\r\n\r\n",
        "Contact: <sip:a@h\r\nX: b>\r\n\r\n",
        "Contact: <tel:+1\r\nX: 2>\r\n\r\n",
        "Contact: <sip:a@[::1\r\nX: ]>\r\n\r\n",
    ] {
        let error = options(line).unwrap_err();
        assert!(matches!(error.rule(), Rule::Header(Name::Contact, _)), "{line:?}: {error}");
        assert_eq!(error.partial().unwrap().contact_uri(), None);
    }
}

#[test]
fn a_builder_smuggles_nothing() {
    let request = || Builder::request(Method::Options, "sip:h");
    let control = |name: &str| Err(BuildError::Control(name.to_owned()));
    assert_eq!(request().header(Name::Subject, "a\r\nVia: x").build(), control("Subject"));
    assert_eq!(request().header(Name::Subject, "a\0").build(), control("Subject"));
    assert_eq!(request().header_named("X\r\nVia", "x").build(), Err(BuildError::Syntax("header name")));
    assert_eq!(request().header_named("l", "0").build(), Err(BuildError::ContentLength));
    assert_eq!(request().body("a\nb", b"").build(), control("Content-Type"));
    assert_eq!(
        Builder::request(Method::Options, "sip:h SIP/2.0\r\nX:").build(),
        Err(BuildError::Syntax("Request-URI"))
    );
    assert_eq!(Builder::request(Method::Other, "sip:h").build(), Err(BuildError::Syntax("method")));
    let message = options("\r\n").unwrap();
    assert_eq!(Builder::response(&message, 99, "").build(), Err(BuildError::Status(99)));
    assert_eq!(Builder::response(&message, 400, "a\rb").build(), control("reason phrase"));
    assert_eq!(Builder::response(&message, 400, "").to_tag("a;b").build(), Err(BuildError::Syntax("tag")));
}

fn frames(framer: &mut Framer) -> Vec<Frame> {
    std::iter::from_fn(|| framer.next_frame().unwrap()).collect()
}

/// RFC 3261 18.3: the same frames wherever the stream is cut.
#[test]
fn a_stream_splits_at_every_byte() {
    let message = format!("{OPTIONS}Content-Length: \r\n 4\r\n\r\nab\r\n");
    let stream = format!("\r\n\r\n{message}{message}\r\n");
    let whole = Bytes::from(message);
    let expected =
        [Frame::Pong, Frame::Ping, Frame::Message(whole.clone()), Frame::Message(whole), Frame::Pong];
    for cut in 0..stream.len() {
        let mut framer = Framer::new(Limits::default());
        framer.push(&stream.as_bytes()[..cut]);
        let mut found = frames(&mut framer);
        framer.push(&stream.as_bytes()[cut..]);
        found.extend(frames(&mut framer));
        assert_eq!(found, expected, "cut at {cut}");
    }
    let mut framer = Framer::new(Limits::default());
    let mut found = Vec::new();
    for byte in stream.as_bytes() {
        framer.push(&[*byte]);
        found.extend(frames(&mut framer));
    }
    assert_eq!(found, expected);
}

/// RFC 5626 4.4.1: what answers our pings is never taken for a ping, and what asks is, whatever is owed.
#[test]
fn an_owed_pong_begins_no_ping() {
    let mut framer = Framer::new(Limits::default());
    for _ in 0..3 {
        framer.expect_pong();
        framer.push(b"\r\n");
        assert_eq!(frames(&mut framer), [Frame::Pong]);
    }
    framer.push(b"\r\n\r\n");
    assert_eq!(frames(&mut framer), [Frame::Pong, Frame::Ping]);
    framer.expect_pong();
    framer.push(b"\r\n\r\n\r\n");
    assert_eq!(frames(&mut framer), [Frame::Ping, Frame::Pong]);
    // Padding before it makes no ping of a pong either.
    framer.push(b"\r\n");
    assert_eq!(frames(&mut framer), [Frame::Pong]);
    framer.expect_pong();
    framer.push(b"\r\n");
    assert_eq!(frames(&mut framer), [Frame::Pong]);
}

#[test]
fn a_stream_without_framing_is_closed() {
    let limits = Limits { max_message: 600, max_head: 500, ..Limits::default() };
    let fails = |text: &str| {
        let mut framer = Framer::new(limits.clone());
        framer.push(text.as_bytes());
        let error = framer.next_frame().unwrap_err();
        assert_eq!(framer.next_frame(), Err(error), "it stays failed");
        error
    };
    assert_eq!(fails(&format!("{OPTIONS}\r\n")), FrameError::ContentLength);
    assert_eq!(fails(&format!("{OPTIONS}l: 1\r\nContent-Length: 1\r\n\r\n")), FrameError::ContentLength);
    assert_eq!(fails(&format!("{OPTIONS}l: -1\r\n\r\n")), FrameError::ContentLength);
    assert_eq!(fails(&format!("{OPTIONS}l: 99999999999999999999\r\n\r\n")), FrameError::ContentLength);
    assert_eq!(fails(&format!("{OPTIONS}l: 500\r\n\r\n")), FrameError::TooLarge);
    assert_eq!(fails(&format!("{OPTIONS}X: {}", "x".repeat(500))), FrameError::HeadTooLong);
    assert_eq!(fails("\rX"), FrameError::Stray);
}
