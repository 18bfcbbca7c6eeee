//! Messages of our own making.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::header::scan::{TOKEN, USER, VALUE, is_all, run, until};
use crate::header::{Name, Names, Values, Via};
use crate::write::{put_ip, put_number};
use crate::{Message, Method, StatusCode, Transport};

/// A message that must not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// CR, LF, NUL or another control character in a value: it would smuggle a header in (RFC 3261 25.1).
    #[error("control character in {0}")]
    Control(String),
    /// A header name, method or URI that is no token or holds what it must not.
    #[error("not a valid {0}")]
    Syntax(&'static str),
    /// Content-Length, which the builder writes itself.
    #[error("Content-Length is the builder's")]
    ContentLength,
    /// A status outside 100 to 699.
    #[error("status {0} outside 100 to 699")]
    Status(u16),
}

/// Writes a message line by line. The first fault is kept and returned by [`Builder::build`].
#[derive(Debug, Clone)]
pub struct Builder {
    /// The start line and the lines so far, without the last line's end.
    head: Vec<u8>,
    body: Bytes,
    /// Where a tag goes: the end of the To line, while it has none.
    to_end: Option<usize>,
    fault: Option<BuildError>,
}

impl Builder {
    /// Starts a request.
    #[must_use]
    pub fn request(method: Method, uri: &str) -> Self {
        match method {
            Method::Other => Self::request_named("", uri),
            known => Self::empty().request_line(known.as_str(), uri),
        }
    }

    /// Starts a request of a method without a variant.
    #[must_use]
    pub fn request_named(method: &str, uri: &str) -> Self {
        let mut builder = Self::empty();
        if !is_all(method.as_bytes(), TOKEN) {
            builder.fail(BuildError::Syntax("method"));
        }
        builder.request_line(method, uri)
    }

    fn request_line(mut self, method: &str, uri: &str) -> Self {
        let hidden = |byte: u8| byte <= b' ' || byte == 0x7f || byte == b'<' || byte == b'>' || byte == b'"';
        // Every letter a URI is usually made of is of one of these classes; any other is looked at more closely.
        let plain = run(uri.as_bytes(), 0, USER | VALUE) == uri.len();
        if uri.is_empty() || !plain && uri.bytes().any(hidden) {
            self.fail(BuildError::Syntax("Request-URI"));
        }
        self.put(&[method, " ", uri, " SIP/2.0"]);
        self
    }

    /// Starts a response: Via lines, From, To, Call-ID and CSeq are copied from the request (RFC 3261 8.2.6.2), and
    /// Timestamp into a 100 (8.2.6.1). An empty `reason` means the registered phrase.
    #[must_use]
    pub fn response(request: &Message, status: u16, reason: &str) -> Self {
        Self::status_line(status, reason).copy(Name::Via, request).identity(request, status)
    }

    /// The same, noting in the top Via where the request came from: `received` when sent-by says otherwise or `rport`
    /// was asked for, and the value of `rport` (RFC 3261 18.2.1, RFC 3581 4).
    #[must_use]
    pub fn response_to(request: &Message, source: SocketAddr, status: u16, reason: &str) -> Self {
        Self::status_line(status, reason).vias_from(request, source).identity(request, status)
    }

    fn empty() -> Self {
        Self { head: Vec::with_capacity(1024), body: Bytes::new(), to_end: None, fault: None }
    }

    fn status_line(status: u16, reason: &str) -> Self {
        let mut builder = Self::empty();
        if !(100..700).contains(&status) {
            builder.fail(BuildError::Status(status));
        }
        if has_control(reason) {
            builder.fail(BuildError::Control("reason phrase".to_owned()));
        }
        let reason = if reason.is_empty() { StatusCode(status).reason() } else { reason };
        builder.put(&["SIP/2.0 "]);
        put_number(&mut builder.head, u32::from(status));
        builder.put(&[" ", reason]);
        builder
    }

