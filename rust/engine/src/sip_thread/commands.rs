//! Commands for SIP legs.

use super::leg::{Asker, Flows, Leg, Pending, State};
use super::locate::Located;
use super::offer;
use super::{Ended, SipThread};
use crate::command::{Command, Dial};
use crate::config::in_brackets;
use crate::error::Code;
use crate::event::{Cause, Done, Event, Outcome, Side};
use crate::guard::guard;
use crate::message::{MediaAddress, MediaJob, Purpose};
use crate::resolve::{Candidate, Target};
use crate::transport::domain;
use crate::trunk::{Path, Trunks};
use crate::{EngineError, LegId};
use bytes::Bytes;
use smallvec::{SmallVec, smallvec};
use std::time::Instant;
use telephony_media::codec::Codec;
use telephony_sip::{Flow, Scheme, Transport, Uri};

type Result<T = ()> = std::result::Result<T, EngineError>;

impl SipThread {
    /// Carries out a command; those that wait for a worker answer later.
    pub(super) fn on_command(&mut self, now: Instant, correlation: u64, command: Command) {
        let (leg, dials) = (command.leg(), matches!(command, Command::Dial(_)));
        let is_told = command.is_told();
        let stats = std::sync::Arc::clone(&self.stats);
        let result = guard(&stats.losses, || match command {
            Command::Dial(dial) => self.dial(now, dial).map(Some),
            Command::Ring { codecs, status, .. } => self.ring(now, correlation, leg, codecs, status),
            Command::Answer { .. } => self.answer(now, correlation, leg),
            Command::Reject { status, reason, headers, .. } => {
                self.reject(now, leg, status, reason.as_deref(), &headers).map(|()| Some(Outcome::default()))
            }
            Command::Hangup { reason, .. } => {
                self.hang_up(now, leg, reason.as_deref());
                Ok(Some(Outcome::default()))
            }
            Command::Unlink { .. } => {
                self.unlink(leg);
                Ok(Some(Outcome::default()))
            }
            command => self.transfer(now, command).map(|()| Some(Outcome::default())),
        });
        match result {
            Some(Ok(None)) => {}
            Some(Ok(Some(outcome))) if is_told => {
                if let Some(result) = self.hand_over(correlation, Ok(outcome)) {
                    let done = Event::Done(Box::new(Done { correlation, leg, result }));
                    self.events.send_quietly(now, done);
                }
            }
            Some(Ok(Some(outcome))) => self.done(correlation, leg, Ok(outcome)),
            Some(Err(error)) => {
                let why = error.to_string();
                self.done(correlation, leg, Err(error));
                if dials && !self.legs.contains_key(&leg) {
                    // Nobody waits for the command: its caller goes by the end of the leg.
                    let ended = Ended::new(leg, Side::System, Cause::Unreachable, why);
                    self.events.send(Event::Ended(Box::new(ended)));
                }
            }
            None => {
                self.done(correlation, leg, Err(EngineError::new(Code::Internal, "a fault in the gateway")));
                self.end_by(now, leg, Side::System, Cause::Error, "a fault in the gateway");
            }
        }
    }

    /// Begins a call out. From here on every failure is the leg's end, not the command's.
    pub(super) fn dial(&mut self, now: Instant, mut dial: Box<Dial>) -> Result<Outcome> {
        let leg = dial.leg;
        if self.legs.contains_key(&leg) {
            return Err(EngineError::wrong_state("the leg is in use"));
        }
        if self.stop_at.is_some() {
            return Err(EngineError::stopped());
        }
        if let Some(other) = dial.replaces
            && let Err(error) = self.aim_at_peer(&mut dial, other)
        {
            // The leg to be replaced is gone meanwhile: its peer is nowhere to be found.
            self.legs.insert(leg, Leg::new(State::Resolving(dial), Vec::new()));
            self.end(Ended::new(leg, Side::System, Cause::Unreachable, error.message));
            return Ok(Outcome::default());
        }
        if let Some(token) = dial.phone() {
            return self.dial_phone(now, dial, token);
        }
        let (hop, path) = (dial.next_hop.as_deref().unwrap_or(&dial.uri), self.trunks.path(&dial.trunk));
        let mut target = Target::parse_for(hop, path.transport)?;
        if is_secure(&dial.uri) {
            target = target.secured()?;
        }
        let (codecs, caller) = (dial.codecs.clone(), dial.caller.take());
        self.legs.insert(leg, Leg::new(State::Resolving(dial), codecs));
        caller.into_iter().for_each(|caller| self.link(caller, leg));
        match target {
            Target::Address(candidate) => self.on_located(now, leg, Ok(smallvec![candidate])),
            Target::Name(question) => self.locate(now, leg, &question),
        }
        Ok(Outcome::default())
    }

