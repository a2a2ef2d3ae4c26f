//! `blind_index`: a keyed hash for a column of its own.

use crate::datatype::datum::Text;
use crate::datatype::encoding;
use crate::error::{Error, SqlResult};
use crate::keyring::search;
use pgrx::prelude::*;

/// `blind_index(value text, context text, bits integer) → bytea`: the first bits of a keyed hash of value and context under
/// the index key of the session's keyset. A null value gives null; no context is none, and an empty one is a context.
#[pg_extern(sql = false)]
fn blind_index(
    value: Option<Text<'_>>,
    context: Option<Text<'_>>,
    bits: Option<i32>,
) -> SqlResult<Option<Vec<u8>>> {
    let Some(value) = value else { return Ok(None) };
    let bits = bits.and_then(|bits| usize::try_from(bits).ok()).ok_or(Error::BlindIndexBits)?;
    let index = encoding::with_utf8(value.0.bytes(), |value| match context {
        None => search::blind_index(value, None, bits),
        Some(context) => {
            encoding::with_utf8(context.0.bytes(), |context| search::blind_index(value, Some(context), bits))
        }
    })?;
    Ok(Some(index))
}
