//! Looks at every value in a table.
//!
//! Not with SQL: planning a query would run functions of the table's owner (in index expressions, predicates and constraints),
//! and the census runs with the rights of the extension's owner. This only reads rows.

use crate::datatype::nested::{self, Leaf};
use crate::error::Error;
use pgrx::pg_sys;
use pgrx::{PgMemoryContexts, PgTupleDesc};
use std::ptr::null_mut;

/// Gets the number of a column and a value in it.
type See<'a> = &'a mut dyn FnMut(i16, &Leaf<'_>) -> Result<(), Error>;

/// Calls `see` with every value that may be ciphertext; with none if the relation is gone or can't be read here.
pub fn each_value(relation: pg_sys::Oid, see: See<'_>) -> Result<(), Error> {
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    // SAFETY: the relation is locked and open while it is used. On an error, PostgreSQL closes it at the end of the transaction.
    unsafe {
        let relation = pg_sys::try_relation_open(relation, lock);
        if relation.is_null() {
            return Ok(());
        }
        let result = if is_readable(relation) { scan(relation, &columns(relation), see) } else { Ok(()) };
        pg_sys::relation_close(relation, lock);
        result
    }
}

/// # Safety
/// `relation` is open.
unsafe fn is_readable(relation: pg_sys::Relation) -> bool {
    // SAFETY: as promised by the caller.
    unsafe {
        let form = &*(*relation).rd_rel;
        match form.relpersistence as u8 {
            _ if !matches!(form.relkind as u8, pg_sys::RELKIND_RELATION | pg_sys::RELKIND_MATVIEW) => false,
            pg_sys::RELPERSISTENCE_TEMP => (*relation).rd_islocaltemp,
            pg_sys::RELPERSISTENCE_UNLOGGED => !pg_sys::RecoveryInProgress(),
            _ => true,
        }
    }
}

/// # Safety
/// `relation` is open.
unsafe fn columns(relation: pg_sys::Relation) -> Vec<(i16, pg_sys::Oid)> {
    /// `ATTRIBUTE_GENERATED_VIRTUAL` (`catalog/pg_attribute.h`, since PostgreSQL 18): nothing is stored.
    const VIRTUAL: u8 = b'v';
    // SAFETY: an open relation keeps its descriptor.
    let descriptor = unsafe { PgTupleDesc::from_pg_unchecked((*relation).rd_att) };
    descriptor
        .iter()
        .filter(|column| !column.attisdropped && column.attgenerated as u8 != VIRTUAL)
        .filter(|column| {
            let holds = nested::holds(column.atttypid);
            holds.encrypted || holds.bytes
        })
        .map(|column| (column.attnum, column.atttypid))
        .collect()
}

/// # Safety
/// `relation` is open and stores rows, and the columns are its own.
unsafe fn scan(
    relation: pg_sys::Relation,
    columns: &[(i16, pg_sys::Oid)],
    see: See<'_>,
) -> Result<(), Error> {
    if columns.is_empty() {
        return Ok(());
    }
    let mut memory = PgMemoryContexts::new("prism_crypt census");
    // SAFETY: the usual scan of one table without an index; each row is used before the next is fetched. The snapshot is taken
    // after the lock: otherwise a rewrite of the table in between would hide its rows.
    unsafe {
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let scan = pg_sys::systable_beginscan(relation, pg_sys::InvalidOid, false, snapshot, 0, null_mut());
        let rows_a_reset =
            if columns.iter().all(|(_, type_oid)| nested::is_leaf(*type_oid)) { 1024 } else { 1 };
        let mut row: u64 = 0;
        let mut result = Ok(());
        while result.is_ok() {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let mut look = || columns.iter().try_for_each(|column| look_at(tuple, relation, *column, see));
            result = memory.switch_to(|_| look());
            row += 1;
            // Without nesting, a value allocates a few bytes at most.
            if row.is_multiple_of(rows_a_reset) {
                memory.reset();
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::UnregisterSnapshot(snapshot);
        result
    }
}

/// # Safety
/// `tuple` is a row of the open relation, and the column belongs to it.
unsafe fn look_at(
    tuple: pg_sys::HeapTuple,
    relation: pg_sys::Relation,
    (number, type_oid): (i16, pg_sys::Oid),
    see: See<'_>,
) -> Result<(), Error> {
    // SAFETY: as promised by the caller.
    unsafe {
        let mut is_null = false;
        let value = pg_sys::heap_getattr(tuple, number.into(), (*relation).rd_att, &mut is_null);
        if is_null {
            return Ok(());
        }
        nested::visit(value, type_oid, &mut |leaf| see(number, leaf))
    }
}
