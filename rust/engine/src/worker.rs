//! One media worker: a thread that moves packets between sockets and its [`Switch`].
//!
//! It owns the ports of its SIP legs and one socket for all its browsers. It never blocks but in `epoll_wait`, never
//! attaches to an interpreter and allocates nothing per packet. While its thread rests, others may do a piece of work
//! in its place (see [`Desk`]): to wake a thread costs more than most work on a leg.

mod desk;
mod legs;
mod mail;
mod renew;

use crate::event::Event;
use crate::guard::guard;
use crate::message::{ToSip, ToWorker};
use crate::ports::PortPool;
use crate::queue::{Mailbox, Outbox};
use crate::socket::{Epoll, Outgoing, ReceiveBatch, SendBatch, Socket, Watch};
use crate::stats::{Gauge, Publisher, WorkerStats};
pub(crate) use desk::{Colleague, Desk};
use legs::{Leg, Legs};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use telephony_media::{Path, Switch, SwitchConfig, Transmit};

/// Token of the worker's mailbox; legs have the small numbers.
const MAIL: u64 = u64::MAX;
/// Token of the shared WebRTC socket.
const WEBRTC: u64 = u64::MAX - 1;
/// Ready descriptors per wake-up.
const READY: usize = 256;
/// Datagrams taken from the WebRTC socket at a time.
const WEBRTC_BATCH: usize = 64;
/// Datagrams taken from one leg's port at a time: one is there as a rule, and no leg may starve the others.
const LEG_BATCH: usize = 4;
/// No RTP packet, STUN message or DTLS record of a telephone call is longer (Ethernet's 1,500 and some).
const PACKET: usize = 2048;
/// Messages read between two looks at the sockets: setting calls up must not delay packets.
const MAIL_BATCH: usize = 16;
/// How soon to try again when a queue to another thread was full, or a timer failed.
const RETRY: Duration = Duration::from_millis(10);

/// What a worker is made of; built outside its thread, so that faults show at the start.
pub(crate) struct Parts {
    pub(crate) webrtc: Socket,
    pub(crate) mailbox: Arc<Mailbox<ToWorker>>,
    pub(crate) sip: Arc<Mailbox<ToSip>>,
    pub(crate) events: Arc<Mailbox<Event>>,
    pub(crate) stats: Arc<WorkerStats>,
    pub(crate) load: Arc<Gauge>,
    pub(crate) pool: PortPool,
    pub(crate) switch: SwitchConfig,
    pub(crate) seed: [u8; 32],
    pub(crate) watch: Watch,
}

impl Parts {
    /// The epoll set of a worker.
    pub(crate) fn epoll(mailbox: &Mailbox<ToWorker>, webrtc: &Socket) -> io::Result<Epoll> {
        let epoll = Epoll::new(READY)?;
        epoll.add(mailbox.fd(), MAIL)?;
        epoll.add(webrtc.fd(), WEBRTC)?;
        Ok(epoll)
    }
}

/// The worker's state.
pub(crate) struct Worker {
    switch: Switch,
    legs: Legs,
    webrtc: Socket,
    watch: Watch,
    mailbox: Arc<Mailbox<ToWorker>>,
    sip: Outbox<ToSip>,
    events: Outbox<Event>,
    stats: Arc<WorkerStats>,
    load: Arc<Gauge>,
    publisher: Publisher,
    receive: ReceiveBatch,
    send: SendBatch,
    /// Timers rest until then, because one of them panicked.
    timers_rest: Option<Instant>,
    /// When the thread's next round begins at the latest.
    next_round: Option<Instant>,
    stopping: bool,
}

