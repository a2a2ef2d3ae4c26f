//! Seal, open and reseal with one data key: AES-256-GCM, NIST SP 800-38D.

use crate::stack::InPlace;
use crate::{
    Attributes, ContextHash, Envelope, IndexKey, KeyBytes, KeyVersion, NONCE_LEN, NonceOwner, NoncePool,
    RandomnessError, TAG_LEN,
};
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};

/// Why a value could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// No nonce was available.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
    /// The output buffer is not [`Attributes::envelope_len`] bytes, or the plaintext exceeds the limit of GCM (2^36 - 32
    /// bytes).
    #[error("the value does not fit its buffer")]
    Length,
    /// The old envelope of a reseal could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Why a value could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Wrong key, wrong context or changed bytes: deliberately one answer.
    #[error("authentication failed")]
    Authentication,
    /// The output buffer is not [`Envelope::plaintext_len`] bytes.
    #[error("the value does not fit its buffer")]
    Length,
}

/// A data key with its expanded key schedule. Wiped when dropped; has no `Debug`, no `Clone`.
pub struct DataKey {
    version: KeyVersion,
    cipher: InPlace<Aes256Gcm>,
}

impl DataKey {
    /// Expands a key.
    #[must_use]
    pub fn new(version: KeyVersion, key: &KeyBytes) -> Self {
        Self { version, cipher: InPlace::new(|| Aes256Gcm::new(key.as_bytes().into())) }
    }

    /// The version written to every envelope it seals.
    #[must_use]
    #[inline]
    pub fn version(&self) -> KeyVersion {
        self.version
    }

    /// Seals `plaintext` into `out`, which is [`Attributes::envelope_len`] bytes. The nonce is always fresh: the caller can't
    /// supply one.
    ///
    /// # Errors
    /// [`SealError::Randomness`], [`SealError::Length`].
    #[inline(always)]
    pub fn seal_into(
        &self,
        nonces: &mut NoncePool,
        owner: NonceOwner,
        attributes: &Attributes,
        plaintext: &[u8],
        out: &mut [u8],
    ) -> Result<(), SealError> {
        if out.len() != attributes.envelope_len(plaintext.len()) {
            return Err(SealError::Length);
        }
        let nonce = nonces.take(owner)?;
        self.seal_with_nonce(nonce, attributes, plaintext, out)
    }

    /// Opens an envelope into `out`, which is [`Envelope::plaintext_len`] bytes. On an error `out` is unchanged.
    ///
    /// # Errors
    /// [`OpenError::Authentication`] for a wrong key, a context (or none) other than the one it was sealed with, or changed
    /// bytes; [`OpenError::Length`].
    #[inline(always)]
    pub fn open_into(
        &self,
        envelope: &Envelope<'_>,
        context: Option<&ContextHash>,
        out: &mut [u8],
    ) -> Result<(), OpenError> {
        if envelope.context().as_ref() != context {
            return Err(OpenError::Authentication);
        }
        self.open_any_context(envelope, out)
    }

    /// Opens `envelope` with `old` and seals it again with this key under `attributes`, which the caller derives from the
    /// envelope's own. With an index key, a search tag in `attributes` only requests a new one. The plaintext exists only
    /// inside `out`, and only during this call.
    ///
    /// # Errors
    /// [`SealError`]. On an error `out` holds no plaintext.
    #[allow(clippy::too_many_arguments, reason = "the two sides of a reseal")]
    pub fn reseal_into(
        &self,
        nonces: &mut NoncePool,
        owner: NonceOwner,
        old: &DataKey,
        envelope: &Envelope<'_>,
        attributes: &Attributes,
        index_key: Option<&IndexKey>,
        out: &mut [u8],
    ) -> Result<(), SealError> {
        if out.len() != attributes.envelope_len(envelope.plaintext_len()) {
            return Err(SealError::Length);
        }
        // Taken before the plaintext is in `out`: after that nothing can fail.
        let nonce = nonces.take(owner)?;
        let (header, body, tag) = split_mut(attributes, out)?;
        old.open_any_context(envelope, body)?;
        let search_tag =
            attributes.search_tag.map(|tag| index_key.map_or(tag, |index_key| index_key.search_tag(body)));
        Attributes { search_tag, ..*attributes }.write_header(self.version, nonce, header);
        *tag = self
            .cipher
            .encrypt_inout_detached(nonce.into(), header, body.into())
            .map_err(|_| SealError::Length)?
            .into();
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn seal_with_nonce(
        &self,
        nonce: &[u8; NONCE_LEN],
        attributes: &Attributes,
        plaintext: &[u8],
        out: &mut [u8],
    ) -> Result<(), SealError> {
        let (header, body, tag) = split_mut(attributes, out)?;
        attributes.write_header(self.version, nonce, header);
        let body = InOutBuf::new(plaintext, body).map_err(|_| SealError::Length)?;
        *tag = self
            .cipher
            .encrypt_inout_detached(nonce.into(), header, body)
            .map_err(|_| SealError::Length)?
            .into();
        Ok(())
    }

    #[inline(always)]
    fn open_any_context(&self, envelope: &Envelope<'_>, out: &mut [u8]) -> Result<(), OpenError> {
        let body = InOutBuf::new(envelope.ciphertext(), out).map_err(|_| OpenError::Length)?;
        self.cipher
            .decrypt_inout_detached(envelope.nonce().into(), envelope.header(), body, envelope.tag().into())
            .map_err(|_| OpenError::Authentication)
    }
}

type Parts<'a> = (&'a mut [u8], &'a mut [u8], &'a mut [u8; TAG_LEN]);

/// Header, body and tag of an envelope that is about to be written.
#[inline]
fn split_mut<'a>(attributes: &Attributes, out: &'a mut [u8]) -> Result<Parts<'a>, SealError> {
    let (header, rest) = out.split_at_mut_checked(attributes.header_len()).ok_or(SealError::Length)?;
    let (body, tag) = rest.split_last_chunk_mut().ok_or(SealError::Length)?;
    Ok((header, body, tag))
}
