//! Whole WebRTC calls in virtual time, against a browser made of a full ICE agent and this crate's DTLS and SRTP.

use crate::wire::{A, ALL, B, Bench, Phone, Sent, TICK, WEBRTC, address, read};
use is::stun::{StunMessage, StunPacket};
use is::{Candidate, IceAgent, IceCreds, Protocol};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use telephony_media::codec::Codec;
use telephony_media::dtls::{self, Certificate, Dtls, Role};
use telephony_media::rtcp;
use telephony_media::srtp::{Context, MAX_OVERHEAD};
use telephony_media::{EndReason, Event, LegId, Path, sdp};

/// A browser behind `address`.
struct Browser {
    address: SocketAddr,
    certificate: Arc<Certificate>,
    ice: IceAgent,
    dtls: Option<Dtls>,
    srtp: Option<(Context, Context)>,
    phone: Phone,
    closed: bool,
    rtp: Vec<Vec<u8>>,
    rtcp: Vec<Vec<u8>>,
}

impl Browser {
    fn new(id: LegId, at: &str, codec: Codec, now: Instant) -> Self {
        let seed = [u8::try_from(id.0).expect("small"); 32];
        let certificate =
            Arc::new(Certificate::generate(seed, Duration::from_secs(1_800_000_000)).expect("certificate"));
        let mut browser = Browser {
            address: address(at),
            certificate,
            ice: agent(&format!("browser{}", id.0), now),
            dtls: None,
            srtp: None,
            phone: Phone::new(id, address(at), codec),
            closed: false,
            rtp: Vec::new(),
            rtcp: Vec::new(),
        };
        browser.ice.add_local_candidate(Candidate::host(browser.address, Protocol::Udp).expect("candidate"));
        browser
    }

    fn offer(&self) -> String {
        let pt = self.phone.payload_type();
        let creds = self.ice.local_credentials();
        let codec = match self.phone.codec {
            Codec::Opus => "a=rtpmap:111 opus/48000/2\r\na=rtpmap:101 telephone-event/48000\r\n",
            _ => "a=rtpmap:101 telephone-event/8000\r\n",
        };
        format!(
            "v=0\r\no=- 7 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
             m=audio 9 UDP/TLS/RTP/SAVPF {pt} 101\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\n\
             a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:{}\r\na=setup:actpass\r\n{codec}",
            creds.ufrag,
            creds.pass,
            self.certificate.fingerprint(),
        )
    }

    /// Takes the switch's answer, first or renewed.
    fn accept(&mut self, answer: &str, now: Instant) {
        let session = sdp::parse(answer).expect("answer");
        let media = &session.media()[0];
        let value = |name| session.transport_attributes(media, name).first().expect("attribute").to_string();
        self.ice.set_remote_credentials(IceCreds { ufrag: value("ice-ufrag"), pass: value("ice-pwd") });
        for candidate in media.attributes("candidate") {
            let candidate = Candidate::from_sdp_string(&format!("candidate:{candidate}")).expect("candidate");
            self.ice.add_remote_candidate(candidate);
        }
        if self.dtls.is_none() {
            assert_eq!(value("setup"), "passive");
            self.dtls = Some(
                Dtls::new(&self.certificate, Role::Client, &session.fingerprints(media), now).expect("dtls"),
            );
        }
    }

    fn receive(&mut self, now: Instant, datagram: &[u8]) {
        let server = address(WEBRTC);
        match datagram[0] {
            0..=3 => {
                let message = StunMessage::parse(datagram).expect("stun");
                let packet =
                    StunPacket { proto: Protocol::Udp, source: server, destination: self.address, message };
                self.ice.handle_packet(now, packet);
            }
            20..=63 => self.dtls.as_mut().expect("dtls").handle_datagram(now, datagram),
            _ => self.receive_sealed(datagram),
        }
    }

    fn receive_sealed(&mut self, datagram: &[u8]) {
        let (_, inbound) = self.srtp.as_mut().expect("keys");
        let mut packet = datagram.to_vec();
        if telephony_media::rtp::is_rtcp(datagram) {
            let length = inbound.unprotect_rtcp(&mut packet).expect("srtcp");
            packet.truncate(length);
            self.rtcp.push(packet);
        } else {
            let length = inbound.unprotect_rtp(&mut packet).expect("srtp");
            packet.truncate(length);
            self.rtp.push(packet);
        }
    }

