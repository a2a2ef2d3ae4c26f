//! The hash functions of the operator class, for hash indexes, hash joins, grouping and hash partitions. Values and text hash
//! alike.

use super::compare::{is_analyzed, last_tag, tag_of_text};
use crate::datum::{Stored, Text};
use crate::error::{Error, SqlResult};
use crate::privilege::require_search;
use pgrx::prelude::*;
use prism_envelope::SearchTag;

unsafe extern "C" {
    // common/hashfn.h: pure functions that pgrx does not bind.
    fn hash_bytes(bytes: *const u8, length: i32) -> u32;
    fn hash_bytes_extended(bytes: *const u8, length: i32, seed: u64) -> u64;
}

/// `encrypted_text_hash(encrypted_text) → integer`
#[pg_extern(sql = false)]
fn encrypted_text_hash(value: Stored<'_>, fcinfo: pg_sys::FunctionCallInfo) -> SqlResult<i32> {
    if is_analyzed(fcinfo) {
        return Ok(value.search_tag().map_or_else(|| hash_of(value.front()), |tag| hash(&tag)));
    }
    require_right(&value, fcinfo)?;
    Ok(hash(&last_tag(&value)?))
}

/// `encrypted_text_hash(encrypted_text, bigint) → bigint`
#[pg_extern(sql = false)]
fn encrypted_text_hash_extended(
    value: Stored<'_>,
    seed: i64,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<i64> {
    require_right(&value, fcinfo)?;
    Ok(hash_extended(&last_tag(&value)?, seed))
}

/// `encrypted_text_hash_text(text) → integer`
#[pg_extern(sql = false)]
fn encrypted_text_hash_text(text: Text<'_>, fcinfo: pg_sys::FunctionCallInfo) -> SqlResult<i32> {
    require_search(fcinfo)?;
    Ok(hash(&tag_of_text(text)?))
}

/// `encrypted_text_hash_text(text, bigint) → bigint`
#[pg_extern(sql = false)]
fn encrypted_text_hash_text_extended(
    text: Text<'_>,
    seed: i64,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<i64> {
    require_search(fcinfo)?;
    Ok(hash_extended(&tag_of_text(text)?, seed))
}

/// The hash of a tag.
pub fn hash(tag: &SearchTag) -> i32 {
    hash_of(tag.hash())
}

fn hash_of(bytes: &[u8]) -> i32 {
    // SAFETY: reads as many bytes as there are.
    unsafe { hash_bytes(bytes.as_ptr(), bytes.len() as i32) }.cast_signed()
}

/// With a seed of 0, the low 32 bits are those of [`hash`], as PostgreSQL requires.
fn hash_extended(tag: &SearchTag, seed: i64) -> i64 {
    // SAFETY: reads as many bytes as the hash has.
    unsafe { hash_bytes_extended(tag.hash().as_ptr(), SearchTag::HASH_LEN as i32, seed.cast_unsigned()) }
        .cast_signed()
}

/// Opening a value to hash it requires the right to search, because the hash would confirm a guess: anybody may call
/// `hash_array()` and `hash_record()`. A tag reveals no more than the ciphertext shows.
#[inline]
fn require_right(value: &Stored<'_>, fcinfo: pg_sys::FunctionCallInfo) -> Result<(), Error> {
    if value.search_tag().is_some() { Ok(()) } else { require_search(fcinfo) }
}
