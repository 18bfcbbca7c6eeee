//! The torture tests on the wire: what a running engine answers to each message of RFC 4475 (49) and RFC 5118 (12).

use crate::corpora::{corpora, on_the_wire};
use crate::rig::*;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};
use telephony_engine::{Command, Engine, Event};

/// What is seen on the wire.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// 100 Trying and a call for the application to decide on; it is refused here, which the caller hears.
    Call,
    /// A final response, with words that must stand in it.
    Final(u16, &'static str),
    /// Nothing: a response that answers no request of ours (RFC 3261 18.1.2).
    Silence,
}
use Answer::{Call, Final, Silence};

/// File, section, answer. Where the RFC leaves a choice, the comment says which one was made.
const RFC4475: &[(&str, &str, Answer)] = &[
    // To has a tag of a dialog that is not there.
    ("wsinv", "3.1.1.1", Final(481, "")),
    ("intmeth", "3.1.1.2", Final(405, "Allow: INVITE")),
    ("esc01", "3.1.1.3", Call),
    ("escnull", "3.1.1.4", Final(405, "")),
    // RE%47IST%45R is not REGISTER.
    ("esc02", "3.1.1.5", Final(405, "Allow: INVITE")),
    ("lwsdisp", "3.1.1.6", Final(200, "To: sip:user@example.com")),
    ("longreq", "3.1.1.7", Call),
    ("dblreq", "3.1.1.8", Final(405, "CSeq: 8 REGISTER")),
    ("semiuri", "3.1.1.9", Final(200, "")),
    ("transports", "3.1.1.10", Final(200, "SIP/2.0/UNKNOWN t4.example.com")),
    ("mpart01", "3.1.1.11", Final(405, "CSeq: 1 MESSAGE")),
    ("unreason", "3.1.1.12", Silence),
    ("noreason", "3.1.1.13", Silence),
    ("badinv01", "3.1.2.1", Final(400, "Malformed Via")),
    ("clerr", "3.1.2.2", Final(400, "Body shorter than Content-Length")),
    ("ncl", "3.1.2.3", Final(400, "Malformed Content-Length")),
    ("scalar02", "3.1.2.4", Final(400, "Malformed CSeq")),
    ("scalarlg", "3.1.2.5", Silence),
    ("quotbal", "3.1.2.6", Final(400, "Malformed To")),
    ("ltgtruri", "3.1.2.7", Final(400, "Malformed Request-URI")),
    ("lwsruri", "3.1.2.8", Final(400, "Malformed start line")),
    ("lwsstart", "3.1.2.9", Final(400, "Malformed start line")),
    ("trws", "3.1.2.10", Final(400, "Malformed start line")),
    ("escruri", "3.1.2.11", Final(400, "Malformed Request-URI")),
    // Date means nothing to us, so a bad one is ignored.
    ("baddate", "3.1.2.12", Call),
    ("regbadct", "3.1.2.13", Final(400, "Malformed Contact")),
    ("badaspec", "3.1.2.14", Final(400, "Malformed To")),
    ("baddn", "3.1.2.15", Final(400, "Malformed From")),
    ("badvers", "3.1.2.16", Final(505, "")),
    ("mismatch01", "3.1.2.17", Final(400, "CSeq method differs")),
    // 400 before 501: the mismatch is seen first.
    ("mismatch02", "3.1.2.18", Final(400, "CSeq method differs")),
    ("bigcode", "3.1.2.19", Silence),
    ("badbranch", "3.2.1", Final(200, "branch=z9hG4bK;received")),
    ("insuf", "3.3.1", Final(400, "Missing From")),
    ("unkscm", "3.3.2", Final(416, "")),
    ("novelsc", "3.3.3", Final(416, "")),
    ("unksm2", "3.3.4", Final(405, "")),
    ("bext01", "3.3.5", Final(420, "Unsupported: nothingSupportsThis, nothingSupportsThisEither")),
    ("invut", "3.3.6", Final(415, "Accept: application/sdp")),
    ("regaut01", "3.3.7", Final(405, "")),
    ("multi01", "3.3.8", Final(400, "Repeated CSeq")),
    ("mcl01", "3.3.9", Final(400, "Repeated Content-Length")),
    ("bcast", "3.3.10", Silence),
    // We are where it goes to, not a proxy on its way.
    ("zeromf", "3.3.11", Final(200, "")),
    ("cparam01", "3.3.12", Final(405, "")),
    ("cparam02", "3.3.13", Final(405, "")),
    ("regescrt", "3.3.14", Final(405, "")),
    ("sdp01", "3.3.15", Final(406, "Accept: application/sdp")),
    ("inv2543", "3.4.1", Call),
];

const RFC5118: &[(&str, &str, Answer)] = &[
    ("ipv6-good", "4.1", Final(405, "")),
    ("ipv6-bad", "4.2", Final(400, "Malformed Request-URI")),
    ("port-ambiguous", "4.3", Final(405, "")),
    ("port-unambiguous", "4.4", Final(405, "")),
    ("via-received-param-with-delim", "4.5", Final(481, "")),
    ("via-received-param-no-delim", "4.5", Final(200, "")),
    ("ipv6-in-sdp", "4.6", Call),
    ("mult-ip-in-header", "4.7", Final(481, "received=192.0.2.200")),
    ("mult-ip-in-sdp", "4.8", Call),
    ("ipv4-mapped-ipv6", "4.9", Call),
    ("ipv6-bug-abnf-3-colons", "4.10", Final(200, "")),
    ("ipv6-correct-abnf-2-colons", "4.10", Final(200, "")),
];

