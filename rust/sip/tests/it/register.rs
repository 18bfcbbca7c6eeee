//! REGISTER of ours (RFC 3261 10.2, RFC 5626 4.5, RFC 3608).

use std::sync::Arc;
use std::time::Duration;

use telephony_sip::digest::{Credentials, Secret};
use telephony_sip::{
    Dial, Event, Flow, LegId, Message, Method, Name, Notice, Profile, Registration, Target, Transmit,
    Transport,
};

use crate::wire::{NOTHING, Solo, address, dial, request, response};

const SECOND: Duration = Duration::from_secs(1);

fn target(flow: Flow) -> Target {
    Target { flow, contact: format!("{}{}", flow.local, flow.transport.uri_parameter()) }
}

fn wanted(solo: &Solo) -> Registration {
    let credentials = Credentials {
        username: "alice".into(),
        secret: Secret::Password("secret".into()),
        realm: "carrier".into(),
        networks: Vec::new(),
    };
    let profile =
        Profile { name: "carrier".into(), credentials: Some(Arc::new(credentials)), ..Profile::default() };
    Registration {
        name: "carrier".into(),
        targets: vec![target(solo.flow)],
        registrar: "sip:carrier.example".to_owned(),
        aor: "sip:alice@carrier.example".to_owned(),
        contact_user: "trunk-7".to_owned(),
        expires: 600,
        rewrite: false,
        profile: Arc::new(profile),
    }
}

fn registering() -> (Solo, Message) {
    let mut solo = Solo::new();
    let wanted = wanted(&solo);
    solo.endpoint.register(solo.now, wanted);
    let register = solo.sent_one();
    (solo, register)
}

fn notices(solo: &mut Solo) -> Vec<Notice> {
    std::iter::from_fn(|| solo.endpoint.poll_notice()).collect()
}

/// Moves time on and gives what is sent, each with its time, to whoever answers.
fn run(solo: &mut Solo, by: Duration, mut answer: impl FnMut(&mut Solo, f64, &Transmit)) {
    let (start, end) = (solo.now, solo.now + by);
    loop {
        while let Some(transmit) = solo.endpoint.poll_transmit() {
            let at = (solo.now - start).as_secs_f64();
            answer(solo, at, &transmit);
        }
        let Some(next) = solo.endpoint.poll_timeout().filter(|next| *next <= end) else { break };
        solo.now = solo.now.max(next);
        solo.endpoint.handle_timeout(solo.now);
    }
    solo.now = end;
}

fn parsed(transmit: &Transmit) -> Option<Message> {
    let is_ping = &transmit.payload[..] == b"\r\n\r\n";
    (!is_ping).then(|| Message::parse(transmit.payload.clone(), &telephony_sip::Limits::default()).unwrap())
}

/// Moves time on and gives the messages sent with their times, and how many keep-alives there were.
fn wait(solo: &mut Solo, by: Duration) -> (Vec<(f64, Message)>, usize) {
    let (mut sent, mut pings) = (Vec::new(), 0);
    run(solo, by, |_, at, transmit| match parsed(transmit) {
        Some(message) => sent.push((at, message)),
        None => pings += 1,
    });
    (sent, pings)
}

const GRANTED: &str = "Contact: <sip:other@192.0.2.7>;expires=7, <sip:trunk-7@192.0.2.1:5060>;expires=100";

