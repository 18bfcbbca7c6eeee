//! Phones that register here and say who they are (RFC 3261 10.3, 22; RFC 3327, RFC 5626, RFC 8760).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use telephony_sip::digest::{Algorithm, Fields, Qop, Secret, Subject, Terms, response as digest};
use telephony_sip::users::{Account, Binding, Guard, Users};
use telephony_sip::{
    Admission, Config, Connection, Dial, Event, Flow, LegId, Message, Name, Notice, Profile, Stranger,
    Transport,
};

use crate::wire::{Solo, address, dial, first_line, response};

const SECOND: Duration = Duration::from_secs(1);

fn solo() -> Solo {
    with(Config::default())
}

fn with(config: Config) -> Solo {
    let mut solo = Solo::with(config);
    let account =
        |password: &str, max_contacts| Account { secret: Secret::Password(password.into()), max_contacts };
    let hashed = Account { secret: Secret::from_ha1(&"0".repeat(32)).unwrap(), max_contacts: 1 };
    let accounts = HashMap::from([
        (Arc::from("alice"), account("wonderland", 2)),
        (Arc::from("bob"), account("builder", 1)),
        (Arc::from("hashed"), hashed),
    ]);
    solo.endpoint.set_users(solo.now, Some(Users { realm: "here".into(), accounts }));
    solo
}

/// A request of a phone; `extra` are whole lines.
fn request(method: &str, user: &str, call: &str, cseq: u32, extra: &str) -> String {
    let extra = if extra.is_empty() { String::new() } else { format!("{}\n", extra.trim_end()) };
    format!(
        "{method} sip:192.0.2.1 SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5:5062;rport;branch=z9hG4bK{method}{user}{call}{cseq}\n\
         Max-Forwards: 70\nFrom: <sip:{user}@here>;tag=f\nTo: <sip:{user}@here>\nCall-ID: {call}\n\
         CSeq: {cseq} {method}\n{extra}Content-Length: 0\n\n"
    )
}

/// What a phone answers to a challenge; the algorithm is the one it prefers.
fn credentials(challenge: &Message, method: &str, user: &str, password: &str, algorithm: &str) -> String {
    let all: Vec<_> = challenge.lines(Name::WwwAuthenticate).flat_map(Fields::parse).collect();
    let fields = all.iter().find(|fields| fields.value("algorithm") == Some(algorithm)).unwrap();
    let (realm, nonce) = (fields.value("realm").unwrap(), fields.value("nonce").unwrap());
    signed(realm, nonce, method, user, password, algorithm, 1)
}

fn signed(
    realm: &str,
    nonce: &str,
    method: &str,
    user: &str,
    password: &str,
    algorithm: &str,
    count: u32,
) -> String {
    let algorithm = Algorithm::parse(algorithm).unwrap();
    let ha1 = Secret::Password(password.into()).ha1(algorithm.hash, user, realm).unwrap();
    let nc = format!("{count:08x}");
    let terms = Terms { algorithm, nonce, quality: Some((&nc, "c", Qop::Auth)) };
    let answer = digest(&ha1, &terms, &Subject { method, uri: "sip:192.0.2.1", body: b"" });
    format!(
        "Authorization: Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"sip:192.0.2.1\", \
         response=\"{answer}\", algorithm={}, qop=auth, nc={nc}, cnonce=\"c\"",
        algorithm.name()
    )
}

fn exchange(solo: &mut Solo, text: &str) -> Message {
    solo.receive(text);
    solo.sent_one()
}

fn nonce(challenge: &Message) -> String {
    Fields::parse(challenge.header(Name::WwwAuthenticate).unwrap())[0].value("nonce").unwrap().to_owned()
}

/// Registers: the challenge, then the real one.
fn register(solo: &mut Solo, user: &str, call: &str, cseq: u32, extra: &str) -> Message {
    let password = if user == "alice" { "wonderland" } else { "builder" };
    let challenge = exchange(solo, &request("REGISTER", user, call, cseq, extra));
    assert_eq!(challenge.status().unwrap().0, 401);
    let proof = credentials(&challenge, "REGISTER", user, password, "SHA-256");
    exchange(solo, &request("REGISTER", user, call, cseq + 1, &format!("{proof}\n{extra}")))
}

fn status(message: &Message) -> u16 {
    message.status().unwrap().0
}

/// What was told last of a user's phones.
fn bindings(solo: &mut Solo) -> Option<Vec<Binding>> {
    let mut last = None;
    while let Some(notice) = solo.endpoint.poll_notice() {
        if let Notice::Bindings { bindings, .. } = notice {
            last = Some(bindings);
        }
    }
    last
}

