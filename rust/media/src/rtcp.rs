//! RTCP compound packets (RFC 3550 6): sender and receiver reports, SDES CNAME and BYE, read and written.
//!
//! Feedback packets (RFC 4585) and whatever else a compound holds are stepped over.

use crate::rtp::Ssrc;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const BLOCK: usize = 24;
const SENDER_INFO: usize = 20;
const CNAME: u8 = 1;

/// Why a datagram is no compound packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an RTCP compound packet")]
pub struct RtcpError;

/// The sender's part of a sender report (RFC 3550 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// When the report was made: NTP seconds and fraction.
    pub ntp: u64,
    /// The same instant in the stream's own clock.
    pub rtp_timestamp: u32,
    /// Packets sent since the start.
    pub packets: u32,
    /// Payload octets sent since the start.
    pub octets: u32,
}

/// One reception report block (RFC 3550 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source that is reported on.
    pub ssrc: Ssrc,
    /// The part lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since the start; 24 bits, signed.
    pub cumulative_lost: i32,
    /// The highest sequence number with its cycles.
    pub extended_highest: u32,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
    /// The middle 32 bits of the NTP time of the last sender report; zero if there was none.
    pub last_sender_report: u32,
    /// How long ago that was, in 1/65536 s.
    pub delay: u32,
}

/// One packet of a compound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Packet<'a> {
    /// A sender report.
    SenderReport {
        /// Who sent it.
        ssrc: Ssrc,
        /// Its sending.
        info: SenderInfo,
        /// Its receiving.
        blocks: Blocks<'a>,
    },
    /// A receiver report.
    ReceiverReport {
        /// Who sent it.
        ssrc: Ssrc,
        /// Its receiving.
        blocks: Blocks<'a>,
    },
    /// The first chunk of a source description.
    SourceDescription {
        /// Whom it describes.
        ssrc: Ssrc,
        /// Its CNAME, if it gives one.
        cname: Option<&'a [u8]>,
    },
    /// A source has left.
    Goodbye {
        /// The first source of the list.
        ssrc: Option<Ssrc>,
    },
    /// Something that is not looked into.
    Other(u8),
}

/// The report blocks of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks<'a>(&'a [u8]);

impl Iterator for Blocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (block, rest) = self.0.split_at_checked(BLOCK)?;
        self.0 = rest;
        let [lost_high, lost_mid, lost_low] = [*block.get(5)?, *block.get(6)?, *block.get(7)?];
        // Sign extension of 24 bits.
        let cumulative_lost = i32::from_be_bytes([lost_high, lost_mid, lost_low, 0]) >> 8;
        Some(ReportBlock {
            ssrc: Ssrc(word(block, 0)?),
            fraction_lost: *block.get(4)?,
            cumulative_lost,
            extended_highest: word(block, 8)?,
            jitter: word(block, 12)?,
            last_sender_report: word(block, 16)?,
            delay: word(block, 20)?,
        })
    }
}

/// The packets of a compound, whose frames have all been checked.
#[derive(Debug, Clone)]
pub struct Compound<'a>(&'a [u8]);

/// Checks that a datagram is a row of RTCP packets that fills it (RFC 3550 A.2).
///
/// Unlike A.2 it does not insist on a report in front: reduced-size RTCP (RFC 5506) is harmless here.
///
/// # Errors
/// If a version is not 2, a length overshoots, or padding stands before the last packet.
pub fn parse(datagram: &[u8]) -> Result<Compound<'_>, RtcpError> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let (packet, behind) = split(rest).ok_or(RtcpError)?;
        let padded = packet.first().is_some_and(|first| first & 0x20 != 0);
        if padded && !behind.is_empty() {
            return Err(RtcpError);
        }
        rest = behind;
    }
    if datagram.is_empty() { Err(RtcpError) } else { Ok(Compound(datagram)) }
}

impl<'a> Iterator for Compound<'a> {
    type Item = Packet<'a>;

    fn next(&mut self) -> Option<Packet<'a>> {
        let (packet, rest) = split(self.0)?;
        self.0 = rest;
        let kind = *packet.get(1)?;
        Some(read(kind, packet).unwrap_or(Packet::Other(kind)))
    }
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let &[first, kind, high, low, ..] = bytes else { return None };
    if first >> 6 != 2 || !(192..=223).contains(&kind) {
        return None;
    }
    bytes.split_at_checked(4 * (usize::from(u16::from_be_bytes([high, low])) + 1))
}

