//! The keyset that values are sealed under, and compared in: the session's, or the configured one where the session's setting
//! does not count.

use super::{KEYSET, KEYSET_RECORD, borrow};
use crate::plan_cache;
use pgrx::{pg_guard, pg_sys};
use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_void};

/// The keyset where nobody has configured another.
pub const DEFAULT: &CStr = c"default";

/// How many sources of a setting no session chooses: those up to ALTER DATABASE.
const CONFIGURED_SOURCES: usize = pg_sys::GucSource::PGC_S_DATABASE as usize + 1;

thread_local! {
    /// The last value checked from each source.
    static CONFIGURED: [Cell<Option<&'static CStr>>; CONFIGURED_SOURCES] =
        const { [const { Cell::new(None) }; CONFIGURED_SOURCES] };
    /// Grows whenever the session's or the configured keyset may have changed.
    static GENERATION: Cell<u64> = const { Cell::new(0) };
    /// Whether the session's keyset is the configured one, so that it doesn't matter which of them counts.
    static IS_CONFIGURED: Cell<bool> = const { Cell::new(true) };
    static NEXT: Cell<pg_sys::fmgr_hook_type> = const { Cell::new(None) };
}

/// Installs the hook.
pub fn init() {
    // SAFETY: set once, while the library is loaded.
    unsafe {
        NEXT.set(pg_sys::fmgr_hook);
        pg_sys::fmgr_hook = Some(role_changes);
    }
}

/// The keyset that counts under the current role, in the server encoding.
pub fn keyset() -> &'static CStr {
    if is_session_keyset() { session_keyset() } else { configured() }
}

/// Changes whenever [`keyset`] may return another one.
#[inline]
pub fn keyset_generation() -> u64 {
    let generation = GENERATION.get() << 1;
    if is_session_keyset() { generation } else { generation | 1 }
}

#[inline]
fn is_session_keyset() -> bool {
    IS_CONFIGURED.get() || KEYSET_RECORD.counts()
}

fn session_keyset() -> &'static CStr {
    borrow(&KEYSET).unwrap_or(DEFAULT)
}

fn configured() -> &'static CStr {
    CONFIGURED.with(|sources| sources.iter().rev().find_map(Cell::get)).unwrap_or(DEFAULT)
}

fn changes(session_keyset: &CStr) {
    GENERATION.set(GENERATION.get() + 1);
    IS_CONFIGURED.set(session_keyset == configured());
}

/// Notes the configured keyset, whether or not the session has another one.
#[pg_guard]
pub unsafe extern "C-unwind" fn check(
    new_value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    // A parallel worker restores its leader's settings, over what it found configured itself.
    // SAFETY: a global; PostgreSQL passes a valid pointer to a null or terminated string.
    let value = unsafe {
        if pg_sys::InitializingParallelWorker {
            return true;
        }
        if (*new_value).is_null() { c"" } else { CStr::from_ptr(*new_value) }
    };
    // A setting that was removed from the configuration file goes back to the default.
    let (source, value) = match source {
        pg_sys::GucSource::PGC_S_DEFAULT => (pg_sys::GucSource::PGC_S_FILE, None),
        source => (source, Some(value).filter(|value| !value.is_empty())),
    };
    CONFIGURED.with(|sources| {
        if let Some(known) = sources.get(source as usize).filter(|known| known.get() != value) {
            // Never freed: there are only a handful in the life of a process.
            known.set(value.map(|value| &*Box::leak(CString::from(value).into_boxed_c_str())));
            changes(session_keyset());
            plan_cache::forget_constants();
        }
    });
    true
}

#[pg_guard]
pub unsafe extern "C-unwind" fn assign(new_value: *const c_char, _extra: *mut c_void) {
    // SAFETY: the new value is null or a terminated string. The setting still has the old one.
    let new = unsafe { if new_value.is_null() { c"" } else { CStr::from_ptr(new_value) } };
    let new = if new.is_empty() { DEFAULT } else { new };
    let is_another = new != session_keyset();
    changes(new);
    if is_another {
        plan_cache::forget_constants();
    }
}

/// PostgreSQL calls this when a SECURITY DEFINER function, or one with a SET clause, begins and ends. Plans of what the function
/// calls may be used inside and outside it, where another keyset counts. Not guarded: nothing in it can panic or raise an error.
unsafe extern "C-unwind" fn role_changes(
    event: pg_sys::FmgrHookEventType::Type,
    function: *mut pg_sys::FmgrInfo,
    argument: *mut pg_sys::Datum,
) {
    if !IS_CONFIGURED.get() {
        plan_cache::forget_constants();
    }
    if let Some(next) = NEXT.get() {
        // SAFETY: everything is passed on as PostgreSQL gave it.
        unsafe { next(event, function, argument) }
    }
}
