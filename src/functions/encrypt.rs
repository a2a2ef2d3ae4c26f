//! `encrypt_field` and `encrypt_bytes`.

use crate::bare_call::{argument, is_null, sql_function};
use crate::datatype::{encoding, typmod};
use crate::datum::{Bytea, ByteaResult, EncryptedResult, Text};
use crate::error::{Error, SqlResult};
use crate::keyring;
use crate::privilege::{is_known_to_execute, require_execute};
use pgrx::prelude::*;
use prism_envelope::{Attributes, Content, ContextHash, FieldClass};

sql_function!(
    encrypt_field_wrapper,
    pg_finfo_encrypt_field_wrapper,
    sealed_if_ready,
    encrypt_any_field_wrapper
);

/// The usual case of [`encrypt_any_field`]: an inline text and nothing else, for a role that is known to have the right.
///
/// # Safety
/// A call with four arguments, the first of them a text.
#[inline(always)]
unsafe fn sealed_if_ready(fcinfo: pg_sys::FunctionCallInfo) -> Option<pg_sys::Datum> {
    // SAFETY: as promised by the caller. The first argument is not null where it is read.
    let plaintext = unsafe {
        let only_first = !is_null(fcinfo, 0) && (1..4).all(|index| is_null(fcinfo, index));
        if only_first { argument(fcinfo, 0)? } else { return None }
    };
    if !encoding::server_is_utf8() || !is_known_to_execute(fcinfo) {
        return None;
    }
    keyring::seal_if_ready(&Attributes::default(), plaintext).map(|sealed| sealed.datum())
}

/// `encrypt_field(plaintext text, context text, keyset text, class text) → encrypted_text`. A null plaintext gives null;
/// the other arguments may be null. Volatile: each call gives a different ciphertext.
#[pg_extern(sql = false)]
fn encrypt_any_field(
    plaintext: Option<Text<'_>>,
    context: Option<Text<'_>>,
    keyset: Option<&str>,
    class: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<Option<EncryptedResult>> {
    require_execute(fcinfo)?;
    let Some(plaintext) = plaintext else { return Ok(None) };
    let attributes = attributes(Content::Text, context, class)?;
    let sealed = encoding::with_utf8(plaintext.0.bytes(), |text| keyring::seal(keyset, &attributes, text))?;
    Ok(Some(EncryptedResult(sealed)))
}

/// `encrypt_bytes(plaintext bytea, context text, keyset text, class text) → bytea`, like [`encrypt_field`].
#[pg_extern(sql = false)]
fn encrypt_bytes(
    plaintext: Option<Bytea<'_>>,
    context: Option<Text<'_>>,
    keyset: Option<&str>,
    class: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<Option<ByteaResult>> {
    require_execute(fcinfo)?;
    let Some(plaintext) = plaintext else { return Ok(None) };
    let attributes = attributes(Content::Bytes, context, class)?;
    Ok(Some(ByteaResult(keyring::seal(keyset, &attributes, plaintext.0.bytes())?)))
}

/// The hash of a context; `None` for null. An empty context is still a context.
pub fn context_hash(context: Option<Text<'_>>) -> Result<Option<ContextHash>, Error> {
    context
        .map(|context| encoding::with_utf8(context.0.bytes(), |context| Ok(ContextHash::of(context))))
        .transpose()
}

fn attributes(content: Content, context: Option<Text<'_>>, class: Option<&str>) -> Result<Attributes, Error> {
    Ok(Attributes {
        content,
        class: class.map_or(Ok(FieldClass::None), typmod::class_named)?,
        context: context_hash(context)?,
        search_tag: None,
    })
}
