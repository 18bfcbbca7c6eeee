//! Numbers and addresses written without the formatting machinery, which costs more than the rest of a message.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

/// Writes a decimal number.
pub(crate) fn put_number(text: &mut Vec<u8>, number: u32) {
    let (mut digits, mut rest, mut at) = ([b'0'; 10], number, 10);
    loop {
        at -= 1;
        if let (Some(digit), [low, ..]) = (digits.get_mut(at), (rest % 10).to_le_bytes()) {
            *digit = b'0' | low;
        }
        rest /= 10;
        if rest == 0 || at == 0 {
            break;
        }
    }
    text.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// The digits of every octet, and how many they are.
static OCTETS: [[u8; 4]; 256] = octets();

#[allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "evaluated by the compiler only"
)]
const fn octets() -> [[u8; 4]; 256] {
    let (mut all, mut octet) = ([[0; 4]; 256], 0);
    while octet < all.len() {
        let [hundreds, tens, ones] = [octet / 100, octet / 10 % 10, octet % 10];
        let digits = [b'0' + hundreds as u8, b'0' + tens as u8, b'0' + ones as u8];
        all[octet] = match octet {
            ..10 => [digits[2], 0, 0, 1],
            10..100 => [digits[1], digits[2], 0, 2],
            _ => [digits[0], digits[1], digits[2], 3],
        };
        octet += 1;
    }
    all
}

/// Writes an address, IPv6 without brackets.
pub(crate) fn put_ip(text: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(address) => {
            let (mut written, mut at) = ([b'.'; 20], 0_usize);
            for octet in address.octets() {
                let [hundreds, tens, ones, length] =
                    OCTETS.get(usize::from(octet)).copied().unwrap_or_default();
                if let Some(place) = written.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
                    *place = [hundreds, tens, ones, b'.'];
                }
                at = at.wrapping_add(usize::from(length));
                if let Some(dot) = written.get_mut(at) {
                    *dot = b'.';
                }
                at = at.wrapping_add(1);
            }
            text.extend_from_slice(written.get(..at.wrapping_sub(1)).unwrap_or_default());
        }
        // Writing to a Vec cannot fail.
        IpAddr::V6(address) => drop(write!(text, "{address}")),
    }
}

/// An address and its port.
pub(crate) fn host_port(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => {
            let mut text = Vec::with_capacity(21);
            put_ip(&mut text, IpAddr::V4(*v4.ip()));
            text.push(b':');
            put_number(&mut text, u32::from(v4.port()));
            String::from_utf8(text).unwrap_or_default()
        }
        SocketAddr::V6(_) => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_addresses_look_as_ever() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, 999_999_999, 1_000_000_000, u32::MAX] {
            let mut text = Vec::new();
            put_number(&mut text, number);
            assert_eq!(text, number.to_string().into_bytes());
        }
        for octet in 0..=u8::MAX {
            let (mut text, ip) = (Vec::new(), IpAddr::from([octet, 1, 255 - octet, octet]));
            put_ip(&mut text, ip);
            assert_eq!(text, ip.to_string().into_bytes());
        }
        for address in ["0.0.0.0:0", "192.0.2.255:5060", "[2001:db8::1]:65535", "[::ffff:192.0.2.1]:1"] {
            let address: SocketAddr = address.parse().unwrap();
            let mut text = Vec::new();
            put_ip(&mut text, address.ip());
            assert_eq!(
                (text, host_port(address)),
                (address.ip().to_string().into_bytes(), address.to_string())
            );
        }
    }
}
