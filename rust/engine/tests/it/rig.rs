//! What the tests drive engines and bare peers with.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use telephony_engine::{
    Answer, Codec, Command, Dial, Done, Ended, Engine, EngineConfig, Event, Incoming, Kind, LegId, Outcome,
};

/// Patience of a test; on a busy machine threads wake late.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const G711: [Codec; 2] = [Codec::Pcmu, Codec::Pcma];

/// Descriptors and threads belong to the whole process, so tests that count them run alone, and so do the others.
static ALONE: Mutex<()> = Mutex::new(());

pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn config() -> EngineConfig {
    EngineConfig {
        sip_host: "127.0.0.1".into(),
        sip_port: 0,
        webrtc_port: 0,
        rtp_port_range: 42_000..=42_999,
        ..EngineConfig::default()
    }
}

/// Who dials.
const CALLER: &str = "sip:alice@example.com";

/// An engine and the events that were read and not yet looked for.
pub(crate) struct Node {
    pub(crate) engine: Engine,
    pub(crate) seen: Vec<Event>,
}

impl Node {
    pub(crate) fn start(config: &EngineConfig) -> Self {
        Self { engine: Engine::start(config).unwrap(), seen: Vec::new() }
    }

    pub(crate) fn uri(&self) -> String {
        format!("sip:bob@{}", self.engine.sip_address())
    }

    /// Waits for the first event that `pick` takes; the others stay.
    pub(crate) fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            self.seen.extend(self.engine.drain(64));
            if let Some((index, found)) = self.seen.iter().enumerate().find_map(|(i, e)| Some((i, pick(e)?)))
            {
                self.seen.remove(index);
                return found;
            }
            assert!(Instant::now() < until, "no {what}; seen: {:?}", self.seen);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn incoming(&mut self) -> Incoming {
        self.wait("Incoming", |event| match event {
            Event::Incoming(incoming) => Some((**incoming).clone()),
            _ => None,
        })
    }

    pub(crate) fn ended(&mut self, of: LegId) -> Ended {
        self.wait("Ended", |event| match event {
            Event::Ended(ended) if ended.leg == of => Some((**ended).clone()),
            _ => None,
        })
    }

    pub(crate) fn done(&mut self, correlation: u64) -> Done {
        self.wait("Done", |event| match event {
            Event::Done(done) if done.correlation == correlation => Some((**done).clone()),
            _ => None,
        })
    }

    pub(crate) fn answered(&mut self, of: LegId) -> Codec {
        self.wait("Answered", |event| match event {
            Event::Answered { leg, codec, .. } if *leg == of => Some(*codec),
            _ => None,
        })
    }

    pub(crate) fn ringing(&mut self, of: LegId) -> u16 {
        self.wait("Ringing", |event| match event {
            Event::Ringing { leg, status, .. } if *leg == of => Some(*status),
            _ => None,
        })
    }

    pub(crate) fn confirmed(&mut self, of: LegId) {
        self.wait("Confirmed", |event| matches!(event, Event::Confirmed { leg } if *leg == of).then_some(()));
    }

    /// Carries a command out and expects it to go well.
    pub(crate) fn run(&mut self, command: Command) -> Outcome {
        match self.engine.carry_out(command).unwrap() {
            Answer::Now(outcome) => outcome,
            Answer::Later(correlation) => self.done(correlation).result.unwrap(),
        }
    }

    pub(crate) fn dial(&mut self, uri: &str, codecs: &[Codec]) -> LegId {
        let leg = self.engine.next_leg(Kind::Sip, None).unwrap();
        self.run(Command::Dial(Box::new(call(leg, uri, codecs))));
        leg
    }

    pub(crate) fn answer(&mut self, leg: LegId) {
        self.run(Command::Ring { leg, codecs: G711.to_vec(), status: 180 });
        self.run(Command::Answer { leg });
    }

    pub(crate) fn hang_up(&mut self, leg: LegId) {
        self.run(Command::Hangup { leg, reason: None });
    }
}

pub(crate) fn call(leg: LegId, uri: &str, codecs: &[Codec]) -> Dial {
    Dial {
        leg,
        uri: uri.into(),
        from_uri: CALLER.into(),
        from_display: "Alice".into(),
        next_hop: None,
        trunk: String::new(),
        codecs: codecs.to_vec(),
        headers: vec![("X-Test".into(), "yes".into())],
        timeout: PATIENCE,
        elsewhere: false,
        replaces: None,
        caller: None,
    }
}

/// Two engines in a call.
pub(crate) fn connect(caller: &mut Node, callee: &mut Node) -> (LegId, LegId) {
    let out = caller.dial(&callee.uri(), &G711);
    // Whatever else may have come in meanwhile, this is the call that `dial` made.
    let inbound = callee.wait("Incoming of the caller", |event| match event {
        Event::Incoming(incoming) if incoming.from_uri() == CALLER => Some(incoming.leg),
        _ => None,
    });
    callee.answer(inbound);
    assert_eq!(caller.answered(out), Codec::Pcmu);
    callee.confirmed(inbound);
    (out, inbound)
}

