//! Whether PostgreSQL holds interrupts off, as it does while a page of an index is locked: index code calls comparisons so.
//! Until they are let in again nothing ends a statement: no cancel, no timeout. So nothing may be waited for, and nothing be
//! read that may have to be waited for: no lock, no table, no key source.

use pgrx::pg_sys;

/// Whether interrupts are held off.
#[inline]
pub fn are_held_off() -> bool {
    // SAFETY: two counters that only this process writes.
    unsafe { pg_sys::InterruptHoldoffCount != 0 || pg_sys::CritSectionCount != 0 }
}
