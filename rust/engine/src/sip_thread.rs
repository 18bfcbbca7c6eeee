//! The SIP thread: moves messages between sockets and the endpoint, and keeps the table of SIP legs.
//!
//! Retransmissions, 100 Trying, OPTIONS and refusals need no one else; a leg's media is done at its worker's
//! desk or asked for by mail, names of the resolver, decisions of Python through the event queue. Nothing here blocks but `epoll_wait`.

mod commands;
mod desk;
mod events;
mod forward;
mod leg;
mod link;
mod locate;
mod media;
mod offer;
mod probing;
mod refusal;
mod registrations;
mod renew;
mod transfer;
mod wire;

use crate::command::Dial;
use crate::config::Public;
use crate::dial_plan::DialPlan;
use crate::event::{Cause, Done, Ended, Event, Outcome, Side};
use crate::guard::guard;
use crate::health::Health;
use crate::ladder::Ladder;
use crate::leg::Allocator;
use crate::message::{Purpose, ToSip};
use crate::queue::{Mailbox, Outbox};
use crate::resolve::Resolver;
use crate::shield::{Lateness, Shield, Verdict};
use crate::socket::{Epoll, ReceiveBatch, SendBatch, Watch};
use crate::stats::{Publisher, SipStats};
use crate::transport::tls::Store;
use crate::transport::{Addresses, Streams};
use crate::trunk::Trunks;
use crate::worker::{Colleague, Desk};
use crate::{EngineError, LegId};
use bytes::Bytes;
pub(crate) use desk::SipDesk;
use desk::Visitor;
use leg::Leg;
pub(crate) use probing::ProbedTrunk;
use probing::Prober;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};
use telephony_sip::{Endpoint, Flow, Ground, Profile, Refused, Stranger, Transmit};

const MAIL: u64 = 0;
const SOCKETS: u64 = 1;
/// Descriptors looked at in one round.
const ROUND: usize = 64;
/// Datagrams per receive, and receives per look at the mail.
const BATCH: usize = 32;
const BATCHES: usize = 4;
/// The largest UDP datagram.
const DATAGRAM: usize = 65_535;
/// Messages read between two looks at the socket.
const MAIL_BATCH: usize = 64;
/// How soon to try again when a queue to another thread was full.
const RETRY: Duration = Duration::from_millis(10);
/// Silence on the wire after which a stopping engine takes its BYEs and CANCELs for answered: a lost one is sent again
/// after T1, 500 ms, and dialogs stay for Timer K, 5 s, after the answer (RFC 3261 17.1.2.2), so they do not tell.
const SILENCE: Duration = Duration::from_millis(600);
/// Seconds after which a refused caller may try again (RFC 3261 20.33), drawn at random so that they do not all
/// come back at once: soon when the load will pass, later when this node drains.
const RETRY_OVERLOAD: RangeInclusive<u32> = 2..=10;
const RETRY_DRAIN: RangeInclusive<u32> = 10..=60;

/// What the SIP thread is made of; built outside it, so that faults show at the start.
pub(crate) struct Parts {
    pub(crate) addresses: Addresses,
    pub(crate) streams: Streams,
    pub(crate) tls: Arc<Store>,
    pub(crate) endpoint: Endpoint,
    pub(crate) mailbox: Arc<Mailbox<ToSip>>,
    pub(crate) workers: Vec<Arc<Desk>>,
    pub(crate) events: Arc<Mailbox<Event>>,
    pub(crate) resolver: Resolver,
    pub(crate) public: Option<Public>,
    pub(crate) stats: Arc<SipStats>,
    pub(crate) ladder: Arc<Ladder>,
    pub(crate) trunks: Trunks,
    pub(crate) allocator: Arc<Allocator>,
    pub(crate) watch: Watch,
}

impl Parts {
    /// The epoll set of the thread.
    pub(crate) fn epoll(mailbox: &Mailbox<ToSip>, addresses: &Addresses) -> io::Result<Epoll> {
        let epoll = Epoll::new(ROUND)?;
        epoll.add(mailbox.fd(), MAIL)?;
        for (token, socket) in (SOCKETS..).zip(addresses.sockets()) {
            epoll.add(socket.fd(), token)?;
        }
        Ok(epoll)
    }
}

/// Why new calls are refused, if they are.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
struct Refusal {
    draining: bool,
    overloaded: bool,
}

