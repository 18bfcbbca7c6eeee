//! Provisional responses that arrive for certain (RFC 3262): ours until their PRACK, and our PRACKs to the peer's.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::carry_out::Turn;
use super::headers::BuilderExt;
use super::legs::{Leg, Owed};
use super::refuse::{Refusal, check_body};
use super::session::{Input, State};
use super::{Endpoint, LegKey};
use crate::dialog::DialogKey;
use crate::timer::TimerKind;
use crate::transaction::{ClientSignal, Request, ServerKey, User};
use crate::{Body, Cause, Ended, Error, Event, Message, Method, Name, Profile, Side, Support};

/// The option tag (RFC 3262 8).
pub(super) const TAG: &str = "100rel";
/// How many provisional responses wait for the PRACK of the one before; an application has no use for more.
const MAX_WAITING: usize = 4;

/// The reliable provisional responses of a leg that is being called.
#[derive(Debug)]
pub(crate) struct Reliable {
    /// The RSeq of the next one.
    next: u32,
    /// The one whose PRACK is awaited; there is never a second (3).
    open: Option<Open>,
    /// The status of the last one.
    last: Option<u16>,
    waiting: VecDeque<(u16, Option<Body>)>,
    /// The 2xx that must wait for a PRACK (3), by its body.
    held: Option<Option<Body>>,
    /// The peer insists: Require, not only Supported.
    demanded: bool,
    /// The INVITE made an offer.
    offered: bool,
    /// Our side of the offer and answer has been sent.
    described: bool,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    rseq: u32,
    status: u16,
    described: bool,
}

impl Reliable {
    /// Whether the 2xx must wait (3): a description is under way.
    fn holds_answer(&self) -> bool {
        let queued = self.waiting.iter().any(|(_, body)| body.is_some());
        queued || self.open.is_some_and(|open| open.described)
    }
}

/// Whether the provisional responses to an INVITE are sent reliably; 421 where they must be and the peer cannot (4).
pub(super) fn negotiate(invite: &Message, profile: &Profile) -> Result<Option<bool>, Refusal> {
    if profile.reliable == Support::Off {
        return Ok(None);
    }
    let listed =
        |mut tags: Box<dyn Iterator<Item = &str> + '_>| tags.any(|tag| tag.eq_ignore_ascii_case(TAG));
    let demanded = listed(Box::new(invite.require()));
    match demanded || listed(Box::new(invite.supported())) {
        true => Ok(Some(demanded)),
        false if profile.reliable == Support::Required => Err(Refusal::with(421, Name::Require, TAG)),
        false => Ok(None),
    }
}

impl Endpoint {
    pub(super) fn begin_reliable(&mut self, key: LegKey, invite: &Message, demanded: bool) {
        // 3: the first RSeq is drawn from 1 to 2^31 - 1.
        let next = self.ident.within(&(1..=0x7fff_ffff));
        if let Some(leg) = self.legs.get_mut(key) {
            leg.reliable = Some(Box::new(Reliable {
                next,
                open: None,
                last: None,
                waiting: VecDeque::new(),
                held: None,
                demanded,
                offered: !invite.body().is_empty(),
                described: false,
            }));
        }
    }

    /// Sends a provisional response reliably, after those before it. False if it must go unreliably.
    pub(super) fn provisional_reliably(
        &mut self,
        now: Instant,
        key: LegKey,
        server: ServerKey,
        status: u16,
        body: Option<&Body>,
    ) -> Result<bool, Error> {
        let Some(reliable) = self.legs.get_mut(key).and_then(|leg| leg.reliable.as_mut()) else {
            return Ok(false);
        };
        // RFC 3261 13.2.1: the first reliable response to an INVITE without an offer makes one. What cannot goes
        // unreliably, or not at all where the peer would not take it so.
        if !reliable.offered && !reliable.described && body.is_none() {
            return Ok(reliable.demanded);
        }
        if reliable.open.is_some() {
            if reliable.waiting.len() >= MAX_WAITING {
                reliable.waiting.pop_front();
            }
            reliable.waiting.push_back((status, body.cloned()));
            return Ok(true);
        }
        self.send_reliably(now, key, server, status, body)?;
        Ok(true)
    }

