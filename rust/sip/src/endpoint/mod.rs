//! The endpoint: the user agent core that turns datagrams and commands into calls (RFC 3261 8 to 15).
//!
//! Feed it with `handle_*` and the commands, then drain `poll_transmit` and `poll_event`, and come back at
//! `poll_timeout`. It never looks at a clock and owns no socket.
//!
//! Requests without a call are answered without state (`refuse`, `options`); calls live in `uac`, `uas`, `in_dialog`,
//! `reoffer` and `rel100`, transfers in `refer`, `referring` and `replaces`; what a leg does when is the table in `session`, carried out by `carry_out`.

mod admit;
mod authenticate;
mod carry_out;
mod challenged;
mod failover;
mod failures;
mod headers;
mod in_dialog;
mod info;
mod legs;
mod nobody;
mod options;
mod probe;
mod receive;
mod refer;
mod referrals;
mod referring;
mod refresh;
mod refuse;
mod register;
mod registrar;
mod rel100;
mod reoffer;
mod replaces;
mod said;
mod session;
mod subscribed;
mod uac;
mod uas;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::admission::{Gate, Refused};
use crate::dialog::Dialogs;
use crate::framer::FrameError;
use crate::ident::Ident;
use crate::stats::Stats;
use crate::timer::{TimerKind, TimerValues};
use crate::transaction::key::Fingerprints;
use crate::transaction::{ClientKey, Clients, Io, Owner, Running, ServerSignal, Servers, Timer};
use crate::{Cause, Connection, Ended, Event, Flow, LegId, Limits, Notice, Profile, Side, Transmit};
use authenticate::Doorman;
use carry_out::Turn;
pub(crate) use challenged::Auth;
pub(crate) use legs::LegKey;
use legs::Legs;
use probe::Challengeable;
pub use probe::{Probe, Probed};
use referrals::Referrals;
pub(crate) use register::RegistrationKey;
use register::Registrations;
use registrar::Registrar;
pub use registrar::Way;
use session::Input;

/// What an endpoint is made with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The text of User-Agent and Server.
    pub user_agent: String,
    /// The base timers.
    pub timers: TimerValues,
    /// What is read of a peer's message.
    pub limits: Limits,
    /// How many transactions there may be before new calls are refused.
    pub max_transactions: usize,
    /// How many dialogs there may be before new calls are refused.
    pub max_dialogs: usize,
    /// The largest request that goes by UDP (RFC 3261 18.1.1); larger ones try TCP first.
    pub max_datagram: usize,
    /// The host that phones know us by, if it is not the address that they reach (IPv6 in brackets).
    pub public_host: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            user_agent: "telephony-gateway".to_owned(),
            timers: TimerValues::default(),
            limits: Limits::default(),
            max_transactions: 262_144,
            max_dialogs: 65_536,
            max_datagram: 1300,
            public_host: None,
        }
    }
}

/// A SIP user agent for many calls.
pub struct Endpoint {
    /// Free of control characters.
    user_agent: String,
    max_transactions: usize,
    max_dialogs: usize,
    io: Io,
    clients: Clients,
    servers: Servers,
    dialogs: Dialogs,
    legs: Legs,
    ident: Ident,
    prints: Fingerprints,
    next_leg: Box<dyn FnMut() -> LegId + Send>,
    events: VecDeque<Event>,
    notices: VecDeque<Notice>,
    registrations: Registrations,
    probed: VecDeque<Probed>,
    /// The probes under way that may be challenged, by their number; each leaves with its answer.
    challengeable: HashMap<u64, Challengeable>,
    registrar: Registrar,
    referrals: Referrals,
    /// Why the flow that is being given up leads nowhere.
    breakage: String,
    doorman: Doorman,
    gate: Gate,
    refusing: Option<RangeInclusive<u32>>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// A timer of no length would fire for ever at the same instant.
fn sane(values: TimerValues) -> TimerValues {
    let t1 = values.t1.max(Duration::from_millis(1));
    TimerValues { t1, t2: values.t2.max(t1), t4: values.t4 }
}

impl Endpoint {
    /// A new endpoint. Everything unguessable it makes comes from `seed`; `next_leg` names incoming calls.
    #[must_use]
    pub fn new(config: Config, seed: [u8; 32], next_leg: Box<dyn FnMut() -> LegId + Send>) -> Self {
        let mut ident = Ident::new(seed);
        let prints = Fingerprints::new(ident.key());
        let doorman = Doorman::new(ident.long_key(), prints.clone());
        Self {
            user_agent: config.user_agent.replace(|letter: char| letter.is_control(), ""),
            max_transactions: config.max_transactions,
            max_dialogs: config.max_dialogs,
            io: Io::new(sane(config.timers), config.limits, config.max_datagram),
            clients: Clients::new(prints.clone()),
            servers: Servers::new(prints.clone()),
            dialogs: Dialogs::new(prints.clone()),
            legs: Legs::default(),
            ident,
            prints,
            next_leg,
            events: VecDeque::new(),
            notices: VecDeque::new(),
            registrations: Registrations::default(),
            probed: VecDeque::new(),
            challengeable: HashMap::new(),
            registrar: Registrar::new(config.public_host),
            referrals: Referrals::default(),
            doorman,
            gate: Gate::default(),
            refusing: None,
            breakage: String::new(),
        }
    }

