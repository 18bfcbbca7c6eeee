//! A parsed message: offsets into one buffer, values typed when asked for.

use bytes::Bytes;
use bytestring::ByteString;
use memchr::memchr;

use crate::header::scan::decimal;
use crate::header::{Cseq, Malformed, Name, NameAddr, Names, Values, Via};
use crate::parse::{Keys, Slot, Slots, Span, Start};
use crate::{Host, Method, StatusCode, Uri};

/// A request or response. Cloning shares the buffer.
#[derive(Debug, Clone)]
pub struct Message {
    bytes: Bytes,
    /// Start line and header section, empty line included: the part of `bytes` that is known to be UTF-8.
    head: ByteString,
    start: Start,
    slots: Slots,
    keys: Keys,
}

/// The fields of a message while it is read.
pub(crate) struct Parts<'a> {
    pub(crate) bytes: &'a mut Bytes,
    pub(crate) head: &'a mut ByteString,
    pub(crate) start: &'a mut Start,
    pub(crate) slots: &'a mut Slots,
    pub(crate) keys: &'a mut Keys,
}

impl Message {
    /// A message to be read in place, so that its slots never move.
    pub(crate) fn unread(bytes: Bytes) -> Self {
        Self {
            bytes,
            head: ByteString::new(),
            start: Start::Unread,
            slots: Slots::new(),
            keys: Keys::default(),
        }
    }

