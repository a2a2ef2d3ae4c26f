//! What prepared statements were announced as. PostgreSQL analyses one again when a table of its has changed, perhaps while the settings or the
//! role are others. Then it is announced as before: otherwise PostgreSQL would refuse it now and then, as its result must not change.

use crate::plan_cache::statement_start;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CStr, c_char};
use std::hash::{DefaultHasher, Hasher};
use std::ptr::null;

/// How many statements are known before all are forgotten.
const MAX: usize = 1024;

/// How many bytes of a text are hashed, besides its length.
const MAX_HASHED: usize = 1024;

thread_local! {
    /// By the address and the hash of a statement's text, which PostgreSQL keeps for it: whether it was announced as text. A statement that
    /// is gone may be mistaken for another one, which may be announced in either way, too: what is sent is what is announced.
    static KNOWN: RefCell<HashMap<(usize, u64), bool>> = RefCell::new(HashMap::new());
    /// The last text that was analysed, and in which message.
    static ANALYSED: Cell<(*const c_char, i64)> = const { Cell::new((null(), 0)) };
}

/// # Safety
/// `text` is a terminated string.
unsafe fn key(text: *const c_char) -> (usize, u64) {
    // SAFETY: as promised by the caller.
    let bytes = unsafe { CStr::from_ptr(text) }.to_bytes();
    let mut hasher = DefaultHasher::new();
    hasher.write_usize(bytes.len());
    hasher.write(bytes.get(..MAX_HASHED).unwrap_or(bytes));
    (text.addr(), hasher.finish())
}

/// How a statement that is being analysed was announced before; `None` if it wasn't, as far as is known.
///
/// # Safety
/// `text` is its text, a terminated string.
pub unsafe fn announced_before(text: *const c_char) -> Option<bool> {
    ANALYSED.set((text, statement_start()));
    KNOWN.with_borrow(|known| {
        if known.is_empty() {
            return None;
        }
        // SAFETY: as promised by the caller.
        known.get(&unsafe { key(text) }).copied()
    })
}

/// Whether a statement that is being planned was analysed from this very text just now. Then it is not prepared, or known already.
pub fn is_analysed_just_now(text: *const c_char) -> bool {
    ANALYSED.get() == (text, statement_start())
}

/// Records how a prepared statement was announced.
///
/// # Safety
/// `text` is its text, a terminated string.
pub unsafe fn keep(text: *const c_char, is_announced: bool) {
    // SAFETY: as promised by the caller.
    let key = unsafe { key(text) };
    KNOWN.with_borrow_mut(|known| {
        if known.len() >= MAX && !known.contains_key(&key) {
            known.clear();
        }
        known.insert(key, is_announced);
    });
}
