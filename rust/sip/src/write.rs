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

/// Writes an address, IPv6 without brackets.
pub(crate) fn put_ip(text: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(address) => {
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    text.push(b'.');
                }
                put_number(text, u32::from(octet));
            }
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
