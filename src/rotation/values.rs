//! What a rotation asks of one `encrypted_text`, and the rules that are the same for every value.

use super::{Scope, Verdict};
use crate::datum::{Encrypted, EncryptedResult, Front};
use crate::error::{Error, SqlResult};
use crate::jobs::note_unreadable;
use crate::keyring;
use crate::varlena::Varlena;
use pgrx::prelude::*;
use prism_envelope::{Envelope, FormatError, KeyVersion, SearchTag};

/// `prism_crypt._is_rotatable(value encrypted_text) → boolean`: whether a value is under an old key that may be read, or has an
/// outdated search tag, of whatever version and keyset. That is the usual question, and asked of every value. Looks at the front
/// only.
#[pg_extern(sql = false)]
fn _is_rotatable_at_all(front: Front<'_>) -> SqlResult<bool> {
    Ok(is_rotatable(front.key_version(), front.search_tag(), Scope::default())?)
}

/// `prism_crypt._reencrypt(value encrypted_text, keep boolean) → encrypted_text`: the value under the active key of its keyset. One
/// that can't be opened is an error, or kept: a key may be disabled between the choice of a row and its update. Such a value stays
/// as it is, and the rest of the batch goes on.
#[pg_extern(sql = false)]
fn _reencrypt_value(value: Encrypted<'_>, keep: bool) -> SqlResult<EncryptedResult> {
    if keep {
        return Ok(EncryptedResult(reencrypt_or_keep(value.envelope(), value.bytes())?));
    }
    let envelope = value.envelope()?;
    Ok(EncryptedResult(keyring::reseal(&envelope, envelope.attributes())?))
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
