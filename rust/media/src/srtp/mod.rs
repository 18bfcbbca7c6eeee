//! SRTP and SRTCP in place (RFC 3711, RFC 5764, RFC 7714).
//!
//! A [`Context`] is one direction of one session: it protects what we send or checks what we receive. Packets are
//! changed in the buffer they lie in; key schedules, GHASH keys and HMAC midstates are computed once. Nothing is
//! learnt from a packet, neither a source nor a rollover, before it is authenticated.
//!
//! It does no key exchange: [`KeyMaterial`] comes from [`crate::dtls`]. There is no MKI and no key derivation rate,
//! as DTLS-SRTP in browsers uses neither.

mod aes_cm;
mod context;
mod gcm;
mod kdf;
mod packet;
mod source;
#[cfg(test)]
mod vectors;

pub use context::Context;
pub use kdf::{KeyMaterial, SessionKeys};

/// A protection profile of DTLS-SRTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// `SRTP_AES128_CM_HMAC_SHA1_80` (RFC 5764 section 4.1.2).
    Aes128CmSha1_80,
    /// `SRTP_AEAD_AES_128_GCM` (RFC 7714 section 14.2).
    AeadAes128Gcm,
    /// `SRTP_AEAD_AES_256_GCM` (RFC 7714 section 14.2).
    AeadAes256Gcm,
}

impl Profile {
    /// The length of a master key.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 | Self::AeadAes128Gcm => 16,
            Self::AeadAes256Gcm => 32,
        }
    }

    /// The length of a master salt.
    #[must_use]
    pub const fn salt_len(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 => 14,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
        }
    }
}

/// The most bytes that protection adds to a packet: an SRTCP index and the longest tag.
pub const MAX_OVERHEAD: usize = 4 + 16;

/// The most sources one context follows; a call has one or two, an attacker who knows the key gets no more memory.
pub const MAX_SOURCES: usize = 32;

/// Why a packet was not protected or not accepted. All are the peer's fault or the caller's, and are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SrtpError {
    /// The packet is no RTP or RTCP packet, or is cut short.
    #[error("malformed packet")]
    Malformed,
    /// The authentication tag does not match.
    #[error("authentication failed")]
    Authentication,
    /// The packet was seen (or sent) before, or is older than the replay window.
    #[error("replayed packet")]
    Replayed,
    /// The context already follows [`MAX_SOURCES`].
    #[error("too many synchronisation sources")]
    TooManySources,
    /// The buffer has no room for what protection adds.
    #[error("buffer too small")]
    BufferTooSmall,
    /// The key or salt has the wrong length for the profile.
    #[error("wrong key or salt length")]
    KeyLength,
    /// The packet index is used up; a new key is needed (RFC 3711 section 9.2).
    #[error("key used up")]
    KeyExhausted,
}

/// Which packet a transform works on: with the session salt it makes the nonce.
#[derive(Debug, Clone, Copy)]
struct PacketId {
    ssrc: u32,
    /// ROC || SEQ for RTP (48 bits), the SRTCP index for RTCP (31 bits).
    index: u64,
}

/// One cipher and tag with one set of session keys, for RTP or for RTCP.
///
/// `trailer` of RTCP holds tag and ESRTCP word; their order is the profile's (RFC 3711 section 3.4, RFC 7714 section
/// 9.2), and so the transform lays it out.
trait Transform: Send + Sync {
    fn tag_len(&self) -> usize;
    fn seal_rtp(
        &self,
        id: PacketId,
        header: &[u8],
        payload: &mut [u8],
        tag: &mut [u8],
    ) -> Result<(), SrtpError>;
    fn open_rtp(&self, id: PacketId, header: &[u8], payload: &mut [u8], tag: &[u8]) -> Result<(), SrtpError>;
    /// The ESRTCP word of a received trailer.
    fn esrtcp(&self, trailer: &[u8]) -> Result<u32, SrtpError>;
    fn seal_rtcp(
        &self,
        id: PacketId,
        header: &[u8],
        body: &mut [u8],
        trailer: &mut [u8],
    ) -> Result<(), SrtpError>;
    fn open_rtcp(
        &self,
        id: PacketId,
        header: &[u8],
        body: &mut [u8],
        trailer: &[u8],
    ) -> Result<(), SrtpError>;
}

/// The E flag before the SRTCP index (RFC 3711 section 3.4).
const ENCRYPTED: u32 = 1 << 31;

/// The ESRTCP word of a packet we send: always encrypted.
fn esrtcp_word(id: PacketId) -> Result<u32, SrtpError> {
    let index = u32::try_from(id.index).map_err(|_| SrtpError::KeyExhausted)?;
    Ok(index | ENCRYPTED)
}

/// The big-endian word in a slice of exactly four bytes.
fn word(bytes: &[u8]) -> Result<u32, SrtpError> {
    bytes.try_into().map(u32::from_be_bytes).map_err(|_| SrtpError::Malformed)
}
