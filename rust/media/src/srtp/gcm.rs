//! AES in Galois/Counter Mode (RFC 7714).

use super::{ENCRYPTED, PacketId, SessionKeys, SrtpError, Transform, esrtcp_word, word};
use aes_gcm::KeyInit;
use aes_gcm::aead::array::Array;
use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::aead::{AeadCore, AeadInOut};

/// RFC 7714 section 13.1: the SRTP profiles always carry the whole tag.
const TAG: usize = 16;

/// Session keys, expanded.
pub(super) struct Gcm<C> {
    cipher: C,
    salt: [u8; 12],
}

type Nonce = Array<u8, U12>;

impl<C: AeadInOut + AeadCore<NonceSize = U12, TagSize = U16> + KeyInit> Gcm<C> {
    pub(super) fn new(keys: &SessionKeys) -> Result<Self, SrtpError> {
        Ok(Self {
            cipher: C::new_from_slice(&keys.encryption).map_err(|_| SrtpError::KeyLength)?,
            salt: keys.salt.as_slice().try_into().map_err(|_| SrtpError::KeyLength)?,
        })
    }

    /// 00 00 || SSRC || ROC || SEQ, or 00 00 || SSRC || 00 00 || 0+index, XOR the salt (RFC 7714 section 8.1, 9.1):
    /// in both the index ends on the last byte of the twelve.
    fn nonce(&self, id: PacketId) -> Nonce {
        let value = u128::from(id.ssrc) << 48 | u128::from(id.index);
        let [_, _, _, _, nonce @ ..] = value.to_be_bytes();
        let mut nonce: [u8; 12] = nonce;
        for (byte, salt) in nonce.iter_mut().zip(self.salt) {
            *byte ^= salt;
        }
        nonce.into()
    }

    fn seal(&self, id: PacketId, aad: &[u8], data: &mut [u8], tag: &mut [u8]) -> Result<(), SrtpError> {
        let made = self
            .cipher
            .encrypt_inout_detached(&self.nonce(id), aad, data.into())
            .map_err(|_| SrtpError::Malformed)?;
        tag.get_mut(..TAG).ok_or(SrtpError::BufferTooSmall)?.copy_from_slice(&made);
        Ok(())
    }

    fn open(&self, id: PacketId, aad: &[u8], data: &mut [u8], tag: &[u8]) -> Result<(), SrtpError> {
        let tag: [u8; TAG] = tag.try_into().map_err(|_| SrtpError::Malformed)?;
        self.cipher
            .decrypt_inout_detached(&self.nonce(id), aad, data.into(), &tag.into())
            .map_err(|_| SrtpError::Authentication)
    }
}

/// What is authenticated of an encrypted RTCP packet: its first eight bytes and the ESRTCP word.
fn rtcp_aad(header: &[u8], esrtcp: u32) -> Result<[u8; 12], SrtpError> {
    let mut aad = [0; 12];
    let (first, last) = aad.split_at_mut(8);
    if header.len() != first.len() {
        return Err(SrtpError::Malformed);
    }
    first.copy_from_slice(header);
    last.copy_from_slice(&esrtcp.to_be_bytes());
    Ok(aad)
}

impl<C> Transform for Gcm<C>
where
    C: AeadInOut + AeadCore<NonceSize = U12, TagSize = U16> + KeyInit + Send + Sync,
{
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
        self.seal(id, header, payload, tag)
    }

    fn open_rtp(&self, id: PacketId, header: &[u8], payload: &mut [u8], tag: &[u8]) -> Result<(), SrtpError> {
        self.open(id, header, payload, tag)
    }

    fn esrtcp(&self, trailer: &[u8]) -> Result<u32, SrtpError> {
        word(trailer.get(TAG..).ok_or(SrtpError::Malformed)?)
    }

    fn seal_rtcp(
        &self,
        id: PacketId,
        header: &[u8],
        body: &mut [u8],
        trailer: &mut [u8],
    ) -> Result<(), SrtpError> {
        let esrtcp = esrtcp_word(id)?;
        let (tag, index) = trailer.split_at_mut_checked(TAG).ok_or(SrtpError::BufferTooSmall)?;
        index.copy_from_slice(&esrtcp.to_be_bytes());
        self.seal(id, &rtcp_aad(header, esrtcp)?, body, tag)
    }

    fn open_rtcp(
        &self,
        id: PacketId,
        header: &[u8],
        body: &mut [u8],
        trailer: &[u8],
    ) -> Result<(), SrtpError> {
        let (tag, index) = trailer.split_at_checked(TAG).ok_or(SrtpError::Malformed)?;
        let esrtcp = word(index)?;
        if esrtcp & ENCRYPTED != 0 {
            return self.open(id, &rtcp_aad(header, esrtcp)?, body, tag);
        }
        // Tagged but not encrypted (RFC 7714 section 9.3): all of it is associated data. No browser sends this, so
        // the copy costs nobody anything.
        self.open(id, &[header, body, index].concat(), &mut [], tag)
    }
}
