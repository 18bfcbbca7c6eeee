//! ICE: our lite agent against a full one, in virtual time.

use is::stun::{StunMessage, StunPacket};
use is::{Candidate, IceAgent, IceAgentEvent, IceCreds, Protocol};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use telephony_media::ice::{CONSENT, Credentials, Event, Ice, is_stun, stun_username};

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn credentials(seed: u8) -> Credentials {
    let mut bytes = [seed; 32];
    bytes
        .iter_mut()
        .zip(0..)
        .for_each(|(byte, i): (&mut u8, u8)| *byte = byte.wrapping_mul(37).wrapping_add(i * 7));
    Credentials::from_seed(bytes)
}

/// A browser: full ICE, controlling, behind a NAT that shows `seen` to us.
struct Browser {
    agent: IceAgent,
    own: SocketAddr,
    seen: SocketAddr,
    nominated: Option<SocketAddr>,
}

impl Browser {
    fn new(own: &str, seen: &str, ours: &Ice, server: SocketAddr) -> Self {
        let Credentials { ufrag, pwd: pass } = credentials(2);
        let mut agent = IceAgent::new(IceCreds { ufrag, pass });
        agent.set_controlling(true);
        agent.add_local_candidate(Candidate::host(at(own), Protocol::Udp).unwrap());
        let Credentials { ufrag, pwd: pass } = ours.credentials().clone();
        agent.set_remote_credentials(IceCreds { ufrag, pass });
        agent.add_remote_candidate(Candidate::host(server, Protocol::Udp).unwrap());
        Self { agent, own: at(own), seen: at(seen), nominated: None }
    }

    fn handle(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let message = StunMessage::parse(datagram).unwrap();
        let packet = StunPacket { proto: Protocol::Udp, source: from, destination: self.own, message };
        assert!(self.agent.handle_packet(now, packet), "our answer is authentic");
    }

    fn events(&mut self) {
        while let Some(event) = self.agent.poll_event() {
            if let IceAgentEvent::NominatedSend { destination, .. } = event {
                self.nominated = Some(destination);
            }
        }
    }
}

/// Runs both until `end`; checks pass at once. Returns our events.
fn run(ours: &mut Ice, browser: &mut Browser, from: Instant, end: Instant) -> Vec<Event> {
    let mut events = Vec::new();
    let mut now = from;
    while now <= end {
        browser.agent.handle_timeout(now);
        while let Some(check) = browser.agent.poll_transmit() {
            assert!(is_stun(&check.contents));
            assert_eq!(stun_username(&check.contents), Some(ours.credentials().ufrag.as_str()));
            ours.handle_stun(now, check.destination, browser.seen, &check.contents);
        }
        if ours.poll_timeout().is_some_and(|timeout| timeout <= now) {
            ours.handle_timeout(now);
        }
        while let Some(answer) = ours.poll_transmit() {
            assert_eq!(answer.remote, browser.seen);
            browser.handle(now, answer.local, &answer.payload);
        }
        events.extend(std::iter::from_fn(|| ours.poll_event()));
        browser.events();
        now += Duration::from_millis(50);
    }
    events
}

const SERVER: &str = "192.0.2.1:4000";
const NATTED: &str = "203.0.113.7:61000";

fn connected() -> Vec<Event> {
    vec![Event::Connected, Event::Nominated { local: at(SERVER), remote: at(NATTED) }]
}

#[test]
fn a_browser_that_sends_no_candidate_connects_by_its_checks() {
    let now = Instant::now();
    let mut ours = Ice::new(&[at(SERVER)], credentials(1), now);
    ours.set_remote(now, credentials(2));
    let mut browser = Browser::new("10.0.0.2:5000", NATTED, &ours, at(SERVER));
    let events = run(&mut ours, &mut browser, now, now + Duration::from_secs(2));
    assert_eq!(events, connected());
    assert_eq!(browser.nominated, Some(at(SERVER)));
    assert!(ours.has_source(at(NATTED)) && !ours.has_source(at("203.0.113.7:61001")));
}

