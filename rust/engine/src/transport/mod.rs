//! SIP over TCP and TLS: listeners and streams in the SIP thread's own epoll set (RFC 3261 18).
//!
//! Nothing here waits for a peer. Tell it what is ready, what to send and that time has passed, then drain the
//! messages that came and the flows that failed. Streams are used again by transport, addresses and the name that a
//! TLS peer had to prove, so that nothing goes to a stranger (RFC 5922 5).

mod listener;
mod local;
mod stream;
pub(crate) mod tls;
mod way;

use crate::socket::{Ready, Watch, Watched};
use crate::stats::{Counter, Gauge};
use bytes::Bytes;
pub(crate) use listener::{Listener, listen};
pub(crate) use local::{Address, Addresses};
use socket2::{Domain, Protocol, SockAddr, TcpKeepalive, Type};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stream::{Gone, Stage, Stream};
use telephony_sip::framer::FrameError;
use telephony_sip::{Connection, Flow, Identity, Transport};
pub(crate) use way::domain;

/// Tokens of the epoll set: listeners, then streams by their number.
pub(crate) const LISTENERS: u64 = 1 << 8;
const STREAMS: u64 = 1 << 16;
/// Bytes read at a time.
const BUFFER: usize = 65_536;
/// Connections taken from one listener before others get their turn.
const ACCEPTS: usize = 16;
/// How long to leave a listener alone when the process has no descriptor left.
const REST: Duration = Duration::from_millis(100);
/// Characters of the reason why a stream is gone.
const MAX_WORDS: usize = 240;
/// The longest that a stream is not looked at: bounds how many outdated entries the timer queue holds.
const LOOK: Duration = Duration::from_secs(60);
/// How long what was sent may stay without a sign that it arrived: a path that died in silence breaks then.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// Silence after which the kernel asks whether the peer is still there.
const PROBE: Duration = Duration::from_secs(120);

/// How many streams there may be, and what each may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Streams at a time.
    pub total: usize,
    /// Accepted streams of one address at a time.
    pub per_source: usize,
    /// Bytes that may wait for a peer to read them.
    pub queue: usize,
    /// How long each step may take.
    pub pause: Pause,
}

/// How long a stream may take over each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// Until a peer accepts.
    pub connect: Duration,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// From being accepted to the first whole message.
    pub first: Duration,
    /// From the first byte of a message to its last.
    pub message: Duration,
    /// From the last message of a peer to whom nothing was sent but refusals.
    pub stranger: Duration,
    /// Without anything to read or write. Calls last, and a peer behind NAT has no other way, so this is long.
    pub idle: Duration,
    /// While the peer takes nothing of what waits for it.
    pub stuck: Duration,
    /// Between a ping and its answer, once a peer has shown that it gives one (RFC 5626 4.4.1).
    pub pong: Duration,
    /// For reading our last answer.
    pub goodbye: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let pause = Pause {
            connect: Duration::from_secs(3),
            handshake: Duration::from_secs(5),
            first: Duration::from_secs(15),
            message: Duration::from_secs(10),
            stranger: Duration::from_secs(60),
            idle: Duration::from_secs(3600),
            stuck: Duration::from_secs(10),
            pong: Duration::from_secs(10),
            goodbye: Duration::from_secs(1),
        };
        Self { total: 8192, per_source: 512, queue: 1 << 20, pause }
    }
}

/// Counters of all streams.
#[derive(Debug, Default)]
pub(crate) struct StreamStats {
    pub(crate) open: Gauge,
    pub(crate) accepted: Counter,
    pub(crate) connected: Counter,
    /// Turned away because there are too many.
    pub(crate) refused: Counter,
    pub(crate) failed: Counter,
    pub(crate) framing: Counter,
    pub(crate) tls: Counter,
    pub(crate) slow: Counter,
}

/// What a stream can be used again by: transport, our address, the peer's, and whom it proved to be.
type Key = (Transport, IpAddr, SocketAddr, Option<Identity>);

/// What a stream brought, and which.
pub(crate) struct Heard {
    pub(crate) flow: Flow,
    pub(crate) what: What,
}