#[test]
fn a_registration_is_made_refreshed_and_taken_back() {
    let (mut solo, register) = registering();
    assert_eq!(
        (register.method(), register.request_uri()),
        (Some(Method::Register), Some("sip:carrier.example"))
    );
    assert_eq!(register.to().unwrap().uri.as_str(), "sip:alice@carrier.example");
    assert_eq!(register.header(Name::Contact), Some("<sip:trunk-7@192.0.2.1:5060>;expires=600"));
    solo.receive(&response(&register, 200, "r", GRANTED));
    let Notice::Registered { name, expires, registrar } = notices(&mut solo).remove(0) else { panic!() };
    assert_eq!((&*name, expires, registrar), ("carrier", 100 * SECOND, solo.flow.remote));
    let (sent, pings) = wait(&mut solo, 91 * SECOND);
    let (at, refresh) = &sent[0];
    assert!((85.0..=90.0).contains(at), "{at}");
    assert!((3..=4).contains(&pings), "{pings}");
    assert_eq!((refresh.call_id(), refresh.cseq_number()), (register.call_id(), 2));
    solo.receive(&response(refresh, 200, "r", GRANTED));
    assert!(notices(&mut solo).is_empty(), "it stood all the time");
    solo.endpoint.unregister(solo.now, "carrier");
    let gone = solo.sent_one();
    assert_eq!((gone.expires(), gone.cseq_number()), (Some(0), 3));
    solo.receive(&response(&gone, 200, "r", ""));
    assert_eq!(notices(&mut solo), [Notice::Unregistered { name: "carrier".into() }]);
    assert!(!solo.endpoint.has_registrations());
    solo.advance(60 * SECOND);
    assert_eq!(solo.alive(), NOTHING);
}

#[test]
fn challenges_are_answered_and_the_next_register_is_signed_unasked() {
    let (mut solo, register) = registering();
    let challenge =
        "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"n\", qop=\"auth\", algorithm=SHA-256";
    solo.receive(&response(&register, 401, "r", challenge));
    let again = solo.sent_one();
    assert!(again.header(Name::Authorization).unwrap().contains("nc=00000001"));
    assert_eq!((again.call_id(), again.cseq_number()), (register.call_id(), 2));
    solo.receive(&response(&again, 200, "r", GRANTED));
    let (sent, _) = wait(&mut solo, 91 * SECOND);
    let refresh = &sent[0].1;
    assert!(refresh.header(Name::Authorization).unwrap().contains("nc=00000002"));
    // The nonce has run out, and nobody says stale.
    solo.receive(&response(refresh, 401, "r", &challenge.replace("\"n\"", "\"m\"")));
    let renewed = solo.sent_one();
    assert!(renewed.header(Name::Authorization).unwrap().contains("nonce=\"m\""));
    solo.receive(&response(&renewed, 200, "r", GRANTED));
    assert_eq!(notices(&mut solo).len(), 1);
}

/// RFC 7616 3.4: a REGISTER has no body, so that what protects it is known too.
#[test]
fn a_registrar_that_wants_bodies_protected_is_answered_each_time() {
    let (mut solo, register) = registering();
    let challenge = "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"n\", qop=\"auth-int\"";
    solo.receive(&response(&register, 401, "r", challenge));
    let again = solo.sent_one();
    solo.receive(&response(&again, 200, "r", GRANTED));
    let refresh = wait(&mut solo, 91 * SECOND).0.remove(0).1;
    assert!(refresh.header(Name::Authorization).unwrap().contains("qop=auth-int, nc=00000002"));
    solo.receive(&response(&refresh, 401, "r", &challenge.replace("\"n\"", "\"m\"")));
    let renewed = solo.sent_one();
    assert!(renewed.header(Name::Authorization).unwrap().contains("nonce=\"m\""));
    solo.receive(&response(&renewed, 200, "r", GRANTED));
    assert!(matches!(notices(&mut solo)[..], [Notice::Registered { .. }]), "it stood all the time");
}

#[test]
fn a_wrong_password_waits_longer_and_longer() {
    let (mut solo, mut register) = registering();
    let challenge = "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"n\"";
    let mut waits = Vec::new();
    for _ in 0..8 {
        solo.receive(&response(&register, 401, "r", challenge));
        let again = solo.sent_one();
        solo.receive(&response(&again, 401, "r", challenge));
        assert!(solo.sent().is_empty());
        let Notice::RegistrationFailed { status, retry, .. } = notices(&mut solo).remove(0) else { panic!() };
        assert_eq!(status, Some(401));
        waits.push(retry.as_secs());
        register = wait(&mut solo, retry).0.remove(0).1;
    }
    let bounds =
        [(30, 60), (60, 120), (120, 240), (240, 480), (480, 960), (900, 1800), (900, 1800), (900, 1800)];
    for (wait, (least, most)) in waits.iter().zip(bounds) {
        assert!((least..=most).contains(wait), "{waits:?}");
    }
}