fn uris(bindings: Option<Vec<Binding>>) -> Vec<String> {
    bindings.unwrap().iter().map(|binding| binding.uri.to_string()).collect()
}

const PHONE: &str = "Contact: <sip:alice@10.0.0.5:5062>;q=0.5";

#[test]
fn a_phone_registers_and_is_called_where_it_registered_from() {
    let mut solo = solo();
    let answer = register(&mut solo, "alice", "one", 1, PHONE);
    assert_eq!(status(&answer), 200);
    assert_eq!(answer.header(Name::Contact), Some("<sip:alice@10.0.0.5:5062>;expires=3600;q=0.500"));
    assert_eq!(answer.header(Name::ServiceRoute), Some("<sip:192.0.2.1:5060;lr>"));
    let told = bindings(&mut solo).unwrap();
    let [phone] = &told[..] else { panic!("{told:?}") };
    assert_eq!((phone.q, phone.source, phone.expires), (500, solo.flow.remote, 3600 * SECOND));
    let way = solo.endpoint.way(phone.token).unwrap();
    assert_eq!((way.flow, &*way.uri), (solo.flow, "sip:alice@10.0.0.5:5062"));
    // In the dialog its flow is kept as well, although Contact leads elsewhere.
    let profile = Arc::new(Profile { keeps_flow: true, ..Profile::default() });
    let call = Dial { flow: way.flow, request_uri: way.uri.to_string(), profile, ..dial(solo.flow) };
    solo.endpoint.dial(solo.now, LegId(1), call).unwrap();
    let invite = solo.sent_one();
    solo.receive(&response(&invite, 200, "t", "Contact: <sip:alice@198.51.100.5:5062>"));
    solo.sent();
    solo.endpoint.hangup(solo.now, LegId(1), None).unwrap();
    assert_eq!(solo.endpoint.poll_transmit().unwrap().flow, solo.flow);
}

#[test]
fn all_algorithms_are_offered_the_preferred_one_first() {
    let mut solo = solo();
    let challenge = exchange(&mut solo, &request("REGISTER", "alice", "one", 1, PHONE));
    let offered: Vec<_> = challenge.lines(Name::WwwAuthenticate).flat_map(Fields::parse).collect();
    let algorithms: Vec<_> = offered.iter().map(|fields| fields.value("algorithm").unwrap()).collect();
    assert_eq!(algorithms, ["SHA-256", "SHA-512-256", "MD5"]);
    for (cseq, algorithm) in (2..).step_by(2).zip(algorithms) {
        let challenge = exchange(&mut solo, &request("REGISTER", "alice", "one", cseq, PHONE));
        let proof = credentials(&challenge, "REGISTER", "alice", "wonderland", algorithm);
        let proven = request("REGISTER", "alice", "one", cseq + 1, &format!("{proof}\n{PHONE}"));
        assert_eq!(status(&exchange(&mut solo, &proven)), 200, "{algorithm}");
    }
    let only = exchange(&mut solo, &request("REGISTER", "hashed", "two", 1, PHONE));
    assert_eq!(only.lines(Name::WwwAuthenticate).count(), 1, "there is no SHA-256 of it to check");
}

#[test]
fn wrong_passwords_strange_names_and_old_nonces_do_not_do() {
    let mut solo = solo();
    let challenge = exchange(&mut solo, &request("REGISTER", "alice", "one", 1, PHONE));
    let good = nonce(&challenge);
    let attempts = [
        signed("here", &good, "REGISTER", "alice", "wrong", "SHA-256", 1),
        signed("here", &good, "REGISTER", "nobody", "wonderland", "SHA-256", 1),
        signed("there", &good, "REGISTER", "alice", "wonderland", "SHA-256", 1),
        signed("here", &good, "INVITE", "alice", "wonderland", "SHA-256", 1),
        "Authorization: Basic YWxpY2U6d29uZGVybGFuZA==".to_owned(),
        "Authorization: Digest username=\"alice\", realm=\"here\"".to_owned(),
    ];
    for (cseq, attempt) in (2..).zip(&attempts) {
        let answer =
            exchange(&mut solo, &request("REGISTER", "alice", "one", cseq, &format!("{attempt}\n{PHONE}")));
        assert_eq!(status(&answer), 401, "{attempt}");
        assert!(!answer.header(Name::WwwAuthenticate).unwrap().contains("stale"), "{attempt}");
    }
    assert_eq!(bindings(&mut solo), None);
    assert_eq!(solo.endpoint.stats().wrong_credentials, 3, "those that answer a challenge of ours");
    solo.now += 301 * SECOND;
    for (cseq, password, stale) in [(20, "wonderland", true), (21, "wrong", false)] {
        let late = signed("here", &good, "REGISTER", "alice", password, "SHA-256", cseq);
        let answer =
            exchange(&mut solo, &request("REGISTER", "alice", "one", cseq, &format!("{late}\n{PHONE}")));
        assert_eq!(answer.header(Name::WwwAuthenticate).unwrap().contains("stale=true"), stale, "{password}");
    }
    assert_eq!(solo.endpoint.stats().wrong_credentials, 4, "an old nonce of ours makes no guess free");
}

