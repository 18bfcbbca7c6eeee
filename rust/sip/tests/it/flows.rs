//! The way of a dialog's requests: it moves with its peer, outlives its streams and goes up to TLS, never down.

use std::sync::Arc;

use telephony_sip::{Connection, Event, Flow, Identity, LegId, Profile, Transport};

use crate::wire::{Solo, address, called_by, invite, methods, request, sdp, tag_of};

const OFFER: &str = "Content-Type: application/sdp\n\nv=0 hold";
const OWN: &str = "<sip:peer@192.0.2.9:5060>";

/// A call to us by a peer of this profile and flow, whose Contact is told.
fn called_from(profile: Profile, flow: Flow, contact: &str) -> (Solo, LegId, String) {
    let mut solo = Solo::of(profile);
    solo.flow = flow;
    let (leg, tag) = called_by(&mut solo, &invite("a").replace(OWN, contact));
    (solo, leg, tag)
}

fn udp(remote: &str) -> Flow {
    Flow::udp(address("192.0.2.1:5060"), address(remote))
}

fn stream(transport: Transport, remote: &str, number: u64) -> Flow {
    Flow { transport, connection: Some(Connection(number)), ..udp(remote) }
}

/// A re-INVITE of the peer, answered with this status.
fn reinvite(solo: &mut Solo, leg: LegId, tag: &str, contact: &str, status: u16) {
    solo.receive(&request("INVITE", "again", 2, tag, OFFER).replace(OWN, contact));
    match status {
        200 => solo.endpoint.answer_reoffer(solo.now, leg, sdp("v=0 answer")).unwrap(),
        _ => solo.endpoint.reject_reoffer(solo.now, leg, status, &[]).unwrap(),
    }
    let answer = solo.sent().remove(1);
    let branch = if status == 200 { "acked" } else { "again" };
    solo.receive(&request("ACK", branch, 2, &tag_of(&answer), ""));
    solo.events();
}

/// Where our BYE goes.
fn bye(solo: &mut Solo, leg: LegId) -> Flow {
    solo.endpoint.hangup(solo.now, leg, None).unwrap();
    let bye = solo.endpoint.poll_transmit().unwrap();
    assert!(bye.payload.starts_with(b"BYE "));
    bye.flow
}

fn hops(solo: &mut Solo) -> Vec<(u64, String)> {
    let hop = |event| match event {
        Event::NextHop { dialog, uri, .. } => Some((dialog, uri)),
        _ => None,
    };
    solo.events().into_iter().filter_map(hop).collect()
}

