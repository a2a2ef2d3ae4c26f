//! Computes what may fail in a subtransaction, as PL/pgSQL does for a block with an exception handler.

use pgrx::pg_sys;
use pgrx::{PgSqlErrorCode, PgTryBuilder};
use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::ptr::null;

/// The result of `compute`, allocated in the current memory context. `None` if it raises an error, other than one that ends
/// the statement, or if no subtransaction can be started.
///
/// # Safety
/// Inside a transaction. `compute` only calls PostgreSQL, and holds nothing when it raises an error.
pub unsafe fn attempt<T>(compute: impl FnOnce() -> T) -> Option<T> {
    // SAFETY: as promised by the caller; the subtransaction is ended, and memory context and resource owner are restored, in any case.
    unsafe {
        if pg_sys::IsInParallelMode() {
            return None;
        }
        let (memory, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(null());
        pg_sys::CurrentMemoryContext = memory;
        let cancelled = Cell::new(None);
        let slot = AssertUnwindSafe(&cancelled);
        let computed = PgTryBuilder::new(AssertUnwindSafe(|| Some(compute())))
            .catch_when(PgSqlErrorCode::ERRCODE_QUERY_CANCELED, move |error| {
                slot.set(Some(error));
                None
            })
            .catch_others(|_| None)
            .execute();
        pg_sys::CurrentMemoryContext = memory;
        if computed.is_some() {
            pg_sys::ReleaseCurrentSubTransaction();
        } else {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
        }
        pg_sys::CurrentMemoryContext = memory;
        pg_sys::CurrentResourceOwner = owner;
        if let Some(error) = cancelled.take() {
            // Only now: a block that catches it rolls back the subtransaction that is the current one.
            error.rethrow();
        }
        computed
    }
}
