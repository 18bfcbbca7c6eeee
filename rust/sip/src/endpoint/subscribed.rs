//! SUBSCRIBE to what a REFER has begun: it is asked anew, kept for longer or given up (RFC 3515 2.4.4, RFC 6665 4.2.1).

use std::time::{Duration, Instant};

use super::Endpoint;
use super::headers::BuilderExt;
use super::refer::LIFETIME;
use super::referrals::{Notice, Subscription};
use super::referring::split;
use super::refuse::Refusal;
use crate::dialog::{DialogKey, target_of};
use crate::header::Params;
use crate::transaction::ServerKey;
use crate::{Message, Name};

/// The one event package there is.
const PACKAGE: &str = "refer";

impl Endpoint {
    /// SUBSCRIBE in a dialog: 200, and a notice of how far it has come follows at once (RFC 6665 4.2.1.2).
    pub(super) fn subscribed(
        &mut self,
        now: Instant,
        dialog: DialogKey,
        server: ServerKey,
        request: &Message,
    ) {
        let (package, params) = split(request.header(Name::Event).unwrap_or_default());
        if !package.eq_ignore_ascii_case(PACKAGE) {
            return self.reply(now, server, 489, |builder| builder.safe(Name::AllowEvents, PACKAGE));
        }
        let named = Params::parse(params).ok().and_then(|params| params.value("id"));
        let Ok(named) = named.map(str::parse).transpose() else {
            return self.reply(now, server, 403, |builder| builder);
        };
        let Some((leg, id)) = self.referrals.subscription(dialog, named) else {
            // Only a REFER makes one (RFC 3515 2.4.4).
            return self.reply(now, server, 403, |builder| builder);
        };
        let left = self.referrals.deadline(leg, id).unwrap_or(now).saturating_duration_since(now);
        // It may be made shorter, not longer than was asked for (RFC 6665 4.2.1.4); after the call it ends in its time.
        let longest = if self.referrals.awaits_end(leg) { left } else { LIFETIME };
        let wanted = request.expires().map_or(left, |seconds| Duration::from_secs(seconds.into()));
        let granted = wanted.min(longest);
        self.refresh_target(dialog, target_of(request));
        let contact = self.dialogs.get(dialog).map(|dialog| dialog.contact.to_string()).unwrap_or_default();
        self.reply(now, server, 200, |builder| {
            builder.contact(&contact).header(Name::Expires, granted.as_secs().to_string())
        });
        let state = match granted.as_secs() {
            0 => Subscription::TimedOut,
            _ => Subscription::Active,
        };
        if state == Subscription::Active {
            self.referrals.schedule(leg, id, now.checked_add(granted));
        }
        if let Some(telling) = self.referrals.telling(leg, id) {
            let (status, reason) = telling.last.clone();
            telling.push(Notice { status, reason, state });
            self.send_notice(now, leg, id);
        }
    }
}

/// Outside a dialog nothing can be subscribed to (RFC 3515 2.4.4).
pub(super) fn subscribed_outside(request: &Message) -> Refusal {
    let (package, _) = split(request.header(Name::Event).unwrap_or_default());
    match package.eq_ignore_ascii_case(PACKAGE) {
        true => Refusal::plain(403, "Only a REFER makes a subscription"),
        false => Refusal::with(489, Name::AllowEvents, PACKAGE),
    }
}
