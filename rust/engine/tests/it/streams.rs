//! SIP over TCP: framing, ways back, lost connections, limits.

use crate::rig::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use telephony_engine::{Cause, EngineConfig, Pause, Stranger, StreamLimits};

/// A peer that speaks SIP text over one TCP connection. Its Contact leads nowhere unless a test says otherwise.
struct TcpPeer {
    socket: TcpStream,
    gateway: SocketAddr,
    left: String,
    contact: String,
}

impl TcpPeer {
    fn connect(gateway: SocketAddr) -> Self {
        Self::new(TcpStream::connect(gateway).unwrap(), gateway)
    }

    fn accept(listener: &TcpListener, gateway: &Node) -> Self {
        Self::new(listener.accept().unwrap().0, gateway.engine.sip_address())
    }

    fn new(socket: TcpStream, gateway: SocketAddr) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, gateway, left: String::new(), contact: "127.0.0.1:9".into() }
    }

    fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).unwrap();
    }

    fn request(&self, method: &str, id: &str, cseq: u32, to_tag: &str, body: &str) -> String {
        let (local, gateway) = (self.socket.local_addr().unwrap(), self.gateway);
        let content = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} sip:gateway@{gateway};transport=tcp SIP/2.0\r\n\
             Via: SIP/2.0/TCP {local};branch=z9hG4bK{id}{method}{cseq}\r\nMax-Forwards: 70\r\n\
             From: <sip:peer@{local}>;tag=peer\r\nTo: <sip:gateway@{gateway}>{to_tag}\r\nCall-ID: {id}\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:peer@{};transport=tcp>\r\n{content}\
             Content-Length: {}\r\n\r\n{body}",
            self.contact,
            body.len()
        )
    }

    /// OPTIONS and its 200.
    fn ask(&mut self, id: &str, number: u32) {
        let options = self.request("OPTIONS", id, number, "", "");
        self.send(&options);
        assert!(self.expect("SIP/2.0 200").contains(&format!("Call-ID: {id}\r\n")));
    }

    fn receive(&mut self) -> String {
        loop {
            if let Some(end) = self.left.find("\r\n\r\n") {
                let length: usize = header(&self.left, "Content-Length").unwrap().parse().unwrap();
                if self.left.len() >= end + 4 + length {
                    let rest = self.left.split_off(end + 4 + length);
                    return std::mem::replace(&mut self.left, rest);
                }
            }
            let mut buffer = [0; 65_536];
            let count = self.socket.read(&mut buffer).unwrap();
            assert!(count > 0, "closed; left: {}", self.left);
            self.left.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
    }

    fn expect(&mut self, start: &str) -> String {
        loop {
            let message = self.receive();
            if message.starts_with(start) {
                return message;
            }
        }
    }

    fn respond(&mut self, request: &str, status: &str, body: &str) {
        let copied = |name: &str| format!("{name}: {}\r\n", header(request, name).unwrap());
        let tag = if copied("To").contains("tag=") { "" } else { ";tag=peer" };
        let content = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "SIP/2.0 {status}\r\n{}{}{}{tag}\r\n{}{}Contact: <sip:peer@{};transport=tcp>\r\n{content}\
             Content-Length: {}\r\n\r\n{body}",
            copied("Via"),
            copied("From"),
            copied("To").trim_end(),
            copied("Call-ID"),
            copied("CSeq"),
            self.contact,
            body.len()
        );
        self.send(&text);
    }

    /// Waits until the gateway closes.
    fn is_closed(&mut self) -> bool {
        let mut buffer = [0; 1024];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }
}

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    m=audio 40002 RTP/AVP 0\r\n";

fn limits(total: usize, per_source: usize, wait: Duration) -> StreamLimits {
    let pause = Pause { first: wait, message: wait, ..StreamLimits::default().pause };
    StreamLimits { total, per_source, pause, ..StreamLimits::default() }
}

fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("sip:peer@{};transport=tcp", listener.local_addr().unwrap());
    (listener, uri)
}

