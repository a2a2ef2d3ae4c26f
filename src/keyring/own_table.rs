//! Reads the extension's own tables.
//!
//! Not through SQL: an application's role has no privileges on them, and must not need any to encrypt. A table is found
//! by its fixed schema and must belong to the extension. It is read with a fresh snapshot of committed rows (and our
//! own), as system catalogs are, whatever the isolation level.

use crate::error::Error;
use pgrx::FromDatum;
use pgrx::pg_sys;
use std::ffi::CStr;

const SCHEMA: &CStr = c"prism_crypt";

/// The oid of `prism_crypt.data_key`.
pub fn key_table() -> Option<pg_sys::Oid> {
    find(c"data_key")
}

/// One row of a scan, with the columns that were asked for.
pub struct Row<'a> {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
    numbers: &'a [i32],
}

impl Row<'_> {
    /// Whether a column is null, by its position among the requested ones.
    pub fn is_null(&self, column: usize) -> bool {
        let Some(number) = self.numbers.get(column) else { return true };
        let mut is_null = false;
        // SAFETY: the tuple has this descriptor.
        unsafe { pg_sys::heap_getattr(self.tuple, *number, self.descriptor, &mut is_null) };
        is_null
    }

    /// The transaction or subtransaction that wrote it; invalid once it is frozen.
    pub fn written_by(&self) -> pg_sys::TransactionId {
        // SAFETY: the header of a table's tuple has transaction ids.
        unsafe {
            let header = &*(*self.tuple).t_data;
            let frozen = pg_sys::HEAP_XMIN_FROZEN as u16;
            if header.t_infomask & frozen == frozen {
                pg_sys::InvalidTransactionId
            } else {
                header.t_choice.t_heap.t_xmin
            }
        }
    }

    /// A column, by its position among the requested ones; `None` if it is null.
    ///
    /// # Safety
    /// The column has the SQL type of `T`.
    pub unsafe fn get<T: FromDatum>(&self, column: usize) -> Option<T> {
        let number = *self.numbers.get(column)?;
        let mut is_null = false;
        // SAFETY: the tuple has this descriptor; the caller promises the type.
        unsafe {
            let datum = pg_sys::heap_getattr(self.tuple, number, self.descriptor, &mut is_null);
            T::from_datum(datum, is_null)
        }
    }
}

/// The oid of a table of `prism_crypt`, if it is the extension's own.
pub fn find(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: catalog look-ups inside a transaction, with string constants.
    unsafe {
        let schema = pg_sys::get_namespace_oid(SCHEMA.as_ptr(), true);
        let table = pg_sys::get_relname_relid(name.as_ptr(), schema);
        let extension = pg_sys::get_extension_oid(SCHEMA.as_ptr(), true);
        let is_ours = schema != pg_sys::InvalidOid
            && table != pg_sys::InvalidOid
            && extension != pg_sys::InvalidOid
            && pg_sys::getExtensionOfObject(pg_sys::RelationRelationId, table) == extension;
        is_ours.then_some(table)
    }
}

/// Passes every row to `see`, which returns `None` for a row that it doesn't understand.
///
/// # Errors
/// [`Error::KeyTable`]: a column is missing, or `see` didn't understand a row.
pub fn scan<const COLUMNS: usize>(
    table: pg_sys::Oid,
    name: &'static str,
    columns: [&CStr; COLUMNS],
    see: &mut dyn FnMut(&Row<'_>) -> Option<()>,
) -> Result<(), Error> {
    let lock = pg_sys::AccessShareLock as i32;
    let mut numbers = [0; COLUMNS];
    // SAFETY: the relation stays open while it is used, and each tuple is used before the next is fetched. After an
    // error PostgreSQL closes both at the end of the transaction.
    unsafe {
        for (number, column) in numbers.iter_mut().zip(columns) {
            *number = pg_sys::get_attnum(table, column.as_ptr()).into();
            if *number <= 0 {
                return Err(Error::KeyTable { table: name, detail: "A column is missing." });
            }
        }
        let relation = pg_sys::table_open(table, lock);
        let (no_snapshot, no_keys) = (std::ptr::null_mut(), std::ptr::null_mut());
        let scan = pg_sys::systable_beginscan(relation, pg_sys::InvalidOid, false, no_snapshot, 0, no_keys);
        let mut result = Ok(());
        while result.is_ok() {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let row = Row { tuple, descriptor: (*relation).rd_att, numbers: &numbers };
            result = see(&row).ok_or(Error::KeyTable {
                table: name,
                detail: "A row has a version, generation or state that is not known.",
            });
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, lock);
        result
    }
}
