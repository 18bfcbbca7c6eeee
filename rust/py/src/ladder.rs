//! A call's SIP messages.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::time::UNIX_EPOCH;

/// One SIP message of a leg.
#[pyclass(frozen, module = "telephony_gateway._core")]
pub(crate) struct Rung(telephony_engine::Rung);

#[pymethods]
impl Rung {
    #[getter]
    fn at(&self) -> f64 {
        self.0.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    }

    #[getter]
    fn leg(&self) -> u64 {
        self.0.leg.raw()
    }

    #[getter]
    fn sent(&self) -> bool {
        self.0.sent
    }

    #[getter]
    fn transport(&self) -> &'static str {
        self.0.transport.name()
    }

    #[getter]
    fn local(&self) -> (String, u16) {
        (self.0.local.ip().to_canonical().to_string(), self.0.local.port())
    }

    #[getter]
    fn remote(&self) -> (String, u16) {
        (self.0.remote.ip().to_canonical().to_string(), self.0.remote.port())
    }

    #[getter]
    fn message<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.message)
    }
}

impl From<telephony_engine::Rung> for Rung {
    fn from(rung: telephony_engine::Rung) -> Self {
        Self(rung)
    }
}
