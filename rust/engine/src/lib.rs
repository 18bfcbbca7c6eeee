//! The engine of the gateway: sockets, threads and the clock around the two pure crates.
//!
//! [`Engine::start`] binds and starts one SIP thread and some media workers. Drive it by [`Engine::carry_out`], and by
//! reading [`Engine::drain`] whenever [`Engine::event_fd`] is readable; [`Engine::stop`] ends it. No thread of the
//! engine ever waits for the reader of its events: retransmissions, refusals and media go on while a decision waits.
//!
//! ```text
//! command -> SIP thread  <-> endpoint (telephony-sip)  <-> one UDP socket
//!         \-> worker 0..n <-> switch (telephony-media) <-> RTP ports, one WebRTC socket each
//! events  <- both
//! ```

mod command;
mod config;
mod dial_plan;
mod engine;
mod error;
mod event;
mod guard;
mod health;
mod ladder;
mod leg;
mod message;
mod ports;
mod queue;
mod refusals;
mod resolve;
mod shield;
mod sip_thread;
mod socket;
mod stats;
mod transport;
mod trunk;
mod users;
mod worker;

pub use command::{Caller, Command, Dial};
pub use config::EngineConfig;
pub use engine::{Answer, Engine};
pub use error::{Code, EngineError};
pub use event::{
    Bindings, Cause, Done, Ended, Event, Forwarded, Incoming, Outcome, PassedOn, Refer, Registration,
    RegistrationState, Side,
};
pub use health::{TargetReport, TargetState};
pub use ladder::{Rung, Rungs};
pub use leg::{Kind, LegId};
pub use refusals::Refusal;
pub use stats::EngineStats;
pub use telephony_media::codec::Codec;
pub use telephony_media::ringback::Ringback;
pub use telephony_media::stats::LegStats;
pub use telephony_sip::users::Binding;
pub use telephony_sip::{Stranger, Transport};
pub use transport::tls::ServerFiles;
pub use transport::{Limits as StreamLimits, Pause};
