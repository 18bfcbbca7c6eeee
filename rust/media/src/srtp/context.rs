//! One direction of a session: what to protect or check, and in which order.

use super::kdf::{Kind, SessionKeys};
use super::packet::{RTCP_HEADER, RtpHeader, rtcp_ssrc};
use super::source::Sources;
use super::{ENCRYPTED, PacketId, Profile, SrtpError, Transform};
use std::fmt;

/// The state of one direction of one SRTP session.
pub struct Context {
    profile: Profile,
    rtp: Box<dyn Transform>,
    rtcp: Box<dyn Transform>,
    sources: Sources,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("profile", &self.profile).finish_non_exhaustive()
    }
}

impl Context {
    /// A context from a master key and master salt.
    ///
    /// # Errors
    /// [`SrtpError::KeyLength`] if either has the wrong length for the profile.
    pub fn new(profile: Profile, master_key: &[u8], master_salt: &[u8]) -> Result<Self, SrtpError> {
        let rtp = SessionKeys::derive(profile, Kind::Rtp, master_key, master_salt)?;
        let rtcp = SessionKeys::derive(profile, Kind::Rtcp, master_key, master_salt)?;
        Self::with_session_keys(profile, &rtp, &rtcp)
    }

    /// A context from session keys.
    ///
    /// # Errors
    /// [`SrtpError::KeyLength`] if one has the wrong length for the profile.
    pub fn with_session_keys(
        profile: Profile,
        rtp: &SessionKeys,
        rtcp: &SessionKeys,
    ) -> Result<Self, SrtpError> {
        let (rtp, rtcp) = (rtp.transform(profile)?, rtcp.transform(profile)?);
        Ok(Self { profile, rtp, rtcp, sources: Sources::default() })
    }

    /// Protects the RTP packet in `buffer[..length]` in place and returns its new length.
    ///
    /// A packet index is never used twice, as that would give the keystream away.
    ///
    /// # Errors
    /// If the packet is malformed, was sent before, or `buffer` lacks [`super::MAX_OVERHEAD`] room.
    pub fn protect_rtp(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, SrtpError> {
        let (packet, room) = buffer.split_at_mut_checked(length).ok_or(SrtpError::BufferTooSmall)?;
        let header = RtpHeader::parse(packet)?;
        let mut source = self.sources.find(header.ssrc)?;
        let index = source.rtp.estimate(header.sequence)?;
        source.rtp.check(index)?;
        let tag = room.get_mut(..self.rtp.tag_len()).ok_or(SrtpError::BufferTooSmall)?;
        let (clear, payload) = packet.split_at_mut_checked(header.length).ok_or(SrtpError::Malformed)?;
        self.rtp.seal_rtp(PacketId { ssrc: header.ssrc, index }, clear, payload, tag)?;
        source.rtp.mark(index);
        self.sources.store(source);
        Ok(length + self.rtp.tag_len())
    }

    /// Checks and decrypts the SRTP packet in place and returns the length of the RTP packet.
    ///
    /// # Errors
    /// If the packet is malformed, forged or replayed.
    pub fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let length = packet.len().checked_sub(self.rtp.tag_len()).ok_or(SrtpError::Malformed)?;
        let (packet, tag) = packet.split_at_mut_checked(length).ok_or(SrtpError::Malformed)?;
        let header = RtpHeader::parse(packet)?;
        let mut source = self.sources.find(header.ssrc)?;
        let index = source.rtp.estimate(header.sequence)?;
        source.rtp.check(index)?;
        let (clear, payload) = packet.split_at_mut_checked(header.length).ok_or(SrtpError::Malformed)?;
        self.rtp.open_rtp(PacketId { ssrc: header.ssrc, index }, clear, payload, tag)?;
        source.rtp.mark(index);
        self.sources.store(source);
        Ok(length)
    }

    /// Protects the compound RTCP packet in `buffer[..length]` in place and returns its new length.
    ///
    /// # Errors
    /// If the packet is malformed or `buffer` lacks [`super::MAX_OVERHEAD`] room.
    pub fn protect_rtcp(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, SrtpError> {
        let (packet, room) = buffer.split_at_mut_checked(length).ok_or(SrtpError::BufferTooSmall)?;
        let ssrc = rtcp_ssrc(packet)?;
        let mut source = self.sources.find(ssrc)?;
        let index = source.rtcp.next();
        if index >= u64::from(ENCRYPTED) {
            return Err(SrtpError::KeyExhausted);
        }
        let overhead = self.rtcp.tag_len() + 4;
        let trailer = room.get_mut(..overhead).ok_or(SrtpError::BufferTooSmall)?;
        let (clear, body) = packet.split_at_mut_checked(RTCP_HEADER).ok_or(SrtpError::Malformed)?;
        self.rtcp.seal_rtcp(PacketId { ssrc, index }, clear, body, trailer)?;
        source.rtcp.mark(index);
        self.sources.store(source);
        Ok(length + overhead)
    }

    /// Checks and decrypts the SRTCP packet in place and returns the length of the RTCP packet.
    ///
    /// # Errors
    /// If the packet is malformed, forged or replayed.
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let length = packet.len().checked_sub(self.rtcp.tag_len() + 4).ok_or(SrtpError::Malformed)?;
        let (packet, trailer) = packet.split_at_mut_checked(length).ok_or(SrtpError::Malformed)?;
        let ssrc = rtcp_ssrc(packet)?;
        let mut source = self.sources.find(ssrc)?;
        let index = u64::from(self.rtcp.esrtcp(trailer)? & !ENCRYPTED);
        source.rtcp.check(index)?;
        let (clear, body) = packet.split_at_mut_checked(RTCP_HEADER).ok_or(SrtpError::Malformed)?;
        self.rtcp.open_rtcp(PacketId { ssrc, index }, clear, body, trailer)?;
        source.rtcp.mark(index);
        self.sources.store(source);
        Ok(length)
    }
}
