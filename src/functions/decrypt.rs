//! `decrypt_field`, `try_decrypt_field` and `decrypt_bytes`.

use super::encrypt::context_hash;
use crate::bare_call::{argument, is_null, sql_function};
use crate::datatype::reading::{open_text, opened_if_ready};
use crate::datum::{Bytea, ByteaResult, Encrypted, Text, TextResult};
use crate::error::SqlResult;
use crate::keyring;
use crate::privilege::{is_known_to_execute, require_execute};
use pgrx::prelude::*;

sql_function!(
    decrypt_field_wrapper,
    pg_finfo_decrypt_field_wrapper,
    text_if_ready,
    decrypt_any_field_wrapper
);

/// The usual case of [`decrypt_any_field`]: an inline value without a context, for a role that is known to have the right.
///
/// # Safety
/// A call with two arguments, the first of type `encrypted_text`.
#[inline(always)]
unsafe fn text_if_ready(fcinfo: pg_sys::FunctionCallInfo) -> Option<pg_sys::Datum> {
    // SAFETY: as promised by the caller. The argument is not null where it is read.
    let value = unsafe {
        if is_null(fcinfo, 0) || !is_null(fcinfo, 1) {
            return None;
        }
        argument(fcinfo, 0)?
    };
    if is_known_to_execute(fcinfo) { opened_if_ready(value).map(|text| text.datum()) } else { None }
}

/// `decrypt_field(value encrypted_text, context text) → text`. A null value gives null.
#[pg_extern(sql = false)]
fn decrypt_any_field(
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