#[test]
fn credentials_cannot_be_used_twice() {
    let mut solo = solo();
    let challenge = exchange(&mut solo, &request("REGISTER", "alice", "one", 1, PHONE));
    let proof = credentials(&challenge, "REGISTER", "alice", "wonderland", "SHA-256");
    let mut statuses = Vec::new();
    for cseq in 2..4 {
        statuses.push(status(&exchange(&mut solo, &request("REGISTER", "alice", "one", cseq, &proof))));
    }
    let next = signed("here", &nonce(&challenge), "REGISTER", "alice", "wonderland", "SHA-256", 2);
    statuses.push(status(&exchange(&mut solo, &request("REGISTER", "alice", "one", 4, &next))));
    assert_eq!(statuses, [200, 401, 200]);
}

#[test]
fn who_guesses_too_often_is_not_asked_any_more() {
    let mut solo = solo();
    let challenge = exchange(&mut solo, &request("REGISTER", "alice", "one", 1, PHONE));
    let wrong = signed("here", &nonce(&challenge), "REGISTER", "alice", "wrong", "MD5", 1);
    let mut answers = Vec::new();
    for cseq in 2..30 {
        answers.push(exchange(&mut solo, &request("REGISTER", "alice", "one", cseq, &wrong)));
    }
    assert_eq!(answers.iter().filter(|answer| status(answer) == 401).count(), 20);
    let right = credentials(&challenge, "REGISTER", "alice", "wonderland", "MD5");
    let right = exchange(&mut solo, &request("REGISTER", "alice", "one", 30, &right));
    for shut in [answers.last().unwrap(), &right] {
        assert_eq!((status(shut), shut.reason()), (503, "Too many wrong passwords"));
        assert!((60..=71).contains(&shut.number(Name::RetryAfter).unwrap()), "403 would be for ever");
    }
    assert_eq!(status(&register(&mut solo, "bob", "two", 1, PHONE)), 200, "behind the same NAT");
    solo.now += 61 * SECOND;
    assert_eq!(status(&register(&mut solo, "alice", "two", 1, PHONE)), 200);
}

/// A name that is not there is shut like one that is, and many of them shut their source.
#[test]
fn who_guesses_names_too_is_not_asked_any_more_either() {
    let mut solo = solo();
    let mut counts = Vec::new();
    for user in ["alice", "nobody", "somebody", "anybody", "hashed"] {
        let challenge = exchange(&mut solo, &request("REGISTER", user, "one", 1, PHONE));
        let mut guess = |cseq| {
            let wrong = signed("here", &nonce(&challenge), "REGISTER", user, "wrong", "MD5", cseq);
            status(&exchange(&mut solo, &request("REGISTER", user, "one", cseq, &wrong)))
        };
        counts.push((2..30).filter(|cseq| guess(*cseq) == 401).count());
    }
    assert_eq!(counts, [20; 5]);
    let asked = exchange(&mut solo, &request("REGISTER", "bob", "one", 1, PHONE));
    assert_eq!(status(&asked), 503, "nobody of this source is asked any more");
}

