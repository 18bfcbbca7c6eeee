//! SRTP and SRTCP in place (RFC 3711, RFC 5764, RFC 7714).

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

/// The most bytes that protection adds to a packet: an SRTCP index and the longest tag.
pub const MAX_OVERHEAD: usize = 4 + 16;

/// Why a packet was not protected or not accepted. All are the peer's fault or the caller's, and are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SrtpError {
    /// The packet is no RTP or RTCP packet, or is cut short.
    #[error("malformed packet")]
    Malformed,
    /// The authentication tag does not match.
    #[error("authentication failed")]
    Authentication,
    /// The packet was seen before, or is older than the replay window.
    #[error("replayed packet")]
    Replayed,
    /// The context already follows as many sources as it may.
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

/// The state of one direction of one SRTP session.
#[derive(Debug)]
pub struct Context {}

impl Context {
    /// A context from a master key and master salt.
    ///
    /// # Errors
    /// [`SrtpError::KeyLength`] if either has the wrong length for the profile.
    pub fn new(_profile: Profile, _master_key: &[u8], _master_salt: &[u8]) -> Result<Self, SrtpError> {
        Err(SrtpError::KeyLength)
    }
    /// Protects the RTP packet in `buffer[..length]` in place and returns its new length.
    ///
    /// # Errors
    /// If the packet is malformed or `buffer` lacks [`MAX_OVERHEAD`] room.
    pub fn protect_rtp(&mut self, _buffer: &mut [u8], _length: usize) -> Result<usize, SrtpError> {
        Err(SrtpError::Malformed)
    }
    /// Checks and decrypts the SRTP packet in place and returns the length of the RTP packet.
    ///
    /// # Errors
    /// If the packet is malformed, forged or replayed.
    pub fn unprotect_rtp(&mut self, _packet: &mut [u8]) -> Result<usize, SrtpError> {
        Err(SrtpError::Malformed)
    }
    /// Protects the compound RTCP packet in `buffer[..length]` in place and returns its new length.
    ///
    /// # Errors
    /// If the packet is malformed or `buffer` lacks [`MAX_OVERHEAD`] room.
    pub fn protect_rtcp(&mut self, _buffer: &mut [u8], _length: usize) -> Result<usize, SrtpError> {
        Err(SrtpError::Malformed)
    }
    /// Checks and decrypts the SRTCP packet in place and returns the length of the RTCP packet.
    ///
    /// # Errors
    /// If the packet is malformed, forged or replayed.
    pub fn unprotect_rtcp(&mut self, _packet: &mut [u8]) -> Result<usize, SrtpError> {
        Err(SrtpError::Malformed)
    }
}

/// What the DTLS exporter yields (RFC 5764 section 4.2).
#[derive(Debug)]
pub struct KeyMaterial {}

impl KeyMaterial {
    /// The two contexts of the side that was DTLS client (`client` true) or server: (outbound, inbound).
    ///
    /// # Errors
    /// [`SrtpError::KeyLength`] if the material is too short for the profile.
    pub fn contexts(&self, _client: bool) -> Result<(Context, Context), SrtpError> {
        Err(SrtpError::KeyLength)
    }
    /// The negotiated profile.
    #[must_use]
    pub fn profile(&self) -> Profile {
        Profile::Aes128CmSha1_80
    }
}
