//! The Call-ID of a message that nobody has to parse for it.

use memchr::memchr;

/// The value of the first Call-ID header (RFC 3261 20.8), if it stands on one line.
pub(super) fn call_id(message: &[u8]) -> Option<&[u8]> {
    let mut rest = message;
    loop {
        let end = memchr(b'\n', rest)?;
        rest = rest.get(end + 1..)?;
        match rest.first()? {
            b'\r' | b'\n' => return None,
            b'C' | b'c' | b'I' | b'i' => {
                if let Some(value) = value(rest) {
                    return Some(value);
                }
            }
            _ => {}
        }
    }
}

/// What follows the name, where the line begins with this one: long, or compact (7.3.3).
fn value(line: &[u8]) -> Option<&[u8]> {
    let named = |name: &[u8]| {
        let (start, rest) = line.split_at_checked(name.len())?;
        let rest = start.eq_ignore_ascii_case(name).then_some(rest)?.trim_ascii_start();
        rest.strip_prefix(b":")
    };
    let rest = named(b"Call-ID").or_else(|| named(b"i"))?;
    let end = memchr(b'\n', rest).unwrap_or(rest.len());
    rest.get(..end).map(<[u8]>::trim_ascii).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::call_id;

    #[test]
    fn it_is_found_in_every_spelling() {
        for line in ["Call-ID: a@b", "CALL-id :  a@b ", "i:a@b", "I \t: a@b"] {
            let message =
                format!("INVITE sip:i:9@c SIP/2.0\r\nContact: <sip:x>\r\n{line}\r\nCSeq: 1 INVITE\r\n\r\n");
            assert_eq!(call_id(message.as_bytes()), Some(&b"a@b"[..]), "{line}");
        }
        assert_eq!(call_id(b"SIP/2.0 200 OK\nCSeq: 1 BYE\ni: x"), Some(&b"x"[..]));
    }

    #[test]
    fn it_is_no_part_of_the_body() {
        for message in [
            "",
            "\r\n\r\n",
            "OPTIONS sip:a SIP/2.0",
            "X\r\nIdentity: i\r\n\r\nCall-ID: a\r\n",
            "X\r\nCall-ID: \r\n\r\n",
        ] {
            assert_eq!(call_id(message.as_bytes()), None, "{message}");
        }
    }
}
