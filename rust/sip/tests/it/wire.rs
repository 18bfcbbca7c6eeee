//! A virtual wire in virtual time: two endpoints with loss and delay between them, or one endpoint against a script.

use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use telephony_sip::{
    Body, Config, Dial, Ended, Endpoint, Event, Flow, LegId, Limits, Message, Method, Name, Profile, Said,
    Stats,
};

pub(crate) const LONG: Duration = Duration::from_secs(600);

#[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
pub(crate) fn origin() -> Instant {
    Instant::now()
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn endpoint(seed: u8) -> Endpoint {
    endpoint_with(Config::default(), seed)
}

pub(crate) fn endpoint_with(config: Config, seed: u8) -> Endpoint {
    let legs = AtomicU64::new(1_000_000);
    let next_leg = move || LegId(legs.fetch_add(1, Ordering::Relaxed));
    Endpoint::new(config, [seed; 32], Box::new(next_leg))
}

pub(crate) fn sdp(text: &str) -> Option<Body> {
    Some(Body { content_type: "application/sdp".to_owned(), bytes: Bytes::from(text.to_owned()) })
}

pub(crate) fn dial(flow: Flow) -> Dial {
    Dial {
        flow,
        contact: flow.local.to_string(),
        others: Vec::new(),
        elsewhere: false,
        request_uri: format!("sip:bob@{}", flow.remote),
        from: "\"Alice\" <sip:alice@example.com>".to_owned(),
        to: "<sip:bob@example.com>".to_owned(),
        headers: Vec::new(),
        body: sdp("v=0 offer"),
        timeout: Duration::from_secs(120),
        profile: Arc::default(),
    }
}

/// What is alive in an endpoint.
pub(crate) fn alive(stats: &Stats) -> (usize, usize, usize, usize, usize) {
    (stats.client_transactions, stats.server_transactions, stats.dialogs, stats.legs, stats.timers)
}

pub(crate) const NOTHING: (usize, usize, usize, usize, usize) = (0, 0, 0, 0, 0);

pub(crate) fn ended(events: &[Event], leg: LegId) -> Vec<Ended> {
    let of_leg = |event: &Event| match event {
        Event::Ended { leg: of, ended } if *of == leg => Some(ended.clone()),
        _ => None,
    };
    events.iter().filter_map(of_leg).collect()
}

/// What a leg's last message said beside its status.
pub(crate) fn said(events: &[Event], leg: LegId) -> Option<Said> {
    let of_leg = |event: &Event| match event {
        Event::Said { leg: of, said } if *of == leg => Some((**said).clone()),
        _ => None,
    };
    events.iter().find_map(of_leg)
}

/// Every leg seen has ended exactly once, and nothing followed.
pub(crate) fn assert_each_ended_once(events: &[Event]) {
    let mut over = std::collections::HashSet::new();
    let mut seen = std::collections::HashSet::new();
    for event in events {
        assert!(!over.contains(&event.leg()), "after its end: {event:?}");
        seen.insert(event.leg());
        if let Event::Ended { leg, .. } = event {
            over.insert(*leg);
        }
    }
    assert_eq!(seen, over, "legs that never ended");
}

/// One end of a [`Wire`].
pub(crate) struct Peer {
    pub(crate) endpoint: Endpoint,
    pub(crate) address: SocketAddr,
    pub(crate) events: Vec<Event>,
    taken: usize,
}

impl Peer {
    /// Events since the last call.
    pub(crate) fn news(&mut self) -> Vec<Event> {
        let news = self.events[self.taken..].to_vec();
        self.taken = self.events.len();
        news
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    arrival: std::cmp::Reverse<Instant>,
    order: std::cmp::Reverse<u64>,
    to: usize,
    payload: Bytes,
}

/// Two endpoints and what lies between them.
pub(crate) struct Wire {
    pub(crate) now: Instant,
    pub(crate) profile: Arc<Profile>,
    pub(crate) peers: [Peer; 2],
    /// Of 1,000 messages so many get lost.
    pub(crate) loss: u64,
    /// Of 1,000 messages so many arrive twice.
    pub(crate) doubled: u64,
    /// Extra delay drawn for each message, so that they overtake each other.
    pub(crate) jitter: Duration,
    /// First lines of what was sent, with the sender.
    pub(crate) log: Vec<(usize, String)>,
    flying: BinaryHeap<Flying>,
    rng: ChaCha8Rng,
    order: u64,
}

pub(crate) const DELAY: Duration = Duration::from_millis(5);

impl Wire {
    pub(crate) fn new(seed: u8) -> Self {
        let peer = |seed, at: &str| Peer {
            endpoint: endpoint(seed),
            address: address(at),
            events: Vec::new(),
            taken: 0,
        };
        Self {
            now: origin(),
            profile: Arc::default(),
            peers: [peer(seed, "192.0.2.1:5060"), peer(seed.wrapping_add(100), "192.0.2.2:5060")],
            loss: 0,
            doubled: 0,
            jitter: Duration::ZERO,
            log: Vec::new(),
            flying: BinaryHeap::new(),
            rng: ChaCha8Rng::from_seed([seed; 32]),
            order: 0,
        }
    }

    pub(crate) fn flow(&self, from: usize) -> Flow {
        Flow::udp(self.peers[from].address, self.peers[1 - from].address)
    }

    pub(crate) fn dial(&mut self, from: usize, leg: u64) -> LegId {
        let (leg, profile) = (LegId(leg), Arc::clone(&self.profile));
        let dial = Dial { profile, ..dial(self.flow(from)) };
        self.peers[from].endpoint.dial(self.now, leg, dial).unwrap();
        leg
    }

    /// Moves messages and time until `until` after now, collecting events.
    pub(crate) fn run(&mut self, until: Duration) {
        let end = self.now + until;
        loop {
            self.pump();
            let Some(next) = self.next().filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            self.deliver();
            for peer in &mut self.peers {
                if peer.endpoint.poll_timeout().is_some_and(|at| at <= self.now) {
                    peer.endpoint.handle_timeout(self.now);
                }
            }
        }
        self.now = end;
    }

    /// Sends what is to be sent and collects events.
    pub(crate) fn pump(&mut self) {
        for from in 0..2 {
            while let Some(transmit) = self.peers[from].endpoint.poll_transmit() {
                self.send(from, transmit.flow.remote, transmit.payload);
            }
            while let Some(event) = self.peers[from].endpoint.poll_event() {
                self.peers[from].events.push(event);
            }
        }
    }

    fn send(&mut self, from: usize, remote: SocketAddr, payload: Bytes) {
        let line = String::from_utf8_lossy(&payload).lines().next().unwrap_or_default().to_owned();
        self.log.push((from, line));
        assert_eq!(remote, self.peers[1 - from].address, "sent to nobody");
        if self.chance(self.loss) {
            return;
        }
        for _ in 0..1 + u64::from(self.chance(self.doubled)) {
            let share = u32::try_from(self.rng.next_u64() % 1000).unwrap();
            let arrival = std::cmp::Reverse(self.now + DELAY + self.jitter * share / 1000);
            self.order += 1;
            let order = std::cmp::Reverse(self.order);
            self.flying.push(Flying { arrival, order, to: 1 - from, payload: payload.clone() });
        }
    }

    fn chance(&mut self, of_thousand: u64) -> bool {
        self.rng.next_u64() % 1000 < of_thousand
    }

    fn next(&self) -> Option<Instant> {
        let arrival = self.flying.peek().map(|flying| flying.arrival.0);
        let timers = self.peers.iter().filter_map(|peer| peer.endpoint.poll_timeout());
        timers.chain(arrival).min()
    }

    fn deliver(&mut self) {
        while self.flying.peek().is_some_and(|flying| flying.arrival.0 <= self.now) {
            let Flying { to, payload, .. } = self.flying.pop().unwrap();
            let flow = self.flow(to);
            self.peers[to].endpoint.handle_message(self.now, payload, flow, &self.profile);
        }
    }

    /// Both sides have forgotten everything.
    pub(crate) fn assert_empty(&self) {
        for peer in &self.peers {
            assert_eq!(alive(&peer.endpoint.stats()), NOTHING, "something is left");
        }
    }

    /// First lines sent by one side that start with `prefix`.
    pub(crate) fn count(&self, from: usize, prefix: &str) -> usize {
        self.log.iter().filter(|(sender, line)| *sender == from && line.starts_with(prefix)).count()
    }
}

/// One endpoint against a script.
pub(crate) struct Solo {
    pub(crate) endpoint: Endpoint,
    pub(crate) now: Instant,
    pub(crate) flow: Flow,
    pub(crate) profile: Arc<Profile>,
    start: Instant,
}

impl Solo {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        let flow = Flow::udp(address("192.0.2.1:5060"), address("192.0.2.9:5060"));
        let now = origin();
        Self { endpoint: endpoint_with(config, 7), now, flow, profile: Arc::default(), start: now }
    }

    pub(crate) fn dial(&mut self, leg: u64) -> LegId {
        let leg = LegId(leg);
        let dial = Dial { profile: Arc::clone(&self.profile), ..dial(self.flow) };
        self.endpoint.dial(self.now, leg, dial).unwrap();
        leg
    }

    /// A peer of this profile.
    pub(crate) fn of(profile: Profile) -> Self {
        Self { profile: Arc::new(profile), ..Self::new() }
    }

    /// A datagram; lines may end in LF.
    pub(crate) fn receive(&mut self, text: &str) {
        let bytes = Bytes::from(text.replace("\r\n", "\n").replace('\n', "\r\n"));
        self.endpoint.handle_message(self.now, bytes, self.flow, &self.profile);
    }

    /// ICMP that quotes the beginning of a datagram.
    pub(crate) fn icmp(&mut self, quote: &str) {
        self.endpoint.handle_undelivered(self.now, quote.as_bytes(), "ICMP");
    }

    /// What was sent since. Everything must be sound, but for the answer to a broken request, which repeats what
    /// could be read of it (RFC 4475 3.3.1).
    pub(crate) fn sent(&mut self) -> Vec<Message> {
        let mut sent = Vec::new();
        while let Some(transmit) = self.endpoint.poll_transmit() {
            let payload = transmit.payload;
            if &payload[..] == b"\r\n\r\n" {
                continue;
            }
            let complaint = [400, 414, 505, 513].map(|status| format!("SIP/2.0 {status} "));
            match Message::parse(payload.clone(), &Limits::default()) {
                Ok(message) => sent.push(message),
                Err(_) if complaint.iter().any(|start| payload.starts_with(start.as_bytes())) => {}
                Err(error) => panic!("{error}: {}", String::from_utf8_lossy(&payload)),
            }
        }
        sent
    }

    /// The only message sent since.
    pub(crate) fn sent_one(&mut self) -> Message {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{:?}", sent.iter().map(first_line).collect::<Vec<_>>());
        sent.remove(0)
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.endpoint.poll_event()).collect()
    }

    pub(crate) fn ended(&mut self) -> Ended {
        match self.events().pop() {
            Some(Event::Ended { ended, .. }) => ended,
            other => panic!("{other:?} is no end"),
        }
    }

    /// Moves time on and gives what was sent, with the seconds since the start.
    pub(crate) fn advance(&mut self, by: Duration) -> Vec<(f64, String)> {
        let end = self.now + by;
        let mut sent = Vec::new();
        while let Some(next) = self.endpoint.poll_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.endpoint.handle_timeout(self.now);
            let at = (self.now - self.start).as_secs_f64();
            sent.extend(self.sent().iter().map(|message| (at, first_line(message))));
        }
        self.now = end;
        sent
    }

    pub(crate) fn alive(&self) -> (usize, usize, usize, usize, usize) {
        alive(&self.endpoint.stats())
    }

    /// An INVITE to us has been received; gives its leg.
    pub(crate) fn incoming(&mut self, invite: &str) -> LegId {
        self.receive(invite);
        match self.events().pop() {
            Some(Event::Incoming { leg, .. }) => leg,
            other => panic!("{other:?} instead of a call"),
        }
    }
}

