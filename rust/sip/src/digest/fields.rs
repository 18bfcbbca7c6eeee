//! The grammar that challenges and credentials share: a scheme, then `name=value` with commas between (RFC 7235 2.1).

use smallvec::SmallVec;

use crate::header::scan::{TOKEN, VALUE, quoted_end, run, skip_space};

/// Parameters of one challenge that are looked at; more make it malformed.
const MAX_PARAMS: usize = 24;
/// Challenges of one header line that are looked at.
const MAX_CHALLENGES: usize = 8;
/// The longest value.
const MAX_VALUE: usize = 1024;

/// One challenge, or one set of credentials. Values stand without their quotes, escapes untouched.
#[derive(Debug, Clone, Default)]
pub struct Fields<'a> {
    scheme: &'a str,
    params: SmallVec<[(&'a str, &'a str); 12]>,
}

impl<'a> Fields<'a> {
    /// All of a header line. What comes behind a fault is left out, and so is what the fault is in.
    #[must_use]
    pub fn parse(line: &'a str) -> SmallVec<[Self; 2]> {
        let mut all: SmallVec<[Self; 2]> = SmallVec::new();
        let mut at = 0;
        while let Some(next) = take(line, at, &mut all) {
            at = next;
        }
        // The whole line was read, or the one it stopped in is not to be trusted.
        if skip_separators(line.as_bytes(), at) < line.len() {
            all.pop();
        }
        all.retain(|fields| fields.is_sound());
        all
    }

    /// Whether the scheme is Digest.
    #[must_use]
    pub fn is_digest(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("digest")
    }

    /// The value of a parameter.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&'a str> {
        self.params.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// A parameter that is there twice could be read in two ways.
    fn is_sound(&self) -> bool {
        let twice = |at: usize, name: &str| {
            self.params.iter().skip(at.saturating_add(1)).any(|(other, _)| other.eq_ignore_ascii_case(name))
        };
        !self.params.iter().enumerate().any(|(at, (name, _))| twice(at, name))
    }
}

/// Reads one scheme or one parameter; `None` at the end and at a fault.
fn take<'a>(line: &'a str, from: usize, all: &mut SmallVec<[Fields<'a>; 2]>) -> Option<usize> {
    let bytes = line.as_bytes();
    let start = skip_separators(bytes, from);
    let end = run(bytes, start, TOKEN);
    let name = line.get(start..end).filter(|name| !name.is_empty())?;
    let equals = skip_space(bytes, end);
    if bytes.get(equals) != Some(&b'=') {
        let spaced = equals > end && all.len() < MAX_CHALLENGES;
        return spaced.then(|| {
            all.push(Fields { scheme: name, params: SmallVec::new() });
            equals
        });
    }
    let (value, next) = value(line, skip_space(bytes, equals.saturating_add(1)))?;
    let fields = all.last_mut().filter(|fields| fields.params.len() < MAX_PARAMS)?;
    fields.params.push((name, value));
    Some(next)
}

fn value(line: &str, start: usize) -> Option<(&str, usize)> {
    let bytes = line.as_bytes();
    let (value, end) = match bytes.get(start) {
        Some(b'"') => {
            let end = quoted_end(bytes, start)?;
            (line.get(start.saturating_add(1)..end.saturating_sub(1))?, end)
        }
        _ => {
            let end = run(bytes, start, VALUE);
            (line.get(start..end)?, end)
        }
    };
    let next = skip_space(bytes, end);
    let ended = matches!(bytes.get(next), None | Some(b','));
    (ended && value.len() <= MAX_VALUE).then_some((value, next))
}

fn skip_separators(bytes: &[u8], from: usize) -> usize {
    let mut at = skip_space(bytes, from);
    while bytes.get(at) == Some(&b',') {
        at = skip_space(bytes, at.saturating_add(1));
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_challenges_share_a_line() {
        let all =
            Fields::parse(r#"Basic realm="x", Digest realm="a, b=\"c\"", qop="auth,auth-int" ,nonce=n"#);
        assert_eq!(all.len(), 2);
        assert!(!all[0].is_digest() && all[1].is_digest());
        assert_eq!(all[1].value("Realm"), Some(r#"a, b=\"c\""#));
        assert_eq!((all[1].value("qop"), all[1].value("nonce")), (Some("auth,auth-int"), Some("n")));
    }

    #[test]
    fn a_fault_costs_only_the_challenge_it_is_in() {
        for (line, kept) in [
            (r#"Digest realm="a", nonce="b", Digest realm="c"#, 1),
            (r#"Digest realm="a", realm="b""#, 0),
            ("", 0),
            ("Digest", 0),
            ("realm=a", 0),
            (r#"Digest realm="a" nonce="b""#, 0),
            (r#"Digest realm=a;nonce=b"#, 0),
        ] {
            assert_eq!(Fields::parse(line).len(), kept, "{line}");
        }
    }

    #[test]
    fn what_is_too_long_is_not_taken() {
        let many = (0..=MAX_PARAMS).map(|n| format!("p{n}=v")).collect::<Vec<_>>().join(",");
        assert!(Fields::parse(&format!("Digest {many}")).is_empty());
        assert!(Fields::parse(&format!("Digest a=\"{}\"", "x".repeat(MAX_VALUE + 1))).is_empty());
        assert_eq!(Fields::parse(&"Digest a=b, ".repeat(20)).len(), MAX_CHALLENGES - 1);
    }
}