    /// What the browser has to send now.
    fn poll(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        self.ice.handle_timeout(now);
        while let Some(transmit) = self.ice.poll_transmit() {
            out.push(transmit.contents.into());
        }
        while self.ice.poll_event().is_some() {}
        let Some(dtls) = self.dtls.as_mut().filter(|_| self.ice.state().is_connected()) else { return out };
        if dtls.poll_timeout().is_some_and(|at| at <= now) {
            dtls.handle_timeout(now);
        }
        while let Some(datagram) = dtls.poll_transmit() {
            out.push(datagram);
        }
        while let Some(event) = dtls.poll_event() {
            match event {
                dtls::Event::Connected(keys) => self.srtp = Some(keys.contexts(true).expect("contexts")),
                dtls::Event::Closed => self.closed = true,
                dtls::Event::Failed(reason) => panic!("{reason}"),
            }
        }
        out
    }

    fn seal(&mut self, mut packet: Vec<u8>) -> Vec<u8> {
        let length = packet.len();
        packet.resize(length + MAX_OVERHEAD, 0);
        let sealed = self.srtp.as_mut().expect("keys").0.protect_rtp(&mut packet, length).expect("srtp");
        packet.truncate(sealed);
        packet
    }

    fn sound(&mut self) -> Vec<u8> {
        let packet = self.phone.sound();
        self.seal(packet)
    }

    fn heard(&mut self) -> Vec<crate::wire::Heard> {
        std::mem::take(&mut self.rtp).iter().map(|packet| read(packet)).collect()
    }
}

fn agent(name: &str, now: Instant) -> IceAgent {
    let mut ice =
        IceAgent::new(IceCreds { ufrag: name.to_owned(), pass: "0123456789abcdef01234567".to_owned() });
    ice.set_controlling(true);
    ice.handle_timeout(now);
    ice
}

/// Lets the wire between the switch and the browsers run; what is for nobody of them comes out.
fn run(bench: &mut Bench, browsers: &mut [&mut Browser], duration: Duration) -> Vec<Sent> {
    let end = bench.now + duration;
    let mut others = Vec::new();
    loop {
        for browser in browsers.iter_mut() {
            for mut datagram in browser.poll(bench.now) {
                let (now, from) = (bench.now, browser.address);
                bench.switch.handle_webrtc(now, address(WEBRTC), from, &mut datagram);
            }
        }
        others.extend(deliver(bench, browsers));
        if bench.now >= end {
            return others;
        }
        let sent = bench.advance(Duration::from_millis(5));
        others.extend(hand_out(bench.now, sent, browsers));
    }
}

fn deliver(bench: &mut Bench, browsers: &mut [&mut Browser]) -> Vec<Sent> {
    let sent = bench.drain();
    hand_out(bench.now, sent, browsers)
}

fn hand_out(now: Instant, sent: Vec<Sent>, browsers: &mut [&mut Browser]) -> Vec<Sent> {
    let mut others = Vec::new();
    for sent in sent {
        match browsers.iter_mut().find(|browser| browser.address == sent.to) {
            Some(browser) => {
                assert_eq!(sent.path, Path::WebRtc { local: address(WEBRTC) });
                browser.receive(now, &sent.bytes);
            }
            None => others.push(sent),
        }
    }
    others
}

fn connect(bench: &mut Bench, id: LegId, at: &str, codec: Codec) -> Browser {
    bench.switch.add_webrtc_leg(bench.now, id).expect("leg");
    let mut browser = Browser::new(id, at, codec, bench.now);
    let answer = bench.switch.accept_offer(bench.now, id, &browser.offer(), &ALL).expect("answer");
    browser.accept(&answer, bench.now);
    run(bench, &mut [&mut browser], Duration::from_secs(1));
    assert!(browser.srtp.is_some(), "DTLS is up");
    assert!(bench.events.iter().any(|(_, event)| matches!(event, Event::Connected { leg } if *leg == id)));
    browser
}

