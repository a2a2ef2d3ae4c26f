//! Withholds keys and plaintext from messages, on their way to the server log and to the client.
//!
//! PostgreSQL logs statements before any of them runs (`log_statement`), so this is the only place that sees them all.
//! Fields are overwritten where they stand: they are private copies of the message, and nothing has to be allocated
//! while an error is under way.

use super::ordering;
use super::redact::{self, cut, cut_from, names_master_key, overwrite};
use super::statement::{self, copies_into_encrypted_column};
use crate::settings::{self, Output};
use pgrx::{PgLogLevel, pg_sys};
use std::cell::Cell;
use std::ffi::{CStr, c_char};

thread_local! {
    static NEXT: Cell<pg_sys::emit_log_hook_type> = const { Cell::new(None) };
}

pub fn init() {
    // SAFETY: set once, while the library is loaded.
    unsafe {
        NEXT.set(pg_sys::emit_log_hook);
        pg_sys::emit_log_hook = Some(withhold);
    }
}

/// Not guarded: nothing in it can panic or raise an error, and errors must not be raised while one is reported.
unsafe extern "C-unwind" fn withhold(error: *mut pg_sys::ErrorData) {
    // SAFETY: PostgreSQL passes the message that it is about to emit.
    unsafe {
        withhold_keys(&mut *error);
        withhold_copied_rows(&mut *error);
        withhold_shown_plaintext(&mut *error);
        if (*error).elevel >= PgLogLevel::ERROR as i32 {
            statement::reported();
            ordering::explain(&mut *error);
        }
        if let Some(next) = NEXT.get() {
            next(error);
        }
    }
}

/// Where the statement or any field names the key setting or holds a key.
///
/// # Safety
/// The fields of `error` are null or terminated strings in memory that the message owns.
unsafe fn withhold_keys(error: &mut pg_sys::ErrorData) {
    let keys = settings::inline_master_key().map_or(&[][..], CStr::to_bytes);
    let fields =
        [error.message, error.detail, error.detail_log, error.hint, error.context, error.internalquery];
    // SAFETY: as promised by the caller; debug_query_string is null or a terminated string.
    unsafe {
        let is_secret = |text: *const c_char| {
            let text = if text.is_null() { &[] } else { CStr::from_ptr(text).to_bytes() };
            names_master_key(text) || redact::holds_key(text, keys)
        };
        let in_statement = is_secret(pg_sys::debug_query_string);
        if !in_statement && !fields.iter().any(|field| is_secret(*field)) {
            return;
        }
        error.hide_stmt = true;
        if in_statement {
            // Also where it fails before the setting is looked at.
            settings::hide_activity();
        }
        for field in fields {
            // What is logged of a statement is the statement itself, or its parameters. A message about it says what is
            // wrong, and may quote it.
            let is_statement = error.elevel <= PgLogLevel::LOG as i32;
            edit(field, if is_statement { overwrite } else { redact::blank_long_words });
        }
    }
}

/// Where a COPY FROM fills an encrypted column. `COPY patients, line 3, column ssn: "078-05-1120"`: the place may be told,
/// the input may not, and neither may `invalid input syntax for type integer: "078-05-1120"`.
///
/// # Safety
/// As for [`withhold_keys`].
unsafe fn withhold_copied_rows(error: &mut pg_sys::ErrorData) {
    // SAFETY: as promised by the caller.
    unsafe {
        let is_copy =
            !error.context.is_null() && redact::contains(CStr::from_ptr(error.context).to_bytes(), b"COPY");
        if !is_copy || !copies_into_encrypted_column() {
            return;
        }
        for field in [error.message, error.detail, error.detail_log] {
            edit(field, |text| cut(text, redact::after_colon_and_quote));
        }
        edit(error.context, |text| cut(text, redact::input_in_copy_context));
    }
}

/// Where the session's output shows plaintext: PostgreSQL puts rows into errors of constraints, and parameters into the
/// log, through the output functions.
///
/// # Safety
/// As for [`withhold_keys`].
unsafe fn withhold_shown_plaintext(error: &mut pg_sys::ErrorData) {
    if settings::output() == Output::Ciphertext {
        return;
    }
    // SAFETY: as promised by the caller.
    unsafe {
        if redact::is_about_a_row(error.sqlerrcode) {
            edit(error.detail, overwrite);
            edit(error.detail_log, overwrite);
        }
        for field in [error.detail, error.detail_log, error.context] {
            edit(field, |text| cut_from(text, b"$1 = "));
        }
    }
}

/// Changes a field where it stands, at its length.
///
/// # Safety
/// `field` is null, or a terminated string in writable memory that nothing else refers to.
unsafe fn edit(field: *mut c_char, change: impl FnOnce(&mut [u8])) {
    if field.is_null() {
        return;
    }
    // SAFETY: as promised by the caller; the terminator stays out of it.
    unsafe {
        let length = CStr::from_ptr(field).count_bytes();
        change(std::slice::from_raw_parts_mut(field.cast(), length));
    }
}
