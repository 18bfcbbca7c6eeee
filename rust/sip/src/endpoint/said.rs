//! What the message that ends a leg says for whoever stands behind it: Reason values, and where to try instead.

use std::cmp::Reverse;

use crate::header::NameAddr;
use crate::{Message, Name, Said};

/// Where else to try: a server that knows more places than this is not worth asking.
const MAX_CONTACTS: usize = 8;
/// Of the Reason values together; one that no longer fits is left out.
const MAX_REASONS: usize = 512;

/// `None` when it says nothing of the kind, as most messages do.
pub(super) fn said_by(message: &Message) -> Option<Box<Said>> {
    let redirects = message.status().is_some_and(|status| (300..400).contains(&status.0));
    if !redirects && !message.has(Name::Reason) {
        return None;
    }
    let contacts = if redirects { contacts(message) } else { Vec::new() };
    Some(Box::new(Said { reasons: reasons(message), contacts }))
}

/// One line of all values (RFC 3326 2: they may stand in a list).
fn reasons(message: &Message) -> String {
    let mut joined = String::new();
    for value in message.values(Name::Reason) {
        let separator = if joined.is_empty() { "" } else { ", " };
        if joined.len() + separator.len() + value.len() <= MAX_REASONS {
            joined.extend([separator, value]);
        }
    }
    joined
}

/// RFC 3261 8.1.3.4: in the order of `q`, equal ones as they stand.
fn contacts(response: &Message) -> Vec<String> {
    let mut found: Vec<_> = response.contacts().take(4 * MAX_CONTACTS).collect();
    found.sort_by_key(|contact| Reverse(thousandths(contact)));
    found.iter().take(MAX_CONTACTS).map(|contact| contact.uri.as_str().to_owned()).collect()
}

/// A `q` of 0 to 1 with up to three decimals (RFC 3261 25.1); without one, or broken, it counts as 1.
fn thousandths(contact: &NameAddr<'_>) -> u32 {
    let value = contact.params.value("q").unwrap_or("1");
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    let digits = decimals.bytes().chain(std::iter::repeat(b'0')).take(3);
    let small = digits.fold(0, |sum, digit| sum * 10 + u32::from(digit.wrapping_sub(b'0').min(9)));
    match whole {
        "0" | "" => small,
        _ => 1_000,
    }
}
