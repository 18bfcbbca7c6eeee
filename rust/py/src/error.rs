//! Errors change language here, and only here.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use std::time::Duration;
use telephony_engine::{Codec, Ringback};

pyo3::create_exception!(
    telephony_gateway._core,
    EngineError,
    PyException,
    "The engine could not start or a command was refused: `code` is a stable word, the message says the fix."
);

/// An error of the engine, or of an argument that the engine has no word for.
pub(crate) enum Error {
    Engine(telephony_engine::EngineError),
    Argument(String),
}

impl From<telephony_engine::EngineError> for Error {
    fn from(error: telephony_engine::EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        Python::attach(|py| match error {
            Error::Engine(error) => raise(py, error.code.as_str(), error.setting, error.message),
            Error::Argument(message) => raise(py, "invalid", None, message),
        })
    }
}

fn raise(py: Python<'_>, code: &str, setting: Option<&str>, message: String) -> PyErr {
    let error = EngineError::new_err(message);
    let value = error.value(py);
    match value.setattr("code", code).and_then(|()| value.setattr("setting", setting)) {
        Ok(()) => error,
        Err(other) => other,
    }
}

/// An error as a value, for `Done.error`.
pub(crate) fn value(py: Python<'_>, error: telephony_engine::EngineError) -> Py<PyAny> {
    PyErr::from(Error::from(error)).into_value(py).into_any()
}

/// Codecs by their names.
pub(crate) fn codecs(names: &[String]) -> Result<Vec<Codec>, Error> {
    let known = || Codec::ALL.map(Codec::name).join(", ");
    let parse = |name: &String| {
        Codec::parse(name)
            .ok_or_else(|| Error::Argument(format!("no codec is called {name:?}; we know {}", known())))
    };
    names.iter().map(parse).collect()
}

/// The ringback tone of this name.
pub(crate) fn tone(name: &str) -> Result<Ringback, Error> {
    let known = || Ringback::ALL.map(Ringback::name).join(", ");
    Ringback::parse(name)
        .ok_or_else(|| Error::Argument(format!("no ringback tone is called {name:?}; we know {}", known())))
}

/// Some thirty years.
const LONGEST: Duration = Duration::from_secs(1_000_000_000);

/// Seconds that can be waited.
pub(crate) fn seconds(name: &str, value: f64) -> Result<Duration, Error> {
    // A time from now must stay one that the clock can tell.
    let sound = Duration::try_from_secs_f64(value).ok().filter(|duration| *duration <= LONGEST);
    sound.ok_or_else(|| Error::Argument(format!("{name} must be seconds from 0 to 1e9, not {value}")))
}

/// Adds the exception to the module.
pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let class = module.py().get_type::<EngineError>();
    class.setattr("code", "internal")?;
    class.setattr("setting", None::<&str>)?;
    module.add("EngineError", class)
}
