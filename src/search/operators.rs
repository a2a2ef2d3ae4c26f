//! `=` and `<>`. All are strict and stable: they need keys where a value has no search tag.

use super::compare::{self, are_equal, is_text};
use crate::datatype::datum::{Stored, Text};
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
    if is_analyzed(fcinfo) {
        return Ok(compare::are_known_to_be_equal(&left, &right));
    }
    require_search(fcinfo)?;
    Ok(are_equal(&left, &right)?)
}

/// `encrypted_text_ne(encrypted_text, encrypted_text) → boolean`
#[pg_extern(sql = false)]
fn encrypted_text_ne(
    left: Stored<'_>,
    right: Stored<'_>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> SqlResult<bool> {
    require_search(fcinfo)?;
    Ok(!are_equal(&left, &right)?)
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

/// Whether ANALYZE compares arrays or rows that hold values. It must need neither keys nor rights, or autovacuum would fail
/// for ever; and nothing that it calls may tell more than the search tags do.
fn is_analyzed(fcinfo: pg_sys::FunctionCallInfo) -> bool {
    // SAFETY: PostgreSQL passes a valid call. What this process is doing is null or shown in its own entry, unless
    // track_activities is off; PostgreSQL keeps that right also where the command fails.
    unsafe {
        let function = (*fcinfo).flinfo;
        let is_element = !function.is_null() && (*function).fn_expr.is_null();
        let entry = pg_sys::MyBEEntry;
        let analyze = pg_sys::ProgressCommandType::PROGRESS_COMMAND_ANALYZE;
        is_element
            && (pg_sys::MyBackendType == pg_sys::BackendType::B_AUTOVAC_WORKER
                || !entry.is_null() && (*entry).st_progress_command == analyze)
    }
}

/// `prism_crypt._same_text(text, text) → boolean`: the same bytes. `=` of text depends on collations, and must not be in an
/// operator family of ours.
#[pg_extern(sql = false)]
fn _same_text(left: Text<'_>, right: Text<'_>) -> bool {
    left.0.bytes() == right.0.bytes()
}
