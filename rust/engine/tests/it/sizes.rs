//! Messages as large as they may be, by the transport that takes them (RFC 3261 18.1.1), and TCP over IPv6.

use crate::rig::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use telephony_engine::{Cause, Command, EngineConfig};

/// A call whose INVITE no datagram of 1300 bytes holds.
fn dial_large(gateway: &mut Node, to: SocketAddr) {
    let leg = gateway.engine.next_leg(telephony_engine::Kind::Sip, None).unwrap();
    let mut dial = call(leg, &format!("sip:peer@{to}"), &G711);
    dial.headers.push(("X-Large".into(), "x".repeat(1300)));
    gateway.run(Command::Dial(Box::new(dial)));
}

fn udp(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(to).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn a_large_invite_goes_by_tcp_and_by_udp_where_nobody_listens() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let both = listener.local_addr().unwrap();
    let datagrams = udp(both);
    dial_large(&mut gateway, both);
    let (mut stream, mut buffer) = (listener.accept().unwrap().0, [0; 65_536]);
    let length = stream.read(&mut buffer).unwrap();
    assert!(String::from_utf8_lossy(&buffer[..length]).contains("\r\nVia: SIP/2.0/TCP "));
    datagrams.set_nonblocking(true).unwrap();
    assert!(datagrams.recv(&mut buffer).is_err(), "by both");

    let deaf = udp("127.0.0.1:0".parse().unwrap());
    dial_large(&mut gateway, deaf.local_addr().unwrap());
    let length = deaf.recv(&mut buffer).unwrap();
    assert!(length > 1300);
    assert!(String::from_utf8_lossy(&buffer[..length]).contains("\r\nVia: SIP/2.0/UDP "));
}

fn invite(id: &str, transport: &str, local: SocketAddr, gateway: SocketAddr, size: usize) -> String {
    format!(
        "INVITE sip:gateway@{gateway} SIP/2.0\r\nVia: SIP/2.0/{transport} {local};branch=z9hG4bK{id}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:peer@{local}>;tag=peer\r\nTo: <sip:gateway@{gateway}>\r\nCall-ID: {id}\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:peer@{local}>\r\n{}Content-Length: 0\r\n\r\n",
        format!("X-Large: {}\r\n", "x".repeat(8_000)).repeat(size / 8_000)
    )
}

/// RFC 3261 18.1.1: up to 65,535 bytes.
#[test]
fn large_invites_are_taken_by_udp_and_by_tcp() {
    let _alone = alone();
    let mut gateway = Node::start(&config());
    let address = gateway.engine.sip_address();
    let datagrams = udp("127.0.0.1:0".parse().unwrap());
    let sent = invite("udp", "UDP", datagrams.local_addr().unwrap(), address, 40_000);
    datagrams.send_to(sent.as_bytes(), address).unwrap();
    assert_eq!(gateway.incoming().header("x-large").map(str::len), Some(8_000));
    let mut stream = TcpStream::connect(address).unwrap();
    let sent = invite("tcp", "TCP", stream.local_addr().unwrap(), address, 60_000);
    assert!((56_000..=65_535).contains(&sent.len()), "{}", sent.len());
    stream.write_all(sent.as_bytes()).unwrap();
    assert_eq!(gateway.incoming().header("x-large").map(str::len), Some(8_000));
}

#[test]
fn a_call_over_tcp_and_ipv6_from_end_to_end() {
    let _alone = alone();
    let v6 = EngineConfig { sip_host: "::1".into(), ..config() };
    let (mut a, mut b) = (Node::start(&v6), Node::start(&v6));
    let out = a.dial(&format!("{};transport=tcp", b.uri()), &G711);
    let incoming = b.incoming();
    b.answer(incoming.leg);
    a.answered(out);
    b.confirmed(incoming.leg);
    a.hang_up(out);
    assert_eq!((a.ended(out).cause, b.ended(incoming.leg).cause), (Cause::Bye, Cause::Bye));
}
