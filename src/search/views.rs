//! Tells when a view is being defined: its query is analysed like any other one, but stored.

use crate::plan_cache;
use pgrx::prelude::*;
use std::cell::Cell;
use std::ffi::c_char;
use std::ptr::null;

/// The text of a `CREATE VIEW` that is running, and the subtransaction that runs it. An error leaves it behind, and ends that
/// subtransaction: the numbers of them are given once in a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Definition {
    text: *const c_char,
    transaction: i64,
    subtransaction: pg_sys::SubTransactionId,
}

const NONE: Definition = Definition { text: null(), transaction: 0, subtransaction: 0 };

thread_local! {
    static NEXT: Cell<pg_sys::ProcessUtility_hook_type> = const { Cell::new(None) };
    static RUNNING: Cell<Definition> = const { Cell::new(NONE) };
    static LOADED_AT: Cell<i64> = const { Cell::new(0) };
}

unsafe extern "C-unwind" {
    // pgrx's own bindings would catch errors and raise poorer ones.
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
    fn GetCurrentTransactionStartTimestamp() -> i64;
    fn GetCurrentSubTransactionId() -> pg_sys::SubTransactionId;
}

/// Installs the hook.
pub fn init() {
    LOADED_AT.set(plan_cache::statement_start());
    // SAFETY: set once, while the library is loaded.
    unsafe {
        NEXT.set(pg_sys::ProcessUtility_hook);
        pg_sys::ProcessUtility_hook = Some(process_utility);
    }
}

/// Whether a query with this text is that of a view which is being defined. What its analysis runs has another text.
pub fn is_definition(text: *const c_char) -> bool {
    !text.is_null() && RUNNING.get() == running(text)
}

/// Whether the library was loaded while the message of the client that is being answered was: a view may be defined
/// without our having seen it begin.
pub fn are_unknown() -> bool {
    LOADED_AT.get() == plan_cache::statement_start()
}

fn running(text: *const c_char) -> Definition {
    // SAFETY: both read variables of this session.
    unsafe {
        let (transaction, subtransaction) =
            (GetCurrentTransactionStartTimestamp(), GetCurrentSubTransactionId());
        Definition { text, transaction, subtransaction }
    }
}

/// Not guarded, and without anything to drop: errors pass through as PostgreSQL raised them.
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
    // SAFETY: everything is passed on as PostgreSQL gave it; the statement is a node, whose tag says what it is.
    unsafe {
        let is_view = (*(*statement).utilityStmt).type_ == pg_sys::NodeTag::T_ViewStmt;
        let outer = if is_view { RUNNING.replace(running(text)) } else { RUNNING.get() };
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
        RUNNING.set(outer);
    }
}
