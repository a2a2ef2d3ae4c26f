//! What `pg_stat_activity` shows of a statement that sets a key.

use pgrx::pg_sys;

/// Replaces the text of the running statement in `pg_stat_activity`.
pub fn hide_activity() {
    const WITHHELD: &std::ffi::CStr = c"<statement withheld: it names prism_crypt.master_key>";
    // SAFETY: copies a string constant into this backend's own status slot, if it has one. A starting parallel worker
    // restores its leader's settings and has no statement of its own.
    unsafe {
        if !pg_sys::InitializingParallelWorker {
            pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, WITHHELD.as_ptr());
        }
    }
}
