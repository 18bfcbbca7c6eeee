//! Request lines and status lines (RFC 3261 7.1, 7.2).

use super::{Rule, Span};
use crate::header::Malformed;
use crate::header::scan::{TOKEN, run};
use crate::{Limits, Method, Uri};

/// The first line.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start {
    /// Nothing read yet; never in a message that leaves the parser.
    Unread,
    Request {
        method: Method,
        method_text: Span,
        uri: Span,
    },
    Response {
        status: u16,
        reason: Span,
    },
}

/// Reads the first line as well as it can be read, with the rule it breaks.
pub(crate) fn start_line(head: &str, line: Span, limits: &Limits) -> (Option<Start>, Option<Rule>) {
    let line = head.get(line.range()).unwrap_or_default();
    if line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("SIP/")) {
        return match status_line(head, line) {
            Ok(start) => (Some(start), None),
            Err(rule) => (None, Some(rule)),
        };
    }
    request_line(head, line, limits)
}

/// `SIP/2.0 SP 3DIGIT SP Reason-Phrase`; the phrase may be empty (RFC 4475 3.1.1.13), the code ends at 699.
fn status_line(head: &str, line: &str) -> Result<Start, Rule> {
    if let [b'S', b'I', b'P', b'/', b'2', b'.', b'0', b' ', a @ b'1'..=b'6', b, c, b' ', ..] = line.as_bytes()
        && let (b'0'..=b'9', b'0'..=b'9') = (b, c)
    {
        let digit = |byte: &u8| u16::from(byte & 15);
        let status = digit(a) * 100 + digit(b) * 10 + digit(c);
        return Ok(Start::Response { status, reason: Span::of(line.get(12..).unwrap_or_default(), head) });
    }
    let (version, rest) = line.split_once(' ').ok_or(Rule::StartLine)?;
    if !version.eq_ignore_ascii_case("SIP/2.0") {
        return Err(Rule::Version);
    }
    let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let digits = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
    let status =
        code.parse().ok().filter(|status| digits && (100..700).contains(status)).ok_or(Rule::StartLine)?;
    Ok(Start::Response { status, reason: Span::of(reason, head) })
}

/// `Method SP Request-URI SP SIP-Version`, each space exactly one.
fn request_line(head: &str, line: &str, limits: &Limits) -> (Option<Start>, Option<Rule>) {
    let method_end = run(line.as_bytes(), 0, TOKEN);
    let method_text = line.get(..method_end).unwrap_or_default();
    let rest = line.get(method_end..).and_then(|rest| rest.strip_prefix(' ')).filter(|_| method_end > 0);
    let (uri, fault) = match rest.map(|rest| (rest, rest.strip_suffix(" SIP/2.0"))) {
        Some((_, Some(uri))) => (uri, request_uri(uri, limits).err()),
        Some((rest, None)) => match odd_request_line(rest, limits) {
            Some(found) => found,
            None => return (None, Some(Rule::StartLine)),
        },
        None => return (None, Some(Rule::StartLine)),
    };
    let method = Method::from_token(method_text.as_bytes());
    let start = Start::Request { method, method_text: Span::of(method_text, head), uri: Span::of(uri, head) };
    (Some(start), fault)
}

/// A line that errs in its version or in the spaces behind it still tells the method and the URI, so that the request
/// can be refused in place. The version may be in small letters (RFC 3261 7.1).
fn odd_request_line<'a>(rest: &'a str, limits: &Limits) -> Option<(&'a str, Option<Rule>)> {
    let (uri, version) = rest.trim_end().rsplit_once(' ').filter(|(_, version)| is_version(version))?;
    let fault = match version.eq_ignore_ascii_case("SIP/2.0") {
        false => Some(Rule::Version),
        true if rest.ends_with([' ', '\t']) => Some(Rule::StartLine),
        true => request_uri(uri, limits).err(),
    };
    Some((uri, fault))
}

fn is_version(text: &str) -> bool {
    text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("SIP/"))
}

/// A URI without headers: those make no sense in a Request-URI (RFC 3261 19.1.1, table 1).
fn request_uri(text: &str, limits: &Limits) -> Result<(), Rule> {
    if text.len() > limits.max_uri {
        return Err(Rule::UriTooLong);
    }
    let fault = match Uri::check(text.as_bytes(), 0) {
        Ok((false, end)) if end == text.len() => return Ok(()),
        Ok((true, end)) if end == text.len() => Malformed(&("headers not allowed", "RFC 3261 19.1.1")),
        Ok((_, end)) => Uri::cut(text.as_bytes(), 0, end),
        Err(fault) => fault,
    };
    Err(if text.contains(' ') { Rule::StartLine } else { Rule::RequestUri(fault) })
}
