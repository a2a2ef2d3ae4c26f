//! What a value reveals without a key. Each function serves `encrypted_text` and `bytea`: both hold one envelope.

use crate::datatype::typmod;
use crate::datum::{Bytea, Front};
use crate::error::{Error, SqlResult};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use prism_envelope::{Content, FORMAT_V1, FieldClass, SearchTag};

/// `key_version(encrypted_text | bytea) → integer`. Fetches only the front of a value that is stored out of line.
#[pg_extern(sql = false)]
fn key_version(front: Front<'_>) -> SqlResult<i32> {
    Ok(front.key_version().map_err(Error::NotAnEnvelope)?.get().cast_signed())
}

/// `envelope_info(encrypted_text | bytea)`: the header, as one row.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "pgrx reads it, and sees through no alias")]
fn envelope_info(
    value: Bytea<'_>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(format, i32),
            name!(key_version, i32),
            name!(class, Option<&'static str>),
            name!(binary, bool),
            name!(has_context, bool),
            name!(search_generation, Option<i32>),
            name!(plaintext_bytes, i32),
            name!(envelope_bytes, i32),
        ),
    >,
    ErrorReport,
> {
    let envelope = value.envelope()?;
    let attributes = envelope.attributes();
    Ok(TableIterator::once((
        FORMAT_V1.into(),
        envelope.key_version().get().cast_signed(),
        attributes.class.name(),
        attributes.content == Content::Bytes,
        attributes.context.is_some(),
        attributes.search_tag.as_ref().map(SearchTag::generation).map(i32::from),
        envelope.plaintext_len() as i32,
        value.0.bytes().len() as i32,
    )))
}

/// `prism_crypt.class_name(integer) → text`: the class that a type modifier (`pg_attribute.atttypmod`) asks for.
#[pg_extern(sql = false)]
fn class_name(typmod: i32) -> Option<&'static str> {
    typmod::class_of(typmod).and_then(FieldClass::name)
}
