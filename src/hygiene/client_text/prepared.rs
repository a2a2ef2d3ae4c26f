//! The prepared statements of the session, and how its statements are written.

use crate::hygiene::lexer::Dialect;
use crate::hygiene::naming::{self, Mentions};
use pgrx::pg_sys;
use std::ffi::{CStr, CString, c_char};

unsafe extern "C-unwind" {
    // pgrx's own binding would set up an error boundary; this raises no error, and may be called while one is reported.
    #[allow(non_snake_case, reason = "the name is PostgreSQL's")]
    fn FetchPreparedStatement(name: *const c_char, throwError: bool) -> *mut pg_sys::PreparedStatement;
}

/// What this session's prepared statement of this name gives keys to.
pub fn prepared(name: &[u8]) -> Mentions {
    let Ok(name) = CString::new(&name[..name.len().min(pg_sys::NAMEDATALEN as usize - 1)]) else {
        return Mentions::default();
    };
    // SAFETY: looks a name up in a table of this session, without raising an error. The text lives as long as its
    // statement.
    unsafe {
        let statement = FetchPreparedStatement(name.as_ptr(), false);
        if statement.is_null() || (*statement).plansource.is_null() {
            return Mentions::default();
        }
        let text = (*(*statement).plansource).query_string;
        if text.is_null() {
            return Mentions::default();
        }
        naming::mentions(CStr::from_ptr(text).to_bytes(), dialect())
    }
}

/// How the statements of this session are written.
pub fn dialect() -> Dialect {
    // SAFETY: a global that only this process writes.
    Dialect { backslashes: unsafe { !pg_sys::standard_conforming_strings }, ..Dialect::default() }
}