    /// Whether provisional responses of a leg that is being called go out reliably; without an offer in its INVITE they
    /// then need one of ours.
    #[must_use]
    pub fn is_reliable(&self, leg: crate::LegId) -> bool {
        let leg = self.legs.find(leg).ok().and_then(|key| self.legs.get(key));
        leg.is_some_and(|leg| leg.reliable.is_some())
    }

    fn send_reliably(
        &mut self,
        now: Instant,
        key: LegKey,
        server: ServerKey,
        status: u16,
        body: Option<&Body>,
    ) -> Result<(), Error> {
        let builder = self.dialog_response(key, server, status, "");
        let Some(reliable) = self.legs.get_mut(key).and_then(|leg| leg.reliable.as_mut()) else {
            return Ok(());
        };
        // 13.2.1: described once is described; what follows repeats nothing.
        let body = body.filter(|_| !reliable.described);
        let Some(builder) = builder else { return Ok(()) };
        let bytes = builder
            .safe(Name::Require, TAG)
            .safe(Name::RSeq, &reliable.next.to_string())
            .maybe_body(body)
            .build()?;
        reliable.open = Some(Open { rseq: reliable.next, status, described: body.is_some() });
        reliable.last = Some(status);
        reliable.described |= body.is_some();
        reliable.next = reliable.next.wrapping_add(1);
        self.servers.respond(&mut self.io, now, server, status, bytes);
        self.with_timers(now, key, |timers, io| {
            timers.stop(io, TimerKind::Refresh);
            timers.start(io, TimerKind::Resend1xx);
            timers.start(io, TimerKind::PrackWait);
        });
        Ok(())
    }

    pub(super) fn resend_reliable(&mut self, now: Instant, key: LegKey, last: Duration) {
        let Some(leg) = self.legs.get(key).filter(|leg| leg.state == State::Incoming) else { return };
        let open = leg.reliable.as_ref().and_then(|reliable| reliable.open);
        if let (Some(server), Some(open)) = (leg.received(), open) {
            self.servers.repeat(&mut self.io, now, server, open.status);
            self.with_timers(now, key, |timers, io| timers.escalate(io, TimerKind::Resend1xx, last));
        }
    }

    /// 3: no PRACK in 64*T1; the INVITE is refused.
    pub(super) fn prack_missing(&mut self, now: Instant, key: LegKey) {
        let built = self.legs.get(key).and_then(Leg::received).and_then(|server| {
            self.final_response(key, server, 504, "No PRACK").and_then(|builder| builder.build().ok())
        });
        let Some(bytes) = built else { return };
        let reason = "No PRACK".to_owned();
        let ended = Ended { by: Side::System, cause: Cause::NoAck, status: Some(504), reason };
        let turn = Turn { response: Some((504, bytes)), ended: Some(ended), message: None };
        self.drive(now, key, Input::Reject, turn);
    }

