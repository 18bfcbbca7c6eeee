//! `telephony_gateway._core`: the engine for Python.
//!
//! Skin only: convert, call, wrap. What it promises is written in `_core.pyi`; a test compares the two.

mod engine;
mod error;
mod event;
mod stats;

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use telephony_engine::Codec;

/// The Rust engine: SIP and media threads behind one event queue.
#[pymodule(name = "_core", gil_used = true)]
fn core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<engine::Engine>()?;
    module.add_class::<stats::LegStats>()?;
    module.add_class::<stats::EngineStats>()?;
    error::add(module)?;
    event::add(module)?;
    add_aliases(module)
}

/// The type aliases of the stub, so that they can be imported outside annotations too.
fn add_aliases(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let names = PyTuple::new(py, Codec::ALL.map(Codec::name))?;
    module.add("Codec", py.import("typing")?.getattr("Literal")?.get_item(names)?)?;
    module.add("LegId", py.get_type::<pyo3::types::PyInt>())
}
