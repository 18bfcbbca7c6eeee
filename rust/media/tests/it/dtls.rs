//! DTLS: two associations on a lossy virtual wire in virtual time.

use std::time::{Duration, Instant};
use telephony_media::dtls::{Certificate, Dtls, Event, HANDSHAKE_TIMEOUT, Role, is_dtls};
use telephony_media::sdp::{Fingerprint, HashFunction};
use telephony_media::srtp::{KeyMaterial, MAX_OVERHEAD, Profile};

const DAY_ZERO: Duration = Duration::from_secs(1_800_000_000);

fn certificate(seed: u8) -> Certificate {
    Certificate::generate([seed; 32], DAY_ZERO).unwrap()
}

/// Datagrams under way, and a seeded coin that loses some.
struct Wire {
    now: Instant,
    under_way: Vec<(Instant, usize, Vec<u8>)>,
    coin: u64,
    loss_percent: u64,
}

impl Wire {
    fn new(seed: u64, loss_percent: u64) -> Self {
        Self { now: Instant::now(), under_way: Vec::new(), coin: seed, loss_percent }
    }

    fn roll(&mut self) -> u64 {
        self.coin = self.coin.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.coin >> 33) % 100
    }

    fn send(&mut self, to: usize, datagram: Vec<u8>) {
        assert!(is_dtls(&datagram) && datagram.len() <= 1_200, "{} bytes", datagram.len());
        if self.roll() >= self.loss_percent {
            let delay = Duration::from_millis(20 + self.roll() / 4);
            self.under_way.push((self.now + delay, to, datagram));
        }
    }
}

/// A client (0) and a server (1), and what they said.
struct Pair {
    ends: [Dtls; 2],
    events: [Vec<Event>; 2],
    wire: Wire,
}

impl Pair {
    fn new(wire: Wire, client_expects: &[Fingerprint], server_expects: &[Fingerprint]) -> Self {
        let client = Dtls::new(&certificate(1), Role::Client, client_expects, wire.now).unwrap();
        let server = Dtls::new(&certificate(2), Role::Server, server_expects, wire.now).unwrap();
        Self { ends: [client, server], events: [Vec::new(), Vec::new()], wire }
    }

    fn honest(wire: Wire) -> Self {
        Self::new(wire, &[certificate(2).fingerprint()], &[certificate(1).fingerprint()])
    }

    fn drain(&mut self) {
        for (side, end) in self.ends.iter_mut().enumerate() {
            while let Some(datagram) = end.poll_transmit() {
                self.wire.send(1 - side, datagram);
            }
            self.events[side].extend(std::iter::from_fn(|| end.poll_event()));
        }
    }

    /// One step of time; false when nothing is left to happen before `end`.
    fn step(&mut self, end: Instant) -> bool {
        self.drain();
        let arrivals = self.wire.under_way.iter().map(|(at, ..)| *at);
        let timers = self.ends.iter().filter_map(Dtls::poll_timeout);
        let Some(next) = arrivals.chain(timers).min().filter(|next| *next <= end) else { return false };
        self.wire.now = self.wire.now.max(next);
        let now = self.wire.now;
        let (due, later) =
            std::mem::take(&mut self.wire.under_way).into_iter().partition(|(at, ..)| *at <= now);
        self.wire.under_way = later;
        let due: Vec<(Instant, usize, Vec<u8>)> = due;
        for (_, to, datagram) in due {
            self.ends[to].handle_datagram(now, &datagram);
        }
        for end in self.ends.iter_mut().filter(|end| end.poll_timeout().is_some_and(|at| at <= now)) {
            end.handle_timeout(now);
        }
        true
    }

    fn run(&mut self, span: Duration) {
        let end = self.wire.now + span;
        while self.step(end) {}
        self.wire.now = end;
        self.drain();
    }

    fn run_until_both_spoke(&mut self) {
        let end = self.wire.now + HANDSHAKE_TIMEOUT + Duration::from_secs(5);
        while self.events.iter().any(Vec::is_empty) && self.step(end) {}
    }
}

fn keys(events: &[Event]) -> &KeyMaterial {
    match events {
        [Event::Connected(keys)] => keys,
        other => panic!("{other:?}"),
    }
}

fn failure(events: &[Event]) -> &str {
    match events {
        [Event::Failed(reason)] => reason,
        other => panic!("{other:?}"),
    }
}

fn assert_keys_match(pair: &Pair) {
    let (client, server) = (keys(&pair.events[0]), keys(&pair.events[1]));
    assert_eq!(client.profile(), server.profile());
    let (mut client_out, mut client_in) = client.contexts(true).unwrap();
    let (mut server_out, mut server_in) = server.contexts(false).unwrap();
    for (out, into) in [(&mut client_out, &mut server_in), (&mut server_out, &mut client_in)] {
        let mut packet = vec![0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 1, 2, 3, 4];
        packet.resize(16 + MAX_OVERHEAD, 0);
        let length = out.protect_rtp(&mut packet, 16).unwrap();
        assert_eq!(into.unprotect_rtp(&mut packet[..length]), Ok(16));
        assert_eq!(packet[12..16], [1, 2, 3, 4]);
    }
}

