//! Engines over real sockets on loopback: calls with sound through them, refusals, overload, the end.

// Clippy allows these in functions marked #[test] alone; the rig around them is a test as well.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod calls;
#[path = "../../../sip/tests/it/corpora.rs"]
mod corpora;
mod corpus;
mod descriptors;
mod garbage;
mod ladder;
mod link;
mod media;
mod phones;
mod renew;
mod rig;
mod sizes;
mod start;
mod streams;
mod transfer;
