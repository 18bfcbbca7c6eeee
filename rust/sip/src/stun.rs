//! STUN on the SIP port, as far as it keeps flows alive (RFC 5626 4.4.2, RFC 8489): Binding requests and their answers.

use std::net::{IpAddr, SocketAddr};

const REQUEST: [u8; 2] = [0x00, 0x01];
const SUCCESS: [u8; 2] = [0x01, 0x01];
const ERROR: [u8; 2] = [0x01, 0x11];
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const XOR_MAPPED_ADDRESS: [u8; 2] = [0x00, 0x20];
/// ERROR-CODE of 420, Unknown Attribute, without words.
const UNKNOWN_ATTRIBUTE: [u8; 8] = [0x00, 0x09, 0x00, 0x04, 0x00, 0x00, 4, 20];
const UNKNOWN_ATTRIBUTES: [u8; 2] = [0x00, 0x0a];
/// USERNAME, MESSAGE-INTEGRITY, REALM, NONCE and their like: nobody has to prove anything here.
const CREDENTIALS: [u16; 6] = [0x06, 0x08, 0x14, 0x15, 0x1c, 0x1e];
/// Attributes from here on may be passed over (RFC 8489 14).
const OPTIONAL: u16 = 0x8000;

/// What a Binding request from an address is answered with; `None` if it is none, or broken (RFC 8489 6.3).
pub(crate) fn answer(request: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
    let (head, attributes) = request.split_first_chunk::<20>()?;
    let [kind @ .., high, low] = head.first_chunk::<4>()?;
    let (cookie, transaction) = head.split_at_checked(4)?.1.split_at_checked(4)?;
    let is_whole = usize::from(u16::from_be_bytes([*high, *low])) == attributes.len();
    if *kind != REQUEST || *cookie != COOKIE || !is_whole {
        return None;
    }
    let unknown = unknown(attributes)?;
    Some(match unknown.is_empty() {
        true => written(SUCCESS, transaction, &mapped(source, transaction)),
        false => written(ERROR, transaction, &refusal(&unknown)),
    })
}

/// The attributes that must be understood and are not (RFC 8489 6.3.1); `None` where they do not fit their lengths.
fn unknown(mut attributes: &[u8]) -> Option<Vec<u16>> {
    let mut unknown = Vec::new();
    while !attributes.is_empty() {
        let ([kind @ .., high, low], rest) = attributes.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([*high, *low])).next_multiple_of(4);
        attributes = rest.get(length..)?;
        let kind = u16::from_be_bytes(*kind.first_chunk()?);
        if kind < OPTIONAL && !CREDENTIALS.contains(&kind) {
            unknown.push(kind);
        }
    }
    Some(unknown)
}

/// Where the request came from, hidden from NATs that rewrite addresses wherever they find them (RFC 8489 14.2).
fn mapped(source: SocketAddr, transaction: &[u8]) -> Vec<u8> {
    let (family, octets) = match source.ip().to_canonical() {
        IpAddr::V4(v4) => (1, v4.octets().to_vec()),
        IpAddr::V6(v6) => (2, v6.octets().to_vec()),
    };
    let port = source.port().to_be_bytes().into_iter().zip(COOKIE);
    let address = octets.into_iter().zip(COOKIE.iter().chain(transaction).copied());
    let value = [0, family].into_iter().chain(port.chain(address).map(|(byte, mask)| byte ^ mask)).collect();
    attribute(XOR_MAPPED_ADDRESS, value)
}

fn refusal(unknown: &[u16]) -> Vec<u8> {
    let kinds = unknown.iter().flat_map(|kind| kind.to_be_bytes()).collect();
    [&UNKNOWN_ATTRIBUTE[..], &attribute(UNKNOWN_ATTRIBUTES, kinds)].concat()
}

fn attribute(kind: [u8; 2], mut value: Vec<u8>) -> Vec<u8> {
    let length = length(&value);
    value.resize(value.len().next_multiple_of(4), 0);
    [&kind[..], &length, &value].concat()
}

fn written(kind: [u8; 2], transaction: &[u8], attributes: &[u8]) -> Vec<u8> {
    [&kind[..], &length(attributes), &COOKIE, transaction, attributes].concat()
}

fn length(of: &[u8]) -> [u8; 2] {
    u16::try_from(of.len()).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The transaction of RFC 5769 2.
    const TRANSACTION: [u8; 12] = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

    fn request(attributes: &[u8]) -> Vec<u8> {
        written(REQUEST, &TRANSACTION, attributes)
    }

    fn answered(attributes: &[u8], source: &str) -> Option<Vec<u8>> {
        answer(&request(attributes), source.parse().unwrap())
    }

    /// Their addresses as RFC 5769 2.2 and 2.3 have them on the wire.
    #[test]
    fn addresses_are_mapped_as_in_rfc_5769() {
        let head = |length| [&[0x01, 0x01, 0x00, length], &COOKIE[..], &TRANSACTION].concat();
        let v4 = [0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];
        let v6 = [
            0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79,
            0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
        ];
        assert_eq!(answered(&[], "192.0.2.1:32853"), Some([&head(12)[..], &v4].concat()));
        assert_eq!(answered(&[], "[::ffff:192.0.2.1]:32853"), Some([&head(12)[..], &v4].concat()));
        let source = "[2001:db8:1234:5678:11:2233:4455:6677]:32853";
        assert_eq!(answered(&[], source), Some([&head(24)[..], &v6].concat()));
    }

    #[test]
    fn attributes_are_passed_over_or_refused() {
        let software = [0x80, 0x22, 0x00, 0x03, b'a', b'b', b'c', 0];
        let username = [0x00, 0x06, 0x00, 0x01, b'u', 0, 0, 0];
        let priority = [0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff];
        let source = "192.0.2.1:32853";
        assert_eq!(answered(&[software, username].concat(), source), answered(&[], source));
        let refused = answered(&[software, priority].concat(), source).unwrap();
        assert_eq!(refused[..4], [0x01, 0x11, 0x00, 0x10]);
        assert_eq!(refused[20..], [0, 9, 0, 4, 0, 0, 4, 20, 0, 0x0a, 0, 2, 0, 0x24, 0, 0]);
    }

    #[test]
    fn what_is_broken_or_no_request_is_not_answered() {
        let whole = request(&[0x80, 0x22, 0x00, 0x04, b'a', b'b', b'c', b'd']);
        let source = "192.0.2.1:32853".parse().unwrap();
        assert!(answer(&whole, source).is_some());
        for end in 0..whole.len() {
            assert_eq!(answer(&whole[..end], source), None, "{end}");
        }
        assert_eq!(answer(&[&whole[..], &[0]].concat(), source), None, "longer than it says");
        for (at, value) in [(0, 0x01), (1, 0x11), (3, 0), (4, 0), (23, 5), (23, 0xff), (22, 0xff)] {
            let mut broken = whole.clone();
            broken[at] = value;
            assert_eq!(answer(&broken, source), None, "{at}");
        }
        let success = answer(&whole, source).unwrap();
        assert_eq!(answer(&success, source), None, "or two would answer each other for ever");
    }
}
