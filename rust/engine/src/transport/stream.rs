//! One stream: bytes in and out of its socket, in the clear or under TLS, and how long it may take over each step.

use super::tls::Session;
use super::{Heard, Limits, Pause, What};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Instant;
use telephony_sip::framer::FrameError;
use telephony_sip::{Flow, Frame, Framer};

/// RFC 5626 3.5.1: one CRLF answers the two of a ping.
const PONG: &[u8] = b"\r\n";
/// RFC 5626 3.5.1.
const PING: &[u8] = b"\r\n\r\n";
/// What a message that waits takes up beside its bytes.
const ENTRY: usize = size_of::<Bytes>();

/// How far a stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The peer has not accepted yet.
    Connecting,
    /// The TLS handshake goes on.
    Securing,
    /// Messages flow.
    Open,
}

/// Why a stream has to be closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gone {
    /// The peer closed it, or the network did.
    Closed,
    /// It never came about.
    Unreachable(io::ErrorKind),
    /// What came cannot be cut into messages (RFC 3261 18.3).
    Framing,
    /// One side does not trust the other, or it is not TLS.
    Tls(String),
    /// A step took too long, or the peer does not read.
    Slow,
}

impl Gone {
    /// For those whose calls end by it.
    pub(super) fn words(&self, stage: Stage) -> String {
        let plain = match (self, stage) {
            (Self::Unreachable(kind), _) => return kind.to_string(),
            (Self::Tls(why), _) => return format!("TLS: {why}"),
            (Self::Framing, _) => "what it sends is not SIP",
            (Self::Closed, Stage::Securing) => "it closed the connection instead of speaking TLS",
            (Self::Closed, _) => "it closed the connection",
            (Self::Slow, Stage::Connecting) => "it did not accept the connection in time",
            (Self::Slow, Stage::Securing) => "the TLS handshake took too long",
            (Self::Slow, Stage::Open) => "the connection stood still",
        };
        plain.to_owned()
    }
}

/// A TCP connection that carries SIP.
pub(super) struct Stream {
    socket: TcpStream,
    tls: Option<Box<Session>>,
    pub(super) flow: Flow,
    pub(super) accepted: bool,
    pub(super) stage: Stage,
    framer: Framer,
    /// Messages that the socket has not taken yet; of the first, `sent` bytes have left.
    out: VecDeque<Bytes>,
    sent: usize,
    queued: usize,
    /// When the last message of the peer came.
    heard: Option<Instant>,
    /// More than refusals has been sent this way, so that calls or registrations may depend on it.
    pub(super) engaged: bool,
    /// The peer has sent a ping.
    asked: bool,
    /// When this stage began.
    since: Instant,
    last: Instant,
    /// When the message that is not whole yet began to arrive.
    partial: Option<Instant>,
    /// Since when the socket has taken nothing of what waits.
    stuck: Option<Instant>,
    /// Since when the answer to a ping of ours is owed, and whether this peer ever gave one.
    pinged: Option<Instant>,
    pongs: bool,
    /// Since when it only stays for a last answer: what came cannot be cut into messages.
    leaving: Option<Instant>,
    /// When the stream is looked at next.
    pub(super) scheduled: Option<Instant>,
    /// Whether the socket is watched for room.
    pub(super) watched: bool,
}

impl Stream {
    pub(super) fn new(now: Instant, socket: TcpStream, tls: Option<Box<Session>>, flow: Flow) -> Self {
        Self {
            socket,
            tls,
            flow,
            accepted: false,
            stage: Stage::Connecting,
            framer: Framer::new(telephony_sip::Limits::default()),
            out: VecDeque::new(),
            sent: 0,
            queued: 0,
            heard: None,
            engaged: false,
            asked: false,
            since: now,
            last: now,
            partial: None,
            stuck: None,
            pinged: None,
            pongs: false,
            leaving: None,
            scheduled: None,
            watched: false,
        }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// The TCP connection stands: its TLS handshake begins, or messages may flow.
    pub(super) fn connected(&mut self, now: Instant) {
        self.since = now;
        self.stage = if self.tls.is_some() { Stage::Securing } else { Stage::Open };
    }

    /// Whether connecting has come to an end, and how.
    pub(super) fn finish_connect(&mut self, now: Instant) -> Result<(), Gone> {
        match self.socket.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return Err(Gone::Unreachable(error.kind())),
        }
        if self.socket.peer_addr().is_ok() {
            self.connected(now);
        }
        Ok(())
    }

