//! Counters: each thread publishes a snapshot a few times a second, anyone may read them at no cost to the packets.

use crate::health::TargetReport;
use crate::refusals::Refusals;
use crate::transport::StreamStats;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use telephony_media::stats::SwitchStats;

/// How old a published snapshot may be.
pub(crate) const PUBLISH: Duration = Duration::from_millis(200);

/// A number that goes up and down.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicUsize);

impl Gauge {
    pub(crate) fn set(&self, value: usize) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a thread lost, beside what the state machines count.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    /// Datagrams longer than the receive buffer.
    pub(crate) truncated: Counter,
    /// Datagrams that the kernel refused to send.
    pub(crate) unsent: Counter,
    /// Panics that cost one message or one leg.
    pub(crate) panics: Counter,
    /// Digits that found the event queue full.
    pub(crate) digits: Counter,
}

/// A value that its thread writes now and then.
#[derive(Debug, Default)]
pub(crate) struct Published<T>(Mutex<T>);

impl<T: Clone> Published<T> {
    pub(crate) fn set(&self, value: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }

    pub(crate) fn read(&self) -> T {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What one media worker publishes.
#[derive(Debug, Default)]
pub(crate) struct WorkerStats {
    pub(crate) switch: Published<SwitchStats>,
    pub(crate) ports_free: Gauge,
    pub(crate) ports_in_use: Gauge,
    pub(crate) losses: Losses,
}

/// What the SIP thread publishes.
#[derive(Debug, Default)]
pub(crate) struct SipStats {
    pub(crate) endpoint: Published<telephony_sip::Stats>,
    pub(crate) targets: Published<Vec<TargetReport>>,
    pub(crate) refusals: Refusals,
    pub(crate) streams: Arc<StreamStats>,
    pub(crate) forwarded: Counter,
    pub(crate) losses: Losses,
}

/// Says when it is time to publish again.
#[derive(Debug)]
pub(crate) struct Publisher {
    last: Instant,
    dirty: bool,
}

impl Publisher {
    pub(crate) fn new(now: Instant) -> Self {
        Self { last: now, dirty: true }
    }

    /// Something was done since.
    pub(crate) fn touch(&mut self) {
        self.dirty = true;
    }

    /// Whether to publish now.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.dirty && now.saturating_duration_since(self.last) >= PUBLISH;
        if due {
            self.last = now;
            self.dirty = false;
        }
        due
    }

    /// When to look again; `None` while nothing happens.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.dirty.then(|| self.last + PUBLISH)
    }
}

/// Counters since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Messages that arrived.
    pub sip_messages_received: u64,
    /// Messages sent, retransmissions included.
    pub sip_messages_sent: u64,
    /// Messages that we sent again.
    pub sip_retransmissions: u64,
    /// Transactions alive now.
    pub sip_transactions: usize,
    /// Dialogs alive now.
    pub sip_dialogs: usize,
    /// TCP and TLS connections alive now.
    pub sip_connections: usize,
    /// Those made, both ways.
    pub sip_connections_opened: u64,
    /// Calls that went on by the dial plan without a question.
    pub forwarded: u64,
    /// RTP packets accepted.
    pub rtp_packets_received: u64,
    /// RTP packets sent.
    pub rtp_packets_sent: u64,
    /// Legs with media now.
    pub legs: usize,
    /// RTP port pairs that are free (quarantined ones included).
    pub ports_free: usize,
    /// RTP port pairs that are bound.
    pub ports_in_use: usize,
    /// Events that wait to be read.
    pub event_queue_depth: usize,
    /// Events that may wait.
    pub event_queue_capacity: usize,
    /// INVITEs refused with 503.
    pub refused_overload: u64,
    /// What was refused or dropped at the door, by its rule.
    pub refused: BTreeMap<&'static str, u64>,
    /// `plane.reason` to how many.
    pub drops: BTreeMap<String, u64>,
}

impl EngineStats {
    pub(crate) fn add_sip(&mut self, sip: &SipStats) {
        let endpoint = sip.endpoint.read();
        self.sip_messages_received = endpoint.messages_in;
        self.sip_messages_sent = endpoint.messages_out;
        self.sip_retransmissions = endpoint.retransmissions_out;
        self.sip_transactions = endpoint.client_transactions + endpoint.server_transactions;
        self.sip_dialogs = endpoint.dialogs;
        self.refused_overload = endpoint.overloaded;
        self.refused = sip.refusals.counts();
        self.forwarded = sip.forwarded.read();
        let dropped = endpoint.dropped;
        let reasons = [
            ("malformed", dropped.malformed),
            ("keep_alive", dropped.keep_alive),
            ("stray_response", dropped.stray_response),
            ("stray_ack", dropped.stray_ack),
            ("too_many_forks", dropped.too_many_forks),
            ("unbuildable", dropped.unbuildable),
            ("refused", endpoint.refused),
        ];
        for (reason, count) in reasons {
            self.add_drops(format!("sip.{reason}"), count);
        }
        let streams = &sip.streams;
        self.sip_connections = streams.open.read();
        self.sip_connections_opened = streams.accepted.read() + streams.connected.read();
        let reasons = [
            ("refused", &streams.refused),
            ("failed", &streams.failed),
            ("framing", &streams.framing),
            ("tls", &streams.tls),
            ("slow", &streams.slow),
        ];
        for (reason, counter) in reasons {
            self.add_drops(format!("stream.{reason}"), counter.read());
        }
        self.add_losses("sip", &sip.losses);
    }

    pub(crate) fn add_worker(&mut self, worker: &WorkerStats) {
        let switch = worker.switch.read();
        self.rtp_packets_received += switch.packets_in;
        self.rtp_packets_sent += switch.packets_out;
        self.legs += switch.legs;
        self.ports_free += worker.ports_free.read();
        self.ports_in_use += worker.ports_in_use.read();
        for (reason, count) in switch.drops.iter() {
            self.add_drops(reason.to_owned(), count);
        }
        self.add_losses("rtp", &worker.losses);
    }

    pub(crate) fn add_losses(&mut self, plane: &str, losses: &Losses) {
        let reasons = [
            ("truncated", &losses.truncated),
            ("unsent", &losses.unsent),
            ("panic", &losses.panics),
            ("digit_queue_full", &losses.digits),
        ];
        for (reason, counter) in reasons {
            self.add_drops(format!("{plane}.{reason}"), counter.read());
        }
    }

    pub(crate) fn add_drops(&mut self, reason: String, count: u64) {
        if count > 0 {
            *self.drops.entry(reason).or_default() += count;
        }
    }
}
