//! What the switch's tests share: a switch in virtual time, SIP phones beside it, tones and their measure.

use std::f64::consts::TAU;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use telephony_media::codec::{Codec, FRAME};
use telephony_media::dtls::Certificate;
use telephony_media::rtp::{Fixed, Header, PayloadType, Ssrc};
use telephony_media::stats::LegStats;
use telephony_media::{Component, Event, LegId, OwnPorts, Path, Switch, SwitchConfig};

pub(crate) const WEBRTC: &str = "192.0.2.1:5000";
pub(crate) const TICK: Duration = Duration::from_millis(20);
pub(crate) const A: LegId = LegId(1);
pub(crate) const B: LegId = LegId(2);
pub(crate) const ALL: [Codec; 3] = Codec::ALL;

/// Making one costs time; all tests share it.
pub(crate) static CERTIFICATE: LazyLock<Arc<Certificate>> = LazyLock::new(|| {
    Arc::new(Certificate::generate([7; 32], Duration::from_secs(1_800_000_000)).expect("certificate"))
});

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect("address")
}

/// A datagram that left the switch.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) path: Path,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// A switch and its time.
pub(crate) struct Bench {
    pub(crate) switch: Switch,
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) events: Vec<(Duration, Event)>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(Duration::ZERO, 16)
    }

    pub(crate) fn with(media_timeout: Duration, max_legs: usize) -> Self {
        Self::among(media_timeout, max_legs, Arc::default())
    }

    /// One of several switches of a process.
    pub(crate) fn beside(own: &Arc<OwnPorts>) -> Self {
        Self::among(Duration::ZERO, 16, Arc::clone(own))
    }

    fn among(media_timeout: Duration, max_legs: usize, own: Arc<OwnPorts>) -> Self {
        let config = SwitchConfig {
            webrtc_locals: vec![address(WEBRTC)],
            certificate: CERTIFICATE.clone(),
            media_timeout,
            max_legs,
            own,
        };
        // The one look at a clock: virtual time needs a beginning.
        #[allow(clippy::disallowed_methods)]
        let now = Instant::now();
        Bench { switch: Switch::new(config, [3; 32]), now, start: now, events: Vec::new() }
    }

    /// Two SIP legs, bridged, with a phone at each.
    pub(crate) fn bridged(codec_a: Codec, codec_b: Codec) -> (Self, Phone, Phone) {
        let mut bench = Bench::new();
        let a = bench.phone(A, 2, codec_a);
        let b = bench.phone(B, 3, codec_b);
        bench.switch.bridge(bench.now, A, B).expect("bridge");
        (bench, a, b)
    }

    /// A phone at 10.0.0.`host` that has called the switch.
    pub(crate) fn phone(&mut self, id: LegId, host: u8, codec: Codec) -> Phone {
        let local = SocketAddr::from(([192, 0, 2, 1], 20_000 + 2 * u16::try_from(id.0).expect("small")));
        self.switch.add_rtp_leg(self.now, id, local).expect("leg");
        let phone = Phone::new(id, SocketAddr::from(([10, 0, 0, host], 4_000)), codec);
        self.switch.accept_offer(self.now, id, &phone.sdp("sendrecv"), &ALL).expect("answer");
        phone
    }

    /// Lets time pass, with every timer at its time, and returns what was sent.
    pub(crate) fn advance(&mut self, duration: Duration) -> Vec<Sent> {
        let end = self.now + duration;
        let mut sent = self.drain();
        while let Some(at) = self.switch.poll_timeout().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.switch.handle_timeout(self.now);
            sent.extend(self.drain());
        }
        self.now = end;
        sent
    }

    pub(crate) fn drain(&mut self) -> Vec<Sent> {
        let sent = self
            .switch
            .transmits()
            .map(|transmit| Sent { path: transmit.path, to: transmit.to, bytes: transmit.payload.to_vec() })
            .collect();
        self.switch.clear_transmits();
        while let Some(event) = self.switch.poll_event() {
            self.events.push((self.now - self.start, event));
        }
        sent
    }

    /// A phone's datagram arrives; what the switch sends at once comes out.
    pub(crate) fn rtp(&mut self, phone: &Phone, mut datagram: Vec<u8>) -> Vec<Sent> {
        self.rtp_from(phone.id, phone.address, &mut datagram)
    }

    pub(crate) fn rtp_from(&mut self, id: LegId, from: SocketAddr, datagram: &mut [u8]) -> Vec<Sent> {
        self.switch.handle_rtp(self.now, id, Component::Rtp, from, datagram);
        self.drain()
    }

    pub(crate) fn stats(&self, id: LegId) -> LegStats {
        self.switch.leg_stats(id).expect("leg")
    }

    pub(crate) fn dropped(&self, name: &str) -> u64 {
        self.switch.stats().drops.iter().find(|(reason, _)| *reason == name).expect("a known reason").1
    }

    pub(crate) fn digits(&self) -> Vec<(LegId, char, Duration)> {
        let digit = |(_, event): &(Duration, Event)| match event {
            Event::Digit { leg, digit, duration } => Some((*leg, *digit, *duration)),
            _ => None,
        };
        self.events.iter().filter_map(digit).collect()
    }
}

