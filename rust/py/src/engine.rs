//! The engine's face.

use crate::error::{Error, codecs, seconds, tone};
use crate::event;
use crate::ladder::Rung;
use crate::refusal::{Refusal, strangers};
use crate::stats::{EngineStats, LegStats, TargetReport};
use pyo3::prelude::*;
use std::net::SocketAddr;
use std::path::PathBuf;
use telephony_engine::{Answer, Caller, Command, Dial, EngineConfig, Kind, LegId, ServerFiles, Transport};

type Headers = Vec<(String, String)>;

/// What came of ringing: the codec, or the number of the `Done` that will tell.
#[derive(IntoPyObject)]
enum Ringing {
    Codec(&'static str),
    Later(u64),
}

/// Certificate, key, and the authority of clients.
type TlsFiles = (PathBuf, PathBuf, Option<PathBuf>);

/// Owns the sockets and threads. Constructing it binds and starts; `stop` ends it.
#[pyclass(frozen, module = "telephony_gateway._core")]
pub(crate) struct Engine(telephony_engine::Engine);

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(
        signature = (*, sip_host, sip_port, sip_tls_port=5061, sip_tls_files=None, sip_public_address=None, rtp_port_range=(20000, 29999), webrtc_host=None,
            webrtc_port=40000, media_workers=1, user_agent="telephony-gateway".to_owned(), media_timeout=60.0,
            event_capacity=8192, dns_servers=String::new(), unknown_sources="take",
            ladder_memory=33_554_432),
        text_signature = "(*, sip_host, sip_port, sip_tls_port=5061, sip_tls_files=None, sip_public_address=None, rtp_port_range=(20000, 29999), \
            webrtc_host=None, webrtc_port=40000, media_workers=1, user_agent='telephony-gateway', \
            media_timeout=60.0, event_capacity=8192, dns_servers='', unknown_sources='take', ladder_memory=33554432)"
    )]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        sip_host: String,
        sip_port: u16,
        sip_tls_port: u16,
        sip_tls_files: Option<TlsFiles>,
        sip_public_address: Option<String>,
        rtp_port_range: (u16, u16),
        webrtc_host: Option<String>,
        webrtc_port: u16,
        media_workers: usize,
        user_agent: String,
        media_timeout: f64,
        event_capacity: usize,
        dns_servers: String,
        unknown_sources: &str,
        ladder_memory: usize,
    ) -> Result<Self, Error> {
        let config = EngineConfig {
            sip_host,
            sip_port,
            sip_tls_port,
            sip_tls: sip_tls_files.map(|(certificate, key, client_authority)| ServerFiles {
                certificate,
                key,
                client_authority,
            }),
            sip_public_address,
            rtp_port_range: rtp_port_range.0..=rtp_port_range.1,
            webrtc_host,
            webrtc_port,
            media_workers,
            user_agent,
            media_timeout: seconds("media_timeout", media_timeout)?,
            event_capacity,
            dns_servers,
            strangers: strangers(unknown_sources)?,
            ladder_memory,
            ..EngineConfig::default()
        };
        Ok(Self(py.detach(|| telephony_engine::Engine::start(&config))?))
    }

    #[getter]
    fn sip_address(&self) -> (String, u16) {
        pair(self.0.sip_address())
    }

    #[getter]
    fn sip_listeners(&self) -> Vec<(&'static str, String, u16)> {
        let named = |(transport, address): &(Transport, SocketAddr)| {
            let (host, port) = pair(*address);
            (transport.name(), host, port)
        };
        self.0.listeners().iter().map(named).collect()
    }

    #[getter]
    fn webrtc_addresses(&self) -> Vec<(String, u16)> {
        self.0.webrtc_addresses().iter().copied().map(pair).collect()
    }

    /// The eventfd that turns readable when events wait.
    fn fileno(&self) -> i32 {
        self.0.event_fd()
    }

    #[pyo3(signature = (limit=256))]
    fn poll_events(&self, py: Python<'_>, limit: usize) -> PyResult<Vec<Py<PyAny>>> {
        self.0.drain(limit).into_iter().map(|event| event::wrap(py, event)).collect()
    }

    #[pyo3(signature = (beside=None))]
    fn new_sip_leg(&self, beside: Option<u64>) -> Result<u64, Error> {
        Ok(self.0.next_leg(Kind::Sip, beside.map(LegId::from_raw))?.raw())
    }

    #[pyo3(signature = (beside=None))]
    fn new_webrtc_leg(&self, beside: Option<u64>) -> Result<u64, Error> {
        Ok(self.0.next_leg(Kind::WebRtc, beside.map(LegId::from_raw))?.raw())
    }

    #[pyo3(
        signature = (leg, *, uri, from_uri, from_display=String::new(), next_hop=None, trunk=String::new(), codecs,
            headers=Headers::new(), timeout=60.0, elsewhere=false, replaces=None, caller=None, caller_codecs=Vec::new()),
        text_signature = "($self, leg, *, uri, from_uri, from_display='', next_hop=None, trunk='', codecs, \
            headers=[], timeout=60.0, elsewhere=False, replaces=None, caller=None, caller_codecs=[])"
    )]
    #[allow(clippy::too_many_arguments)]
    fn dial(
        &self,
        leg: u64,
        uri: String,
        from_uri: String,
        from_display: String,
        next_hop: Option<String>,
        trunk: String,
        codecs: Vec<String>,
        headers: Headers,
        timeout: f64,
        elsewhere: bool,
        replaces: Option<u64>,
        caller: Option<u64>,
        caller_codecs: Vec<String>,
    ) -> Result<Option<u64>, Error> {
        let (codecs, timeout) = (self::codecs(&codecs)?, seconds("timeout", timeout)?);
        let leg = LegId::from_raw(leg);
        let replaces = replaces.map(LegId::from_raw);
        let caller = match caller {
            Some(leg) => Some(Caller { leg: LegId::from_raw(leg), codecs: self::codecs(&caller_codecs)? }),
            None => None,
        };
        let dial = Dial {
            leg,
            uri,
            from_uri,
            from_display,
            next_hop,
            trunk,
            codecs,
            headers,
            timeout,
            elsewhere,
            replaces,
            caller,
        };
        self.carry_out(Command::Dial(Box::new(dial)))
    }

    /// Negotiate the caller's offer and send the provisional; 488 and Ended(not_acceptable) if nothing is common.
    #[pyo3(signature = (leg, *, codecs, status=180))]
    fn ring(&self, leg: u64, codecs: Vec<String>, status: u16) -> Result<Ringing, Error> {
        let (leg, codecs) = (LegId::from_raw(leg), self::codecs(&codecs)?);
        Ok(match self.0.carry_out(Command::Ring { leg, codecs, status })? {
            Answer::Now(outcome) => Ringing::Codec(outcome.codec.map_or("", telephony_engine::Codec::name)),
            Answer::Later(correlation) => Ringing::Later(correlation),
        })
    }

    /// Send 200 with the SDP answer (rings first, silently, if ring was not called).
    fn answer(&self, leg: u64) -> Result<Option<u64>, Error> {
        self.carry_out(Command::Answer { leg: LegId::from_raw(leg) })
    }

    #[pyo3(
        signature = (leg, status, reason=None, headers=Headers::new()),
        text_signature = "($self, leg, status, reason=None, headers=[])"
    )]
    fn reject(
        &self,
        leg: u64,
        status: u16,
        reason: Option<String>,
        headers: Headers,
    ) -> Result<Option<u64>, Error> {
        self.carry_out(Command::Reject { leg: LegId::from_raw(leg), status, reason, headers })
    }

    /// CANCEL, BYE or close, as the leg's state demands; harmless on a leg that is gone.
    #[pyo3(signature = (leg, reason=None))]
    fn hangup(&self, leg: u64, reason: Option<String>) -> Result<Option<u64>, Error> {
        self.carry_out(Command::Hangup { leg: LegId::from_raw(leg), reason })
    }

    fn accept_offer(&self, leg: u64, sdp: String, codecs: Vec<String>) -> Result<u64, Error> {
        self.command(Command::AcceptOffer { leg: LegId::from_raw(leg), sdp, codecs: self::codecs(&codecs)? })
    }

    fn create_offer(&self, leg: u64, codecs: Vec<String>) -> Result<u64, Error> {
        self.command(Command::CreateOffer { leg: LegId::from_raw(leg), codecs: self::codecs(&codecs)? })
    }

    fn accept_answer(&self, leg: u64, sdp: String) -> Result<u64, Error> {
        self.command(Command::AcceptAnswer { leg: LegId::from_raw(leg), sdp })
    }

    fn add_candidate(&self, leg: u64, candidate: Option<String>) -> Result<u64, Error> {
        self.command(Command::AddCandidate { leg: LegId::from_raw(leg), candidate })
    }

    /// None: done at once.
    fn bridge(&self, first: u64, second: u64) -> Result<Option<u64>, Error> {
        let (first, second) = (LegId::from_raw(first), LegId::from_raw(second));
        self.carry_out(Command::Bridge { first, second })
    }

    /// Let two legs hear each other before their call is answered.
    fn preview(&self, first: u64, second: u64) -> Result<u64, Error> {
        self.command(Command::Preview { first: LegId::from_raw(first), second: LegId::from_raw(second) })
    }

    /// Play a ringback tone ("eu", "us") to the leg's peer; None ends it.
    fn ring_back(&self, leg: u64, tone: Option<&str>) -> Result<u64, Error> {
        let tone = tone.map(self::tone).transpose()?;
        self.command(Command::RingBack { leg: LegId::from_raw(leg), tone })
    }

    /// Pass nothing on any more between the leg and the one that it was dialled for, or that for it.
    fn unlink(&self, leg: u64) -> Result<Option<u64>, Error> {
        self.carry_out(Command::Unlink { leg: LegId::from_raw(leg) })
    }

    fn unbridge(&self, leg: u64) -> Result<u64, Error> {
        self.command(Command::Unbridge { leg: LegId::from_raw(leg) })
    }

    #[pyo3(signature = (leg, digits, duration=0.1))]
    fn send_digits(&self, leg: u64, digits: String, duration: f64) -> Result<u64, Error> {
        let duration = seconds("duration", duration)?;
        self.command(Command::SendDigits { leg: LegId::from_raw(leg), digits, duration })
    }

    /// Tell the peers of two legs that were bridged anew what each does: a hold of who was there before is over.
    fn introduce(&self, first: u64, second: u64) -> Result<u64, Error> {
        self.command(Command::Introduce { first: LegId::from_raw(first), second: LegId::from_raw(second) })
    }

    /// Ask a leg's peer by REFER to call somebody else, or to take the place of another leg at that leg's peer.
    #[pyo3(signature = (leg, target="", *, replaces=None, early_only=false, referred_by=None))]
    fn refer(
        &self,
        leg: u64,
        target: &str,
        replaces: Option<u64>,
        early_only: bool,
        referred_by: Option<String>,
    ) -> Result<u64, Error> {
        let replaces = replaces.map(|other| (LegId::from_raw(other), early_only));
        let leg = LegId::from_raw(leg);
        self.command(Command::Refer { leg, target: target.to_owned(), replaces, referred_by })
    }

    fn accept_refer(&self, leg: u64, number: u32) -> Result<u64, Error> {
        self.command(Command::AcceptRefer { leg: LegId::from_raw(leg), id: number })
    }

    fn refuse_refer(&self, leg: u64, number: u32, status: u16) -> Result<u64, Error> {
        self.command(Command::RefuseRefer { leg: LegId::from_raw(leg), id: number, status })
    }

    /// Tell how far a transfer has come; from 200 on it is the last word.
    #[pyo3(signature = (leg, number, status, reason=String::new()), text_signature = "($self, leg, number, status, reason='')")]
    fn notify_refer(&self, leg: u64, number: u32, status: u16, reason: String) -> Result<u64, Error> {
        self.command(Command::NotifyRefer { leg: LegId::from_raw(leg), id: number, status, reason })
    }

    fn leg_stats(&self, py: Python<'_>, leg: u64) -> Option<LegStats> {
        py.detach(|| self.0.leg_stats(LegId::from_raw(leg))).map(LegStats::from)
    }

    fn stats(&self) -> EngineStats {
        self.0.stats().into()
    }

    /// The targets that failed or are probed.
    fn targets(&self) -> Vec<TargetReport> {
        self.0.targets().into_iter().map(TargetReport::from).collect()
    }

    /// What was refused or dropped at the door, the newest first.
    #[pyo3(signature = (limit=1000))]
    fn refusals(&self, limit: usize) -> Vec<Refusal> {
        self.0.refusals(limit).into_iter().map(Refusal::from).collect()
    }

    /// The SIP messages of these legs in their order, and whether there were more.
    fn ladder(&self, legs: Vec<u64>) -> (Vec<Rung>, bool) {
        let legs: Vec<LegId> = legs.into_iter().map(LegId::from_raw).collect();
        let rungs = self.0.ladder(&legs);
        (rungs.messages.into_iter().map(Rung::from).collect(), rungs.truncated)
    }

    /// Replace the trunks: a JSON list, checked in Python; what it does not know is refused.
    fn set_trunks(&self, document: &[u8]) -> Result<(), Error> {
        Ok(self.0.set_trunks(document)?)
    }

    /// Fail as `set_trunks` would, and change nothing.
    fn check_trunks(&self, document: &[u8]) -> Result<(), Error> {
        Ok(self.0.check_trunks(document)?)
    }

    /// Replace the users whose phones may register: a JSON object.
    fn set_users(&self, document: &[u8]) -> Result<(), Error> {
        Ok(self.0.set_users(document)?)
    }

    /// Replace what is known of the dial plan: a JSON object.
    fn set_dial_plan(&self, document: &[u8]) -> Result<(), Error> {
        Ok(self.0.set_dial_plan(document)?)
    }

    /// Ask about each call, whatever the dial plan says.
    fn ask_always(&self, ask: bool) -> Result<(), Error> {
        Ok(self.0.ask_always(ask)?)
    }

    /// New INVITEs get 503 with Retry-After (draining).
    fn refuse_new(&self, refuse: bool) -> Result<(), Error> {
        Ok(self.0.refuse_new(refuse)?)
    }

    /// BYE or CANCEL what is left, wait for the threads; idempotent.
    #[pyo3(signature = (timeout=5.0))]
    fn stop(&self, py: Python<'_>, timeout: f64) -> Result<(), Error> {
        let timeout = seconds("timeout", timeout)?;
        py.detach(|| self.0.stop(timeout));
        Ok(())
    }
}

impl Engine {
    fn command(&self, command: Command) -> Result<u64, Error> {
        Ok(self.0.command(command)?)
    }

    /// None: done at once.
    fn carry_out(&self, command: Command) -> Result<Option<u64>, Error> {
        Ok(match self.0.carry_out(command)? {
            Answer::Now(_) => None,
            Answer::Later(correlation) => Some(correlation),
        })
    }
}

fn pair(address: SocketAddr) -> (String, u16) {
    (address.ip().to_string(), address.port())
}