/// `INVITE` of a request, `180` of a response.
/// The beginning of a message, as ICMP quotes it.
pub(crate) fn quote(message: &Message) -> String {
    let start = match message.status() {
        Some(status) => format!("SIP/2.0 {} x", status.0),
        None => format!("{} {} SIP/2.0", message.method_str(), message.request_uri().unwrap()),
    };
    format!("{start}\r\nVia: {}\r\n", message.header(telephony_sip::Name::Via).unwrap())
}

pub(crate) fn first_line(message: &Message) -> String {
    match message.status() {
        Some(status) => status.0.to_string(),
        None => message.method_str().to_owned(),
    }
}

/// A request to the endpoint of a [`Solo`].
pub(crate) fn request(method: &str, branch: &str, cseq: u32, to_tag: &str, extra: &str) -> String {
    let (extra, body) = extra.split_once("\n\n").unwrap_or((extra, ""));
    let extra = if extra.is_empty() { String::new() } else { format!("{}\n", extra.trim_end()) };
    let to_tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
    format!(
        "{method} sip:gateway@192.0.2.1 SIP/2.0\n\
         Via: SIP/2.0/UDP 192.0.2.9:5060;rport;branch=z9hG4bK{branch}\n\
         Max-Forwards: 70\n\
         From: <sip:peer@example.org>;tag=peer\n\
         To: <sip:gateway@example.org>{to_tag}\n\
         Call-ID: solo@example.org\n\
         CSeq: {cseq} {method}\n\
         Contact: <sip:peer@192.0.2.9:5060>\n\
         {extra}Content-Length: {}\n\n{body}",
        body.len()
    )
}