/// What is offered says nothing of who is there: not all accounts have a key for each algorithm.
#[test]
fn unknown_names_are_offered_what_some_user_is() {
    let mut solo = solo();
    let mut offered = |user: &str| {
        let challenge = exchange(&mut solo, &request("REGISTER", user, "one", 1, PHONE));
        let all: Vec<_> = challenge.lines(Name::WwwAuthenticate).flat_map(Fields::parse).collect();
        all.iter().map(|fields| fields.value("algorithm").unwrap()).collect::<Vec<_>>().join(" ")
    };
    let (whole, md5) = (offered("alice"), offered("hashed"));
    assert_eq!((&*whole, &*md5), ("SHA-256 SHA-512-256 MD5", "MD5"));
    let strangers: Vec<_> = (0..120).map(|number| offered(&format!("stranger{number}"))).collect();
    let share = strangers.iter().filter(|offer| **offer == md5).count();
    assert!((20..=60).contains(&share), "{share} of 120, as one user of three");
    assert_eq!(strangers.iter().filter(|offer| **offer == whole).count(), 120 - share);
    let again: Vec<_> = (0..120).map(|number| offered(&format!("stranger{number}"))).collect();
    assert_eq!(strangers, again);
}

#[test]
fn contacts_come_and_go() {
    let mut solo = solo();
    register(&mut solo, "alice", "one", 1, "Contact: <sip:alice@10.0.0.5:5062>;q=0.5, <sip:alice@10.0.0.6>");
    assert_eq!(uris(bindings(&mut solo)), ["sip:alice@10.0.0.6", "sip:alice@10.0.0.5:5062"], "by preference");
    let full = register(&mut solo, "alice", "two", 1, "Contact: <sip:alice@10.0.0.7>");
    assert_eq!((status(&full), full.reason()), (403, "Too many contacts"));
    let query = register(&mut solo, "alice", "three", 1, "");
    assert_eq!((status(&query), query.lines(Name::Contact).count()), (200, 2));
    let gone = "Contact: <sip:alice@10.0.0.6>;expires=0";
    let challenge = exchange(&mut solo, &request("REGISTER", "alice", "one", 1, gone));
    let proof = credentials(&challenge, "REGISTER", "alice", "wonderland", "SHA-256");
    let late = request("REGISTER", "alice", "one", 2, &format!("{proof}\n{gone}"));
    let old = exchange(&mut solo, &late.replace("branch=z9hG4bK", "branch=z9hG4bKlate"));
    assert_eq!(status(&old), 500, "CSeq is that of before");
    register(&mut solo, "alice", "one", 5, "Contact: <sip:alice@10.0.0.6>;expires=0");
    assert_eq!(uris(bindings(&mut solo)), ["sip:alice@10.0.0.5:5062"]);
    for wrong in ["Contact: *", "Contact: *\nExpires: 60"] {
        assert_eq!(status(&register(&mut solo, "alice", "four", 1, wrong)), 400, "{wrong}");
    }
    assert_eq!(status(&register(&mut solo, "alice", "five", 1, "Contact: *\nExpires: 0")), 200);
    assert_eq!(bindings(&mut solo), Some(Vec::new()));
}

#[test]
fn intervals_have_bounds_and_bindings_an_end() {
    let mut solo = solo();
    let brief = register(&mut solo, "alice", "one", 1, "Contact: <sip:alice@10.0.0.6>;expires=59");
    assert_eq!((status(&brief), brief.number(Name::MinExpires)), (423, Some(60)));
    let long = register(&mut solo, "alice", "one", 3, "Contact: <sip:alice@10.0.0.6>\nExpires: 1000000");
    assert!(long.header(Name::Contact).unwrap().contains("expires=7200"));
    register(&mut solo, "bob", "two", 1, "Contact: <sip:bob@10.0.0.7>;expires=60");
    bindings(&mut solo);
    solo.advance(61 * SECOND);
    assert_eq!(bindings(&mut solo), Some(Vec::new()), "bob's");
    solo.advance(7200 * SECOND);
    assert_eq!(bindings(&mut solo), Some(Vec::new()), "alice's");
    assert_eq!(solo.endpoint.poll_timeout(), None);
}

#[test]
fn a_phone_that_starts_anew_replaces_its_flow_and_a_lost_stream_ends_it() {
    let mut solo = solo();
    let stream = |number| Flow {
        transport: Transport::Tcp,
        connection: Some(Connection(number)),
        ..Flow::udp(address("192.0.2.1:5060"), address("192.0.2.9:5060"))
    };
    let contact = |port| {
        format!(
            "Contact: <sip:alice@10.0.0.5:{port};transport=tcp>;+sip.instance=\"<urn:uuid:1>\";reg-id=1\n\
             Supported: path, outbound\nPath: <sip:edge.example;lr>"
        )
    };
    solo.flow = stream(1);
    let first = register(&mut solo, "alice", "one", 1, &contact(1111));
    assert_eq!(
        (first.header(Name::Require), first.header_named("Flow-Timer")),
        (Some("outbound"), Some("120"))
    );
    assert_eq!(first.header(Name::Path), Some("<sip:edge.example;lr>"));
    assert_eq!(first.header(Name::ServiceRoute), Some("<sip:192.0.2.1:5060;transport=tcp;lr>"));
    solo.flow = stream(2);
    register(&mut solo, "alice", "two", 1, &contact(2222));
    let told = bindings(&mut solo).unwrap();
    assert_eq!(told.len(), 1);
    let way = solo.endpoint.way(told[0].token).unwrap();
    assert_eq!((way.flow, &*way.path[0]), (stream(2), "<sip:edge.example;lr>"));
    solo.endpoint.handle_closed(solo.now, Connection(1));
    assert_eq!(bindings(&mut solo), None, "nothing hung on the first any more");
    solo.endpoint.handle_closed(solo.now, Connection(2));
    assert_eq!(bindings(&mut solo), Some(Vec::new()));
}

