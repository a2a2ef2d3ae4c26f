//! `encrypt_field` and `encrypt_bytes`.

use crate::datatype::{encoding, typmod};
use crate::datum::{Bytea, ByteaResult, EncryptedResult, Text};
use crate::error::{Error, SqlResult};
use crate::keyring;
use crate::privilege::require_execute;
use pgrx::prelude::*;
use prism_envelope::{Attributes, Content, ContextHash, FieldClass};

/// `encrypt_field(plaintext text, context text, keyset text, class text) → encrypted_text`. A null plaintext gives null;
/// the other arguments may be null. Volatile: each call gives a different ciphertext.
#[pg_extern(sql = false)]
fn encrypt_field(
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
