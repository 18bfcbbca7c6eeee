//! A parsed message: offsets into one buffer, values typed when asked for.

use bytes::Bytes;

use crate::header::{Cseq, Malformed, Name, NameAddr, Via};
use crate::{Method, StatusCode, Uri};

/// A request or response. Cloning shares the buffer.
#[derive(Debug, Clone)]
pub struct Message {
    bytes: Bytes,
}

impl Message {
    /// Whether it is a request.
    #[must_use]
    pub fn is_request(&self) -> bool {
        unimplemented!()
    }

    /// The method of a request; `None` for a response.
    #[must_use]
    pub fn method(&self) -> Option<Method> {
        unimplemented!()
    }

    /// The method's text, also for methods without a variant; empty for a response.
    #[must_use]
    pub fn method_str(&self) -> &str {
        unimplemented!()
    }

    /// The Request-URI as written.
    #[must_use]
    pub fn request_uri(&self) -> Option<&str> {
        unimplemented!()
    }

    /// The Request-URI, typed.
    #[must_use]
    pub fn uri(&self) -> Option<Uri<'_>> {
        Uri::parse(self.request_uri()?).ok()
    }

    /// The status code of a response.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        unimplemented!()
    }

    /// The reason phrase of a response.
    #[must_use]
    pub fn reason(&self) -> &str {
        unimplemented!()
    }

    /// The first line's value of a header, folding resolved; a comma list is not split.
    #[must_use]
    pub fn header(&self, _name: Name) -> Option<&str> {
        unimplemented!()
    }

    /// The same for any header name, in any case; a compact form finds its long form and the other way round.
    #[must_use]
    pub fn header_named(&self, _name: &str) -> Option<&str> {
        unimplemented!()
    }

    /// Whether the header is there.
    #[must_use]
    pub fn has(&self, name: Name) -> bool {
        self.header(name).is_some()
    }

    /// Name (as written) and value of every header line, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        std::iter::empty()
    }

    /// Every line of one header, in order, lists not split.
    pub fn lines(&self, _name: Name) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }

    /// Every value of one header, comma lists split outside quotes and angle brackets.
    pub fn values(&self, _name: Name) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }

    /// The body, cut to Content-Length.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        unimplemented!()
    }

    /// The body, sharing the message's buffer.
    #[must_use]
    pub fn body_bytes(&self) -> Bytes {
        unimplemented!()
    }

    /// The message from start line to the end of the body. Folded lines are joined by spaces; anything a datagram
    /// held behind the body is cut.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The top Via, typed. Checked while parsing; fails on a message without one (built by hand, partial) only.
    ///
    /// # Errors
    /// When there is none or it is malformed.
    pub fn top_via(&self) -> Result<Via<'_>, Malformed> {
        unimplemented!()
    }

    /// The branch of the top Via, found while parsing.
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        unimplemented!()
    }

    /// From.
    ///
    /// # Errors
    /// When it is missing or malformed (partial messages only).
    pub fn from(&self) -> Result<NameAddr<'_>, Malformed> {
        unimplemented!()
    }

    /// To.
    ///
    /// # Errors
    /// When it is missing or malformed (partial messages only).
    pub fn to(&self) -> Result<NameAddr<'_>, Malformed> {
        unimplemented!()
    }

    /// The tag of From, found while parsing.
    #[must_use]
    pub fn from_tag(&self) -> Option<&str> {
        unimplemented!()
    }

    /// The tag of To, found while parsing.
    #[must_use]
    pub fn to_tag(&self) -> Option<&str> {
        unimplemented!()
    }

    /// Call-ID; empty only in a partial message.
    #[must_use]
    pub fn call_id(&self) -> &str {
        self.header(Name::CallId).unwrap_or_default()
    }

    /// CSeq.
    ///
    /// # Errors
    /// When it is missing or malformed (partial messages only).
    pub fn cseq(&self) -> Result<Cseq<'_>, Malformed> {
        unimplemented!()
    }

    /// Max-Forwards; `None` when absent (RFC 3261 16.3 then treats it as unlimited).
    #[must_use]
    pub fn max_forwards(&self) -> Option<u32> {
        unimplemented!()
    }

    /// The first Contact, unless it is `*`.
    #[must_use]
    pub fn contact(&self) -> Option<NameAddr<'_>> {
        self.contacts().next()
    }

    /// Every Contact but `*`.
    pub fn contacts(&self) -> impl Iterator<Item = NameAddr<'_>> {
        self.name_addrs(Name::Contact)
    }

    /// Record-Route, top first.
    pub fn record_route(&self) -> impl Iterator<Item = NameAddr<'_>> {
        self.name_addrs(Name::RecordRoute)
    }

    /// Route, top first.
    pub fn route(&self) -> impl Iterator<Item = NameAddr<'_>> {
        self.name_addrs(Name::Route)
    }

    /// The values of a header whose grammar is a list of addresses; malformed ones are skipped.
    pub fn name_addrs(&self, name: Name) -> impl Iterator<Item = NameAddr<'_>> {
        self.values(name).filter_map(|value| NameAddr::parse(value).ok())
    }

    /// Content-Type.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.header(Name::ContentType)
    }

    /// Expires in seconds.
    #[must_use]
    pub fn expires(&self) -> Option<u32> {
        unimplemented!()
    }

    /// Option tags the peer requires.
    pub fn require(&self) -> impl Iterator<Item = &str> {
        self.values(Name::Require)
    }

    /// Option tags the peer understands.
    pub fn supported(&self) -> impl Iterator<Item = &str> {
        self.values(Name::Supported)
    }
}
