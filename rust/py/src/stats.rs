//! Counters.

use pyo3::prelude::*;
use std::collections::BTreeMap;

/// Media counters of one leg.
#[pyclass(frozen, get_all, module = "telephony_gateway._core")]
pub(crate) struct LegStats {
    codec: Option<&'static str>,
    packets_received: u64,
    packets_sent: u64,
    bytes_received: u64,
    bytes_sent: u64,
    packets_lost: u64,
    jitter: f64,
    round_trip: Option<f64>,
}

#[pymethods]
impl LegStats {
    fn __repr__(&self) -> String {
        format!(
            "LegStats(codec={:?}, packets_received={}, packets_sent={}, packets_lost={})",
            self.codec.unwrap_or("-"),
            self.packets_received,
            self.packets_sent,
            self.packets_lost
        )
    }
}

impl From<telephony_engine::LegStats> for LegStats {
    fn from(stats: telephony_engine::LegStats) -> Self {
        Self {
            codec: stats.codec.map(telephony_engine::Codec::name),
            packets_received: stats.packets_in,
            packets_sent: stats.packets_out,
            bytes_received: stats.bytes_in,
            bytes_sent: stats.bytes_out,
            packets_lost: stats.lost,
            jitter: stats.jitter.as_secs_f64(),
            round_trip: stats.round_trip.map(|time| time.as_secs_f64()),
        }
    }
}

/// Counters since the start; `drops` maps `plane.reason` (e.g. "sip.malformed", "rtp.unknown_source") to counts.
#[pyclass(frozen, get_all, module = "telephony_gateway._core")]
pub(crate) struct EngineStats {
    sip_messages_received: u64,
    sip_messages_sent: u64,
    sip_retransmissions: u64,
    sip_transactions: usize,
    sip_dialogs: usize,
    sip_connections: usize,
    sip_connections_opened: u64,
    forwarded: u64,
    rtp_packets_received: u64,
    rtp_packets_sent: u64,
    legs: usize,
    ports_free: usize,
    ports_in_use: usize,
    event_queue_depth: usize,
    event_queue_capacity: usize,
    refused_overload: u64,
    refused: BTreeMap<&'static str, u64>,
    drops: BTreeMap<String, u64>,
}

#[pymethods]
impl EngineStats {
    fn __repr__(&self) -> String {
        format!("EngineStats(legs={}, sip_dialogs={}, drops={:?})", self.legs, self.sip_dialogs, self.drops)
    }
}

impl From<telephony_engine::EngineStats> for EngineStats {
    fn from(stats: telephony_engine::EngineStats) -> Self {
        Self {
            sip_messages_received: stats.sip_messages_received,
            sip_messages_sent: stats.sip_messages_sent,
            sip_retransmissions: stats.sip_retransmissions,
            sip_transactions: stats.sip_transactions,
            sip_dialogs: stats.sip_dialogs,
            sip_connections: stats.sip_connections,
            sip_connections_opened: stats.sip_connections_opened,
            forwarded: stats.forwarded,
            rtp_packets_received: stats.rtp_packets_received,
            rtp_packets_sent: stats.rtp_packets_sent,
            legs: stats.legs,
            ports_free: stats.ports_free,
            ports_in_use: stats.ports_in_use,
            event_queue_depth: stats.event_queue_depth,
            event_queue_capacity: stats.event_queue_capacity,
            refused_overload: stats.refused_overload,
            refused: stats.refused,
            drops: stats.drops,
        }
    }
}

/// How one target is that failed or is probed.
#[pyclass(frozen, get_all, module = "telephony_gateway._core")]
pub(crate) struct TargetReport {
    trunk: String,
    transport: &'static str,
    address: (String, u16),
    state: &'static str,
    last_rtt: Option<f64>,
    failures: u32,
}

#[pymethods]
impl TargetReport {
    fn __repr__(&self) -> String {
        let (ip, port) = &self.address;
        format!("TargetReport(trunk={:?}, address='{ip}:{port}', state={:?})", self.trunk, self.state)
    }
}

impl From<telephony_engine::TargetReport> for TargetReport {
    fn from(report: telephony_engine::TargetReport) -> Self {
        Self {
            trunk: report.trunk,
            transport: report.transport,
            address: (report.address.ip().to_string(), report.address.port()),
            state: report.state.as_str(),
            last_rtt: report.last_rtt.map(|time| time.as_secs_f64()),
            failures: report.failures,
        }
    }
}
