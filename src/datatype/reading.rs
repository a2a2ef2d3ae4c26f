//! Decrypts or masks values that hold text.

use crate::datatype::encoding;
use crate::datatype::masking::mask;
use crate::error::Error;
use crate::keyring;
use crate::varlena::Varlena;
use prism_envelope::{ContextHash, Envelope};

/// The plaintext of a value that holds text, where [`open_without_context`] would give it without loading or converting
/// anything. See [`keyring::open_if_ready`] for what must hold.
#[inline]
pub fn opened_if_ready(value: &[u8]) -> Option<Varlena> {
    let envelope = Envelope::parse(value).ok()?;
    if !envelope.holds_text() || !encoding::server_is_utf8() {
        return None;
    }
    keyring::open_if_ready(&envelope).filter(|opened| encoding::is_utf8(opened.bytes()))
}

/// The plaintext of a value that holds text, in the server's encoding.
pub fn open_text(envelope: Envelope<'_>, context: Option<&ContextHash>) -> Result<Varlena, Error> {
    let version = envelope.key_version();
    if !envelope.holds_text() {
        return Err(Error::NotText(version));
    }
    encoding::text_from_utf8(keyring::open(&envelope, context)?, version)
}

/// The same for a cast, which can't take a context.
pub fn open_without_context(envelope: Envelope<'_>) -> Result<Varlena, Error> {
    if envelope.context().is_some() {
        return Err(Error::BoundToContext(envelope.key_version()));
    }
    open_text(envelope, None)
}

/// The mask of a value that holds text, in the server's encoding.
pub fn open_masked(envelope: Envelope<'_>, context: Option<&ContextHash>) -> Result<Varlena, Error> {
    let version = envelope.key_version();
    if !envelope.holds_text() {
        return Err(Error::NotText(version));
    }
    let opened = keyring::open(&envelope, context)?;
    let text = std::str::from_utf8(opened.bytes()).map_err(|_| Error::InvalidText(version))?;
    let masked = Varlena::copy_of(mask(envelope.attributes().class, text).as_bytes())?;
    opened.free();
    encoding::text_from_utf8(masked, version)
}