#[test]
fn checks_before_the_answer_are_answered_with_it() {
    let now = Instant::now();
    let mut ours = Ice::new(&[at(SERVER)], credentials(1), now);
    let mut browser = Browser::new("10.0.0.2:5000", NATTED, &ours, at(SERVER));
    let later = now + Duration::from_millis(400);
    assert_eq!(run(&mut ours, &mut browser, now, later), []);
    ours.set_remote(later, credentials(2));
    assert!(ours.poll_transmit().is_some());
    assert_eq!(run(&mut ours, &mut browser, later, later + Duration::from_secs(2)), connected());
}

#[test]
fn candidates_in_sdp_or_trickled_do_no_harm() {
    let now = Instant::now();
    let mut ours = Ice::new(&[at(SERVER), at("[2001:db8::1]:4000")], credentials(1), now);
    ours.set_remote(now, credentials(2));
    for candidate in [
        "candidate:1 1 udp 2122260223 203.0.113.7 61000 typ host generation 0 ufrag Zz9 network-id 1",
        "a=candidate:842163049 1 udp 1677729535 203.0.113.7 61000 typ srflx raddr 10.0.0.2 rport 5000",
        "2 1 UDP 2122252543 2001:db8::7 61000 typ host",
        "candidate:3 1 udp 2122260223 7d3ee8a2-5c2c-4f2c-8ff4-d0f7d5c5a2b1.local 61000 typ host",
        "candidate:4 1 tcp 1518280447 203.0.113.7 9 typ host tcptype active",
        "candidate:5 2 udp 2122260222 203.0.113.7 61001 typ host",
        "candidate:6 1 udp 2122260222 0.0.0.0 61001 typ host",
        "",
    ] {
        assert_eq!(ours.add_remote_candidate(now, candidate), Ok(()), "{candidate}");
    }
    for candidate in
        ["nonsense", "candidate:1 1 udp x 203.0.113.7 1 typ host", "1 1 udp 1 203.0.113.7 1 type host"]
    {
        assert!(ours.add_remote_candidate(now, candidate).is_err(), "{candidate}");
    }
    let mut browser = Browser::new("10.0.0.2:5000", NATTED, &ours, at(SERVER));
    assert_eq!(run(&mut ours, &mut browser, now, now + Duration::from_secs(2)), connected());
}

#[test]
fn silence_for_as_long_as_consent_lasts_disconnects_once_and_checks_reconnect() {
    let now = Instant::now();
    let mut ours = Ice::new(&[at(SERVER)], credentials(1), now);
    ours.set_remote(now, credentials(2));
    let mut browser = Browser::new("10.0.0.2:5000", NATTED, &ours, at(SERVER));
    let live = now + Duration::from_secs(60);
    assert_eq!(run(&mut ours, &mut browser, now, live), connected(), "checks keep it alive");
    let mut time = live;
    let mut events = Vec::new();
    while let Some(timeout) = ours.poll_timeout() {
        time = timeout;
        ours.handle_timeout(time);
        events.extend(std::iter::from_fn(|| ours.poll_event()));
    }
    assert_eq!(events, [Event::Disconnected]);
    assert!(time <= live + CONSENT && time > live + CONSENT - Duration::from_secs(6));
    let mut again = Browser::new("10.0.0.2:5000", NATTED, &ours, at(SERVER));
    assert_eq!(run(&mut ours, &mut again, time, time + Duration::from_secs(2)), connected());
}

#[test]
fn a_peer_that_never_checks_is_given_up() {
    let now = Instant::now();
    let mut ours = Ice::new(&[at(SERVER)], credentials(1), now);
    assert_eq!(ours.poll_timeout(), None, "nothing to wait for before the peer is known");
    ours.set_remote(now, credentials(2));
    ours.handle_timeout(now + CONSENT);
    assert_eq!(ours.poll_event(), Some(Event::Disconnected));
}

