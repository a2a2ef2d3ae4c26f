//! Counts the key versions in a table.
//!
//! Not through SQL: planning a query would run functions of the table's owner (in index expressions, predicates and
//! constraints), and the census runs with the rights of the extension's owner. Here PostgreSQL only reads rows.

use super::versions::number;
use crate::datatype::nested::{self, Leaf};
use crate::error::Error;
use crate::keyring;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{PgMemoryContexts, PgTupleDesc};
use prism_envelope::KeyVersion;
use std::collections::BTreeMap;
use std::ptr::null_mut;

/// One column that can hold ciphertext.
struct Column {
    number: i16,
    type_oid: pg_sys::Oid,
    /// Of `encrypted_text`; `None` is damaged.
    encrypted: Counts<Option<KeyVersion>>,
    /// Of envelopes in `bytea`.
    bytes: Counts<KeyVersion>,
}

/// Numbers by version. Most values have the version of the one before.
struct Counts<T> {
    last: Option<(T, i64)>,
    others: BTreeMap<T, i64>,
}

impl<T: Ord + Copy> Counts<T> {
    const fn new() -> Self {
        Self { last: None, others: BTreeMap::new() }
    }

    fn has(&self, version: T) -> bool {
        self.last.as_ref().is_some_and(|(last, _)| *last == version) || self.others.contains_key(&version)
    }

    fn add(&mut self, version: T) {
        match &mut self.last {
            Some((last, count)) if *last == version => *count += 1,
            last => {
                if let Some((version, count)) = last.replace((version, 1)) {
                    *self.others.entry(version).or_default() += count;
                }
            }
        }
    }

    fn finish(mut self) -> BTreeMap<T, i64> {
        if let Some((version, count)) = self.last.take() {
            *self.others.entry(version).or_default() += count;
        }
        self.others
    }
}

impl Column {
    fn see(&mut self, leaf: &Leaf<'_>) -> Result<(), Error> {
        match leaf.key_version() {
            version if !leaf.is_bytes() => self.encrypted.add(version.ok()),
            // Other bytes may look like an envelope by chance, but hardly of a version that exists.
            Ok(version) if self.bytes.has(version) || keyring::with_row(version, |row| row.is_some())? => {
                self.bytes.add(version);
            }
            _ => {}
        }
        Ok(())
    }
}

/// `prism_crypt._count_versions(relation oid) → table(column_number smallint, is_bytes boolean, key_version integer,
/// ciphertexts bigint)`: of each column that can hold ciphertext. Nothing where the relation is gone, or can't be read here:
/// a temporary table of another session, an unlogged one on a standby, or anything that stores no rows itself.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "pgrx reads it, and sees through no alias")]
fn _count_versions(
    relation: pg_sys::Oid,
) -> Result<
    TableIterator<
        'static,
        (
            name!(column_number, i16),
            name!(is_bytes, bool),
            name!(key_version, Option<i32>),
            name!(ciphertexts, i64),
        ),
    >,
    ErrorReport,
> {
    let mut rows = Vec::new();
    for column in count(relation)? {
        let at = column.number;
        rows.extend(column.encrypted.finish().into_iter().map(|(v, n)| (at, false, v.map(number), n)));
        rows.extend(column.bytes.finish().into_iter().map(|(v, n)| (at, true, Some(number(v)), n)));
    }
    Ok(TableIterator::new(rows))
}

fn count(relation: pg_sys::Oid) -> Result<Vec<Column>, Error> {
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    // SAFETY: the relation is locked and open for as long as it is used. On an error PostgreSQL closes it at the end of the
    // transaction.
    unsafe {
        let relation = pg_sys::try_relation_open(relation, lock);
        if relation.is_null() {
            return Ok(Vec::new());
        }
        let result = if is_readable(relation) { scan(relation, columns(relation)) } else { Ok(Vec::new()) };
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
unsafe fn columns(relation: pg_sys::Relation) -> Vec<Column> {
    /// `ATTRIBUTE_GENERATED_VIRTUAL`, from PostgreSQL 18 on: nothing is stored.
    const VIRTUAL: u8 = b'v';
    // SAFETY: the descriptor of an open relation, which keeps it.
    let descriptor = unsafe { PgTupleDesc::from_pg_unchecked((*relation).rd_att) };
    descriptor
        .iter()
        .filter(|column| !column.attisdropped && column.attgenerated as u8 != VIRTUAL)
        .filter(|column| {
            let holds = nested::holds(column.atttypid);
            holds.encrypted || holds.bytes
        })
        .map(|column| Column {
            number: column.attnum,
            type_oid: column.atttypid,
            encrypted: Counts::new(),
            bytes: Counts::new(),
        })
        .collect()
}

/// # Safety
/// `relation` is open and stores rows, and the columns are its own.
unsafe fn scan(relation: pg_sys::Relation, mut columns: Vec<Column>) -> Result<Vec<Column>, Error> {
    if columns.is_empty() {
        return Ok(columns);
    }
    let mut memory = PgMemoryContexts::new("prism_crypt census");
    // SAFETY: the usual scan of one table without an index; each row is used before the next is fetched. The snapshot is
    // taken after the lock, so that nobody who rewrote the table hides its rows from us.
    unsafe {
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let scan = pg_sys::systable_beginscan(relation, pg_sys::InvalidOid, false, snapshot, 0, null_mut());
        let rows_a_reset =
            if columns.iter().all(|column| nested::is_leaf(column.type_oid)) { 1024 } else { 1 };
        let mut row: u64 = 0;
        let mut result = Ok(());
        while result.is_ok() {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let mut see = || columns.iter_mut().try_for_each(|column| see(tuple, relation, column));
            result = memory.switch_to(|_| see());
            row += 1;
            // A column that is not nested leaves a few bytes at most.
            if row.is_multiple_of(rows_a_reset) {
                memory.reset();
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::UnregisterSnapshot(snapshot);
        result.map(|()| columns)
    }
}

/// # Safety
/// `tuple` is a row of the open relation, and the column is one of its own.
unsafe fn see(
    tuple: pg_sys::HeapTuple,
    relation: pg_sys::Relation,
    column: &mut Column,
) -> Result<(), Error> {
    // SAFETY: as promised by the caller.
    unsafe {
        let mut is_null = false;
        let value = pg_sys::heap_getattr(tuple, column.number.into(), (*relation).rd_att, &mut is_null);
        if is_null {
            return Ok(());
        }
        nested::visit(value, column.type_oid, &mut |leaf| column.see(leaf))
    }
}
