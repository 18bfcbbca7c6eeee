//! RTP packets (RFC 3550 5.1), read and changed in place.
//!
//! [`Header`] checks a datagram once, when it is made; afterwards no access can go out of bounds. It owns nothing,
//! so a relayed packet is rewritten in the buffer it arrived in.

/// A synchronisation source (RFC 3550 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ssrc(pub u32);

/// A payload type: seven bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayloadType(pub u8);

/// The fixed part of a header (RFC 3550 5.1).
pub const FIXED_HEADER: usize = 12;

/// The clock of G.711 and of the telephone-events beside it.
pub const TELEPHONE_CLOCK: u32 = 8_000;

/// A checked RTP packet in its datagram.
#[derive(Debug)]
pub struct Header<'a> {
    packet: &'a mut [u8],
    payload_start: usize,
    payload_end: usize,
}

/// Why a datagram is no RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtpError {
    /// Shorter than its header says it is.
    #[error("truncated")]
    Truncated,
    /// Not version 2.
    #[error("version is not 2")]
    Version,
    /// The padding count is zero or longer than the payload.
    #[error("bad padding")]
    Padding,
}

impl<'a> Header<'a> {
    /// Checks version, CSRC list, extension and padding against the length of the datagram.
    pub fn parse(packet: &'a mut [u8]) -> Result<Self, RtpError> {
        let bytes: &[u8] = packet;
        let &[first, ..] = bytes else { return Err(RtpError::Truncated) };
        if first >> 6 != 2 {
            return Err(RtpError::Version);
        }
        let payload_start = payload_offset(bytes, first).ok_or(RtpError::Truncated)?;
        let payload_end = if first & 0x20 == 0 {
            bytes.len()
        } else {
            // RFC 3550 5.1: the last octet counts the padding, itself included.
            let count = usize::from(*bytes.last().ok_or(RtpError::Padding)?);
            let end = bytes.len().checked_sub(count).ok_or(RtpError::Padding)?;
            if count == 0 || end < payload_start {
                return Err(RtpError::Padding);
            }
            end
        };
        Ok(Header { packet, payload_start, payload_end })
    }

    /// The marker bit.
    #[must_use]
    pub fn marker(&self) -> bool {
        byte(self.packet, 1) & 0x80 != 0
    }

    /// The payload type.
    #[must_use]
    pub fn payload_type(&self) -> PayloadType {
        PayloadType(byte(self.packet, 1) & 0x7f)
    }

    /// The sequence number.
    #[must_use]
    pub fn sequence(&self) -> u16 {
        u16::from_be_bytes([byte(self.packet, 2), byte(self.packet, 3)])
    }

    /// The timestamp.
    #[must_use]
    pub fn timestamp(&self) -> u32 {
        word(self.packet, 4)
    }

    /// The synchronisation source.
    #[must_use]
    pub fn ssrc(&self) -> Ssrc {
        Ssrc(word(self.packet, 8))
    }

    /// The contributing sources (RFC 3550 5.1), none to fifteen.
    pub fn csrcs(&self) -> impl Iterator<Item = Ssrc> + '_ {
        let count = usize::from(byte(self.packet, 0) & 0x0f);
        (0..count).map(|index| Ssrc(word(self.packet, FIXED_HEADER + 4 * index)))
    }

    /// The header extension's profile word and content (RFC 3550 5.3.1).
    #[must_use]
    pub fn extension(&self) -> Option<(u16, &[u8])> {
        let first = byte(self.packet, 0);
        if first & 0x10 == 0 {
            return None;
        }
        let start = FIXED_HEADER + 4 * usize::from(first & 0x0f);
        let profile = u16::from_be_bytes([byte(self.packet, start), byte(self.packet, start + 1)]);
        Some((profile, self.packet.get(start + 4..self.payload_start)?))
    }

    /// Where the payload lies in the datagram.
    #[must_use]
    pub fn payload_range(&self) -> std::ops::Range<usize> {
        self.payload_start..self.payload_end
    }

    /// The payload without padding.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.packet.get(self.payload_start..self.payload_end).unwrap_or_default()
    }

    /// The payload without padding, to change it in place.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.packet.get_mut(self.payload_start..self.payload_end).unwrap_or_default()
    }

    /// Sets the marker bit.
    pub fn set_marker(&mut self, marker: bool) {
        if let Some(octet) = self.packet.get_mut(1) {
            *octet = (*octet & 0x7f) | (u8::from(marker) << 7);
        }
    }

    /// Sets the payload type; only its seven bits count.
    pub fn set_payload_type(&mut self, payload_type: PayloadType) {
        if let Some(octet) = self.packet.get_mut(1) {
            *octet = (*octet & 0x80) | (payload_type.0 & 0x7f);
        }
    }

    /// Sets the sequence number.
    pub fn set_sequence(&mut self, sequence: u16) {
        put(self.packet, 2, &sequence.to_be_bytes());
    }

    /// Sets the timestamp.
    pub fn set_timestamp(&mut self, timestamp: u32) {
        put(self.packet, 4, &timestamp.to_be_bytes());
    }

    /// Sets the synchronisation source.
    pub fn set_ssrc(&mut self, ssrc: Ssrc) {
        put(self.packet, 8, &ssrc.0.to_be_bytes());
    }
}

/// The header of a packet of ours: never CSRCs, extension or padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed {
    /// The marker bit.
    pub marker: bool,
    /// The payload type.
    pub payload_type: PayloadType,
    /// The sequence number.
    pub sequence: u16,
    /// The timestamp.
    pub timestamp: u32,
    /// The synchronisation source.
    pub ssrc: Ssrc,
}

impl Fixed {
    /// The twelve octets of the header.
    #[must_use]
    pub fn to_bytes(self) -> [u8; FIXED_HEADER] {
        let [s0, s1] = self.sequence.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let [c0, c1, c2, c3] = self.ssrc.0.to_be_bytes();
        let second = (u8::from(self.marker) << 7) | (self.payload_type.0 & 0x7f);
        [0x80, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3]
    }
}

/// Whether a packet of RTP or RTCP is RTCP (RFC 5761 4: packet types 192 to 223).
#[must_use]
pub fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [_, 192..=223, ..])
}

fn payload_offset(packet: &[u8], first: u8) -> Option<usize> {
    let csrc_end = FIXED_HEADER + 4 * usize::from(first & 0x0f);
    let end = if first & 0x10 == 0 {
        csrc_end
    } else {
        let length = packet.get(csrc_end + 2..csrc_end + 4)?;
        let words = length.iter().fold(0usize, |sum, &octet| sum << 8 | usize::from(octet));
        csrc_end + 4 + 4 * words
    };
    (end <= packet.len()).then_some(end)
}

fn byte(packet: &[u8], at: usize) -> u8 {
    packet.get(at).copied().unwrap_or(0)
}

fn word(packet: &[u8], at: usize) -> u32 {
    packet
        .get(at..at + 4)
        .map_or(0, |octets| octets.iter().fold(0, |sum, &octet| sum << 8 | u32::from(octet)))
}

fn put(packet: &mut [u8], at: usize, octets: &[u8]) {
    if let Some(slot) = packet.get_mut(at..at + octets.len()) {
        slot.copy_from_slice(octets);
    }
}
