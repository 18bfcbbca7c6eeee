//! Keys in INFO bodies: `application/dtmf-relay` and `application/dtmf`, which no standard describes and many peers
//! send (RFC 6086 appendix A names the practice).

use std::time::Duration;

use crate::{Body, Message};

/// The media types understood, for Accept.
pub(crate) const ACCEPT: &str = "application/dtmf-relay, application/dtmf";
const RELAY: &str = "application/dtmf-relay";
/// The type of a body that is the key alone.
const PLAIN: &str = "application/dtmf";
/// How long a key is held where nobody says.
const USUAL: Duration = Duration::from_millis(160);
/// Nobody holds a key for longer.
const LONGEST: Duration = Duration::from_secs(8);
/// A body of this kind has two short lines.
const MAX_BODY: usize = 256;

/// A key that somebody pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// `0-9 * # A-D`.
    pub digit: char,
    /// How long.
    pub duration: Duration,
}

/// What an INFO turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Info {
    /// It says nothing that anybody has to know: no body, or a hook flash.
    Nothing,
    /// A key.
    Key(Key),
    /// A key was meant, but which?
    Malformed,
    /// Something else.
    Unsupported,
}

impl Info {
    /// Reads the body.
    pub(crate) fn of(request: &Message) -> Self {
        if request.body().is_empty() {
            return Self::Nothing;
        }
        let kind = request.content_type().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let body = std::str::from_utf8(request.body()).ok().filter(|body| body.len() <= MAX_BODY);
        match body {
            Some(body) if kind.eq_ignore_ascii_case(RELAY) => relay(body),
            Some(body) if kind.eq_ignore_ascii_case(PLAIN) => signal(body, USUAL),
            None if kind.eq_ignore_ascii_case(RELAY) || kind.eq_ignore_ascii_case(PLAIN) => Self::Malformed,
            _ => Self::Unsupported,
        }
    }
}

/// `Signal=5`, `Duration=160` (milliseconds), each on its line, in any case and order.
fn relay(body: &str) -> Info {
    let (mut key, mut duration) = (None, USUAL);
    for line in body.lines().filter(|line| !line.trim().is_empty()) {
        let Some((name, value)) = line.split_once('=') else { return Info::Malformed };
        let (name, value) = (name.trim(), value.trim());
        if name.eq_ignore_ascii_case("signal") {
            key = Some(value);
        } else if name.eq_ignore_ascii_case("duration") {
            let Ok(milliseconds) = value.parse() else { return Info::Malformed };
            duration = Duration::from_millis(milliseconds).min(LONGEST);
        }
    }
    key.map_or(Info::Malformed, |key| signal(key, duration))
}

/// The key itself, or its event number (RFC 4733 3.2) as some gateways write it.
fn signal(text: &str, duration: Duration) -> Info {
    let digit = match text.trim() {
        "10" => '*',
        "11" => '#',
        "12" => 'A',
        "13" => 'B',
        "14" => 'C',
        "15" => 'D',
        "16" | "!" => return Info::Nothing,
        text => match (text.chars().next().map(|c| c.to_ascii_uppercase()), text.len()) {
            (Some(key @ ('0'..='9' | '*' | '#' | 'A'..='D')), 1) => key,
            _ => return Info::Malformed,
        },
    };
    Info::Key(Key { digit, duration })
}

impl Key {
    /// As an INFO says it.
    pub(crate) fn body(self) -> Body {
        let text = format!("Signal={}\r\nDuration={}\r\n", self.digit, self.duration.as_millis());
        Body { content_type: RELAY.to_owned(), bytes: text.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(digit: char, milliseconds: u64) -> Info {
        Info::Key(Key { digit, duration: Duration::from_millis(milliseconds) })
    }

    #[test]
    fn every_way_to_write_a_key() {
        for (body, expected) in [
            ("Signal=5\r\nDuration=160\r\n", key('5', 160)),
            ("Signal= #\nDuration= 90", key('#', 90)),
            ("duration=250\r\nSIGNAL=d\r\n\r\n", key('D', 250)),
            ("Signal=11", key('#', 160)),
            ("Signal=1\r\nDuration=4294967295", key('1', 8000)),
            ("Signal=!\r\n", Info::Nothing),
            ("Duration=160", Info::Malformed),
            ("Signal=", Info::Malformed),
            ("Signal=55", Info::Malformed),
            ("Signal=\u{665}", Info::Malformed),
            ("Signal=5\r\nDuration=soon", Info::Malformed),
            ("Signal=5\r\nDuration=-1", Info::Malformed),
            ("5", Info::Malformed),
        ] {
            assert_eq!(relay(body), expected, "{body:?}");
        }
        for (body, expected) in [("7", key('7', 160)), (" *\r\n", key('*', 160)), ("77", Info::Malformed)] {
            assert_eq!(signal(body, USUAL), expected, "{body:?}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let pressed = Key { digit: '*', duration: Duration::from_millis(120) };
        assert_eq!(relay(std::str::from_utf8(&pressed.body().bytes).unwrap()), Info::Key(pressed));
    }
}
