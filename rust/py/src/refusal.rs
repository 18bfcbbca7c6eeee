//! Refusals at the door.

use crate::error::Error;
use pyo3::prelude::*;
use std::time::UNIX_EPOCH;
use telephony_engine::{EngineError, Stranger};

/// Something that was refused, or dropped without an answer (then `status` is None).
#[pyclass(frozen, get_all, module = "telephony_gateway._core")]
pub(crate) struct Refusal {
    at: f64,
    rule: &'static str,
    status: Option<u16>,
    source: (String, u16),
    trunk: String,
    request: String,
    reason: String,
}

#[pymethods]
impl Refusal {
    fn __repr__(&self) -> String {
        format!("Refusal(rule={:?}, status={:?}, reason={:?})", self.rule, self.status, self.reason)
    }
}

impl From<telephony_engine::Refusal> for Refusal {
    fn from(refusal: telephony_engine::Refusal) -> Self {
        let what = refusal.what;
        Self {
            at: refusal.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            rule: what.ground.as_str(),
            status: what.status,
            source: (what.source.ip().to_canonical().to_string(), what.source.port()),
            trunk: what.trunk.to_string(),
            request: what.request,
            reason: what.reason,
        }
    }
}

/// What becomes of strangers, by its word.
pub(crate) fn strangers(word: &str) -> Result<Stranger, Error> {
    match word {
        "take" => Ok(Stranger::Take),
        "drop" => Ok(Stranger::Drop),
        "refuse" => Ok(Stranger::Refuse),
        _ => {
            let message = format!("unknown_sources must be take, drop or refuse, not {word:?}");
            Err(EngineError::setting("SIP_UNKNOWN_SOURCES", message).into())
        }
    }
}
