//! Warnings, to the client and the log.

use crate::sqlstate::sqlstate;
use pgrx::{PgLogLevel, pg_sys};
use std::ffi::{c_char, c_int};
use std::ptr::null_mut;

/// Reports a warning. PostgreSQL then checks for a cancel and may raise it. That leaves here as a panic, as from any other
/// pgrx binding. (`ErrorReport::report` would let it jump over whatever the callers hold.)
pub fn warn(message: &str, detail: Option<&str>, hint: Option<&str>) {
    let copy = |text: Option<&str>| text.map_or(null_mut(), postgres_string);
    let mut warning = pg_sys::ErrorData {
        elevel: PgLogLevel::WARNING as c_int,
        sqlerrcode: sqlstate(*b"01000"),
        filename: c"warning.rs".as_ptr(),
        lineno: line!().cast_signed(),
        funcname: c"prism_crypt".as_ptr(),
        message: postgres_string(message),
        detail: copy(detail),
        hint: copy(hint),
        ..Default::default()
    };
    // SAFETY: every field is set or zero, and the texts are terminated. PostgreSQL copies them.
    unsafe { pg_sys::ThrowErrorData(&mut warning) }
}

/// A null-terminated copy in the current memory context. `text` contains no zero byte.
pub fn postgres_string(text: &str) -> *mut c_char {
    // SAFETY: reads at most `text.len()` bytes.
    unsafe { pg_sys::pnstrdup(text.as_ptr().cast(), text.len()) }
}
