//! Watches utility statements: those that name the key setting, and COPY into encrypted columns.

use super::alter_type;
use super::redact::{blank_literals, names_master_key};
use crate::search::{index_warning, readiness};
use crate::settings::hide_activity;
use pgrx::prelude::*;
use std::cell::Cell;
use std::ffi::{CStr, c_char};

thread_local! {
    static NEXT: Cell<pg_sys::ProcessUtility_hook_type> = const { Cell::new(None) };
    static COPIES_INTO_ENCRYPTED_COLUMN: Cell<bool> = const { Cell::new(false) };
}

/// Whether the running statement is a COPY FROM into a table that has an encrypted column.
pub fn copies_into_encrypted_column() -> bool {
    COPIES_INTO_ENCRYPTED_COLUMN.get()
}

/// Whether this library is the first to see utility statements. One that is before it keeps their text as it was.
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
    // Loaded by the input function of a COPY's column, the library has missed the beginning of that COPY.
    COPIES_INTO_ENCRYPTED_COLUMN.set(true);
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

/// Not guarded, and without anything to drop: an error of the statement must pass through as PostgreSQL raised it, with
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
        let text = before(statement, text, context);
        let types = alter_type::before((*statement).utilityStmt);
        let indexes = indexes_before(statement);
        match NEXT.get() {
            Some(next) => {
                next(statement, text, read_only_tree, context, params, query_env, receiver, completion)
            }
            None => standard_ProcessUtility(
                statement,
                text,
                read_only_tree,
                context,
                params,
                query_env,
                receiver,
                completion,
            ),
        }
        indexes_after(indexes);
        alter_type::after(types);
    }
    // After an error the flag stays up: the error is reported later. See `reported`.
    COPIES_INTO_ENCRYPTED_COLUMN.set(false);
}

unsafe extern "C-unwind" {
    // pgrx's own binding would catch errors and raise poorer ones.
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

/// Sets the COPY flag, and gives the text of the statement, redacted where it names the key setting.
#[pg_guard]
unsafe extern "C-unwind" fn before(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    context: pg_sys::ProcessUtilityContext::Type,
) -> *const c_char {
    // SAFETY: PostgreSQL passes a planned utility statement and its terminated text.
    unsafe {
        let is_nested = context != pg_sys::ProcessUtilityContext::PROCESS_UTILITY_TOPLEVEL;
        let copies = is_copy_into_encrypted_column((*statement).utilityStmt);
        COPIES_INTO_ENCRYPTED_COLUMN.set(copies || (is_nested && copies_into_encrypted_column()));
        let bytes = CStr::from_ptr(text).to_bytes();
        if !names_master_key(bytes) {
            return text;
        }
        hide_activity();
        // Extensions that are called after us (pg_stat_statements) keep the text that they are given.
        let blanked = blank_literals(bytes);
        pg_sys::pnstrdup(blanked.as_ptr().cast(), blanked.len())
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn indexes_before(statement: *mut pg_sys::PlannedStmt) -> index_warning::Before {
    // SAFETY: PostgreSQL passes a planned utility statement.
    unsafe {
        readiness::before_utility((*statement).utilityStmt);
        index_warning::before((*statement).utilityStmt)
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn indexes_after(before: index_warning::Before) {
    // SAFETY: the statement has just been run, in this transaction.
    unsafe { index_warning::after(before) }
}

/// Called when an error was reported: the statement is over.
pub fn reported() {
    COPIES_INTO_ENCRYPTED_COLUMN.set(false);
}

/// # Safety
/// `node` is null or a utility statement.
unsafe fn is_copy_into_encrypted_column(node: *mut pg_sys::Node) -> bool {
    // SAFETY: the node's tag says what it is; catalog look-ups happen inside the statement's transaction.
    unsafe {
        if !pgrx::is_a(node, pg_sys::NodeTag::T_CopyStmt) {
            return false;
        }
        let copy = &*node.cast::<pg_sys::CopyStmt>();
        if !copy.is_from || copy.relation.is_null() || !pg_sys::IsTransactionState() {
            return false;
        }
        let relation = pg_sys::RangeVarGetRelidExtended(
            copy.relation,
            pg_sys::NoLock as i32,
            pg_sys::RVROption::RVR_MISSING_OK,
            None,
            std::ptr::null_mut(),
        );
        relation != pg_sys::InvalidOid && crate::datatype::catalog::has_encrypted_column(relation)
    }
}
