//! The line model: a description is its lines, sorted into the session part and media sections; typed values are
//! read from the lines when asked for. What is not understood is kept.

use super::attribute::{Direction, Fingerprint, RtpMap, Setup, payload_type_of};
use std::fmt;
use std::net::IpAddr;

use bytestring::ByteString;

/// A payload type has seven bits, so no section has use for more formats.
const PAYLOAD_TYPES: usize = 128;

/// How many lines a section makes room for at once: as many as telephones write.
const MEDIA_LINES: usize = 12;

/// How a line ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    CrLf,
    Lf,
    /// The last line of a text without a final line break.
    None,
}

/// One line, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub(super) text: ByteString,
    pub(super) ending: Ending,
}

impl Line {
    /// A line `kind=value`. Control characters in the value become `?`, as they could begin a line of their own.
    #[must_use]
    pub fn new(kind: char, value: &str) -> Self {
        let mut text = String::with_capacity(value.len() + 2);
        text.push(kind);
        text.push('=');
        text.extend(value.chars().map(|c| if c.is_control() { '?' } else { c }));
        Self { text: text.into(), ending: Ending::CrLf }
    }

    /// The type letter; none for the empty lines that some peers append.
    #[must_use]
    pub fn kind(&self) -> Option<char> {
        self.text.chars().next()
    }

    /// What follows the `=`.
    #[must_use]
    pub fn value(&self) -> &str {
        self.text.get(2..).unwrap_or_default()
    }

    /// Name and value of an `a=` line; a property attribute has an empty value.
    #[must_use]
    pub fn attribute(&self) -> Option<(&str, &str)> {
        (self.kind() == Some('a')).then(|| match self.value().split_once(':') {
            Some((name, value)) => (name, value.trim()),
            None => (self.value().trim_end(), ""),
        })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        f.write_str(match self.ending {
            Ending::CrLf => "\r\n",
            Ending::Lf => "\n",
            Ending::None => "",
        })
    }
}

fn attributes<'a>(lines: &'a [Line], name: &'a str) -> impl Iterator<Item = &'a str> {
    lines.iter().filter_map(Line::attribute).filter(move |(found, _)| *found == name).map(|(_, value)| value)
}

/// The address of a `c=` line (RFC 8866 section 5.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection<'a> {
    /// An IP address.
    Address(IpAddr),
    /// A host name, or something unknown.
    Other(&'a str),
}

fn connection(lines: &[Line]) -> Option<Connection<'_>> {
    let value = lines.iter().find(|line| line.kind() == Some('c'))?.value();
    let address = value.split_ascii_whitespace().nth(2)?;
    // A multicast address has its TTL behind a slash.
    let address = address.split('/').next().unwrap_or(address);
    Some(address.parse().map_or(Connection::Other(address), Connection::Address))
}

/// One media section: its `m=` line and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    pub(super) lines: Vec<Line>,
    port: u16,
}

impl Media {
    /// A section with an `m=` line.
    #[must_use]
    pub fn new(kind: &str, port: u16, protocol: &str, formats: &str) -> Self {
        Self { lines: vec![Line::new('m', &format!("{kind} {port} {protocol} {formats}"))], port }
    }

    pub(super) fn parse(line: Line) -> Option<Self> {
        let mut fields = line.value().split_ascii_whitespace();
        let (_kind, port, _protocol, _format) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        // RFC 8866 section 5.14 allows `port/number of ports`.
        let port = port.split('/').next()?.parse().ok()?;
        let mut lines = Vec::with_capacity(MEDIA_LINES);
        lines.push(line);
        Some(Self { lines, port })
    }

    fn field(&self, index: usize) -> &str {
        let value = self.lines.first().map_or("", Line::value);
        value.split_ascii_whitespace().nth(index).unwrap_or_default()
    }

    /// Appends a line.
    pub fn push(&mut self, kind: char, value: &str) {
        self.lines.push(Line::new(kind, value));
    }

    /// All lines, the `m=` line first.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// `audio`, `video`, `application`...
    #[must_use]
    pub fn kind(&self) -> &str {
        self.field(0)
    }

    /// The port; 0 refuses the section (RFC 3264 section 6).
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The transport protocol, such as `RTP/AVP`.
    #[must_use]
    pub fn protocol(&self) -> &str {
        self.field(2)
    }

    /// The formats, in the describer's order of preference.
    pub fn formats(&self) -> impl Iterator<Item = &str> {
        self.lines.first().map_or("", Line::value).split_ascii_whitespace().skip(3)
    }

