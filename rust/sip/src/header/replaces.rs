//! Replaces: which dialog an INVITE is to take the place of (RFC 3891 6.1).

use super::scan::trim;
use super::{Malformed, Params};

const FAULT: Malformed = Malformed(&("malformed Replaces", "RFC 3891 6.1"));

/// A dialog as the user agent that holds it sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaces<'a> {
    /// Call-ID.
    pub call_id: &'a str,
    /// The tag of the user agent that is asked to replace it.
    pub to_tag: &'a str,
    /// The tag of its peer.
    pub from_tag: &'a str,
    /// Only while it has not been answered.
    pub early_only: bool,
}

impl<'a> Replaces<'a> {
    /// Reads one value such as `98732@host;from-tag=r33th4x0r;to-tag=ff87ff`.
    ///
    /// # Errors
    /// When the Call-ID is missing, or not exactly one of each tag is there.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        let text = trim(text);
        let (call_id, params) = text.split_at(text.find(';').ok_or(FAULT)?);
        let (call_id, params) = (trim(call_id), Params::parse(params)?);
        let word = !call_id.is_empty() && call_id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
        let tag = |name: &str| {
            let mut found = params.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
            match (found.next(), found.next()) {
                (Some((_, Some(tag))), None) if !tag.is_empty() => Ok(tag),
                _ => Err(FAULT),
            }
        };
        let (to_tag, from_tag) = (tag("to-tag")?, tag("from-tag")?);
        match word {
            true => Ok(Self { call_id, to_tag, from_tag, early_only: params.has("early-only") }),
            false => Err(FAULT),
        }
    }
}