    /// All fields, for the parser to fill.
    pub(crate) fn parts(&mut self) -> Parts<'_> {
        let Self { bytes, head, start, slots, keys } = self;
        Parts { bytes, head, start, slots, keys }
    }

    fn text(&self, span: Span) -> &str {
        self.head.get(span.range()).unwrap_or_default()
    }

    fn found(&self, span: Span) -> Option<&str> {
        (!span.is_empty()).then(|| self.text(span))
    }

    fn slots_of(&self, name: Name) -> impl Iterator<Item = &Slot> {
        let slots = if self.keys.has(name) { self.slots.as_slice() } else { &[] };
        slots.iter().filter(move |slot| slot.name == name)
    }

    /// Whether it is a request.
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(self.start, Start::Request { .. })
    }

    /// The method of a request; `None` for a response.
    #[must_use]
    pub fn method(&self) -> Option<Method> {
        match self.start {
            Start::Request { method, .. } => Some(method),
            _ => None,
        }
    }

    /// The method's text, also for methods without a variant; empty for a response.
    #[must_use]
    pub fn method_str(&self) -> &str {
        match self.start {
            Start::Request { method_text, .. } => self.text(method_text),
            _ => "",
        }
    }

    /// The Request-URI as written.
    #[must_use]
    pub fn request_uri(&self) -> Option<&str> {
        match self.start {
            Start::Request { uri, .. } => Some(self.text(uri)),
            _ => None,
        }
    }

    /// The Request-URI, typed.
    #[must_use]
    pub fn uri(&self) -> Option<Uri<'_>> {
        Uri::parse(self.request_uri()?).ok()
    }

    /// The status code of a response.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self.start {
            Start::Response { status, .. } => Some(StatusCode(status)),
            _ => None,
        }
    }

    /// The reason phrase of a response.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self.start {
            Start::Response { reason, .. } => self.text(reason),
            _ => "",
        }
    }

    /// The first line's value of a header, folding resolved; a comma list is not split.
    #[must_use]
    pub fn header(&self, name: Name) -> Option<&str> {
        self.lines(name).next()
    }

    /// The same for any header name, in any case; a compact form finds its long form and the other way round.
    #[must_use]
    pub fn header_named(&self, name: &str) -> Option<&str> {
        match Name::from_token(name.as_bytes()) {
            Name::Other => {
                self.headers().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
            }
            known => self.header(known),
        }
    }

    /// Whether the header is there.
    #[must_use]
    pub fn has(&self, name: Name) -> bool {
        self.keys.has(name)
    }

    /// Name (as written) and value of every header line, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.slots.as_slice().iter().map(|slot| (self.text(slot.name_text), self.text(slot.value)))
    }

    /// Name and value of every line of some headers, in order.
    pub(crate) fn fields(&self, wanted: Names) -> impl Iterator<Item = (Name, &str)> {
        let lines = self.slots.as_slice().iter().filter(move |slot| wanted.has(slot.name));
        lines.map(|slot| (slot.name, self.text(slot.value)))
    }

    /// Whether there is a second Via.
    pub(crate) fn has_more_vias(&self) -> bool {
        let mut lines = self.lines(Name::Via);
        let first = lines.next().unwrap_or_default();
        lines.next().is_some()
            || memchr(b',', first.as_bytes()).is_some() && self.values(Name::Via).nth(1).is_some()
    }

    /// Every line of one header, in order, lists not split.
    pub fn lines(&self, name: Name) -> impl Iterator<Item = &str> {
        self.slots_of(name).map(|slot| self.text(slot.value))
    }

    /// Every value of one header; comma lists are split outside quotes and angle brackets, empty values left out.
    pub fn values(&self, name: Name) -> impl Iterator<Item = &str> {
        let whole = move |line| if name.is_list() { Values::new(line) } else { Values::whole(line) };
        self.lines(name).flat_map(whole).filter(|value| !value.is_empty())
    }

    /// The body, cut to Content-Length.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.head.len()..).unwrap_or_default()
    }

    /// The body, sharing the message's buffer.
    #[must_use]
    pub fn body_bytes(&self) -> Bytes {
        self.bytes.slice(self.head.len().min(self.bytes.len())..)
    }

    /// The message from start line to the end of the body. Folded lines are joined by spaces; anything a datagram
    /// held behind the body is cut.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The top Via, typed. In a partial message whose top Via has broken parameters it is read without them: protocol
    /// and sent-by are enough to send a refusal (RFC 4475 3.1.2.1).
    ///
    /// # Errors
    /// When there is none or it is malformed (partial messages only).
    pub fn top_via(&self) -> Result<Via<'_>, Malformed> {
        const MISSING: Malformed = Malformed(&("missing", "RFC 3261 8.1.1.7"));
        let value = self.values(Name::Via).next().ok_or(MISSING)?;
        Via::parse(value).or_else(|_| Via::parse(value.split(';').next().unwrap_or_default()))
    }

    /// The branch of the top Via, found while parsing.
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        self.found(self.keys.branch)
    }

    /// The sent-by of the top Via, and whether it asks for `rport`. `None` when its value needs a closer look.
    pub(crate) fn sent_by(&self) -> Option<(Host<'_>, Option<u16>, bool)> {
        let via = &self.keys.via;
        let (host, port, _) = Host::take(self.found(via.sent_by)?, 0).ok()?;
        Some((host, port, via.rport.is_some()))
    }

    /// The first Via line in three parts: up to the name of `rport`, from its end to the end of the value, and what
    /// follows. `None` unless there is one `rport` and no `received`.
    pub(crate) fn rport_place(&self) -> Option<(&str, &str, &str)> {
        let via = &self.keys.via;
        let rport = via.rport.filter(|_| !via.odd)?.range();
        let (line, end) = (self.slots_of(Name::Via).next()?.value.range(), via.sent_by.range().end);
        Some((
            self.head.get(line.start..rport.start)?,
            self.head.get(rport.end..end)?,
            self.head.get(end..line.end)?,
        ))
    }

    /// From.
    ///
    /// # Errors
    /// When it is missing or malformed (partial messages only).
    pub fn from(&self) -> Result<NameAddr<'_>, Malformed> {
        NameAddr::parse(self.header(Name::From).ok_or(Malformed(&("missing", "RFC 3261 8.1.1.3")))?)
    }

    /// To.
    ///
    /// # Errors
    /// When it is missing or malformed (partial messages only).
    pub fn to(&self) -> Result<NameAddr<'_>, Malformed> {
        NameAddr::parse(self.header(Name::To).ok_or(Malformed(&("missing", "RFC 3261 8.1.1.2")))?)
    }

    /// The tag of From, found while parsing.
    #[must_use]
    pub fn from_tag(&self) -> Option<&str> {
        self.found(self.keys.from_tag)
    }

    /// The tag of To, found while parsing.
    #[must_use]
    pub fn to_tag(&self) -> Option<&str> {
        self.found(self.keys.to_tag)
    }

    /// Call-ID; empty only in a partial message.
    #[must_use]
    pub fn call_id(&self) -> &str {
        self.text(self.keys.call_id)
    }

    /// The number of CSeq, found while parsing.
    #[must_use]
    pub fn cseq_number(&self) -> u32 {
        self.keys.cseq
    }

    /// The method of CSeq, found while parsing; `None` only in a partial message.
    #[must_use]
    pub fn cseq_method(&self) -> Option<Method> {
        self.keys.cseq_method
    }

    /// CSeq.
    ///
    /// # Errors
    /// When it is missing or malformed (partial messages only).
    pub fn cseq(&self) -> Result<Cseq<'_>, Malformed> {
        Cseq::parse(self.header(Name::Cseq).ok_or(Malformed(&("missing", "RFC 3261 8.1.1.5")))?)
    }

    /// Max-Forwards; `None` when absent (RFC 3261 16.3 then treats it as unlimited).
    #[must_use]
    pub fn max_forwards(&self) -> Option<u32> {
        self.number(Name::MaxForwards)
    }

    /// The first Contact, unless it is `*`.
    #[must_use]
    pub fn contact(&self) -> Option<NameAddr<'_>> {
        self.contacts().next()
    }

    /// The URI of the first Contact as written, found while parsing: what a dialog's remote target is set to.
    #[must_use]
    pub fn contact_uri(&self) -> Option<&str> {
        self.found(self.keys.contact_uri)
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
        self.number(Name::Expires)
    }

    /// Option tags the peer requires.
    pub fn require(&self) -> impl Iterator<Item = &str> {
        self.values(Name::Require)
    }

    /// Option tags the peer understands.
    pub fn supported(&self) -> impl Iterator<Item = &str> {
        self.values(Name::Supported)
    }

    /// A header that is a number of seconds or hops, parameters ignored; too large a one counts as the largest
    /// (RFC 3261 20.19 leaves malformed Expires to the reader, RFC 4475 3.1.2.4).
    #[must_use]
    pub fn number(&self, name: Name) -> Option<u32> {
        let value = self.header(name)?;
        let end = value.bytes().position(|byte| matches!(byte, b';' | b' ' | b'\t' | b'('));
        let digits = value.get(..end.unwrap_or(value.len()))?;
        match decimal(digits.as_bytes()) {
            Some(number) => Some(u32::try_from(number).unwrap_or(u32::MAX)),
            None if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(u32::MAX),
            None => None,
        }
    }
}
