//! What is withheld from a message about a COPY into encrypted columns: whatever may quote its input. The position stays:
//! `COPY patients, line 3, column ssn: withheld by prism_crypt`.

use super::redact::{self, cut, edit, overwrite};
use crate::sqlstate::{is_of_class, sqlstate};
use pgrx::pg_sys;
use std::ffi::{CStr, c_char};

const DATA_EXCEPTION: i32 = sqlstate(*b"22000");
const NOT_IN_REPERTOIRE: i32 = sqlstate(*b"22021");
const BAD_COPY_FILE_FORMAT: i32 = sqlstate(*b"22P04");
const UNTRANSLATABLE: i32 = sqlstate(*b"22P05");
/// Syntax errors and unknown names.
const SYNTAX_OR_NAME: i32 = sqlstate(*b"42000");
const XML: [i32; 4] = [sqlstate(*b"2200L"), sqlstate(*b"2200M"), sqlstate(*b"2200N"), sqlstate(*b"2200S")];

/// # Safety
/// The fields of `error` are null or terminated strings in memory that the message owns.
pub unsafe fn withhold(error: &mut pg_sys::ErrorData) {
    let is_about_input = is_about_input(error);
    // SAFETY: as promised by the caller.
    unsafe {
        match error.sqlerrcode {
            // Quotes the line that should be the header.
            BAD_COPY_FILE_FORMAT if begins(error.message_id, b"column name mismatch") => {
                edit(error.message, |text| cut(text, |text| redact::first_quoted(text).or(Some(0))));
            }
            NOT_IN_REPERTOIRE | UNTRANSLATABLE => {
                edit(error.message, |text| redact::cut_from(text, b"0x"));
            }
            _ if is_about_input => edit(error.message, |text| cut(text, redact::first_quoted)),
            _ => {}
        }
        for field in [error.message, error.detail, error.detail_log] {
            edit(field, |text| cut(text, redact::after_colon_and_quote));
        }
        for field in [error.detail, error.detail_log] {
            if XML.contains(&error.sqlerrcode) {
                edit(field, overwrite);
            } else if is_about_input {
                edit(field, |text| cut(text, redact::first_quoted));
            }
        }
        edit(error.context, |text| cut(text, if is_about_input { redact::first_quoted } else { in_context }));
        if !error.internalquery.is_null() && CStr::from_ptr(error.internalquery).to_bytes().contains(&b'\'') {
            edit(error.internalquery, |text| redact::cut_from(text, b"'"));
            error.internalpos = 0;
        }
    }
}

/// Where the input begins in the context of a COPY. Every translation of PostgreSQL has a colon there; a binary COPY shows
/// no input and has no colon.
fn in_context(context: &[u8]) -> Option<usize> {
    redact::after_colon_and_quote(context)
        .or_else(|| memchr::memchr(b':', context).map(|colon| redact::after_colon(context, colon)))
}

/// Whether an input function, or the like, raised the error: then any part of it may quote the input, whatever the wording.
/// Names are input only if no other function stands between the error and the COPY.
fn is_about_input(error: &pg_sys::ErrorData) -> bool {
    if is_ours(error) {
        return false;
    }
    if is_of_class(error.sqlerrcode, DATA_EXCEPTION) {
        return ![BAD_COPY_FILE_FORMAT, NOT_IN_REPERTOIRE, UNTRANSLATABLE].contains(&error.sqlerrcode);
    }
    if !is_of_class(error.sqlerrcode, SYNTAX_OR_NAME) || error.context.is_null() {
        return false;
    }
    // SAFETY: a terminated string, as promised by the caller of `withhold`.
    let context = unsafe { CStr::from_ptr(error.context) }.to_bytes();
    let first = context.split(|byte| *byte == b'\n').next().unwrap_or(context);
    redact::first_quoted(first).is_some()
}

/// This extension's own errors quote only names.
fn is_ours(error: &pg_sys::ErrorData) -> bool {
    // SAFETY: null or a terminated string. `src/error.rs` sets this name.
    !error.funcname.is_null() && unsafe { CStr::from_ptr(error.funcname) } == c"prism_crypt"
}

/// # Safety
/// `text` is null or a terminated string.
unsafe fn begins(text: *const c_char, with: &[u8]) -> bool {
    // SAFETY: as promised by the caller.
    !text.is_null() && unsafe { CStr::from_ptr(text) }.to_bytes().starts_with(with)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    /// Message, detail and context after [`withhold`].
    fn withheld(code: &[u8; 5], texts: [&str; 3]) -> [String; 3] {
        let owned = texts.map(|text| CString::new(text).unwrap_or_default().into_raw());
        let mut error = pg_sys::ErrorData {
            sqlerrcode: sqlstate(*code),
            message: owned[0],
            detail: owned[1],
            context: owned[2],
            ..Default::default()
        };
        // SAFETY: each field has its own string, which nothing else refers to.
        unsafe { withhold(&mut error) };
        // SAFETY: still terminated strings, which are never freed.
        owned.map(|text| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    }

    #[test]
    fn withholds_what_quotes_the_input() {
        let place = "COPY t, line 2, column id: \"secret\"";
        let no_place = "COPY t, line 2, column id: ***";
        for (code, texts, expected) in [
            (
                b"22P02",
                ["invalid input syntax for type integer: \"secret\"", "", place],
                ["invalid input syntax for type integer: ***", "", no_place],
            ),
            (
                b"22003",
                ["value \"84175\" is out of range for type integer", "", place],
                ["value withheld by prism_crypt", "", no_place],
            ),
            (
                b"22P02",
                [
                    "invalid input syntax for type json",
                    "Token \"secret\" is invalid.",
                    "JSON data, line 1: secret\nCOPY t",
                ],
                ["invalid input syntax for type json", "Token ***", "JSON data, line 1: ***"],
            ),
            (
                b"2200N",
                ["invalid XML content", "line 1: secret\nsecret\n^", place],
                ["invalid XML content", "withheld by prism_crypt", no_place],
            ),
            (
                b"42704",
                ["type \"secret\" does not exist", "", "invalid type name \"secret\"\nCOPY t"],
                ["type withheld by prism_crypt", "", "invalid type name ***"],
            ),
            (
                b"42P01",
                [
                    "relation \"x\" does not exist",
                    "",
                    "PL/pgSQL function f() line 3\nCOPY t, line 2: \"2\tsecret\"",
                ],
                ["relation \"x\" does not exist", "", "PL/pgSQL function f() line 3\nCOPY t, line 2: ***"],
            ),
            (
                b"22021",
                ["invalid byte sequence for encoding \"UTF8\": 0xe3 0x41", "", "COPY t, line 2"],
                ["invalid byte sequence for encoding \"UTF8\": ***", "", "COPY t, line 2"],
            ),
            (
                b"23505",
                [
                    "duplicate key value violates unique constraint \"u\"",
                    "Key (id)=(5) already exists.",
                    "COPY t, line 2",
                ],
                [
                    "duplicate key value violates unique constraint \"u\"",
                    "Key (id)=(5) already exists.",
                    "COPY t, line 2",
                ],
            ),
        ] {
            let once = withheld(code, texts);
            assert_eq!(once.each_ref().map(String::as_str), expected);
            assert_eq!(withheld(code, once.each_ref().map(String::as_str)), once, "a second time");
        }
    }
}
