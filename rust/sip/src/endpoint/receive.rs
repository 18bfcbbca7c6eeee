//! From the wire to whoever it concerns: transaction, dialog, or nobody yet.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::Endpoint;
use super::carry_out::Turn;
use super::refuse::Refusal;
use super::session::Input;
use crate::admission::{Ground, Stranger};
use crate::framer::FrameError;
use crate::stun;
use crate::transaction::{ClientKey, ClientOutcome, ClientSignal, ServerKey, ServerSignal, User};
use crate::{Cause, Ended, Failure, Flow, Message, Method, ParseError, Profile, Side, Transport};

impl Endpoint {
    pub(super) fn receive(&mut self, now: Instant, datagram: Bytes, flow: Flow, profile: &Arc<Profile>) {
        // Beside line ends, STUN keeps flows alive (RFC 5626 3.5.2): its first two bits are zero, which no message's are.
        let stun = datagram.first().is_some_and(|first| *first < 4) && flow.transport == Transport::Udp;
        if stun || datagram.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return self.kept_alive(&datagram, flow, profile);
        }
        // By reference: a message is large to move.
        match &Message::parse(datagram, &self.io.limits) {
            Ok(message) => {
                self.io.stats.messages_in += 1;
                match message.is_request() {
                    true => self.request(now, message, flow, profile),
                    false => self.response(now, message, flow),
                }
            }
            Err(error) => self.unreadable(error, flow, profile),
        }
    }

    /// RFC 5626 4.4.2: a phone takes its flow for dead if its STUN is not answered. Strangers hear nothing, who might ask
    /// in the name of others.
    #[cold]
    fn kept_alive(&mut self, datagram: &[u8], flow: Flow, profile: &Profile) {
        let known = !self.is_deaf_to(profile) || self.registrar.is_source(flow.remote);
        match stun::answer(datagram, flow.remote).filter(|_| known) {
            Some(answer) => self.io.send_stun(flow, answer),
            None => self.io.stats.dropped.keep_alive += 1,
        }
    }

    /// The header section of a stream's message whose end cannot be told, so that the stream has to be closed: a
    /// request without a usable Content-Length gets 400 (18.3), one that is too large 513 (21.5.7).
    pub(super) fn receive_unframed(
        &mut self,
        head: Bytes,
        flow: Flow,
        profile: &Arc<Profile>,
        error: FrameError,
    ) {
        let parsed = Message::parse(head, &self.io.limits);
        let request = match &parsed {
            Ok(message) => Some(message).filter(|message| message.is_request()),
            Err(error) => error.answerable(),
        };
        let arrival = request.and_then(|request| Some((request, self.servers.arrival(request, flow)?)));
        let Some((request, arrival)) = arrival.filter(|(request, _)| request.method() != Some(Method::Ack))
        else {
            self.io.stats.dropped.malformed += 1;
            return;
        };
        if self.is_deaf_to(profile) {
            return self.note(Ground::Malformed, None, request, flow, profile, "");
        }
        let refusal = match error {
            FrameError::TooLarge | FrameError::HeadTooLong => Refusal::plain(513, ""),
            _ => Refusal::plain(400, "No usable Content-Length"),
        };
        self.refuse(request, arrival, &refusal, profile);
    }

    /// A broken request is answered if it is sound enough, so that its sender can be mended (21.4.1); a broken
    /// response is not (8.1.3, 18.1.2).
    fn unreadable(&mut self, error: &ParseError, flow: Flow, profile: &Arc<Profile>) {
        match error.answerable() {
            Some(request) => {
                let reason = error.reason();
                if self.is_deaf_to(profile) {
                    return self.note(Ground::Malformed, None, request, flow, profile, &reason);
                }
                self.io.stats.refused += 1;
                self.note(Ground::Malformed, Some(error.status()), request, flow, profile, &reason);
                if let Some(arrival) = self.servers.arrival(request, flow) {
                    self.respond_stateless(request, arrival, error.status(), &reason, |builder| builder);
                }
            }
            None => self.io.stats.dropped.malformed += 1,
        }
    }

    fn request(&mut self, now: Instant, request: &Message, flow: Flow, profile: &Arc<Profile>) {
        let Some(arrival) = self.servers.arrival(request, flow) else { return };
        if let Some(key) = self.servers.matching(arrival) {
            return self.known_request(now, request, key);
        }
        if profile.admission.stranger != Stranger::Take
            && self.begins_something(request, flow)
            && !self.may_introduce(request, profile)
        {
            return self.turn_away(request, arrival, profile);
        }
        match request.method() {
            Some(Method::Ack) => self.success_ack(now, request),
            Some(Method::Cancel) => self.cancel(now, request, arrival, profile),
            _ if request.to_tag().is_some() => self.in_dialog(now, request, arrival, profile),
            _ => self.out_of_dialog(now, request, arrival, profile),
        }
    }

    /// A retransmission, or the ACK of an INVITE transaction.
    fn known_request(&mut self, now: Instant, request: &Message, key: ServerKey) {
        if request.method() != Some(Method::Ack) {
            return self.servers.retransmitted(&mut self.io, now, key);
        }
        // RFC 6026 7.1: an ACK that reaches an accepted INVITE's transaction is the user's.
        if self.servers.acknowledged(&mut self.io, now, key) == Some(ServerSignal::Ack) {
            self.success_ack(now, request);
        }
    }

    fn response(&mut self, now: Instant, response: &Message, flow: Flow) {
        // 8.1.3.3: a response with a second Via is not for us.
        let ours = !response.has_more_vias();
        let ours = |key: &ClientKey| ours && self.clients.may_answer(*key, flow.transport);
        let Some(key) = self.clients.matching(response).filter(ours) else {
            self.io.stats.dropped.stray_response += 1;
            return;
        };
        self.clients.heard_over(key, flow);
        if let Some(outcome) = self.clients.response(&mut self.io, now, key, response) {
            self.client_outcome(now, key, outcome, Some(response));
            self.clients.settled(key);
        }
    }

    /// What a client transaction has come to, told to whoever sent the request.
    pub(super) fn client_outcome(
        &mut self,
        now: Instant,
        key: ClientKey,
        outcome: ClientOutcome,
        response: Option<&Message>,
    ) {
        let challenge =
            response.filter(|_| outcome.signal == Some(ClientSignal::Response)).filter(is_challenge);
        if challenge.is_some_and(|response| self.answer_challenge(now, key, outcome.user, response)) {
            if let User::Invite(leg) = outcome.user {
                self.be_patient(now, leg);
            }
            return;
        }
        match (outcome.user, outcome.signal) {
            (User::Invite(leg), Some(ClientSignal::Response)) => {
                if let Some(response) = response {
                    self.invite_response(now, leg, key, response);
                }
            }
            (User::Invite(leg), Some(ClientSignal::Timeout)) => {
                if self.fail_over(now, leg, key, Failure::Silent) {
                    return;
                }
                self.drive(now, leg, Input::Unreachable, Turn::ended(unreachable()));
            }
            (User::Invite(leg), Some(ClientSignal::TransportError)) => {
                if self.fail_over(now, leg, key, Failure::Unreachable) {
                    return;
                }
                self.drive(
                    now,
                    leg,
                    Input::TransportError,
                    Turn::ended(super::undeliverable(&self.breakage)),
                );
            }
            (User::Reoffer(leg), Some(signal)) => self.reoffer_outcome(now, leg, key, signal, response),
            (User::Info(leg), Some(signal)) => self.info_outcome(now, leg, signal, response),
            (User::Register(registration), Some(signal)) => {
                self.register_outcome(now, registration, key, signal, response);
            }
            (User::Former(leg), Some(ClientSignal::Response)) => {
                if let Some(response) = response {
                    self.former_response(now, leg, key, response);
                }
            }
            (User::Probe(probe), Some(signal)) => self.probed(probe, signal, response),
            (User::Prack(dialog), Some(signal)) => self.prack_outcome(now, dialog, signal, response),
            (User::Notify(leg, id), Some(signal)) => self.notify_outcome(now, leg, id, signal, response),
            (User::Refer(leg), Some(signal)) => self.refer_outcome(now, leg, key, signal, response),
            // Whatever the answer to a BYE, the dialog is over (15.1.1); it stays for a crossing BYE until timer K.
            (User::Bye(dialog), _) if outcome.gone => self.dialogs.remove(dialog),
            (
                User::Invite(_)
                | User::Former(_)
                | User::Probe(_)
                | User::Bye(_)
                | User::Reoffer(_)
                | User::Info(_)
                | User::Prack(_)
                | User::Register(_)
                | User::Notify(..)
                | User::Refer(_)
                | User::Cancel,
                _,
            ) => {}
        }
    }
}

/// 401 and 407 (RFC 3261 22.2, 22.3).
fn is_challenge(response: &&Message) -> bool {
    response.status().is_some_and(|status| matches!(status.0, 401 | 407))
}

/// How a leg ends that nobody said a word to.
pub(super) fn unreachable() -> Ended {
    Ended { by: Side::System, cause: Cause::Unreachable, status: None, reason: "No response".to_owned() }
}