/// A sender on an address of its own, where it hears what goes to the ports that the messages' Vias name.
struct Sender {
    gateway: SocketAddr,
    sockets: Vec<UdpSocket>,
    sent: u32,
}

impl Sender {
    const PORTS: [u16; 5] = [5060, 5050, 5070, 6050, 19823];

    fn new(gateway: SocketAddr) -> Self {
        let sockets: Vec<_> =
            Self::PORTS.iter().map(|port| UdpSocket::bind(("127.0.77.1", *port)).unwrap()).collect();
        sockets.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
        Self { gateway, sockets, sent: 0 }
    }

    fn send(&self, message: &[u8]) {
        self.sockets[0].send_to(message, self.gateway).unwrap();
    }

    fn heard(&self) -> Vec<String> {
        let mut buffer = [0; 65_535];
        let mut heard = Vec::new();
        for socket in &self.sockets {
            while let Ok((length, _)) = socket.recv_from(&mut buffer) {
                heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
        }
        heard
    }

    /// What is answered to a message, up to the answer to an OPTIONS behind it: silence is proven, not waited for.
    fn ask(&mut self, message: &[u8]) -> Vec<String> {
        self.sent += 1;
        let (address, number) = (self.sockets[0].local_addr().unwrap(), self.sent);
        self.send(message);
        self.send(
            format!(
                "OPTIONS sip:{0} SIP/2.0\r\nVia: SIP/2.0/UDP {address};branch=z9hG4bKping{number}\r\nMax-Forwards: 70\r\n\
                 From: <sip:{address}>;tag=ping\r\nTo: <sip:{0}>\r\nCall-ID: ping{number}\r\nCSeq: 1 OPTIONS\r\n\
                 Content-Length: 0\r\n\r\n",
                self.gateway
            )
            .as_bytes(),
        );
        let ping = format!("Call-ID: ping{number}\r\n");
        let until = Instant::now() + PATIENCE;
        let mut answers = Vec::new();
        while Instant::now() < until {
            // The sockets are read one after the other, so what came before the ping's answer may be read behind it.
            answers.extend(self.heard());
            if answers.iter().any(|message| message.contains(&ping)) {
                answers.retain(|message| !message.contains(&ping));
                return answers;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("the engine is deaf");
    }

    /// Waits for a response of this status and Call-ID.
    fn expect(&self, status: u16, call_id: &str) {
        let start = format!("SIP/2.0 {status} ");
        let until = Instant::now() + PATIENCE;
        let wanted = |message: &String| message.starts_with(&start) && message.contains(call_id);
        while !self.heard().iter().any(wanted) {
            assert!(Instant::now() < until, "no {status} for {call_id}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn assert_answer(node: &mut Node, sender: &mut Sender, name: &str, message: &[u8], expected: &Answer) {
    let answers = sender.ask(message);
    let mine = |answer: &&String| message_id(message).is_none_or(|id| answer.contains(&id));
    let finals: Vec<_> = answers.iter().filter(mine).filter(|a| !a.starts_with("SIP/2.0 1")).collect();
    match expected {
        Silence => assert!(finals.is_empty(), "{name}: {finals:?}"),
        Final(status, words) => {
            let [only] = finals[..] else { panic!("{name}: {answers:?}") };
            assert!(
                only.starts_with(&format!("SIP/2.0 {status} ")) && only.contains(words),
                "{name}: {only}"
            );
        }
        Call => {
            let trying = answers.iter().filter(mine).any(|answer| answer.starts_with("SIP/2.0 100 "));
            assert!(trying && finals.is_empty(), "{name}: {answers:?}");
            let incoming = node.incoming();
            node.run(Command::Reject { leg: incoming.leg, status: 486, reason: None, headers: Vec::new() });
            sender.expect(486, incoming.sip_call_id());
        }
    }
    let left: Vec<_> =
        node.engine.drain(64).into_iter().filter(|e| matches!(e, Event::Incoming(_))).collect();
    assert!(left.is_empty(), "{name} made a call: {left:?}");
}

/// The Call-ID, if there is one to tell answers apart by; its name may be compact, in any case, and spaced.
fn message_id(message: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(message);
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let name = name.trim();
        (name.eq_ignore_ascii_case("call-id") || name.eq_ignore_ascii_case("i"))
            .then(|| value.trim().to_owned())
    })
}

fn play(folder: &str, cases: &[(&str, &str, Answer)], read: impl Fn(&Path, &str) -> Vec<u8>) {
    let Some(corpora) = corpora() else { return };
    let _alone = alone();
    let mut node = Node::start(&config());
    let mut sender = Sender::new(node.engine.sip_address());
    let folder = corpora.join(folder);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), cases.len());
    for (name, section, answer) in cases {
        let message = read(&folder, name);
        assert_answer(&mut node, &mut sender, &format!("{name} ({section})"), &message, answer);
    }
    assert_sound(&node.engine);
}

/// The engine took no harm.
fn assert_sound(engine: &Engine) {
    let stats = engine.stats();
    assert!(stats.drops.keys().all(|reason| !reason.ends_with("panic")), "{stats:?}");
}

#[test]
fn rfc4475_every_message_is_answered_as_it_should() {
    play("rfc4475", RFC4475, |folder, name| std::fs::read(folder.join(format!("{name}.dat"))).unwrap());
}

#[test]
fn rfc5118_every_message_is_answered_as_it_should() {
    play("rfc5118", RFC5118, |folder, name| {
        on_the_wire(&std::fs::read_to_string(folder.join(name)).unwrap(), "\r\n").into_bytes()
    });
}
