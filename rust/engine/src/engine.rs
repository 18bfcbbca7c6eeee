//! The face of the engine: start, commands, events, counters, stop.

use crate::command::Command;
use crate::config::{EngineConfig, Public};
use crate::dial_plan::DialPlan;
use crate::event::{Event, Outcome};
use crate::health::TargetReport;
use crate::ladder::{Ladder, Rungs};
use crate::leg::{Allocator, Kind, LegId};
use crate::message::{ToSip, ToWorker};
use crate::ports::PortPool;
use crate::queue::Mailbox;
use crate::refusals::Refusal;
use crate::resolve::{Resolver, parse_servers};
use crate::sip_thread::{self, SipDesk};
use crate::socket::{Epoll, Socket};
use crate::stats::{EngineStats, Gauge, SipStats, WorkerStats};
use crate::transport::tls::Store;
use crate::transport::{Address, Addresses, Listener, Streams};
use crate::trunk::Trunks;
use crate::worker::{self, Desk, Worker};
use crate::{EngineError, LegStats};
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use telephony_media::dtls::Certificate;
use telephony_media::{OwnPorts, SwitchConfig};
use telephony_sip::{Endpoint, Stranger, Transport};

/// Messages that may wait for one thread.
const MAILBOX: usize = 8192;
/// Legs per worker beyond one per RTP port pair: browsers need no port of their own.
const WEBRTC_LEGS: usize = 10_000;
/// How long the counters of one leg may be waited for.
const STATS_WAIT: Duration = Duration::from_millis(250);
/// How often to look whether certificate files have changed.
const CERTIFICATES: Duration = Duration::from_secs(2);
/// How often to look whether a thread that cannot be hurried has ended.
const TICK: Duration = Duration::from_millis(1);

/// A running engine. Dropping it stops it at once.
pub struct Engine {
    /// The way to the threads; gone once stopped.
    links: Mutex<Option<Arc<Links>>>,
    threads: Mutex<Threads>,
    events: Arc<Mailbox<Event>>,
    allocator: Arc<Allocator>,
    correlations: AtomicU64,
    sip_address: SocketAddr,
    listeners: Vec<(Transport, SocketAddr)>,
    tls: Arc<Store>,
    webrtc_addresses: Vec<SocketAddr>,
    sip_stats: Arc<SipStats>,
    strangers: Stranger,
    ladder: Arc<Ladder>,
    worker_stats: Vec<Arc<WorkerStats>>,
}

/// What becomes of a command that may be carried out at once.
#[derive(Debug, Clone)]
pub enum Answer {
    /// It is done.
    Now(Outcome),
    /// The [`Event::Done`] with this number will tell.
    Later(u64),
}

struct Links {
    sip: Arc<Mailbox<ToSip>>,
    desk: OnceLock<Arc<SipDesk>>,
    workers: Vec<Arc<Desk>>,
}

#[derive(Default)]
struct Threads {
    sip: Option<JoinHandle<()>>,
    workers: Vec<JoinHandle<()>>,
    resolver: Option<JoinHandle<()>>,
    certificates: Option<(SyncSender<()>, JoinHandle<()>)>,
}

/// What both kinds of thread are made from.
struct Plan<'a> {
    config: &'a EngineConfig,
    sip: Arc<Mailbox<ToSip>>,
    events: Arc<Mailbox<Event>>,
    public: Option<Public>,
    loads: Vec<Arc<Gauge>>,
    stats: Vec<Arc<WorkerStats>>,
}