pub(crate) fn invite(branch: &str) -> String {
    request("INVITE", branch, 1, "", "Content-Type: application/sdp\n\nv=0 offer")
}

/// A response to a request of the endpoint; `to_tag` is added unless To has one.
pub(crate) fn response(request: &Message, status: u16, to_tag: &str, extra: &str) -> String {
    let value = |name| request.header(name).unwrap_or_default();
    let tag = if to_tag.is_empty() || request.to_tag().is_some() {
        String::new()
    } else {
        format!(";tag={to_tag}")
    };
    let extra = if extra.is_empty() { String::new() } else { format!("{}\n", extra.trim_end()) };
    format!(
        "SIP/2.0 {status} Phrase\nVia: {}\nFrom: {}\nTo: {}{tag}\nCall-ID: {}\nCSeq: {}\n{extra}Content-Length: 0\n\n",
        value(Name::Via),
        value(Name::From),
        value(Name::To),
        value(Name::CallId),
        value(Name::Cseq),
    )
}

/// The same with a description.
pub(crate) fn described(request: &Message, status: u16, to_tag: &str, extra: &str, body: &str) -> String {
    let framed = format!("Content-Type: application/sdp\nContent-Length: {}\n\n{body}", body.len());
    response(request, status, to_tag, extra).replace("Content-Length: 0\n\n", &framed)
}