#[test]
fn a_stream_cut_at_every_byte_is_the_same_message() {
    let _alone = alone();
    let gateway = Node::start(&config());
    // A peer of a trunk may send as fast as it likes.
    gateway.engine.set_trunks(br#"[{"name": "peers", "addresses": ["127.0.0.0/8"]}]"#).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let mut peer = TcpPeer::connect(gateway.engine.sip_address());
    peer.socket.set_nodelay(true).unwrap();
    let length = peer.request("OPTIONS", "cut", 1, "", "").len();
    for cut in 1..length {
        let id = format!("cut{cut}");
        let text = peer.request("OPTIONS", &id, 1, "", "");
        let (first, second) = text.split_at(cut);
        peer.send(first);
        // Two segments: the first is read before the second is there.
        std::thread::sleep(Duration::from_millis(1));
        peer.send(second);
        assert!(peer.expect("SIP/2.0 200").contains(&format!("Call-ID: {id}\r\n")));
    }
}

#[test]
fn many_messages_come_in_one_segment_and_one_as_large_as_it_may_be() {
    let _alone = alone();
    let gateway = Node::start(&config());
    let mut peer = TcpPeer::connect(gateway.engine.sip_address());
    let many: String = (1..=20).map(|n| peer.request("OPTIONS", &format!("many{n}"), n, "", "")).collect();
    peer.send(&many);
    for n in 1..=20 {
        assert!(peer.expect("SIP/2.0 200").contains(&format!("Call-ID: many{n}\r\n")));
    }
    let empty = peer.request("OPTIONS", "large", 99, "", "x").len();
    let large = peer.request("OPTIONS", "large", 99, "", &"x".repeat(65_532 - empty));
    assert!((65_500..=65_536).contains(&large.len()), "{}", large.len());
    peer.send(&large);
    assert!(peer.expect("SIP/2.0 200").contains("Call-ID: large\r\n"));
}

/// RFC 3261 18.3, 21.5.7: a message that is too large for us is refused, and the stream goes on behind it.
#[test]
fn a_message_of_too_many_lines_ends_no_stream() {
    let _alone = alone();
    let gateway = Node::start(&config());
    let mut peer = TcpPeer::connect(gateway.engine.sip_address());
    let body = peer.request("OPTIONS", "odd", 1, "", "body");
    for (id, extra) in [("many", "X: y\r\n".repeat(129)), ("long", format!("X: {}\r\n", "y".repeat(40_000)))]
    {
        let odd = body.replace("Call-ID: odd\r\n", &format!("Call-ID: {id}\r\n{extra}"));
        peer.send(&odd);
        assert!(peer.expect("SIP/2.0 513").contains(&format!("Call-ID: {id}\r\n")));
        peer.ask("sound", 2);
    }
    peer.send(
        &body.replace("Call-ID: odd\r\n", &format!("Call-ID: endless\r\n{}", "X: y\r\n".repeat(11_000))),
    );
    assert!(peer.expect("SIP/2.0 513").contains("Call-ID: endless\r\n"));
    assert!(peer.is_closed());
}

/// RFC 3261 18.3: what cannot be followed is answered, and what has been read of it since takes nothing back.
#[test]
fn a_request_without_a_length_is_answered_before_the_stream_closes() {
    let _alone = alone();
    let gateway = Node::start(&config());
    for (length, status) in [("", 400), ("Content-Length: 99999\r\n", 513)] {
        let mut peer = TcpPeer::connect(gateway.engine.sip_address());
        peer.ask("good", 1);
        let broken = peer.request("OPTIONS", "broken", 2, "", "").replace("Content-Length: 0\r\n", length);
        peer.send(&format!("{broken}{}", "x".repeat(100_000)));
        assert!(peer.expect(&format!("SIP/2.0 {status}")).contains("Call-ID: broken\r\n"));
        assert!(peer.is_closed());
    }
}

/// RFC 5626 3.5.1.
#[test]
fn a_ping_is_answered() {
    let _alone = alone();
    let gateway = Node::start(&config());
    let mut peer = TcpPeer::connect(gateway.engine.sip_address());
    peer.send("\r\n\r\n");
    let mut pong = [0; 2];
    peer.socket.read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"\r\n");
}

/// Pings of a stranger are counted like his messages: who sends too many is not answered any more.
#[test]
fn pings_are_charged_to_their_source() {
    let _alone = alone();
    let gateway = Node::start(&EngineConfig { strangers: Stranger::Refuse, ..config() });
    let mut peer = TcpPeer::connect(gateway.engine.sip_address());
    peer.socket.set_nodelay(true).unwrap();
    let mut pongs = 0;
    while pongs < 2000 {
        peer.send("\r\n\r\n");
        peer.socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        if peer.socket.read_exact(&mut [0; 2]).is_err() {
            break;
        }
        pongs += 1;
    }
    assert!((100..2000).contains(&pongs), "{pongs}");
}