    /// Whether the section is in use: it has a port, or shares another's (RFC 9143 section 6, `bundle-only`).
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.port != 0 || self.attribute("bundle-only").is_some()
    }

    /// The values of all attributes of a name.
    pub fn attributes<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        attributes(&self.lines, name)
    }

    /// The value of the first attribute of a name; empty for property attributes.
    #[must_use]
    pub fn attribute<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.attributes(name).next()
    }

    /// The identification tag (RFC 5888).
    #[must_use]
    pub fn mid(&self) -> Option<&str> {
        self.attribute("mid")
    }

    /// Every `a=rtpmap` that can be read.
    pub fn rtpmaps(&self) -> impl Iterator<Item = RtpMap<'_>> {
        self.attributes("rtpmap").filter_map(RtpMap::parse)
    }

    /// The encoding of a format: by its `a=rtpmap`, else by the static payload types that telephones use (RFC 3551
    /// section 6).
    #[must_use]
    pub fn rtpmap(&self, payload_type: u8) -> Option<RtpMap<'_>> {
        let mapped = self.rtpmaps().find(|map| map.payload_type == payload_type);
        mapped.or_else(|| RtpMap::of_static(payload_type))
    }

    /// The encodings of the formats, in the describer's order; formats without one are left out. The mappings are read
    /// once: a hostile description has thousands of both.
    #[must_use]
    pub fn encodings(&self) -> Vec<RtpMap<'_>> {
        let mut maps = [None; PAYLOAD_TYPES];
        for map in self.rtpmaps() {
            if let Some(known) = maps.get_mut(usize::from(map.payload_type)) {
                known.get_or_insert(map);
            }
        }
        let mapped = |number: u8| maps.get(usize::from(number)).copied().flatten();
        let numbers = self.formats().take(PAYLOAD_TYPES).filter_map(payload_type_of);
        numbers.filter_map(|number| mapped(number).or_else(|| RtpMap::of_static(number))).collect()
    }

    /// The format parameters of a payload type.
    #[must_use]
    pub fn fmtp(&self, payload_type: u8) -> Option<&str> {
        self.attributes("fmtp")
            .filter_map(|value| value.split_once(' '))
            .find(|(format, _)| format.parse() == Ok(payload_type))
            .map(|(_, parameters)| parameters.trim())
    }
}

/// A session description. `Display` prints it back byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Session {
    pub(super) lines: Vec<Line>,
    pub(super) media: Vec<Media>,
}

impl Session {
    /// Appends a line to the session part.
    pub fn push(&mut self, kind: char, value: &str) {
        self.lines.push(Line::new(kind, value));
    }

    /// Appends a media section.
    pub fn push_media(&mut self, media: Media) {
        self.media.push(media);
    }

    /// The lines of the session part.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The media sections.
    #[must_use]
    pub fn media(&self) -> &[Media] {
        &self.media
    }

    /// The values of all session attributes of a name.
    pub fn attributes<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        attributes(&self.lines, name)
    }

    /// The value of the first session attribute of a name.
    #[must_use]
    pub fn attribute<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.attributes(name).next()
    }

    /// Where a section's packets go: its own `c=`, else the session's.
    #[must_use]
    pub fn connection<'a>(&'a self, media: &'a Media) -> Option<Connection<'a>> {
        connection(&media.lines).or_else(|| connection(&self.lines))
    }

    /// A section's direction: its own, else the session's, else both ways (RFC 8866 section 6.7).
    #[must_use]
    pub fn direction(&self, media: &Media) -> Direction {
        let of =
            |lines: &[Line]| lines.iter().filter_map(Line::attribute).find_map(|(n, _)| Direction::parse(n));
        of(&media.lines).or_else(|| of(&self.lines)).unwrap_or_default()
    }

    /// The tags of the BUNDLE group that has this one (RFC 9143 section 5).
    #[must_use]
    pub fn bundle_of(&self, mid: &str) -> Option<Vec<&str>> {
        self.attributes("group").find_map(|group| {
            let mut words = group.split_ascii_whitespace();
            let tags: Vec<&str> = (words.next() == Some("BUNDLE")).then(|| words.collect())?;
            tags.contains(&mid).then_some(tags)
        })
    }

    /// An attribute of a section's transport: its own, else the session's, else that of a section with which it is
    /// bundled (RFC 9143 section 7.1.3: a bundle-only section need not repeat them).
    pub fn transport_attributes<'a>(&'a self, media: &'a Media, name: &'a str) -> Vec<&'a str> {
        let own: Vec<&str> = media.attributes(name).collect();
        if !own.is_empty() {
            return own;
        }
        let of_session: Vec<&str> = self.attributes(name).collect();
        if !of_session.is_empty() {
            return of_session;
        }
        let bundle = media.mid().and_then(|mid| self.bundle_of(mid)).unwrap_or_default();
        let bundled = |other: &&Media| other.mid().is_some_and(|mid| bundle.contains(&mid));
        let shared = self.media.iter().filter(bundled).find(|other| other.attribute(name).is_some());
        shared.map(|other| other.attributes(name).collect()).unwrap_or_default()
    }

    /// Every fingerprint of a section that we trust (RFC 8122 section 5).
    #[must_use]
    pub fn fingerprints(&self, media: &Media) -> Vec<Fingerprint> {
        self.transport_attributes(media, "fingerprint").into_iter().filter_map(Fingerprint::parse).collect()
    }

    /// A section's DTLS role; the inner value is `None` if it is unknown.
    #[must_use]
    pub fn setup(&self, media: &Media) -> Option<Option<Setup>> {
        self.transport_attributes(media, "setup").first().map(|value| Setup::parse(value))
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.lines.iter().chain(self.media.iter().flat_map(|media| &media.lines));
        lines.try_for_each(|line| line.fmt(f))
    }
}
