//! Warns about an index on a column that is not searchable: it works, but opens values at every step.

use crate::datatype::typmod::Modifier;
use crate::datatype::{nested, type_lookup};
use crate::error::warn;
use crate::nodes::length;
use pgrx::pg_sys;
use std::ffi::CStr;
use std::ptr::null_mut;

/// The indexes of a table before a statement that may create some.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Before {
    /// Invalid if there is no such statement.
    relation: pg_sys::Oid,
    /// Oids; null if there were none.
    indexes: *mut pg_sys::List,
}

const NOTHING: Before = Before { relation: pg_sys::InvalidOid, indexes: null_mut() };

/// Notes the indexes of a table before a statement that may create some.
///
/// # Safety
/// `node` is null or a utility statement that is about to be run.
pub unsafe fn before(node: *mut pg_sys::Node) -> Before {
    // SAFETY: the node's tag says what it is.
    unsafe {
        if !pg_sys::IsTransactionState() {
            return NOTHING;
        }
        let table = if pgrx::is_a(node, pg_sys::NodeTag::T_IndexStmt) {
            (*node.cast::<pg_sys::IndexStmt>()).relation
        } else if pgrx::is_a(node, pg_sys::NodeTag::T_AlterTableStmt) {
            (*node.cast::<pg_sys::AlterTableStmt>()).relation
        } else {
            null_mut()
        };
        let relation = type_lookup::named_relation(table);
        if relation == pg_sys::InvalidOid || !nested::has_encrypted_column(relation) {
            return NOTHING;
        }
        Before { relation, indexes: indexes_of(relation) }
    }
}

/// Warns about the indexes that the statement created on columns that are not searchable.
///
/// # Safety
/// Inside a transaction, after the statement that [`before`] looked at.
pub unsafe fn after(before: Before) {
    if before.relation == pg_sys::InvalidOid {
        return;
    }
    // SAFETY: lists of oids, as PostgreSQL made them; catalog look-ups.
    unsafe {
        let indexes = indexes_of(before.relation);
        for at in 0..length(indexes) {
            let index = pg_sys::list_nth_oid(indexes, at);
            if !pg_sys::list_member_oid(before.indexes, index) && needs_keys(index) {
                warn_of(index);
            }
        }
    }
}

/// The indexes of a relation; null if it has none, or no longer exists.
///
/// # Safety
/// Inside a transaction.
unsafe fn indexes_of(relation: pg_sys::Oid) -> *mut pg_sys::List {
    let lock = pg_sys::AccessShareLock as i32;
    // SAFETY: the relation is open while it is read.
    unsafe {
        let relation = pg_sys::try_relation_open(relation, lock);
        if relation.is_null() {
            return null_mut();
        }
        let kind = (*(*relation).rd_rel).relkind as u8;
        let has_indexes =
            [pg_sys::RELKIND_RELATION, pg_sys::RELKIND_PARTITIONED_TABLE, pg_sys::RELKIND_MATVIEW]
                .contains(&kind);
        let indexes = if has_indexes { pg_sys::RelationGetIndexList(relation) } else { null_mut() };
        pg_sys::relation_close(relation, lock);
        indexes
    }
}

/// Whether an index compares values of a column that has no search tags.
///
/// # Safety
/// Inside a transaction.
unsafe fn needs_keys(index: pg_sys::Oid) -> bool {
    let lock = pg_sys::AccessShareLock as i32;
    // SAFETY: the index is open while it is read. For each key column it has a table column, or 0 for an expression, and an
    // operator family.
    unsafe {
        let index = pg_sys::try_relation_open(index, lock);
        if index.is_null() {
            return false;
        }
        let form = &*(*index).rd_index;
        let keys = form.indnkeyatts as usize;
        let columns = std::slice::from_raw_parts(form.indkey.values.as_ptr(), keys);
        let families = std::slice::from_raw_parts((*index).rd_opfamily, keys);
        let needs_keys = columns.iter().zip(families).any(|(column, family)| {
            let compares = type_lookup::is_of_extension(pg_sys::OperatorFamilyRelationId, *family)
                || is_array_of_values(form.indrelid, *column);
            compares && !is_searchable(form.indrelid, *column)
        });
        pg_sys::relation_close(index, lock);
        needs_keys
    }
}

/// Whether a column is an array of values, which PostgreSQL's own classes compare as ours do. Not if the elements are of a domain: the
/// modifier is the domain's.
///
/// # Safety
/// Inside a transaction.
unsafe fn is_array_of_values(relation: pg_sys::Oid, column: pg_sys::AttrNumber) -> bool {
    column > 0
        // SAFETY: catalog look-ups.
        && unsafe {
            let element = pg_sys::get_base_element_type(pg_sys::get_atttype(relation, column));
            type_lookup::is_encrypted_text(element)
        }
}

/// Whether the type modifier of a column, possibly from its domain, makes it searchable. An expression has none.
///
/// # Safety
/// Inside a transaction.
unsafe fn is_searchable(relation: pg_sys::Oid, column: pg_sys::AttrNumber) -> bool {
    if column <= 0 {
        return false;
    }
    // SAFETY: catalog look-ups.
    unsafe {
        let (mut type_oid, mut typmod, mut collation) = (pg_sys::InvalidOid, -1, pg_sys::InvalidOid);
        pg_sys::get_atttypetypmodcoll(relation, column, &mut type_oid, &mut typmod, &mut collation);
        pg_sys::getBaseTypeAndTypmod(type_oid, &mut typmod);
        Modifier::of(typmod).is_some_and(|modifier| modifier.is_searchable)
    }
}

/// # Safety
/// Inside a transaction.
unsafe fn warn_of(index: pg_sys::Oid) {
    // SAFETY: a catalog look-up, which returns null or a terminated string.
    let name = unsafe {
        let name = pg_sys::get_rel_name(index);
        if name.is_null() { return } else { CStr::from_ptr(name).to_string_lossy() }
    };
    let message = format!("index \"{name}\" is on an encrypted column that is not searchable");
    warn(
        &message,
        Some(
            "Values without a search tag are opened at every comparison: the index is slow, and INSERT, VACUUM, REINDEX \
             and a restore need the keys.",
        ),
        Some("ALTER TABLE … ALTER COLUMN … TYPE encrypted_text('searchable') makes the column searchable."),
    );
}