#[test]
fn a_browser_and_a_phone_hear_each_other() {
    let mut bench = Bench::new();
    let mut phone = bench.phone(A, 2, Codec::Pcmu);
    let mut browser = connect(&mut bench, B, "198.51.100.9:40000", Codec::Pcmu);
    bench.switch.bridge(bench.now, A, B).expect("bridge");
    let mut to_phone = Vec::new();
    for index in 0..400 {
        let packet = phone.sound();
        bench.switch.handle_rtp(
            bench.now,
            A,
            telephony_media::Component::Rtp,
            phone.address,
            &mut packet.clone(),
        );
        let mut sealed = browser.sound();
        bench.switch.handle_webrtc(bench.now, address(WEBRTC), browser.address, &mut sealed);
        to_phone.extend(run(&mut bench, &mut [&mut browser], TICK));
        if index == 0 {
            assert_eq!(read(&browser.rtp[0]).payload, packet[12..]);
        }
    }
    assert_eq!(browser.heard().len(), 400);
    assert_eq!(crate::wire::heard(&to_phone).len(), 400);
    let reports = browser.rtcp.iter().filter(|bytes| rtcp::parse(bytes).is_ok()).count();
    assert!((1..=4).contains(&reports), "{reports} reports in 8 s, over SRTCP");
    assert_eq!(bench.switch.stats().drops.total(), 0);
    assert_eq!((bench.stats(A).lost, bench.stats(B).lost), (0, 0));
}

#[test]
fn two_browsers_with_different_codecs_are_transcoded() {
    let mut bench = Bench::new();
    let mut a = connect(&mut bench, A, "198.51.100.8:40000", Codec::Pcma);
    let mut b = connect(&mut bench, B, "198.51.100.9:40000", Codec::Opus);
    bench.switch.bridge(bench.now, A, B).expect("bridge");
    for _ in 0..50 {
        let mut sealed = a.sound();
        bench.switch.handle_webrtc(bench.now, address(WEBRTC), a.address, &mut sealed);
        run(&mut bench, &mut [&mut a, &mut b], TICK);
    }
    let heard = b.heard();
    assert_eq!(heard.len(), 50);
    assert!(heard.iter().all(|packet| packet.payload_type == 111));
}

#[test]
fn a_renewed_offer_keeps_the_keys_and_a_restart_moves_the_path() {
    let mut bench = Bench::new();
    let mut phone = bench.phone(A, 2, Codec::Pcmu);
    let mut browser = connect(&mut bench, B, "198.51.100.9:40000", Codec::Pcmu);
    bench.switch.bridge(bench.now, A, B).expect("bridge");
    let first = bench.switch.accept_offer(bench.now, B, &browser.offer(), &ALL).expect("answer");
    let again = bench.switch.accept_offer(bench.now, B, &browser.offer(), &ALL).expect("answer");
    let ufrag =
        |answer: &str| answer.lines().find(|line| line.contains("ice-ufrag")).expect("ufrag").to_owned();
    assert_eq!(ufrag(&first), ufrag(&again));
    let packet = phone.sound();
    bench.switch.handle_rtp(
        bench.now,
        A,
        telephony_media::Component::Rtp,
        phone.address,
        &mut packet.clone(),
    );
    run(&mut bench, &mut [&mut browser], TICK);
    assert_eq!(browser.heard().len(), 1, "same keys, same path");

    // The browser changes its network: new address, new ICE, same DTLS.
    browser.address = address("203.0.113.5:50000");
    browser.ice = agent("restarted", bench.now);
    browser.ice.add_local_candidate(Candidate::host(browser.address, Protocol::Udp).expect("candidate"));
    let answer = bench.switch.accept_offer(bench.now, B, &browser.offer(), &ALL).expect("answer");
    assert_ne!(ufrag(&first), ufrag(&answer));
    browser.accept(&answer, bench.now);
    run(&mut bench, &mut [&mut browser], Duration::from_secs(1));
    let packet = phone.sound();
    bench.switch.handle_rtp(
        bench.now,
        A,
        telephony_media::Component::Rtp,
        phone.address,
        &mut packet.clone(),
    );
    let mut sealed = browser.sound();
    bench.switch.handle_webrtc(bench.now, address(WEBRTC), browser.address, &mut sealed);
    let others = run(&mut bench, &mut [&mut browser], TICK);
    assert_eq!(browser.heard().len(), 1, "new path, same keys");
    assert_eq!(crate::wire::heard(&others).len(), 1);
    assert!(!bench.events.iter().any(|(_, event)| matches!(event, Event::Ended { .. })));
}

