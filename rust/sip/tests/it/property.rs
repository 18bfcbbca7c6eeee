//! Properties: what holds for every message, and what no bytes may do.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use telephony_sip::{Builder, Frame, Framer, Limits, Message, Method, Name, NameAddr, Uri, Via};

const INVITE: &[u8] = b"INVITE sip:+14155550123@sip.example.com;user=phone SIP/2.0\r\n\
Via: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK4b43c2ff8.1;rport, SIP/2.0/TCP [2001:db8::9]:5061;branch=z9hG4bKx\r\n\
Record-Route: <sip:198.51.100.7;lr;ftag=1928301774>\r\nMax-Forwards: 69\r\n\
From: \"Alice \\\"L\\\" Liddell\" <sip:alice%20l@example.com>;tag=1928301774\r\nTo: <sip:+14155550123@example.com>\r\n\
Call-ID: a84b4c76e66710@pc33.example.com\r\nCSeq: 314159 INVITE\r\n\
Contact: <sip:a@192.0.2.4:5060>;+sip.instance=\"<urn:uuid:0>\"\r\nSupported: replaces,\r\n\ttimer\r\n\
Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n";

fn parse(bytes: &[u8]) -> Option<Message> {
    Message::parse(Bytes::copy_from_slice(bytes), &Limits::default()).ok()
}

/// Everything a reader may ask, so that nothing lazy hides a panic.
fn touch(message: &Message) {
    let names = [Name::Via, Name::From, Name::Contact, Name::Supported, Name::Accept, Name::Other];
    let touched = names.iter().map(|name| message.values(*name).count() + message.name_addrs(*name).count());
    assert!(touched.sum::<usize>() < usize::MAX);
    let _ = (message.top_via(), message.from(), message.to(), message.cseq(), message.uri(), message.body());
    let _ =
        (message.max_forwards(), message.expires(), message.contact(), message.branch(), message.reason());
    let source = "[2001:db8::1]:5060".parse().unwrap();
    let answer = Builder::response_to(message, source, 400, "").to_tag("t").build().unwrap();
    assert!(answer.starts_with(b"SIP/2.0 400 Bad Request\r\n"));
}

fn touch_any(bytes: &[u8]) {
    match Message::parse(Bytes::copy_from_slice(bytes), &Limits::default()) {
        Ok(message) => touch(&message),
        Err(error) => {
            assert!(error.to_string().contains("RFC"), "{error}");
            let _ = error.answerable().map(touch);
        }
    }
}

type Meaning = (String, Option<String>, Vec<(Name, String)>, Vec<u8>);

/// Method, URI, header names and values: equal in a message and in what is printed from it.
fn meaning(message: &Message) -> Meaning {
    let headers =
        message.headers().map(|(name, value)| (Name::from_token(name.as_bytes()), value.to_owned()));
    let headers = headers.filter(|(name, _)| *name != Name::ContentLength).collect();
    (
        message.method_str().to_owned(),
        message.request_uri().map(str::to_owned),
        headers,
        message.body().to_vec(),
    )
}

fn print(message: &Message) -> Vec<u8> {
    let uri = message.request_uri().unwrap();
    let builder = Builder::request_named(message.method_str(), uri);
    let headers = message.headers().filter(|(name, _)| {
        ![Name::ContentLength, Name::ContentType].contains(&Name::from_token(name.as_bytes()))
    });
    let builder = headers.fold(builder, |builder, (name, value)| builder.header_named(name, value));
    builder.body(message.content_type().unwrap_or("text/plain"), message.body()).build().unwrap().to_vec()
}

