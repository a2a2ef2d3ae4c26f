//! Casts. From text: encrypts, and never loads. To text: decrypts, and needs that privilege. To the type itself: applies the
//! type modifier.

use crate::bare_call::{argument, sql_function};
use crate::datatype::reading::{open_without_context, opened_if_ready};
use crate::datatype::typmod::{self, Modifier};
use crate::datatype::{load, text_io, unseen_change};
use crate::datum::{Bytea, ByteaResult, Encrypted, EncryptedResult, Text, TextResult};
use crate::error::{Error, SqlResult};
use crate::keyring::{self, search_tags};
use crate::privilege;
use crate::varlena::Varlena;
use pgrx::prelude::*;
use prism_envelope::{Attributes, FieldClass, SearchTag, armor};

sql_function!(
    text_to_encrypted_text_wrapper,
    pg_finfo_text_to_encrypted_text_wrapper,
    sealed_if_ready,
    any_text_to_encrypted_text_wrapper
);
sql_function!(
    encrypted_text_to_text_wrapper,
    pg_finfo_encrypted_text_to_text_wrapper,
    text_if_ready,
    any_encrypted_text_to_text_wrapper
);

/// The usual case of [`any_text_to_encrypted_text`]: an inline plaintext, for a role that is known to have the right.
///
/// # Safety
/// A call of this strict cast.
#[inline(always)]
unsafe fn sealed_if_ready(fcinfo: pg_sys::FunctionCallInfo) -> Option<pg_sys::Datum> {
    // SAFETY: as promised by the caller: the second argument is an integer.
    let (text, typmod) = unsafe {
        let arguments = (*fcinfo).args.as_ptr();
        (argument(fcinfo, 0)?, (*arguments.add(1)).value.value() as i32)
    };
    let sealed = if armor::is_armored(text) { None } else { text_io::seal_text_if_ready(text, typmod) };
    sealed.map(|sealed| sealed.datum())
}

/// The usual case of [`any_encrypted_text_to_text`]: an inline value, for a role that is known to have the right.
///
/// # Safety
/// A call of this strict cast.
#[inline(always)]
unsafe fn text_if_ready(fcinfo: pg_sys::FunctionCallInfo) -> Option<pg_sys::Datum> {
    // SAFETY: as promised by the caller.
    let value = unsafe { argument(fcinfo, 0)? };
    let may = !unseen_change::may_be_running() && privilege::is_known_to_execute(fcinfo);
    if may { opened_if_ready(value).map(|text| text.datum()) } else { None }
}

/// `encrypted_text(text, integer, boolean) → encrypted_text`: encrypts a text; refuses the text form of an envelope.
#[pg_extern(sql = false)]
fn any_text_to_encrypted_text(
    plaintext: Text<'_>,
    typmod: i32,
    _explicit: bool,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<EncryptedResult> {
    Ok(EncryptedResult(text_io::seal_cast(plaintext.0.bytes(), typmod, fcinfo)?))
}

/// `encrypted_text(character, integer, boolean) → encrypted_text`: the same, without the padding, as when PostgreSQL converts
/// `character` to `text`.
#[pg_extern(sql = false)]
fn character_to_encrypted_text(
    plaintext: Text<'_>,
    typmod: i32,
    _explicit: bool,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<EncryptedResult> {
    Ok(EncryptedResult(text_io::seal_cast(without_padding(plaintext.0.bytes()), typmod, fcinfo)?))
}

/// In every server encoding, a blank is one byte that is not part of any other character.
pub fn without_padding(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    &text[..end]
}

/// `encrypted_text(encrypted_text, integer, boolean) → encrypted_text`: gives a value without a class the class of the column,
/// and adds or removes the search tag as the column is searchable or not; then seals it again. A value that already fits is
/// unchanged; one of another class is refused.
#[pg_extern(sql = false)]
fn apply_encrypted_text_typmod(
    value: Encrypted<'_>,
    typmod: i32,
    _explicit: bool,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<EncryptedResult> {
    Ok(EncryptedResult(apply(value, typmod, fcinfo)?))
}

fn apply(value: Encrypted<'_>, typmod: i32, fcinfo: pg_sys::FunctionCallInfo) -> Result<Varlena, Error> {
    let envelope = value.envelope()?;
    let found = envelope.attributes();
    let Some(Modifier { class, is_searchable }) = Modifier::of(typmod) else {
        return Varlena::copy_of(value.bytes());
    };
    if class != FieldClass::None && found.class != FieldClass::None && found.class != class {
        return Err(Error::ClassMismatch {
            found: typmod::class_name(found.class),
            expected: typmod::class_name(class),
        });
    }
    let search_tag = match found.search_tag {
        _ if !is_searchable => None,
        Some(tag) if !search_tags::is_outdated(envelope.key_version(), tag)? => Some(tag),
        _ => {
            privilege::require_search(fcinfo)?;
            Some(SearchTag::UNMADE)
        }
    };
    let class = if class == FieldClass::None { found.class } else { class };
    let wanted = Attributes { class, search_tag, ..found };
    if wanted == found {
        return Varlena::copy_of(value.bytes());
    }
    keyring::reseal(&envelope, &wanted)
}

/// `text(encrypted_text) → text`: the implicit cast.
#[pg_extern(sql = false)]
fn any_encrypted_text_to_text(
    value: Encrypted<'_>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<TextResult> {
    unseen_change::check(fcinfo)?;
    privilege::require_execute(fcinfo)?;
    Ok(TextResult(open_without_context(value.envelope()?)?))
}

/// `encrypted_text(bytea, integer, boolean) → encrypted_text`: loads an envelope, if the role may load.
#[pg_extern(sql = false)]
fn bytea_to_encrypted_text(
    envelope: Bytea<'_>,
    typmod: i32,
    _explicit: bool,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<EncryptedResult> {
    Ok(EncryptedResult(load::load_binary(envelope.0.bytes(), typmod, fcinfo)?))
}

/// `bytea(encrypted_text) → bytea`: the envelope.
#[pg_extern(sql = false)]
fn encrypted_text_to_bytea(value: Encrypted<'_>) -> SqlResult<ByteaResult> {
    Ok(ByteaResult(Varlena::copy_of(value.bytes())?))
}
