//! Engines over real sockets on loopback: calls with sound through them, refusals, overload, the end.

mod calls;
mod descriptors;
mod garbage;
mod media;
mod rig;
mod start;
