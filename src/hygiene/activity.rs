//! What `pg_stat_activity` shows of a statement with a key.

use pgrx::pg_sys;
use std::ffi::c_char;

/// Replaces the text of the running statement in `pg_stat_activity`.
///
/// # Safety
/// `text` is a terminated string.
pub unsafe fn show(text: *const c_char) {
    // SAFETY: copies the string into this backend's own status slot, if it has one.
    unsafe { pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, text) }
}

/// Hides the running statement where its text is not known.
pub fn hide() {
    const WITHHELD: &std::ffi::CStr = c"<statement withheld: it has a key>";
    // SAFETY: a string constant.
    unsafe { show(WITHHELD.as_ptr()) }
}
