//! A browser made of a full ICE agent and this crate's DTLS and SRTP, and the wire between it and the switch.

use crate::wire::{A, ALL, B, Bench, Heard, Phone, Sent, WEBRTC, address, read};
use is::stun::{StunMessage, StunPacket};
use is::{Candidate, IceAgent, IceCreds, Protocol};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use telephony_media::codec::Codec;
use telephony_media::dtls::{self, Certificate, Dtls, Role};
use telephony_media::srtp::{Context, MAX_OVERHEAD};
use telephony_media::{Event, LegId, Path, sdp};

/// A browser behind `address`.
pub(crate) struct Browser {
    pub(crate) address: SocketAddr,
    pub(crate) certificate: Arc<Certificate>,
    pub(crate) ice: IceAgent,
    pub(crate) dtls: Option<Dtls>,
    pub(crate) srtp: Option<(Context, Context)>,
    pub(crate) phone: Phone,
    pub(crate) closed: bool,
    pub(crate) rtp: Vec<Vec<u8>>,
    pub(crate) rtcp: Vec<Vec<u8>>,
}

impl Browser {
    pub(crate) fn new(id: LegId, at: &str, codec: Codec, now: Instant) -> Self {
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

    pub(crate) fn offer(&self) -> String {
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
    pub(crate) fn accept(&mut self, answer: &str, now: Instant) {
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

    pub(crate) fn receive(&mut self, now: Instant, datagram: &[u8]) {
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

    pub(crate) fn receive_sealed(&mut self, datagram: &[u8]) {
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
    pub(crate) fn poll(&mut self, now: Instant) -> Vec<Vec<u8>> {
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

    pub(crate) fn seal(&mut self, mut packet: Vec<u8>) -> Vec<u8> {
        let length = packet.len();
        packet.resize(length + MAX_OVERHEAD, 0);
        let sealed = self.srtp.as_mut().expect("keys").0.protect_rtp(&mut packet, length).expect("srtp");
        packet.truncate(sealed);
        packet
    }

    pub(crate) fn sound(&mut self) -> Vec<u8> {
        let packet = self.phone.sound();
        self.seal(packet)
    }

    pub(crate) fn heard(&mut self) -> Vec<Heard> {
        std::mem::take(&mut self.rtp).iter().map(|packet| read(packet)).collect()
    }
}

pub(crate) fn agent(name: &str, now: Instant) -> IceAgent {
    let mut ice =
        IceAgent::new(IceCreds { ufrag: name.to_owned(), pass: "0123456789abcdef01234567".to_owned() });
    ice.set_controlling(true);
    ice.handle_timeout(now);
    ice
}

/// Lets the wire between the switch and the browsers run; what is for nobody of them comes out.
pub(crate) fn run(bench: &mut Bench, browsers: &mut [&mut Browser], duration: Duration) -> Vec<Sent> {
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

pub(crate) fn deliver(bench: &mut Bench, browsers: &mut [&mut Browser]) -> Vec<Sent> {
    let sent = bench.drain();
    hand_out(bench.now, sent, browsers)
}

pub(crate) fn hand_out(now: Instant, sent: Vec<Sent>, browsers: &mut [&mut Browser]) -> Vec<Sent> {
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

pub(crate) fn connect(bench: &mut Bench, id: LegId, at: &str, codec: Codec) -> Browser {
    bench.switch.add_webrtc_leg(bench.now, id).expect("leg");
    let mut browser = Browser::new(id, at, codec, bench.now);
    let answer = bench.switch.accept_offer(bench.now, id, &browser.offer(), &ALL).expect("answer");
    browser.accept(&answer, bench.now);
    run(bench, &mut [&mut browser], Duration::from_secs(1));
    assert!(browser.srtp.is_some(), "DTLS is up");
    assert!(bench.events.iter().any(|(_, event)| matches!(event, Event::Connected { leg } if *leg == id)));
    browser
}

/// Two ends, bridged: a phone at `A` and a connected browser at `B`.
pub(crate) fn phone_and_browser(codec_a: Codec, codec_b: Codec) -> (Bench, Phone, Browser) {
    let mut bench = Bench::new();
    let phone = bench.phone(A, 2, codec_a);
    let browser = connect(&mut bench, B, "198.51.100.9:40000", codec_b);
    bench.switch.bridge(bench.now, A, B).expect("bridge");
    (bench, phone, browser)
}
