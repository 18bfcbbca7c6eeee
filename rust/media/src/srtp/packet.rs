//! The few fields of RTP and RTCP that SRTP needs.

use super::SrtpError;

/// The part of an RTCP packet that stays readable: the first header and the sender's SSRC (RFC 3711 section 3.4).
pub(super) const RTCP_HEADER: usize = 8;

/// What SRTP reads of an RTP header (RFC 3550 section 5.1).
#[derive(Debug, Clone, Copy)]
pub(super) struct RtpHeader {
    pub(super) length: usize,
    pub(super) sequence: u16,
    pub(super) ssrc: u32,
}

impl RtpHeader {
    /// Reads the header with its CSRC list and extension; all of it stays in the clear but is authenticated.
    pub(super) fn parse(packet: &[u8]) -> Result<Self, SrtpError> {
        let &[first, _, s0, s1, _, _, _, _, a, b, c, d, ref rest @ ..] = packet else {
            return Err(SrtpError::Malformed);
        };
        if first >> 6 != 2 {
            return Err(SrtpError::Malformed);
        }
        let csrc = usize::from(first & 0x0f) * 4;
        let extension = if first & 0x10 == 0 { 0 } else { extension_len(rest, csrc)? };
        let length = 12 + csrc + extension;
        if length > packet.len() {
            return Err(SrtpError::Malformed);
        }
        Ok(Self { length, sequence: u16::from_be_bytes([s0, s1]), ssrc: u32::from_be_bytes([a, b, c, d]) })
    }
}

fn extension_len(after_fixed: &[u8], csrc: usize) -> Result<usize, SrtpError> {
    match after_fixed.get(csrc..csrc + 4) {
        Some(&[_, _, high, low]) => Ok(4 + usize::from(u16::from_be_bytes([high, low])) * 4),
        _ => Err(SrtpError::Malformed),
    }
}

/// The sender's SSRC of a compound RTCP packet.
pub(super) fn rtcp_ssrc(packet: &[u8]) -> Result<u32, SrtpError> {
    match packet {
        &[first, _, _, _, a, b, c, d, ..] if first >> 6 == 2 => Ok(u32::from_be_bytes([a, b, c, d])),
        _ => Err(SrtpError::Malformed),
    }
}