/// RFC 5626 6: the answer is about the flow of this REGISTER, not about those of others.
#[test]
fn outbound_is_granted_to_the_phone_that_asked_for_it() {
    let phone = |number: u32| format!("Contact: <sip:alice@10.0.0.{number}>");
    let instance = |number: u32| format!("{};+sip.instance=\"<urn:uuid:{number}>\";reg-id=1", phone(number));
    let mut solo = solo();
    let asked = format!("{}\nSupported: path, outbound", instance(5));
    for (call, extra, granted) in [
        ("one", &*asked, true),
        ("two", &phone(6), false),
        ("three", "Supported: outbound", false),
        ("four", &instance(5), false),
    ] {
        let answer = register(&mut solo, "alice", call, 1, extra);
        assert_eq!(status(&answer), 200, "{extra}");
        let told = [answer.has(Name::Require), answer.header_named("Flow-Timer").is_some()];
        assert_eq!(told, [granted; 2], "{extra}");
        assert!(!granted || answer.header(Name::Contact).unwrap().contains("reg-id=1"));
    }
}

/// RFC 5626 6: a proxy that keeps no flow would send calls to the wrong one.
#[test]
fn outbound_needs_a_first_hop_that_keeps_flows() {
    let contact = "Contact: <sip:alice@10.0.0.5>;+sip.instance=\"<urn:uuid:1>\";reg-id=1";
    for (extra, wanted, granted) in [
        ("Supported: outbound", 439, false),
        ("Supported: outbound\nPath: <sip:edge.example;lr>", 439, false),
        ("Supported: outbound\nPath: <sip:core.example;lr>, <sip:edge.example;lr;ob>", 200, true),
        ("Supported: path", 200, false),
    ] {
        let mut solo = solo();
        let extra = format!("{contact}\n{extra}");
        let by_proxy =
            |text: String| text.replace("Via: ", "Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKproxy, ");
        let challenge = exchange(&mut solo, &by_proxy(request("REGISTER", "alice", "one", 1, &extra)));
        let proof = credentials(&challenge, "REGISTER", "alice", "wonderland", "SHA-256");
        let proven = by_proxy(request("REGISTER", "alice", "one", 2, &format!("{proof}\n{extra}")));
        let answer = exchange(&mut solo, &proven.replace("z9hG4bKproxy", "z9hG4bKproven"));
        assert_eq!((status(&answer), answer.has(Name::Require)), (wanted, granted), "{extra}");
        let known = answer.header(Name::Contact).is_some_and(|contact| contact.contains("reg-id"));
        assert_eq!(known, granted, "{extra}");
    }
}

#[test]
fn a_phone_that_starts_anew_on_other_ports_does_not_shut_itself_out() {
    let mut solo = solo();
    let phone = |port: u32, name: &str| format!("Contact: <sip:alice@10.0.0.5:{port}>\nUser-Agent: {name}");
    let ports = |solo: &mut Solo| {
        let mut all = uris(bindings(solo));
        all.sort();
        all
    };
    for port in 1001..1003 {
        register(&mut solo, "alice", &format!("call{port}"), 1, &phone(port, "Phone 1.0"));
        solo.now += SECOND;
    }
    // Renewed, so that it is the other that was left behind.
    register(&mut solo, "alice", "call1001", 3, &phone(1001, "Phone 1.0"));
    bindings(&mut solo);
    assert_eq!(status(&register(&mut solo, "alice", "other", 1, &phone(1003, "Other"))), 403);
    solo.flow.remote = address("192.0.2.77:5060");
    assert_eq!(status(&register(&mut solo, "alice", "far", 1, &phone(1003, "Phone 1.0"))), 403);
    // Its port does not matter.
    solo.flow.remote = address("192.0.2.9:6060");
    let user = phone(1003, "Phone 1.0").replace("alice@", "door@");
    assert_eq!(status(&register(&mut solo, "alice", "user", 1, &user)), 403);
    let both = "Contact: <sip:alice@10.0.0.5:1003>, <sip:alice@10.0.0.5:1004>, <sip:alice@10.0.0.5:1005>\n\
                User-Agent: Phone 1.0";
    assert_eq!(status(&register(&mut solo, "alice", "both", 1, both)), 403, "more than there may be at once");
    assert_eq!(status(&register(&mut solo, "alice", "new", 1, &phone(1003, "Phone 1.0"))), 200);
    assert_eq!(ports(&mut solo), ["sip:alice@10.0.0.5:1001", "sip:alice@10.0.0.5:1003"]);
}

