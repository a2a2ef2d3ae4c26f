//! Locks among the functions that change keys. Nobody else can hold them: they are on the extension, with subobject
//! numbers that PostgreSQL doesn't use. The database's owner could hold a table lock of a mode that conflicts with
//! ANALYZE. A wait ends as one for a table lock does: by `lock_timeout`, a deadlock, or a cancel.

use pgrx::prelude::*;

/// What is locked.
#[derive(Clone, Copy)]
enum Part {
    /// The rows of all keys.
    Keys = 1,
    /// Commits of indexes that were built with index keys.
    Commits = 2,
}

/// `prism_crypt._lock_keys(exclusively boolean)`: locks the keys until the end of the transaction, alone or shared with
/// others that change single keys.
#[pg_extern(sql = false)]
fn _lock_keys(exclusively: bool) {
    // SAFETY: raises an error on a standby, which could not take the lock.
    unsafe { pg_sys::PreventCommandDuringRecovery(c"changes of keys".as_ptr()) };
    lock(Part::Keys, if exclusively { pg_sys::ExclusiveLock } else { pg_sys::RowExclusiveLock });
}

/// `prism_crypt._hold_index_commits()`: transactions that have built indexes on encrypted values commit after this one.
#[pg_extern(sql = false)]
fn _hold_index_commits() {
    lock(Part::Commits, pg_sys::ExclusiveLock);
}

/// Waits for a transaction that is replacing an index key, and keeps others from starting to until this one ends.
pub fn before_index_commit() {
    lock(Part::Commits, pg_sys::RowExclusiveLock);
}

fn lock(part: Part, mode: u32) {
    // SAFETY: a catalog look-up inside a transaction, and a lock that is kept to its end; at worst this raises an
    // error. If the extension is being dropped, its oid is invalid, and there is nothing to wait for.
    unsafe {
        let extension = pg_sys::get_extension_oid(c"prism_crypt".as_ptr(), true);
        let mode = mode as pg_sys::LOCKMODE;
        pg_sys::LockDatabaseObject(pg_sys::ExtensionRelationId, extension, part as u16, mode);
    }
}
