//! The context of a value, as the header carries it.

use sha2::{Digest, Sha256};

/// Separates context hashes from any other use of SHA-256 on the same text.
const DOMAIN: &[u8] = b"prism_crypt context v1\0";

/// The first 128 bits of `SHA-256("prism_crypt context v1" ‖ 0x00 ‖ context)`.
///
/// It is part of the authenticated header, so opening requires the same context, and a rotation can carry it over without
/// knowing the context. It is not secret: whoever guesses a context can confirm the guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContextHash([u8; Self::LEN]);

impl ContextHash {
    /// Length in bytes.
    pub const LEN: usize = 16;

    /// The hash of a context, which may be any bytes; in prism_crypt it is UTF-8 text.
    #[must_use]
    pub fn of(context: &[u8]) -> Self {
        let digest = Sha256::new().chain_update(DOMAIN).chain_update(context).finalize();
        let mut hash = [0; Self::LEN];
        hash.copy_from_slice(&digest[..Self::LEN]);
        Self(hash)
    }

    pub(crate) fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes as they appear in the header.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}
