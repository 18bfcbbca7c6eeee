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
        /// The end of the line before, the name and its colon.
        const STARTS: &[&str] = &[$(concat!("\r\n", $text, ": "),)*];
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

    /// The end of the line before, the name and its colon: what a new header line starts with.
    pub(crate) fn line_start(self) -> &'static str {
        STARTS.get(self as usize).copied().unwrap_or_default()
    }

    /// The header a name or compact form (RFC 3261 7.3.3) stands for, in any case.
    #[must_use]
    pub fn from_token(token: &[u8]) -> Self {
        if let [letter] = token {
            return Self::from_compact(*letter);
        }
        let slot = usize::from(INDEX.get(hash(token)).copied().unwrap_or(EMPTY));
        match TEXTS.get(slot).map(|text| text.as_bytes()) {
            // Most peers write the canonical spelling, and comparing that is a plain memory compare.
            Some(text) if text == token || text.eq_ignore_ascii_case(token) => {
                NAMES.get(slot).copied().unwrap_or(Self::Other)
            }
            _ => Self::Other,
        }
    }

    /// How much text [`Self::before_colon`] needs.
    pub(crate) const LONGEST: usize = LONGEST;

    /// The header whose canonical spelling and a colon the text starts with, and where that colon is. Most lines do,
    /// and comparing three words tells.
    #[inline]
    pub(crate) fn before_colon(text: &[u8; Self::LONGEST]) -> Option<(Self, usize)> {
        let [a, b, c] = words(text);
        let (token, before, found) = match (colon(a), colon(b)) {
            (0, 0) => ([a, b, c & through(colon(c))], 16, colon(c)),
            (0, found) => ([a, b & through(found), 0], 8, found),
            (found, _) => ([a & through(found), 0, 0], 0, found),
        };
        let slot = usize::from(EXACT.get(place(token, MULTIPLIER)).copied().unwrap_or(EMPTY));
        let ([a, b, c], [x, y, z]) = (token, *WORDS.get(slot)?);
        if (a ^ x) | (b ^ y) | (c ^ z) != 0 {
            return None;
        }
        let colon = usize::wrapping_add(before, found.trailing_zeros() as usize / 8);
        Some((NAMES.get(slot).copied().unwrap_or(Self::Other), colon))
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
    pub const fn is_singleton(self) -> bool {
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
}

/// A set of names; all that are not in the table count as one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Names([u64; 2]);

impl Names {
    #[inline]
    pub(crate) fn has(&self, name: Name) -> bool {
        let place = name as usize;
        self.0.get(place / 64).is_some_and(|word| word >> (place % 64) & 1 != 0)
    }

    #[inline]
    pub(crate) fn has_all(&self, Self([low, high]): Self) -> bool {
        self.0[0] & low == low && self.0[1] & high == high
    }

    #[inline]
    pub(crate) fn add(&mut self, name: Name) {
        let place = name as usize;
        if let Some(word) = self.0.get_mut(place / 64) {
            *word |= 1 << (place % 64);
        }
    }

    #[allow(clippy::indexing_slicing, reason = "evaluated by the compiler only")]
    pub(crate) const fn of(names: &[Name]) -> Self {
        let (mut set, mut at) = ([0; 2], 0);
        while at < names.len() {
            let place = names[at] as usize;
            set[place / 64] |= 1 << (place % 64);
            at += 1;
        }
        Self(set)
    }

    /// All that may stand once only.
    #[allow(clippy::indexing_slicing, reason = "evaluated by the compiler only")]
    pub(crate) const fn singletons() -> Self {
        let (mut set, mut at) = ([0; 2], 0);
        while at < NAMES.len() {
            if NAMES[at].is_singleton() {
                set[at / 64] |= 1 << (at % 64);
            }
            at += 1;
        }
        Self(set)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

const EMPTY: u8 = u8::MAX;

/// Where each name sits by length, first, middle and last letter: a perfect hash, proved so while compiling.
static INDEX: [u8; 256] = build_index();

const fn mix(length: u8, first: u8, middle: u8, last: u8) -> u8 {
    let length = length.wrapping_mul(235);
    let first = (first | 0x20).wrapping_mul(115);
    let middle = (middle | 0x20).wrapping_mul(82);
    length.wrapping_add(first).wrapping_add(middle).wrapping_add((last | 0x20).wrapping_mul(28))
}

fn hash(token: &[u8]) -> usize {
    let middle = token.get(token.len() / 2).copied().unwrap_or_default();
    let (first, last) =
        (token.first().copied().unwrap_or_default(), token.last().copied().unwrap_or_default());
    // A length that wraps finds a name that differs.
    #[allow(clippy::cast_possible_truncation, reason = "wrapping is meant")]
    usize::from(mix(token.len() as u8, first, middle, last))
}

#[allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "evaluated by the compiler only"
)]
const fn build_index() -> [u8; 256] {
    let mut index = [EMPTY; 256];
    let mut at = 0;
    while at < TEXTS.len() {
        let text = TEXTS[at].as_bytes();
        let slot = mix(text.len() as u8, text[0], text[text.len() / 2], text[text.len() - 1]) as usize;
        assert!(index[slot] == EMPTY, "two header names share a slot: change the multipliers");
        index[slot] = at as u8;
        at += 1;
    }
    index
}

/// Three words hold the longest name and its colon.
const LONGEST: usize = 24;

#[inline]
fn words(text: &[u8; LONGEST]) -> [u64; 3] {
    match text.as_chunks::<8>().0 {
        [a, b, c] => [u64::from_le_bytes(*a), u64::from_le_bytes(*b), u64::from_le_bytes(*c)],
        _ => [0; 3],
    }
}

/// Flags the first colon of a word by the highest bit of its byte; zero when there is none.
#[inline]
fn colon(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let differs = word ^ (ONES * b':' as u64);
    differs.wrapping_sub(ONES) & !differs & (ONES << 7)
}

/// All bits up to the byte of the lowest flag; all of them when there is no flag.
#[inline]
fn through(flags: u64) -> u64 {
    flags ^ flags.wrapping_sub(1)
}

/// Every name and its colon as three words: without that, NUL behind a name would pass for its end.
static WORDS: [[u64; 3]; NAMES.len()] = build_words();

/// The multiplier that gives each name a place of its own.
const MULTIPLIER: u64 = build_exact().1;

/// Where each name sits by its words.
static EXACT: [u8; 1024] = build_exact().0;

#[inline]
const fn place(words: [u64; 3], multiplier: u64) -> usize {
    let [a, b, c] = words;
    let mixed = a.wrapping_add(b.rotate_left(23)).wrapping_add(c.rotate_left(41));
    (mixed.wrapping_mul(multiplier) >> 54) as usize
}

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler only")]
const fn build_words() -> [[u64; 3]; NAMES.len()] {
    let (mut words, mut name) = ([[0; 3]; NAMES.len()], 0);
    while name < NAMES.len() {
        let (text, mut at) = (TEXTS[name].as_bytes(), 0);
        assert!(text.len() < LONGEST, "a header name and its colon are longer than three words");
        while at <= text.len() {
            let byte = if at < text.len() { text[at] } else { b':' };
            words[name][at / 8] |= (byte as u64) << (at % 8 * 8);
            at += 1;
        }
        name += 1;
    }
    words
}

/// Tries multipliers until no two names meet.
#[allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "evaluated by the compiler only"
)]
const fn build_exact() -> ([u8; 1024], u64) {
    let (words, mut multiplier) = (build_words(), 0x9e37_79b9_7f4a_7c15_u64);
    loop {
        let (mut index, mut name) = ([EMPTY; 1024], 0);
        while name < NAMES.len() && index[place(words[name], multiplier)] == EMPTY {
            index[place(words[name], multiplier)] = name as u8;
            name += 1;
        }
        if name == NAMES.len() {
            return (index, multiplier);
        }
        multiplier = multiplier.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Option<(Name, usize)> {
        let mut text = [b' '; Name::LONGEST];
        text[..line.len()].copy_from_slice(line.as_bytes());
        Name::before_colon(&text)
    }

    #[test]
    fn every_canonical_name_is_found_before_its_colon_and_nothing_else_is() {
        for (name, text) in NAMES.iter().zip(TEXTS) {
            assert_eq!(found(&format!("{text}:")), Some((*name, text.len())));
            assert_eq!(Name::from_token(text.to_ascii_uppercase().as_bytes()), *name);
            let others = [format!("{text}\0:"), format!("{text} :"), format!("{text}x:"), text.to_string()];
            assert!(others.iter().filter(|other| other.len() < 24).all(|other| found(other).is_none()));
        }
        assert_eq!((found(":"), found("X-Any: b"), found("via:")), (None, None, None));
    }
}
