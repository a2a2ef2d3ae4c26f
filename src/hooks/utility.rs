//! `ProcessUtility_hook`: what happens before and after a utility statement. The statement runs without the keys in its text, and
//! a COPY into encrypted columns keeps its input out of errors.

use crate::hygiene::{alter_type, client_text, copy_statement, key_statement};
use crate::jobs::deferral;
use crate::query_constants::view_definition;
use crate::search::{explicit_order, index_warning, readiness, statistics};
use pgrx::prelude::*;
use std::cell::Cell;
use std::ffi::c_char;
use std::ptr::null_mut;

thread_local! {
    static NEXT: Cell<pg_sys::ProcessUtility_hook_type> = const { Cell::new(None) };
}

/// Whether this library is the first to see utility statements. One that comes before it sees their original text.
pub fn is_outermost() -> bool {
    // SAFETY: a global that only this process writes.
    let first = unsafe { pg_sys::ProcessUtility_hook };
    first.is_some_and(|first| std::ptr::fn_addr_eq(first, process_utility as ProcessUtility))
}

pub fn init() {
    // SAFETY: set once, while the library is loaded.
    unsafe {
        NEXT.set(pg_sys::ProcessUtility_hook);
        pg_sys::ProcessUtility_hook = Some(process_utility);
    }
}

type ProcessUtility = unsafe extern "C-unwind" fn(
    *mut pg_sys::PlannedStmt,
    *const c_char,
    bool,
    pg_sys::ProcessUtilityContext::Type,
    pg_sys::ParamListInfo,
    *mut pg_sys::QueryEnvironment,
    *mut pg_sys::DestReceiver,
    *mut pg_sys::QueryCompletion,
);

/// Not guarded by pgrx, and holds nothing to drop: an error of the statement must pass through as PostgreSQL raised it, with
/// all its fields.
#[allow(clippy::too_many_arguments, reason = "the signature is PostgreSQL's")]
unsafe extern "C-unwind" fn process_utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    query_env: *mut pg_sys::QueryEnvironment,
    receiver: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: everything is passed on as PostgreSQL gave it, except for the text of the statement.
    unsafe {
        let before = before(statement, text);
        let types = alter_type::before((*statement).utilityStmt);
        let call_next = || {
            let outer = view_definition::begin(statement, before.text);
            match NEXT.get() {
                Some(next) => next(
                    statement,
                    before.text,
                    read_only_tree,
                    context,
                    params,
                    query_env,
                    receiver,
                    completion,
                ),
                None => standard_ProcessUtility(
                    statement,
                    before.text,
                    read_only_tree,
                    context,
                    params,
                    query_env,
                    receiver,
                    completion,
                ),
            }
            view_definition::end(outer);
        };
        if before.copies || copy_statement::is_running() {
            copy_statement::run(call_next)
        } else {
            call_next()
        }
        after(before);
        alter_type::after(types);
    }
}

unsafe extern "C-unwind" {
    // pgrx's own binding would catch errors and raise them again with less detail.
    #[allow(clippy::too_many_arguments, reason = "the signature is PostgreSQL's")]
    fn standard_ProcessUtility(
        statement: *mut pg_sys::PlannedStmt,
        text: *const c_char,
        read_only_tree: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        params: pg_sys::ParamListInfo,
        query_env: *mut pg_sys::QueryEnvironment,
        receiver: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
}

/// What is known before a statement runs.
#[derive(Clone, Copy)]
#[repr(C)]
struct Before {
    /// Its text, redacted where it names the key setting.
    text: *const c_char,
    /// Whether it is a COPY into encrypted columns.
    copies: bool,
    indexes: index_warning::Before,
    /// The statement itself, if it defines something that is looked at afterwards; otherwise null. A procedure that rolls back may free
    /// the tree of its CALL.
    definition: *mut pg_sys::Node,
}

#[pg_guard]
unsafe extern "C-unwind" fn before(statement: *mut pg_sys::PlannedStmt, text: *const c_char) -> Before {
    // SAFETY: PostgreSQL passes a planned utility statement and its terminated text.
    unsafe {
        let (node, location, length) =
            ((*statement).utilityStmt, (*statement).stmt_location, (*statement).stmt_len);
        // Extensions called after this one, such as pg_stat_statements, keep the text that they are given.
        let text = client_text::without_keys(text, location, length, key_statement::is_named_by(node));
        readiness::before_utility(node);
        if let Err(error) = deferral::check(node) {
            error.raise();
        }
        Before {
            text,
            copies: copy_statement::is_into_encrypted_column(node),
            indexes: index_warning::before(node),
            definition: if is_definition(node) { node } else { null_mut() },
        }
    }
}

/// # Safety
/// `node` is null or a utility statement.
unsafe fn is_definition(node: *mut pg_sys::Node) -> bool {
    use pg_sys::NodeTag::{T_AlterTableStmt, T_CreateStatsStmt, T_CreateStmt};
    [T_CreateStmt, T_CreateStatsStmt, T_AlterTableStmt].into_iter().any(|tag| {
        // SAFETY: reads the node's tag.
        unsafe { pgrx::is_a(node, tag) }
    })
}

#[pg_guard]
unsafe extern "C-unwind" fn after(before: Before) {
    // SAFETY: the statement has just been run, in this transaction.
    unsafe {
        if !before.definition.is_null() {
            explicit_order::refuse_range_partitions(before.definition);
            statistics::refuse_combinations(before.definition);
        }
        index_warning::after(before.indexes);
    }
}
