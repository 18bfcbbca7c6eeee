//! Events as frozen Python objects; a header's text becomes a Python string when it is read.

use crate::error;
use crate::stats::LegStats;
use pyo3::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use telephony_engine::{Event, PassedOn, RegistrationState};

/// A new INVITE; 100 Trying has left already.
#[pyclass(frozen, module = "telephony_gateway._core")]
pub(crate) struct Incoming(Box<telephony_engine::Incoming>);

#[pymethods]
impl Incoming {
    #[getter]
    fn leg(&self) -> u64 {
        self.0.leg.raw()
    }

    #[getter]
    fn sip_call_id(&self) -> &str {
        self.0.sip_call_id()
    }

    #[getter]
    fn request_uri(&self) -> &str {
        self.0.request_uri()
    }

    #[getter(from_uri)]
    fn caller_uri(&self) -> &str {
        self.0.from_uri()
    }

    #[getter(from_display)]
    fn caller_display(&self) -> String {
        self.0.from_display()
    }

    #[getter]
    fn to_uri(&self) -> &str {
        self.0.to_uri()
    }

    #[getter]
    fn source(&self) -> (String, u16) {
        (self.0.source.ip().to_string(), self.0.source.port())
    }

    #[getter]
    fn local(&self) -> (String, u16) {
        (self.0.local.ip().to_string(), self.0.local.port())
    }

    #[getter]
    fn trunk(&self) -> &str {
        &self.0.trunk
    }

    #[getter]
    fn user(&self) -> Option<&str> {
        self.0.user.as_deref()
    }

    #[getter]
    fn replaces(&self) -> Option<u64> {
        self.0.replaces.map(telephony_engine::LegId::raw)
    }

    /// The leg that was dialled already, the route, the numbers called and calling, and how long ago.
    #[getter]
    fn forwarded(&self) -> Option<(u64, &str, &str, &str, f64)> {
        let told = self.0.forwarded.as_ref()?;
        Some((told.leg.raw(), &told.route, &told.to, &told.from, age(told.at)))
    }

    #[getter]
    fn codecs(&self) -> Vec<String> {
        self.0.codecs.clone()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.0.header(name)
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        self.0.headers().collect()
    }

    fn __repr__(&self) -> String {
        format!(
            "Incoming(leg={}, sip_call_id={:?}, source={})",
            self.0.leg.raw(),
            self.sip_call_id(),
            self.0.source
        )
    }
}

/// A provisional response (180, 183...) to our INVITE.
#[pyclass(frozen, get_all, module = "telephony_gateway._core")]
pub(crate) struct Ringing {
    leg: u64,
    status: u16,
    codec: Option<&'static str>,
    passed_on: Option<&'static str>,
    age: f64,
}

/// A dialled leg was answered: ACK has left, its media is negotiated.
#[pyclass(frozen, get_all, module = "telephony_gateway._core")]
pub(crate) struct Answered {
    leg: u64,
    codec: &'static str,
    sip_call_id: String,
    rang: Option<f64>,
    passed_on: Option<&'static str>,
    age: f64,
}

/// The caller's ACK to our 200 arrived.
#[pyclass(frozen, get_all, module = "telephony_gateway._core")]
pub(crate) struct Confirmed {
    leg: u64,
}

/// Media flows: ICE and DTLS are up (WebRTC), or the first RTP packet came (SIP).
#[pyclass(frozen, get_all, module = "telephony_gateway._core")]
pub(crate) struct Connected {
    leg: u64,
}

/// One RFC 4733 digit received from the leg's peer.
#[pyclass(frozen, get_all, module = "telephony_gateway._core")]
pub(crate) struct Digit {
    leg: u64,
    digit: char,
    duration: f64,
}

/// A SIP leg's peer holds the call, or takes it up again.
#[pyclass(frozen, get_all, module = "telephony_gateway._core")]
pub(crate) struct Held {
    leg: u64,
    held: bool,
}