/// An incoming call whose next hop is asked about, answered and acknowledged once `places` are told.
fn found(flow: Flow, contact: &str, places: &[Flow]) -> (Solo, LegId) {
    let mut solo = Solo::new();
    solo.flow = flow;
    solo.receive(&invite("a").replace(OWN, contact));
    let events = solo.events();
    let [Event::Incoming { leg, .. }, Event::NextHop { dialog, uri, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    solo.endpoint.next_hop_found(*dialog, uri, places);
    solo.endpoint.answer(solo.now, *leg, sdp("v=0 answer")).unwrap();
    let tag = tag_of(&solo.sent()[1]);
    solo.receive(&request("ACK", "ack", 1, &tag, ""));
    (solo, *leg)
}

/// RFC 3261 12.2.2, RFC 5626 5.3: a phone's NAT has given it another port, or it has connected again.
#[test]
fn a_phone_is_answered_where_its_last_accepted_offer_came_from() {
    let phone = || Profile { keeps_flow: true, ..Profile::default() };
    for (before, after) in [
        (udp("198.51.100.7:40000"), udp("198.51.100.7:40001")),
        (stream(Transport::Tcp, "198.51.100.7:40000", 1), stream(Transport::Tcp, "198.51.100.7:40001", 2)),
    ] {
        for (status, way) in [(200, after), (488, before)] {
            let (mut solo, leg, tag) = called_from(phone(), before, "<sip:peer@10.0.0.7:5062>");
            solo.flow = after;
            reinvite(&mut solo, leg, &tag, "<sip:peer@10.0.0.7:5062>", status);
            assert_eq!(bye(&mut solo, leg), way, "after {status}");
        }
    }
}

#[test]
fn a_trunk_behind_nat_is_followed_by_an_update_without_offer() {
    let (mut solo, leg, tag) =
        called_from(Profile::default(), udp("198.51.100.7:5060"), "<sip:peer@10.0.0.7:5062>");
    solo.flow = udp("198.51.100.7:6060");
    solo.receive(&request("UPDATE", "u", 2, &tag, "").replace(OWN, "<sip:peer@10.0.0.8:5062>"));
    assert_eq!(methods(&solo.sent()), ["200"]);
    assert_eq!(bye(&mut solo, leg).remote, address("198.51.100.7:6060"));
}

#[test]
fn another_machine_is_followed_within_the_trunk_only() {
    for (name, way) in [("carrier", "198.51.100.8:5060"), ("other", "198.51.100.7:5060")] {
        let trunk = |name: &str| Profile { name: name.into(), ..Profile::default() };
        let (mut solo, leg, tag) =
            called_from(trunk("carrier"), udp("198.51.100.7:5060"), "<sip:peer@10.0.0.7:5062>");
        (solo.flow, solo.profile) = (udp("198.51.100.8:5060"), Arc::new(trunk(name)));
        reinvite(&mut solo, leg, &tag, "<sip:peer@10.0.0.7:5062>", 200);
        assert_eq!(bye(&mut solo, leg).remote, address(way), "{name}");
    }
}

/// RFC 3261 26.2.1; RFC 5922 5: whom the peer had to prove to be it has to prove again.
#[test]
fn tls_is_not_given_up_for_a_request_in_the_clear() {
    let mut before = stream(Transport::Tls, "192.0.2.9:40000", 1);
    before.identity = Some(Identity(3));
    for (after, connection) in [
        (stream(Transport::Tcp, "192.0.2.9:40001", 2), Connection(1)),
        (stream(Transport::Tls, "192.0.2.9:40001", 2), Connection(2)),
    ] {
        let (mut solo, leg, tag) = called_from(Profile::default(), before, OWN);
        solo.flow = after;
        reinvite(&mut solo, leg, &tag, OWN, 200);
        let way = bye(&mut solo, leg);
        assert_eq!((way.transport, way.connection), (Transport::Tls, Some(connection)));
        assert_eq!((way.remote, way.identity), (address("192.0.2.9:5060"), Some(Identity(3))));
    }
}

/// RFC 3261 12.2.1.1: nobody listens at the port that a stream came from.
#[test]
fn the_place_of_a_name_is_for_when_the_stream_is_gone() {
    let from = stream(Transport::Tcp, "192.0.2.9:40000", 1);
    for contact in ["<sip:x@pbx.example.com:5070>", "<sip:x@pbx.example.com:5070;transport=tcp>"] {
        let places = [udp("192.0.2.9:5070"), Flow { transport: Transport::Tcp, ..udp("192.0.2.9:5070") }];
        let (mut solo, leg) = found(from, contact, &places);
        assert_eq!(bye(&mut solo, leg), Flow { remote: address("192.0.2.9:5070"), ..from });
    }
    let tls = stream(Transport::Tls, "192.0.2.9:40000", 1);
    let place =
        Flow { identity: Some(Identity(7)), connection: None, remote: address("192.0.2.9:5061"), ..tls };
    let (mut solo, leg) = found(tls, "<sip:x@pbx.example.com>", &[udp("192.0.2.9:5060"), place]);
    assert_eq!(bye(&mut solo, leg), Flow { connection: tls.connection, ..place });
    let phone = Profile { keeps_flow: true, ..Profile::default() };
    let (mut solo, leg, _) = called_from(phone, from, "<sip:peer@192.0.2.9:5062>");
    assert_eq!(bye(&mut solo, leg), Flow { remote: address("192.0.2.9:5062"), ..from });
}

/// RFC 3261 19.1.1, RFC 3263 4.1: a datagram to a port that speaks TLS arrives nowhere.
#[test]
fn a_hop_that_wants_tls_is_asked_about_and_spoken_to_under_tls() {
    let local = address("192.0.2.1:5061");
    let secure =
        Flow { transport: Transport::Tls, local, identity: Some(Identity(1)), ..udp("192.0.2.30:5061") };
    for contact in ["<sip:x@192.0.2.30:5061;transport=tls>", "<sip:x@pbx.example.com;transport=tls>"] {
        let (mut solo, leg) = found(udp("192.0.2.9:5060"), contact, &[secure]);
        assert_eq!(bye(&mut solo, leg), secure, "{contact}");
        let (mut solo, leg) = found(udp("192.0.2.9:5060"), contact, &[]);
        assert_eq!(bye(&mut solo, leg), udp("192.0.2.9:5060"), "{contact}: what answered so far");
    }
    let tls = stream(Transport::Tls, "192.0.2.9:40000", 1);
    let (mut solo, leg, _) = called_from(Profile::default(), tls, "<sip:x@192.0.2.9:5061;transport=tls>");
    assert!(hops(&mut solo).is_empty());
    assert_eq!(bye(&mut solo, leg), Flow { remote: address("192.0.2.9:5061"), ..tls });
}