#[test]
fn too_brief_is_lengthened_once() {
    let (mut solo, register) = registering();
    solo.receive(&response(&register, 423, "r", "Min-Expires: 1800"));
    let longer = solo.sent_one();
    assert_eq!((longer.expires(), longer.cseq_number()), (Some(1800), 2));
    solo.receive(&response(&longer, 423, "r", "Min-Expires: 3600"));
    assert!(solo.sent().is_empty());
    assert!(matches!(notices(&mut solo)[..], [Notice::RegistrationFailed { status: Some(423), .. }]));
}

#[test]
fn another_server_is_tried_before_waiting() {
    let mut solo = Solo::new();
    let second = Flow::udp(solo.flow.local, address("192.0.2.10:5060"));
    let targets = vec![target(solo.flow), target(second)];
    let wanted = Registration { targets, ..wanted(&solo) };
    solo.endpoint.register(solo.now, wanted.clone());
    let first = solo.endpoint.poll_transmit().unwrap();
    assert_eq!(first.flow, solo.flow);
    solo.endpoint.handle_transport_error(solo.now, solo.flow);
    let next = solo.endpoint.poll_transmit().unwrap();
    assert_eq!(next.flow, second);
    let register = Message::parse(next.payload, &telephony_sip::Limits::default()).unwrap();
    assert!(notices(&mut solo).is_empty());
    solo.receive(&response(&register, 503, "r", "Retry-After: 100"));
    let Notice::RegistrationFailed { status: Some(503), retry, .. } = notices(&mut solo).remove(0) else {
        panic!()
    };
    assert_eq!(retry, 100 * SECOND);
    // The owner has looked the name up again: only the addresses are new, the wait stays.
    solo.endpoint.register(solo.now, Registration { targets: vec![target(second)], ..wanted });
    assert!(solo.endpoint.poll_transmit().is_none());
    let (sent, _) = wait(&mut solo, 100 * SECOND);
    assert_eq!(sent[0].1.call_id(), register.call_id());
    assert!(!sent[0].1.has(Name::Authorization));
}

#[test]
fn silence_is_a_failure() {
    let (mut solo, _) = registering();
    wait(&mut solo, 33 * SECOND);
    assert!(matches!(notices(&mut solo)[..], [Notice::RegistrationFailed { status: None, .. }]));
    solo.endpoint.unregister(solo.now, "carrier");
    assert!(solo.sent().is_empty(), "there is nothing to take back");
    assert!(!solo.endpoint.has_registrations());
}

#[test]
fn the_contact_is_the_one_that_the_registrar_sees() {
    let mut solo = Solo::new();
    let wanted = Registration { rewrite: true, ..wanted(&solo) };
    solo.endpoint.register(solo.now, wanted);
    let register = solo.sent_one();
    let seen =
        response(&register, 200, "r", "Expires: 100").replace(";rport", ";rport=1024;received=203.0.113.9");
    solo.receive(&seen);
    let (sent, _) = wait(&mut solo, Duration::ZERO);
    let anew: Vec<_> = sent[0].1.lines(Name::Contact).collect();
    assert_eq!(
        anew,
        ["<sip:trunk-7@203.0.113.9:1024>;expires=600", "<sip:trunk-7@192.0.2.1:5060>;expires=0"]
    );
    let same = "Contact: <sip:trunk-7@203.0.113.9:1024>;expires=50";
    solo.receive(&response(&sent[0].1, 200, "r", same).replace(";rport", ";rport=1024;received=203.0.113.9"));
    let (sent, _) = wait(&mut solo, 46 * SECOND);
    assert_eq!((sent[0].1.expires(), sent[0].1.lines(Name::Contact).count()), (Some(600), 1));
}

