//! The names of header fields.

macro_rules! names {
    ($($(#[$doc:meta])* $variant:ident = $text:literal;)*) => {
        /// A header field this crate knows by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u8)]
        #[allow(missing_docs, reason = "each variant is the header field's own name")]
        pub enum Name {
            $($(#[$doc])* $variant,)*
            /// A name that is not in the table; its text stays in the message.
            Other,
        }

        /// Canonical spelling, in the order of the variants.
        const TEXTS: &[&str] = &[$($text,)*];
        /// Variants in their order, so that an index becomes a name without arithmetic on discriminants.
        const NAMES: &[Name] = &[$(Name::$variant,)*];
    };
}

names! {
    Accept = "Accept";
    AcceptContact = "Accept-Contact";
    AcceptEncoding = "Accept-Encoding";
    AcceptLanguage = "Accept-Language";
    AlertInfo = "Alert-Info";
    Allow = "Allow";
    AllowEvents = "Allow-Events";
    AuthenticationInfo = "Authentication-Info";
    Authorization = "Authorization";
    CallId = "Call-ID";
    CallInfo = "Call-Info";
    Contact = "Contact";
    ContentDisposition = "Content-Disposition";
    ContentEncoding = "Content-Encoding";
    ContentLanguage = "Content-Language";
    ContentLength = "Content-Length";
    ContentType = "Content-Type";
    Cseq = "CSeq";
    Date = "Date";
    Diversion = "Diversion";
    ErrorInfo = "Error-Info";
    Event = "Event";
    Expires = "Expires";
    From = "From";
    HistoryInfo = "History-Info";
    Identity = "Identity";
    InReplyTo = "In-Reply-To";
    InfoPackage = "Info-Package";
    MaxBreadth = "Max-Breadth";
    MaxForwards = "Max-Forwards";
    MimeVersion = "MIME-Version";
    MinExpires = "Min-Expires";
    MinSe = "Min-SE";
    Organization = "Organization";
    PAccessNetworkInfo = "P-Access-Network-Info";
    PAssertedIdentity = "P-Asserted-Identity";
    PPreferredIdentity = "P-Preferred-Identity";
    Path = "Path";
    Priority = "Priority";
    Privacy = "Privacy";
    ProxyAuthenticate = "Proxy-Authenticate";
    ProxyAuthorization = "Proxy-Authorization";
    ProxyRequire = "Proxy-Require";
    RAck = "RAck";
    RSeq = "RSeq";
    Reason = "Reason";
    RecordRoute = "Record-Route";
    RecvInfo = "Recv-Info";
    ReferSub = "Refer-Sub";
    ReferTo = "Refer-To";
    ReferredBy = "Referred-By";
    RejectContact = "Reject-Contact";
    RemotePartyId = "Remote-Party-ID";
    Replaces = "Replaces";
    ReplyTo = "Reply-To";
    RequestDisposition = "Request-Disposition";
    Require = "Require";
    RetryAfter = "Retry-After";
    Route = "Route";
    Server = "Server";
    ServiceRoute = "Service-Route";
    SessionExpires = "Session-Expires";
    SipEtag = "SIP-ETag";
    SipIfMatch = "SIP-If-Match";
    Subject = "Subject";
    SubscriptionState = "Subscription-State";
    Supported = "Supported";
    TargetDialog = "Target-Dialog";
    Timestamp = "Timestamp";
    To = "To";
    Unsupported = "Unsupported";
    UserAgent = "User-Agent";
    UserToUser = "User-to-User";
    Via = "Via";
    Warning = "Warning";
    WwwAuthenticate = "WWW-Authenticate";
}

impl Name {
    /// The canonical spelling; empty for [`Name::Other`].
    #[must_use]
    pub fn as_str(self) -> &'static str {
        TEXTS.get(self as usize).copied().unwrap_or_default()
    }

    /// The header a name or compact form (RFC 3261 7.3.3) stands for, in any case.
    #[must_use]
    pub fn from_token(token: &[u8]) -> Self {
        if let [letter] = token {
            return Self::from_compact(*letter);
        }
        let Some(slot) = INDEX.get(hash(token)) else { return Self::Other };
        match TEXTS.get(usize::from(*slot)) {
            Some(text) if text.as_bytes().eq_ignore_ascii_case(token) => {
                NAMES.get(usize::from(*slot)).copied().unwrap_or(Self::Other)
            }
            _ => Self::Other,
        }
    }

    fn from_compact(letter: u8) -> Self {
        match letter | 0x20 {
            b'a' => Self::AcceptContact,
            b'b' => Self::ReferredBy,
            b'c' => Self::ContentType,
            b'd' => Self::RequestDisposition,
            b'e' => Self::ContentEncoding,
            b'f' => Self::From,
            b'i' => Self::CallId,
            b'j' => Self::RejectContact,
            b'k' => Self::Supported,
            b'l' => Self::ContentLength,
            b'm' => Self::Contact,
            b'o' => Self::Event,
            b'r' => Self::ReferTo,
            b's' => Self::Subject,
            b't' => Self::To,
            b'u' => Self::AllowEvents,
            b'v' => Self::Via,
            b'x' => Self::SessionExpires,
            b'y' => Self::Identity,
            _ => Self::Other,
        }
    }

    /// Whether the grammar is a comma-separated list, so that one line may hold several values (RFC 3261 7.3.1).
    #[must_use]
    pub fn is_list(self) -> bool {
        matches!(
            self,
            Self::Accept
                | Self::AcceptContact
                | Self::AcceptEncoding
                | Self::AcceptLanguage
                | Self::AlertInfo
                | Self::Allow
                | Self::AllowEvents
                | Self::CallInfo
                | Self::Contact
                | Self::ContentEncoding
                | Self::ContentLanguage
                | Self::Diversion
                | Self::ErrorInfo
                | Self::HistoryInfo
                | Self::InReplyTo
                | Self::PAccessNetworkInfo
                | Self::PAssertedIdentity
                | Self::PPreferredIdentity
                | Self::Path
                | Self::ProxyRequire
                | Self::Reason
                | Self::RecordRoute
                | Self::RecvInfo
                | Self::RejectContact
                | Self::RemotePartyId
                | Self::RequestDisposition
                | Self::Require
                | Self::Route
                | Self::ServiceRoute
                | Self::Supported
                | Self::Unsupported
                | Self::UserToUser
                | Self::Via
                | Self::Warning
        )
    }

    /// Whether a message may carry the header once only (RFC 3261 7.3.1 and table 2, RFC 3262, 3515, 3891, 4028).
    #[must_use]
    pub fn is_singleton(self) -> bool {
        matches!(
            self,
            Self::CallId
                | Self::ContentDisposition
                | Self::ContentLength
                | Self::ContentType
                | Self::Cseq
                | Self::Date
                | Self::Event
                | Self::Expires
                | Self::From
                | Self::MaxBreadth
                | Self::MaxForwards
                | Self::MimeVersion
                | Self::MinExpires
                | Self::MinSe
                | Self::RAck
                | Self::RSeq
                | Self::ReferSub
                | Self::ReferTo
                | Self::ReferredBy
                | Self::Replaces
                | Self::ReplyTo
                | Self::RetryAfter
                | Self::SessionExpires
                | Self::SipEtag
                | Self::SipIfMatch
                | Self::SubscriptionState
                | Self::TargetDialog
                | Self::Timestamp
                | Self::To
        )
    }

    pub(crate) fn bit(self) -> u128 {
        1 << (self as u8)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

const INDEX_SIZE: usize = 256;
const EMPTY: u8 = u8::MAX;

/// Where each name sits by length, first, middle and last letter: a perfect hash, proved so while compiling.
static INDEX: [u8; INDEX_SIZE] = build_index();

const fn mix(length: usize, first: u8, middle: u8, last: u8) -> usize {
    (length * 235
        + (first | 0x20) as usize * 115
        + (middle | 0x20) as usize * 82
        + (last | 0x20) as usize * 28)
        % INDEX_SIZE
}

fn hash(token: &[u8]) -> usize {
    let middle = token.get(token.len() / 2).copied().unwrap_or_default();
    match (token.first(), token.last()) {
        (Some(first), Some(last)) => mix(token.len(), *first, middle, *last),
        _ => INDEX_SIZE,
    }
}

#[allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "evaluated by the compiler only"
)]
const fn build_index() -> [u8; INDEX_SIZE] {
    let mut index = [EMPTY; INDEX_SIZE];
    let mut at = 0;
    while at < TEXTS.len() {
        let text = TEXTS[at].as_bytes();
        let slot = mix(text.len(), text[0], text[text.len() / 2], text[text.len() - 1]);
        assert!(index[slot] == EMPTY, "two header names share a slot: change the multipliers");
        index[slot] = at as u8;
        at += 1;
    }
    index
}
