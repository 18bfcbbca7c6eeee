//! Keys: from the DTLS exporter to master keys to session keys.

use super::aes_cm::{AesCm, keystream};
use super::gcm::Gcm;
use super::{Context, Profile, SrtpError, Transform};
use aes::cipher::KeyInit;
use aes::{Aes128, Aes256};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use std::fmt;

/// What the DTLS exporter yields (RFC 5764 section 4.2): client key, server key, client salt, server salt.
#[derive(Clone)]
pub struct KeyMaterial {
    profile: Profile,
    exported: Vec<u8>,
}

impl fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyMaterial").field("profile", &self.profile).finish_non_exhaustive()
    }
}

impl KeyMaterial {
    /// Wraps the exported bytes.
    ///
    /// # Errors
    /// [`SrtpError::KeyLength`] if their number is not the profile's.
    pub fn new(profile: Profile, exported: Vec<u8>) -> Result<Self, SrtpError> {
        if exported.len() != 2 * (profile.key_len() + profile.salt_len()) {
            return Err(SrtpError::KeyLength);
        }
        Ok(Self { profile, exported })
    }

    /// The negotiated profile.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// The two contexts of the side that was DTLS client (`client` true) or server: (outbound, inbound).
    ///
    /// # Errors
    /// [`SrtpError::KeyLength`] if the material is too short for the profile.
    pub fn contexts(&self, client: bool) -> Result<(Context, Context), SrtpError> {
        let (of_client, of_server) = (self.context(0)?, self.context(1)?);
        Ok(if client { (of_client, of_server) } else { (of_server, of_client) })
    }

    fn context(&self, side: usize) -> Result<Context, SrtpError> {
        let (key_len, salt_len) = (self.profile.key_len(), self.profile.salt_len());
        let part =
            |start: usize, len: usize| self.exported.get(start..start + len).ok_or(SrtpError::KeyLength);
        let key = part(side * key_len, key_len)?;
        let salt = part(2 * key_len + side * salt_len, salt_len)?;
        Context::new(self.profile, key, salt)
    }
}

/// The session keys of RTP or of RTCP. Usually derived; given directly only where a test vector starts from them.
#[derive(Clone)]
pub struct SessionKeys {
    /// The cipher key.
    pub encryption: Vec<u8>,
    /// The HMAC key; empty for AEAD profiles.
    pub authentication: Vec<u8>,
    /// The salt.
    pub salt: Vec<u8>,
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionKeys").finish_non_exhaustive()
    }
}

/// The first label of a packet kind (RFC 3711 section 4.3.1 and 4.3.2); authentication and salt follow it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Rtp = 0,
    Rtcp = 3,
}

impl SessionKeys {
    /// RFC 3711 section 4.3 with a key derivation rate of zero.
    pub(super) fn derive(profile: Profile, kind: Kind, key: &[u8], salt: &[u8]) -> Result<Self, SrtpError> {
        if key.len() != profile.key_len() || salt.len() != profile.salt_len() {
            return Err(SrtpError::KeyLength);
        }
        let label = kind as u8;
        let authentication = if profile == Profile::Aes128CmSha1_80 { 20 } else { 0 };
        Ok(Self {
            encryption: prf(key, salt, label, profile.key_len())?,
            authentication: prf(key, salt, label + 1, authentication)?,
            salt: prf(key, salt, label + 2, profile.salt_len())?,
        })
    }

    /// The transform with these keys.
    pub(super) fn transform(&self, profile: Profile) -> Result<Box<dyn Transform>, SrtpError> {
        Ok(match profile {
            Profile::Aes128CmSha1_80 => Box::new(AesCm::new(self)?),
            Profile::AeadAes128Gcm => Box::new(Gcm::<Aes128Gcm>::new(self)?),
            Profile::AeadAes256Gcm => Box::new(Gcm::<Aes256Gcm>::new(self)?),
        })
    }
}

/// The AES-CM pseudorandom function (RFC 3711 section 4.3.3): keystream with IV `(label || salt) * 2^16`. The 12-byte
/// salts of AEAD profiles are padded on the right (RFC 7714 section 11).
pub(super) fn prf(key: &[u8], salt: &[u8], label: u8, length: usize) -> Result<Vec<u8>, SrtpError> {
    let mut padded = [0_u8; 16];
    padded.get_mut(..salt.len()).ok_or(SrtpError::KeyLength)?.copy_from_slice(salt);
    let iv = u128::from_be_bytes(padded) ^ (u128::from(label) << 64);
    let mut output = vec![0; length];
    match key.len() {
        16 => keystream(&Aes128::new_from_slice(key).map_err(|_| SrtpError::KeyLength)?, iv, &mut output),
        _ => keystream(&Aes256::new_from_slice(key).map_err(|_| SrtpError::KeyLength)?, iv, &mut output),
    }
    Ok(output)
}