/// What a stream can bring.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A whole message.
    Message(Bytes),
    /// A header section alone, whose body cannot be told from what follows: the stream closes behind the answer.
    Unframed(Bytes, FrameError),
    /// One ping or more, which one pong answers (RFC 5626 4.4.1).
    Ping,
}

/// Who connects to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guest {
    /// A peer of a trunk, or one that we call.
    Known,
    /// Anybody else.
    Stranger,
    /// The same, and too often.
    Unwelcome,
}

/// A flow that leads nowhere, and why.
pub(crate) struct Broken {
    /// Without a connection if the peer cannot be reached at all, with one if only that broke.
    pub(crate) flow: Flow,
    pub(crate) why: String,
}

impl Broken {
    fn new(flow: Flow, why: &str) -> Self {
        // A certificate may name many hosts.
        let why = why.chars().take(MAX_WORDS).collect::<String>();
        Self { flow, why: format!("no way to {}: {why}", flow.remote) }
    }
}

/// All listeners and streams.
pub(crate) struct Streams {
    limits: Limits,
    tls: Arc<tls::Store>,
    listeners: Vec<Listener>,
    all: HashMap<Connection, Stream>,
    index: HashMap<Key, Connection>,
    sources: HashMap<IpAddr, usize>,
    timers: BinaryHeap<Reverse<(Instant, Connection)>>,
    last: u64,
    buffer: Vec<u8>,
    messages: VecDeque<Heard>,
    failures: VecDeque<Broken>,
    stats: Arc<StreamStats>,
}

impl Streams {
    /// Watches the listeners.
    pub(crate) fn new(
        watch: &Watch,
        listeners: Vec<Listener>,
        limits: Limits,
        tls: Arc<tls::Store>,
        stats: Arc<StreamStats>,
    ) -> io::Result<Self> {
        for (token, listener) in (LISTENERS..).zip(&listeners) {
            watch.add(listener.fd(), token)?;
        }
        Ok(Self {
            limits,
            tls,
            listeners,
            all: HashMap::new(),
            index: HashMap::new(),
            sources: HashMap::new(),
            timers: BinaryHeap::new(),
            last: STREAMS,
            buffer: Vec::new(),
            messages: VecDeque::new(),
            failures: VecDeque::new(),
            stats,
        })
    }

    /// The next message that a stream brought.
    pub(crate) fn poll_message(&mut self) -> Option<Heard> {
        self.messages.pop_front()
    }

    /// The next flow that leads nowhere.
    pub(crate) fn poll_failure(&mut self) -> Option<Broken> {
        self.failures.pop_front()
    }