    /// Calls a phone that registered here: by the flow it keeps open, along the Path it gave (RFC 3327 5.3).
    fn dial_phone(&mut self, now: Instant, mut dial: Box<Dial>, token: u64) -> Result<Outcome> {
        let gone = || EngineError::wrong_state("the phone is registered no more");
        let way = self.endpoint.way(token).ok_or_else(gone)?;
        if is_secure(&dial.uri) && way.flow.transport != Transport::Tls {
            return Err(EngineError::wrong_state(
                "a sips: URI is called over TLS, which the phone does not use",
            ));
        }
        dial.headers.extend(way.path.iter().map(|route| ("Route".to_owned(), route.to_string())));
        let (leg, codecs, caller) = (dial.leg, dial.codecs.clone(), dial.caller.take());
        self.legs.insert(leg, Leg::new(State::Resolving(dial), codecs));
        caller.into_iter().for_each(|caller| self.link(caller, leg));
        let address = self.media_address(way.flow, self.trunks.path(""));
        self.offer_by(now, leg, smallvec![way.flow], address);
        Ok(Outcome::default())
    }

    /// Where the next hop is is known, or why it is nowhere.
    pub(super) fn on_located(&mut self, now: Instant, leg: LegId, result: Located) {
        let Some(State::Resolving(dial)) = self.legs.get(&leg).map(|entry| &entry.state) else { return };
        if let (true, Ok(candidates)) = (dial.elsewhere, &result)
            && self.trunks.is_at(&dial.trunk, dial.next_hop.as_deref())
        {
            self.health.note(&dial.trunk, candidates);
        }
        match result.and_then(|candidates| self.flows(now, dial, candidates)) {
            Ok((flows, address)) => self.offer_by(now, leg, flows, address),
            Err(reason) => self.end(Ended::new(leg, Side::System, Cause::Unreachable, reason)),
        }
    }

    /// The ways of a call out are known; asks the worker for our offer.
    fn offer_by(&mut self, now: Instant, leg: LegId, flows: Flows, address: MediaAddress) {
        let Some(entry) = self.legs.get_mut(&leg) else { return };
        if let State::Resolving(dial) = std::mem::replace(&mut entry.state, State::Calling) {
            entry.state = State::Offering(dial, flows);
        }
        entry.address = Some(address);
        let job = MediaJob::Offer { address, codecs: entry.codecs.clone() };
        self.ask_worker(now, leg, Purpose::Dial, job);
    }

    /// The ways to the candidates, the well ones first. One offer goes to all of them, so its media address must do
    /// for all: those that would need another one than the first are left out.
    fn flows(
        &self,
        now: Instant,
        dial: &Dial,
        mut candidates: SmallVec<[Candidate; 1]>,
    ) -> std::result::Result<(Flows, MediaAddress), String> {
        self.health.order(now, &mut candidates);
        let (hop, path) = (dial.next_hop.as_deref().unwrap_or(&dial.uri), self.trunks.path(&dial.trunk));
        let mut why = String::new();
        let mut flows = Flows::new();
        let secure = is_secure(&dial.uri);
        for candidate in candidates {
            if secure && candidate.transport != Transport::Tls {
                why =
                    format!("{} is called over TLS or not at all, and {hop} is no TLS (RFC 5630)", dial.uri);
                continue;
            }
            match self.flow_to(hop, path, &candidate) {
                Ok(flow) => flows.push(flow),
                Err(reason) => why = reason,
            }
        }
        let Some(address) = flows.first().map(|flow| self.media_address(*flow, path)) else {
            return Err(why);
        };
        flows.retain(|flow| self.media_address(*flow, path) == address);
        Ok((flows, address))
    }

    /// The flow to a next hop as found: our side is the address that packets to it will leave from. Under TLS it must
    /// prove the domain of the hop as written, not what the DNS made of it (RFC 5922 5).
    pub(super) fn flow_to(
        &self,
        hop: &str,
        path: &Path,
        candidate: &Candidate,
    ) -> std::result::Result<Flow, String> {
        let mut flow = self.addresses.flow_to(candidate.transport, candidate.address, path.local)?;
        if candidate.transport == Transport::Tls {
            let domain = domain(hop).ok_or_else(|| format!("{hop} names no host"))?;
            flow.identity = Some(self.tls.identity(&path.tls, &domain)?);
        }
        Ok(flow)
    }