fn read(kind: u8, packet: &[u8]) -> Option<Packet<'_>> {
    let count = usize::from(packet.first()? & 0x1f);
    match kind {
        SENDER_REPORT => {
            let info = SenderInfo {
                ntp: u64::from(word(packet, 8)?) << 32 | u64::from(word(packet, 12)?),
                rtp_timestamp: word(packet, 16)?,
                packets: word(packet, 20)?,
                octets: word(packet, 24)?,
            };
            let blocks = packet.get(8 + SENDER_INFO..8 + SENDER_INFO + BLOCK * count)?;
            Some(Packet::SenderReport { ssrc: Ssrc(word(packet, 4)?), info, blocks: Blocks(blocks) })
        }
        RECEIVER_REPORT => {
            let blocks = packet.get(8..8 + BLOCK * count)?;
            Some(Packet::ReceiverReport { ssrc: Ssrc(word(packet, 4)?), blocks: Blocks(blocks) })
        }
        SOURCE_DESCRIPTION if count > 0 => {
            Some(Packet::SourceDescription { ssrc: Ssrc(word(packet, 4)?), cname: cname(packet.get(8..)?) })
        }
        GOODBYE => Some(Packet::Goodbye { ssrc: (count > 0).then(|| word(packet, 4)).flatten().map(Ssrc) }),
        _ => None,
    }
}

/// The CNAME item of a chunk (RFC 3550 6.5.1).
fn cname(mut items: &[u8]) -> Option<&[u8]> {
    loop {
        let (&[kind, length], rest) = items.split_first_chunk()?;
        if kind == 0 {
            return None;
        }
        let (text, rest) = rest.split_at_checked(usize::from(length))?;
        if kind == CNAME {
            return Some(text);
        }
        items = rest;
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|octets| u32::from_be_bytes(*octets))
}

/// Appends a report: a sender report if there is `info`, else a receiver report.
pub fn write_report(out: &mut Vec<u8>, ssrc: Ssrc, info: Option<&SenderInfo>, block: Option<&ReportBlock>) {
    let words = 1 + if info.is_some() { 5 } else { 0 } + if block.is_some() { 6 } else { 0 };
    let kind = if info.is_some() { SENDER_REPORT } else { RECEIVER_REPORT };
    out.extend([0x80 | u8::from(block.is_some()), kind, 0, words]);
    out.extend(ssrc.0.to_be_bytes());
    if let Some(info) = info {
        out.extend(info.ntp.to_be_bytes());
        for value in [info.rtp_timestamp, info.packets, info.octets] {
            out.extend(value.to_be_bytes());
        }
    }
    if let Some(block) = block {
        let [_, lost @ ..] = block.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff).to_be_bytes();
        out.extend(block.ssrc.0.to_be_bytes());
        out.push(block.fraction_lost);
        out.extend(lost);
        for value in [block.extended_highest, block.jitter, block.last_sender_report, block.delay] {
            out.extend(value.to_be_bytes());
        }
    }
}

/// Appends a source description with a CNAME, which every compound must hold (RFC 3550 6.1).
pub fn write_cname(out: &mut Vec<u8>, ssrc: Ssrc, cname: &str) {
    let text = cname.as_bytes();
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    let text = text.get(..usize::from(length)).unwrap_or_default();
    // One zero octet ends the list, more fill the word (RFC 3550 6.5).
    let chunk = (4 + 2 + text.len() + 1).next_multiple_of(4);
    let words = u8::try_from(chunk / 4).unwrap_or(u8::MAX);
    out.extend([0x81, SOURCE_DESCRIPTION, 0, words]);
    out.extend(ssrc.0.to_be_bytes());
    out.extend([CNAME, length]);
    out.extend_from_slice(text);
    out.resize(out.len() + chunk - 6 - text.len(), 0);
}

/// Appends a BYE (RFC 3550 6.6).
pub fn write_goodbye(out: &mut Vec<u8>, ssrc: Ssrc) {
    out.extend([0x81, GOODBYE, 0, 1]);
    out.extend(ssrc.0.to_be_bytes());
}