    /// One datagram, or one whole message of a stream, from a peer of this profile.
    pub fn handle_message(&mut self, now: Instant, message: Bytes, flow: Flow, profile: &Arc<Profile>) {
        self.receive(now, message, flow, profile);
    }

    /// The header section of a message on a stream, whose framing is broken there. Close the stream once what is to be
    /// sent has left.
    pub fn handle_unframed(&mut self, head: Bytes, flow: Flow, profile: &Arc<Profile>, error: FrameError) {
        self.receive_unframed(head, flow, profile, error);
    }

    /// A datagram that begins so did not get through: ICMP quotes it (RFC 3261 18.4), or it could not be sent. The
    /// request in it fails, if nothing was heard of it yet (17.1.4). Anybody can forge ICMP, so that nothing else ends by
    /// it: who has not seen a branch cannot quote it (RFC 8085 5.2), and our responses are asked for again.
    pub fn handle_undelivered(&mut self, now: Instant, start: &[u8], why: &str) {
        let Some(key) = self.clients.undelivered(start) else { return };
        why.clone_into(&mut self.breakage);
        self.client_failed(now, key);
    }

    /// Nothing that is sent to `flow.remote` gets through: its transactions end (RFC 3261 17.1.4, 17.2.4).
    pub fn handle_transport_error(&mut self, now: Instant, flow: Flow) {
        self.handle_broken_flow(now, flow, "Transport error");
    }

    /// The same, where it is known why: legs that end by it say so. When only a stream broke, a request of which nothing
    /// was heard is sent once more if the stream had stood before.
    pub fn handle_broken_flow(&mut self, now: Instant, flow: Flow, why: &str) {
        why.clone_into(&mut self.breakage);
        self.registrar_flow_lost(now, flow);
        for key in self.clients.towards(flow) {
            if flow.connection.is_none() || !self.clients.repeat(&mut self.io, key) {
                self.client_failed(now, key);
            }
        }
        for key in self.servers.towards(flow) {
            let user = self.servers.user(key);
            let signal = self.servers.transport_error(&mut self.io, now, key);
            if let (Some(leg), Some(ServerSignal::TransportError)) = (user, signal) {
                self.response_undeliverable(now, leg, key);
            }
        }
    }

    /// A message has been given to this stream, which stood before or was made for it. Say so before you say that any
    /// stream is broken.
    pub fn handle_sent(&mut self, message: &[u8], connection: Connection, reused: bool) {
        self.clients.sent_over(message, connection, reused);
    }

    fn client_failed(&mut self, now: Instant, key: ClientKey) {
        if let Some(user) = self.clients.fall_back(&mut self.io, now, key) {
            self.fell_back(now, user);
        } else if let Some(outcome) = self.clients.transport_error(&mut self.io, now, key) {
            self.client_outcome(now, key, outcome, None);
        }
    }

    /// Time has passed: fires what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.registrations_due(now);
        self.registrar_due(now);
        self.referrals_due(now);
        while let Some((Timer { owner, kind }, interval)) = self.io.timers.pop_expired(now) {
            match owner {
                Owner::Client(key) => {
                    if let Some(outcome) = self.clients.timer(&mut self.io, now, key, kind, interval) {
                        self.client_outcome(now, key, outcome, None);
                    }
                }
                Owner::Server(key) => self.servers.timer(&mut self.io, now, key, kind, interval),
                Owner::Leg(key) => self.leg_timer(now, key, kind, interval),
            }
        }
    }

