//! Integration tests of the crate, one binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking; clippy.toml's allowances end at the test functions themselves"
)]

mod admission;
mod calls;
mod challenged;
mod corpora;
mod corpus;
mod dialogs;
mod failover;
mod flows;
mod info;
mod parse;
mod property;
mod property_machines;
mod races;
mod refer;
mod refresh;
mod refusals;
mod register;
mod registrar;
mod rel100;
mod reoffer;
mod streams;
mod timers;
mod uri;
mod wire;