impl Engine {
    /// Binds all shared sockets and starts the threads.
    ///
    /// # Errors
    /// If a setting is unusable or an address cannot be bound; the error names the setting and the way out.
    pub fn start(config: &EngineConfig) -> Result<Self, EngineError> {
        config.check()?;
        let (addresses, listeners) = config.bind_sip()?;
        let tls = Arc::new(Store::new(config.sip_tls.as_ref())?);
        let first = addresses.first().map(|address| address.socket.local());
        let sip = first.ok_or_else(|| EngineError::new(crate::Code::Internal, "no SIP address"))?;
        let webrtc = config.bind_webrtc(sip)?;
        let system = |error| EngineError::system("cannot start the engine", &error);
        let plan = Plan {
            config,
            sip: Arc::new(Mailbox::new(MAILBOX).map_err(system)?),
            events: Arc::new(Mailbox::new(config.event_capacity).map_err(system)?),
            public: config.public()?,
            loads: webrtc.iter().map(|_| Arc::default()).collect(),
            stats: webrtc.iter().map(|_| Arc::default()).collect(),
        };
        let (sip_address, webrtc_addresses) = (sip, webrtc.iter().map(Socket::local).collect());
        let (workers, epolls): (Vec<_>, Vec<_>) = plan.workers(webrtc)?.into_iter().unzip();
        let links = Links { sip: Arc::clone(&plan.sip), desk: OnceLock::new(), workers: workers.clone() };
        let engine = Self {
            links: Mutex::new(Some(Arc::new(links))),
            threads: Mutex::default(),
            events: Arc::clone(&plan.events),
            allocator: Arc::new(Allocator::new(plan.loads.clone())),
            correlations: AtomicU64::new(1),
            sip_address,
            listeners: heard(&addresses, &listeners),
            tls: Arc::clone(&tls),
            webrtc_addresses,
            sip_stats: Arc::default(),
            strangers: config.strangers,
            ladder: Arc::new(Ladder::new(config.ladder_memory)),
            worker_stats: plan.stats.clone(),
        };
        engine.start_workers(&workers, epolls)?;
        engine.start_sip(&plan, addresses, listeners, workers)?;
        engine.watch_certificates(config.sip_tls.is_some())?;
        Ok(engine)
    }

    fn start_workers(&self, workers: &[Arc<Desk>], epolls: Vec<Epoll>) -> Result<(), EngineError> {
        for (index, (desk, epoll)) in workers.iter().cloned().zip(epolls).enumerate() {
            let thread = spawn(&format!("media-{index}"), move || desk.run(epoll))?;
            lock(&self.threads).workers.push(thread);
        }
        Ok(())
    }

    fn start_sip(
        &self,
        plan: &Plan<'_>,
        addresses: Vec<Address>,
        listeners: Vec<Listener>,
        workers: Vec<Arc<Desk>>,
    ) -> Result<(), EngineError> {
        let system = |error| EngineError::system("cannot start the SIP thread", &error);
        let mailbox = Arc::clone(&plan.sip);
        let addresses = Addresses::new(addresses);
        let families = addresses.families();
        let servers = parse_servers(&plan.config.dns_servers)?;
        let dice = u64::from_le_bytes(seed()?.first_chunk().copied().unwrap_or_default());
        let (resolver, resolving) =
            Resolver::start(Arc::clone(&mailbox), families, servers, dice).map_err(system)?;
        lock(&self.threads).resolver = Some(resolving);
        let allocator = Arc::clone(&self.allocator);
        let next_leg = move || allocator.next(Kind::Sip, None).sip();
        let endpoint_config = telephony_sip::Config {
            user_agent: plan.config.user_agent.clone(),
            public_host: plan.public.as_ref().map(|public| public.host.clone()),
            ..telephony_sip::Config::default()
        };
        let epoll = sip_thread::Parts::epoll(&mailbox, &addresses).map_err(system)?;
        let parts = sip_thread::Parts {
            streams: Streams::new(
                &epoll.set,
                listeners,
                plan.config.streams.clone(),
                Arc::clone(&self.tls),
                Arc::clone(&self.sip_stats.streams),
            )
            .map_err(system)?,
            tls: Arc::clone(&self.tls),
            watch: epoll.set.clone(),
            addresses,
            endpoint: Endpoint::new(endpoint_config, seed()?, Box::new(next_leg)),
            mailbox,
            workers,
            events: Arc::clone(&plan.events),
            resolver,
            public: plan.public.clone(),
            stats: Arc::clone(&self.sip_stats),
            ladder: Arc::clone(&self.ladder),
            trunks: Trunks::none(plan.config.strangers),
            allocator: Arc::clone(&self.allocator),
        };
        let desk = Arc::new(SipDesk::new(parts));
        let _ = self.links()?.desk.set(Arc::clone(&desk));
        lock(&self.threads).sip = Some(spawn("sip", move || desk.run(epoll))?);
        Ok(())
    }

    /// Looks every few seconds whether certificate files changed, once there are any; not on a thread of messages.
    fn watch_certificates(&self, any: bool) -> Result<(), EngineError> {
        let mut threads = lock(&self.threads);
        if !any || threads.certificates.is_some() {
            return Ok(());
        }
        let (stop, stopped) = sync_channel::<()>(1);
        let tls = Arc::clone(&self.tls);
        let thread = spawn("certificates", move || {
            while stopped.recv_timeout(CERTIFICATES) == Err(RecvTimeoutError::Timeout) {
                tls.refresh();
            }
        })?;
        threads.certificates = Some((stop, thread));
        Ok(())
    }

