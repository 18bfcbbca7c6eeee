//! INVITEs that take the place of a dialog of ours (RFC 3891 3), and dialogs of ours named for others.

use super::refuse::Refusal;
use super::session::State;
use super::{Endpoint, LegKey};
use crate::dialog;
use crate::{LegId, Message, Name, Replaces};

/// The option tag (RFC 3891 6.2).
pub(super) const TAG: &str = "replaces";

impl Endpoint {
    /// The leg whose place an INVITE is to take; `None` for a plain one.
    pub(super) fn replaced_by(&self, invite: &Message) -> Result<Option<LegId>, Refusal> {
        if !invite.has(Name::Replaces) {
            return Ok(None);
        }
        let mut values = invite.lines(Name::Replaces);
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(Refusal::plain(400, "More than one Replaces"));
        };
        let named = Replaces::parse(value).map_err(|fault| Refusal::plain(400, fault.what()))?;
        let found = self.dialogs.replaced(&named).and_then(|key| self.dialogs.get(key));
        let Some(found) = found else { return Err(Refusal::plain(481, "")) };
        let leg = self.legs.get(found.leg).filter(|leg| !leg.reported);
        match leg.map(|leg| (leg.id, leg.state)) {
            // It ended, but is still being torn down.
            None => Err(Refusal::plain(603, "")),
            Some(_) if found.state == dialog::State::Closing => Err(Refusal::plain(603, "")),
            Some((_, State::Confirmed | State::Accepted)) if named.early_only => Err(Refusal::plain(486, "")),
            Some((leg, State::Confirmed | State::Accepted | State::Proceeding)) => Ok(Some(leg)),
            // An early dialog that we did not begin.
            Some(_) => Err(Refusal::plain(481, "")),
        }
    }

    /// The leg whose dialog is named; the dialog may be the other end's to replace.
    pub(super) fn leg_named(&self, named: &Replaces<'_>) -> Option<LegId> {
        let key: LegKey = self.dialogs.get(self.dialogs.replaced(named)?)?.leg;
        self.legs.get(key).filter(|leg| !leg.reported).map(|leg| leg.id)
    }

    /// What an INVITE to a leg's peer must go to and say to take the place of that leg, as a Refer-To URI; if
    /// `early_only`, then only before it is answered. `None` for a leg without a dialog.
    #[must_use]
    pub fn replacing(&self, leg: LegId, early_only: bool) -> Option<String> {
        let leg = self.legs.get(self.legs.find(leg).ok()?)?;
        let dialog = self.dialogs.get(leg.dialog()?)?;
        let (call_id, theirs, ours) = (dialog.call_id(), dialog.remote_tag(), dialog.local_tag());
        let only = if early_only { ";early-only" } else { "" };
        let value = format!("{call_id};to-tag={theirs};from-tag={ours}{only}");
        Some(format!("{}?Replaces={}", dialog.target(), escape(&value)))
    }
}

/// Everything but unreserved characters escaped (RFC 3261 25.1).
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' => {
                escaped.push(byte.into());
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
