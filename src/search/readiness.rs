//! Fetches everything that comparisons may need while an index page is locked. Then they can't fetch it themselves: see
//! [`crate::interrupts`].
//!
//! PostgreSQL looks up a comparison function before it first locks a page for it, in every kind of process and on every path
//! to an index ([`looked_up`]). What was fetched then may become outdated. So it is checked again when a statement starts
//! whose tables have encrypted columns (including foreign key queries and a parallel worker's share), before the utility
//! statements that compare in indexes, and when an apply worker reads a value in.

use crate::datatype::{encoding, nested};
use crate::keyring;
use crate::privilege;
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::c_int;

thread_local! {
    static IS_LOOKED_UP: Cell<bool> = const { Cell::new(false) };
    /// Whether relations have columns that hold encrypted values, and the `relations_as_of` that this is valid for.
    static RELATIONS: RefCell<(u32, Option<HashMap<pg_sys::Oid, bool>>)> = const { RefCell::new((0, None)) };
}

/// PostgreSQL looks up a function that orders indexes. It does so once per session.
pub fn looked_up() {
    IS_LOOKED_UP.set(true);
    // SAFETY: reads a global that only this process writes. CREATE EXTENSION looks up functions that are not called yet.
    unsafe {
        if !pg_sys::creating_extension && pg_sys::IsTransactionState() {
            prepare();
        }
    }
}

/// Before a utility statement: notes that it may build indexes, and fetches what is needed if it compares in indexes with a
/// page locked. Other statements only sort.
///
/// # Safety
/// `node` is null or a utility statement that is about to be run.
pub unsafe fn before_utility(node: *mut pg_sys::Node) {
    if node.is_null() {
        return;
    }
    // SAFETY: reads the node's tag.
    if unsafe { builds_indexes((*node).type_) } {
        keyring::before_build();
    }
    if !is_needed() {
        return;
    }
    // SAFETY: the node's tag says what it is.
    unsafe {
        let compares = match (*node).type_ {
            pg_sys::NodeTag::T_CopyStmt => (*node.cast::<pg_sys::CopyStmt>()).is_from,
            pg_sys::NodeTag::T_IndexStmt => (*node.cast::<pg_sys::IndexStmt>()).concurrent,
            pg_sys::NodeTag::T_ReindexStmt | pg_sys::NodeTag::T_VacuumStmt => true,
            _ => false,
        };
        if compares && pg_sys::IsTransactionState() {
            prepare();
        }
    }
}

/// Whether a utility statement may build indexes that nobody else sees before its transaction commits.
fn builds_indexes(tag: pg_sys::NodeTag) -> bool {
    matches!(
        tag,
        pg_sys::NodeTag::T_IndexStmt
            | pg_sys::NodeTag::T_ReindexStmt
            | pg_sys::NodeTag::T_CreateStmt
            | pg_sys::NodeTag::T_AlterTableStmt
            | pg_sys::NodeTag::T_ClusterStmt
            | pg_sys::NodeTag::T_RefreshMatViewStmt
    )
}

/// A query is about to run; `flags` are those of its `ExecutorStart`. Not guarded, and holds nothing to drop: errors pass
/// through as PostgreSQL raised them.
///
/// # Safety
/// PostgreSQL's own query, after `ExecutorStart`.
#[inline]
pub unsafe fn before_query(query: *const pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: as promised by the caller.
    unsafe {
        let relations = (*(*query).plannedstmt).relationOids;
        if is_needed() && !relations.is_null() && flags.cast_unsigned() & pg_sys::EXEC_FLAG_EXPLAIN_ONLY == 0
        {
            prepare_for(relations);
        }
    }
}

/// Whether this session uses indexes at all, and something needed is missing or outdated.
#[inline]
fn is_needed() -> bool {
    IS_LOOKED_UP.get() && !(keyring::is_ready() && privilege::is_search_prepared())
}

#[pg_guard]
unsafe extern "C-unwind" fn prepare_for(relations: *mut pg_sys::List) {
    // SAFETY: PostgreSQL's list of the relations that a plan uses, which are locked.
    let is_any_encrypted =
        unsafe { (0..(*relations).length).any(|index| holds_values(pg_sys::list_nth_oid(relations, index))) };
    if is_any_encrypted {
        prepare_now();
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn prepare() {
    prepare_now();
}

fn prepare_now() {
    keyring::prepare();
    privilege::prepare_search();
    encoding::prepare();
}

/// Whether a relation has a column that holds encrypted values. Cached until any relation changes.
fn holds_values(relation: pg_sys::Oid) -> bool {
    let as_of = keyring::relations_as_of();
    let known = RELATIONS.with_borrow_mut(|(known_as_of, relations)| {
        if std::mem::replace(known_as_of, as_of) != as_of {
            *relations = None;
        }
        relations.as_ref().and_then(|relations| relations.get(&relation).copied())
    });
    known.unwrap_or_else(|| {
        let holds = nested::has_encrypted_column(relation);
        RELATIONS.with_borrow_mut(|(_, relations)| {
            relations.get_or_insert_with(HashMap::new).insert(relation, holds);
        });
        holds
    })
}
