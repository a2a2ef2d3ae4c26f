//! What a rotation asks about one `encrypted_text`, and the rules that are the same for every value.

use super::{Scope, Verdict};
use crate::bare_call::{argument, sql_function};
use crate::datum::{Encrypted, EncryptedResult, Front};
use crate::error::{Error, SqlResult};
use crate::jobs::note_unreadable;
use crate::keyring;
use crate::varlena::Varlena;
use pgrx::prelude::*;
use prism_envelope::{Envelope, FormatError, KeyVersion, SearchTag};

/// `prism_crypt._is_rotatable(value encrypted_text) → boolean`: whether a value of any version and keyset is under an
/// old but readable key, or has an outdated search tag. This is the usual question, asked for every value, so it looks
/// only at the front.
#[pg_extern(sql = false)]
fn _is_rotatable_at_all(front: Front<'_>) -> SqlResult<bool> {
    Ok(is_rotatable(front.key_version(), front.search_tag(), Scope::default())?)
}

// Most calls find nothing to do: they look at every value, and every value is under its active key.
sql_function!(_is_rotatable_usual, pg_finfo__is_rotatable_usual, stays, _is_rotatable_at_all_wrapper);

/// # Safety
/// A call with an argument of type `encrypted_text`.
#[inline(always)]
unsafe fn stays(fcinfo: pg_sys::FunctionCallInfo) -> Option<pg_sys::Datum> {
    // SAFETY: as promised by the caller.
    let value = unsafe { argument(fcinfo, 0)? };
    let version = Envelope::peek_key_version(value).ok()?;
    keyring::is_current_if_read(version, Envelope::peek_search_tag(value)).then(|| pg_sys::Datum::from(false))
}

/// `prism_crypt._reencrypt(value encrypted_text, keep boolean) → encrypted_text`: the value under the active key of its
/// keyset. One that can't be opened is kept if `keep` is true, and an error otherwise. A key may be disabled between
/// the choice of a row and its update; the rest of the batch should go on then.
#[pg_extern(sql = false)]
fn _reencrypt_value(value: Encrypted<'_>, keep: bool) -> SqlResult<EncryptedResult> {
    if keep {
        return Ok(EncryptedResult(reencrypt_or_keep(value.envelope(), value.bytes())?));
    }
    let envelope = value.envelope()?;
    Ok(EncryptedResult(keyring::reseal(&envelope, &envelope.attributes())?))
}

/// Decides by key version and search tag alone.
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

/// The value under the active key of its keyset, or unchanged if it can't be opened.
pub fn reencrypt_or_keep(envelope: Result<Envelope<'_>, Error>, bytes: &[u8]) -> Result<Varlena, Error> {
    match envelope.and_then(|envelope| keyring::reseal(&envelope, &envelope.attributes())) {
        Err(error) if error.is_about_the_value() => Varlena::copy_of(bytes),
        result => result,
    }
}

/// What is wrong with one value: empty if nothing is, `None` if it need not be rotated. A problem with the set-up is an error.
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
