//! Withholds keys and plaintext from messages, on their way to the server log and to the client.
//!
//! PostgreSQL logs statements before any of them runs (`log_statement`), so this is the only place that sees them all.
//! Fields are overwritten where they stand: they are private copies of the message, and nothing has to be allocated
//! while an error is under way.

use super::names_master_key;
use super::statement::{self, copies_into_encrypted_column};
use crate::settings::{self, Output};
use pgrx::{PgLogLevel, pg_sys};
use std::cell::Cell;
use std::ffi::{CStr, c_char};

const WITHHELD: &[u8] = b"withheld by prism_crypt";
/// SQLSTATE class 23, integrity constraint violation, in the packing of `MAKE_SQLSTATE`: the first two characters, six
/// bits each.
const CONSTRAINT_VIOLATION: i32 = ((b'2' - b'0') as i32) | (((b'3' - b'0') as i32) << 6);

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
        withhold_rows(&mut *error);
        if let Some(next) = NEXT.get() {
            next(error);
        }
    }
}

/// # Safety
/// The fields of `error` are null or terminated strings in memory that the message owns.
unsafe fn withhold_keys(error: &mut pg_sys::ErrorData) {
    let key = settings::inline_master_key().map(CStr::to_bytes);
    let is_secret = |text: &[u8]| names_master_key(text) || key.is_some_and(|key| contains(text, key));
    // SAFETY: as promised by the caller; debug_query_string is null or a terminated string.
    unsafe {
        let statement = pg_sys::debug_query_string;
        let in_statement = !statement.is_null() && is_secret(CStr::from_ptr(statement).to_bytes());
        error.hide_stmt |= in_statement;
        let about_keys = |field: *mut c_char| !field.is_null() && is_secret(CStr::from_ptr(field).to_bytes());
        // The message of an error names the setting and never its value; that of a logged statement has the statement.
        if about_keys(error.message) && error.elevel <= PgLogLevel::LOG as i32 {
            overwrite(error.message, 0);
        }
        // Bind parameters stand in the detail of a message whose statement names the setting.
        let everywhere = in_statement && error.elevel <= PgLogLevel::LOG as i32;
        for field in [error.detail, error.detail_log, error.context, error.internalquery] {
            if about_keys(field) || (everywhere && !field.is_null()) {
                overwrite(field, 0);
            }
        }
    }
}

/// # Safety
/// As for [`withhold_keys`].
unsafe fn withhold_rows(error: &mut pg_sys::ErrorData) {
    // SAFETY: as promised by the caller.
    unsafe {
        if settings::output() != Output::Ciphertext && error.sqlerrcode & 0xfff == CONSTRAINT_VIOLATION {
            for field in [error.detail, error.detail_log] {
                if !field.is_null() {
                    overwrite(field, 0);
                }
            }
        }
        if copies_into_encrypted_column() && !error.context.is_null() {
            let context = CStr::from_ptr(error.context).to_bytes();
            if let Some(start) = input_in_copy_context(context) {
                overwrite(error.context, start);
            }
        }
        if error.elevel >= PgLogLevel::ERROR as i32 {
            statement::reported();
        }
    }
}

/// Where the input begins in `COPY patients, line 3, column ssn: "078-05-1120"`: the place may be told, the input may not.
/// Every language of PostgreSQL has a colon there; a binary COPY shows no input and has none.
fn input_in_copy_context(context: &[u8]) -> Option<usize> {
    if !contains(context, b"COPY") {
        return None;
    }
    let quoted = context.windows(3).position(|window| window == b": \"").map(|at| at + 2);
    quoted.or_else(|| context.iter().position(|byte| *byte == b':').map(|at| at + 1))
}

/// Overwrites a string from byte `start` on with as much of a fixed text as fits.
///
/// # Safety
/// `field` is a terminated string in writable memory, and `start` is not behind its end.
unsafe fn overwrite(field: *mut c_char, start: usize) {
    // SAFETY: writes only between `start` and the terminator.
    unsafe {
        let rest = field.add(start).cast::<u8>();
        let length = CStr::from_ptr(rest.cast()).count_bytes();
        let kept = WITHHELD.len().min(length);
        std::ptr::write_bytes(rest, 0, length);
        std::ptr::copy_nonoverlapping(WITHHELD.as_ptr(), rest, kept);
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