    /// PRACK of the peer (3). An answer to our offer is told; a new offer is the application's to answer (5).
    pub(super) fn prack(
        &mut self,
        now: Instant,
        dialog: DialogKey,
        key: LegKey,
        server: ServerKey,
        prack: &Message,
    ) {
        let Some(open) = self.acknowledged_by(key, prack) else {
            return self.reply(now, server, 481, |builder| builder);
        };
        if check_body(prack).is_err() {
            return self
                .reply(now, server, 415, |builder| builder.safe(Name::Accept, super::headers::ACCEPT));
        }
        self.with_timers(now, key, |timers, io| {
            timers.stop(io, TimerKind::Resend1xx);
            timers.stop(io, TimerKind::PrackWait);
        });
        let Some(reliable) = self.legs.get_mut(key).and_then(|leg| leg.reliable.as_mut()) else { return };
        reliable.open = None;
        let answers = open.described && !reliable.offered;
        let settled = self.dialogs.get(dialog).is_some_and(|dialog| dialog.settled);
        if open.described && (!answers || !prack.body().is_empty()) {
            self.settle(dialog);
        }
        match prack.body().is_empty() {
            true => self.reply(now, server, 200, |builder| builder),
            false if answers => {
                self.reply(now, server, 200, |builder| builder);
                self.tell(key, Some(prack), |leg, prack| Event::Acknowledged { leg, prack });
            }
            // 5 and RFC 3311 5.2: another offer is not answered yet.
            false if self.legs.get(key).is_some_and(|leg| leg.reoffer.is_some()) => {
                self.retry_later(now, server);
            }
            false if self.legs.get(key).is_some_and(Leg::offers) => {
                self.reply(now, server, 491, |builder| builder);
            }
            false if open.described || settled => {
                self.servers.pending(&mut self.io, now, server);
                return self.ask(now, dialog, key, server, prack, None);
            }
            // 5: no offer may be made before the last one is answered.
            false => self.reply(now, server, 488, |builder| builder),
        }
        self.after_prack(now, key);
    }

    /// The response that a PRACK's RAck names: RSeq, CSeq number and method (7.2).
    fn acknowledged_by(&self, key: LegKey, prack: &Message) -> Option<Open> {
        let leg = self.legs.get(key)?;
        let open = leg.reliable.as_ref()?.open?;
        let mut rack = prack.header(Name::RAck)?.split_ascii_whitespace();
        let mut number = || rack.next()?.parse::<u32>().ok();
        let (rseq, cseq) = (number()?, number()?);
        let invite = leg.unacked.map(|unacked| unacked.cseq).or_else(|| {
            let request = self.servers.request(leg.received()?)?;
            Some(request.cseq_number())
        });
        let meant = rseq == open.rseq && invite.is_none_or(|invite| invite == cseq);
        (meant && rack.next() == Some(Method::Invite.as_str())).then_some(open)
    }

    /// Sends what has waited for a PRACK: the next provisional response, or the 2xx.
    pub(super) fn after_prack(&mut self, now: Instant, key: LegKey) {
        let Some(leg) = self.legs.get_mut(key).filter(|leg| leg.state == State::Incoming) else { return };
        let (id, server) = (leg.id, leg.received());
        let (Some(reliable), Some(server)) = (leg.reliable.as_mut(), server) else { return };
        let sent = match reliable.waiting.pop_front() {
            Some((status, body)) => self.send_reliably(now, key, server, status, body.as_ref()),
            None => match reliable.held.take() {
                Some(body) => self.answer(now, id, body),
                None => {
                    self.start_timer(now, key, TimerKind::Refresh);
                    Ok(())
                }
            },
        };
        self.io.stats.dropped.unbuildable += u64::from(sent.is_err());
    }

    /// Keeps a 2xx back while a description waits for its PRACK (3). Gives back what may be sent now: without a body
    /// where our side has been described already (RFC 3261 13.2.1).
    pub(super) fn hold_answer(
        &mut self,
        now: Instant,
        key: LegKey,
        body: Option<Body>,
    ) -> Option<Option<Body>> {
        let Some(reliable) = self.legs.get_mut(key).and_then(|leg| leg.reliable.as_mut()) else {
            return Some(body);
        };
        if reliable.holds_answer() {
            reliable.held = Some(body);
            return None;
        }
        reliable.waiting.clear();
        let body = body.filter(|_| !reliable.described);
        // 3: after the final response nothing is repeated, though a late PRACK still gets its 200.
        self.with_timers(now, key, |timers, io| {
            timers.stop(io, TimerKind::Resend1xx);
            timers.stop(io, TimerKind::PrackWait);
        });
        Some(body)
    }

    /// Whether the 2xx of a leg waits for a PRACK.
    pub(super) fn is_held(leg: &Leg) -> bool {
        leg.reliable.as_ref().is_some_and(|reliable| reliable.held.is_some())
    }