    /// Something waits to be written.
    pub(super) fn wants_room(&self) -> bool {
        self.stage == Stage::Connecting
            || (self.stage == Stage::Open && !self.out.is_empty())
            || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Adds a message and sends what the socket takes of it. The peer has to read: nothing waits without bound.
    pub(super) fn send(&mut self, now: Instant, payload: Bytes, limits: &Limits) -> Result<(), Gone> {
        if self.queued.saturating_add(room(&payload)) > limits.queue {
            return Err(Gone::Slow);
        }
        if *payload == *PING {
            self.pinged.get_or_insert(now);
            self.framer.expect_pong();
        }
        self.engaged |= engages(&payload);
        self.queued += room(&payload);
        self.out.push_back(payload);
        self.flush(now)
    }

    /// Answers a ping, unless an answer waits already: who does not read gets no second one.
    pub(super) fn pong(&mut self, now: Instant, limits: &Limits) -> Result<(), Gone> {
        match self.out.back() {
            Some(last) if *last == PONG => Ok(()),
            _ => self.send(now, Bytes::from_static(PONG), limits),
        }
    }

    /// Writes until all is out or the socket is full.
    pub(super) fn flush(&mut self, now: Instant) -> Result<(), Gone> {
        if self.stage == Stage::Connecting {
            return Ok(());
        }
        let before = (self.queued, self.stuck.is_some());
        let result = match &mut self.tls {
            None => self.flush_plain(),
            Some(_) => self.flush_tls(),
        };
        match result {
            Ok(()) => {
                self.stuck = None;
                if self.leaving.is_some() && before.0 > 0 {
                    self.say_goodbye();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if self.queued < before.0 || !before.1 {
                    self.stuck = Some(now);
                }
            }
            Err(_) => return Err(Gone::Closed),
        }
        self.last = now;
        Ok(())
    }

    /// Nothing more will come from us; a TLS peer is told so (RFC 8446 6.1). Whatever the socket does not take is lost.
    pub(super) fn say_goodbye(&mut self) {
        if let Some(tls) = self.tls.as_mut().filter(|_| self.stage == Stage::Open) {
            tls.close(&mut self.socket);
        }
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    fn flush_plain(&mut self) -> io::Result<()> {
        while let Some(front) = self.out.front() {
            let rest = front.get(self.sent..).unwrap_or_default();
            match self.socket.write(rest) {
                Ok(count) if count < rest.len() => self.sent += count,
                Ok(_) => self.pop(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A message is encrypted once all before it has left, so that what waits is counted in one place.
    fn flush_tls(&mut self) -> io::Result<()> {
        loop {
            let Some(tls) = &mut self.tls else { return Ok(()) };
            tls.flush(&mut self.socket)?;
            let Some(front) = self.out.front().filter(|_| self.stage == Stage::Open) else { return Ok(()) };
            tls.encrypt(front)?;
            self.pop();
        }
    }

    fn pop(&mut self) {
        self.sent = 0;
        if let Some(done) = self.out.pop_front() {
            self.queued = self.queued.saturating_sub(room(&done));
        }
    }

    /// Reads what is there, at most a few buffers full so that others get their turn, and cuts it into messages. All
    /// pings in it are told as one.
    pub(super) fn read(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        messages: &mut VecDeque<Heard>,
    ) -> Result<(), Gone> {
        let result = self.read_turns(now, buffer, messages);
        if std::mem::take(&mut self.asked) {
            messages.push_back(Heard { flow: self.flow, what: What::Ping });
        }
        result
    }

    fn read_turns(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        messages: &mut VecDeque<Heard>,
    ) -> Result<(), Gone> {
        const TURNS: usize = 4;
        for _ in 0..TURNS {
            let result = match &mut self.tls {
                None => self.socket.read(buffer),
                Some(tls) => tls.read(&mut self.socket, buffer),
            };
            if self.stage == Stage::Securing {
                self.advance(now)?;
            }
            match result {
                Ok(0) => return Err(Gone::Closed),
                // Read all the same: closing with unread bytes would take our answer back (RFC 9293 3.10.4).
                Ok(_) if self.leaving.is_some() => {}
                Ok(count) => {
                    self.framer.push(buffer.get(..count).unwrap_or_default());
                    self.frames(now, messages)?;
                    if self.tls.is_none() && count < buffer.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    // The alert that says why.
                    let _ = self.flush(now);
                    return Err(Gone::Tls(error.to_string()));
                }
                Err(_) => return Err(Gone::Closed),
            }
        }
        Ok(())
    }

    /// The handshake may be over: what waited for it leaves.
    fn advance(&mut self, now: Instant) -> Result<(), Gone> {
        if self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking()) {
            self.since = now;
            self.stage = Stage::Open;
        }
        self.flush(now)
    }

    fn frames(&mut self, now: Instant, messages: &mut VecDeque<Heard>) -> Result<(), Gone> {
        self.last = now;
        let pinged = self.pinged.take().is_some();
        let mut whole = false;
        loop {
            match self.framer.next_frame() {
                Ok(Some(Frame::Message(message))) => {
                    (whole, self.heard) = (true, Some(now));
                    messages.push_back(Heard { flow: self.flow, what: What::Message(message) });
                }
                Ok(Some(Frame::Ping)) => self.asked = true,
                Ok(Some(Frame::Pong)) => self.pongs |= pinged,
                Ok(None) => break,
                Err(fault) => return self.give_up(now, fault, messages),
            }
        }
        self.partial = match self.framer.pending() {
            0 => None,
            _ if whole => Some(now),
            _ => self.partial.or(Some(now)),
        };
        Ok(())
    }

    /// The sender of what cannot be followed is told so, if his request was whole up to its body.
    fn give_up(
        &mut self,
        now: Instant,
        fault: FrameError,
        messages: &mut VecDeque<Heard>,
    ) -> Result<(), Gone> {
        let head = self.framer.broken_head().ok_or(Gone::Framing)?;
        self.leaving = Some(now);
        messages.push_back(Heard { flow: self.flow, what: What::Unframed(head, fault) });
        Ok(())
    }

    /// Why it is closed when its time is over.
    pub(super) fn overdue(&self) -> Gone {
        if self.leaving.is_some() { Gone::Framing } else { Gone::Slow }
    }

    /// When this stream has had its time.
    pub(super) fn deadline(&self, pause: &Pause) -> Instant {
        if let Some(since) = self.leaving {
            return since + pause.goodbye;
        }
        let open = match (self.heard, self.partial) {
            (None, _) if self.accepted => self.since + pause.first,
            (_, Some(began)) => began + pause.message,
            (Some(heard), None) if !self.engaged => heard + pause.stranger,
            _ => self.last + pause.idle,
        };
        let stage = match self.stage {
            Stage::Connecting => self.since + pause.connect,
            Stage::Securing => self.since + pause.handshake,
            Stage::Open => open,
        };
        // RFC 5626 4.4.1: a flow without an answer has failed; but many a peer never knew that it should give one.
        let pong = self.pinged.filter(|_| self.pongs).map(|pinged| pinged + pause.pong);
        let stuck = self.stuck.map(|stuck| stuck + pause.stuck);
        [pong, stuck].into_iter().flatten().fold(stage, Instant::min)
    }
}

/// Whether anything can depend on the stream that this is sent by: it is neither a line end nor a refusal.
fn engages(payload: &[u8]) -> bool {
    let status = payload.strip_prefix(b"SIP/2.0 ").and_then(<[u8]>::first);
    !payload.starts_with(PONG) && !matches!(status, Some(b'3'..=b'6'))
}

/// What a message takes up while it waits.
fn room(payload: &Bytes) -> usize {
    payload.len().saturating_add(ENTRY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Duration;
    use telephony_sip::Transport;

    const SECOND: Duration = Duration::from_secs(1);

    /// A stream and its peer's end.
    fn stream(now: Instant) -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let remote = listener.local_addr().unwrap();
        let socket = TcpStream::connect(remote).unwrap();
        socket.set_nonblocking(true).unwrap();
        let local = socket.local_addr().unwrap();
        let transport = Transport::Tcp;
        let flow = Flow { transport, local, remote, connection: None, identity: None };
        let mut stream = Stream::new(now, socket, None, flow);
        stream.connected(now);
        (stream, listener.accept().unwrap().0)
    }

    /// Reads once something is there.
    fn read(stream: &mut Stream, now: Instant) -> Result<usize, Gone> {
        let mut messages = VecDeque::new();
        while matches!(stream.socket.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        stream.read(now, &mut [0; 4096], &mut messages)?;
        Ok(messages.len())
    }

    /// RFC 5626 4.4.1.
    #[test]
    fn whoever_has_answered_a_ping_has_ten_seconds_for_the_next() {
        let now = Instant::now();
        let (mut stream, mut peer) = stream(now);
        let limits = Limits::default();
        let ping = |stream: &mut Stream, now| stream.send(now, Bytes::from_static(PING), &limits).unwrap();
        ping(&mut stream, now);
        assert_eq!(stream.deadline(&limits.pause), now + limits.pause.idle, "it may not know what a ping is");
        peer.write_all(PONG).unwrap();
        assert_eq!(read(&mut stream, now), Ok(0));
        for later in [now + SECOND * 100, now + SECOND * 200] {
            ping(&mut stream, later);
            ping(&mut stream, later + SECOND);
            assert_eq!(stream.deadline(&limits.pause), later + SECOND * 10);
            assert_eq!(stream.overdue(), Gone::Slow);
            peer.write_all(PONG).unwrap();
            assert_eq!(read(&mut stream, later), Ok(0));
            assert_eq!(stream.deadline(&limits.pause), later + limits.pause.idle);
        }
        // Any sign of life will do.
        ping(&mut stream, now + SECOND * 300);
        peer.write_all(b"X").unwrap();
        assert_eq!(read(&mut stream, now + SECOND * 300), Ok(0));
        assert_eq!(stream.deadline(&limits.pause), now + SECOND * 310, "a message has begun");
    }

    /// RFC 5626 4.4.1: many pings are one question, and who does not read is answered once.
    #[test]
    fn a_flood_of_pings_is_one_ping_and_leaves_one_pong() {
        let now = Instant::now();
        let (mut stream, mut peer) = stream(now);
        let limits = Limits::default();
        peer.write_all(&PING.repeat(500)).unwrap();
        assert_eq!(read(&mut stream, now), Ok(1));
        let full = Bytes::from(vec![b'x'; 60_000]);
        while stream.out.is_empty() {
            stream.send(now, full.clone(), &limits).unwrap();
        }
        let waiting = stream.out.len();
        (0..100).for_each(|_| stream.pong(now, &limits).unwrap());
        assert_eq!(stream.out.len(), waiting + 1);
    }

    #[test]
    fn what_waits_is_counted_with_the_room_it_takes() {
        let now = Instant::now();
        let (mut stream, _peer) = stream(now);
        stream.stage = Stage::Connecting;
        let limits = Limits { queue: 1 << 20, ..Limits::default() };
        let most = limits.queue / ENTRY;
        let taken = (0..=most).take_while(|_| stream.send(now, Bytes::from_static(b"x"), &limits).is_ok());
        assert!(taken.count() < most);
    }

    /// Neither what we refuse nor a ping lets a stranger keep one of our places.
    #[test]
    fn who_was_only_refused_goes_soon() {
        let now = Instant::now();
        let (mut stream, mut peer) = stream(now);
        stream.accepted = true;
        let limits = Limits::default();
        assert_eq!(stream.deadline(&limits.pause), now + limits.pause.first);
        peer.write_all(b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert_eq!(read(&mut stream, now), Ok(1));
        let later = now + SECOND * 50;
        stream.send(later, Bytes::from_static(b"SIP/2.0 403 Forbidden\r\n\r\n"), &limits).unwrap();
        peer.write_all(PING).unwrap();
        assert_eq!(read(&mut stream, later), Ok(1));
        stream.pong(later, &limits).unwrap();
        assert_eq!((stream.deadline(&limits.pause), stream.engaged), (now + limits.pause.stranger, false));
        stream.send(later, Bytes::from_static(b"SIP/2.0 200 OK\r\n\r\n"), &limits).unwrap();
        assert_eq!((stream.deadline(&limits.pause), stream.engaged), (later + limits.pause.idle, true));
    }

    #[test]
    fn a_stream_that_cannot_be_followed_stays_for_one_answer() {
        let now = Instant::now();
        let (mut stream, mut peer) = stream(now);
        peer.write_all(b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: x\r\n\r\nwhatever").unwrap();
        let limits = Limits::default();
        assert_eq!(read(&mut stream, now), Ok(1));
        assert_eq!((stream.deadline(&limits.pause), stream.overdue()), (now + SECOND, Gone::Framing));
        peer.write_all(b"more").unwrap();
        assert_eq!(read(&mut stream, now), Ok(0));
        stream.send(now, Bytes::from_static(b"SIP/2.0 400"), &limits).unwrap();
        let mut heard = String::new();
        peer.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "SIP/2.0 400", "and the end of the stream");
    }
}
