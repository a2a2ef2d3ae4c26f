//! The text that the client sent, without the keys in it. It may hold thousands of statements, each of which asks, and so do
//! their messages: so it is read once.
//!
//! PostgreSQL logs this text as the statement of a message, and gives it to parallel workers: `debug_query_string`. Where it
//! holds a key, that is set to a copy of the same length, with the key blanked. [`blanked`] gives that copy to the extensions
//! that are handed the text of a statement, and [`look`] shows it to whoever looks through a message. What is known of a text
//! is in `known`.

mod known;

use super::{activity, blank, naming};
use known::{CLIENT, bytes, client_context};
use pgrx::pg_sys;
use std::ffi::{CStr, c_char};
use std::ops::Range;
use std::ptr::null;

pub use known::{dialect, is_prepared};

/// The client's text as a message may show it.
pub struct ClientText<'a> {
    /// Whether a statement of it names the key setting, or executes one that does.
    pub names: bool,
    /// The text as it was sent, where that is known.
    pub text: Option<&'a [u8]>,
    /// The same without keys, where it has any.
    pub blanked: Option<&'a [u8]>,
    /// Values that were given to the key setting.
    pub tried: &'a [u8],
}

/// Looks at the text of the client, and has PostgreSQL log it without keys. `None`: it could not be looked at.
pub fn look<T>(then: impl FnOnce(&ClientText<'_>) -> T) -> Option<T> {
    CLIENT.with(|client| {
        let mut client = client.try_borrow_mut().ok()?;
        let known = client.look().ok()?;
        let is_there = !client_context().is_null();
        // SAFETY: the text is there as long as it is known, where messages of the client tell when that ends. The copy is
        // there as long as it is kept, and is only changed by `client`, which is borrowed.
        let slice =
            |text: *const c_char, length| unsafe { std::slice::from_raw_parts(text.cast::<u8>(), length) };
        Some(then(&ClientText {
            names: known.is_some_and(|known| known.names),
            text: known.filter(|_| is_there).map(|known| slice(known.text, known.length)),
            blanked: known
                .filter(|known| !known.blanked.is_null())
                .map(|known| slice(known.blanked, known.length)),
            tried: &client.tried,
        }))
    })
}

/// A value is about to be given to the key setting, and maybe refused: nothing of this message of the client shows it.
pub fn note_key(value: &CStr) {
    // SAFETY: globals. A starting parallel worker restores its leader's settings and has no statement of its own.
    let has_statement = unsafe {
        if pg_sys::InitializingParallelWorker {
            return;
        }
        !pg_sys::debug_query_string.is_null()
    };
    CLIENT.with_borrow_mut(|client| {
        if !client_context().is_null() && !value.is_empty() {
            client.note(value.to_bytes());
        }
        // What can't be blanked for lack of memory is told apart when a message is emitted.
        let _ = client.look();
    });
    if !has_statement {
        activity::hide();
    }
}

/// The text of a statement, blanked if there is a key in it; null if not.
///
/// # Safety
/// `text` is a terminated string, of which the statement is the part from `location` on, `length` bytes; negative and zero
/// stand for all of it. `is_named` tells whether it is known to set a key.
pub unsafe fn blanked(text: *const c_char, location: i32, length: i32, is_named: bool) -> *const c_char {
    // SAFETY: as promised by the caller.
    let part = unsafe { part(text, location, length) };
    let known = CLIENT.with_borrow_mut(|client| {
        let known = client.look().ok().flatten();
        let known = known.filter(|known| known.is(text) && !client_context().is_null())?;
        // SAFETY: both texts are so long.
        let whole = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), known.length) };
        let of_part = whole.get(part.clone()).unwrap_or_default();
        if is_named && !naming::names(of_part, dialect()) {
            client.blank_part(part.clone()).ok()?;
        }
        client.known.or(Some(known))
    });
    if let Some(known) = known {
        return known.blanked;
    }
    let of_part = &bytes(text)[part.clone()];
    let is_found = naming::names(of_part, dialect());
    if !is_found && !is_named {
        return null();
    }
    // SAFETY: a copy of that length, with its terminator, that nothing else refers to yet.
    unsafe {
        let copy = pg_sys::MemoryContextStrdup(pg_sys::CurrentMemoryContext, text);
        let target = std::slice::from_raw_parts_mut(copy.cast::<u8>().add(part.start), part.len());
        if is_found {
            naming::blank(of_part, target, dialect(), &|_| false);
        } else {
            blank::all_literals(of_part, target, dialect());
        }
        copy
    }
}

/// A statement's own part of a text.
///
/// # Safety
/// As for [`blanked`].
unsafe fn part(text: *const c_char, location: i32, length: i32) -> Range<usize> {
    let start = usize::try_from(location).unwrap_or(0);
    match usize::try_from(length) {
        Ok(length) if length > 0 && location >= 0 => start..start + length,
        // The length of the whole is only counted where it is needed.
        _ => start..bytes(text).len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_at_a_statements_own_part() {
        let text = c"SET a.b = 1; SET prism_crypt.master_key = 'x'; SHOW c.d";
        // SAFETY: places in that string.
        let part = |location, length| &text.to_bytes()[unsafe { part(text.as_ptr(), location, length) }];
        assert_eq!(part(0, 11), b"SET a.b = 1");
        assert_eq!(part(12, 33), b" SET prism_crypt.master_key = 'x'");
        assert_eq!(part(46, 0), b" SHOW c.d");
        for (location, length) in [(-1, 0), (0, 0), (-1, 5)] {
            assert_eq!(part(location, length), text.to_bytes());
        }
    }
}