/// A leg's peer asks for its partner to call somebody else (RFC 3515).
#[pyclass(frozen, get_all, module = "telephony_gateway._core")]
pub(crate) struct Refer {
    leg: u64,
    id: u32,
    uri: String,
    headers: Vec<(String, String)>,
    referred_by: String,
    replaces: Option<u64>,
    early_only: bool,
}

/// The final answer of a leg's peer to a REFER of ours.
#[pyclass(frozen, get_all, module = "telephony_gateway._core")]
pub(crate) struct ReferAnswered {
    leg: u64,
    status: u16,
}

/// What has become of what a REFER of ours asked for.
#[pyclass(frozen, get_all, module = "telephony_gateway._core")]
pub(crate) struct Referral {
    leg: u64,
    status: Option<u16>,
    reason: String,
    last: bool,
}

/// The leg is gone; exactly once per leg, nothing follows it.
#[pyclass(frozen, get_all, module = "telephony_gateway._core")]
pub(crate) struct Ended {
    leg: u64,
    by: &'static str,
    cause: &'static str,
    status: Option<u16>,
    reason: String,
    reasons: String,
    contacts: Vec<String>,
    stats: Option<Py<LegStats>>,
    passed_on: bool,
    age: f64,
}

/// The phones of a user that are registered here.
#[pyclass(frozen, get_all, module = "telephony_gateway._core")]
pub(crate) struct Bindings {
    user: String,
    bindings: Vec<Py<Binding>>,
}

/// One phone of a user.
#[pyclass(frozen, get_all, module = "telephony_gateway._core")]
pub(crate) struct Binding {
    token: u64,
    uri: String,
    q: f64,
    expires: f64,
    source: (String, u16),
    transport: &'static str,
    user_agent: String,
}

impl Bindings {
    fn new(py: Python<'_>, told: telephony_engine::Bindings) -> PyResult<Self> {
        let binding = |one: telephony_engine::Binding| {
            let binding = Binding {
                token: one.token,
                uri: one.uri.into(),
                q: f64::from(one.q) / 1000.0,
                expires: one.expires.as_secs_f64(),
                source: (one.source.ip().to_string(), one.source.port()),
                transport: one.transport.name(),
                user_agent: one.user_agent.into(),
            };
            Py::new(py, binding)
        };
        let bindings = told.bindings.into_iter().map(binding).collect::<PyResult<_>>()?;
        Ok(Self { user: told.user.to_string(), bindings })
    }
}

#[pymethods]
impl Bindings {
    fn __repr__(&self) -> String {
        format!("Bindings(user={:?}, {} phones)", self.user, self.bindings.len())
    }
}

#[pymethods]
impl Binding {
    fn __repr__(&self) -> String {
        format!("Binding(token={}, uri={:?})", self.token, self.uri)
    }
}

/// What became of a trunk's registration at its carrier.
#[pyclass(frozen, get_all, module = "telephony_gateway._core")]
pub(crate) struct Registration {
    trunk: String,
    state: &'static str,
    expires: Option<f64>,
    registrar: Option<(String, u16)>,
    status: Option<u16>,
    reason: String,
    retry: Option<f64>,
}

/// The trunks of which no target is well now, each with the seconds until the first is tried in its turn.
#[pyclass(frozen, get_all, module = "telephony_gateway._core")]
pub(crate) struct TrunksDown {
    trunks: HashMap<String, f64>,
}

#[pymethods]
impl TrunksDown {
    fn __repr__(&self) -> String {
        format!("TrunksDown(trunks={:?})", self.trunks)
    }
}

/// The answer to one command.
#[pyclass(frozen, get_all, module = "telephony_gateway._core")]
pub(crate) struct Done {
    correlation: u64,
    leg: u64,
    error: Option<Py<PyAny>>,
    sdp: Option<String>,
    codec: Option<&'static str>,
}

#[pymethods]
impl Ringing {
    fn __repr__(&self) -> String {
        format!("Ringing(leg={}, status={}, codec={:?})", self.leg, self.status, self.codec)
    }
}

#[pymethods]
impl Answered {
    fn __repr__(&self) -> String {
        format!("Answered(leg={}, codec={:?}, sip_call_id={:?})", self.leg, self.codec, self.sip_call_id)
    }
}

