//! The text that the client sent, without its keys. It may hold thousands of statements. Each of them asks for it, and so does
//! each of their messages, so it is read only once.
//!
//! PostgreSQL logs this text, `debug_query_string`, as the statement of a message, and gives it to parallel workers. If it holds
//! a key, `debug_query_string` is set to a copy of the same length with the key blanked. [`without_keys`] gives that copy to
//! extensions that receive the text of a statement, and [`look`] to whatever searches a message for keys. `known` holds what is
//! known of a text, and `prepared` looks at the prepared statements that it executes.

mod known;
mod prepared;

use super::naming::{self, Mentions};
use super::{activity, blank};
use known::{CLIENT, bytes, client_context};
use pgrx::pg_sys;
use std::ffi::c_char;
use std::ops::Range;
use std::ptr::null;

pub use prepared::{dialect, prepared};

/// The client's text as a message may show it.
pub struct ClientText<'a> {
    /// What its statements, or those that they execute, give keys to.
    pub mentions: Mentions,
    /// The text as it was sent, if that is known.
    pub text: Option<&'a [u8]>,
    /// The same text without its keys, if it has any.
    pub blanked: Option<&'a [u8]>,
    /// Values that were given to the key setting, or to a file as its key.
    pub tried: &'a [u8],
}

/// Looks at the client's text, and makes PostgreSQL log it without keys. `None` if it could not be looked at.
pub fn look<T>(then: impl FnOnce(&ClientText<'_>) -> T) -> Option<T> {
    CLIENT.with(|client| {
        let mut client = client.try_borrow_mut().ok()?;
        let known = client.look().ok()?;
        let is_there = !client_context().is_null();
        // SAFETY: where the client's messages signal its end, the text stays valid while it is known. The copy stays valid
        // while it is kept, and only `client`, which is borrowed, changes it.
        let slice =
            |text: *const c_char, length| unsafe { std::slice::from_raw_parts(text.cast::<u8>(), length) };
        Some(then(&ClientText {
            mentions: known.map_or(Mentions::default(), |known| known.mentions),
            text: known.filter(|_| is_there).map(|known| slice(known.text, known.length)),
            blanked: known
                .filter(|known| !known.blanked.is_null())
                .map(|known| slice(known.blanked, known.length)),
            tried: &client.tried,
        }))
    })
}

/// Blanks what may be the key of a file in the client's text, although it names no function that takes one. Returns whether it
/// could be done.
pub fn blank_likely_keys() -> bool {
    CLIENT.with(|client| client.try_borrow_mut().is_ok_and(|mut client| client.blank_likely_keys().is_ok()))
}

/// Whether the client's message has given a key to the setting, or to a file.
pub fn has_key() -> bool {
    CLIENT.with(|client| client.try_borrow().is_ok_and(|client| !client.tried.is_empty()))
}

/// Notes a value that the key setting, or a file, is about to be given and may refuse, so that nothing shows it in this client
/// message.
pub fn note_key(value: &[u8]) {
    // SAFETY: globals. A starting parallel worker restores its leader's settings and has no statement of its own.
    let has_statement = unsafe {
        if pg_sys::InitializingParallelWorker {
            return;
        }
        !pg_sys::debug_query_string.is_null()
    };
    CLIENT.with_borrow_mut(|client| {
        if !client_context().is_null() && !value.is_empty() {
            client.note(value);
        }
        // If this fails for lack of memory, the next message looks again, and hides the statement if that fails too.
        let _ = client.look();
    });
    if !has_statement {
        activity::hide();
    }
}

/// The text of a statement with its keys blanked; null if it has none.
///
/// # Safety
/// `text` is a terminated string. The statement is `length` bytes of it, from `location` on; a zero length means the rest of it,
/// a negative location all of it. `is_named` tells whether the statement is known to set a key.
unsafe fn blanked(text: *const c_char, location: i32, length: i32, is_named: bool) -> *const c_char {
    // SAFETY: as promised by the caller.
    let part = unsafe { part(text, location, length) };
    let known = CLIENT.with_borrow_mut(|client| {
        let known = client.look().ok().flatten();
        let known = known.filter(|known| known.is(text) && !client_context().is_null())?;
        // SAFETY: the text and its blanked copy have this length.
        let whole = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), known.length) };
        let of_part = whole.get(part.clone()).unwrap_or_default();
        if is_named && !naming::mentions(of_part, dialect()).setting {
            client.blank_part(part.clone()).ok()?;
        }
        client.known.or(Some(known))
    });
    if let Some(known) = known {
        return known.blanked;
    }
    // SAFETY: as promised by the caller.
    let of_part = &unsafe { bytes(text) }[part.clone()];
    let found = naming::mentions(of_part, dialect());
    if !found.any() && !is_named {
        return null();
    }
    // SAFETY: a copy of the same length, with its terminator, that nothing else refers to yet.
    unsafe {
        let copy = pg_sys::MemoryContextStrdup(pg_sys::CurrentMemoryContext, text);
        let target = std::slice::from_raw_parts_mut(copy.cast::<u8>().add(part.start), part.len());
        if found.setting || !is_named {
            naming::blank(of_part, target, dialect(), &|_| Mentions::default());
        } else {
            blank::all_literals(of_part, target, dialect());
        }
        copy
    }
}

/// The same, or the text itself if it has no keys: for extensions that keep the text that they are given, as pg_stat_statements does.
///
/// # Safety
/// As for [`blanked`].
pub unsafe fn without_keys(text: *const c_char, location: i32, length: i32, is_named: bool) -> *const c_char {
    // SAFETY: as promised by the caller.
    let blanked = unsafe { blanked(text, location, length, is_named) };
    if blanked.is_null() { text } else { blanked }
}

/// A statement's own part of a text.
///
/// # Safety
/// As for [`blanked`].
unsafe fn part(text: *const c_char, location: i32, length: i32) -> Range<usize> {
    let start = usize::try_from(location).unwrap_or(0);
    match usize::try_from(length) {
        Ok(length) if length > 0 && location >= 0 => start..start + length,
        // The length of the whole is counted only where it is needed.
        // SAFETY: as promised by the caller.
        _ => start..unsafe { bytes(text) }.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_at_a_statements_own_part() {
        let text = c"SET a.b = 1; SET prism_crypt.master_key = 'x'; SHOW c.d";
        // SAFETY: positions in that terminated string.
        let part = |location, length| &text.to_bytes()[unsafe { part(text.as_ptr(), location, length) }];
        assert_eq!(part(0, 11), b"SET a.b = 1");
        assert_eq!(part(12, 33), b" SET prism_crypt.master_key = 'x'");
        assert_eq!(part(46, 0), b" SHOW c.d");
        for (location, length) in [(-1, 0), (0, 0), (-1, 5)] {
            assert_eq!(part(location, length), text.to_bytes());
        }
    }
}