/// The peer's Contact leads nowhere: BYE comes back over the connection of the INVITE, and over no other.
#[test]
fn a_call_comes_and_ends_over_its_own_connection() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    let address = gateway.engine.sip_address();
    let (mut peer, mut other) = (TcpPeer::connect(address), TcpPeer::connect(address));
    other.ask("other", 1);
    let invite = peer.request("INVITE", "in", 1, "", SDP);
    peer.send(&invite);
    let leg = gateway.incoming().leg;
    gateway.answer(leg);
    let ok = peer.expect("SIP/2.0 200");
    assert!(header(&ok, "Contact").unwrap().contains(&format!("{address};transport=tcp")), "{ok}");
    let ack = peer.request("ACK", "in", 1, &to_tag(&ok), "");
    peer.send(&ack);
    gateway.confirmed(leg);
    gateway.hang_up(leg);
    let bye = peer.expect("BYE");
    assert!(header(&bye, "Via").unwrap().starts_with("SIP/2.0/TCP"), "{bye}");
    peer.respond(&bye, "200 OK", "");
    assert_eq!(gateway.ended(leg).cause, Cause::Bye);
    other.socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(other.socket.read(&mut [0; 10]).is_err(), "a stranger's connection was used");
}

#[test]
fn calls_out_share_one_connection() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    let (listener, uri) = listener();
    let mut peer: Option<TcpPeer> = None;
    for _ in 0..3 {
        let leg = gateway.dial(&uri, &G711);
        let peer = peer.get_or_insert_with(|| TcpPeer::accept(&listener, &gateway));
        let invite = peer.expect("INVITE");
        assert!(header(&invite, "Via").unwrap().starts_with("SIP/2.0/TCP"), "{invite}");
        assert!(header(&invite, "Contact").unwrap().contains(";transport=tcp"), "{invite}");
        peer.respond(&invite, "200 OK", SDP);
        gateway.answered(leg);
        peer.expect("ACK");
        gateway.hang_up(leg);
        let bye = peer.expect("BYE");
        peer.respond(&bye, "200 OK", "");
        assert_eq!(gateway.ended(leg).cause, Cause::Bye);
    }
    let until = Instant::now() + PATIENCE;
    while gateway.engine.stats().sip_connections_opened == 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(gateway.engine.stats().sip_connections_opened, 1);
}

#[test]
fn two_engines_talk_over_tcp_and_repeat_nothing() {
    let _alone = alone();
    let (mut a, mut b) = (Node::start(&config()), Node::start(&config()));
    let out = a.dial(&format!("{};transport=tcp", b.uri()), &G711);
    let inbound = b.incoming().leg;
    b.answer(inbound);
    a.answered(out);
    b.confirmed(inbound);
    b.hang_up(inbound);
    assert_eq!((a.ended(out).cause, b.ended(inbound).cause), (Cause::Bye, Cause::Bye));
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(a.engine.stats().sip_retransmissions + b.engine.stats().sip_retransmissions, 0);
}

#[test]
fn nobody_listening_ends_the_call_at_once() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    let (closed, uri) = listener();
    drop(closed);
    let begun = Instant::now();
    let leg = gateway.dial(&uri, &G711);
    assert_eq!(gateway.ended(leg).cause, Cause::TransportError);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn a_lost_connection_ends_only_what_it_carried() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    let ((one, first_uri), (two, second_uri)) = (listener(), listener());
    let lost = gateway.dial(&first_uri, &G711);
    let kept = gateway.dial(&second_uri, &G711);
    let (mut first, mut second) = (TcpPeer::accept(&one, &gateway), TcpPeer::accept(&two, &gateway));
    first.expect("INVITE");
    let invite = second.expect("INVITE");
    drop((first, one));
    assert_eq!(gateway.ended(lost).cause, Cause::TransportError);
    second.respond(&invite, "200 OK", SDP);
    gateway.answered(kept);
}

/// RFC 3261 18.1.1: the peer closes a connection that stood as the next call is written to it.
#[test]
fn a_call_on_a_connection_that_closes_is_begun_once_more() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    let (listener, uri) = listener();
    let first = gateway.dial(&uri, &G711);
    let mut peer = TcpPeer::accept(&listener, &gateway);
    let invite = peer.expect("INVITE");
    peer.respond(&invite, "486 Busy Here", "");
    gateway.ended(first);
    peer.expect("ACK");
    let second = gateway.dial(&uri, &G711);
    let invite = peer.expect("INVITE");
    drop(peer);
    let mut peer = TcpPeer::accept(&listener, &gateway);
    assert_eq!(peer.expect("INVITE"), invite);
    peer.respond(&invite, "200 OK", SDP);
    gateway.answered(second);
    peer.expect("ACK");
    let third = gateway.dial(&uri, &G711);
    peer.expect("INVITE");
    drop(peer);
    drop(TcpPeer::accept(&listener, &gateway));
    assert_eq!(gateway.ended(third).cause, Cause::TransportError);
}