    /// When to call [`Self::handle_timeout`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = [
            self.registrations.next_deadline(),
            self.registrar.next_deadline(),
            self.referrals.next_deadline(),
        ];
        self.io.timers.next_deadline().into_iter().chain(own.into_iter().flatten()).min()
    }

    /// When to call [`Self::handle_timeout`] at the latest: most timers do not mind to be a little late, and a driver
    /// that sleeps until then is woken less often.
    #[must_use]
    pub fn poll_latest_timeout(&self) -> Option<Instant> {
        let own = [self.registrations.next_deadline(), self.registrar.next_deadline()];
        self.io.timers.latest().into_iter().chain(own.into_iter().flatten()).min()
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.io.transmits.pop_front()
    }

    /// How many messages wait to be sent.
    #[must_use]
    pub fn transmits(&self) -> usize {
        self.io.transmits.len()
    }

    /// The next thing to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next thing that was refused; who does not ask misses those beyond a bound.
    pub fn poll_refused(&mut self) -> Option<Refused> {
        self.gate.next()
    }

    /// `Some` refuses new calls with 503 and a Retry-After drawn from the range of seconds; requests of running
    /// calls are never refused. `None` takes calls again.
    pub fn refuse_new(&mut self, retry_after: Option<RangeInclusive<u32>>) {
        self.refusing = retry_after;
    }

    /// The way the messages of a leg go.
    #[must_use]
    pub fn flow(&self, leg: LegId) -> Option<Flow> {
        self.leg_flow(self.legs.find(leg).ok()?)
    }

    /// How the peer of a leg wants to be spoken to.
    #[must_use]
    pub fn profile(&self, leg: LegId) -> Option<&Arc<Profile>> {
        Some(&self.legs.get(self.legs.find(leg).ok()?)?.profile)
    }

    /// Counters, and what is alive.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            client_transactions: self.clients.len(),
            server_transactions: self.servers.len(),
            dialogs: self.dialogs.len(),
            legs: self.legs.len(),
            timers: self.io.timers.len(),
            ..self.io.stats
        }
    }

    /// What lies in each table, and how much it has room for.
    #[cfg(test)]
    fn tables(&self) -> [(usize, usize); 10] {
        let [clients, client_index] = self.clients.tables();
        let [servers, server_index, merged] = self.servers.tables();
        let [dialogs, dialog_index] = self.dialogs.tables();
        let timers = (self.io.timers.len(), self.io.timers.capacity());
        let [legs, ids] = self.legs.tables();
        [
            clients,
            client_index,
            servers,
            server_index,
            merged,
            dialogs,
            dialog_index,
            timers,
            (legs.0 + ids.0, legs.1.max(ids.1)),
            (
                self.events.len() + self.io.transmits.len(),
                self.events.capacity().max(self.io.transmits.capacity()),
            ),
        ]
    }

    fn leg_timer(&mut self, now: Instant, key: LegKey, kind: TimerKind, last: Duration) {
        let Some(leg) = self.legs.get_mut(key) else { return };
        leg.timers.expire(kind);
        match kind {
            TimerKind::Resend2xx => self.resend_success(now, key, last),
            TimerKind::Resend1xx => self.resend_reliable(now, key, last),
            TimerKind::PrackWait => self.prack_missing(now, key),
            TimerKind::SessionRefresh => self.refresh_session(now, key),
            TimerKind::SessionEnd => self.session_over(now, key),
            TimerKind::Refresh => self.resend_provisional(now, key),
            TimerKind::Reoffer => self.reoffer_unanswered(now, key),
            TimerKind::ReofferRetry => self.retry_reoffer(now, key),
            TimerKind::ReofferHang => self.reoffer_hangs(now, key),
            TimerKind::OwedAnswer => self.offer_unanswered(now, key),
            TimerKind::Patience => self.out_of_patience(now, key),
            TimerKind::NoAnswer => self.drive(now, key, Input::NoAnswer, Turn::ended(timeout(None))),
            TimerKind::Expires => self.expired(now, key),
            TimerKind::CancelWait => self.drive(now, key, Input::CancelWait, Turn::default()),
            TimerKind::AckWait => self.drive(now, key, Input::AckWait, Turn::ended(no_ack())),
            _ => {}
        }
    }

    /// Runs `act` with the timers of a leg.
    fn with_timers(&mut self, now: Instant, key: LegKey, act: impl FnOnce(&mut Running<'_>, &mut Io)) {
        let Some(leg) = self.legs.get_mut(key) else { return };
        let owner = Owner::Leg(key);
        act(&mut Running { set: &mut leg.timers, owner, reliable: false, now }, &mut self.io);
    }
}

