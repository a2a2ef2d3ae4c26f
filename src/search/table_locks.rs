//! Locks that key functions need on tables of other users, and which session is in the way.

use pgrx::prelude::*;
use std::ffi::c_int;

unsafe extern "C-unwind" {
    // pgrx does not bind the function that this version of PostgreSQL has.
    #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
    fn BackendIdGetProc(backend: c_int) -> *mut pg_sys::PGPROC;
    #[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16")))]
    fn ProcNumberGetProc(backend: c_int) -> *mut pg_sys::PGPROC;
}

/// `prism_crypt._lock_relation(relation oid, exclusively boolean)`: ACCESS EXCLUSIVE or ROW EXCLUSIVE, until the end of the
/// transaction. `LOCK TABLE` does not accept materialized views.
#[pg_extern(sql = false)]
fn _lock_relation(relation: pg_sys::Oid, exclusively: bool) {
    let mode = if exclusively { pg_sys::AccessExclusiveLock } else { pg_sys::RowExclusiveLock };
    // SAFETY: waits for the lock as `LOCK TABLE` does; a dropped relation does no harm.
    unsafe { pg_sys::LockRelationOid(relation, mode as pg_sys::LOCKMODE) }
}

/// `prism_crypt._lock_for_reading(relation oid)`: SHARE, until the end of the transaction.
#[pg_extern(sql = false)]
fn _lock_for_reading(relation: pg_sys::Oid) {
    // SAFETY: as above.
    unsafe { pg_sys::LockRelationOid(relation, pg_sys::ShareLock as pg_sys::LOCKMODE) }
}

/// `prism_crypt._try_to_lock_relation(relation oid, exclusively boolean) → boolean`: as `_lock_relation()`, without waiting.
#[pg_extern(sql = false)]
fn _try_to_lock_relation(relation: pg_sys::Oid, exclusively: bool) -> bool {
    let mode = if exclusively { pg_sys::AccessExclusiveLock } else { pg_sys::RowExclusiveLock };
    // SAFETY: takes the lock or not; a dropped relation does no harm.
    unsafe { pg_sys::ConditionalLockRelationOid(relation, mode as pg_sys::LOCKMODE) }
}

/// `prism_crypt._hold_for_reading(relation oid, hold boolean)`: takes ACCESS SHARE, or releases one such lock.
#[pg_extern(sql = false)]
fn _hold_for_reading(relation: pg_sys::Oid, hold: bool) {
    let mode = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    // SAFETY: waits for the lock as a query does. PostgreSQL counts how often a lock is held, and only warns about one release
    // too many.
    unsafe {
        if hold {
            pg_sys::LockRelationOid(relation, mode);
        } else {
            pg_sys::UnlockRelationOid(relation, mode);
        }
    }
}

/// `prism_crypt._session_of(temporary_schema oid) → integer`: the process whose temporary tables are in a schema; null if
/// there is none.
#[pg_extern(sql = false)]
fn _session_of(temporary_schema: pg_sys::Oid) -> Option<i32> {
    // SAFETY: reads the name of the schema, and an entry of the array of all processes, which is never freed.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
        let process = BackendIdGetProc(pg_sys::GetTempNamespaceBackendId(temporary_schema));
        #[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16")))]
        let process = ProcNumberGetProc(pg_sys::GetTempNamespaceProcNumber(temporary_schema));
        process.as_ref().map(|process| process.pid).filter(|pid| *pid != 0)
    }
}
