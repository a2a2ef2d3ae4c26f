//! Withholds keys and plaintext from messages, on their way to the server log and to the client.
//!
//! PostgreSQL logs statements before any of them runs (`log_statement`), so this is the only place that sees them all.
//! Fields are overwritten where they stand: they are private copies of the message, and nothing has to be allocated
//! while an error is under way.

use super::redact::{self, cut_from, edit, overwrite};
use super::{asked, copy, level, naming, ordering};
use crate::settings;
use crate::sqlstate::{is_of_class, sqlstate};
use pgrx::{PgLogLevel, pg_sys};
use std::cell::Cell;
use std::ffi::{CStr, c_char};

/// Classes and codes of errors in whose detail PostgreSQL describes a row.
const INTEGRITY_CONSTRAINT_VIOLATION: i32 = sqlstate(*b"23000");
const WITH_CHECK_OPTION_VIOLATION: i32 = sqlstate(*b"44000");

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
        copy::withhold(&mut *error);
        withhold_shown_plaintext(&mut *error);
        if (*error).elevel >= PgLogLevel::ERROR as i32 {
            ordering::explain(&mut *error);
        }
        if level::is_for_the_client_only(&*error) {
            (*error).output_to_server = false;
            return;
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
    // SAFETY: as promised by the caller.
    unsafe {
        let is_secret = |text: *const c_char| {
            let text = if text.is_null() { &[] } else { CStr::from_ptr(text).to_bytes() };
            naming::find(text).is_some() || redact::holds_key(text, keys)
        };
        let in_statement = asked::is_secret();
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

/// Where the session's output shows plaintext: PostgreSQL puts rows into errors of constraints, and parameters into the
/// log, through the output functions.
///
/// # Safety
/// As for [`withhold_keys`].
unsafe fn withhold_shown_plaintext(error: &mut pg_sys::ErrorData) {
    if !settings::may_show_plaintext() {
        return;
    }
    // SAFETY: as promised by the caller.
    unsafe {
        if is_of_class(error.sqlerrcode, INTEGRITY_CONSTRAINT_VIOLATION)
            || error.sqlerrcode == WITH_CHECK_OPTION_VIOLATION
        {
            edit(error.detail, overwrite);
            edit(error.detail_log, overwrite);
        }
        for field in [error.detail, error.detail_log, error.context] {
            edit(field, |text| cut_from(text, b"$1 = "));
        }
    }
}
