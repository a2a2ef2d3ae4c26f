//! Re-encryption under the active key, without a right to decrypt.

use crate::datum::{Bytea, ByteaResult, Encrypted, EncryptedResult};
use crate::error::SqlResult;
use crate::keyring;
use crate::privilege::require_execute;
use pgrx::prelude::*;

/// `reencrypt_field(value encrypted_text) → encrypted_text`: seals a value again under the active key of its keyset. Keeps class
/// and context; the caller need not know the context.
#[pg_extern(sql = false)]
fn reencrypt_field(value: Encrypted<'_>, fcinfo: pg_sys::FunctionCallInfo) -> SqlResult<EncryptedResult> {
    require_execute(fcinfo)?;
    let envelope = value.envelope()?;
    Ok(EncryptedResult(keyring::reseal(&envelope, &envelope.attributes())?))
}

/// `reencrypt_bytes(value bytea) → bytea`, like [`reencrypt_field`].
#[pg_extern(sql = false)]
fn reencrypt_bytes(value: Bytea<'_>, fcinfo: pg_sys::FunctionCallInfo) -> SqlResult<ByteaResult> {
    require_execute(fcinfo)?;
    let envelope = value.envelope()?;
    Ok(ByteaResult(keyring::reseal(&envelope, &envelope.attributes())?))
}