#[test]
fn both_sides_get_the_same_keys() {
    let mut pair = Pair::honest(Wire::new(1, 0));
    pair.run_until_both_spoke();
    assert_keys_match(&pair);
    assert_eq!(keys(&pair.events[0]).profile(), Profile::AeadAes256Gcm);
}

#[test]
fn the_handshake_survives_loss() {
    for seed in 0..10 {
        let mut pair = Pair::honest(Wire::new(seed, 20));
        let start = pair.wire.now;
        pair.run_until_both_spoke();
        assert_keys_match(&pair);
        // Waiting for the whole handshake's end instead of a flight's timer would take 30 s.
        assert!(pair.wire.now - start < Duration::from_secs(20), "seed {seed}");
    }
}

#[test]
fn a_wrong_fingerprint_of_the_server_fails_the_client() {
    let mut pair =
        Pair::new(Wire::new(1, 0), &[certificate(3).fingerprint()], &[certificate(1).fingerprint()]);
    pair.run(Duration::from_secs(40));
    assert!(failure(&pair.events[0]).contains("fingerprint"));
    // The server never hears a Finished.
    assert!(!failure(&pair.events[1]).is_empty());
}

#[test]
fn a_wrong_fingerprint_of_the_client_fails_the_server() {
    let mut pair =
        Pair::new(Wire::new(1, 0), &[certificate(2).fingerprint()], &[certificate(3).fingerprint()]);
    pair.run(Duration::from_secs(40));
    assert!(failure(&pair.events[1]).contains("fingerprint"));
}

#[test]
fn any_announced_fingerprint_may_match_and_longer_hashes_are_known() {
    use sha2::{Digest, Sha384, Sha512};
    let der = certificate(2).der().to_vec();
    let sha384 = Fingerprint { hash: HashFunction::Sha384, digest: Sha384::digest(&der).to_vec() };
    let sha512 = Fingerprint { hash: HashFunction::Sha512, digest: Sha512::digest(&der).to_vec() };
    for fingerprint in [sha384, sha512] {
        let expected = [certificate(3).fingerprint(), fingerprint];
        let mut pair = Pair::new(Wire::new(1, 0), &expected, &[certificate(1).fingerprint()]);
        pair.run_until_both_spoke();
        assert_keys_match(&pair);
    }
}

#[test]
fn without_a_fingerprint_there_is_no_association() {
    assert!(Dtls::new(&certificate(1), Role::Server, &[], Instant::now()).is_err());
}

#[test]
fn a_silent_peer_times_out() {
    for role in [Role::Client, Role::Server] {
        let start = Instant::now();
        let mut dtls = Dtls::new(&certificate(1), role, &[certificate(2).fingerprint()], start).unwrap();
        let mut now = start;
        while let Some(at) = dtls.poll_timeout().filter(|at| *at <= start + HANDSHAKE_TIMEOUT * 2) {
            now = now.max(at);
            dtls.handle_timeout(now);
        }
        assert!(matches!(dtls.poll_event(), Some(Event::Failed(_))), "{role:?}");
        assert!(now <= start + HANDSHAKE_TIMEOUT + Duration::from_secs(1), "{role:?} {:?}", now - start);
        assert_eq!(dtls.poll_timeout(), None);
    }
}

#[test]
fn close_notify_reaches_the_peer() {
    for closer in [0, 1] {
        let mut pair = Pair::honest(Wire::new(1, 0));
        pair.run_until_both_spoke();
        pair.run(Duration::from_secs(1));
        pair.ends[closer].close(pair.wire.now);
        pair.run(Duration::from_secs(1));
        assert!(matches!(pair.events[1 - closer][..], [Event::Connected(_), Event::Closed]));
        assert!(matches!(pair.events[closer][..], [Event::Connected(_)]));
    }
}

#[test]
fn an_idle_association_wakes_nobody() {
    let mut pair = Pair::honest(Wire::new(1, 0));
    pair.run_until_both_spoke();
    pair.run(Duration::from_secs(5));
    let end = pair.wire.now + Duration::from_secs(60);
    let mut steps = 0;
    while pair.step(end) {
        steps += 1;
    }
    assert!(steps < 20, "{steps} wake-ups in an idle minute");
    pair.drain();
    assert_keys_match(&pair);
    pair.ends[0].close(pair.wire.now);
    pair.run(Duration::from_secs(1));
    assert!(matches!(pair.events[1][..], [Event::Connected(_), Event::Closed]), "{:?}", pair.events);
}

#[test]
fn noise_does_not_end_a_handshake() {
    let mut pair = Pair::honest(Wire::new(1, 0));
    for byte in [20, 21, 22, 23, 25, 63] {
        let noise: Vec<u8> = (0..200_u8).map(|i| if i == 0 { byte } else { i.wrapping_mul(31) }).collect();
        for side in [0, 1] {
            pair.wire.under_way.push((pair.wire.now, side, noise.clone()));
            pair.wire.under_way.push((pair.wire.now, side, vec![byte; 5_000]));
            pair.wire.under_way.push((pair.wire.now, side, vec![byte]));
        }
    }
    pair.run_until_both_spoke();
    assert_keys_match(&pair);
}