#[pymethods]
impl Confirmed {
    fn __repr__(&self) -> String {
        format!("Confirmed(leg={})", self.leg)
    }
}

#[pymethods]
impl Connected {
    fn __repr__(&self) -> String {
        format!("Connected(leg={})", self.leg)
    }
}

#[pymethods]
impl Digit {
    fn __repr__(&self) -> String {
        format!("Digit(leg={}, digit={:?}, duration={})", self.leg, self.digit, self.duration)
    }
}

#[pymethods]
impl Held {
    fn __repr__(&self) -> String {
        format!("Held(leg={}, held={})", self.leg, self.held)
    }
}

#[pymethods]
impl Refer {
    fn __repr__(&self) -> String {
        format!("Refer(leg={}, id={}, uri={:?}, replaces={:?})", self.leg, self.id, self.uri, self.replaces)
    }
}

#[pymethods]
impl ReferAnswered {
    fn __repr__(&self) -> String {
        format!("ReferAnswered(leg={}, status={})", self.leg, self.status)
    }
}

#[pymethods]
impl Referral {
    fn __repr__(&self) -> String {
        format!("Referral(leg={}, status={:?}, last={})", self.leg, self.status, self.last)
    }
}

#[pymethods]
impl Ended {
    fn __repr__(&self) -> String {
        let (leg, by, cause, reason) = (self.leg, self.by, self.cause, &self.reason);
        format!("Ended(leg={leg}, by={by:?}, cause={cause:?}, status={:?}, reason={reason:?})", self.status)
    }
}

#[pymethods]
impl Done {
    fn __repr__(&self) -> String {
        let failed = if self.error.is_some() { "failed" } else { "ok" };
        format!("Done(correlation={}, leg={}, {failed})", self.correlation, self.leg)
    }
}

/// An event as the Python object that stands for it.
pub(crate) fn wrap(py: Python<'_>, event: Event) -> PyResult<Py<PyAny>> {
    Ok(match event {
        Event::Incoming(incoming) => Py::new(py, Incoming(incoming))?.into_any(),
        Event::Ringing { leg, status, codec, passed_on, at } => {
            let codec = codec.map(telephony_engine::Codec::name);
            let (passed_on, age) = (passed_on.map(heard), age(at));
            Py::new(py, Ringing { leg: leg.raw(), status, codec, passed_on, age })?.into_any()
        }
        Event::Held { leg, held } => Py::new(py, Held { leg: leg.raw(), held })?.into_any(),
        Event::Answered { leg, codec, sip_call_id, rang, passed_on, at } => {
            let (rang, passed_on, age) = (rang.map(age), passed_on.map(heard), age(at));
            let (leg, codec, sip_call_id) = (leg.raw(), codec.name(), sip_call_id.into());
            Py::new(py, Answered { leg, codec, sip_call_id, rang, passed_on, age })?.into_any()
        }
        Event::Confirmed { leg } => Py::new(py, Confirmed { leg: leg.raw() })?.into_any(),
        Event::Connected { leg } => Py::new(py, Connected { leg: leg.raw() })?.into_any(),
        Event::Digit { leg, digit, duration } => {
            Py::new(py, Digit { leg: leg.raw(), digit, duration: duration.as_secs_f64() })?.into_any()
        }
        Event::Refer(refer) => Py::new(py, Refer::new(*refer))?.into_any(),
        Event::ReferAnswered { leg, status } => {
            Py::new(py, ReferAnswered { leg: leg.raw(), status })?.into_any()
        }
        Event::Referral { leg, status, reason, last } => {
            Py::new(py, Referral { leg: leg.raw(), status, reason, last })?.into_any()
        }
        Event::Ended(ended) => Py::new(py, Ended::new(py, *ended)?)?.into_any(),
        Event::Registration(told) => Py::new(py, Registration::new(*told))?.into_any(),
        Event::Bindings(told) => Py::new(py, Bindings::new(py, *told)?)?.into_any(),
        Event::TrunksDown(down) => {
            let seconds = |(trunk, wait): (Arc<str>, Duration)| (trunk.to_string(), wait.as_secs_f64());
            Py::new(py, TrunksDown { trunks: down.into_iter().map(seconds).collect() })?.into_any()
        }
        Event::Done(done) => Py::new(py, Done::new(py, *done))?.into_any(),
    })
}