/// A request of the peer in the dialog that a request of ours belongs to.
pub(crate) fn theirs(method: &str, branch: &str, cseq: u32, ours: &Message, extra: &str) -> String {
    let peer = ours.to_tag().unwrap_or("bob");
    request(method, branch, cseq, ours.from_tag().unwrap(), extra)
        .replace("tag=peer", &format!("tag={peer}"))
        .replace("solo@example.org", ours.call_id())
}

pub(crate) const CONTACT: &str = "Contact: <sip:bob@192.0.2.9:5060>";

/// The To tag a response of the endpoint carries.
pub(crate) fn tag_of(response: &Message) -> String {
    response.to_tag().unwrap_or_default().to_owned()
}

pub(crate) fn methods(messages: &[Message]) -> Vec<String> {
    messages.iter().map(first_line).collect()
}

pub(crate) fn is(message: &Message, method: Method) -> bool {
    message.method() == Some(method)
}

/// A call to us, answered and acknowledged; gives its leg and our tag.
pub(crate) fn called(solo: &mut Solo) -> (LegId, String) {
    called_by(solo, &invite("a"))
}

pub(crate) fn called_by(solo: &mut Solo, invite: &str) -> (LegId, String) {
    let leg = solo.incoming(invite);
    solo.endpoint.answer(solo.now, leg, sdp("v=0 answer")).unwrap();
    let tag = tag_of(&solo.sent()[1]);
    solo.receive(&request("ACK", "ack", 1, &tag, ""));
    assert!(matches!(solo.events()[..], [Event::Confirmed { .. }]));
    (leg, tag)
}

/// A call of ours, answered with `extra`; gives its leg, the INVITE and the ACK.
pub(crate) fn calling(solo: &mut Solo, extra: &str) -> (LegId, Message, Message) {
    let leg = solo.dial(1);
    let invite = solo.sent_one();
    solo.receive(&response(&invite, 200, "bob", extra));
    assert!(matches!(solo.events()[..], [Event::Answered { .. }]));
    let ack = solo.sent_one();
    (leg, invite, ack)
}
