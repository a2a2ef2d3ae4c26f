//! Re-encryption under the active key, without a right to decrypt.

use crate::datatype::datum::{Bytea, ByteaResult, Encrypted, EncryptedResult, Front};
use crate::error::{Error, SqlResult};
use crate::keyring::{self, KeyState};
use crate::varlena::Varlena;
use pgrx::prelude::*;

/// `reencrypt_field(value encrypted_text) → encrypted_text`: seals a value anew under the active key of its keyset. Class
/// and context stay as they are; the context need not be known.
#[pg_extern(sql = false)]
fn reencrypt_field(value: Encrypted<'_>) -> SqlResult<EncryptedResult> {
    let envelope = value.envelope()?;
    Ok(EncryptedResult(keyring::reseal(&envelope, envelope.attributes())?))
}

/// `reencrypt_bytes(value bytea) → bytea`, likewise.
#[pg_extern(sql = false)]
fn reencrypt_bytes(value: Bytea<'_>) -> SqlResult<ByteaResult> {
    let envelope = value.envelope()?;
    Ok(ByteaResult(keyring::reseal(&envelope, envelope.attributes())?))
}

/// `prism_crypt._needs_rotation(value encrypted_text) → boolean`: whether its key is not the active one of its keyset, or
/// can't be told. Needs no master key.
#[pg_extern(sql = false)]
fn _needs_rotation(front: Front<'_>) -> SqlResult<bool> {
    match front.key_version() {
        Ok(version) => Ok(keyring::state_of(version)? != Some(KeyState::Active)),
        Err(_) => Ok(true),
    }
}

/// `prism_crypt._is_rotatable(value encrypted_text) → boolean`: whether it needs rotation and can be opened.
#[pg_extern(sql = false)]
fn _is_rotatable(value: Encrypted<'_>) -> SqlResult<bool> {
    // A damaged value is reported at the end, and must not end the walk.
    let Ok(envelope) = value.envelope() else { return Ok(false) };
    let is_active = keyring::state_of(envelope.key_version())? == Some(KeyState::Active);
    Ok(!is_active && rotation_error(value)?.is_none())
}

/// `prism_crypt._reencrypt_or_keep(value encrypted_text) → encrypted_text`: a key may be disabled between the choice of a
/// row and its update. Such a value stays as it is, and the rest of the batch goes on.
#[pg_extern(sql = false)]
fn _reencrypt_or_keep(value: Encrypted<'_>) -> SqlResult<EncryptedResult> {
    match value.envelope().and_then(|envelope| keyring::reseal(&envelope, envelope.attributes())) {
        Ok(resealed) => Ok(EncryptedResult(resealed)),
        Err(error) if error.is_about_the_value() => Ok(EncryptedResult(Varlena::copy_of(value.bytes())?)),
        Err(error) => Err(error.into()),
    }
}

/// `prism_crypt._rotation_error(value encrypted_text) → text`: why a value can't be re-encrypted, with its key
/// version; null when it can.
#[pg_extern(sql = false)]
fn _rotation_error(value: Encrypted<'_>) -> SqlResult<Option<String>> {
    Ok(rotation_error(value)?)
}

/// What is wrong with one value. What is wrong with the set-up is an error.
fn rotation_error(value: Encrypted<'_>) -> Result<Option<String>, Error> {
    let envelope = match value.envelope() {
        Ok(envelope) => envelope,
        Err(error) => return Ok(Some(error.to_string())),
    };
    match keyring::check(&envelope) {
        Ok(()) => Ok(None),
        Err(error) if error.is_about_the_value() => {
            Ok(Some(format!("Key version {}: {error}", envelope.key_version())))
        }
        Err(error) => Err(error),
    }
}

/// `prism_crypt._require_no_transaction_block()`: raises 25001 where a procedure could not commit.
#[pg_extern(sql = false)]
fn _require_no_transaction_block() -> SqlResult<()> {
    // SAFETY: both only look at the state of this session; the SPI connection is the calling procedure's.
    let may_commit = unsafe { !pg_sys::IsTransactionBlock() && pg_sys::SPI_inside_nonatomic_context() };
    if may_commit { Ok(()) } else { Err(Error::TransactionBlock { what: "rotate_batch()" }.into()) }
}