impl Worker {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            switch: Switch::new(parts.switch, parts.seed),
            legs: Legs::new(parts.pool),
            webrtc: parts.webrtc,
            watch: parts.watch,
            mailbox: parts.mailbox,
            sip: Outbox::new(parts.sip),
            events: Outbox::new(parts.events),
            stats: parts.stats,
            load: parts.load,
            publisher: Publisher::new(Instant::now()),
            receive: ReceiveBatch::new(WEBRTC_BATCH, PACKET),
            send: SendBatch::new(),
            timers_rest: None,
            next_round: None,
            stopping: false,
        }
    }

    /// One round of the thread: packets, timers, mail.
    fn round(&mut self, epoll: &Epoll, ready: usize) {
        self.publisher.touch();
        let mail = self.receive_ready(epoll, ready);
        self.handle_timeout();
        self.drain();
        if mail {
            self.read_mail();
            self.drain();
        }
        self.flush();
        self.publish();
    }

    fn flush(&mut self) {
        self.sip.flush();
        self.events.flush();
    }

    fn leave(&mut self) {
        self.publish_now();
        self.sip.leave();
        self.events.leave();
    }

    /// How long the thread may rest.
    fn timeout(&mut self) -> Option<Duration> {
        let now = Instant::now();
        self.next_round = self.next_time(now);
        self.next_round.map(|next| next.saturating_duration_since(now))
    }

    fn next_time(&mut self, now: Instant) -> Option<Instant> {
        let timer = self.next_timer();
        let clogged = (self.sip.is_clogged() || self.events.is_clogged()).then(|| now + RETRY);
        [timer, clogged, self.publisher.next()].into_iter().flatten().min()
    }

    fn next_timer(&mut self) -> Option<Instant> {
        let timer = self.switch.poll_timeout()?;
        Some(self.timers_rest.map_or(timer, |rest| timer.max(rest)))
    }

    /// Feeds the switch from all ready sockets; whether mail waits.
    fn receive_ready(&mut self, epoll: &Epoll, ready: usize) -> bool {
        let mut mail = false;
        for index in 0..ready {
            match epoll.ready(index).map(|ready| ready.token) {
                Some(MAIL) => mail = true,
                Some(WEBRTC) => self.receive_webrtc(),
                Some(token) => self.receive_leg(token),
                None => {}
            }
        }
        mail
    }

    fn receive_webrtc(&mut self) {
        let count = self.webrtc.receive(&mut self.receive, WEBRTC_BATCH).unwrap_or_default();
        let (now, local) = (Instant::now(), self.webrtc.local());
        for index in 0..count {
            let Some(packet) = self.receive.packet(index) else { continue };
            if packet.truncated {
                self.stats.losses.truncated.add(1);
                continue;
            }
            let mut to = local;
            to.set_ip(packet.to.unwrap_or(local.ip()));
            let switch = &mut self.switch;
            guard(&self.stats.losses, || switch.handle_webrtc(now, to, packet.from, packet.payload));
        }
    }

    fn receive_leg(&mut self, token: u64) {
        // A leg that ended in this very round leaves its token behind.
        let Some((leg, component, socket)) = self.legs.socket_of_token(token) else { return };
        let count = socket.receive(&mut self.receive, LEG_BATCH).unwrap_or_default();
        let now = Instant::now();
        for index in 0..count {
            let Some(packet) = self.receive.packet(index) else { continue };
            if packet.truncated {
                self.stats.losses.truncated.add(1);
                continue;
            }
            let switch = &mut self.switch;
            let work = || switch.handle_rtp(now, leg.media(), component, packet.from, packet.payload);
            if guard(&self.stats.losses, work).is_none() {
                return self.fail(leg);
            }
        }
    }

    fn handle_timeout(&mut self) {
        let now = Instant::now();
        if self.next_timer().is_none_or(|timer| timer > now) {
            return;
        }
        let switch = &mut self.switch;
        // The leg is not known here; the rest keeps a timer that panics every time from eating the processor.
        let failed = guard(&self.stats.losses, || switch.handle_timeout(now)).is_none();
        self.timers_rest = failed.then(|| now + RETRY);
    }

    /// Sends and tells all that the switch has to say. Ending a leg makes it say more, hence the loop.
    fn drain(&mut self) {
        self.transmit();
        while let Some(event) = self.switch.poll_event() {
            self.on_media_event(event);
            self.transmit();
        }
    }

    /// Sends what the switch wrote.
    fn transmit(&mut self) {
        self.transmit_webrtc();
        self.transmit_legs();
        self.switch.clear_transmits();
    }

    /// One batch for all browsers.
    fn transmit_webrtc(&mut self) {
        let losses = &self.stats.losses;
        let browsers = self.switch.transmits().filter_map(|transmit| match transmit.path {
            Path::WebRtc { local } => Some(outgoing(&transmit, Some(local.ip()))),
            Path::Leg(..) => None,
        });
        self.webrtc.send(&mut self.send, browsers, |_, _| losses.unsent.add(1));
    }

    /// One batch for each run of packets of one leg's port.
    fn transmit_legs(&mut self) {
        let losses = &self.stats.losses;
        let legs = self.switch.transmits().filter(|transmit| matches!(transmit.path, Path::Leg(..)));
        let mut legs = legs.peekable();
        while let Some(path @ Path::Leg(leg, component)) = legs.peek().map(|transmit| transmit.path) {
            let run = std::iter::from_fn(|| legs.next_if(|transmit| transmit.path == path));
            let run = run.map(|transmit| outgoing(&transmit, None));
            match self.legs.socket(leg.into(), component) {
                Some(socket) => {
                    socket.send(&mut self.send, run, |_, _| losses.unsent.add(1));
                }
                None => losses.unsent.add(run.count() as u64),
            }
        }
    }

    fn publish(&mut self) {
        if self.publisher.is_due(Instant::now()) {
            self.publish_now();
        }
    }

    fn publish_now(&self) {
        self.stats.switch.set(self.switch.stats());
        self.stats.ports_free.set(self.legs.ports_free());
        self.stats.ports_in_use.set(self.legs.ports_in_use());
    }
}

fn outgoing<'a>(transmit: &Transmit<'a>, from: Option<std::net::IpAddr>) -> Outgoing<'a> {
    Outgoing { to: transmit.to, from, payload: transmit.payload }
}
