//! AES in counter mode with HMAC-SHA1 (RFC 3711 section 4.1.1 and 4.2.1).

use super::{PacketId, SessionKeys, SrtpError, Transform, esrtcp_word, word};
use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, BlockSizeUser, InnerIvInit, KeyInit, StreamCipherCore, consts::U16};
use ctr::{CtrCore, flavors};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use subtle::ConstantTimeEq;

/// HMAC-SHA1 cut to 80 bits, both for RTP and for RTCP (RFC 5764 section 4.1.2).
const TAG: usize = 10;
const INDEX: usize = 4;

/// Session keys, expanded.
pub(super) struct AesCm {
    cipher: Aes128,
    /// Both pads are hashed already; a packet clones the state.
    mac: Hmac<Sha1>,
    /// `k_s * 2^16`
    salt: u128,
}

/// XORs AES counter mode keystream onto `data`.
pub(super) fn keystream<C>(cipher: &C, iv: u128, data: &mut [u8])
where
    C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
{
    let core = CtrCore::<&C, flavors::Ctr128BE>::inner_iv_init(cipher, &iv.to_be_bytes().into());
    core.apply_keystream_partial(data.into());
}

impl AesCm {
    pub(super) fn new(keys: &SessionKeys) -> Result<Self, SrtpError> {
        let mut salt = [0_u8; 16];
        salt.get_mut(..14)
            .ok_or(SrtpError::KeyLength)?
            .copy_from_slice(keys.salt.get(..14).ok_or(SrtpError::KeyLength)?);
        Ok(Self {
            cipher: Aes128::new_from_slice(&keys.encryption).map_err(|_| SrtpError::KeyLength)?,
            mac: Hmac::new_from_slice(&keys.authentication).map_err(|_| SrtpError::KeyLength)?,
            salt: u128::from_be_bytes(salt),
        })
    }

    /// IV = (k_s * 2^16) XOR (SSRC * 2^64) XOR (i * 2^16).
    fn crypt(&self, id: PacketId, data: &mut [u8]) {
        let iv = self.salt ^ (u128::from(id.ssrc) << 64) ^ (u128::from(id.index) << 16);
        keystream(&self.cipher, iv, data);
    }

    /// The tag over the packet and what follows it: the ROC or the ESRTCP word.
    fn tag(&self, header: &[u8], body: &[u8], suffix: u32) -> [u8; 20] {
        let mut mac = self.mac.clone();
        mac.update(header);
        mac.update(body);
        mac.update(&suffix.to_be_bytes());
        mac.finalize().into_bytes().into()
    }

    fn verify(&self, header: &[u8], body: &[u8], suffix: u32, received: &[u8]) -> Result<(), SrtpError> {
        let expected = self.tag(header, body, suffix);
        let expected = expected.get(..TAG).ok_or(SrtpError::Malformed)?;
        if expected.ct_eq(received).into() { Ok(()) } else { Err(SrtpError::Authentication) }
    }
}

/// The rollover counter: the upper 32 of the index' 48 bits.
fn roc(id: PacketId) -> u32 {
    (id.index >> 16 & 0xffff_ffff) as u32
}

fn write_tag(out: &mut [u8], tag: [u8; 20]) -> Result<(), SrtpError> {
    let tag = tag.get(..out.len()).ok_or(SrtpError::BufferTooSmall)?;
    out.copy_from_slice(tag);
    Ok(())
}

impl Transform for AesCm {
    fn tag_len(&self) -> usize {
        TAG
    }

    fn seal_rtp(
        &self,
        id: PacketId,
        header: &[u8],
        payload: &mut [u8],
        tag: &mut [u8],
    ) -> Result<(), SrtpError> {
        self.crypt(id, payload);
        write_tag(tag, self.tag(header, payload, roc(id)))
    }

    fn open_rtp(&self, id: PacketId, header: &[u8], payload: &mut [u8], tag: &[u8]) -> Result<(), SrtpError> {
        self.verify(header, payload, roc(id), tag)?;
        self.crypt(id, payload);
        Ok(())
    }

    fn esrtcp(&self, trailer: &[u8]) -> Result<u32, SrtpError> {
        word(trailer.get(..INDEX).ok_or(SrtpError::Malformed)?)
    }

    fn seal_rtcp(
        &self,
        id: PacketId,
        header: &[u8],
        body: &mut [u8],
        trailer: &mut [u8],
    ) -> Result<(), SrtpError> {
        let esrtcp = esrtcp_word(id)?;
        self.crypt(id, body);
        let (index, tag) = trailer.split_at_mut_checked(INDEX).ok_or(SrtpError::BufferTooSmall)?;
        index.copy_from_slice(&esrtcp.to_be_bytes());
        write_tag(tag, self.tag(header, body, esrtcp))
    }

    fn open_rtcp(
        &self,
        id: PacketId,
        header: &[u8],
        body: &mut [u8],
        trailer: &[u8],
    ) -> Result<(), SrtpError> {
        let (index, tag) = trailer.split_at_checked(INDEX).ok_or(SrtpError::Malformed)?;
        let esrtcp = word(index)?;
        self.verify(header, body, esrtcp, tag)?;
        if esrtcp & super::ENCRYPTED != 0 {
            self.crypt(id, body);
        }
        Ok(())
    }
}
