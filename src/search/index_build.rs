//! Builds indexes anew for functions that change keys, and gets past what others put in their way.

use crate::error::{Error, SqlResult};
use crate::privilege::Exemption;
use pgrx::prelude::*;
use std::ffi::c_int;

unsafe extern "C-unwind" {
    // pgrx has no binding of the one that this version of PostgreSQL has.
    #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
    fn BackendIdGetProc(backend: c_int) -> *mut pg_sys::PGPROC;
    #[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16")))]
    fn ProcNumberGetProc(backend: c_int) -> *mut pg_sys::PGPROC;
}

/// `prism_crypt._rebuild_index(index text, without_right boolean)`: REINDEX INDEX, if wanted without asking its table's owner
/// for the right to search. The name is qualified, and quoted.
#[pg_extern(sql = false)]
fn _rebuild_index(index: &str, without_right: bool) -> SqlResult<()> {
    let _exemption = without_right.then(Exemption::begin);
    Ok(Spi::run(&format!("REINDEX INDEX {index}")).map_err(|_| Error::Internal("an index can't be built"))?)
}

/// `prism_crypt._try_to_lock_relation(relation oid, exclusively boolean) → boolean`: as `_lock_relation()`, without waiting.
#[pg_extern(sql = false)]
fn _try_to_lock_relation(relation: pg_sys::Oid, exclusively: bool) -> bool {
    let mode = if exclusively { pg_sys::AccessExclusiveLock } else { pg_sys::RowExclusiveLock };
    // SAFETY: takes the lock or not; a relation that is gone is no matter.
    unsafe { pg_sys::ConditionalLockRelationOid(relation, mode as pg_sys::LOCKMODE) }
}

/// `prism_crypt._hold_for_reading(relation oid, hold boolean)`: ACCESS SHARE, or the end of one that was taken so.
#[pg_extern(sql = false)]
fn _hold_for_reading(relation: pg_sys::Oid, hold: bool) {
    let mode = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    // SAFETY: waits for the lock as a query does. PostgreSQL counts how often a lock was taken, and only warns about one too many
    // that is let go of.
    unsafe {
        if hold {
            pg_sys::LockRelationOid(relation, mode);
        } else {
            pg_sys::UnlockRelationOid(relation, mode);
        }
    }
}

/// `prism_crypt._session_of(temporary_schema oid) → integer`: the process whose temporary tables are in a schema; null where
/// there is none.
#[pg_extern(sql = false)]
fn _session_of(temporary_schema: pg_sys::Oid) -> Option<i32> {
    // SAFETY: looks at the name of the schema, and at an entry of the array of all processes, which is never freed.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
        let process = BackendIdGetProc(pg_sys::GetTempNamespaceBackendId(temporary_schema));
        #[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16")))]
        let process = ProcNumberGetProc(pg_sys::GetTempNamespaceProcNumber(temporary_schema));
        process.as_ref().map(|process| process.pid).filter(|pid| *pid != 0)
    }
}
