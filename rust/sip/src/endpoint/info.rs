//! Keys by INFO (RFC 6086), both ways: those of the peer are told, ours go one after the other.

use std::collections::VecDeque;
use std::time::Instant;

use super::headers::BuilderExt;
use super::session::State;
use super::{Endpoint, LegKey};
use crate::info::{self, Info, Key};
use crate::transaction::{ClientSignal, Request, ServerKey, User};
use crate::{Error, Event, LegId, Message, Method, Name};

/// Keys that may wait for the answer to the one before.
const MAX_WAITING: usize = 64;

/// The keys of a leg that are not sent yet, while one is under way.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    waiting: VecDeque<Key>,
}

impl Endpoint {
    /// Answers an INFO, and tells of its key.
    pub(super) fn info(&mut self, now: Instant, key: LegKey, server: ServerKey, request: &Message) {
        // RFC 6086 4.2.2: a package that nobody here has asked for.
        if request.has(Name::InfoPackage) {
            return self.reply(now, server, 469, |builder| builder.header(Name::RecvInfo, ""));
        }
        match Info::of(request) {
            Info::Nothing => self.reply(now, server, 200, |builder| builder),
            Info::Malformed => self.reply(now, server, 400, |builder| builder),
            Info::Unsupported => {
                self.reply(now, server, 415, |builder| builder.header(Name::Accept, info::ACCEPT));
            }
            Info::Key(pressed) => {
                self.reply(now, server, 200, |builder| builder);
                self.tell(key, Some(request), |leg, _| Event::Key { leg, key: pressed });
            }
        }
    }

    /// Presses a key for the peer of an answered leg by INFO, once those before it are answered.
    ///
    /// # Errors
    /// When the leg is not answered, or too many keys wait.
    pub fn press(&mut self, now: Instant, leg: LegId, pressed: Key) -> Result<(), Error> {
        let key = self.legs.find(leg)?;
        let entry = self.legs.get_mut(key).ok_or(Error::UnknownLeg(leg))?;
        if !matches!(entry.state, State::Confirmed | State::Accepted) {
            return Err(Error::WrongState { command: "press a key", state: entry.state.words() });
        }
        match &mut entry.keys {
            Some(keys) if keys.waiting.len() >= MAX_WAITING => return Err(Error::Full),
            Some(keys) => keys.waiting.push_back(pressed),
            None => {
                entry.keys = Some(Box::default());
                self.send_key(now, key, pressed);
            }
        }
        Ok(())
    }

    fn send_key(&mut self, now: Instant, key: LegKey, pressed: Key) {
        if self.write_key(now, key, pressed).is_none() {
            self.io.stats.dropped.unbuildable += 1;
            self.next_key(now, key);
        }
    }

    fn write_key(&mut self, now: Instant, key: LegKey, pressed: Key) -> Option<()> {
        let branch = self.ident.branch();
        let dialog = self.dialogs.get_mut(*self.legs.get(key)?.dialogs.last()?)?;
        let body = pressed.body();
        let (builder, flow) = dialog.request(Method::Info, &branch, Some(&body));
        let builder = builder.contact(&dialog.contact).header(Name::UserAgent, &self.user_agent);
        let bytes = builder.maybe_body(Some(&body)).build().ok()?;
        let request = Request { method: Method::Info, branch, bytes, flow, user: User::Info(key) };
        self.clients.send(&mut self.io, now, request);
        Some(())
    }

    /// What has come of an INFO: a peer that takes none hears the next one all the same, since the call goes on.
    pub(super) fn info_outcome(
        &mut self,
        now: Instant,
        key: LegKey,
        signal: ClientSignal,
        response: Option<&Message>,
    ) {
        let status = match signal {
            ClientSignal::Response => response.and_then(Message::status).map_or(0, |status| status.0),
            ClientSignal::Timeout => 408,
            ClientSignal::TransportError => 503,
        };
        match status {
            0..200 => {}
            // 12.2.1.2: the dialog is no more.
            408 | 481 => self.dialog_lost(now, key, status, response),
            _ => self.next_key(now, key),
        }
    }

    fn next_key(&mut self, now: Instant, key: LegKey) {
        let Some(leg) = self.legs.get_mut(key) else { return };
        let answered = matches!(leg.state, State::Confirmed | State::Accepted);
        match leg.keys.as_mut().and_then(|keys| keys.waiting.pop_front()).filter(|_| answered) {
            Some(pressed) => self.send_key(now, key, pressed),
            None => leg.keys = None,
        }
    }
}
