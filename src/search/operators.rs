//! `=` and `<>`. All are strict, and stable because they need keys and the right to search if a side has no search tag.

use super::compare::{are_equal, is_text};
use crate::datum::{Stored, Text};
use crate::error::SqlResult;
use crate::privilege::require_search;
use pgrx::prelude::*;

/// `encrypted_text_eq(encrypted_text, encrypted_text) → boolean`
#[pg_extern(sql = false)]
fn encrypted_text_eq(
    left: Stored<'_>,
    right: Stored<'_>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<bool> {
    Ok(are_equal(&left, &right, fcinfo)?)
}

/// `encrypted_text_ne(encrypted_text, encrypted_text) → boolean`
#[pg_extern(sql = false)]
fn encrypted_text_ne(
    left: Stored<'_>,
    right: Stored<'_>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<bool> {
    Ok(!are_equal(&left, &right, fcinfo)?)
}

/// `encrypted_text_eq(encrypted_text, text) → boolean`
#[pg_extern(sql = false)]
fn encrypted_text_eq_text(
    value: Stored<'_>,
    text: Text<'_>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<bool> {
    require_search(fcinfo)?;
    Ok(is_text(&value, text)?)
}

/// `encrypted_text_ne(encrypted_text, text) → boolean`
#[pg_extern(sql = false)]
fn encrypted_text_ne_text(
    value: Stored<'_>,
    text: Text<'_>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<bool> {
    require_search(fcinfo)?;
    Ok(!is_text(&value, text)?)
}

/// `encrypted_text_eq(text, encrypted_text) → boolean`
#[pg_extern(sql = false)]
fn text_eq_encrypted_text(
    text: Text<'_>,
    value: Stored<'_>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<bool> {
    require_search(fcinfo)?;
    Ok(is_text(&value, text)?)
}

/// `encrypted_text_ne(text, encrypted_text) → boolean`
#[pg_extern(sql = false)]
fn text_ne_encrypted_text(
    text: Text<'_>,
    value: Stored<'_>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<bool> {
    require_search(fcinfo)?;
    Ok(!is_text(&value, text)?)
}

/// `prism_crypt._same_text(text, text) → boolean`: the same bytes. The `=` of text depends on collations, and must not be in
/// one of our operator families.
#[pg_extern(sql = false)]
fn _same_text(left: Text<'_>, right: Text<'_>) -> bool {
    left.0.bytes() == right.0.bytes()
}
