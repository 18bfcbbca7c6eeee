//! `telephony_gateway._core`: the engine for Python.
//!
//! Skin only: convert, call, wrap. What it promises is written in `_core.pyi`; a test compares the two.

mod engine;
mod error;
mod event;
mod ladder;
mod refusal;
mod stats;

use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};
use telephony_engine::Codec;

/// The Rust engine: SIP and media threads behind one event queue.
#[pymodule(name = "_core", gil_used = true)]
fn core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<engine::Engine>()?;
    module.add_class::<ladder::Rung>()?;
    module.add_class::<refusal::Refusal>()?;
    module.add_class::<stats::LegStats>()?;
    module.add_class::<stats::EngineStats>()?;
    module.add_class::<stats::TargetReport>()?;
    error::add(module)?;
    event::add(module)?;
    add_aliases(module)
}

/// The type aliases of the stub, so that they can be imported outside annotations too. PyO3's `__all__` goes: the
/// stub does not promise it.
fn add_aliases(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let typing = module.py().import("typing")?;
    let (literal, union) = (typing.getattr("Literal")?, typing.getattr("Union")?);
    let names =
        Codec::ALL.into_iter().map(|codec| literal.get_item(codec.name())).collect::<PyResult<Vec<_>>>()?;
    module.add("Codec", union.get_item(PyTuple::new(module.py(), names)?)?)?;
    module.add("LegId", module.py().get_type::<PyInt>())?;
    module.delattr("__all__")
}