    /// Via lines, the top value noting the source.
    fn vias_from(mut self, request: &Message, source: SocketAddr) -> Self {
        let mut lines = request.lines(Name::Via);
        let Some(top_line) = lines.next() else { return self };
        match request.rport_place() {
            Some((before, after, rest)) => self.top_via(before, after, rest, source),
            None => self.odd_via(top_line, source),
        }
        for line in lines {
            self.line(Name::Via, line);
        }
        self
    }

    /// The usual top Via line: it asks for `rport` once and says nothing of `received`.
    fn top_via(&mut self, before: &str, after: &str, rest: &str, source: SocketAddr) {
        self.line(Name::Via, before);
        self.put(&["="]);
        put_number(&mut self.head, u32::from(source.port()));
        self.put(&[after, ";received="]);
        put_ip(&mut self.head, source.ip());
        self.put(&[rest]);
    }

    fn odd_via(&mut self, line: &str, source: SocketAddr) {
        let mut values = Values::new(line);
        let top = values.next().unwrap_or_default();
        let top = Via::parse(top).map_or(top.to_owned(), |via| via.noting(source));
        self.line(Name::Via, &top);
        if let Some(rest) = values.rest() {
            self.put(&[", ", rest.trim_start()]);
        }
    }

    fn identity(mut self, request: &Message, status: u16) -> Self {
        const COPIED: Names = Names::of(&[Name::From, Name::To, Name::CallId, Name::Cseq]);
        let mut seen = Names::of(&[]);
        for (name, value) in request.fields(COPIED) {
            // A broken request may have one twice; the first counts.
            if !seen.has(name) {
                seen.add(name);
                self.line(name, value);
                if name == Name::To && request.to_tag().is_none() {
                    self.to_end = Some(self.head.len());
                }
            }
        }
        if status == 100 { self.copy(Name::Timestamp, request) } else { self }
    }

    /// Adds our tag to To unless it has one (RFC 3261 8.2.6.2). Responses only; the first tag stays.
    #[must_use]
    pub fn to_tag(mut self, tag: &str) -> Self {
        if !is_all(tag.as_bytes(), TOKEN) {
            self.fail(BuildError::Syntax("tag"));
        } else if let Some(at) = self.to_end.take() {
            self.insert(at, b";tag=");
            self.insert(at + 5, tag.as_bytes());
        }
        self
    }

    fn insert(&mut self, at: usize, bytes: &[u8]) {
        let end = self.head.len();
        self.head.resize(end + bytes.len(), 0);
        self.head.copy_within(at..end, at + bytes.len());
        if let Some(gap) = self.head.get_mut(at..at + bytes.len()) {
            gap.copy_from_slice(bytes);
        }
    }

    /// Adds a header line.
    #[must_use]
    pub fn header(self, name: Name, value: impl AsRef<str>) -> Self {
        self.framed(name, "", value.as_ref(), "")
    }

    /// Adds a header line with something of ours around a value.
    #[must_use]
    pub(crate) fn framed(mut self, name: Name, before: &str, value: &str, after: &str) -> Self {
        match name {
            Name::Other => self.fail(BuildError::Syntax("header name")),
            Name::ContentLength => self.fail(BuildError::ContentLength),
            _ if has_control(value) => self.fail(BuildError::Control(name.as_str().to_owned())),
            _ => self.put(&[name.line_start(), before, value, after]),
        }
        self
    }

    /// Adds the Via of a request of ours, which asks for `rport` (RFC 3261 8.1.1.7, RFC 3581 3). Its sent-by is the
    /// host and port of our Contact.
    #[must_use]
    pub(crate) fn via(self, transport: Transport, sent_by: &str, branch: &str) -> Self {
        let mut builder =
            self.framed(Name::Via, transport.via_start(), sent_by_of(sent_by), ";rport;branch=");
        builder.put(&[branch]);
        builder
    }

    /// Adds a header line whose value comes out of a parsed message or of this crate, and so needs no look.
    #[must_use]
    pub(crate) fn safe(mut self, name: Name, value: &str) -> Self {
        debug_assert!(!value.contains(['\r', '\n']), "{value:?}");
        self.line(name, value);
        self
    }

