//! PostgreSQL's parser refuses `ORDER BY` and `count(DISTINCT)` of an encrypted column. This gives the error a hint that helps.

use pgrx::pg_sys;
use std::ffi::CStr;

/// The untranslated message in PostgreSQL's source (`parse_oper.c`).
const MESSAGE: &CStr = c"could not identify an ordering operator for type %s";
const HINT: &CStr =
    c"Sort the plaintext: ORDER BY column::text, which opens every row. To count different values, \
                      count the rows of a SELECT DISTINCT.";

/// Replaces the hint if the error is about `encrypted_text`.
///
/// # Safety
/// `error` is an error that is about to be emitted; its fields are null or terminated strings. Nothing after this may write
/// to its hint.
pub unsafe fn explain(error: &mut pg_sys::ErrorData) {
    // SAFETY: as promised by the caller.
    unsafe {
        if error.message_id.is_null()
            || error.message.is_null()
            || CStr::from_ptr(error.message_id) != MESSAGE
        {
            return;
        }
        let message = CStr::from_ptr(error.message).to_bytes();
        if memchr::memmem::find(message, b"encrypted_text").is_some() {
            // PostgreSQL only reads the hint of an error that it emits, and drops all fields at once.
            error.hint = HINT.as_ptr().cast_mut();
        }
    }
}
