//! `decrypt_field`, `try_decrypt_field` and `decrypt_bytes`.

use super::encrypt::context_hash;
use crate::datatype::reading::open_text;
use crate::datum::{Bytea, ByteaResult, Encrypted, Text, TextResult};
use crate::error::SqlResult;
use crate::keyring;
use crate::privilege::require_execute;
use pgrx::prelude::*;

/// `decrypt_field(value encrypted_text, context text) → text`. A null value gives null.
#[pg_extern(sql = false)]
fn decrypt_field(
    value: Option<Encrypted<'_>>,
    context: Option<Text<'_>>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<Option<TextResult>> {
    let Some(value) = value else { return Ok(None) };
    require_execute(fcinfo)?;
    let context = context_hash(context)?;
    Ok(Some(TextResult(open_text(value.envelope()?, context.as_ref())?)))
}

/// `try_decrypt_field(value encrypted_text, context text) → text`: also gives null if this value can't be read. Setup errors,
/// such as a missing master key, are still raised.
#[pg_extern(sql = false)]
fn try_decrypt_field(
    value: Option<Encrypted<'_>>,
    context: Option<Text<'_>>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<Option<TextResult>> {
    let Some(value) = value else { return Ok(None) };
    require_execute(fcinfo)?;
    let context = context_hash(context)?;
    match value.envelope().and_then(|envelope| open_text(envelope, context.as_ref())) {
        Ok(text) => Ok(Some(TextResult(text))),
        Err(error) if error.is_about_the_value() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// `decrypt_bytes(value bytea, context text) → bytea`. Decrypts a result of `encrypt_bytes`. A null value gives null.
#[pg_extern(sql = false)]
fn decrypt_bytes(
    value: Option<Bytea<'_>>,
    context: Option<Text<'_>>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<Option<ByteaResult>> {
    let Some(value) = value else { return Ok(None) };
    require_execute(fcinfo)?;
    let context = context_hash(context)?;
    Ok(Some(ByteaResult(keyring::open(&value.envelope()?, context.as_ref())?)))
}