fn timeout(status: Option<u16>) -> Ended {
    Ended { by: Side::System, cause: Cause::Timeout, status, reason: "No answer".to_owned() }
}

fn no_ack() -> Ended {
    Ended { by: Side::System, cause: Cause::NoAck, status: None, reason: "No ACK".to_owned() }
}

fn undeliverable(why: &str) -> Ended {
    Ended { by: Side::System, cause: Cause::TransportError, status: None, reason: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Body, Dial};

    const BODY: &str = "v=0 a description of some length";

    fn endpoint(seed: u8) -> Endpoint {
        let mut legs = 1_000_000;
        let next_leg = move || {
            legs += 1;
            LegId(legs)
        };
        Endpoint::new(Config::default(), [seed; 32], Box::new(next_leg))
    }

    fn body() -> Option<Body> {
        Some(Body { content_type: "application/sdp".to_owned(), bytes: Bytes::from_static(BODY.as_bytes()) })
    }

    /// A caller, a callee and the way between them.
    struct Pair(Endpoint, Endpoint, Flow);

    impl Pair {
        fn settle(&mut self, now: Instant) {
            let Self(caller, callee, out) = self;
            let (back, profile) = (Flow::udp(out.remote, out.local), Arc::default());
            for _ in 0..8 {
                while let Some(sent) = caller.poll_transmit() {
                    callee.handle_message(now, sent.payload, back, &profile);
                }
                while let Some(sent) = callee.poll_transmit() {
                    caller.handle_message(now, sent.payload, *out, &profile);
                }
            }
        }

        fn call(&mut self, now: Instant, leg: LegId) {
            let dial = Dial {
                flow: self.2,
                contact: "192.0.2.1:5060".to_owned(),
                others: Vec::new(),
                elsewhere: false,
                request_uri: "sip:bob@192.0.2.2".to_owned(),
                from: "<sip:alice@example.com>".to_owned(),
                to: "<sip:bob@example.com>".to_owned(),
                headers: Vec::new(),
                body: body(),
                timeout: Duration::from_secs(60),
                profile: Arc::default(),
            };
            self.0.dial(now, leg, dial).unwrap();
            self.settle(now);
            let Some(Event::Incoming { leg: called, .. }) = self.1.poll_event() else { panic!("no call") };
            match leg.0 % 4 {
                0 => self.1.reject(now, called, 486, None, &[]).unwrap(),
                _ => self.1.answer(now, called, body()).unwrap(),
            }
            self.settle(now);
            match leg.0 % 4 {
                1 => self.0.hangup(now, leg, None).unwrap(),
                _ => self.1.hangup(now, called, None).unwrap(),
            }
            self.settle(now);
            while self.0.poll_event().or_else(|| self.1.poll_event()).is_some() {}
        }

        fn pass(&mut self, now: Instant) {
            self.0.handle_timeout(now);
            self.1.handle_timeout(now);
            self.settle(now);
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    fn calls_that_are_over_leave_nothing_and_no_more_room_than_the_most_at_once_needed() {
        let out = Flow::udp("192.0.2.1:5060".parse().unwrap(), "192.0.2.2:5060".parse().unwrap());
        let (mut pair, mut now) = (Pair(endpoint(1), endpoint(2), out), Instant::now());
        for leg in 0..2_000 {
            pair.call(now, LegId(leg));
            now += Duration::from_millis(100);
            pair.pass(now);
        }
        // 320 calls are younger than 64*T1; each has two transactions there.
        let most = 2 * 330_usize.next_power_of_two();
        pair.pass(now + Duration::from_secs(120));
        for endpoint in [&pair.0, &pair.1] {
            assert_eq!(endpoint.stats().retransmissions_out, 0);
            let [empty, room] = [0, 1].map(|at| endpoint.tables().map(|table| [table.0, table.1][at]));
            assert_eq!(empty, [0; 10]);
            assert!(room.iter().all(|room| *room <= 2 * most), "{room:?}");
        }
    }
}
