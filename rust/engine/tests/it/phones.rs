//! Phones that register over a stream: what ends their bindings.

use crate::rig::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use telephony_engine::{Command, Event, Kind};
use telephony_sip::digest::{Algorithm, Fields, Hash, Qop, Secret, Subject, Terms, response};

const USERS: &str =
    r#"{"realm": "here", "users": [{"name": "alice", "password": "wonderland", "max_contacts": 2}]}"#;

/// A phone of alice's.
struct Phone {
    socket: TcpStream,
    gateway: SocketAddr,
}

impl Phone {
    fn connect(gateway: &Node) -> Self {
        let gateway = gateway.engine.sip_address();
        let socket = TcpStream::connect(gateway).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, gateway }
    }

    fn ask(&mut self, cseq: u32, extra: &str) -> String {
        let (local, gateway) = (self.socket.local_addr().unwrap(), self.gateway);
        let text = format!(
            "REGISTER sip:{gateway} SIP/2.0\r\nVia: SIP/2.0/TCP {local};branch=z9hG4bK{cseq}{}\r\nMax-Forwards: 70\r\n\
             From: <sip:alice@{gateway}>;tag=a\r\nTo: <sip:alice@{gateway}>\r\nCall-ID: phone{}\r\n\
             CSeq: {cseq} REGISTER\r\nContact: <sip:alice@{local};transport=tcp>\r\n{extra}Content-Length: 0\r\n\r\n",
            local.port(),
            local.port()
        );
        self.socket.write_all(text.as_bytes()).unwrap();
        let mut buffer = [0; 4096];
        let count = self.socket.read(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    fn register(&mut self) {
        let challenge = self.ask(1, "");
        let line = header(&challenge, "WWW-Authenticate").unwrap();
        let nonce = Fields::parse(line)[0].value("nonce").unwrap().to_owned();
        let (algorithm, uri) =
            (Algorithm { hash: Hash::Sha256, session: false }, format!("sip:{}", self.gateway));
        let ha1 = Secret::Password("wonderland".into()).ha1(Hash::Sha256, "alice", "here").unwrap();
        let terms = Terms { algorithm, nonce: &nonce, quality: Some(("00000001", "c", Qop::Auth)) };
        let answer = response(&ha1, &terms, &Subject { method: "REGISTER", uri: &uri, body: b"" });
        let proof = format!(
            "Authorization: Digest username=\"alice\", realm=\"here\", nonce=\"{nonce}\", uri=\"{uri}\", \
             response=\"{answer}\", algorithm=SHA-256, qop=auth, nc=00000001, cnonce=\"c\"\r\n"
        );
        assert!(self.ask(2, &proof).starts_with("SIP/2.0 200"));
    }
}

/// The tokens of alice's phones, as told next.
fn bound(gateway: &mut Node) -> Vec<u64> {
    gateway.wait("Bindings", |event| match event {
        Event::Bindings(told) if &*told.user == "alice" => {
            Some(told.bindings.iter().map(|binding| binding.token).collect())
        }
        _ => None,
    })
}

fn is_reachable(gateway: &mut Node, token: u64) -> bool {
    is_reachable_as(gateway, "sip:alice@example.com", token)
}

fn is_reachable_as(gateway: &mut Node, uri: &str, token: u64) -> bool {
    let leg = gateway.engine.next_leg(Kind::Sip, None).unwrap();
    let mut dial = call(leg, uri, &G711);
    dial.next_hop = Some(format!("flow:{token}"));
    let correlation = gateway.engine.command(Command::Dial(Box::new(dial))).unwrap();
    gateway.done(correlation).result.is_ok()
}

/// RFC 5626 5.3: behind a stream that is gone there is nobody.
#[test]
fn a_phone_is_gone_with_its_stream() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    gateway.engine.set_users(USERS.as_bytes()).unwrap();
    let (mut first, mut second) = (Phone::connect(&gateway), Phone::connect(&gateway));
    first.register();
    let one = bound(&mut gateway)[0];
    second.register();
    let two = bound(&mut gateway).into_iter().find(|token| *token != one).unwrap();
    drop(first);
    assert_eq!(bound(&mut gateway), [two]);
    assert!(!is_reachable(&mut gateway, one) && is_reachable(&mut gateway, two));
}

/// RFC 3261 26.2.2: TLS or nothing, whatever the phone keeps open.
#[test]
fn a_sips_uri_is_not_called_by_an_open_flow() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    gateway.engine.set_users(USERS.as_bytes()).unwrap();
    let mut phone = Phone::connect(&gateway);
    phone.register();
    let token = bound(&mut gateway)[0];
    assert!(!is_reachable_as(&mut gateway, "sips:alice@example.com", token));
    assert!(is_reachable(&mut gateway, token));
}

/// RFC 5626 4.4.2: on the port of SIP itself.
#[test]
fn stun_is_answered_beside_sip() {
    let _alone = alone();
    let gateway = Node::start(&config());
    let phone = UdpSocket::bind("127.0.0.1:0").unwrap();
    phone.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl";
    phone.send_to(request, gateway.engine.sip_address()).unwrap();
    let mut answer = [0; 64];
    let length = phone.recv(&mut answer).unwrap();
    assert_eq!((length, &answer[..2], &answer[4..20]), (32, &[1, 1][..], &request[4..]));
    let port = phone.local_addr().unwrap().port() ^ 0x2112;
    assert_eq!((&answer[26..28], &answer[28..32]), (&port.to_be_bytes()[..], b"\x5e\x12\xa4\x43".as_slice()));
}

#[test]
fn users_change_while_the_engine_runs() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    gateway.engine.set_users(USERS.as_bytes()).unwrap();
    let mut phone = Phone::connect(&gateway);
    phone.register();
    let token = bound(&mut gateway)[0];
    let more = USERS.replace("[{", r#"[{"name": "bob", "password": "builder", "max_contacts": 1}, {"#);
    gateway.engine.set_users(more.as_bytes()).unwrap();
    assert!(is_reachable(&mut gateway, token), "who is still there keeps what is bound");
    gateway.engine.set_users(USERS.replace("alice", "carol").as_bytes()).unwrap();
    assert!(bound(&mut gateway).is_empty());
    assert!(!is_reachable(&mut gateway, token));
}