    /// When to call [`Self::handle_timeout`] next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let rest = self.listeners.iter().filter_map(|listener| listener.resting).min();
        let next = self.timers.peek().map(|Reverse((at, _))| *at);
        rest.into_iter().chain(next).min()
    }

    /// A listener or stream of this set is ready; who connects is judged by his address before anything else is done.
    pub(crate) fn ready(
        &mut self,
        watch: &Watch,
        now: Instant,
        ready: Ready,
        judge: impl FnMut(IpAddr) -> Guest,
    ) {
        match ready.token {
            token @ STREAMS.. => self.stream_ready(watch, now, Connection(token), ready),
            token => {
                let index = usize::try_from(token.saturating_sub(LISTENERS)).unwrap_or(usize::MAX);
                self.accept(watch, now, index, judge);
            }
        }
    }

    fn stream_ready(&mut self, watch: &Watch, now: Instant, id: Connection, ready: Ready) {
        if self.buffer.is_empty() {
            self.buffer.resize(BUFFER, 0);
        }
        let Some(stream) = self.all.get_mut(&id) else { return };
        let result = match stream.stage {
            Stage::Connecting => stream.finish_connect(now).and_then(|()| stream.flush(now)),
            _ if ready.writable => stream.flush(now),
            _ => Ok(()),
        };
        let result = result.and_then(|()| match stream.stage {
            Stage::Connecting => Ok(()),
            _ if !ready.readable => Ok(()),
            _ => stream.read(now, &mut self.buffer, &mut self.messages),
        });
        self.settle(watch, now, id, result);
    }

    /// After each step: close what is to be closed, watch for room where something waits, keep time.
    fn settle(&mut self, watch: &Watch, now: Instant, id: Connection, result: Result<(), Gone>) {
        let Some(stream) = self.all.get_mut(&id) else { return };
        let watched = stream.wants_room();
        let result = result.and_then(|()| {
            if watched == std::mem::replace(&mut stream.watched, watched) {
                return Ok(());
            }
            let what = if watched { Watched::Both } else { Watched::Input };
            watch.watch(stream.fd(), id.0, what, false).map_err(|_| Gone::Closed)
        });
        match result {
            Ok(()) => self.schedule(now, id),
            Err(gone) => self.close(id, gone),
        }
    }

    fn schedule(&mut self, now: Instant, id: Connection) {
        let Some(stream) = self.all.get_mut(&id) else { return };
        let at = stream.deadline(&self.limits.pause).min(now + LOOK);
        if stream.scheduled.is_none_or(|earlier| at < earlier) {
            stream.scheduled = Some(at);
            self.timers.push(Reverse((at, id)));
        }
    }

    /// Time has passed: closes what took too long, listens again where that rested.
    pub(crate) fn handle_timeout(&mut self, watch: &Watch, now: Instant) {
        while let Some(Reverse((at, id))) = self.timers.peek().copied().filter(|Reverse((at, _))| *at <= now)
        {
            self.timers.pop();
            let Some(stream) = self.all.get_mut(&id).filter(|stream| stream.scheduled == Some(at)) else {
                continue;
            };
            stream.scheduled = None;
            let overdue = stream.overdue();
            match stream.deadline(&self.limits.pause) <= now {
                true => self.close(id, overdue),
                false => self.schedule(now, id),
            }
        }
        for (token, listener) in (LISTENERS..).zip(&mut self.listeners) {
            listener.wake(watch, now, token);
        }
    }

    fn accept(&mut self, watch: &Watch, now: Instant, index: usize, mut judge: impl FnMut(IpAddr) -> Guest) {
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listeners.get_mut(index) else { return };
            let transport = listener.transport;
            match listener.accept() {
                Ok(Some((socket, flow))) => {
                    if self.has_room(&flow, judge(flow.remote.ip())) {
                        self.take(watch, now, socket, flow, transport);
                    } else {
                        self.stats.refused.add(1);
                    }
                }
                Ok(None) => return,
                Err(_) => return listener.rest(watch, LISTENERS + index as u64, now + REST),
            }
        }
    }

    /// Whoever connects to us leaves some room for those that we connect to, and strangers leave some for our peers.
    fn has_room(&self, flow: &Flow, guest: Guest) -> bool {
        let here = self.sources.get(&network(flow.remote.ip())).copied().unwrap_or_default();
        let total = self.limits.total;
        let most = match guest {
            Guest::Known => total - total / 8,
            Guest::Stranger => total - total / 4,
            Guest::Unwelcome => 0,
        };
        self.all.len() < most && here < self.limits.per_source
    }

    fn take(&mut self, watch: &Watch, now: Instant, socket: TcpStream, flow: Flow, transport: Transport) {
        let session = match transport {
            Transport::Tls => match self.tls.accept() {
                Some(session) => Some(session),
                None => return self.stats.refused.add(1),
            },
            _ => None,
        };
        let mut stream = Stream::new(now, socket, session, flow);
        stream.accepted = true;
        stream.connected(now);
        *self.sources.entry(network(flow.remote.ip())).or_default() += 1;
        self.stats.accepted.add(1);
        self.file(watch, now, stream, Watched::Input);
    }

    /// Files a new stream under a number of its own.
    fn file(&mut self, watch: &Watch, now: Instant, mut stream: Stream, watched: Watched) -> Connection {
        self.last += 1;
        let id = Connection(self.last);
        stream.flow.connection = Some(id);
        stream.watched = watched == Watched::Both;
        let added = watch.watch(stream.fd(), id.0, watched, true).map_err(|_| Gone::Closed);
        self.index.insert(key(&stream.flow), id);
        self.all.insert(id, stream);
        self.stats.open.set(self.all.len());
        self.settle(watch, now, id, added);
        id
    }

    /// Sends a message: over the stream it names while that lives, over another one to the same peer, or over a new
    /// one (RFC 3261 18.1.1, 18.2.2). Over which, and whether that was open already.
    pub(crate) fn send(
        &mut self,
        watch: &Watch,
        now: Instant,
        flow: Flow,
        payload: Bytes,
    ) -> Option<(Connection, bool)> {
        let named = flow.connection.filter(|id| self.all.contains_key(id));
        let id = match named.or_else(|| self.index.get(&key(&flow)).copied()) {
            Some(id) => id,
            None => match self.connect(watch, now, flow) {
                Ok(id) => id,
                Err(error) => {
                    self.stats.failed.add(1);
                    let flow = Flow { connection: None, ..flow };
                    self.failures.push_back(Broken::new(flow, &error.to_string()));
                    return None;
                }
            },
        };
        let stream = self.all.get_mut(&id)?;
        let reused = stream.stage == Stage::Open;
        let result = stream.send(now, payload, &self.limits);
        self.settle(watch, now, id, result);
        Some((id, reused))
    }

    /// Answers a ping over the stream that brought it, while that lives.
    pub(crate) fn pong(&mut self, watch: &Watch, now: Instant, flow: Flow) {
        let Some(id) = flow.connection else { return };
        let Some(stream) = self.all.get_mut(&id) else { return };
        let result = stream.pong(now, &self.limits);
        self.settle(watch, now, id, result);
    }

    fn connect(&mut self, watch: &Watch, now: Instant, flow: Flow) -> io::Result<Connection> {
        if self.all.len() >= self.limits.total {
            return Err(io::Error::other("too many streams"));
        }
        let session = match flow.transport {
            Transport::Tls => Some(self.tls.connect(flow.identity, flow.remote.ip())?),
            _ => None,
        };
        let socket =
            socket2::Socket::new(Domain::for_address(flow.remote), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        if !flow.local.ip().is_unspecified() {
            socket.bind(&SockAddr::from(SocketAddr::new(flow.local.ip(), 0)))?;
        }
        prepare(&socket)?;
        match socket.connect(&SockAddr::from(flow.remote)) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let stream = Stream::new(now, socket.into(), session, flow);
        self.stats.connected.add(1);
        Ok(self.file(watch, now, stream, Watched::Both))
    }

    /// The engine stops: every peer is told that nothing follows.
    pub(crate) fn leave(&mut self) {
        self.all.values_mut().for_each(Stream::say_goodbye);
    }

    fn close(&mut self, id: Connection, gone: Gone) {
        let Some(mut stream) = self.all.remove(&id) else { return };
        stream.say_goodbye();
        let place = key(&stream.flow);
        if self.index.get(&place) == Some(&id) {
            self.index.remove(&place);
        }
        let from = network(stream.flow.remote.ip());
        if stream.accepted
            && let Some(count) = self.sources.get_mut(&from)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.sources.remove(&from);
            }
        }
        self.stats.open.set(self.all.len());
        match gone {
            Gone::Closed if stream.stage == Stage::Open => {}
            Gone::Closed | Gone::Unreachable(_) => self.stats.failed.add(1),
            Gone::Framing => self.stats.framing.add(1),
            Gone::Tls(_) => self.stats.tls.add(1),
            Gone::Slow => self.stats.slow.add(1),
        }
        // Nothing depends on it, nor will by what it brought last: nobody is told.
        let unread = self.messages.iter().any(|heard| heard.flow.connection == Some(id));
        if !stream.engaged && !unread {
            return;
        }
        // Of one that never opened, nobody knows the number.
        let connection = stream.flow.connection.filter(|_| stream.stage == Stage::Open);
        let flow = Flow { connection, ..stream.flow };
        self.failures.push_back(Broken::new(flow, &gone.words(stream.stage)));
    }
}

/// A source as its streams are counted: whoever has one IPv6 address has all of its /64.
fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn key(flow: &Flow) -> Key {
    (flow.transport, flow.local.ip(), flow.remote, flow.identity)
}

/// Messages leave at once, and peers that are gone are noticed.
fn prepare(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PROBE))
}

/// Whether a descriptor is one of this room's.
pub(crate) fn owns(token: u64) -> bool {
    token >= LISTENERS
}