/// A SIP phone: it sends packets with numbers of its own.
pub(crate) struct Phone {
    pub(crate) id: LegId,
    pub(crate) address: SocketAddr,
    pub(crate) codec: Codec,
    pub(crate) ssrc: u32,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
}

impl Phone {
    pub(crate) fn new(id: LegId, address: SocketAddr, codec: Codec) -> Self {
        Phone {
            id,
            address,
            codec,
            ssrc: 0xabcd_0000 + u32::from(address.port()),
            sequence: 65_530,
            timestamp: u32::MAX - 500,
        }
    }

    pub(crate) fn payload_type(&self) -> u8 {
        self.codec.static_payload_type().unwrap_or(111)
    }

    pub(crate) fn sdp(&self, direction: &str) -> String {
        let (ip, port, pt) = (self.address.ip(), self.address.port(), self.payload_type());
        let rtpmap = match self.codec {
            Codec::Opus => "a=rtpmap:111 opus/48000/2\r\na=rtpmap:101 telephone-event/48000\r\n".to_owned(),
            codec => format!("a=rtpmap:{pt} {}/8000\r\na=rtpmap:101 telephone-event/8000\r\n", codec.name()),
        };
        format!(
            "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP {pt} 101\r\n\
             {rtpmap}a=fmtp:101 0-15\r\na={direction}\r\n"
        )
    }

    /// The next packet, which stands for so many samples of 8 kHz.
    pub(crate) fn packet(&mut self, samples: usize, payload: &[u8]) -> Vec<u8> {
        let packet = self.at(self.payload_type(), false, self.timestamp, payload);
        let units = self.codec.clock_rate() / 8_000 * u32::try_from(samples).expect("small");
        self.timestamp = self.timestamp.wrapping_add(units);
        packet
    }

    /// A packet with the next sequence number.
    pub(crate) fn at(&mut self, payload_type: u8, marker: bool, timestamp: u32, payload: &[u8]) -> Vec<u8> {
        let header = Fixed {
            marker,
            payload_type: PayloadType(payload_type),
            sequence: self.sequence,
            timestamp,
            ssrc: Ssrc(self.ssrc),
        };
        self.sequence = self.sequence.wrapping_add(1);
        [&header.to_bytes(), payload].concat()
    }

    /// 20 ms of something that tells one packet from another.
    pub(crate) fn sound(&mut self) -> Vec<u8> {
        let payload = [self.sequence.to_be_bytes()[1]; FRAME];
        self.packet(FRAME, &payload)
    }
}

/// What the far side reads of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) marker: bool,
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    pub(crate) payload: Vec<u8>,
}

/// Reads RTP and leaves RTCP out.
pub(crate) fn heard(sent: &[Sent]) -> Vec<Heard> {
    sent.iter()
        .filter(|sent| !telephony_media::rtp::is_rtcp(&sent.bytes))
        .map(|sent| read(&sent.bytes))
        .collect()
}

pub(crate) fn read(datagram: &[u8]) -> Heard {
    let mut copy = datagram.to_vec();
    let header = Header::parse(&mut copy).expect("rtp");
    Heard {
        marker: header.marker(),
        payload_type: header.payload_type().0,
        sequence: header.sequence(),
        timestamp: header.timestamp(),
        ssrc: header.ssrc().0,
        payload: header.payload().to_vec(),
    }
}

/// Samples of a sine tone, from sample `start` on.
pub(crate) fn tone(frequency: f64, amplitude: f64, start: usize, count: usize) -> Vec<i16> {
    (start..start + count)
        .map(|at| {
            let phase = TAU * frequency * f64::from(u32::try_from(at).expect("small")) / 8_000.0;
            #[allow(clippy::cast_possible_truncation)]
            let sample = (amplitude * phase.sin()).round() as i16;
            sample
        })
        .collect()
}

/// The amplitude of one frequency (Goertzel).
pub(crate) fn amplitude(samples: &[i16], frequency: f64) -> f64 {
    let coefficient = 2.0 * (TAU * frequency / 8_000.0).cos();
    let (mut s1, mut s2) = (0.0, 0.0);
    for &sample in samples {
        let s0 = f64::from(sample) + coefficient * s1 - s2;
        (s1, s2) = (s0, s1);
    }
    let power = s1 * s1 + s2 * s2 - coefficient * s1 * s2;
    2.0 * power.max(0.0).sqrt() / f64::from(u32::try_from(samples.len()).expect("small"))
}