    /// The offer is there: the INVITE leaves.
    pub(super) fn send_invite(&mut self, now: Instant, leg: LegId, offer: String) {
        let Some(entry) = self.legs.get_mut(&leg) else { return };
        let State::Offering(dial, flows) = std::mem::replace(&mut entry.state, State::Calling) else {
            return;
        };
        entry.local_sdp = Some(offer.clone());
        let Some((first, others)) = flows.split_first() else { return };
        let (path, secure) = (self.trunks.path(&dial.trunk), is_secure(&dial.uri));
        let dialled = match dial.phone() {
            Some(_) => Trunks::phone(),
            None => self.trunks.profile(&dial.trunk, dial.next_hop.as_deref()),
        };
        let invite = telephony_sip::Dial {
            flow: *first,
            contact: self.contact(*first, path, secure),
            others: others.iter().map(|flow| self.target(*flow, path, secure)).collect(),
            elsewhere: dial.elsewhere,
            to: format!("<{}>", dial.uri),
            from: name_addr(&dial.from_display, &dial.from_uri),
            request_uri: dial.uri,
            headers: dial.headers,
            body: Some(offer::body(offer)),
            timeout: dial.timeout,
            profile: dialled,
        };
        flows.iter().for_each(|flow| self.shield.expect(flow.remote.ip(), &self.trunks));
        if let Err(error) = self.endpoint.dial(now, leg.sip(), invite) {
            use telephony_sip::Error::{Full, TrunkFull};
            let status = matches!(error, Full | TrunkFull(_)).then_some(503);
            let failed = Ended::new(leg, Side::System, Cause::Error, error.to_string());
            return self.end(Ended { status, ..failed });
        }
        if let Some(call_id) = self.endpoint.call_id(leg.sip()) {
            self.ladder.open(leg, call_id);
        }
    }

    /// A way as the endpoint wants it.
    pub(super) fn target(&self, flow: Flow, path: &Path, secure: bool) -> telephony_sip::Target {
        telephony_sip::Target { flow, contact: self.contact(flow, path, secure) }
    }

    fn ring(
        &mut self,
        now: Instant,
        correlation: u64,
        leg: LegId,
        codecs: Vec<Codec>,
        status: u16,
    ) -> Result<Option<Outcome>> {
        self.unlink(leg);
        let entry = self.legs.get_mut(&leg).ok_or_else(EngineError::unknown_leg)?;
        match &mut entry.state {
            State::Incoming(_) => {
                let pending = Pending { ring: Some((Asker::Command(correlation), status)), answer: None };
                self.negotiate(now, leg, codecs, pending)?;
                Ok(None)
            }
            State::Ringing => self.send_provisional(now, leg, status).map(Some),
            _ => Err(EngineError::wrong_state("the leg does not wait for an answer of ours")),
        }
    }

    fn answer(&mut self, now: Instant, correlation: u64, leg: LegId) -> Result<Option<Outcome>> {
        self.unlink(leg);
        let entry = self.legs.get_mut(&leg).ok_or_else(EngineError::unknown_leg)?;
        match &mut entry.state {
            State::Incoming(_) => {
                let pending = Pending { ring: None, answer: Some(Asker::Command(correlation)) };
                self.negotiate(now, leg, Codec::ALL.to_vec(), pending)?;
                Ok(None)
            }
            State::Negotiating(pending) if pending.answer.is_none() => {
                pending.answer = Some(Asker::Command(correlation));
                Ok(None)
            }
            State::Ringing => self.send_answer(now, leg).map(Some),
            _ => Err(EngineError::wrong_state("the leg does not wait for an answer of ours")),
        }
    }

    /// Asks the worker for an answer to the INVITE's offer, or for our offer if it brought none.
    pub(super) fn negotiate(
        &mut self,
        now: Instant,
        leg: LegId,
        codecs: Vec<Codec>,
        pending: Pending,
    ) -> Result {
        let entry = self.legs.get_mut(&leg).ok_or_else(EngineError::unknown_leg)?;
        let (State::Incoming(offer), Some(address)) = (&entry.state, entry.address) else {
            return Err(EngineError::wrong_state("the leg is being answered"));
        };
        let job = match offer {
            Some(offer) => {
                MediaJob::AcceptOffer { address, offer: offer::text(offer), codecs: codecs.clone() }
            }
            None => MediaJob::Offer { address, codecs: codecs.clone() },
        };
        entry.awaits_late_answer = offer.is_none();
        entry.codecs = codecs;
        entry.state = State::Negotiating(pending);
        self.ask_worker(now, leg, Purpose::Incoming, job);
        Ok(())
    }

