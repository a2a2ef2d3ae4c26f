//! A relation that is locked and open.

use pgrx::{PgTupleDesc, pg_sys};

/// Open as long as this lives, with this lock, which stays until the transaction ends.
pub struct Open(pg_sys::Relation, u32);

impl Open {
    /// Waits for the lock. `None` if there is no such relation.
    pub fn new(relation: pg_sys::Oid, lock: u32) -> Option<Self> {
        // SAFETY: inside a transaction. After an error PostgreSQL closes what is open.
        let relation = unsafe { pg_sys::try_relation_open(relation, lock.cast_signed()) };
        (!relation.is_null()).then(|| Self(relation, lock))
    }

    /// Closes it, and releases the lock: others need not wait until the transaction ends.
    pub fn release(self) {
        // SAFETY: it is open, and not used again.
        unsafe { pg_sys::relation_close(self.0, self.1.cast_signed()) }
        std::mem::forget(self);
    }

    pub fn relation(&self) -> pg_sys::Relation {
        self.0
    }

    pub fn oid(&self) -> pg_sys::Oid {
        // SAFETY: it is open.
        unsafe { (*self.0).rd_id }
    }

    pub fn form(&self) -> &pg_sys::FormData_pg_class {
        // SAFETY: it is open, and locked, so that its row is not replaced.
        unsafe { &*(*self.0).rd_rel }
    }

    pub fn descriptor(&self) -> PgTupleDesc<'_> {
        // SAFETY: it is open and keeps its descriptor.
        unsafe { PgTupleDesc::from_pg_unchecked((*self.0).rd_att) }
    }

    /// Whether it is a table with the heap access method.
    pub fn is_heap(&self) -> bool {
        self.stores_heap_rows() && self.form().relkind as u8 == pg_sys::RELKIND_RELATION
    }

    /// Whether it is a table or a materialized view with the heap access method.
    pub fn stores_heap_rows(&self) -> bool {
        // SAFETY: it is open. PostgreSQL makes the same comparison before it reads a heap.
        let is_heap = unsafe { (*self.0).rd_tableam == pg_sys::GetHeapamTableAmRoutine() };
        is_heap && matches!(self.form().relkind as u8, pg_sys::RELKIND_RELATION | pg_sys::RELKIND_MATVIEW)
    }

    /// Whether its rows can be read by every session, here and now.
    pub fn is_permanent(&self) -> bool {
        match self.form().relpersistence as u8 {
            pg_sys::RELPERSISTENCE_TEMP => false,
            // SAFETY: reads the state of the server.
            pg_sys::RELPERSISTENCE_UNLOGGED => unsafe { !pg_sys::RecoveryInProgress() },
            _ => true,
        }
    }

    /// Whether it is a temporary table of this session.
    pub fn is_own_temporary(&self) -> bool {
        // SAFETY: it is open.
        self.form().relpersistence as u8 == pg_sys::RELPERSISTENCE_TEMP && unsafe { (*self.0).rd_islocaltemp }
    }

    /// Whether a column is NOT NULL, generated, or has a default, or the table has a CHECK.
    pub fn has_constraints(&self) -> bool {
        // SAFETY: it is open and keeps its descriptor.
        unsafe { !(*(*self.0).rd_att).constr.is_null() }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // After an error PostgreSQL closes it.
        if !std::thread::panicking() {
            // SAFETY: it is open, and not used again.
            unsafe { pg_sys::relation_close(self.0, pg_sys::NoLock.cast_signed()) }
        }
    }
}

/// The index in a descriptor of the column with this number.
pub fn place(number: i16) -> Option<usize> {
    usize::try_from(number).ok()?.checked_sub(1)
}
