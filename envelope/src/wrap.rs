//! Master keys: wrap and unwrap data keys and index keys, and tell master keys apart.

use crate::key::KEY_LEN;
use crate::stack::{InPlace, wiping};
use crate::{KeyBytes, KeyVersion, NONCE_LEN, NonceOwner, NoncePool, RandomnessError, TAG_LEN};
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use hmac::Mac;
use subtle::ConstantTimeEq;

/// Length in bytes of a wrapped key: format byte, nonce, encrypted key, tag, commitment.
pub const WRAPPED_LEN: usize = WRAPPED_V1_LEN + KEY_LEN;
/// The same without a commitment.
const WRAPPED_V1_LEN: usize = 1 + NONCE_LEN + KEY_LEN + TAG_LEN;

/// Format 0x01, which is only read.
const WRAP_V1: u8 = 0x01;
/// Format 0x02, with a commitment: GCM alone does not commit to its key, so without one the same bytes could be two keys for two master
/// keys. Its associated data is another one, so that nobody can take the commitment away.
const WRAP_V2: u8 = 0x02;
const COMMITMENT_LABEL: &[u8] = b"prism_crypt key commitment v2\0";
const FINGERPRINT_LABEL: &[u8] = b"prism_crypt master key fingerprint v1";

/// Why a wrapped key could not be unwrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnwrapError {
    /// Not as many bytes as its format has, or of no known format.
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
    /// The key of one file, beside which it stands.
    File,
}

impl KeyIdentity<'_> {
    /// `"prism_crypt " ‖ use ‖ " v" ‖ format, as a digit ‖ 0x00 ‖ version (u32, big-endian) or generation (u8) ‖ keyset (UTF-8)`.
    fn associated_data(self, format: u8) -> Vec<u8> {
        let label = |of: &str| format!("prism_crypt {of} v{format}\0").into_bytes();
        match self {
            Self::Data(version, keyset) => {
                [label("data key").as_slice(), &version.get().to_be_bytes(), keyset.as_bytes()].concat()
            }
            Self::Index(generation, keyset) => {
                [label("index key").as_slice(), &[generation], keyset.as_bytes()].concat()
            }
            Self::File => label("file key"),
        }
    }
}

/// HKDF-Expand(key, label ‖ associated data, 32): the key of this identity, and nothing that tells of it.
fn commitment(key: &KeyBytes, associated_data: &[u8]) -> Option<KeyBytes> {
    wiping(|| key.derive(&[COMMITMENT_LABEL, associated_data].concat()))
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
        let (format, wrapped, committed) = match wrapped {
            [WRAP_V1, rest @ ..] => (WRAP_V1, rest, None),
            [WRAP_V2, rest @ ..] => {
                let (rest, committed) = rest.split_last_chunk::<KEY_LEN>().ok_or(UnwrapError::Malformed)?;
                (WRAP_V2, rest, Some(committed))
            }
            _ => return Err(UnwrapError::Malformed),
        };
        let wrapped = <&[u8; WRAPPED_V1_LEN - 1]>::try_from(wrapped).map_err(|_| UnwrapError::Malformed)?;
        let associated_data = identity.associated_data(format);
        let (nonce, rest) = wrapped.split_first_chunk::<NONCE_LEN>().ok_or(UnwrapError::Malformed)?;
        let (encrypted, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(UnwrapError::Malformed)?;
        let mut key = KeyBytes::zeroed();
        let body = InOutBuf::new(encrypted, key.as_mut_bytes()).map_err(|_| UnwrapError::Malformed)?;
        wiping(|| self.cipher.decrypt_inout_detached(nonce.into(), &associated_data, body, tag.into()))
            .map_err(|_| UnwrapError::Authentication)?;
        if let Some(committed) = committed {
            let computed = commitment(&key, &associated_data).ok_or(UnwrapError::Authentication)?;
            if !bool::from(computed.as_bytes().ct_eq(committed)) {
                return Err(UnwrapError::Authentication);
            }
        }
        Ok(key)
    }

    pub(crate) fn wrap_with_nonce(
        &self,
        nonce: &[u8; NONCE_LEN],
        identity: KeyIdentity<'_>,
        key: &KeyBytes,
    ) -> [u8; WRAPPED_LEN] {
        let associated_data = identity.associated_data(WRAP_V2);
        let mut out = [0; WRAPPED_LEN];
        let (wrapped, committed) = out.split_at_mut(WRAPPED_V1_LEN);
        wrapped[0] = WRAP_V2;
        wrapped[1..=NONCE_LEN].copy_from_slice(nonce);
        let (body, tag) = wrapped[1 + NONCE_LEN..].split_at_mut(KEY_LEN);
        // All steps fail only for other lengths. Without tag and commitment nothing unwraps, so even that would fail closed.
        if let Ok(body) = InOutBuf::new(key.as_bytes(), body)
            && let Ok(computed) =
                wiping(|| self.cipher.encrypt_inout_detached(nonce.into(), &associated_data, body))
            && let Some(commitment) = commitment(key, &associated_data)
        {
            tag.copy_from_slice(&computed);
            committed.copy_from_slice(commitment.as_bytes());
        }
        out
    }
}