    /// What is listened on for SIP: transport and bound address.
    #[must_use]
    pub fn listeners(&self) -> &[(Transport, SocketAddr)] {
        &self.listeners
    }

    /// The bound address of the first SIP socket.
    #[must_use]
    pub fn sip_address(&self) -> SocketAddr {
        self.sip_address
    }

    /// The bound address of each worker's WebRTC socket.
    #[must_use]
    pub fn webrtc_addresses(&self) -> &[SocketAddr] {
        &self.webrtc_addresses
    }

    /// A new id, for `dial` or a browser's leg; on the worker of `beside`, so that the two can be bridged.
    ///
    /// # Errors
    /// If `beside` is no leg of this engine.
    pub fn next_leg(&self, kind: Kind, beside: Option<LegId>) -> Result<LegId, EngineError> {
        if beside.is_some_and(|leg| leg.worker() >= self.webrtc_addresses.len()) {
            return Err(EngineError::unknown_leg());
        }
        Ok(self.allocator.next(kind, beside))
    }

    /// Gives a command to its thread; the [`Event::Done`] that answers it carries the number returned.
    ///
    /// # Errors
    /// If the command is wrong at first sight, its thread is too far behind, or the engine is stopped.
    pub fn command(&self, command: Command) -> Result<u64, EngineError> {
        let links = self.links()?;
        command.check(links.workers.len())?;
        let correlation = self.correlations.fetch_add(1, Ordering::Relaxed);
        let sent = match command.is_signalling() {
            true => links.sip.send(ToSip::Command(correlation, command)).map_err(drop),
            false => {
                let worker =
                    links.workers.get(command.leg().worker()).ok_or_else(EngineError::unknown_leg)?;
                worker.send(ToWorker::Command(correlation, command)).map_err(drop)
            }
        };
        sent.map(|()| correlation).map_err(|()| EngineError::queue_full())
    }

    /// Carries a command out at once, where the thread whose work it is rests; else gives it to that thread, as
    /// [`Engine::command`] does.
    ///
    /// # Errors
    /// As for [`Engine::command`], and if the command, carried out at once, is refused. What becomes of `Dial`,
    /// `Reject` and `Hangup` is always told by events.
    pub fn carry_out(&self, command: Command) -> Result<Answer, EngineError> {
        let links = self.links()?;
        command.check(links.workers.len())?;
        match command {
            Command::Bridge { first, second } => {
                match links.workers.get(first.worker()).and_then(|worker| worker.bridge(first, second)) {
                    Some(done) => done.map(Answer::Now),
                    None => self.command(command).map(Answer::Later),
                }
            }
            command if command.is_signalling() => self.signal(&links, command),
            command => self.command(command).map(Answer::Later),
        }
    }

    fn signal(&self, links: &Links, command: Command) -> Result<Answer, EngineError> {
        let correlation = self.correlations.fetch_add(1, Ordering::Relaxed);
        let done = match links.desk.get() {
            Some(desk) => desk.carry_out(correlation, command),
            None => Err(command),
        };
        match done {
            Ok(Some(result)) => result.map(Answer::Now),
            Ok(None) => Ok(Answer::Later(correlation)),
            Err(command) => {
                let sent = links.sip.send(ToSip::Command(correlation, command));
                sent.map(|()| Answer::Later(correlation)).map_err(|_| EngineError::queue_full())
            }
        }
    }

    /// Replaces the trunks: a JSON list of what `gateway.toml` says of them. Legs keep the profile they began with.
    ///
    /// # Errors
    /// If the document is none, the SIP thread is too far behind, or the engine is stopped.
    pub fn set_trunks(&self, document: &[u8]) -> Result<(), EngineError> {
        let trunks = Arc::new(Trunks::parse(document, self.strangers)?);
        let files = trunks.load(&self.tls)?;
        self.watch_certificates(files)?;
        self.links()?.sip.send(ToSip::Trunks(trunks)).map_err(|_| EngineError::queue_full())
    }