#[test]
fn certificates_follow_their_seed() {
    assert_eq!(certificate(1).der(), certificate(1).der());
    assert_ne!(certificate(1).fingerprint(), certificate(2).fingerprint());
    let text = certificate(1).fingerprint().to_string();
    assert!(text.starts_with("sha-256 ") && text.len() == 8 + 32 * 3 - 1);
    assert_eq!(Fingerprint::parse(&text), Some(certificate(1).fingerprint()));
}

/// A peer that knows DTLS 1.2 alone, as older browsers and aiortc do.
mod dtls12 {
    use super::*;
    use dimpl::{Config, DtlsCertificate, Output};
    use p256::ecdsa::SigningKey;
    use p256::pkcs8::EncodePrivateKey;
    use sha2::Digest;
    use std::sync::Arc;

    /// The private key that belongs to `certificate(1)`.
    fn peer(now: Instant, active: bool) -> dimpl::Dtls {
        let seed =
            sha2::Sha256::new().chain_update([1; 32]).chain_update("dtls key").chain_update([0]).finalize();
        let key = SigningKey::from_slice(&seed).unwrap();
        let private_key = key.to_pkcs8_der().unwrap().as_bytes().to_vec();
        let pair = DtlsCertificate { certificate: certificate(1).der().to_vec(), private_key };
        let config = Config::builder().use_server_cookie(false).build().unwrap();
        let mut peer = dimpl::Dtls::new_12(Arc::new(config), pair, now);
        peer.set_active(active);
        peer.handle_timeout(now).unwrap();
        peer
    }

    fn poll(peer: &mut dimpl::Dtls, out: &mut Vec<Vec<u8>>) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 2_000];
        let mut keys = None;
        loop {
            match peer.poll_output(&mut buffer) {
                Output::Packet(datagram) => out.push(datagram.to_vec()),
                Output::KeyingMaterial(material, _) => keys = Some(material.to_vec()),
                Output::Timeout(_) => return keys,
                _ => {}
            }
        }
    }

    fn handshake(role: Role) {
        let mut now = Instant::now();
        let mut ours = Dtls::new(&certificate(2), role, &[certificate(1).fingerprint()], now).unwrap();
        let mut theirs = peer(now, role == Role::Server);
        let mut keys = None;
        for _ in 0..20 {
            now += Duration::from_millis(10);
            let mut flight = Vec::new();
            keys = poll(&mut theirs, &mut flight).or(keys);
            for datagram in flight {
                ours.handle_datagram(now, &datagram);
            }
            theirs.handle_timeout(now).unwrap();
            while let Some(datagram) = ours.poll_transmit() {
                theirs.handle_packet(&datagram).unwrap();
            }
        }
        let Some(Event::Connected(material)) = ours.poll_event() else { panic!("{role:?} did not connect") };
        let theirs = KeyMaterial::new(material.profile(), keys.unwrap()).unwrap();
        let (mut out, _) = material.contexts(role == Role::Client).unwrap();
        let (_, mut into) = theirs.contexts(role == Role::Server).unwrap();
        let mut packet = vec![0x80; 12 + MAX_OVERHEAD];
        let length = out.protect_rtp(&mut packet, 12).unwrap();
        assert_eq!(into.unprotect_rtp(&mut packet[..length]), Ok(12));
    }

    #[test]
    fn as_client_it_reaches_our_server() {
        handshake(Role::Server);
    }

    #[test]
    fn as_server_it_is_reached_by_our_client() {
        handshake(Role::Client);
    }
}

#[test]
fn noise_does_not_end_an_association() {
    for side in [0, 1] {
        let mut pair = Pair::honest(Wire::new(5, 0));
        pair.run_until_both_spoke();
        pair.run(Duration::from_secs(1));
        pair.events.iter_mut().for_each(Vec::clear);
        let mut random = 7_u64;
        for round in 0..4_000_usize {
            let mut datagram: Vec<u8> = (0..13 + round % 80)
                .map(|_| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (random >> 56) as u8
                })
                .collect();
            datagram[0] = [20, 21, 22, 23, 24, 25, 26, 32, 40, 47, 63][round % 11];
            if round % 2 == 0 {
                datagram[1..5].copy_from_slice(&[254, 253, 0, u8::from(round % 4 == 0)]);
                datagram[5..11].fill(0);
                let length = u16::try_from(datagram.len() - 13).unwrap();
                datagram[11..13].copy_from_slice(&length.to_be_bytes());
            }
            pair.ends[side].handle_datagram(pair.wire.now, &datagram);
            let events: Vec<Event> = std::iter::from_fn(|| pair.ends[side].poll_event()).collect();
            assert!(events.is_empty(), "side {side}: {events:?} by {datagram:02x?}");
            while pair.ends[side].poll_transmit().is_some() {}
        }
    }
}