    /// Repeats the last provisional response, for proxies' timer C: a reliable one under a new RSeq. False if it was
    /// none.
    pub(super) fn refresh_reliable(&mut self, now: Instant, key: LegKey, server: ServerKey) -> bool {
        let last = self.legs.get(key).and_then(|leg| leg.reliable.as_ref()?.last);
        last.is_some_and(|last| matches!(self.provisional_reliably(now, key, server, last, None), Ok(true)))
    }

    fn settle(&mut self, dialog: DialogKey) {
        if let Some(dialog) = self.dialogs.get_mut(dialog) {
            dialog.settled = true;
        }
    }

    /// A provisional response of the peer. One that is reliable gets its PRACK, in order and once (4); false if it is
    /// to be ignored.
    pub(super) fn take_reliable(
        &mut self,
        now: Instant,
        key: LegKey,
        dialog: DialogKey,
        response: &Message,
    ) -> bool {
        let is_reliable = response.require().any(|tag| tag.eq_ignore_ascii_case(TAG));
        let Some(rseq) = response.number(Name::RSeq).filter(|_| is_reliable) else { return true };
        let Some(leg) = self.legs.get(key).filter(|leg| leg.profile.reliable != Support::Off) else {
            return true;
        };
        let (client, asked) = (leg.sent().unwrap_or_default(), leg.expects_offer);
        let Some(known) = self.dialogs.get_mut(dialog) else { return true };
        if known.rseq.is_some_and(|last| last.wrapping_add(1) != rseq) {
            self.io.stats.retransmissions_in += 1;
            return false;
        }
        known.rseq = Some(rseq);
        let owed = Owed { client, dialog, cseq: response.cseq_number(), rseq: Some(rseq) };
        let described = !response.body().is_empty();
        let offers = described && asked && !known.settled;
        known.settled |= described;
        match offers {
            true => self.owe(now, key, owed),
            false => self.send_prack(now, owed, None),
        }
        true
    }

    /// PRACK along the early dialog of the fork that sent the response (4).
    pub(super) fn send_prack(&mut self, now: Instant, owed: Owed, body: Option<&Body>) {
        let branch = self.ident.branch();
        let Some(dialog) = self.dialogs.get_mut(owed.dialog) else { return };
        let rack = format!("{} {} INVITE", owed.rseq.unwrap_or_default(), owed.cseq);
        let (builder, flow) = dialog.request(Method::Prack, &branch, body);
        let built =
            builder.safe(Name::RAck, &rack).safe(Name::UserAgent, &self.user_agent).maybe_body(body).build();
        match built {
            Ok(bytes) => {
                let request =
                    Request { method: Method::Prack, branch, bytes, flow, user: User::Prack(owed.dialog) };
                self.clients.send(&mut self.io, now, request);
            }
            Err(_) => self.io.stats.dropped.unbuildable += 1,
        }
    }

    /// What came of a PRACK. Where it failed, the two sides disagree about the session (RFC 3262 5) or the dialog is
    /// gone (RFC 3261 12.2.1.2): the fork is given up, and the call with the last one. Once the 2xx is here the PRACK
    /// came too late to matter, and a peer may well have forgotten what it was for.
    pub(super) fn prack_outcome(
        &mut self,
        now: Instant,
        dialog: DialogKey,
        signal: ClientSignal,
        response: Option<&Message>,
    ) {
        let status = match (signal, response.and_then(Message::status)) {
            (ClientSignal::Response, status) => status.map_or(0, |status| status.0),
            (ClientSignal::Timeout, _) => 408,
            (ClientSignal::TransportError, _) => 503,
        };
        let Some(key) = self.dialogs.get(dialog).map(|dialog| dialog.leg) else { return };
        let early = self.legs.get(key).is_some_and(|leg| leg.state == State::Proceeding);
        if status < 300 || !early || self.drop_fork(key, dialog) {
            return;
        }
        self.dialog_lost(now, key, status, response);
    }
}
