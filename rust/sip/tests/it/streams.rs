//! What a stream changes: no repetitions, the way back, requests too large for UDP.

use crate::wire::*;
use std::sync::Arc;
use std::time::Duration;
use telephony_sip::{
    Admission, Body, Cause, Connection, Failover, Flow, Framer, Limits, Profile, Stranger, Target, Transport,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn solo(transport: Transport) -> Solo {
    let mut solo = Solo::new();
    solo.flow.transport = transport;
    solo
}

fn options(number: u32) -> String {
    format!(
        "OPTIONS sip:a@192.0.2.1 SIP/2.0\nVia: SIP/2.0/TCP 192.0.2.9:5070;branch=z9hG4bKo{number}\nMax-Forwards: 70\n\
         From: <sip:b@192.0.2.9>;tag=b\nTo: <sip:a@192.0.2.1>\nCall-ID: o\nCSeq: {number} OPTIONS\nContent-Length: 0\n\n"
    )
}

/// RFC 3261 17.1.1.2: timer A rests, timer B runs.
#[test]
fn an_invite_over_a_stream_is_sent_once() {
    let mut solo = solo(Transport::Tcp);
    solo.dial(1);
    assert!(solo.sent_one().header(telephony_sip::Name::Via).unwrap().starts_with("SIP/2.0/TCP "));
    assert_eq!(solo.advance(MINUTE), []);
    assert_eq!(solo.ended().cause, Cause::Unreachable);
    assert_eq!(solo.alive(), (0, 0, 0, 0, 0));
}

/// RFC 3261 18.2.2: to the port of sent-by, should the connection be gone.
#[test]
fn responses_name_the_connection_and_where_to_go_without_it() {
    let mut solo = solo(Transport::Tcp);
    solo.flow.remote = address("192.0.2.9:40000");
    solo.flow.connection = Some(Connection(7));
    solo.receive(&options(1));
    let flow = solo.endpoint.poll_transmit().unwrap().flow;
    assert_eq!((flow.connection, flow.remote), (Some(Connection(7)), address("192.0.2.9:5070")));
}

/// Only what was not heard of fails with a connection; everything does with the peer.
#[test]
fn a_broken_connection_is_no_broken_peer() {
    let mut solo = solo(Transport::Tls);
    solo.dial(1);
    let invite = solo.sent_one();
    let stream = Flow { connection: Some(Connection(3)), ..solo.flow };
    let via = invite.header(telephony_sip::Name::Via).unwrap().to_owned();
    let own = |name| invite.header(name).unwrap().to_owned();
    let ringing = format!(
        "SIP/2.0 180 Ringing\nVia: {via}\nFrom: {}\nTo: {};tag=x\nCall-ID: {}\nCSeq: 1 INVITE\nContent-Length: 0\n\n",
        own(telephony_sip::Name::From),
        own(telephony_sip::Name::To),
        own(telephony_sip::Name::CallId)
    );
    let before = std::mem::replace(&mut solo.flow, stream);
    solo.receive(&ringing);
    solo.events();
    solo.endpoint.handle_transport_error(solo.now, Flow { connection: Some(Connection(4)), ..before });
    solo.endpoint.handle_transport_error(solo.now, stream);
    assert!(solo.events().is_empty(), "a call that rings waits for its answer on a new connection");
    solo.endpoint.handle_transport_error(solo.now, before);
    assert_eq!(solo.ended().cause, Cause::TransportError);
}

/// What is to be sent, given to this stream.
fn give(solo: &mut Solo, connection: u64, reused: bool) -> Vec<telephony_sip::Transmit> {
    let sent: Vec<_> = std::iter::from_fn(|| solo.endpoint.poll_transmit()).collect();
    sent.iter().for_each(|sent| solo.endpoint.handle_sent(&sent.payload, Connection(connection), reused));
    sent
}

fn break_stream(solo: &mut Solo, connection: u64) {
    let flow = Flow { connection: Some(Connection(connection)), ..solo.flow };
    solo.endpoint.handle_broken_flow(solo.now, flow, "it closed the connection");
}

/// RFC 3261 18.1.1: a stream that stood may have been closing when the request was written.
#[test]
fn a_request_on_a_stream_that_was_closing_is_sent_once_more() {
    let mut solo = solo(Transport::Tcp);
    solo.dial(1);
    let first = give(&mut solo, 1, true);
    break_stream(&mut solo, 2);
    assert!(give(&mut solo, 2, true).is_empty(), "another stream");
    break_stream(&mut solo, 1);
    let second = give(&mut solo, 3, true);
    assert_eq!(second[0].payload, first[0].payload, "17.2.3: who has read it knows it again");
    assert_eq!(second[0].flow.connection, None);
    break_stream(&mut solo, 3);
    assert!(give(&mut solo, 4, false).is_empty(), "once");
    assert_eq!(solo.ended().reason, "it closed the connection");
}

#[test]
fn a_request_on_a_stream_of_its_own_fails_with_it() {
    let mut solo = solo(Transport::Tcp);
    solo.dial(1);
    give(&mut solo, 1, false);
    break_stream(&mut solo, 1);
    assert_eq!(solo.ended().cause, Cause::TransportError);
    assert_eq!(solo.alive(), (0, 0, 0, 0, 0));
}

/// The notice of a broken stream comes behind what was asked on it last, and after its answer went another way.
#[test]
fn a_stream_takes_nothing_with_it_that_went_another_way() {
    let mut solo = solo(Transport::Tls);
    solo.dial(1);
    break_stream(&mut solo, 1);
    assert!(solo.events().is_empty(), "it has not left yet");
    give(&mut solo, 2, false);
    break_stream(&mut solo, 1);
    assert!(solo.events().is_empty());
    break_stream(&mut solo, 2);
    assert_eq!(solo.ended().cause, Cause::TransportError);
}

fn large() -> telephony_sip::Dial {
    let flow = Solo::new().flow;
    let body = Body { content_type: "application/sdp".into(), bytes: vec![b'x'; 1500].into() };
    telephony_sip::Dial { body: Some(body), ..dial(flow) }
}

#[test]
fn a_request_too_large_for_udp_goes_by_tcp() {
    let mut solo = Solo::new();
    solo.endpoint.dial(solo.now, telephony_sip::LegId(1), large()).unwrap();
    let sent = solo.endpoint.poll_transmit().unwrap();
    assert_eq!(sent.flow.transport, Transport::Tcp);
    let text = String::from_utf8(sent.payload.to_vec()).unwrap();
    assert!(text.contains("\r\nVia: SIP/2.0/TCP "), "{text}");
}

/// Nobody listens: the same request by UDP, with its repetitions, and no second try with TCP soon.
#[test]
fn a_peer_without_tcp_gets_it_by_udp_after_all() {
    let mut solo = Solo::new();
    solo.endpoint.dial(solo.now, telephony_sip::LegId(1), large()).unwrap();
    let first = solo.endpoint.poll_transmit().unwrap();
    solo.endpoint.handle_transport_error(solo.now, first.flow);
    let second = solo.endpoint.poll_transmit().unwrap();
    assert_eq!(second.flow.transport, Transport::Udp);
    assert!(String::from_utf8_lossy(&second.payload).contains("\r\nVia: SIP/2.0/UDP "));
    assert!(solo.events().is_empty());
    assert!(!solo.advance(Duration::from_secs(2)).is_empty(), "it is not sent again");
    solo.endpoint.dial(solo.now, telephony_sip::LegId(2), large()).unwrap();
    assert_eq!(solo.endpoint.poll_transmit().unwrap().flow.transport, Transport::Udp);
    solo.endpoint.handle_transport_error(solo.now, second.flow);
    assert_eq!(solo.ended().cause, Cause::TransportError);
}

/// RFC 3261 18.1.1, 9.1: what nobody waits for any more does not ring a second telephone, or a first one late.
#[test]
fn a_call_that_is_over_does_not_go_by_udp_after_all() {
    let mut solo = Solo::new();
    let leg = telephony_sip::LegId(1);
    solo.endpoint.dial(solo.now, leg, large()).unwrap();
    let first = solo.endpoint.poll_transmit().unwrap();
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    solo.advance(3 * SECOND);
    solo.endpoint.handle_transport_error(solo.now, first.flow);
    assert!(solo.sent().is_empty());
    assert_eq!((solo.events().len(), solo.alive()), (1, NOTHING));
}

#[test]
fn a_target_that_others_have_replaced_does_not_ring_by_udp_after_all() {
    let mut solo = impatient(2 * SECOND);
    let first = solo.endpoint.poll_transmit().unwrap();
    assert_eq!(solo.advance(2 * SECOND), [(2.0, "INVITE".to_owned())], "the next target");
    solo.advance(SECOND);
    solo.endpoint.handle_transport_error(solo.now, first.flow);
    assert!(solo.sent().is_empty());
    solo.endpoint.dial(solo.now, telephony_sip::LegId(2), large()).unwrap();
    assert_eq!(solo.endpoint.poll_transmit().unwrap().flow.transport, Transport::Udp, "it is remembered");
}

/// RFC 3263 4.3: the time that TCP took is not the target's.
#[test]
fn a_target_has_its_whole_time_from_when_udp_was_tried() {
    let mut solo = impatient(4 * SECOND);
    let first = solo.endpoint.poll_transmit().unwrap();
    solo.advance(3 * SECOND);
    solo.endpoint.handle_transport_error(solo.now, first.flow);
    solo.sent_one();
    let repeated: Vec<_> = solo.advance(4 * SECOND).into_iter().map(|(at, _)| at).collect();
    assert_eq!(repeated, [3.5, 4.5, 6.5, 7.0], "three repetitions, then the next target");
}

/// A call that is too large for UDP, to a target with another behind it.
fn impatient(patience: Duration) -> Solo {
    let mut solo = Solo::new();
    let other = Flow { remote: address("192.0.2.8:5060"), ..solo.flow };
    let profile = Profile { failover: Failover { patience }, ..Profile::default() };
    let others = vec![Target { flow: other, contact: other.local.to_string() }];
    let dial = telephony_sip::Dial { others, profile: Arc::new(profile), ..large() };
    solo.endpoint.dial(solo.now, telephony_sip::LegId(1), dial).unwrap();
    solo
}

#[test]
fn stun_and_line_ends_keep_udp_alive() {
    let mut solo = Solo::new();
    let stun = bytes::Bytes::from_static(b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl");
    solo.endpoint.handle_message(solo.now, stun.clone(), solo.flow, &solo.profile);
    let answer = solo.endpoint.poll_transmit().unwrap();
    assert_eq!(answer.flow, solo.flow);
    // 5060 and 192.0.2.9 under the cookie.
    let mapped =
        b"\x01\x01\x00\x0c\x21\x12\xa4\x42abcdefghijkl\x00\x20\x00\x08\x00\x01\x32\xd6\xe1\x12\xa6\x4b";
    assert_eq!(&answer.payload[..], mapped);
    solo.receive("\r\n\r\n");
    solo.endpoint.handle_message(solo.now, stun.slice(..12), solo.flow, &solo.profile);
    let dropped = solo.endpoint.stats().dropped;
    assert_eq!((dropped.keep_alive, dropped.malformed), (2, 0));
    assert!(solo.endpoint.poll_transmit().is_none());
}

/// RFC 3261 18.3, 21.5.7: what cannot be cut out of a stream is answered before that is closed.
#[test]
fn a_message_without_a_usable_length_is_answered() {
    let whole = crate::wire::invite("a").replace('\n', "\r\n");
    for (length, status) in [("", 400), ("Content-Length: x\r\n", 400), ("Content-Length: 70000\r\n", 513)] {
        let broken = whole.replace("Content-Length: 9\r\n", length);
        assert_ne!(broken, whole);
        let mut framer = Framer::new(Limits::default());
        framer.push(broken.as_bytes());
        let error = framer.next_frame().unwrap_err();
        let head = framer.broken_head().unwrap();
        assert!(head.ends_with(b"\r\n\r\n") && framer.next_frame() == Err(error));
        let mut solo = solo(Transport::Tcp);
        solo.endpoint.handle_unframed(head, solo.flow, &solo.profile, error);
        let answer = String::from_utf8(solo.endpoint.poll_transmit().unwrap().payload.to_vec()).unwrap();
        assert!(answer.starts_with(&format!("SIP/2.0 {status} ")), "{answer}");
        assert!(solo.events().is_empty());
        let drop = Admission { stranger: Stranger::Drop, ..Admission::default() };
        let deaf = Arc::new(Profile { admission: drop, ..Profile::default() });
        solo.endpoint.handle_unframed(framer.broken_head().unwrap(), solo.flow, &deaf, error);
        assert!(solo.endpoint.poll_transmit().is_none(), "a stranger hears nothing");
    }
    let mut framer = Framer::new(Limits::default());
    framer.push(b"\rX");
    assert!(framer.next_frame().is_err() && framer.broken_head().is_none());
}
