//! Text to lines.

use bytestring::ByteString;
use memchr::{memchr, memchr2};

use super::model::{Ending, Line, Media, Session};

/// The longest description we read. Browsers with every video codec offer about 10 KiB.
pub const MAX_LENGTH: usize = 32 * 1024;
/// The most lines we read.
pub const MAX_LINES: usize = 1_000;
/// The most media sections we read.
pub const MAX_MEDIA: usize = 32;

/// How many lines are made room for at once: as many as most descriptions have before their media.
const SESSION_LINES: usize = 6;

/// Why a text is no session description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// Longer than [`MAX_LENGTH`].
    #[error("session description longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// More than [`MAX_LINES`] lines or [`MAX_MEDIA`] media sections.
    #[error("session description with too many lines or media sections")]
    TooManyLines,
    /// It does not begin with `v=0`.
    #[error("session description does not begin with v=0")]
    Version,
    /// A line is not `letter=value`, or has a control character.
    #[error("line {0} of the session description is malformed")]
    Line(usize),
    /// An `m=` line lacks media, port, protocol or format.
    #[error("line {0} of the session description is a malformed m= line")]
    MediaLine(usize),
}

/// Parses a session description (RFC 8866 section 9). Lines may end in LF alone, as RFC 8866 section 5 advises to
/// accept, and empty lines after the last one are kept but mean nothing.
///
/// # Errors
/// If the text is too long or has a line that is no SDP line.
pub fn parse(text: &str) -> Result<Session, SdpError> {
    if text.len() > MAX_LENGTH {
        return Err(SdpError::TooLong);
    }
    let mut session = Session::default();
    session.lines.reserve(SESSION_LINES);
    // One copy, of which every line is a part.
    let whole = ByteString::from(text);
    let mut rest = &*whole;
    for number in 0.. {
        let end = memchr(b'\n', rest.as_bytes()).map_or(rest.len(), |end| end + 1);
        let Some((raw, behind)) = rest.split_at_checked(end).filter(|_| end > 0) else { break };
        rest = behind;
        if number == MAX_LINES || session.media.len() > MAX_MEDIA {
            return Err(SdpError::TooManyLines);
        }
        let line = parse_line(&whole, raw, number)?;
        if number == 0 && (line.kind(), line.value().trim_end()) != (Some('v'), "0") {
            return Err(SdpError::Version);
        }
        add_line(&mut session, line, number)?;
    }
    if session.lines.is_empty() { Err(SdpError::Version) } else { Ok(session) }
}

fn add_line(session: &mut Session, line: Line, number: usize) -> Result<(), SdpError> {
    let is_media = line.kind() == Some('m');
    match session.media.last_mut() {
        Some(media) if !is_media => media.lines.push(line),
        None if !is_media => session.lines.push(line),
        _ => session.media.push(Media::parse(line).ok_or(SdpError::MediaLine(number + 1))?),
    }
    Ok(())
}

fn parse_line(whole: &ByteString, raw: &str, number: usize) -> Result<Line, SdpError> {
    let (text, ending) = if let Some(text) = raw.strip_suffix("\r\n") {
        (text, Ending::CrLf)
    } else if let Some(text) = raw.strip_suffix('\n') {
        (text, Ending::Lf)
    } else {
        (raw, Ending::None)
    };
    let well_formed = match text.as_bytes() {
        [] => true,
        [kind, b'=', ..] => kind.is_ascii_lowercase(),
        _ => false,
    };
    if well_formed && memchr2(b'\0', b'\r', text.as_bytes()).is_none() {
        Ok(Line { text: whole.slice_ref(text), ending })
    } else {
        Err(SdpError::Line(number + 1))
    }
}