/// A peer that speaks bare SIP text from its own socket.
pub(crate) struct Peer {
    socket: UdpSocket,
    gateway: SocketAddr,
    pub(crate) rtp: UdpSocket,
}

impl Peer {
    pub(crate) fn new(gateway: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let rtp = UdpSocket::bind("127.0.0.1:0").unwrap();
        rtp.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, gateway, rtp }
    }

    pub(crate) fn uri(&self) -> String {
        format!("sip:peer@{}", self.socket.local_addr().unwrap())
    }

    pub(crate) fn sound_port(&self) -> u16 {
        self.rtp.local_addr().unwrap().port()
    }

    pub(crate) fn sdp(&self, format: &str) -> String {
        let port = self.sound_port();
        format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP {format}\r\n"
        )
    }

    /// A request, with the dialog headers of call `id`.
    pub(crate) fn request(&self, method: &str, id: &str, cseq: u32, to_tag: &str, body: &str) {
        self.request_with(method, id, cseq, to_tag, "", body);
    }

    /// The same with further header lines.
    pub(crate) fn request_with(
        &self,
        method: &str,
        id: &str,
        cseq: u32,
        to_tag: &str,
        extra: &str,
        body: &str,
    ) {
        self.request_as("peer", method, id, cseq, to_tag, extra, body);
    }

    /// The same under a From tag of its own.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn request_as(
        &self,
        from_tag: &str,
        method: &str,
        id: &str,
        cseq: u32,
        to_tag: &str,
        extra: &str,
        body: &str,
    ) {
        let (local, gateway) = (self.socket.local_addr().unwrap(), self.gateway);
        let content = if body.is_empty() || extra.contains("Content-Type") {
            ""
        } else {
            "Content-Type: application/sdp\r\n"
        };
        let number = cseq;
        let branch = if method == "CANCEL" { "INVITE" } else { method };
        self.send(&format!(
            "{method} sip:gateway@{gateway} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{id}{branch}{number}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:peer@{local}>;tag={from_tag}\r\nTo: <sip:gateway@{gateway}>{to_tag}\r\n\
             Call-ID: {id}\r\nCSeq: {number} {method}\r\nContact: <sip:peer@{local}>\r\n{extra}{content}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
    }

    pub(crate) fn send(&self, text: &str) {
        self.socket.send_to(text.as_bytes(), self.gateway).unwrap();
    }

    pub(crate) fn receive(&self) -> String {
        let mut buffer = [0; 65_535];
        let (length, _) = self.socket.recv_from(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// The next message that begins with `start`; the others are passed over.
    pub(crate) fn expect(&self, start: &str) -> String {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let message = self.receive();
            if message.starts_with(start) {
                return message;
            }
        }
        panic!("no {start}");
    }

    /// The next message of call `id` that begins with `start`.
    pub(crate) fn expect_for(&self, id: &str, start: &str) -> String {
        loop {
            let message = self.expect(start);
            if header(&message, "Call-ID") == Some(id) {
                return message;
            }
        }
    }

    /// Answers a request of the gateway.
    pub(crate) fn respond(&self, request: &str, status: &str, body: &str) {
        let to = header(request, "To").unwrap();
        let tag = if to.contains("tag=") { "" } else { ";tag=peer" };
        self.respond_as(request, status, &format!("{to}{tag}"), "", body);
    }

    /// The same with this To, and with further header lines.
    pub(crate) fn respond_as(&self, request: &str, status: &str, to: &str, extra: &str, body: &str) {
        let copied = |name: &str| {
            header(request, name).map(|value| format!("{name}: {value}\r\n")).unwrap_or_default()
        };
        let content = if body.is_empty() || extra.contains("Content-Type") {
            ""
        } else {
            "Content-Type: application/sdp\r\n"
        };
        self.send(&format!(
            "SIP/2.0 {status}\r\n{}{}To: {to}\r\n{}{}Contact: <{}>\r\n{extra}{content}Content-Length: {}\r\n\r\n{body}",
            copied("Via"),
            copied("From"),
            copied("Call-ID"),
            copied("CSeq"),
            self.uri(),
            body.len()
        ));
    }
}

pub(crate) fn header<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = message.split("\r\n\r\n").next()?.split("\r\n").skip(1);
    lines.find_map(|line| {
        line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    })
}

/// `;tag=...` of a response's To.
pub(crate) fn to_tag(response: &str) -> String {
    let to = header(response, "To").unwrap();
    to[to.find(";tag=").unwrap()..].to_owned()
}

/// The RTP address of a session description.
pub(crate) fn rtp_address(message: &str) -> SocketAddr {
    let value = |prefix: &str| message.split("\r\n").find_map(|line| line.strip_prefix(prefix)).unwrap();
    let port = value("m=audio ").split(' ').next().unwrap();
    format!("{}:{port}", value("c=IN IP4 ")).parse().unwrap()
}

/// A PCMU packet of 20 ms.
pub(crate) fn rtp_packet(sequence: u16, sound: u8) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 160).to_be_bytes());
    packet.extend(0x1234_5678_u32.to_be_bytes());
    packet.extend([sound; 160]);
    packet
}