/// The codec of the caller that something was passed on to; empty while its answer is to come.
fn heard(passed_on: PassedOn) -> &'static str {
    passed_on.codec.map_or("", telephony_engine::Codec::name)
}

fn age(at: Instant) -> f64 {
    at.elapsed().as_secs_f64()
}

impl Refer {
    fn new(refer: telephony_engine::Refer) -> Self {
        let telephony_engine::Refer { leg, id, uri, headers, referred_by, replaces } = refer;
        let early_only = replaces.is_some_and(|(_, early_only)| early_only);
        let replaces = replaces.map(|(named, _)| named.raw());
        Self { leg: leg.raw(), id, uri, headers, referred_by, replaces, early_only }
    }
}

impl Ended {
    fn new(py: Python<'_>, ended: telephony_engine::Ended) -> PyResult<Self> {
        let said = ended.said.map(|said| *said).unwrap_or_default();
        Ok(Self {
            leg: ended.leg.raw(),
            by: ended.by.as_str(),
            cause: ended.cause.as_str(),
            status: ended.status,
            reason: ended.reason,
            reasons: said.reasons,
            contacts: said.contacts,
            stats: ended.stats.map(|stats| Py::new(py, LegStats::from(stats))).transpose()?,
            passed_on: ended.passed_on,
            age: age(ended.at),
        })
    }
}

impl Registration {
    fn new(told: telephony_engine::Registration) -> Self {
        let trunk = told.trunk.to_string();
        let gone = Self {
            trunk,
            state: "gone",
            expires: None,
            registrar: None,
            status: None,
            reason: String::new(),
            retry: None,
        };
        match told.state {
            RegistrationState::Registered { expires, registrar } => Self {
                state: "registered",
                expires: Some(expires.as_secs_f64()),
                registrar: Some((registrar.ip().to_string(), registrar.port())),
                ..gone
            },
            RegistrationState::Failed { status, reason, retry } => {
                Self { state: "failed", status, reason, retry: Some(retry.as_secs_f64()), ..gone }
            }
            RegistrationState::Gone => gone,
        }
    }
}

#[pymethods]
impl Registration {
    fn __repr__(&self) -> String {
        format!("Registration(trunk={:?}, state={:?}, reason={:?})", self.trunk, self.state, self.reason)
    }
}

impl Done {
    fn new(py: Python<'_>, done: telephony_engine::Done) -> Self {
        let (error, outcome) = match done.result {
            Ok(outcome) => (None, outcome),
            Err(error) => (Some(error::value(py, error)), telephony_engine::Outcome::default()),
        };
        Self {
            correlation: done.correlation,
            leg: done.leg.raw(),
            error,
            sdp: outcome.sdp,
            codec: outcome.codec.map(telephony_engine::Codec::name),
        }
    }
}

/// Adds the classes, and `Event`, their union.
pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let classes = [
        py.get_type::<Incoming>(),
        py.get_type::<Ringing>(),
        py.get_type::<Answered>(),
        py.get_type::<Confirmed>(),
        py.get_type::<Connected>(),
        py.get_type::<Digit>(),
        py.get_type::<Held>(),
        py.get_type::<Refer>(),
        py.get_type::<ReferAnswered>(),
        py.get_type::<Referral>(),
        py.get_type::<Ended>(),
        py.get_type::<Registration>(),
        py.get_type::<Bindings>(),
        py.get_type::<TrunksDown>(),
        py.get_type::<Done>(),
    ];
    module.add_class::<Binding>()?;
    let mut union: Option<Bound<'_, PyAny>> = None;
    for class in classes {
        module.add(class.name()?, &class)?;
        union = Some(match union {
            Some(union) => union.bitor(&class)?,
            None => class.into_any(),
        });
    }
    module.add("Event", union)
}
