//! What ICMP is about, told from the start of a datagram of ours that it quotes (RFC 3261 18.4, RFC 1812 4.3.2.3).

use std::str::from_utf8;

use memchr::{memchr, memmem};

const BRANCH: &[u8] = b";branch=";

/// Method and branch of a request of ours, whose Via is its first header line; `None` if it is cut before the branch ends.
pub(super) fn quoted(start: &[u8]) -> Option<(&str, &str)> {
    let method = start.get(..memchr(b' ', start)?)?;
    // A branch in the Request-URI is not ours.
    let lines = start.get(memchr(b'\n', start)?..)?;
    let branch = lines.get(memmem::find(lines, BRANCH)?..)?.get(BRANCH.len()..)?;
    let end = branch.iter().position(|byte| matches!(byte, b';' | b',' | b'\r'))?;
    Some((from_utf8(method).ok()?, from_utf8(branch.get(..end)?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_tells_the_transaction_if_it_is_long_enough() {
        let start = "INVITE sip:a@h;branch=x SIP/2.0\r\nVia: SIP/2.0/UDP h;rport;branch=z9hG4bK1\r\nMax-F";
        let whole = start.find("\r\nMax").unwrap() + 1;
        for end in 0..=start.len() {
            let found = quoted(&start.as_bytes()[..end]);
            assert_eq!(found, (end >= whole).then_some(("INVITE", "z9hG4bK1")), "cut at {end}");
        }
        assert_eq!(quoted(b"\xff \n;branch=\xff;"), None);
    }
}