#[test]
fn a_lost_stream_is_registered_over_again() {
    let mut solo = Solo::new();
    let flow = Flow { transport: Transport::Tcp, ..solo.flow };
    let wanted = Registration { targets: vec![target(flow)], ..wanted(&solo) };
    solo.endpoint.register(solo.now, wanted);
    let register = solo.sent_one();
    assert_eq!(
        register.header(Name::Contact),
        Some("<sip:trunk-7@192.0.2.1:5060;transport=tcp>;expires=600")
    );
    solo.receive(&response(&register, 200, "r", "Expires: 600"));
    wait(&mut solo, 121 * SECOND);
    solo.endpoint.handle_transport_error(solo.now, flow);
    let (sent, _) = wait(&mut solo, Duration::ZERO);
    assert_eq!(sent.len(), 1);
}

/// RFC 5626 4.5: a registrar that takes every flow away at once is not asked without end.
#[test]
fn a_stream_that_is_lost_each_time_is_made_anew_later_and_later() {
    let mut solo = Solo::new();
    let flow = Flow { transport: Transport::Tcp, ..solo.flow };
    let other = Flow { remote: address("192.0.2.10:5060"), ..flow };
    let wanted = Registration { targets: vec![target(flow)], ..wanted(&solo) };
    solo.endpoint.register(solo.now, wanted);
    let mut times = Vec::new();
    run(&mut solo, 3600 * SECOND, |solo, at, transmit| {
        if let Some(register) = parsed(transmit) {
            times.push(at);
            solo.receive(&response(&register, 200, "r", "Expires: 3600"));
            solo.endpoint.handle_transport_error(solo.now, other);
            solo.endpoint.handle_transport_error(solo.now, flow);
        }
    });
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((30.0..=60.0).contains(&pauses[0]) && (60.0..=120.0).contains(&pauses[1]), "{pauses:?}");
    assert!((5..=8).contains(&pauses.len()), "{pauses:?}");
    assert_eq!(notices(&mut solo).len(), 1, "the binding stands all the time");
}

#[test]
fn a_registrar_that_sees_us_elsewhere_each_time_is_not_followed_at_once() {
    let mut solo = Solo::new();
    let wanted = Registration { rewrite: true, ..wanted(&solo) };
    solo.endpoint.register(solo.now, wanted);
    let mut times = Vec::new();
    run(&mut solo, 600 * SECOND, |solo, at, transmit| {
        if let Some(register) = parsed(transmit) {
            times.push(at);
            let seen = format!(";rport={};received=203.0.113.9", 1024 + times.len());
            solo.receive(&response(&register, 200, "r", "Expires: 600").replace(";rport", &seen));
        }
    });
    assert_eq!(times[..2], [0.0, 0.0], "the first time it may be a NAT");
    assert!(times[2] >= 30.0 && times.len() < 12, "{times:?}");
}

/// RFC 3261 19.1.1, 10.2.4: Contact says once by which transport it is reached, and is known again.
#[test]
fn what_was_granted_stands_at_our_own_contact() {
    let ours = "sip:trunk-7@192.0.2.1:5070;transport=tcp";
    let other = "<sip:other@192.0.2.7>;expires=7";
    let nat = "<sip:trunk-7@198.51.100.1:4711;transport=TCP>;expires=200";
    for (contacts, granted) in [
        (format!("{other}, <{ours}>;expires=100"), 100),
        (format!("{nat}, <{ours}>;expires=100"), 100),
        (format!("<sip:%74runk-7@192.0.2.1:5070;transport=TCP;x=y>;expires=100, {nat}"), 100),
        (format!("{other}, {nat}"), 200),
        (format!("{nat}, {nat}"), 1000),
        (other.to_owned(), 1000),
    ] {
        let mut solo = Solo::new();
        solo.flow = Flow { transport: Transport::Tcp, local: address("192.0.2.1:5070"), ..solo.flow };
        let wanted = wanted(&solo);
        solo.endpoint.register(solo.now, wanted);
        let register = solo.sent_one();
        assert_eq!(register.header(Name::Contact), Some(&*format!("<{ours}>;expires=600")));
        assert!(register.header(Name::Via).unwrap().starts_with("SIP/2.0/TCP 192.0.2.1:5070;rport"));
        solo.receive(&response(&register, 200, "r", &format!("Contact: {contacts}\nExpires: 1000")));
        let Notice::Registered { expires, .. } = notices(&mut solo).remove(0) else { panic!() };
        assert_eq!(expires, granted * SECOND, "{contacts}");
    }
}

