//! Warnings, to the client and the log.

use crate::sqlstate::sqlstate;
use pgrx::{PgLogLevel, pg_sys};
use std::ffi::{c_char, c_int};
use std::ptr::null_mut;

/// Reports a warning. PostgreSQL then checks for a cancel and may raise it. That leaves here as a panic, as from any other
/// pgrx binding. (`ErrorReport::report` would let it jump over whatever the callers hold.)
pub fn warn(message: &str, detail: Option<&str>, hint: Option<&str>) {
    report(PgLogLevel::WARNING, *b"01000", message.as_bytes(), detail, hint);
}

/// Writes a line, in the server's encoding, to the server log, in the same way.
pub fn log(message: &[u8]) {
    report(PgLogLevel::LOG_SERVER_ONLY, *b"00000", message, None, None);
}

fn report(level: PgLogLevel, code: [u8; 5], message: &[u8], detail: Option<&str>, hint: Option<&str>) {
    let copy = |text: Option<&str>| text.map_or(null_mut(), |text| copy_of(text.as_bytes()));
    let mut warning = pg_sys::ErrorData {
        elevel: level as c_int,
        sqlerrcode: sqlstate(code),
        filename: c"warning.rs".as_ptr(),
        lineno: line!().cast_signed(),
        funcname: c"prism_crypt".as_ptr(),
        message: copy_of(message),
        detail: copy(detail),
        hint: copy(hint),
        ..Default::default()
    };
    // SAFETY: every field is set or zero, and the texts are terminated. PostgreSQL copies them.
    unsafe { pg_sys::ThrowErrorData(&mut warning) }
}

/// A null-terminated copy in the current memory context. `text` contains no zero byte.
pub fn postgres_string(text: &str) -> *mut c_char {
    copy_of(text.as_bytes())
}

fn copy_of(text: &[u8]) -> *mut c_char {
    // SAFETY: reads at most `text.len()` bytes.
    unsafe { pg_sys::pnstrdup(text.as_ptr().cast(), text.len()) }
}
