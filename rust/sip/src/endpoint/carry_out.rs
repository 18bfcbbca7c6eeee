//! Carries out what the session table says.

use std::time::Instant;

use bytes::Bytes;

use super::said::said_by;
use super::session::{self, Action, Input, State};
use super::{Endpoint, LegKey};
use crate::timer::TimerKind;
use crate::{Ended, Event, Message};

/// What comes with an input of the session table.
#[derive(Debug, Default)]
pub(super) struct Turn<'a> {
    /// The message at hand.
    pub(super) message: Option<&'a Message>,
    /// The response to our INVITE's peer, ready to send.
    pub(super) response: Option<(u16, Bytes)>,
    /// How the leg ends, should it.
    pub(super) ended: Option<Ended>,
}

impl Turn<'_> {
    pub(super) fn ended(ended: Ended) -> Self {
        Self { ended: Some(ended), ..Self::default() }
    }
}

impl Endpoint {
    /// One step of a leg. A leg that is gone stays so.
    pub(super) fn drive(&mut self, now: Instant, key: LegKey, input: Input, mut turn: Turn<'_>) {
        let Some(leg) = self.legs.get_mut(key) else { return };
        let (next, actions) = session::step(leg.state, input);
        leg.state = next;
        for action in actions {
            self.act(now, key, *action, &mut turn);
        }
        if next == State::Over {
            self.forget(now, key);
        }
    }

    fn act(&mut self, now: Instant, key: LegKey, action: Action, turn: &mut Turn<'_>) {
        match action {
            Action::Progress => self.progress(now, key, turn.message),
            Action::Confirm => self.confirm(now, key, turn.message),
            Action::AckAndBye => self.unwanted_success(now, key, turn.message),
            Action::HoldCancel => self.hold_cancel(key),
            Action::SendCancel => self.send_cancel(now, key),
            Action::SendBye => self.leave(now, key),
            Action::Abandon => self.abandon_invite(key),
            Action::Respond => self.respond_invite(now, key, turn.response.take()),
            Action::AwaitAck => self.await_ack(now, key),
            Action::Answered => {
                let settled = self.dialog_settled(key);
                self.tell(key, turn.message, |leg, response| Event::Answered { leg, response, settled });
            }
            Action::Confirmed => self.tell(key, turn.message, |leg, ack| Event::Confirmed { leg, ack }),
            Action::Ended => self.tell_ended(key, turn.ended.take(), turn.message),
        }
    }

    /// Tells the owner about a message, unless the leg has ended for it.
    pub(super) fn tell(
        &mut self,
        key: LegKey,
        message: Option<&Message>,
        event: impl FnOnce(crate::LegId, Message) -> Event,
    ) {
        let leg = self.legs.get(key).filter(|leg| !leg.reported);
        if let (Some(leg), Some(message)) = (leg, message) {
            self.events.push_back(event(leg.id, message.clone()));
        }
    }

    fn tell_ended(&mut self, key: LegKey, ended: Option<Ended>, message: Option<&Message>) {
        if let (Some(ended), Some(leg)) = (ended, self.legs.report(key)) {
            if let Some(said) = message.and_then(said_by) {
                self.events.push_back(Event::Said { leg, said });
            }
            self.events.push_back(Event::Ended { leg, ended });
        }
    }

    fn respond_invite(&mut self, now: Instant, key: LegKey, response: Option<(u16, Bytes)>) {
        let server = self.legs.get(key).and_then(super::legs::Leg::received);
        if let (Some(server), Some((status, bytes))) = (server, response) {
            self.servers.respond(&mut self.io, now, server, status, bytes);
        }
    }

    fn hold_cancel(&mut self, key: LegKey) {
        if let Some(client) = self.legs.get(key).and_then(super::legs::Leg::sent) {
            self.clients.forgo_datagram(client);
        }
    }

    fn abandon_invite(&mut self, key: LegKey) {
        if let Some(client) = self.legs.get(key).and_then(super::legs::Leg::sent) {
            self.clients.abandon(&mut self.io, client);
        }
    }

    /// Removes a leg that is over, with its timers and every dialog that has no BYE under way.
    fn forget(&mut self, now: Instant, key: LegKey) {
        self.drop_reoffer(now, key);
        self.drop_outgoing(now, key);
        let Some(mut leg) = self.legs.remove(key) else { return };
        self.forget_referrals(now, leg.id);
        leg.timers.stop_all(&mut self.io.timers);
        if let Some(client) = leg.sent() {
            self.clients.leave_profile(client, leg.profile);
        }
        for dialog in leg.dialogs {
            let closing = |dialog: &crate::dialog::Dialog| dialog.state == crate::dialog::State::Closing;
            if !self.dialogs.get(dialog).is_some_and(closing) {
                self.dialogs.remove(dialog);
            }
        }
    }

    /// Starts one of the leg's timers at its first interval.
    pub(super) fn start_timer(&mut self, now: Instant, key: LegKey, kind: TimerKind) {
        self.with_timers(now, key, |timers, io| timers.start(io, kind));
    }
}