/// Two servers of a registrar, and a registration that stands at the first of them.
fn between_two() -> (Solo, Registration, [Flow; 2]) {
    let mut solo = Solo::new();
    let flows = [solo.flow, Flow::udp(solo.flow.local, address("192.0.2.10:5060"))];
    let wanted = Registration { targets: flows.map(target).to_vec(), ..wanted(&solo) };
    solo.endpoint.register(solo.now, wanted.clone());
    let register = solo.sent_one();
    solo.receive(&response(&register, 200, "r", "Expires: 100"));
    notices(&mut solo);
    (solo, wanted, flows)
}

#[test]
fn names_that_lead_nowhere_for_now_leave_a_registration_alone() {
    let (mut solo, wanted, [first, _]) = between_two();
    let nowhere = Registration { targets: Vec::new(), ..wanted.clone() };
    solo.endpoint.register(solo.now, nowhere.clone());
    assert!(solo.endpoint.poll_transmit().is_none());
    // Even if it is to be another one: the registrar is where it was.
    solo.endpoint.register(solo.now, Registration { expires: 900, ..nowhere });
    let longer = solo.endpoint.poll_transmit().unwrap();
    assert_eq!((longer.flow, parsed(&longer).unwrap().expires()), (first, Some(900)));
    assert!(notices(&mut solo).is_empty());
}

#[test]
fn a_list_drawn_anew_leaves_the_binding_where_it_is() {
    let (mut solo, wanted, [first, second]) = between_two();
    solo.endpoint
        .register(solo.now, Registration { targets: vec![target(second), target(first)], ..wanted.clone() });
    let mut flows = Vec::new();
    run(&mut solo, 91 * SECOND, |_, _, transmit| flows.push(transmit.flow));
    assert!(flows.len() > 3 && flows.iter().all(|flow| *flow == first), "keep-alives and the refresh");
    // A server that is one no more is left with the next refresh.
    let (mut solo, ..) = between_two();
    solo.endpoint.register(solo.now, Registration { targets: vec![target(second)], ..wanted.clone() });
    assert!(solo.endpoint.poll_transmit().is_none());
    let mut last = None;
    run(&mut solo, 91 * SECOND, |_, _, transmit| last = Some(transmit.clone()));
    assert_eq!(last.map(|transmit| transmit.flow), Some(second));
    // A Contact that is ours no more is taken back.
    let (mut solo, ..) = between_two();
    let moved = Target { flow: first, contact: "203.0.113.1:5060".to_owned() };
    solo.endpoint.register(solo.now, Registration { targets: vec![moved], ..wanted });
    let expires: Vec<_> = solo.sent().iter().map(Message::expires).collect();
    assert_eq!(expires, [Some(0), Some(600)]);
}

