//! A table to look into: whether the caller may, its columns, its partitions.

use super::stored::Stored;
use crate::datatype::type_lookup;
use crate::error::Error;
use crate::nodes::length;
use crate::sampling::{Open, place};
use pgrx::pg_sys;

unsafe extern "C-unwind" {
    // pgrx has no binding.
    fn get_partition_ancestors(relation: pg_sys::Oid) -> *mut pg_sys::List;
}

/// A table that is locked.
pub struct Target {
    table: Open,
    parts: Vec<pg_sys::Oid>,
}

/// A column that the caller may read, and whose values can be looked at.
pub struct Attribute {
    pub number: i16,
    pub name: String,
    pub stored: Stored,
    attname: pg_sys::NameData,
    type_oid: pg_sys::Oid,
}

impl Attribute {
    /// Where it is in rows of the table itself, or of a partition.
    pub fn place_in(&self, part: &Open) -> Option<usize> {
        let columns = part.descriptor();
        columns
            .iter()
            .find(|column| {
                !column.attisdropped
                    && column.atttypid == self.type_oid
                    && bytes(&column.attname).eq(bytes(&self.attname))
            })
            .and_then(|column| place(column.attnum))
    }
}

impl Target {
    /// Waits for the lock.
    pub fn new(relation: pg_sys::Oid) -> Result<Self, Error> {
        require_rights(relation)?;
        // Those that are attached meanwhile are not looked at, and those that are detached are recognised.
        // SAFETY: inside a transaction, and nothing is held that needs dropping.
        let heirs = unsafe {
            let heirs = type_lookup::with_heirs(relation);
            (0..length(heirs)).map(|at| pg_sys::list_nth_oid(heirs, at)).collect()
        };
        let table = Open::new(relation, pg_sys::AccessShareLock).ok_or(Error::SampleSource)?;
        // The rights may have changed while the lock was waited for.
        require_rights(relation)?;
        let is_partitioned = table.form().relkind as u8 == pg_sys::RELKIND_PARTITIONED_TABLE;
        if !is_partitioned && !is_readable(&table) {
            return Err(Error::SampleSource);
        }
        Ok(Self { table, parts: if is_partitioned { heirs } else { Vec::new() } })
    }

    /// Its name, without its schema's.
    pub fn name(&self) -> String {
        text(&self.table.form().relname)
    }

    /// The columns to look at.
    pub fn attributes(&self) -> Vec<Attribute> {
        /// `ATTRIBUTE_GENERATED_VIRTUAL` (`catalog/pg_attribute.h`, since PostgreSQL 18): nothing is stored.
        const VIRTUAL: u8 = b'v';
        let may_read_all = may_read_all(self.table.oid());
        let columns = self.table.descriptor();
        columns
            .iter()
            .filter(|column| !column.attisdropped && column.attgenerated as u8 != VIRTUAL)
            .filter(|column| may_read_all || may_read(self.table.oid(), column.attnum))
            .filter_map(|column| {
                let stored = Stored::of(column.atttypid)?;
                Some(Attribute {
                    number: column.attnum,
                    name: text(&column.attname),
                    stored,
                    attname: column.attname,
                    type_oid: column.atttypid,
                })
            })
            .collect()
    }

    /// What it is made of, if it is partitioned.
    pub fn parts(&self) -> &[pg_sys::Oid] {
        &self.parts
    }

    /// The table, if it stores rows itself.
    pub fn rows(&self) -> Option<&Open> {
        (self.table.form().relkind as u8 != pg_sys::RELKIND_PARTITIONED_TABLE).then_some(&self.table)
    }

    /// Waits for the lock of a part. `None` if it is none any more, or stores no rows.
    pub fn open_part(&self, part: pg_sys::Oid) -> Option<Open> {
        if part == self.table.oid() {
            return None;
        }
        let open = Open::new(part, pg_sys::AccessShareLock)?;
        // Whoever may read the table may read its partitions through it.
        if open.form().relispartition && is_readable(&open) && is_part_of(part, self.table.oid()) {
            return Some(open);
        }
        open.release();
        None
    }

    /// Releases the lock.
    pub fn release(self) {
        self.table.release();
    }
}

fn is_readable(table: &Open) -> bool {
    table.stores_heap_rows() && (table.is_permanent() || table.is_own_temporary())
}

fn is_part_of(part: pg_sys::Oid, table: pg_sys::Oid) -> bool {
    // SAFETY: catalog look-ups inside a transaction; the partition is locked, so that it stays one.
    unsafe {
        let tables = pg_sys::ffi::pg_guard_ffi_boundary(|| get_partition_ancestors(part));
        (0..length(tables)).any(|at| pg_sys::list_nth_oid(tables, at) == table)
    }
}

/// Fails unless the caller could name the table in a query, and would see all of its rows.
fn require_rights(table: pg_sys::Oid) -> Result<(), Error> {
    // SAFETY: catalog look-ups inside a transaction.
    let may = unsafe {
        let schema = pg_sys::get_rel_namespace(table);
        let row_security = pg_sys::check_enable_rls(table, pg_sys::InvalidOid, true).cast_unsigned();
        schema != pg_sys::InvalidOid
            && may_use_schema(schema)
            && (may_read_all(table) || may_read_any(table))
            && row_security != pg_sys::CheckEnableRlsResult::RLS_ENABLED
    };
    if may { Ok(()) } else { Err(Error::SampleDenied) }
}

/// # Safety
/// Inside a transaction.
unsafe fn may_use_schema(schema: pg_sys::Oid) -> bool {
    let mode = pg_sys::AclMode::from(pg_sys::ACL_USAGE);
    // SAFETY: a catalog look-up.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let result = pg_sys::pg_namespace_aclcheck(schema, pg_sys::GetUserId(), mode);
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let result = pg_sys::object_aclcheck(pg_sys::NamespaceRelationId, schema, pg_sys::GetUserId(), mode);
        result == pg_sys::AclResult::ACLCHECK_OK
    }
}

fn may_read_all(table: pg_sys::Oid) -> bool {
    let select = pg_sys::AclMode::from(pg_sys::ACL_SELECT);
    // SAFETY: a catalog look-up inside a transaction.
    unsafe { pg_sys::pg_class_aclcheck(table, pg_sys::GetUserId(), select) == pg_sys::AclResult::ACLCHECK_OK }
}

fn may_read_any(table: pg_sys::Oid) -> bool {
    let (select, any) = (pg_sys::AclMode::from(pg_sys::ACL_SELECT), pg_sys::AclMaskHow::ACLMASK_ANY);
    // SAFETY: a catalog look-up inside a transaction.
    let result = unsafe { pg_sys::pg_attribute_aclcheck_all(table, pg_sys::GetUserId(), select, any) };
    result == pg_sys::AclResult::ACLCHECK_OK
}

fn may_read(table: pg_sys::Oid, column: i16) -> bool {
    let select = pg_sys::AclMode::from(pg_sys::ACL_SELECT);
    // SAFETY: a catalog look-up inside a transaction.
    unsafe {
        pg_sys::pg_attribute_aclcheck(table, column, pg_sys::GetUserId(), select)
            == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// A name of the catalogs. Only ASCII counts, where the encoding is another one than UTF-8.
fn text(name: &pg_sys::NameData) -> String {
    String::from_utf8_lossy(&bytes(name).collect::<Vec<u8>>()).into_owned()
}

fn bytes(name: &pg_sys::NameData) -> impl Iterator<Item = u8> {
    name.data.iter().map(|c| *c as u8).take_while(|b| *b != 0)
}
