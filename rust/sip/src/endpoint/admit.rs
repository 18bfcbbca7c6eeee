//! At the door: strangers, trunks that call too often or too much, and the record of who was refused.

use std::sync::Arc;
use std::time::Instant;

use super::Endpoint;
use crate::admission::{Ground, Refused, Stranger};
use crate::transaction::Arrival;
use crate::{Flow, Message, Method, Profile};

/// Retry-After of a trunk over its limits, in seconds: room comes as soon as calls end.
const TRUNK_RETRY_AFTER: std::ops::RangeInclusive<u32> = 1..=5;

impl Endpoint {
    /// Whether a stranger's request is about nothing that we have to do with him.
    pub(super) fn begins_something(&self, request: &Message, flow: Flow) -> bool {
        match request.method() {
            Some(Method::Ack) => false,
            Some(Method::Cancel) => self.servers.cancelled_by(request).is_none(),
            _ if request.to_tag().is_some() => self.dialogs.of_request(request).is_none(),
            // Where we are registered, calls come for the name that we registered.
            _ => self.registered_as(request, flow).is_none(),
        }
    }

    /// Whether this peer gets no answer to what is not his call.
    pub(super) fn is_deaf_to(&self, profile: &Profile) -> bool {
        profile.admission.stranger == Stranger::Drop
    }

    /// A stranger hears nothing, or 403 (21.4.4); neither leaves anything here.
    pub(super) fn turn_away(&mut self, request: &Message, arrival: Arrival, profile: &Arc<Profile>) {
        let status = (!self.is_deaf_to(profile)).then_some(403);
        self.note(Ground::UnknownSource, status, request, arrival.flow, profile, "");
        if let Some(status) = status {
            self.io.stats.refused += 1;
            self.respond_stateless(request, arrival, status, "", |builder| builder);
        }
    }

    /// The limit of its trunk that another call would break, if any.
    pub(super) fn limited(&mut self, now: Instant, profile: &Profile) -> Option<Ground> {
        if self.is_trunk_full(profile) {
            return Some(Ground::TrunkCalls);
        }
        (!self.gate.passes(now, &profile.name, &profile.admission)).then_some(Ground::TrunkRate)
    }

    /// Whether the trunk has as many calls as it may.
    pub(super) fn is_trunk_full(&self, profile: &Profile) -> bool {
        let most = profile.admission.max_calls.map(|most| usize::try_from(most).unwrap_or(usize::MAX));
        most.is_some_and(|most| self.legs.of_trunk(&profile.name) >= most)
    }

    /// 503 to a trunk beyond its limits, with a Retry-After that spreads its calls out (21.5.4).
    pub(super) fn hold_back(
        &mut self,
        invite: &Message,
        arrival: Arrival,
        ground: Ground,
        profile: &Profile,
    ) {
        self.note(ground, Some(503), invite, arrival.flow, profile, "");
        self.unavailable(invite, arrival, &TRUNK_RETRY_AFTER);
    }

    /// Keeps what was refused and why, for whoever asks.
    pub(super) fn note(
        &mut self,
        ground: Ground,
        status: Option<u16>,
        request: &Message,
        flow: Flow,
        profile: &Profile,
        reason: &str,
    ) {
        self.gate.note(Refused::new(ground, status, flow.remote, profile).of(request).because(reason));
    }
}