    /// Fails as [`Engine::set_trunks`] would, and changes nothing.
    ///
    /// # Errors
    /// If the document is none, or a file that it names cannot be used.
    pub fn check_trunks(&self, document: &[u8]) -> Result<(), EngineError> {
        Trunks::parse(document, self.strangers)?.load(&self.tls).map(|_| ())
    }

    /// The latest refusals and drops at the door, the newest first.
    #[must_use]
    pub fn refusals(&self, limit: usize) -> Vec<Refusal> {
        self.sip_stats.refusals.latest(limit)
    }

    /// The SIP messages that passed for these legs, running or over, as far as they are still there.
    #[must_use]
    pub fn ladder(&self, legs: &[LegId]) -> Rungs {
        self.ladder.read(legs)
    }

    /// Replaces the users whose phones may register: a JSON object with their realm and a list of them.
    ///
    /// # Errors
    /// If the document is none, the SIP thread is too far behind, or the engine is stopped.
    pub fn set_users(&self, document: &[u8]) -> Result<(), EngineError> {
        let users = crate::users::parse(document)?;
        self.links()?.sip.send(ToSip::Users(users)).map_err(|_| EngineError::queue_full())
    }

    /// Replaces what is known of the dial plan: a JSON document, made of the trunks that were set last. Calls that it
    /// sends on are told of by [`crate::Incoming::forwarded`], at leisure. Other trunks make it void.
    ///
    /// # Errors
    /// If the document is none, the SIP thread is too far behind, or the engine is stopped.
    pub fn set_dial_plan(&self, document: &[u8]) -> Result<(), EngineError> {
        let plan = Box::new(DialPlan::parse(document)?);
        self.links()?.sip.send(ToSip::DialPlan(plan)).map_err(|_| EngineError::queue_full())
    }

    /// Whether each call is asked about, whatever the dial plan says.
    ///
    /// # Errors
    /// If the SIP thread is too far behind, or the engine is stopped.
    pub fn ask_always(&self, ask: bool) -> Result<(), EngineError> {
        self.links()?.sip.send(ToSip::AskAlways(ask)).map_err(|_| EngineError::queue_full())
    }

    /// Whether new INVITEs are refused with 503 and Retry-After.
    ///
    /// # Errors
    /// If the SIP thread is too far behind, or the engine is stopped.
    pub fn refuse_new(&self, refuse: bool) -> Result<(), EngineError> {
        self.links()?.sip.send(ToSip::RefuseNew(refuse)).map_err(|_| EngineError::queue_full())
    }

    /// The descriptor that is readable while events wait. It lives as long as the engine, stopped or not.
    #[must_use]
    pub fn event_fd(&self) -> RawFd {
        self.events.fd()
    }

    /// Takes at most `limit` events. If more wait, the descriptor stays readable.
    #[must_use]
    pub fn drain(&self, limit: usize) -> Vec<Event> {
        self.events.begin();
        let next = || self.events.take().or_else(|| self.events.take_left());
        let events: Vec<Event> = std::iter::from_fn(next).take(limit).collect();
        if events.len() == limit {
            self.events.signal();
        }
        events
    }

    /// What a leg's media did so far; `None` if it has none.
    #[must_use]
    pub fn leg_stats(&self, leg: LegId) -> Option<LegStats> {
        let links = self.links().ok()?;
        let worker = links.workers.get(leg.worker())?;
        if let Some(stats) = worker.leg_stats(leg) {
            return stats;
        }
        let (reply, answer) = sync_channel(1);
        worker.send(ToWorker::Stats(leg, reply)).ok()?;
        answer.recv_timeout(STATS_WAIT).ok().flatten()
    }

