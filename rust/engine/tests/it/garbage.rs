//! Whatever arrives, the engine stays up and its calls go on.

use crate::rig::*;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// Datagrams of all lengths and kinds, the same in every run.
fn throw(at: &[SocketAddr], count: u32) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let invite =
        b"INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\n\
        To: <sip:a@b>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\nContact: <sip:a@b>\r\n\r\n";
    for round in 0..count {
        let length = usize::try_from(random() % 1500).unwrap();
        let mut datagram: Vec<u8> = (0..length).map(|_| random().to_le_bytes()[0]).collect();
        match round % 4 {
            // A sound INVITE with bytes turned over, or cut short.
            0 => {
                datagram = invite[..invite.len() - length % 120].to_vec();
                let index = usize::try_from(random()).unwrap_or(7) % datagram.len();
                datagram[index] ^= 1 << (length % 8);
            }
            // What looks like RTP, DTLS or STUN at the first byte.
            1 if length > 0 => datagram[0] = [0x80, 22, 0, 0xbf][length % 4],
            _ => {}
        }
        for target in at {
            socket.send_to(&datagram, target).unwrap();
        }
    }
    socket.send_to(&vec![b'x'; 60_000], at[0]).unwrap();
}

#[test]
fn random_datagrams_do_no_harm() {
    let _alone = alone();
    let (mut a, mut b) = (Node::start(&config()), Node::start(&config()));
    let (out, inbound) = connect(&mut a, &mut b);
    let mut targets = vec![b.engine.sip_address(), b.engine.webrtc_addresses()[0]];
    targets.extend((42_000..43_000).step_by(2).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).take(6));
    throw(&targets, 4000);
    drop(b.engine.drain(100_000));
    // The call stands, and a new one can be made.
    b.hang_up(inbound);
    a.ended(out);
    connect(&mut a, &mut b);
    std::thread::sleep(Duration::from_millis(450));
    let stats = b.engine.stats();
    assert!(stats.drops.contains_key("sip.malformed"), "{stats:?}");
    assert!(stats.drops.keys().all(|reason| !reason.ends_with("panic")), "{stats:?}");
}