/// The connection of a standing call breaks: what follows goes to the peer's Contact by a new one.
#[test]
fn a_connection_lost_in_a_call_is_made_anew() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    let (listener, uri) = listener();
    let leg = gateway.dial(&uri, &G711);
    let mut peer = TcpPeer::accept(&listener, &gateway);
    peer.contact = listener.local_addr().unwrap().to_string();
    let invite = peer.expect("INVITE");
    peer.respond(&invite, "200 OK", SDP);
    gateway.answered(leg);
    peer.expect("ACK");
    drop(peer);
    std::thread::sleep(Duration::from_millis(50));
    gateway.hang_up(leg);
    let mut again = TcpPeer::accept(&listener, &gateway);
    let bye = again.expect("BYE");
    again.respond(&bye, "200 OK", "");
    assert_eq!(gateway.ended(leg).cause, Cause::Bye);
}

#[test]
fn dripping_and_silent_peers_are_closed() {
    let _alone = alone();
    let wait = Duration::from_millis(400);
    let gateway = Node::start(&EngineConfig { streams: limits(100, 100, wait), ..config() });
    let address = gateway.engine.sip_address();
    let mut busy = TcpPeer::connect(address);
    busy.ask("busy", 1);
    let (mut silent, mut slow) = (TcpPeer::connect(address), TcpPeer::connect(address));
    let begun = Instant::now();
    let text = slow.request("OPTIONS", "slow", 1, "", "");
    let closed = text.as_bytes().iter().any(|byte| {
        std::thread::sleep(Duration::from_millis(10));
        slow.socket.write_all(&[*byte]).is_err()
    });
    assert!(closed && silent.is_closed());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    // Whoever has said something may be silent.
    busy.ask("busy", 2);
}

#[test]
fn there_are_no_more_connections_than_allowed() {
    let _alone = alone();
    let gateway = Node::start(&EngineConfig { streams: limits(9, 2, PATIENCE), ..config() });
    let address = gateway.engine.sip_address();
    let (mut first, mut second) = (TcpPeer::connect(address), TcpPeer::connect(address));
    first.ask("first", 1);
    second.ask("second", 1);
    assert!(TcpPeer::connect(address).is_closed());
    drop(first);
    let until = Instant::now() + PATIENCE;
    loop {
        let mut again = TcpPeer::connect(address);
        let options = again.request("OPTIONS", "again", 1, "", "");
        let sent = again.socket.write_all(options.as_bytes());
        if sent.is_ok() && matches!(again.socket.read(&mut [0; 2000]), Ok(1..)) {
            break;
        }
        assert!(Instant::now() < until, "the place of a closed connection stays taken");
    }
}

/// Some places are for the addresses of trunks, however many strangers there are.
#[test]
fn strangers_leave_room_for_a_trunk() {
    let _alone = alone();
    let gateway = Node::start(&EngineConfig { streams: limits(16, 100, PATIENCE), ..config() });
    gateway.engine.set_trunks(br#"[{"name": "carrier", "addresses": ["127.0.0.2/32"]}]"#).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let address = gateway.engine.sip_address();
    let strangers: Vec<_> = (0..12).map(|_| TcpPeer::connect(address)).collect();
    assert!(TcpPeer::connect(address).is_closed());
    let carrier = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    carrier.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
    carrier.connect(&address.into()).unwrap();
    TcpPeer::new(carrier.into(), address).ask("carrier", 1);
    drop(strangers);
}

#[test]
fn what_is_no_sip_ends_its_own_connection_only() {
    let _alone = alone();
    let gateway = Node::start(&config());
    let address = gateway.engine.sip_address();
    let (mut good, mut bad) = (TcpPeer::connect(address), TcpPeer::connect(address));
    bad.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(bad.is_closed());
    good.ask("good", 1);
}

/// Several addresses: each call is told the one that it came to.
#[test]
fn an_engine_listens_on_several_addresses() {
    let _alone = alone();
    let gateway = Node::start(&EngineConfig { sip_host: "127.0.0.1, ::1,127.0.0.7".into(), ..config() });
    let heard = gateway.engine.listeners();
    assert_eq!(heard.len(), 6, "{heard:?}");
    for (_, address) in heard.iter().filter(|(transport, _)| *transport != telephony_engine::Transport::Udp) {
        TcpPeer::connect(*address).ask("several", 1);
    }
    for (_, address) in heard.iter().filter(|(transport, _)| *transport == telephony_engine::Transport::Udp) {
        if address.is_ipv4() {
            let peer = Peer::new(*address);
            peer.request("OPTIONS", "several", 1, "", "");
            peer.expect("SIP/2.0 200");
        }
    }
}
