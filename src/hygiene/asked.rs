//! The text that the client sent, and whether there is a key in it. It may hold thousands of statements, each of which asks,
//! and so do their messages: so it is searched once.
//!
//! The answer is kept by the text's address, and only for `debug_query_string`, until PostgreSQL resets `MessageContext`
//! before the client's next message. That context holds the text, so until then its address can't be another text's.

use super::{naming, redact};
use crate::settings;
use pgrx::pg_sys;
use std::cell::{Cell, UnsafeCell};
use std::ffi::{CStr, c_char, c_void};
use std::ptr::null;

#[derive(Clone, Copy)]
struct Known {
    text: *const c_char,
    names: bool,
    /// Null until it is asked for.
    blanked: *const c_char,
    /// Whether it holds a key of the session's, and the generation of the settings for which that is known.
    holds: Option<(u64, bool)>,
}

thread_local! {
    static KNOWN: Cell<Option<Known>> = const { Cell::new(None) };
    static IS_REGISTERED: Cell<bool> = const { Cell::new(false) };
    static CALLBACK: UnsafeCell<pg_sys::MemoryContextCallback> = const {
        UnsafeCell::new(pg_sys::MemoryContextCallback {
            func: Some(forget),
            arg: std::ptr::null_mut(),
            next: std::ptr::null_mut(),
        })
    };
}

unsafe extern "C-unwind" {
    // pgrx's own binding would begin to catch errors; this raises none, and may be called while one is reported.
    fn MemoryContextRegisterResetCallback(
        context: pg_sys::MemoryContext,
        callback: *mut pg_sys::MemoryContextCallback,
    );
}

/// Whether the text that the client sent names the key setting or holds a key of the session's.
pub fn is_secret() -> bool {
    // SAFETY: a global that is null or a terminated string.
    let text = unsafe { pg_sys::debug_query_string };
    if text.is_null() {
        return false;
    }
    let mut known = know(text);
    if known.names {
        return true;
    }
    let generation = settings::master_generation();
    match known.holds {
        Some((of, holds)) if of == generation => holds,
        _ => {
            let keys = settings::inline_master_key().map_or(&[][..], CStr::to_bytes);
            // SAFETY: as above.
            let holds = redact::holds_key(unsafe { CStr::from_ptr(text) }.to_bytes(), keys);
            known.holds = Some((generation, holds));
            keep(known);
            holds
        }
    }
}

/// The text of a statement, blanked if it names the key setting; null if not.
///
/// # Safety
/// `text` is a terminated string, of which the statement is the part from `location` on, `length` bytes; negative and zero
/// stand for all of it.
pub unsafe fn blanked(text: *const c_char, location: i32, length: i32, is_named: bool) -> *const c_char {
    // SAFETY: as promised by the caller.
    unsafe {
        if text != pg_sys::debug_query_string {
            if !is_named && naming::find(part(text, location, length)).is_none() {
                return null();
            }
            return blank(text, pg_sys::CurrentMemoryContext);
        }
        let mut known = know(text);
        if !known.names && !is_named {
            return null();
        }
        if known.blanked.is_null() {
            let is_kept = !pg_sys::MessageContext.is_null();
            known.names = true;
            known.blanked =
                blank(text, if is_kept { pg_sys::MessageContext } else { pg_sys::CurrentMemoryContext });
            keep(known);
        }
        known.blanked
    }
}

/// A statement's own part of a text.
///
/// # Safety
/// As for [`blanked`].
unsafe fn part<'a>(text: *const c_char, location: i32, length: i32) -> &'a [u8] {
    // SAFETY: as promised by the caller. The length of the whole is only counted where it is needed.
    unsafe {
        let text = text.add(usize::try_from(location).unwrap_or(0));
        match usize::try_from(length) {
            Ok(length) if length > 0 && location >= 0 => std::slice::from_raw_parts(text.cast(), length),
            _ => CStr::from_ptr(text).to_bytes(),
        }
    }
}

/// # Safety
/// `text` is a terminated string.
unsafe fn blank(text: *const c_char, context: pg_sys::MemoryContext) -> *const c_char {
    // SAFETY: a copy of that length, with its terminator, that nothing else refers to yet.
    unsafe {
        let length = CStr::from_ptr(text).count_bytes();
        let copy = pg_sys::MemoryContextStrdup(context, text);
        redact::blank_literals(std::slice::from_raw_parts_mut(copy.cast(), length));
        copy
    }
}

fn know(text: *const c_char) -> Known {
    if let Some(known) = KNOWN.get().filter(|known| known.text == text) {
        return known;
    }
    // SAFETY: callers pass terminated strings.
    let names = naming::find(unsafe { CStr::from_ptr(text) }.to_bytes()).is_some();
    let known = Known { text, names, blanked: null(), holds: None };
    keep(known);
    known
}

fn keep(known: Known) {
    // SAFETY: a global; processes that serve no client have no such context, and keep nothing. The callback's memory
    // belongs to this thread and stays where it is, and is registered once at a time.
    unsafe {
        if pg_sys::MessageContext.is_null() {
            return;
        }
        KNOWN.set(Some(known));
        if !IS_REGISTERED.replace(true) {
            CALLBACK.with(|callback| {
                MemoryContextRegisterResetCallback(pg_sys::MessageContext, callback.get());
            });
        }
    }
}

/// Not guarded: nothing in it can panic or raise an error.
unsafe extern "C-unwind" fn forget(_argument: *mut c_void) {
    KNOWN.set(None);
    IS_REGISTERED.set(false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_at_a_statements_own_part() {
        let text = c"SET a.b = 1; SET prism_crypt.master_key = 'x'; SHOW c.d";
        // SAFETY: places in that string.
        let part = |location, length| unsafe { part(text.as_ptr(), location, length) };
        assert_eq!(part(0, 11), b"SET a.b = 1");
        assert_eq!(part(12, 33), b" SET prism_crypt.master_key = 'x'");
        assert_eq!(part(46, 0), b" SHOW c.d");
        for (location, length) in [(-1, 0), (0, 0), (-1, 5)] {
            assert_eq!(part(location, length), text.to_bytes());
        }
    }
}
