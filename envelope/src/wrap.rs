//! Master keys: wrap and unwrap data keys and index keys, and tell master keys apart.

use crate::key::KEY_LEN;
use crate::stack::{InPlace, wiping};
use crate::{KeyBytes, KeyVersion, NONCE_LEN, NonceOwner, NoncePool, RandomnessError, TAG_LEN};
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use hmac::Mac;

/// Length in bytes of a wrapped key: format byte, nonce, encrypted key, tag.
pub const WRAPPED_LEN: usize = 1 + NONCE_LEN + KEY_LEN + TAG_LEN;

const WRAP_V1: u8 = 0x01;
const DATA_KEY_LABEL: &[u8] = b"prism_crypt data key v1\0";
const INDEX_KEY_LABEL: &[u8] = b"prism_crypt index key v1\0";
const FINGERPRINT_LABEL: &[u8] = b"prism_crypt master key fingerprint v1";

/// Why a wrapped key could not be unwrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnwrapError {
    /// Not [`WRAPPED_LEN`] bytes that begin with a known format byte.
    #[error("the wrapped key is malformed")]
    Malformed,
    /// Another master key wrapped it, or it is another key, or it was changed.
    #[error("authentication failed")]
    Authentication,
}

/// The first 64 bits of `HMAC-SHA-256(master key, "prism_crypt master key fingerprint v1")`: identifies a master key without
/// revealing anything about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 8]);

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Which key a wrapped key is. It is associated data, so wrapped keys can't be swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyIdentity<'a> {
    /// The data key of a version, with its keyset.
    Data(KeyVersion, &'a str),
    /// The index key of a generation, with its keyset.
    Index(u8, &'a str),
}

impl KeyIdentity<'_> {
    /// `label ‖ version (u32, big-endian) or generation (u8) ‖ keyset (UTF-8)`.
    fn associated_data(self) -> Vec<u8> {
        match self {
            Self::Data(version, keyset) => {
                [DATA_KEY_LABEL, &version.get().to_be_bytes(), keyset.as_bytes()].concat()
            }
            Self::Index(generation, keyset) => [INDEX_KEY_LABEL, &[generation], keyset.as_bytes()].concat(),
        }
    }
}

/// A master key (key-encryption key). Wiped when dropped; has no `Debug`, no `Clone`.
pub struct MasterKey {
    cipher: InPlace<Aes256Gcm>,
    fingerprint: Fingerprint,
}

impl MasterKey {
    /// Expands a key.
    #[must_use]
    pub fn new(key: &KeyBytes) -> Self {
        let digest = wiping(|| key.hmac().chain_update(FINGERPRINT_LABEL).finalize().into_bytes());
        let mut fingerprint = [0; 8];
        fingerprint.copy_from_slice(&digest[..8]);
        let cipher = InPlace::new(|| Aes256Gcm::new(key.as_bytes().into()));
        Self { cipher, fingerprint: Fingerprint(fingerprint) }
    }

    /// What `data_key.master_fingerprint` holds for keys that this master key wrapped.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Wraps a key.
    ///
    /// # Errors
    /// [`RandomnessError`] when no nonce is available.
    pub fn wrap(
        &self,
        nonces: &mut NoncePool,
        owner: NonceOwner,
        identity: KeyIdentity<'_>,
        key: &KeyBytes,
    ) -> Result<[u8; WRAPPED_LEN], RandomnessError> {
        Ok(self.wrap_with_nonce(nonces.take(owner)?, identity, key))
    }

    /// Unwraps a key.
    ///
    /// # Errors
    /// [`UnwrapError`].
    pub fn unwrap(&self, identity: KeyIdentity<'_>, wrapped: &[u8]) -> Result<KeyBytes, UnwrapError> {
        let wrapped = <&[u8; WRAPPED_LEN]>::try_from(wrapped).map_err(|_| UnwrapError::Malformed)?;
        let [WRAP_V1, rest @ ..] = wrapped else {
            return Err(UnwrapError::Malformed);
        };
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(UnwrapError::Malformed)?;
        let (encrypted, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(UnwrapError::Malformed)?;
        let mut key = KeyBytes::zeroed();
        let body = InOutBuf::new(encrypted, key.as_mut_bytes()).map_err(|_| UnwrapError::Malformed)?;
        wiping(|| {
            self.cipher.decrypt_inout_detached(nonce.into(), &identity.associated_data(), body, tag.into())
        })
        .map_err(|_| UnwrapError::Authentication)?;
        Ok(key)
    }

    pub(crate) fn wrap_with_nonce(
        &self,
        nonce: &[u8; NONCE_LEN],
        identity: KeyIdentity<'_>,
        key: &KeyBytes,
    ) -> [u8; WRAPPED_LEN] {
        let mut out = [0; WRAPPED_LEN];
        out[0] = WRAP_V1;
        out[1..=NONCE_LEN].copy_from_slice(nonce);
        let (body, tag) = out[1 + NONCE_LEN..].split_at_mut(KEY_LEN);
        // Both steps fail only for other lengths. Without a tag nothing unwraps, so even that would fail closed.
        if let Ok(body) = InOutBuf::new(key.as_bytes(), body)
            && let Ok(computed) =
                wiping(|| self.cipher.encrypt_inout_detached(nonce.into(), &identity.associated_data(), body))
        {
            tag.copy_from_slice(&computed);
        }
        out
    }
}