/// The thread's state.
pub(crate) struct SipThread {
    endpoint: Endpoint,
    legs: HashMap<LegId, Leg>,
    addresses: Addresses,
    streams: Streams,
    tls: Arc<Store>,
    watch: Watch,
    mailbox: Arc<Mailbox<ToSip>>,
    workers: Vec<Colleague>,
    /// Work on media that is done, to be taken notice of in this round.
    finished: VecDeque<(LegId, Purpose, Result<Outcome, EngineError>)>,
    events: Outbox<Event>,
    resolver: Resolver,
    health: Health,
    prober: Prober,
    /// Legs that wait for an address, and until when; the wait is equally long for all, so the first is due first.
    lookups: VecDeque<(Instant, LegId)>,
    /// Callees of whom it is not told yet that they ring, and when it is to be; all wait equally long.
    rings: VecDeque<(Instant, LegId)>,
    public: Option<Public>,
    trunks: Arc<Trunks>,
    dial_plan: Box<DialPlan>,
    /// Calls of this round that go on by it: the calling leg, and what is to be dialled.
    forwards: Vec<(LegId, Box<Dial>)>,
    /// Whether the plan rests.
    asks_always: bool,
    allocator: Arc<Allocator>,
    shield: Shield,
    lateness: Lateness,
    refusal: Refusal,
    stop_at: Option<Instant>,
    /// When a datagram was last sent or received.
    last_datagram: Instant,
    stats: Arc<SipStats>,
    ladder: Arc<Ladder>,
    publisher: Publisher,
    receive: ReceiveBatch,
    send: SendBatch,
    /// Datagrams to send, kept for its room.
    outgoing: Vec<Transmit>,
    /// Who works here in place of the thread.
    visitor: Option<Visitor>,
    /// When the thread's next round begins at the latest.
    next_round: Option<Instant>,
}