    /// Counters of all threads, at most a fraction of a second old.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        let mut stats = EngineStats {
            event_queue_depth: self.events.len(),
            event_queue_capacity: self.events.capacity(),
            ..EngineStats::default()
        };
        stats.add_sip(&self.sip_stats);
        stats.add_drops("tls.stale".into(), self.tls.stale.read());
        self.worker_stats.iter().for_each(|worker| stats.add_worker(worker));
        stats
    }

    /// How the targets are that failed or are probed, at most a fraction of a second old.
    #[must_use]
    pub fn targets(&self) -> Vec<TargetReport> {
        self.sip_stats.targets.read()
    }

    /// Hangs up all legs, waits for the peers' answers at most `timeout`, and ends the threads. Events that are left
    /// can still be drained. Does nothing the second time.
    pub fn stop(&self, timeout: Duration) {
        let Some(links) = lock(&self.links).take() else { return };
        let deadline = Instant::now() + timeout;
        let threads = std::mem::take(&mut *lock(&self.threads));
        if let Some(sip) = threads.sip {
            insist(&sip, || links.sip.send(ToSip::Stop(deadline)).is_ok());
            let _ = sip.join();
        }
        for (desk, worker) in links.workers.iter().zip(threads.workers) {
            insist(&worker, || desk.send(ToWorker::Stop).is_ok());
            let _ = worker.join();
        }
        if let Some(resolver) = threads.resolver {
            join_until(resolver, deadline);
        }
        if let Some((stop, certificates)) = threads.certificates {
            drop(stop);
            let _ = certificates.join();
        }
    }

    fn links(&self) -> Result<Arc<Links>, EngineError> {
        lock(&self.links).clone().ok_or_else(EngineError::stopped)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

/// What is listened on.
fn heard(addresses: &[Address], listeners: &[Listener]) -> Vec<(Transport, SocketAddr)> {
    let udp = addresses.iter().map(|address| (Transport::Udp, address.socket.local()));
    udp.chain(listeners.iter().map(|listener| (listener.transport(), listener.local()))).collect()
}

impl Plan<'_> {
    /// Every worker and what its thread waits on.
    fn workers(&self, sockets: Vec<Socket>) -> Result<Vec<(Arc<Desk>, Epoll)>, EngineError> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let certificate = Certificate::generate(seed()?, since_epoch)
            .map_err(|error| EngineError::new(crate::Code::Internal, error.to_string()))?;
        let certificate = Arc::new(certificate);
        let own = Arc::default();
        let worker = |(index, socket)| self.worker(index, socket, Arc::clone(&certificate), Arc::clone(&own));
        sockets.into_iter().enumerate().map(worker).collect()
    }

    fn worker(
        &self,
        index: usize,
        webrtc: Socket,
        certificate: Arc<Certificate>,
        own: Arc<OwnPorts>,
    ) -> Result<(Arc<Desk>, Epoll), EngineError> {
        let missing = || EngineError::new(crate::Code::Internal, "a worker without counters");
        let system = |error| EngineError::system("cannot start a media worker", &error);
        let seed = seed()?;
        let order = u64::from_le_bytes(seed.first_chunk().copied().unwrap_or_default());
        let pool = PortPool::new(&self.config.rtp_port_range, index, self.config.media_workers, order);
        let mailbox = Arc::new(Mailbox::new(MAILBOX).map_err(system)?);
        let epoll = worker::Parts::epoll(&mailbox, &webrtc).map_err(system)?;
        let switch = SwitchConfig {
            webrtc_locals: self.config.candidates(webrtc.local(), self.public.as_ref())?,
            certificate,
            media_timeout: self.config.media_timeout,
            max_legs: pool.free() + WEBRTC_LEGS,
            own,
        };
        let parts = worker::Parts {
            webrtc,
            mailbox,
            sip: Arc::clone(&self.sip),
            events: Arc::clone(&self.events),
            stats: Arc::clone(self.stats.get(index).ok_or_else(missing)?),
            load: Arc::clone(self.loads.get(index).ok_or_else(missing)?),
            pool,
            switch,
            seed,
            watch: epoll.set.clone(),
        };
        Ok((Arc::new(Desk::new(Worker::new(parts))), epoll))
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, EngineError> {
    let thread = thread::Builder::new().name(name.into()).spawn(work);
    thread.map_err(|error| EngineError::system("cannot start a thread", &error))
}

/// Sends a message that must arrive, as long as there is a thread to read it.
fn insist(reader: &JoinHandle<()>, send: impl Fn() -> bool) {
    while !send() && !reader.is_finished() {
        thread::sleep(TICK);
    }
}

/// Joins a thread that may sit in the system's resolver, which nothing can interrupt; past the deadline it is left
/// to end by itself.
fn join_until(thread: JoinHandle<()>, deadline: Instant) {
    while !thread.is_finished() && Instant::now() < deadline {
        thread::sleep(TICK);
    }
    if thread.is_finished() {
        let _ = thread.join();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Randomness of the system for tags, branches, keys and ports.
fn seed() -> Result<[u8; 32], EngineError> {
    let mut seed = [0; 32];
    let read = File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut seed));
    read.map(|()| seed).map_err(|error| EngineError::system("cannot read /dev/urandom", &error))
}