    /// Adds CSeq.
    #[must_use]
    pub(crate) fn cseq(mut self, number: u32, method: Method) -> Self {
        self.line(Name::Cseq, "");
        put_number(&mut self.head, number);
        self.put(&[" ", method.as_str()]);
        self
    }

    /// Adds a header line of any name.
    #[must_use]
    pub fn header_named(mut self, name: &str, value: &str) -> Self {
        if !is_all(name.as_bytes(), TOKEN) {
            self.fail(BuildError::Syntax("header name"));
        } else if Name::from_token(name.as_bytes()) == Name::ContentLength {
            self.fail(BuildError::ContentLength);
        } else if has_control(value) {
            self.fail(BuildError::Control(name.to_owned()));
        } else {
            self.put(&["\r\n", name, ": ", value]);
        }
        self
    }

    /// Copies every line of a header from another message, in order (Record-Route into a 2xx: RFC 3261 12.1.1).
    #[must_use]
    pub fn copy(mut self, name: Name, source: &Message) -> Self {
        for value in source.lines(name) {
            self.line(name, value);
        }
        self
    }

    /// Sets the body and its Content-Type.
    #[must_use]
    pub fn body(self, content_type: &str, bytes: &[u8]) -> Self {
        self.shared_body(content_type, Bytes::copy_from_slice(bytes))
    }

    /// The same with bytes that need no copy.
    #[must_use]
    pub(crate) fn shared_body(mut self, content_type: &str, bytes: Bytes) -> Self {
        self.body = bytes;
        self.header(Name::ContentType, content_type)
    }

    /// The bytes to send, Content-Length added. They take no more room than they need, for many are kept as long as
    /// they may have to be sent again.
    ///
    /// # Errors
    /// When a value would break the message's framing.
    pub fn build(mut self) -> Result<Bytes, BuildError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        self.put(&["\r\nContent-Length: "]);
        put_number(&mut self.head, u32::try_from(self.body.len()).unwrap_or(u32::MAX));
        self.put(&["\r\n\r\n"]);
        let mut whole = Vec::with_capacity(self.head.len().saturating_add(self.body.len()));
        whole.extend_from_slice(&self.head);
        whole.extend_from_slice(&self.body);
        Ok(Bytes::from(whole))
    }

    fn fail(&mut self, fault: BuildError) {
        self.fault.get_or_insert(fault);
    }

    fn line(&mut self, name: Name, value: &str) {
        self.put(&[name.line_start(), value]);
    }

    fn put(&mut self, parts: &[&str]) {
        for part in parts {
            self.head.extend_from_slice(part.as_bytes());
        }
    }
}

/// Control characters but HTAB.
fn has_control(text: &str) -> bool {
    any(text, |byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f)
}

/// Whether any byte is one of those. Sixteen or eight at a time, which the compiler turns into vector comparisons;
/// the last ones overlap those before.
fn any(text: &str, hit: impl Fn(u8) -> bool + Copy) -> bool {
    let among = |bytes: &[u8]| bytes.iter().fold(false, |found, byte| found | hit(*byte));
    let bytes = text.as_bytes();
    if let Some(last) = bytes.last_chunk::<16>() {
        return bytes.as_chunks::<16>().0.iter().any(|window| among(window)) || among(last);
    }
    match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) => among(first) | among(last),
        _ => bytes.iter().any(|byte| hit(*byte)),
    }
}

/// `host:port` out of what a Contact says: without scheme and parameters.
fn sent_by_of(contact: &str) -> &str {
    let contact = contact.strip_prefix("sips:").unwrap_or(contact);
    until(contact, b';')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_character_is_found_wherever_it_stands() {
        for length in 0..70 {
            let clean = "a\t\u{e4}".repeat(length).chars().take(length).collect::<String>();
            assert!(!has_control(&clean), "{clean:?}");
            for (at, _) in clean.char_indices() {
                for control in ['\0', '\n', '\r', '\u{1f}', '\u{7f}'] {
                    let mut text = clean.clone();
                    text.insert(at, control);
                    assert!(has_control(&text), "{text:?}");
                }
            }
        }
    }
}