#[test]
fn the_browser_may_move_to_another_address() {
    let now = Instant::now();
    let mut ours = Ice::new(&[at(SERVER)], credentials(1), now);
    ours.set_remote(now, credentials(2));
    let mut browser = Browser::new("10.0.0.2:5000", NATTED, &ours, at(SERVER));
    let moved = now + Duration::from_secs(3);
    run(&mut ours, &mut browser, now, moved);
    browser.seen = at("198.51.100.9:50000");
    let events = run(&mut ours, &mut browser, moved, moved + Duration::from_secs(40));
    assert_eq!(events.last(), Some(&Event::Nominated { local: at(SERVER), remote: browser.seen }));
    assert!(!events.contains(&Event::Disconnected));
}

/// A check as the browser makes it, with any password.
fn check(ours: &Credentials, pwd: &str) -> Vec<u8> {
    let mut liar = IceAgent::new(IceCreds { ufrag: credentials(2).ufrag, pass: credentials(2).pwd });
    liar.set_controlling(true);
    liar.add_local_candidate(Candidate::host(at(NATTED), Protocol::Udp).unwrap());
    liar.set_remote_credentials(IceCreds { ufrag: ours.ufrag.clone(), pass: pwd.to_owned() });
    liar.add_remote_candidate(Candidate::host(at(SERVER), Protocol::Udp).unwrap());
    let mut now = Instant::now();
    loop {
        liar.handle_timeout(now);
        if let Some(transmit) = liar.poll_transmit() {
            return transmit.contents.into();
        }
        now += Duration::from_millis(50);
    }
}

#[test]
fn forged_checks_change_nothing() {
    let now = Instant::now();
    let mut ours = Ice::new(&[at(SERVER)], credentials(1), now);
    ours.set_remote(now, credentials(2));
    let forged = check(ours.credentials(), "a-password-that-is-just-wrong");
    assert!(!ours.handle_stun(now, at(SERVER), at(NATTED), &forged));
    let mut cut = check(ours.credentials(), &ours.credentials().pwd.clone());
    assert!(ours.handle_stun(now, at(SERVER), at(NATTED), &cut));
    for length in 0..cut.len() {
        assert!(!ours.handle_stun(now, at(SERVER), at(NATTED), &cut[..length]));
        let _ = stun_username(&cut[..length]);
    }
    cut[30] ^= 1;
    assert!(!ours.handle_stun(now, at(SERVER), at(NATTED), &cut));
}

#[test]
fn a_peer_cannot_make_us_remember_sources_without_end() {
    let now = Instant::now();
    let mut ours = Ice::new(&[at(SERVER)], credentials(1), now);
    ours.set_remote(now, credentials(2));
    let check = check(ours.credentials(), &ours.credentials().pwd.clone());
    let accepted = (1..=60_000_u16)
        .filter(|port| ours.handle_stun(now, at(SERVER), SocketAddr::new(at(NATTED).ip(), *port), &check))
        .count();
    assert_eq!(accepted, 128);
    for port in 1..1_000 {
        let line = format!("candidate:{port} 1 udp 2122260223 203.0.113.9 {port} typ host");
        assert!(ours.add_remote_candidate(now, &line).is_ok());
    }
}

#[test]
fn credentials_meet_the_standard_and_differ() {
    let (one, two) = (credentials(1), credentials(2));
    assert_ne!(one, two);
    for credentials in [one, two] {
        assert_eq!((credentials.ufrag.len(), credentials.pwd.len()), (8, 24));
        let ice_char = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
        assert!(credentials.ufrag.chars().chain(credentials.pwd.chars()).all(ice_char));
        assert!(!format!("{credentials:?}").contains(&credentials.pwd));
    }
}

#[test]
fn other_datagrams_are_not_stun() {
    for datagram in
        [&[][..], &[0; 20], &[0x16, 0xfe, 0xfd], &[0x80; 172], &[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]]
    {
        assert!(!is_stun(datagram));
        assert_eq!(stun_username(datagram), None);
    }
}
