use super::*;

const OPTIONS: Options = Options { buffer: Some(65_536), errors: true };

fn wait_for(socket: &Socket, batch: &mut ReceiveBatch) -> usize {
    let mut epoll = Epoll::new(4).unwrap();
    epoll.add(socket.fd(), 7).unwrap();
    assert_eq!(epoll.wait(Some(Duration::from_secs(2))).unwrap(), 1);
    assert_eq!(epoll.ready(0).unwrap().token, 7);
    socket.receive(batch, 8).unwrap()
}

#[test]
fn wildcard_tells_and_keeps_the_local_address() {
    for (bind, target) in [("0.0.0.0:0", "127.0.0.3"), ("[::]:0", "127.0.0.3"), ("[::]:0", "::1")] {
        let a = Socket::bind(bind.parse().unwrap(), OPTIONS).unwrap();
        let target: IpAddr = target.parse().unwrap();
        let peer = Socket::bind(SocketAddr::new(target, 0), OPTIONS).unwrap();
        let (mut receive, mut send) = (ReceiveBatch::new(8, 2048), SendBatch::new());
        let to = SocketAddr::new(target, a.local().port());
        let ping = Outgoing { to, from: None, payload: b"ping" };
        assert_eq!(peer.send(&mut send, std::iter::once(ping), |_, e| panic!("{e}")), 1);
        assert_eq!(wait_for(&a, &mut receive), 1);
        let packet = receive.packet(0).unwrap();
        assert_eq!((packet.from, packet.to, &*packet.payload), (peer.local(), Some(target), &b"ping"[..]));
        let pong = Outgoing { to: peer.local(), from: Some(target), payload: b"pong" };
        assert_eq!(a.send(&mut send, std::iter::once(pong), |_, e| panic!("{e}")), 1);
        assert_eq!(wait_for(&peer, &mut receive), 1);
        assert_eq!(receive.packet(0).unwrap().from, to);
    }
}

#[test]
fn sends_more_than_one_batch_and_reports_failures() {
    let a = Socket::bind("127.0.0.1:0".parse().unwrap(), OPTIONS).unwrap();
    let b = Socket::bind("127.0.0.1:0".parse().unwrap(), OPTIONS).unwrap();
    let mut send = SendBatch::new();
    let bad: SocketAddr = "203.0.113.1:9".parse().unwrap();
    let items = (0..150).map(|i| if i == 70 { bad } else { b.local() });
    let items = items.map(|to| Outgoing { to, from: None, payload: b"x" });
    let mut failed = Vec::new();
    let sent = a.send(&mut send, items, |index, _| failed.push(index));
    assert_eq!((sent, failed), (149, vec![70]));
}

#[test]
fn an_unreachable_port_is_reported() {
    for bind in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
        let a = Socket::bind(bind.parse().unwrap(), OPTIONS).unwrap();
        reports_an_unreachable_port(&a);
    }
}

fn reports_an_unreachable_port(a: &Socket) {
    let gone = Socket::bind("127.0.0.1:0".parse().unwrap(), OPTIONS).unwrap().local();
    let item = Outgoing { to: gone, from: None, payload: b"x" };
    a.send(&mut SendBatch::new(), std::iter::once(item), |_, e| panic!("{e}"));
    let mut epoll = Epoll::new(4).unwrap();
    epoll.add(a.fd(), 1).unwrap();
    assert_eq!(epoll.wait(Some(Duration::from_secs(2))).unwrap(), 1);
    assert!(epoll.ready(0).unwrap().error);
    let mut quote = [0; 64];
    assert_eq!(a.next_error(&mut quote), Some(Undelivered { remote: gone, quote: b"x", unreachable: true }));
    assert_eq!(a.next_error(&mut quote), None);
}

#[test]
fn long_datagrams_are_marked() {
    let a = Socket::bind("127.0.0.1:0".parse().unwrap(), OPTIONS).unwrap();
    let item = Outgoing { to: a.local(), from: None, payload: &[1; 100] };
    a.send(&mut SendBatch::new(), std::iter::once(item), |_, e| panic!("{e}"));
    let mut receive = ReceiveBatch::new(1, 10);
    assert_eq!(wait_for(&a, &mut receive), 1);
    let packet = receive.packet(0).unwrap();
    assert!(packet.truncated && packet.payload.len() == 10);
}

#[test]
fn an_event_wakes_until_cleared() {
    let event = EventFd::new().unwrap();
    let mut epoll = Epoll::new(1).unwrap();
    epoll.add(event.fd(), 3).unwrap();
    assert_eq!(epoll.wait(Some(Duration::ZERO)).unwrap(), 0);
    event.signal();
    event.signal();
    assert_eq!(epoll.wait(None).unwrap(), 1);
    event.clear();
    assert_eq!(epoll.wait(Some(Duration::ZERO)).unwrap(), 0);
}

#[test]
fn loopback_is_an_interface() {
    assert!(interface_addresses().unwrap().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
}
