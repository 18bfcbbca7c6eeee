//! Asking a target whether it is alive: OPTIONS outside any dialog (RFC 3261 11.1).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::failover::unavailable;
use super::headers::{ACCEPT, BuilderExt};
use super::{Auth, Endpoint};
use crate::timer::TimerKind;
use crate::transaction::{ClientKey, ClientSignal, Request, User};
use crate::{Builder, Error, Failure, Message, Method, Name, Profile, Target, Uri};

/// An OPTIONS to be sent.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Comes back with the answer.
    pub number: u64,
    /// Where to.
    pub target: Target,
    /// The Request-URI, which is also whom it is To.
    pub request_uri: String,
    /// From, a name-addr without tag.
    pub from: String,
    /// How long to wait for an answer; Timer F at most.
    pub patience: Duration,
    /// Who we are to the target where it challenges us (RFC 3261 22).
    pub profile: Arc<Profile>,
}

/// What a probe has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// As the probe had it.
    pub number: u64,
    /// Any answer but 503 and 408 means that somebody is there, whatever it thinks of OPTIONS (11.2).
    pub result: Result<u16, Failure>,
}

/// A probe under way to somebody who may ask who we are.
#[derive(Debug)]
pub(super) struct Challengeable {
    pub(super) auth: Box<Auth>,
    /// When it is given up, however often it was challenged.
    pub(super) until: Instant,
}

impl Endpoint {
    /// Sends an OPTIONS; [`Self::poll_probed`] tells what it came to.
    ///
    /// # Errors
    /// When the tables are full, or the request cannot be written.
    pub fn probe(&mut self, now: Instant, probe: &Probe) -> Result<(), Error> {
        if self.is_full() {
            return Err(Error::Full);
        }
        Uri::parse(&probe.request_uri)?;
        let branch = self.ident.branch();
        let bytes = self.write_options(probe, &branch).build()?;
        let (flow, user) = (probe.target.flow, User::Probe(probe.number));
        let request = Request { method: Method::Options, branch, bytes, flow, user };
        let client = self.clients.send(&mut self.io, now, request);
        let until = now + probe.patience.min(self.io.values.t1.saturating_mul(64));
        self.hurry_probe(now, client, until);
        if let Some(auth) = Auth::of(&probe.profile, flow.remote.ip()) {
            self.challengeable.insert(probe.number, Challengeable { auth, until });
        }
        Ok(())
    }

    /// Gives up on a probe at this time.
    pub(super) fn hurry_probe(&mut self, now: Instant, client: ClientKey, until: Instant) {
        let left = until.saturating_duration_since(now);
        self.clients.restart(&mut self.io, now, client, TimerKind::F, left);
    }

    /// The next probe that has come to something.
    pub fn poll_probed(&mut self) -> Option<Probed> {
        self.probed.pop_front()
    }

    fn write_options(&mut self, probe: &Probe, branch: &str) -> Builder {
        let (call_id, tag) = (self.ident.call_id(), self.ident.tag());
        Builder::request(Method::Options, &probe.request_uri)
            .via(probe.target.flow.transport, &probe.target.contact, branch)
            .safe(Name::MaxForwards, "70")
            .header(Name::From, [&probe.from, ";tag=", &tag].concat())
            .header(Name::To, ["<", &probe.request_uri, ">"].concat())
            .safe(Name::CallId, &call_id)
            .cseq(1, Method::Options)
            .contact(&probe.target.contact)
            .header(Name::Accept, ACCEPT)
            .safe(Name::UserAgent, &self.user_agent)
    }

    /// A provisional response is none yet.
    pub(super) fn probed(&mut self, number: u64, signal: ClientSignal, response: Option<&Message>) {
        let status = response.and_then(Message::status);
        let result = match (signal, status) {
            (ClientSignal::Timeout, _) => Err(Failure::Silent),
            (ClientSignal::TransportError, _) => Err(Failure::Unreachable),
            (ClientSignal::Response, Some(status)) if status.is_provisional() => return,
            (ClientSignal::Response, Some(status)) => match (status.0, response) {
                (503, Some(response)) => Err(unavailable(response)),
                (408, _) => Err(Failure::Silent),
                (other, _) => Ok(other),
            },
            (ClientSignal::Response, None) => return,
        };
        self.challengeable.remove(&number);
        self.probed.push_back(Probed { number, result });
    }
}