/// RFC 5626 4.4.2, 8: else the phone takes its flow for dead.
#[test]
fn stun_of_phones_is_answered_and_that_of_strangers_is_not() {
    let mut solo = solo();
    let admission = Admission { stranger: Stranger::Drop, ..Admission::default() };
    solo.profile = Arc::new(Profile { admission, ..Profile::default() });
    let ping = |solo: &mut Solo| {
        let stun = bytes::Bytes::from_static(b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl");
        solo.endpoint.handle_message(solo.now, stun, solo.flow, &solo.profile);
        solo.endpoint.poll_transmit().is_some()
    };
    assert!(!ping(&mut solo));
    for (user, cseq) in [("alice", 1), ("bob", 1), ("alice", 11)] {
        register(&mut solo, user, user, cseq, &PHONE.replace("alice", user));
        assert!(ping(&mut solo));
    }
    solo.flow.remote = address("192.0.2.9:5061");
    assert!(!ping(&mut solo), "from another port");
    solo.flow.remote = address("192.0.2.9:5060");
    register(&mut solo, "bob", "bob", 11, "Contact: *\nExpires: 0");
    assert!(ping(&mut solo), "alice is still there");
    solo.advance(3601 * SECOND);
    assert!(!ping(&mut solo));
}

#[test]
fn phones_behind_our_nat_are_told_its_outside() {
    let mut solo = with(Config { public_host: Some("gw.example.com".into()), ..Config::default() });
    let answer = register(&mut solo, "alice", "one", 1, PHONE);
    assert_eq!(answer.header(Name::ServiceRoute), Some("<sip:gw.example.com:5060;lr>"));
}

#[test]
fn a_phone_calls_as_its_user_and_as_nobody_else() {
    let mut solo = solo();
    let contact = "Contact: <sip:alice@10.0.0.5:5062>";
    let challenge = exchange(&mut solo, &request("INVITE", "alice", "call", 1, contact));
    assert_eq!(status(&challenge), 401);
    solo.receive(&request("ACK", "alice", "call", 1, ""));
    assert!(solo.sent().is_empty());
    let proof = credentials(&challenge, "INVITE", "alice", "wonderland", "SHA-256");
    solo.receive(&request("INVITE", "alice", "call", 2, &format!("{proof}\n{contact}")));
    let Some(Event::Incoming { user, leg, .. }) = solo.events().pop() else { panic!() };
    assert_eq!(user.as_deref(), Some("alice"));
    solo.endpoint.reject(solo.now, leg, 486, None, &[]).unwrap();
    solo.sent();
    let other = exchange(&mut solo, &request("INVITE", "bob", "other", 1, contact));
    let proof = signed("here", &nonce(&other), "INVITE", "alice", "wonderland", "SHA-256", 1);
    let spoofed = exchange(&mut solo, &request("INVITE", "bob", "other", 2, &format!("{proof}\n{contact}")));
    assert_eq!((status(&spoofed), solo.events().len()), (403, 1), "the end of the first call only");
    let register = exchange(&mut solo, &request("REGISTER", "bob", "reg", 1, PHONE));
    let proof = credentials(&register, "REGISTER", "alice", "wonderland", "MD5");
    let spoofed = exchange(&mut solo, &request("REGISTER", "bob", "reg", 2, &format!("{proof}\n{PHONE}")));
    assert_eq!((status(&spoofed), spoofed.reason()), (403, "To is somebody else"));
}

#[test]
fn a_trunk_proves_itself_or_is_believed() {
    let contact = "Contact: <sip:alice@10.0.0.5:5062>";
    let mut solo = solo();
    solo.profile = Arc::new(Profile { name: "carrier".into(), phones: false, ..Profile::default() });
    solo.receive(&request("INVITE", "alice", "call", 1, contact));
    let Some(Event::Incoming { user: None, .. }) = solo.events().pop() else {
        panic!("the address is enough")
    };
    solo.sent();
    let guard =
        Guard { realm: "carrier".into(), username: "us".into(), secret: Secret::Password("secret".into()) };
    solo.profile = Arc::new(Profile { guard: Some(Arc::new(guard)), ..Profile::clone(&solo.profile) });
    let challenge = exchange(&mut solo, &request("INVITE", "anybody", "next", 1, contact));
    assert_eq!(first_line(&challenge), "401");
    let proof = credentials(&challenge, "INVITE", "us", "secret", "SHA-256");
    solo.receive(&request("INVITE", "anybody", "next", 2, &format!("{proof}\n{contact}")));
    let Some(Event::Incoming { user: None, .. }) = solo.events().pop() else { panic!() };
    solo.sent();
    let ha1 = Secret::from_ha1(&"0".repeat(32)).unwrap();
    let guard = Guard { realm: "carrier".into(), username: "us".into(), secret: ha1 };
    solo.profile = Arc::new(Profile { guard: Some(Arc::new(guard)), ..Profile::clone(&solo.profile) });
    let only = exchange(&mut solo, &request("INVITE", "anybody", "last", 1, contact));
    assert_eq!(
        only.lines(Name::WwwAuthenticate).count(),
        1,
        "whoever its caller is, there is no SHA-256 to check"
    );
}

#[test]
fn without_users_there_is_no_registrar() {
    let mut solo = Solo::new();
    let answer = exchange(&mut solo, &request("REGISTER", "alice", "one", 1, PHONE));
    assert_eq!(status(&answer), 405);
    let mut solo = self::solo();
    let unknown = exchange(&mut solo, &request("REGISTER", "alice", "one", 1, "Require: gruu"));
    assert_eq!((status(&unknown), unknown.header(Name::Unsupported)), (420, Some("gruu")));
}

#[test]
fn strangers_may_say_who_they_are_and_nothing_else() {
    for (stranger, otherwise) in [(Stranger::Drop, None), (Stranger::Refuse, Some(403))] {
        let mut solo = solo();
        let admission = Admission { stranger, ..Admission::default() };
        solo.profile = Arc::new(Profile { admission, ..Profile::default() });
        assert_eq!(status(&register(&mut solo, "alice", "one", 1, PHONE)), 200);
        let challenge = exchange(&mut solo, &request("INVITE", "alice", "two", 1, PHONE));
        assert_eq!(status(&challenge), 401);
        assert!(solo.events().is_empty());
        let proof = credentials(&challenge, "INVITE", "alice", "wonderland", "SHA-256");
        solo.receive(&request("INVITE", "alice", "two", 2, &format!("{proof}\n{PHONE}")));
        assert!(
            matches!(&solo.events()[..], [Event::Incoming { user: Some(user), .. }] if **user == *"alice")
        );
        solo.sent();
        for method in ["OPTIONS", "MESSAGE", "BYE"] {
            solo.receive(&request(method, "alice", "three", 1, ""));
            assert_eq!(solo.sent().first().map(status), otherwise, "{method}");
        }
        solo.endpoint.set_users(solo.now, None);
        for method in ["REGISTER", "INVITE"] {
            solo.receive(&request(method, "alice", "four", 1, PHONE));
            assert_eq!(solo.sent().first().map(status), otherwise, "{method} without users");
        }
    }
}

#[test]
fn a_lost_answer_to_a_register_is_repeated() {
    let mut solo = solo();
    let challenge = exchange(&mut solo, &request("REGISTER", "alice", "one", 1, PHONE));
    for (contact, wanted) in [(PHONE, 200), ("Contact: <sip:alice@10.0.0.5:5062>;expires=1", 423)] {
        let cseq = if wanted == 200 { 2 } else { 3 };
        let count = cseq - 1;
        let proof = signed("here", &nonce(&challenge), "REGISTER", "alice", "wonderland", "SHA-256", count);
        let text = request("REGISTER", "alice", "one", cseq, &format!("{proof}\n{contact}"));
        let first = exchange(&mut solo, &text);
        let again = exchange(&mut solo, &text);
        assert_eq!((status(&first), status(&again)), (wanted, wanted), "RFC 3261 8.2.7");
        assert_eq!(first.to_tag(), again.to_tag());
    }
    solo.advance(33 * SECOND);
    assert_eq!(solo.alive().1, 0);
}

#[test]
fn forged_answers_shut_nobody_out() {
    let mut solo = solo();
    for cseq in 1..100 {
        let forged =
            |password| signed("here", "0000000000000001aaaa", "REGISTER", "alice", password, "MD5", 1);
        let broken = "Authorization: Digest realm=\"here\", username=\"alice\"".to_owned();
        for proof in [forged("wrong"), forged("wonderland"), broken] {
            let answer = exchange(&mut solo, &request("REGISTER", "alice", "one", cseq, &proof));
            assert_eq!(status(&answer), 401, "nobody proved by a nonce that he is there");
            let told = answer.header(Name::WwwAuthenticate).unwrap();
            assert!(!told.contains("stale"), "a guess that is not counted learns nothing: {proof}");
        }
    }
    assert_eq!(status(&register(&mut solo, "alice", "two", 1, PHONE)), 200);
}

#[test]
fn an_ipv6_network_guesses_as_one() {
    let mut solo = solo();
    let mut refused = 0;
    for host in 1..30 {
        solo.flow.remote = address(&format!("[2001:db8:1:2::{host}]:5060"));
        let challenge = exchange(&mut solo, &request("REGISTER", "alice", "one", host, PHONE));
        let wrong = credentials(&challenge, "REGISTER", "alice", "wrong", "MD5");
        let answer = exchange(&mut solo, &request("REGISTER", "alice", "two", host, &wrong));
        refused += u32::from(status(&answer) == 503);
    }
    assert_eq!(refused, 9, "20 wrong passwords of the /64");
    solo.flow.remote = address("[2001:db8:1:3::1]:5060");
    assert_eq!(status(&register(&mut solo, "alice", "three", 1, PHONE)), 200);
}

#[test]
fn other_users_leave_the_phones_of_those_that_stay() {
    let mut solo = solo();
    register(&mut solo, "alice", "one", 1, PHONE);
    register(&mut solo, "bob", "two", 1, "Contact: <sip:bob@10.0.0.6>");
    let token = bindings(&mut solo).unwrap()[0].token;
    let bob = Account { secret: Secret::Password("changed".into()), max_contacts: 1 };
    let accounts = HashMap::from([(Arc::from("bob"), bob)]);
    solo.endpoint.set_users(solo.now, Some(Users { realm: "here".into(), accounts }));
    let told = solo.endpoint.poll_notice();
    assert_eq!(told, Some(Notice::Bindings { user: "alice".into(), bindings: Vec::new() }));
    assert_eq!(solo.endpoint.poll_notice(), None, "bob's phone stays as it is");
    assert!(solo.endpoint.way(token).is_some());
    let challenge = exchange(&mut solo, &request("REGISTER", "alice", "three", 1, PHONE));
    let old = credentials(&challenge, "REGISTER", "alice", "wonderland", "SHA-256");
    assert_eq!(status(&exchange(&mut solo, &request("REGISTER", "alice", "three", 2, &old))), 401);
}

/// RFC 5630 5.2: a secure name is bound to nothing that is open.
#[test]
fn a_sips_contact_is_bound_over_tls_only() {
    let contact = "Contact: <sips:alice@10.0.0.5>";
    for (tls, secure, path, status) in [
        (false, false, "", 400),
        (false, true, "", 400),
        (true, false, "", 400),
        (true, true, "\nPath: <sip:192.0.2.7;lr>", 400),
        (true, true, "\nPath: <sips:192.0.2.7;lr>", 200),
        (true, true, "", 200),
    ] {
        let mut solo = solo();
        if tls {
            solo.flow = Flow { transport: Transport::Tls, connection: Some(Connection(1)), ..solo.flow };
        }
        let uri = if secure { "sips:192.0.2.1" } else { "sip:192.0.2.1" };
        let by = |text: String| text.replace("REGISTER sip:192.0.2.1", &format!("REGISTER {uri}"));
        let extra = format!("{contact}{path}");
        let challenge = exchange(&mut solo, &by(request("REGISTER", "alice", "c", 1, &extra)));
        let proof = credentials(&challenge, "REGISTER", "alice", "wonderland", "SHA-256");
        let answer =
            exchange(&mut solo, &by(request("REGISTER", "alice", "c", 2, &format!("{proof}\n{extra}"))));
        assert_eq!(answer.status().unwrap().0, status, "{tls} {secure} {path}");
    }
}
