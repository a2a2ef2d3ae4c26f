//! The text form `prism:v<key version>:<base64 of the envelope>`, similar to that of Vault Transit.

use crate::{Envelope, FormatError, KeyVersion};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const PREFIX: &[u8] = b"prism:v";

/// Why a text is not a text form. Never holds any of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArmorError {
    /// It does not begin with `prism:v`, a key version and a colon.
    #[error("it does not begin with \"prism:v\", a key version and a colon")]
    Prefix,
    /// What follows the prefix is not canonical base64 (RFC 4648 section 4, with padding).
    #[error("what follows the prefix is not base64")]
    Base64,
    /// The key version of the prefix is not the one inside the envelope.
    #[error("its key version is not the one inside the envelope")]
    KeyVersion,
    /// The bytes are not an envelope.
    #[error("{0}")]
    Format(#[from] FormatError),
    /// The output buffer is shorter than [`encoded_len`] or [`decoded_len_estimate`].
    #[error("the value does not fit its buffer")]
    Length,
}

/// Whether a text claims to be a text form: `prism:v`, digits, a colon. Everything else is plaintext.
#[must_use]
pub fn is_armored(text: &[u8]) -> bool {
    split(text).is_some()
}

/// Length in bytes of the text form of an envelope.
#[must_use]
pub fn encoded_len(version: KeyVersion, envelope_len: usize) -> usize {
    PREFIX.len() + version.get().ilog10() as usize + 2 + envelope_len.div_ceil(3) * 4
}

/// Writes the text form of `envelope` (well-formed bytes with this key version) and returns its length in bytes.
///
/// # Errors
/// [`ArmorError::Length`] when `out` is shorter than [`encoded_len`].
pub fn encode_into(version: KeyVersion, envelope: &[u8], out: &mut [u8]) -> Result<usize, ArmorError> {
    let digits = version.to_string();
    let start = PREFIX.len() + digits.len() + 1;
    let (prefix, body) = out.split_at_mut_checked(start).ok_or(ArmorError::Length)?;
    prefix[..PREFIX.len()].copy_from_slice(PREFIX);
    prefix[PREFIX.len()..start - 1].copy_from_slice(digits.as_bytes());
    prefix[start - 1] = b':';
    let written = STANDARD.encode_slice(envelope, body).map_err(|_| ArmorError::Length)?;
    Ok(start + written)
}

/// An upper bound, in bytes, on what [`decode_into`] writes.
#[must_use]
pub fn decoded_len_estimate(text_len: usize) -> usize {
    base64::decoded_len_estimate(text_len)
}

/// Reads a text form into `out` and returns the length of the envelope in bytes. The envelope is parsed but not authenticated.
///
/// # Errors
/// [`ArmorError`] says what is wrong.
pub fn decode_into(text: &[u8], out: &mut [u8]) -> Result<usize, ArmorError> {
    let (digits, body) = split(text).ok_or(ArmorError::Prefix)?;
    if digits[0] == b'0' {
        return Err(ArmorError::Prefix);
    }
    let version = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    let version = version.and_then(KeyVersion::new).ok_or(ArmorError::Prefix)?;
    let written = STANDARD.decode_slice(body, out).map_err(|error| match error {
        base64::DecodeSliceError::DecodeError(_) => ArmorError::Base64,
        base64::DecodeSliceError::OutputSliceTooSmall => ArmorError::Length,
    })?;
    if Envelope::parse(&out[..written])?.key_version() != version {
        return Err(ArmorError::KeyVersion);
    }
    Ok(written)
}

/// The digits of the key version (at least one) and what follows the colon.
fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = text.strip_prefix(PREFIX)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match rest.get(digits) {
        Some(b':') if digits > 0 => Some((&rest[..digits], &rest[digits + 1..])),
        _ => None,
    }
}
