//! Computing what may fail: in a subtransaction, as PL/pgSQL does it for a block with an exception handler.

use pgrx::pg_sys;
use pgrx::{PgSqlErrorCode, PgTryBuilder};
use std::panic::AssertUnwindSafe;
use std::ptr::null;

/// What `compute` gives, allocated in the current memory context; `None` where it raises an error, other than one that ends the
/// statement, or where no subtransaction can be begun.
///
/// # Safety
/// Inside a transaction. `compute` calls PostgreSQL only, and holds nothing when it raises an error.
pub unsafe fn attempt<T>(compute: impl FnOnce() -> T) -> Option<T> {
    // SAFETY: as promised by the caller; memory context and resource owner are those of before again at the end. After an
    // error that is raised again PostgreSQL ends the subtransaction with the transaction around it.
    unsafe {
        if pg_sys::IsInParallelMode() {
            return None;
        }
        let (memory, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(null());
        pg_sys::CurrentMemoryContext = memory;
        let computed = PgTryBuilder::new(AssertUnwindSafe(|| Some(compute())))
            .catch_when(PgSqlErrorCode::ERRCODE_QUERY_CANCELED, |error| error.rethrow())
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
        computed
    }
}