    /// Sends a provisional response. Early media is announced by the answer in a 183 (RFC 3261 13.3.1.1).
    pub(super) fn send_provisional(&mut self, now: Instant, leg: LegId, status: u16) -> Result<Outcome> {
        let entry = self.legs.get(&leg).ok_or_else(EngineError::unknown_leg)?;
        // RFC 3262 5: where no offer came, a reliable response makes ours and its PRACK brings the answer.
        let offers = entry.awaits_late_answer && self.endpoint.is_reliable(leg.sip());
        let described = offers || (status == 183 && !entry.awaits_late_answer);
        let early = entry.local_sdp.clone().filter(|_| described);
        let outcome = Outcome { codec: entry.codec, ..Outcome::default() };
        self.endpoint.provisional(now, leg.sip(), status, early.map(offer::body)).map_err(refused)?;
        Ok(outcome)
    }

    pub(super) fn send_answer(&mut self, now: Instant, leg: LegId) -> Result<Outcome> {
        let entry = self.legs.get_mut(&leg).ok_or_else(EngineError::unknown_leg)?;
        let outcome = Outcome { codec: entry.codec, ..Outcome::default() };
        let body = entry.local_sdp.clone().map(offer::body);
        self.endpoint.answer(now, leg.sip(), body).map_err(refused)?;
        entry.state = State::Up;
        Ok(outcome)
    }

    fn reject(
        &mut self,
        now: Instant,
        leg: LegId,
        status: u16,
        reason: Option<&str>,
        headers: &[(String, String)],
    ) -> Result {
        if !self.legs.contains_key(&leg) {
            return Err(EngineError::unknown_leg());
        }
        self.endpoint.reject(now, leg.sip(), status, reason, headers).map_err(refused)
    }

    pub(super) fn hang_up(&mut self, now: Instant, leg: LegId, reason: Option<&str>) {
        let Some(entry) = self.legs.get(&leg) else { return };
        if !entry.is_signalled() {
            return self.end(Ended::new(leg, Side::Local, Cause::Cancel, reason.unwrap_or("given up")));
        }
        let header = reason.map(reason_value);
        if let Err(error) = self.endpoint.hangup(now, leg.sip(), header.as_deref()) {
            self.end(Ended::new(leg, Side::System, Cause::Error, error.to_string()));
        }
    }

    /// Ends a leg for a reason that the endpoint does not know.
    pub(super) fn end_by(&mut self, now: Instant, leg: LegId, by: Side, cause: Cause, reason: &str) {
        let Some(entry) = self.legs.get_mut(&leg) else { return };
        if !entry.is_signalled() {
            return self.end(Ended::new(leg, by, cause, reason));
        }
        entry.why = Some((by, cause, reason.into()));
        self.hang_up(now, leg, Some(reason));
    }

    /// Forgets a leg and reports its end: by its worker if it has media there, so that nothing follows.
    pub(super) fn end(&mut self, mut ended: Ended) {
        let leg = ended.leg;
        let Some(entry) = self.legs.remove(&leg) else { return };
        self.ladder.close(leg);
        if let State::Negotiating(pending) = entry.state {
            for correlation in pending.correlations() {
                self.done(correlation, leg, Err(EngineError::wrong_state("the leg ended meanwhile")));
            }
        }
        self.part(leg, entry.link);
        self.give_up_renewal(Instant::now(), entry.renewing);
        ended.said = entry.said;
        if let Some((by, cause, reason)) = entry.why {
            (ended.by, ended.cause, ended.reason) = (by, cause, reason);
        }
        let ended = match self.workers.get_mut(leg.worker()).filter(|_| entry.has_media) {
            Some(worker) => worker.end(Box::new(ended)),
            None => Some(Box::new(ended)),
        };
        match ended {
            // Whoever hung up knows already, and only waits for the counters; what was passed on leaves nothing to do.
            Some(ended) if ended.by == Side::Local || ended.passed_on => {
                self.events.send_quietly(Instant::now(), Event::Ended(ended));
            }
            Some(ended) => self.events.send(Event::Ended(ended)),
            None => {}
        }
    }