#[test]
fn strangers_and_forgeries_are_counted_and_dropped() {
    let mut bench = Bench::new();
    bench.phone(A, 2, Codec::Pcmu);
    let mut browser = connect(&mut bench, B, "198.51.100.9:40000", Codec::Pcmu);
    bench.switch.bridge(bench.now, A, B).expect("bridge");
    let sealed = browser.sound();
    let (now, server, own) = (bench.now, address(WEBRTC), browser.address);
    let mut forged = sealed.clone();
    forged[20] ^= 1;
    bench.switch.handle_webrtc(now, server, own, &mut forged);
    bench.switch.handle_webrtc(now, server, own, &mut sealed.clone());
    bench.switch.handle_webrtc(now, server, own, &mut sealed.clone());
    bench.switch.handle_webrtc(now, server, address("198.51.100.10:40000"), &mut sealed.clone());
    bench.switch.handle_webrtc(now, server, own, &mut [99, 0, 0]);
    let mut check = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    check.resize(20, 7);
    bench.switch.handle_webrtc(now, server, address("198.51.100.10:40000"), &mut check);
    assert_eq!(crate::wire::heard(&bench.drain()).len(), 1);
    let names =
        ["srtp.auth", "srtp.replay", "webrtc.unknown_source", "webrtc.unknown_protocol", "stun.unknown_user"];
    for name in names {
        assert_eq!(bench.dropped(name), 1, "{name}");
    }
}

#[test]
fn a_leg_that_never_connects_fails_once() {
    let mut bench = Bench::new();
    bench.switch.add_webrtc_leg(bench.now, A).expect("leg");
    let browser = Browser::new(A, "198.51.100.9:40000", Codec::Pcmu, bench.now);
    bench.switch.accept_offer(bench.now, A, &browser.offer(), &ALL).expect("answer");
    bench.advance(Duration::from_secs(29));
    assert!(bench.events.is_empty());
    bench.advance(Duration::from_secs(60));
    let ended: Vec<_> = bench.events.iter().map(|(_, event)| event.clone()).collect();
    assert_eq!(ended, [Event::Ended { leg: A, reason: EndReason::IceFailed }]);
}

#[test]
fn a_browser_that_vanishes_loses_its_consent() {
    let mut bench = Bench::new();
    connect(&mut bench, A, "198.51.100.9:40000", Codec::Pcmu);
    bench.advance(Duration::from_secs(40));
    let ended: Vec<_> = bench
        .events
        .iter()
        .filter(|(_, event)| matches!(event, Event::Ended { leg: A, reason: EndReason::IceFailed }))
        .collect();
    assert_eq!(ended.len(), 1, "{:?}", bench.events);
}

#[test]
fn removal_says_bye_and_close_notify() {
    let mut bench = Bench::new();
    let mut browser = connect(&mut bench, A, "198.51.100.9:40000", Codec::Pcmu);
    bench.switch.remove(bench.now, A).expect("stats");
    run(&mut bench, &mut [&mut browser], TICK);
    assert!(browser.closed);
    let bye = |bytes: &Vec<u8>| {
        rtcp::parse(bytes).expect("compound").any(|packet| matches!(packet, rtcp::Packet::Goodbye { .. }))
    };
    assert!(browser.rtcp.iter().any(bye));
    let mut late = browser.sound();
    bench.switch.handle_webrtc(bench.now, address(WEBRTC), browser.address, &mut late);
    assert_eq!(bench.dropped("webrtc.unknown_source"), 1);
    assert_eq!((bench.switch.poll_timeout(), bench.switch.stats().legs), (None, 0));
}

#[test]
fn a_browser_that_closes_ends_its_leg() {
    let mut bench = Bench::new();
    let mut browser = connect(&mut bench, A, "198.51.100.9:40000", Codec::Pcmu);
    browser.dtls.as_mut().expect("dtls").close(bench.now);
    run(&mut bench, &mut [&mut browser], TICK);
    let closed = Event::Ended { leg: A, reason: EndReason::Closed };
    assert_eq!(bench.events.iter().filter(|(_, event)| *event == closed).count(), 1);
}
