//! Single values. Each question comes for `encrypted_text` and for `bytea`, of which only envelopes count.

use super::{Scope, Verdict, note_unreadable};
use crate::datum::{Bytea, ByteaResult, Encrypted, EncryptedResult, Front};
use crate::error::{Error, SqlResult};
use crate::keyring;
use crate::varlena::Varlena;
use pgrx::prelude::*;
use prism_envelope::{Envelope, FormatError, KeyVersion, SearchTag};

/// `prism_crypt._is_rotatable(value encrypted_text, from_version integer, keyset text) → boolean`: whether a value of this
/// scope is under an old key that may be read, or has an outdated search tag. Looks at the front only.
#[pg_extern(sql = false)]
fn _is_rotatable(
    front: Option<Front<'_>>,
    from_version: Option<i32>,
    keyset: Option<&str>,
) -> SqlResult<bool> {
    let Some(front) = front else { return Ok(false) };
    Ok(is_rotatable(front.key_version(), front.search_tag(), Scope { from_version, keyset })?)
}

/// `prism_crypt._is_rotatable(value encrypted_text) → boolean`: the same for all versions and keysets, which is the usual
/// question, and asked of every value.
#[pg_extern(sql = false)]
fn _is_rotatable_at_all(front: Front<'_>) -> SqlResult<bool> {
    Ok(is_rotatable(front.key_version(), front.search_tag(), Scope { from_version: None, keyset: None })?)
}

/// `prism_crypt._is_rotatable(value bytea, from_version integer, keyset text) → boolean`: likewise; other bytes are not.
#[pg_extern(sql = false)]
fn _is_rotatable_bytes(
    value: Option<Bytea<'_>>,
    from_version: Option<i32>,
    keyset: Option<&str>,
) -> SqlResult<bool> {
    let Some(Ok(envelope)) = value.map(Bytea::envelope) else { return Ok(false) };
    Ok(is_rotatable(Ok(envelope.key_version()), None, Scope { from_version, keyset })?)
}

/// `prism_crypt._can_rotate(value encrypted_text, from_version integer, keyset text) → boolean`: whether it is rotatable
/// and opens.
#[pg_extern(sql = false)]
fn _can_rotate(
    value: Option<Encrypted<'_>>,
    from_version: Option<i32>,
    keyset: Option<&str>,
) -> SqlResult<bool> {
    let Some(value) = value else { return Ok(false) };
    Ok(can_rotate(value.envelope(), Scope { from_version, keyset })?)
}

/// `prism_crypt._can_rotate(value bytea, from_version integer, keyset text) → boolean`: likewise.
#[pg_extern(sql = false)]
fn _can_rotate_bytes(
    value: Option<Bytea<'_>>,
    from_version: Option<i32>,
    keyset: Option<&str>,
) -> SqlResult<bool> {
    let Some(Ok(envelope)) = value.map(Bytea::envelope) else { return Ok(false) };
    Ok(can_rotate(Ok(envelope), Scope { from_version, keyset })?)
}

/// `prism_crypt._reencrypt_or_keep(value encrypted_text) → encrypted_text`: a key may be disabled between the choice of a
/// row and its update. Such a value stays as it is, and the rest of the batch goes on.
#[pg_extern(sql = false)]
fn _reencrypt_or_keep(value: Encrypted<'_>) -> SqlResult<EncryptedResult> {
    Ok(EncryptedResult(reencrypt_or_keep(value.envelope(), value.bytes())?))
}

/// `prism_crypt._reencrypt_or_keep(value bytea) → bytea`: likewise.
#[pg_extern(sql = false)]
fn _reencrypt_bytes_or_keep(value: Bytea<'_>) -> SqlResult<ByteaResult> {
    Ok(ByteaResult(reencrypt_or_keep(value.envelope(), value.0.bytes())?))
}

/// `prism_crypt._rotation_error(value encrypted_text, from_version integer, keyset text) → text`: of a value of this scope
/// that is not under an active key, why it can't be re-encrypted; empty when it can, null when it need not be.
#[pg_extern(sql = false)]
fn _rotation_error(
    value: Option<Encrypted<'_>>,
    from_version: Option<i32>,
    keyset: Option<&str>,
) -> SqlResult<Option<String>> {
    let Some(value) = value else { return Ok(None) };
    Ok(rotation_error(value.envelope(), Scope { from_version, keyset })?)
}

/// `prism_crypt._rotation_error(value bytea, from_version integer, keyset text) → text`: likewise.
#[pg_extern(sql = false)]
fn _rotation_error_bytes(
    value: Option<Bytea<'_>>,
    from_version: Option<i32>,
    keyset: Option<&str>,
) -> SqlResult<Option<String>> {
    let Some(Ok(envelope)) = value.map(Bytea::envelope) else { return Ok(None) };
    Ok(rotation_error(Ok(envelope), Scope { from_version, keyset })?)
}

/// By key version and search tag alone.
pub fn is_rotatable(
    version: Result<KeyVersion, FormatError>,
    tag: Option<SearchTag>,
    scope: Scope<'_>,
) -> Result<bool, Error> {
    let verdict = match version {
        Ok(version) => scope.judge(version, tag)?,
        Err(_) if scope.is_narrow() => Verdict::Leave,
        Err(_) => Verdict::Unreadable,
    };
    if verdict == Verdict::Unreadable {
        note_unreadable();
    }
    Ok(verdict == Verdict::Rotate)
}

fn can_rotate(envelope: Result<Envelope<'_>, Error>, scope: Scope<'_>) -> Result<bool, Error> {
    let error = rotation_error(envelope, scope)?;
    if error.as_ref().is_some_and(|error| !error.is_empty()) {
        note_unreadable();
    }
    Ok(error.is_some_and(|error| error.is_empty()))
}

/// The value under the active key of its keyset, or as it is where it can't be opened.
pub fn reencrypt_or_keep(envelope: Result<Envelope<'_>, Error>, bytes: &[u8]) -> Result<Varlena, Error> {
    match envelope.and_then(|envelope| keyring::reseal(&envelope, envelope.attributes())) {
        Err(error) if error.is_about_the_value() => Varlena::copy_of(bytes),
        result => result,
    }
}

/// What is wrong with one value: nothing is empty, and `None` is a value that need not be rotated. What is wrong with the
/// set-up is an error.
pub fn rotation_error(
    envelope: Result<Envelope<'_>, Error>,
    scope: Scope<'_>,
) -> Result<Option<String>, Error> {
    let envelope = match envelope {
        Ok(envelope) => envelope,
        Err(error) => return Ok((!scope.is_narrow()).then(|| error.to_string())),
    };
    if scope.judge(envelope.key_version(), envelope.attributes().search_tag)? == Verdict::Leave {
        return Ok(None);
    }
    match keyring::check(&envelope) {
        Ok(()) => Ok(Some(String::new())),
        Err(error) if error.is_about_the_value() => {
            Ok(Some(format!("Key version {}: {error}", envelope.key_version())))
        }
        Err(error) => Err(error),
    }
}
