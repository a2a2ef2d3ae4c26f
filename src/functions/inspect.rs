//! What a value says of itself without any key.

use crate::datatype::datum::{Bytea, Encrypted, Front};
use crate::datatype::typmod;
use crate::error::{Error, SqlResult};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use prism_envelope::{Content, Envelope, FORMAT_V1, SearchTag};

/// `key_version(encrypted_text) → integer`. Fetches only the front of a value that is stored out of line.
#[pg_extern(sql = false)]
fn encrypted_text_key_version(front: Front<'_>) -> SqlResult<i32> {
    Ok(front.key_version().map_err(Error::StoredValue)?.get().cast_signed())
}

/// `key_version(bytea) → integer`, for what `encrypt_bytes` gives.
#[pg_extern(sql = false)]
fn bytea_key_version(front: Front<'_>) -> SqlResult<i32> {
    Ok(front.key_version().map_err(Error::NotAnEnvelope)?.get().cast_signed())
}

type Info = (i32, i32, Option<&'static str>, bool, bool, Option<i32>, i32, i32);

/// `envelope_info(encrypted_text)`: the header, one row.
#[pg_extern(sql = false)]
fn encrypted_text_envelope_info(
    value: Encrypted<'_>,
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
    Ok(TableIterator::once(info(&value.envelope()?, value.bytes().len())))
}

/// `envelope_info(bytea)`, for what `encrypt_bytes` gives.
#[pg_extern(sql = false)]
fn bytea_envelope_info(
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
    Ok(TableIterator::once(info(&value.envelope()?, value.0.bytes().len())))
}

fn info(envelope: &Envelope<'_>, envelope_len: usize) -> Info {
    let attributes = envelope.attributes();
    (
        FORMAT_V1.into(),
        envelope.key_version().get().cast_signed(),
        attributes.class.name(),
        attributes.content == Content::Bytes,
        attributes.context.is_some(),
        attributes.search_tag.as_ref().map(SearchTag::generation).map(i32::from),
        envelope.plaintext_len() as i32,
        envelope_len as i32,
    )
}

/// `prism_crypt.class_name(integer) → text`: the class that a type modifier (`pg_attribute.atttypmod`) asks for.
#[pg_extern(sql = false)]
fn class_name(typmod: i32) -> Option<&'static str> {
    typmod::class_of(typmod).and_then(prism_envelope::FieldClass::name)
}
