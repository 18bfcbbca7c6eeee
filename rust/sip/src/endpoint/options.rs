//! OPTIONS: what we can do (RFC 3261 11.2). Answered here, in and out of dialogs, whatever the application does.

use super::Endpoint;
use super::headers::{ACCEPT, ALLOW, supported};
use crate::transaction::Arrival;
use crate::{Builder, Message, Name, Profile};

/// The headers of a 200 to OPTIONS.
pub(super) fn capabilities(builder: Builder, profile: &Profile) -> Builder {
    builder
        .header(Name::Allow, ALLOW)
        .header(Name::Accept, ACCEPT)
        .header(Name::AcceptEncoding, "identity")
        .header(Name::AcceptLanguage, "en")
        .header(Name::Supported, supported(profile))
}

impl Endpoint {
    /// Outside a dialog; a node that takes no calls says so, as it would to an INVITE (11.2).
    pub(super) fn options(&mut self, request: &Message, arrival: Arrival, profile: &Profile) {
        if self.refusing.is_some() {
            return self.overloaded(request, arrival, profile);
        }
        self.respond_stateless(request, arrival, 200, "", |builder| capabilities(builder, profile));
    }
}