    /// Asks the worker of a leg for work on its media; [`SipThread::on_media`] takes the answer, never before this
    /// returns. What a worker too far behind cannot begin fails at once.
    pub(super) fn ask_worker(&mut self, now: Instant, leg: LegId, purpose: Purpose, job: MediaJob) {
        let Some(worker) = self.workers.get_mut(leg.worker()).filter(|worker| !worker.is_clogged()) else {
            return self.on_media(now, leg, purpose, Err(EngineError::queue_full()));
        };
        if let Some(entry) = self.legs.get_mut(&leg) {
            entry.has_media = true;
        }
        let done = worker.ask(leg, purpose, job);
        self.finished.extend(done.map(|result| (leg, purpose, result)));
    }

    /// `host:port` for Contact and Via, with what brings requests back by the same transport. Whoever calls a `sips:`
    /// URI is told one (RFC 3261 12.1.1).
    pub(super) fn contact(&self, flow: Flow, path: &Path, secure: bool) -> String {
        let public = path.advertise.as_ref().or(self.public.as_ref());
        let host = public.map_or_else(|| in_brackets(flow.local.ip()), |public| public.host.clone());
        let port = flow.local.port();
        match secure && flow.transport == Transport::Tls {
            true => format!("sips:{host}:{port}"),
            false => format!("{host}:{port}{}", flow.transport.uri_parameter()),
        }
    }

    /// Where the media of a leg with this flow lives. Without a public address what is bound is what is advertised,
    /// so that RTP leaves from the address that the peer was told.
    pub(super) fn media_address(&self, flow: Flow, path: &Path) -> MediaAddress {
        let local = flow.local.ip();
        let public = path.advertise.as_ref().or(self.public.as_ref());
        let (bind, advertise) = match public {
            Some(public) if public.ip.is_ipv4() == local.is_ipv4() => {
                (self.addresses.bound(local), public.ip)
            }
            _ => (local, local),
        };
        MediaAddress { bind, local, advertise, signals_keys: path.signals_keys }
    }

    /// The peer's answer goes to the worker.
    pub(super) fn apply_answer(&mut self, now: Instant, leg: LegId, purpose: Purpose, answer: &Bytes) {
        self.ask_worker(now, leg, purpose, MediaJob::AcceptAnswer { answer: offer::text(answer) });
    }
}

pub(super) fn refused(error: telephony_sip::Error) -> EngineError {
    EngineError::new(Code::WrongState, error.to_string())
}

/// Whether a URI wants TLS on every hop (RFC 3261 26.2.2).
pub(super) fn is_secure(uri: &str) -> bool {
    Uri::parse(uri).is_ok_and(|uri| uri.scheme() == Scheme::Sips)
}

/// A name-addr (RFC 3261 20.10); the display name is always quoted, so that nothing in it is syntax.
fn name_addr(display: &str, uri: &str) -> String {
    match display {
        "" => format!("<{uri}>"),
        _ => format!("\"{}\" <{uri}>", quoted(display)),
    }
}

fn quoted(text: &str) -> String {
    let visible = text.chars().filter(|c| !c.is_control());
    visible.flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c])).collect()
}

/// A Reason value (RFC 3326): what looks like one stays, plain words become the text of one.
fn reason_value(reason: &str) -> String {
    let protocol = reason.split(';').next().unwrap_or_default().trim();
    let is_value = reason.contains(';') && matches!(protocol, "SIP" | "Q.850" | "Preemption");
    match is_value && !reason.contains(char::is_control) {
        true => reason.into(),
        false => format!("SIP;text=\"{}\"", quoted(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_cannot_break_out_of_their_quotes() {
        assert_eq!(name_addr("", "sip:a@b"), "<sip:a@b>");
        assert_eq!(name_addr("Bob \"x\\\r\nVia: y", "sip:a@b"), "\"Bob \\\"x\\\\Via: y\" <sip:a@b>");
    }

    #[test]
    fn reasons_are_values_or_words() {
        assert_eq!(reason_value("Q.850;cause=16;text=\"Terminated\""), "Q.850;cause=16;text=\"Terminated\"");
        assert_eq!(reason_value("no \"media\""), "SIP;text=\"no \\\"media\\\"\"");
        assert_eq!(reason_value("Q.850;cause=16\r\nX: y"), "SIP;text=\"Q.850;cause=16X: y\"");
    }
}