impl SipThread {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            endpoint: parts.endpoint,
            legs: HashMap::new(),
            addresses: parts.addresses,
            streams: parts.streams,
            tls: parts.tls,
            watch: parts.watch,
            mailbox: parts.mailbox,
            workers: parts.workers.into_iter().map(Colleague::new).collect(),
            finished: VecDeque::new(),
            events: Outbox::new(parts.events),
            resolver: parts.resolver,
            health: Health::default(),
            prober: Prober::default(),
            lookups: VecDeque::new(),
            rings: VecDeque::new(),
            public: parts.public,
            trunks: Arc::new(parts.trunks),
            dial_plan: Box::default(),
            forwards: Vec::new(),
            asks_always: false,
            allocator: parts.allocator,
            shield: Shield::new(),
            lateness: Lateness::default(),
            refusal: Refusal::default(),
            stop_at: None,
            last_datagram: Instant::now(),
            stats: parts.stats,
            ladder: parts.ladder,
            publisher: Publisher::new(Instant::now()),
            receive: ReceiveBatch::new(BATCH, DATAGRAM),
            send: SendBatch::new(),
            outgoing: Vec::new(),
            visitor: None,
            next_round: None,
        }
    }

    /// Asked to stop, and nothing is left to say to anybody; or it takes too long.
    fn is_done(&self) -> bool {
        self.stop_by().is_some_and(|until| self.is_quiet() || Instant::now() >= until)
    }

    /// When a stopping engine stops waiting for its peers.
    fn stop_by(&self) -> Option<Instant> {
        let silent = self.legs.is_empty().then(|| self.last_datagram + SILENCE);
        self.stop_at.map(|deadline| silent.map_or(deadline, |silent| silent.min(deadline)))
    }

    /// Every leg has ended, and no CANCEL or BYE can be under way.
    fn is_quiet(&self) -> bool {
        let alive = self.endpoint.stats();
        self.legs.is_empty() && alive.legs == 0 && alive.dialogs == 0 && !self.endpoint.has_registrations()
    }

    fn leave(mut self) {
        let left: Vec<LegId> = self.legs.keys().copied().collect();
        for leg in left {
            self.end(Ended::new(
                leg,
                Side::System,
                Cause::Error,
                "the gateway stopped before the leg could end",
            ));
        }
        self.stats.endpoint.set(self.endpoint.stats());
        self.streams.leave();
        self.workers.iter_mut().for_each(Colleague::leave);
        self.events.leave();
    }

    /// How long the thread may rest.
    fn timeout(&mut self) -> Option<Duration> {
        let now = Instant::now();
        self.next_round = self.next_time(now);
        self.next_round.map(|next| next.saturating_duration_since(now))
    }

    fn next_time(&self, now: Instant) -> Option<Instant> {
        let clogged = self.events.is_clogged() || self.workers.iter().any(Colleague::is_clogged);
        let times = [
            self.endpoint.poll_latest_timeout(),
            self.streams.poll_timeout(),
            self.lookups.front().map(|(until, _)| *until),
            self.next_ring(),
            self.prober.next(),
            self.publisher.next(),
            clogged.then(|| now + RETRY),
            self.stop_by(),
            self.events.hushed_until(),
        ];
        times.into_iter().flatten().min()
    }

    /// Refuses new calls while the decisions about earlier ones wait in a nearly full queue.
    fn watch_load(&mut self) {
        let (depth, capacity) = (self.events.mailbox().len(), self.events.mailbox().capacity());
        let late = self.lateness.is_late(Instant::now(), self.events.mailbox().progress());
        let high = depth >= capacity / 4 * 3 || self.events.is_clogged() || late;
        let low = depth <= capacity / 2;
        let overloaded = high || (self.refusal.overloaded && !low);
        self.refuse(Refusal { overloaded, ..self.refusal });
    }

    fn refuse(&mut self, refusal: Refusal) {
        if refusal != std::mem::replace(&mut self.refusal, refusal) {
            self.endpoint.refuse_new(match refusal {
                Refusal { draining: true, .. } => Some(RETRY_DRAIN),
                Refusal { overloaded: true, .. } => Some(RETRY_OVERLOAD),
                _ => None,
            });
        }
    }

    fn receive(&mut self, index: u64, errors: bool) {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        if errors {
            self.receive_errors(index);
        }
        for _ in 0..BATCHES {
            let Some(socket) = self.addresses.socket(index) else { return };
            let local = socket.local();
            let count = socket.receive(&mut self.receive, BATCH).unwrap_or_default();
            if count > 0 {
                self.last_datagram = Instant::now();
            }
            (0..count).for_each(|index| self.receive_one(local, index));
            self.drain();
            self.watch_load();
            if count < BATCH {
                return;
            }
        }
    }

    fn receive_one(&mut self, mut local: SocketAddr, index: usize) {
        let Some(packet) = self.receive.packet(index) else { return };
        if packet.truncated {
            return self.stats.losses.truncated.add(1);
        }
        local.set_ip(packet.to.unwrap_or(local.ip()));
        let flow = Flow::udp(local, packet.from);
        let now = Instant::now();
        let profile = match self.shield.admit(now, flow.remote.ip(), &self.trunks) {
            Verdict::Take(profile) => profile,
            Verdict::Drop { first } => return self.dropped(flow.remote, first),
        };
        let datagram = Bytes::copy_from_slice(packet.payload);
        self.handle_message(now, flow, datagram, &profile);
    }

    fn handle_message(&mut self, now: Instant, flow: Flow, message: Bytes, profile: &Arc<Profile>) {
        let waiting = self.endpoint.transmits();
        let text = match profile.admission.stranger {
            Stranger::Take => {
                self.ladder.note(now, false, flow, &message);
                None
            }
            // A stranger's INVITE is kept once it is answered: what is dropped in silence leaves no trace.
            _ => (!self.ladder.note_known(now, flow, &message)).then(|| message.clone()),
        };
        let endpoint = &mut self.endpoint;
        guard(&self.stats.losses, || endpoint.handle_message(now, message, flow, profile));
        if let Some(text) = text.filter(|_| self.endpoint.transmits() > waiting) {
            self.ladder.note(now, false, flow, &text);
        }
    }

    /// A source that sends too fast: the first drop is kept, the others are counted.
    fn dropped(&self, source: SocketAddr, first: bool) {
        match first {
            true => {
                self.stats.refusals.note(Refused::new(Ground::SourceRate, None, source, &Profile::default()))
            }
            false => self.stats.refusals.count(Ground::SourceRate),
        }
    }

    fn read_mail(&mut self) {
        self.mailbox.begin();
        for _ in 0..MAIL_BATCH {
            match self.mailbox.take() {
                Some(mail) => {
                    let stats = Arc::clone(&self.stats);
                    guard(&stats.losses, || self.on_mail(mail));
                }
                None => return,
            }
        }
        self.mailbox.signal();
    }

    fn on_mail(&mut self, mail: ToSip) {
        let now = Instant::now();
        match mail {
            ToSip::Command(correlation, command) => self.on_command(now, correlation, command),
            ToSip::Media { leg, purpose, result } => {
                if let Some(worker) = self.workers.get_mut(leg.worker()) {
                    worker.answered();
                }
                self.on_media(now, leg, purpose, result);
            }
            ToSip::MediaEnded { leg, cause, reason } => self.end_by(now, leg, Side::System, cause, &reason),
            // A leg that ended meanwhile needs no keys any more.
            ToSip::Key(leg, key) => _ = self.endpoint.press(now, leg.sip(), key),
            ToSip::Resolved { question, result } => self.on_resolved(now, &question, result),
            ToSip::Trunks(trunks) => {
                self.health.forget_places();
                self.prober.set(now, trunks.probes());
                // First: the registrars that the new trunks name are expected from here on.
                self.shield.forget();
                self.set_trunks(now, trunks);
                // It was made of other trunks.
                *self.dial_plan = DialPlan::default();
            }
            ToSip::DialPlan(plan) => self.dial_plan = plan,
            ToSip::AskAlways(asks_always) => self.asks_always = asks_always,
            ToSip::Users(users) => self.endpoint.set_users(now, users),
            ToSip::RefuseNew(draining) => self.refuse(Refusal { draining, ..self.refusal }),
            ToSip::Stop(deadline) => self.stop(now, deadline),
        }
    }

    fn stop(&mut self, now: Instant, deadline: Instant) {
        self.refuse(Refusal { draining: true, ..self.refusal });
        self.stop_at = Some(deadline);
        self.unregister(now);
        let legs: Vec<LegId> = self.legs.keys().copied().collect();
        for leg in legs {
            self.end_by(now, leg, Side::System, Cause::Bye, "the gateway stops");
        }
    }

    fn handle_timeout(&mut self) {
        let now = Instant::now();
        if self.endpoint.poll_timeout().is_some_and(|timer| timer <= now) {
            let endpoint = &mut self.endpoint;
            guard(&self.stats.losses, || endpoint.handle_timeout(now));
        }
        if self.streams.poll_timeout().is_some_and(|timer| timer <= now) {
            self.streams.handle_timeout(&self.watch, now);
        }
        while self.lookups.front().is_some_and(|(until, _)| *until <= now) {
            let Some((_, leg)) = self.lookups.pop_front() else { return };
            self.on_located(now, leg, Err("its name was not resolved in time".into()));
        }
        self.tell_rings(now);
        self.probe(now);
    }

    /// Tells and sends all that the endpoint has to say. What is told may make it say more, hence the loop.
    fn drain(&mut self) {
        loop {
            while let Some(event) = self.endpoint.poll_event() {
                self.tell(event);
            }
            while let Some(probed) = self.endpoint.poll_probed() {
                self.on_probed(Instant::now(), &probed);
            }
            while let Some(refused) = self.endpoint.poll_refused() {
                self.stats.refusals.note(refused);
            }
            while let Some(notice) = self.endpoint.poll_notice() {
                self.on_notice(Instant::now(), notice);
            }
            let noticed = self.take_notice();
            if !self.transmit() && !noticed {
                return;
            }
        }
    }

    /// Goes on with the legs whose media jobs are done; whether there were any.
    fn take_notice(&mut self) -> bool {
        let any = !self.finished.is_empty();
        while let Some((leg, purpose, result)) = self.finished.pop_front() {
            let stats = Arc::clone(&self.stats);
            guard(&stats.losses, || self.on_media(Instant::now(), leg, purpose, result));
        }
        any
    }

    fn tell(&mut self, event: telephony_sip::Event) {
        let (leg, now) = (event.leg().into(), Instant::now());
        let stats = Arc::clone(&self.stats);
        if guard(&stats.losses, || self.on_sip_event(now, event)).is_none() {
            self.end_by(now, leg, Side::System, Cause::Error, "a fault in the gateway");
        }
    }

    fn flush(&mut self) {
        self.events.flush();
        self.workers.iter_mut().for_each(Colleague::flush);
    }

    fn publish(&mut self, now: Instant) {
        if self.publisher.is_due(now) {
            self.stats.endpoint.set(self.endpoint.stats());
            self.publish_targets(now);
        }
    }

    fn publish_targets(&mut self, now: Instant) {
        if !self.health.is_empty() {
            self.health.forget(now, |trunk| self.trunks.has(trunk));
            self.stats.targets.set(self.health.report(now));
            if let Some(down) = self.health.news(now) {
                self.events.send(Event::TrunksDown(down));
            }
        }
    }

    fn done(&mut self, correlation: u64, leg: LegId, result: Result<Outcome, EngineError>) {
        if let Some(result) = self.hand_over(correlation, result) {
            self.events.send(Event::Done(Box::new(Done { correlation, leg, result })));
        }
    }
}
