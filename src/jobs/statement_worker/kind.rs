//! Which statements a worker runs: those that PostgreSQL refuses inside a procedure because they commit in between, and that concern
//! indexes only.

use crate::nodes;
use pgrx::{is_a, pg_sys};
use std::ptr::null_mut;

/// The only statement of a parsed text, if it is of a kind that a worker runs; otherwise null. Raises no error, and holds nothing.
///
/// # Safety
/// `parsed` is what `pg_parse_query()` gave.
pub unsafe fn only_statement(parsed: *mut pg_sys::List) -> *mut pg_sys::RawStmt {
    // SAFETY: as promised by the caller; the list has that member.
    unsafe {
        let statement = nodes::nth(parsed, 0).cast::<pg_sys::RawStmt>();
        let is_allowed = nodes::length(parsed) == 1
            && !statement.is_null()
            && changes_indexes_concurrently((*statement).stmt);
        if is_allowed { statement } else { null_mut() }
    }
}

/// # Safety
/// `node` is null or a statement that was parsed.
unsafe fn changes_indexes_concurrently(node: *mut pg_sys::Node) -> bool {
    // SAFETY: the node's tag says what it is.
    unsafe {
        if is_a(node, pg_sys::NodeTag::T_IndexStmt) {
            (*node.cast::<pg_sys::IndexStmt>()).concurrent
        } else if is_a(node, pg_sys::NodeTag::T_DropStmt) {
            let drop = &*node.cast::<pg_sys::DropStmt>();
            drop.removeType == pg_sys::ObjectType::OBJECT_INDEX && drop.concurrent
        } else if is_a(node, pg_sys::NodeTag::T_ReindexStmt) {
            let reindex = &*node.cast::<pg_sys::ReindexStmt>();
            use pg_sys::ReindexObjectType::{REINDEX_OBJECT_INDEX, REINDEX_OBJECT_TABLE};
            matches!(reindex.kind, REINDEX_OBJECT_INDEX | REINDEX_OBJECT_TABLE)
                && is_concurrent(reindex.params)
        } else {
            false
        }
    }
}

/// Whether the options of REINDEX have CONCURRENTLY, without a value that might be another.
///
/// # Safety
/// `options` is null or a list of `DefElem`.
unsafe fn is_concurrent(options: *mut pg_sys::List) -> bool {
    // SAFETY: as promised by the caller; the index is inside the list.
    unsafe {
        (0..nodes::length(options)).any(|at| {
            let option = &*nodes::nth(options, at).cast::<pg_sys::DefElem>();
            nodes::has_name(option.defname, c"concurrently") && option.arg.is_null()
        })
    }
}