prop_compose! {
    fn request()(
        user in "[a-zA-Z0-9+._~!-]{1,20}", host in "[a-z][a-z0-9]{0,10}(\\.[a-z]{2,5}){0,2}", tag in "[a-zA-Z0-9.]{1,16}",
        display in "[ -~а-я]{0,20}", cseq in 0_u32..(1 << 31), call_id in "[a-zA-Z0-9.]{1,30}(@[a-z]{1,10})?",
        extra in vec(("X-[A-Z][a-z]{1,12}", "[!-~]([ -~]{0,40}[!-~])?"), 0..8), body in vec(any::<u8>(), 0..200),
    ) -> Vec<u8> {
        let quoted = display.replace('\\', "\\\\").replace('"', "\\\"");
        let builder = Builder::request(Method::Info, &format!("sip:{user}@{host}"))
            .header(Name::Via, format!("SIP/2.0/UDP {host}:5060;branch=z9hG4bK{tag};rport"))
            .header(Name::From, format!("\"{quoted}\" <sip:{user}@{host}>;tag={tag}"))
            .header(Name::To, format!("<sip:{host}>"))
            .header(Name::CallId, &call_id)
            .header(Name::Cseq, format!("{cseq} INFO"));
        let builder = extra.iter().fold(builder, |builder, (name, value)| builder.header_named(name, value));
        builder.body("application/octet-stream", &body).build().unwrap().to_vec()
    }
}

proptest! {
    #[test]
    fn parse_print_parse(bytes in request()) {
        let first = parse(&bytes).unwrap();
        let second = parse(&print(&first)).unwrap();
        prop_assert_eq!(meaning(&first), meaning(&second));
        touch(&first);
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..600)) {
        touch_any(&bytes);
    }

    #[test]
    fn random_lines_never_panic(text in "(INVITE|SIP/2.0 200|ACK) [ -~\r\n]{0,200}(\r\n(v|f|t|i|CSeq|m|l|Route): [ -~\t]{0,40}){0,8}\r\n\r\n") {
        touch_any(text.as_bytes());
    }

    #[test]
    fn mutated_messages_never_panic(edits in vec((0..INVITE.len(), any::<u8>()), 1..6), cut in 0..INVITE.len() + 1) {
        let mut bytes = INVITE.to_vec();
        for (at, byte) in edits {
            bytes[at] = byte;
        }
        touch_any(&bytes);
        bytes.truncate(cut);
        touch_any(&bytes);
    }

    #[test]
    fn swapped_punctuation_never_panics(edits in vec((0..INVITE.len(), "[\"<>;,:@=\\\\\\[\\]%?\r\n \0/]"), 1..4)) {
        let mut bytes = INVITE.to_vec();
        for (at, with) in edits {
            bytes[at] = with.as_bytes()[0];
        }
        touch_any(&bytes);
    }

    #[test]
    fn values_never_panic(text in "[ -~]{0,60}") {
        let _ = Uri::parse(&text).map(|uri| (uri == uri, uri.user_unescaped().is_some()));
        let _ = Via::parse(&text).map(|via| (via.received(), via.rport(), via.noting("192.0.2.1:9".parse().unwrap())));
        let _ = NameAddr::parse(&text).map(|address| (address.display().len(), address.to_string()));
    }

    /// A value never smuggles a line in (RFC 3261 25.1).
    #[test]
    fn no_value_makes_a_second_line(value in "[a-z\r\n\0: ]{0,30}") {
        let built = Builder::request(Method::Options, "sip:h").header(Name::Subject, &value).build();
        match built {
            Ok(bytes) => prop_assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 4),
            Err(_) => prop_assert!(value.contains(['\r', '\n', '\0'])),
        }
    }

    /// Portions do not matter to a stream.
    #[test]
    fn framing_is_the_same_however_split(count in 1_usize..4, cuts in vec(0_usize..2000, 0..12)) {
        let stream = [INVITE, b"\r\n\r\n"].concat().repeat(count);
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut % stream.len()).chain([0, stream.len()]).collect();
        cuts.sort_unstable();
        let (mut framer, mut messages) = (Framer::new(Limits::default()), 0);
        for pair in cuts.windows(2) {
            framer.push(&stream[pair[0]..pair[1]]);
            while let Some(frame) = framer.next_frame().unwrap() {
                if let Frame::Message(bytes) = frame {
                    prop_assert_eq!(&bytes[..], INVITE);
                    messages += 1;
                }
            }
        }
        prop_assert_eq!(messages, count);
        prop_assert_eq!(framer.pending(), 0);
    }
}