/// RFC 3263 4.3: the next server is asked before what the silent one granted is over.
#[test]
fn a_silent_registrar_is_left_before_its_grant_is_over() {
    let (mut solo, _, [first, second]) = between_two();
    let (mut asked, mut tries) = (Vec::new(), 0);
    run(&mut solo, 100 * SECOND, |solo, at, transmit| {
        let Some(register) = parsed(transmit) else { return };
        match transmit.flow == first {
            true => tries += 1,
            false if register.header(Name::Authorization).is_some() => {
                asked.push(at);
                solo.receive(&response(&register, 200, "r", "Expires: 200"));
            }
            false => {
                let challenge = "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"n\"";
                solo.receive(&response(&register, 401, "r", challenge));
            }
        }
    });
    assert!(tries > 1 && asked.len() == 1 && (89.0..=94.0).contains(&asked[0]), "{asked:?}");
    let Notice::Registered { expires, registrar, .. } = notices(&mut solo).remove(0) else { panic!() };
    assert_eq!((expires, registrar), (200 * SECOND, second.remote), "what was told before holds no more");
    let mut flows = Vec::new();
    run(&mut solo, 60 * SECOND, |_, _, transmit| flows.push(transmit.flow));
    assert_eq!(flows, [second, second], "where the binding is now");
}

#[test]
fn a_grant_that_is_over_is_told_while_the_last_server_is_silent() {
    let (mut solo, register) = registering();
    solo.receive(&response(&register, 200, "r", "Expires: 60"));
    notices(&mut solo);
    wait(&mut solo, 59 * SECOND);
    assert!(notices(&mut solo).is_empty());
    wait(&mut solo, SECOND);
    let told = notices(&mut solo);
    let [Notice::RegistrationFailed { status: None, retry: Duration::ZERO, .. }] = &told[..] else {
        panic!("{told:?}")
    };
    wait(&mut solo, 32 * SECOND);
    assert!(
        matches!(notices(&mut solo)[..], [Notice::RegistrationFailed { status: None, retry, .. }] if retry > SECOND)
    );
}

#[test]
fn calls_by_a_registered_trunk_take_its_route_and_are_known_by_its_user() {
    let (mut solo, register) = registering();
    let granted =
        format!("{GRANTED}\nService-Route: <sip:edge.carrier.example;lr>, <sip:home.carrier.example;lr>");
    solo.receive(&response(&register, 200, "r", &granted));
    let profile = wanted(&solo).profile;
    let own = Dial { profile, ..dial(solo.flow) };
    solo.endpoint.dial(solo.now, LegId(1), own).unwrap();
    let invite = solo.sent_one();
    let routes: Vec<_> = invite.values(Name::Route).collect();
    assert_eq!(routes, ["<sip:edge.carrier.example;lr>", "<sip:home.carrier.example;lr>"]);
    solo.endpoint.dial(solo.now, LegId(2), dial(solo.flow)).unwrap();
    assert!(!solo.sent_one().has(Name::Route));
    for (user, branch, name) in [("trunk-7", "a", "carrier"), ("somebody", "b", "")] {
        let invite =
            request("INVITE", branch, 1, "", "").replace("sip:gateway@192", &format!("sip:{user}@192"));
        solo.receive(&invite.replace("solo@", branch));
        solo.sent();
        let Some(Event::Incoming { leg, .. }) = solo.events().pop() else { panic!() };
        assert_eq!(&*solo.endpoint.profile(leg).unwrap().name, name);
    }
}

#[test]
fn another_registration_of_the_same_name_replaces_it() {
    let (mut solo, register) = registering();
    solo.receive(&response(&register, 200, "r", GRANTED));
    let longer = Registration { expires: 900, ..wanted(&solo) };
    solo.endpoint.register(solo.now, longer);
    let next = solo.sent_one();
    assert_eq!((next.call_id(), next.cseq_number(), next.expires()), (register.call_id(), 2, Some(900)));
    let other = Registration { contact_user: "trunk-8".to_owned(), ..wanted(&solo) };
    solo.endpoint.register(solo.now, other);
    let sent = solo.sent();
    assert_eq!((sent[0].expires(), sent[0].call_id()), (Some(0), register.call_id()));
    assert_eq!(sent[1].expires(), Some(600));
    assert_ne!(sent[1].call_id(), register.call_id());
}
