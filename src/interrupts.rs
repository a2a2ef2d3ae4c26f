//! Whether PostgreSQL holds off interrupts, as it does while an index page is locked. Index code calls comparisons in that
//! state. Until interrupts are allowed again, no cancel and no timeout ends a statement. So nothing may wait, and nothing may
//! be read that might have to wait: no lock, no table, no key source.

use pgrx::pg_sys;

/// Whether interrupts are held off.
#[inline]
pub fn are_held_off() -> bool {
    // SAFETY: reads two counters that only this process writes.
    unsafe { pg_sys::InterruptHoldoffCount != 0 || pg_sys::CritSectionCount != 0 }
}
